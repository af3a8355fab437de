"""``workbench patch``: one sweep over a model, measured on a task or on the user's own pairs."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.cli import patch_report, patched, progress
from workbench.cli.answer import Answer, AsJson
from workbench.cli.choices import (
    INPUTS,
    Model,
    NoCache,
    Operators,
    Skip,
    caching,
    check_model,
    check_name,
    inputs_from,
    parse_indices,
    parse_operators,
    parse_position,
    split_list,
)
from workbench.cli.image_options import (
    Answers,
    Corrupt,
    ImagePaths,
    MorePaths,
    OtherImages,
    Wrongs,
    check_image_options,
    image_request,
)
from workbench.cli.latent_options import (
    AtSteps,
    Guidance,
    Labels,
    Others,
    OtherSeed,
    ReadoutOption,
    Sampler,
    Samples,
    SampleSeed,
    Steps,
    check_latent_options,
    check_sources,
    latent_request,
)
from workbench.core import (
    ARGUMENT_OF,
    EDIT_KINDS,
    PATTERN_KINDS,
    SITES,
    check_edit_kind,
    checked_argument,
)
from workbench.errors import BadInput, UsageError
from workbench.example_names import examples_of
from workbench.models.catalog import DEFAULT
from workbench.registry import METRICS

DIRECTIONS = ("denoise", "noise")
SCREENS = ("attribution", "bfloat16")
AXES = ("layer", "head", "position", "step")
#: Edits that can be typed; of the others, add takes a tensor, and pattern positions and weights.
KINDS = tuple(kind for kind in EDIT_KINDS if kind not in ("add", "pattern"))


def patch(
    task: Annotated[str | None, typer.Option(metavar="NAME", help="A task (workbench tasks lists them).")] = None,
    pairs: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Your own pairs, one JSON object per line.")
    ] = None,
    skip: Skip = False,
    images: ImagePaths = None,
    more: MorePaths = None,
    corrupt: Corrupt = None,
    other_images: OtherImages = None,
    answer: Answers = None,
    wrong: Wrongs = None,
    label: Labels = None,
    other: Others = None,
    samples: Samples = None,
    other_seed: OtherSeed = None,
    steps: Steps = None,
    guidance: Guidance = None,
    sampler: Sampler = None,
    readout: ReadoutOption = None,
    at_steps: AtSteps = None,
    model: Model = DEFAULT,
    operators: Operators = None,
    site: Annotated[
        str,
        typer.Option(metavar="SITE", help=f"Activation to edit: {', '.join(SITES)}, or the name of a hook in a block."),
    ] = "z",
    by: Annotated[
        str,
        typer.Option(
            metavar="AXES",
            help="Axes besides the layer: head, position, head,position or layer; of samples also step: step,head.",
        ),
    ] = "head",
    edit: Annotated[str, typer.Option(metavar="KIND", help=f"Edit: {', '.join(KINDS)}.")] = "patch",
    factor: Annotated[float | None, typer.Option(metavar="F", help="Of scale edits: what to multiply by.")] = None,
    u: Annotated[
        float | None,
        typer.Option("--u", metavar="U", help="Of identity edits (site pattern): 0 to 1, how far a row moves."),
    ] = None,
    direction: Annotated[
        str | None,
        typer.Option(
            metavar="D",
            help="For patch edits: denoise (clean values into the corrupt run; the default) or noise (the reverse).",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"Metric: {', '.join(METRICS.names())} (default: logit_difference; of a vision model without classes "
            "feature_cosine, of samples that no classifier reads image_distance).",
        ),
    ] = None,
    positions: Annotated[
        str | None,
        typer.Option(
            metavar="P,Q",
            help="Positions by name or index, such as S2,end; of images and samples with semicolons: 'cls;2,3'.",
        ),
    ] = None,
    n: Annotated[int | None, typer.Option("--n", metavar="N", min=1, help="Number of prompts of the task.")] = None,
    seed: SampleSeed = 0,
    screen: Annotated[
        str | None,
        typer.Option(
            metavar="METHOD",
            help=f"Estimate every cell first, by {' or '.join(SCREENS)}, and run only the strongest exactly.",
        ),
    ] = None,
    confirm: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="With --screen: the share of cells to run exactly (default: 0.25)."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="A .safetensors file to write, or a folder in which to make a run directory."
        ),
    ] = None,
    no_cache: NoCache = False,
    top: Annotated[int, typer.Option(metavar="K", min=1, help="Number of cells to list.")] = 10,
    as_json: AsJson = False,
) -> Answer:
    """Edit one site at a time and measure how each edit changes the metric."""
    check_image_options(images, more=more, corrupt=corrupt, other_images=other_images, answer=answer, wrong=wrong)
    sampled = {"samples": samples, "other_seed": other_seed, "sampler": sampler, "steps": steps}
    sampled |= {"guidance": guidance, "readout": readout}
    check_latent_options(label, other=other, **sampled, at_steps=at_steps)
    is_text = not images and not label
    metric = metric or ("logit_difference" if is_text else None)
    _check(site, by, edit, direction, metric)
    _check_argument_of(edit, site, {"factor": factor, "u": u})
    _check_screen(screen, confirm)
    check_sources(task, pairs, n, skip, images, label)
    check_model(model, ("vision" if images else "diffusion" if label else "language",), tuple(INPUTS))
    swapped = parse_operators(operators)
    if "step" in split_list(by) and not label:
        raise UsageError("--by step is only for samples of a diffusion model. Give --label CLASS, or another axis.")
    if images:
        is_paired = corrupt is not None or bool(other_images)
        _check_source("images", edit, is_paired, "--corrupt CORRUPTION or --other-images PATH")
        inputs: Any = image_request(images, more, answer, wrong, corrupt, seed, other_images)
    elif label:
        inputs = latent_request(label, other, seed=seed, **sampled)
        _check_source("samples", edit, inputs.is_paired, "--other CLASS or --other-seed S")
    else:
        inputs = inputs_from(task, pairs, n, seed, skip)
    target = _target(out)

    arguments: dict[str, Any] = {
        "site": site,
        "by": split_list(by),
        "edit": edit,
        "factor": factor,
        "u": u,
        "direction": direction,
        "metric": metric,
        "positions": [parse_position(word) for word in split_list(positions, "--positions", "," if is_text else ";")]
        or None,
        "seed": seed,
        "steps": parse_indices(at_steps, "--at-steps", "step"),
    }
    with progress.on_stderr() as display, caching(not no_cache, display.say):
        result = patched.read_or_compute(model, swapped, inputs, arguments, screen, confirm or 0.25, display)
    path = None if target is None else patch_report.write(result, target, top)
    if result.warning:
        display.say(result.warning)
    document = {**result.document, "task_check": result.task_check, "out": path, **result.screened}

    def show(console: Any) -> None:
        patch_report.show(console, result, top, path)
        if result.screened:
            console.print(f"{result.screened['screen'].capitalize()} on the same {examples_of(result.sweep.info)}.")

    return Answer(document, show)


def _check_screen(screen: str | None, confirm: float | None) -> None:
    if screen is not None:
        check_name("screen method", screen, SCREENS)
    if confirm is not None and screen is None:
        raise UsageError("--confirm is only for --screen. Give --screen METHOD, or leave --confirm out.")
    if confirm is not None and not 0 < confirm <= 1:
        raise UsageError(f"--confirm {confirm:g}: expected a share of the cells, above 0 and at most 1.")


def _check_source(what: str, edit: str, is_paired: bool, options: str) -> None:
    """There are corrupt inputs where the edit takes values from them."""
    if edit == "patch" and not is_paired:
        raise UsageError(f"A patch edit takes values from other {what}. Give {options}, or another --edit.")


def _check(site: str, by: str, edit: str, direction: str | None, metric: str | None) -> None:
    if "hook_" not in site:
        check_name("site", site, SITES)
    if edit in set(EDIT_KINDS) - set(KINDS):
        name, what, _ = ARGUMENT_OF[edit]
        raise UsageError(f"edit {edit!r} needs {what}: use wb.sweep(..., {name}=...) in Python.")
    check_edit_kind("edit", edit, KINDS, do="")
    if direction is not None:
        check_name("direction", direction, DIRECTIONS)
    if direction == "denoise" and edit != "patch":
        raise UsageError(f"--direction denoise is only for patch edits; {edit} edits the clean run. Leave it out.")
    if metric is not None:
        check_name("metric", metric, METRICS.names())
    for axis in split_list(by, "--by"):
        check_name("axis", axis, AXES)


def _check_argument_of(edit: str, site: str, numbers: Mapping[str, float | None]) -> None:
    """The number that an edit takes is there, and no other's."""
    for name, value in numbers.items():
        kind = next(kind for kind, argument in ARGUMENT_OF.items() if argument[0] == name)
        if edit == kind and value is None:
            raise UsageError(f"--edit {edit} needs --{name}, {ARGUMENT_OF[kind][1]}.")
        if edit != kind and value is not None:
            raise UsageError(f"--{name} belongs to {kind} edits, and this is {edit}. Leave it out.")
        if value is not None:
            checked_argument(name, value)
    if edit in PATTERN_KINDS and site != "pattern":
        raise UsageError(f"--edit {edit} changes attention rows: give --site pattern.")


def _target(out: Path | None) -> Path | None:
    if out is None:
        return None
    if out.suffix == ".safetensors":
        if not out.parent.is_dir():
            raise UsageError(f"--out {out}: the folder {out.parent} does not exist.")
    elif out.suffix or (out.exists() and not out.is_dir()):
        raise UsageError(f"--out {out}: give a file that ends in .safetensors, or a folder for a run directory.")
    folder = out.parent if out.suffix else out
    try:  # now, and not when everything is computed
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BadInput(f"--out {out} cannot be written: {error.strerror or error}. Choose another path.") from None
    return out
