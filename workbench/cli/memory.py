"""``workbench memory``: how many pairs an associative memory holds, by simulation and by law."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.answer import Answer, AsJson, table
from workbench.cli.choices import Seed
from workbench.errors import BadInput, UsageError
from workbench.io.tables import number, to_csv
from workbench.registry import MEMORY_RULES

if TYPE_CHECKING:
    from workbench.results.memory_curve import MemoryCurve

#: What ``--out`` can write.
ENDINGS = (".csv", ".parquet", ".png", ".safetensors")
#: Loads of one curve, at most.
MOST_LOADS = 10_000
_RANGE = re.compile(r"(\d{1,9}):(\d{1,9})(?::(\d{1,9}))?")


def memory(
    context: typer.Context,
    rule: Annotated[
        str | None, typer.Option(metavar="RULE", help="Rule, also with settings: 'gated-delta(decay=0.9)'.")
    ] = None,
    d: Annotated[int, typer.Option("--d", metavar="D", help="Dimensions of keys.")] = 64,
    n: Annotated[
        str,
        typer.Option(
            "--n",
            metavar="N",
            help="Stored pairs: 8:512 doubles from 8 to 512, 8:64:8 counts in steps of 8, or 8,16,100.",
        ),
    ] = "8:256",
    trials: Annotated[int, typer.Option(metavar="N", help="Independent memories.")] = 200,
    criterion: Annotated[str, typer.Option(metavar="NAME", help="mse, cosine, argmax, sign or 'worst case'.")] = "mse",
    keys: Annotated[
        str, typer.Option(metavar="KEYS", help="random, 'spectrum(exponent=1)' or 'shared-mean(share=0.25)'.")
    ] = "random",
    d_value: Annotated[
        int | None, typer.Option("--d-value", metavar="D", help="Dimensions of values (default: as keys).")
    ] = None,
    passes: Annotated[int, typer.Option(metavar="N", help="How often the pairs are written, in order.")] = 1,
    seed: Seed = 0,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help=f"Write the curve to this file ({', '.join(ENDINGS)}).")
    ] = None,
    as_json: AsJson = False,
) -> Answer:
    """List the rules of associative memories, or measure how one's error grows with the number of stored pairs."""
    if rule is None:
        _check_no_options(context)
        return _list()
    if out is not None and out.suffix not in ENDINGS:
        raise UsageError(f"--out {out}: give a file that ends in {', '.join(ENDINGS)}.")
    if out is not None and not out.parent.is_dir():
        raise UsageError(f"--out {out}: the folder {out.parent} does not exist.")
    loads = parse_loads(n)

    import workbench as wb

    curve = wb.memory(
        rule,
        d=d,
        n=loads,
        trials=trials,
        criterion=criterion,
        keys=keys,
        d_value=d_value,
        passes=passes,
        seed=seed,
    )
    if out is not None:
        _write(curve, out)
    document = {**curve.json(), "out": None if out is None else str(out)}
    return Answer(document, lambda console: _show(console, curve, out))


def parse_loads(text: str) -> list[int]:
    """``8:512`` doubles, ``8:64:8`` counts in steps, both with the last where it is reached; ``8,16,100`` as it stands.

    Raises:
        UsageError: another form, or loads that are none.
    """
    form = f"--n {text}: expected numbers of stored pairs above 0, such as 8:512, 8:64:8 or 8,16,100."
    if match := _RANGE.fullmatch(text.strip()):
        first, last, step = (None if part is None else int(part) for part in match.groups())
        assert first is not None and last is not None
        if not 0 < first <= last or step == 0:
            raise UsageError(form)
        if step is not None:
            if (last - first) // step >= MOST_LOADS:
                raise UsageError(f"--n {text}: expected at most {MOST_LOADS:,} loads. Take larger steps.")
            return list(range(first, last + 1, step))
        return [first << i for i in range((last // first).bit_length())]
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"\d{1,9}", part) for part in parts) or 0 in map(int, parts):
        raise UsageError(form)
    return [int(part) for part in parts]


def _check_no_options(context: typer.Context) -> None:
    """Refuse options of a curve where no rule is named.

    Raises:
        UsageError: the first of them.
    """
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if parameter.name != "as_json" and source is not None and source.name == "COMMANDLINE":
            raise UsageError(f"{parameter.opts[0]} is for a rule. Give --rule NAME (workbench memory lists them).")


def _list() -> Answer:
    rows = [{"name": name, "title": MEMORY_RULES.summary(name).replace("``", "")} for name in MEMORY_RULES.names()]

    def show(console: Any) -> None:
        console.print(table(("name", ""), [(row["name"], row["title"]) for row in rows]))
        console.print("Measure one:  workbench memory --rule delta --d 64 --n 8:512")

    return Answer({"rules": rows}, show)


def _write(curve: MemoryCurve, out: Path) -> None:
    try:
        if out.suffix == ".csv":
            out.write_text(to_csv(curve.table()), encoding="utf-8", newline="")
        elif out.suffix == ".parquet":
            curve.table().to_parquet(out, index=False)
        elif out.suffix == ".png":
            curve.picture().savefig(out, dpi=150)
        else:
            curve.save(out)
    except OSError as error:
        raise BadInput(f"--out {out} cannot be written: {error.strerror or error}.") from None


def _show(console: Any, curve: MemoryCurve, out: Path | None) -> None:
    info = curve.info
    console.print(
        f"{info['rule']}: {info['scale']} ({info['criterion']}); d = {info['d']}, "
        f"{info['keys']} keys, {info['passes']} {'pass' if info['passes'] == 1 else 'passes'}, {curve.trials} trials.\n"
    )
    rows = [
        (str(row["n"]), row["mean"], f"[{number(row['low'])}, {number(row['high'])}]", row["law"])
        for row in curve.table().to_dict("records")
    ]
    console.print(table(("n", "mean", "95 % interval", "law"), rows, right=("n", "mean", "law")))
    for note in curve.notes:
        console.print(note)
    if out is not None:
        console.print(f"Saved to {out}")
