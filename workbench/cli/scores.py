"""``workbench scores``: every head of a model in one table, each score beside its chance level."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli import progress
from workbench.cli.answer import Answer, AsJson, table
from workbench.cli.choices import (
    Model,
    NoCache,
    Operators,
    Seed,
    Skip,
    caching,
    check_model,
    check_name,
    inputs_from,
    left_out,
    parse_layers,
    parse_operators,
)
from workbench.cli.few_examples import few_examples
from workbench.cli.image_options import ImagePaths, MorePaths, check_image_options, image_request, no_prompts
from workbench.core import full_name
from workbench.errors import BadInput, UsageError
from workbench.io.tables import number, to_csv
from workbench.models.catalog import DEFAULT

if TYPE_CHECKING:
    from workbench.head_scores.result import HeadScores

#: What ``--out`` can write.
ENDINGS = (".csv", ".parquet", ".safetensors")


def scores(
    task: Annotated[str | None, typer.Option(metavar="NAME", help="Task for the task scores (default: ioi).")] = None,
    pairs: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Your own pairs, one JSON object per line.")
    ] = None,
    skip: Skip = False,
    images: ImagePaths = None,
    more: MorePaths = None,
    model: Model = DEFAULT,
    operators: Operators = None,
    n: Annotated[
        int | None, typer.Option("--n", metavar="N", min=1, help="Number of prompts of the task (default: 25).")
    ] = None,
    seed: Seed = 0,
    score: Annotated[
        str | None, typer.Option(metavar="NAME", help="Rank the heads by this score, with interval and chance level.")
    ] = None,
    layers: Annotated[
        str | None, typer.Option(metavar="L,M-N", help="With --score: layers, such as 0,4-7 (default: all).")
    ] = None,
    top: Annotated[int, typer.Option(metavar="K", min=1, help="Number of heads to list.")] = 5,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help=f"Write the whole table to this file ({', '.join(ENDINGS)}).")
    ] = None,
    no_random: Annotated[
        bool, typer.Option("--no-random", help="Leave out the chance level from random weights.")
    ] = False,
    no_cache: NoCache = False,
    as_json: AsJson = False,
) -> Answer:
    """Score every head by its patterns, weights and effect on a task; of a vision model by its patterns on images. Each
    score is shown with its chance level."""
    check_image_options(images, more=more)
    modality = "vision" if images else "language"
    check_model(model, (modality,), ("language", "vision"), because="heads are scored on texts and on images")
    swapped = parse_operators(operators)
    if images:
        no_prompts(task, pairs, n, skip)
        inputs: Any = image_request(images, more).images
    else:
        if task is None and pairs is None:
            task = "ioi"
        inputs = inputs_from(task, pairs, 25 if n is None and task is not None else n, seed, skip)
    _check(out)
    if score is not None:
        from workbench.head_scores.result import scores_of

        check_name("score", score, scores_of("vision" if images else "language"))
    elif layers is not None:
        raise UsageError(f"--layers {layers}: only a ranking has layers. Give --score NAME too.")
    which = parse_layers(layers)

    import workbench as wb
    from workbench import arguments

    with progress.on_stderr() as display, caching(not no_cache, display.say):
        loaded = wb.load(model, operators=swapped or None, progress=display)
        if which is not None:
            which = list(arguments.indices("layers", which, loaded.n_layers, "layer"))
        result = wb.scores(loaded, inputs, seed=seed, random_baseline=not no_random, progress=display)
    if out is not None:
        _write(result, out)
    document = {**result.json(), "out": None if out is None else str(out)}
    if score is None:
        return Answer(document, lambda console: _show(console, result, top, out))
    ranking = _ranking(result, score, which, top)
    return Answer({**document, "ranking": ranking}, lambda console: _show_ranking(console, result, ranking, out))


def _ranking(result: HeadScores, score: str, layers: list[int] | None, top: int) -> dict[str, Any]:
    """The heads in order of a score, JSON-able, with what its numbers are."""
    from workbench.head_scores.result import UNITS

    return {
        "score": score,
        "units": UNITS[score],
        "chance": result.chance_level(score)[1],
        "heads": result.ranking(score, layers=layers, k=top).to_dict("records"),
        "interval_note": _few(result, score),
        "without_value": {reason: [*map(str, heads)] for reason, heads in result.without_value(score).items()},
    }


def _few(result: HeadScores, score: str) -> str:
    """The note on a score's interval where it is from few sequences, prompts or images."""
    from workbench.head_scores.result import ON_TASK

    examples = "images" if "sequences" not in result.info else "prompts" if score in ON_TASK else "sequences"
    return few_examples(len(result.samples.get(score, ())), examples)


def _check(out: Path | None) -> None:
    if out is None:
        return
    if out.suffix not in ENDINGS:
        raise UsageError(f"--out {out}: give a file that ends in {', '.join(ENDINGS)}.")
    if not out.parent.is_dir():
        raise UsageError(f"--out {out}: the folder {out.parent} does not exist.")


def _write(result: HeadScores, out: Path) -> None:
    try:
        if out.suffix == ".csv":
            out.write_text(to_csv(result.table()), encoding="utf-8", newline="")
        elif out.suffix == ".parquet":
            result.table().to_parquet(out, index=False)
        else:
            result.save(out)
    except OSError as error:
        raise BadInput(f"--out {out} cannot be written: {error.strerror or error}.") from None


def _show_heading(console: Any, result: HeadScores) -> None:
    info = result.info
    name = full_name(info["model"], info.get("operators"))
    on = f"Patterns on {info['n']} {'image' if info['n'] == 1 else 'images'} of {_patches(info)} patches."
    if "sequences" in info:
        on = (
            f"Patterns on {info['sequences']} sequences of {info['period']} random tokens, repeated; task "
            f"{info['task']}, n = {info['n']}{left_out(info)}."
        )
    console.print(f"{name}: {result[result.names[0]].size} heads. {on}\n")


def _patches(info: Mapping[str, Any]) -> str:
    return " × ".join(map(str, info.get("patches", ())))


def _show_ranking(console: Any, result: HeadScores, ranking: dict[str, Any], out: Path | None) -> None:
    _show_heading(console, result)
    score, rows = ranking["score"], []
    for row in ranking["heads"]:
        interval = f"[{number(row['low'])}, {number(row['high'])}]" if "low" in row else ""
        chance = number(row.get("chance", float("nan")))
        rows.append((str(row["rank"]), row["head"], number(row["value"]), interval, chance))
    heading = ("rank", "head", score.replace("_", " "), "95 % interval", "chance")
    if rows:
        console.print(table(heading, rows, right=("rank", heading[2], "chance")))
    counted = f"{result.positions[score]:,} positions" if score in result.positions else "the weights alone"
    chance = f" chance: {ranking['chance']}." if ranking["chance"] else ""
    console.print(f"{score}: {ranking['units']}, from {counted}.{chance}")
    if ranking["interval_note"]:
        console.print(ranking["interval_note"])
    for reason, heads in ranking["without_value"].items():
        console.print(f"Without a value: {len(heads)} {'head' if len(heads) == 1 else 'heads'}: {reason}")
    _show_saved(console, out)


def _show_saved(console: Any, out: Path | None) -> None:
    if out is not None:
        console.print(f"Saved to {out}")


def _show(console: Any, result: HeadScores, top: int, out: Path | None) -> None:
    _show_heading(console, result)
    chance = result.chance().set_index("score")
    rows = []
    for name in result.names:
        level = chance.loc[name]
        strongest = "  ".join(f"{head} {number(value)}" for head, value in result.top(name, top) if value == value)
        levels = [level[column] for column in ("uniform", "random", "random_95")]
        rows.append((name, strongest or "–", number(level["positions"], ".0f"), *levels))
    console.print(
        table(
            ("score", "strongest heads", "positions", "uniform", "random", "random 95th"),
            rows,
            right=("positions", "uniform", "random", "random 95th"),
        )
    )
    console.print(
        "positions: over how many positions the score is taken. uniform: a head that attends uniformly to all "
        "positions it can see. random: the heads of the same model with random weights, their mean and 95th percentile."
    )
    for reason, names in result.absent.items():
        console.print(f"Not available: {', '.join(names)}: {reason}")
    if len(result.lens):
        end = result.lens.iloc[-1]
        columns = ("logit_difference", "logit_difference_low", "logit_difference_high")
        difference, low, high = (number(end[column], ".2f") for column in columns)
        console.print(
            f"Logit lens: the answer's logit is above the wrong answer's {_depth(result)}; at the end the difference "
            f"is {difference} [{low}, {high}] logits."
        )
        if few := few_examples(result.info["n"], "prompts"):
            console.print(few)
    _show_saved(console, out)


def _depth(result: HeadScores) -> str:
    """From which depth on the interval of the logit difference stays above 0."""
    above = (result.lens["logit_difference_low"] > 0).tolist()
    last_below = max((i for i, good in enumerate(above) if not good), default=-1)
    return f"from {result.lens['before'].iloc[last_below + 1]} on" if last_below + 1 < len(above) else "nowhere"
