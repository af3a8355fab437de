"""Options that several verbs share, and checks of names before anything slow is imported or loaded."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.attention.settings import by_layers
from workbench.errors import UnknownName, UsageError
from workbench.models import catalog
from workbench.registry import OPERATORS, TASKS

Model = Annotated[
    str,
    typer.Option("--model", metavar="M", help="Model: name (workbench models list), directory, .gguf file or hub id."),
]
Operators = Annotated[
    list[str] | None,
    typer.Option(
        "--operator",
        metavar="LAYERS=OPERATOR",
        help="Swap an attention operator into layers, such as 10-19=lightning or 'all=sliding-window(window=8)' "
        "(workbench operators lists them). May be repeated.",
    ),
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Neither read from nor write to the cache.")]
Skip = Annotated[
    bool, typer.Option("--skip", help="Leave out the pairs of the file that the model's tokeniser cannot ask.")
]
Seed = Annotated[int, typer.Option("--seed", metavar="S", min=0, help="Random seed.")]


def check_name(kind: str, name: str, known: Iterable[str], hint: str = "") -> str:
    """`name` when it is known; `UnknownName`, with the nearest names, otherwise."""
    known = list(known)
    if name not in known:
        raise UnknownName(kind, name, known, hint)
    return name


#: What gives a model of each modality its inputs.
INPUTS = {
    "language": "Give --task NAME or --pairs FILE for texts.",
    "vision": "Give --images PATH for images.",
    "diffusion": "Give --label CLASS for samples.",
}


def check_model(
    name: str,
    modalities: Collection[str] = ("language",),
    possible: Collection[str] = (),
    *,
    option: str = "--model",
    hint: str = "",
    because: str = "",
) -> str:
    """Refuse at once a plain word that is not in the catalogue and not on the disk, and a model of another modality.

    Args:
        modalities: those that the command's other options are for.
        possible: those that the command takes, so that it can be said which options are for them.
        option: the option that names the model.
        hint: what else it takes.
        because: why models of other modalities than the `possible` ones are refused.
    """
    is_path = "/" in name or name.endswith(".gguf") or Path(name).exists()
    if not is_path:
        known = catalog.entries()
        check_name("model", name, known, hint or "A directory, a .gguf file or a hub id (owner/name) works too.")
    if is_path and not (Path(name) / "config.json").is_file():
        return name
    if (modality := catalog.modality_of(name)) not in modalities:
        do = INPUTS[modality] if modality in possible else ""
        why = "" if do or not because else f", because {because}"
        expected = f"expected a {' or '.join(modalities)} model{why}. This is a {modality} model."
        raise UsageError(" ".join(filter(None, [f"{option} {name}: {expected}", do])))
    return name


def parse_operators(words: Iterable[str] | None) -> dict[str, str]:
    """``["10-19=lightning"]`` as ``{"10-19": "lightning"}``. Names and settings are checked; layers when the model is
    loaded.

    Raises:
        UnknownName: no such operator or setting.
        UsageError: another form, layers that are named twice, or an operator that needs what cannot be typed.
    """
    operators = by_layers("--operator", words or ())
    for text in operators.values():
        check_name("operator", text.partition("(")[0].strip(), OPERATORS.names(), "See workbench operators.")
    if operators:
        from workbench.attention.describe import required_arguments
        from workbench.attention.operator import operator

        for layers, text in operators.items():
            bound = operator(text)
            required = required_arguments(bound) + ["bidirectional"] * (bound.causal == "no")
            if required:
                needs = " and ".join(f"{name}=" for name in required)
                raise UsageError(f"--operator {layers}={text}: {bound} needs {needs}. Use wb.swap in Python.")
    return operators


def split_list(text: str | None, option: str = "", separator: str = ",") -> list[str]:
    """``"S1, end"`` as ``["S1", "end"]``; with an `option`, text without a name is refused."""
    parts = [word.strip() for word in (text or "").split(separator) if word.strip()]
    if option and text is not None and not parts:
        raise UsageError(f"{option} {text!r}: expected at least one name. Give one, or leave the option out.")
    return parts


def parse_layers(text: str | None) -> list[int] | None:
    """``"0,4-7"`` as ``[0, 4, 5, 6, 7]``; None for all layers."""
    return parse_indices(text, "--layers", "layer")


def parse_indices(text: str | None, option: str, what: str) -> list[int] | None:
    """``"0,4-7"`` as ``[0, 4, 5, 6, 7]``; None for all of them."""
    indices: list[Any] = []
    for word in split_list(text, option):
        first, dash, last = word.partition("-")
        last = last if dash else first
        usual = first.isdecimal() and last.isdecimal() and len(last) < 6
        if not usual or int(first) > int(last):
            raise UsageError(f"{option} {text}: {word!r} is neither a {what} nor a range such as 4-7.")
        indices += range(int(first), int(last) + 1)
    return indices or None


def parse_position(word: str) -> Any:
    """A position: an index where it is a number, else a name."""
    return int(word) if word.lstrip("-").isdecimal() else word


def inputs_from(task: str | None, pairs: Path | None, n: int | None, seed: int, skip: bool) -> Any:
    """The task or the pairs of a verb's options; exactly one of them."""
    import workbench as wb

    if (task is None) == (pairs is None):
        raise UsageError(
            "Give either --task NAME (workbench tasks lists them) or --pairs FILE; or --images PATH; or --label CLASS."
        )
    if pairs is not None:
        if n is not None:
            raise UsageError("--n is only for --task: every pair of a file is used. Leave it out.")
        return wb.read_pairs(pairs, skip=skip)
    if skip:
        raise UsageError("--skip is only for --pairs: a task leaves out what does not fit by itself. Leave it out.")
    check_name("task", str(task), TASKS.names(), "See workbench tasks.")
    options: dict[str, Any] = {"seed": seed} if n is None else {"seed": seed, "n": n}
    return wb.task(str(task), **options)


def left_out(info: Mapping[str, Any]) -> str:
    """How many of the user's own pairs a result is without, as it follows ``n = …``; empty for none."""
    own, dropped = info.get("seed") is None, info.get("dropped")
    return f" ({dropped} more left out)" if own and dropped else ""


@contextmanager
def caching(enabled: bool, say: Callable[[str], object]) -> Iterator[None]:
    """The user's cache within the block, or none. `say` is called with a line on cache hits, or at an interruption."""
    from workbench.cache import off, store_of

    if not enabled:
        with off():
            yield
        return
    store = store_of(None)
    if store is None:
        yield
        return
    hits, misses = store.hits, store.misses
    with resumed_later(store, say):
        yield
    hits, misses = store.hits - hits, store.misses - misses
    if hits:
        say(f"From the cache: {hits} of {hits + misses} batches of prompts.")


@contextmanager
def resumed_later(store: Any, say: Callable[[str], object]) -> Iterator[None]:
    """At an interruption `say` that the same command continues, where the cache stores what is finished."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        if store.writable:
            say("Finished work is in the cache. Run the same command again to continue where it stopped.")
        raise
