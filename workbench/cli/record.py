"""``workbench record``: fill the cache with activations, after printing the cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workbench.cli import progress
from workbench.cli.answer import Answer, AsJson
from workbench.cli.choices import (
    INPUTS,
    Model,
    Operators,
    Skip,
    check_model,
    check_name,
    inputs_from,
    parse_indices,
    parse_layers,
    parse_operators,
    resumed_later,
    split_list,
)
from workbench.cli.image_options import (
    Corrupt,
    ImagePaths,
    ImageRequest,
    MorePaths,
    OtherImages,
    check_image_options,
    image_request,
)
from workbench.cli.latent_options import (
    AtSteps,
    Guidance,
    Labels,
    LatentRequest,
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
from workbench.core import SITES
from workbench.errors import BadInput, UsageError
from workbench.io.local_names import local_name
from workbench.models.catalog import DEFAULT


def record(
    task: Annotated[str | None, typer.Option(metavar="NAME", help="A task (workbench tasks lists them).")] = None,
    pairs: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Your own pairs, one JSON object per line.")
    ] = None,
    skip: Skip = False,
    images: ImagePaths = None,
    more: MorePaths = None,
    corrupt: Corrupt = None,
    other_images: OtherImages = None,
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
    sites: Annotated[
        str, typer.Option(metavar="A,B", help=f"Sites to record: {', '.join(SITES)}, or names of hooks in a block.")
    ] = "z",
    layers: Annotated[str | None, typer.Option(metavar="L,M-N", help="Layers, such as 0,4-7 (default: all).")] = None,
    n: Annotated[int | None, typer.Option("--n", metavar="N", min=1, help="Number of prompts of the task.")] = None,
    seed: SampleSeed = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the cost and record nothing.")] = False,
    as_json: AsJson = False,
) -> Answer:
    """Record activations into the cache, for later calls to read."""
    chosen = split_list(sites, "--sites")
    for site in chosen:
        if "hook_" not in site:
            check_name("site", site, SITES)
    which = parse_layers(layers)
    check_image_options(images, more=more, corrupt=corrupt, other_images=other_images)
    sampled = {"samples": samples, "other_seed": other_seed, "sampler": sampler, "steps": steps}
    sampled |= {"guidance": guidance, "readout": readout}
    check_latent_options(label, other=other, **sampled, at_steps=at_steps)
    check_sources(task, pairs, n, skip, images, label)
    check_model(model, ("vision" if images else "diffusion" if label else "language",), tuple(INPUTS))
    swapped, at = parse_operators(operators), parse_indices(at_steps, "--at-steps", "step")
    request: ImageRequest | LatentRequest | None
    if images:
        request = image_request(images, more, corrupt=corrupt, seed=seed, others=other_images)
    elif label:
        request = latent_request(label, other, seed=seed, **sampled)
    else:
        request, inputs = None, inputs_from(task, pairs, n, seed, skip)

    import workbench as wb
    from workbench.cache import folder, store_of
    from workbench.patching.estimate import count_cached, estimate

    if folder.switched_off():
        raise UsageError("WORKBENCH_CACHE=off: there is no cache to record into. Unset it, or use wb.record in Python.")
    store = store_of(None)
    if store is None or not store.writable:
        raise BadInput(f"The cache {folder.default()} cannot be written, so nothing can be recorded into it.")
    with progress.on_stderr() as display, resumed_later(store, display.say):
        loaded = wb.load(model, operators=swapped or None, progress=display)
        if isinstance(request, ImageRequest):
            inputs = request.for_model(loaded, answers=False)
        elif request is not None:
            loaded = request.resampled(loaded, at, display)
            inputs = request.latents(loaded)
        cost = estimate(loaded, inputs, chosen, which, steps=at)
        display.say(str(cost))
        if not dry_run:
            wb.record(loaded, inputs, chosen, which, steps=at, progress=display)
        cached = count_cached(loaded, inputs, chosen, which, steps=at)
    whole = cached == cost.runs
    document = {
        "model": local_name(model),
        "operators": swapped,
        "sites": chosen,
        "layers": which,
        "recorded": not dry_run and whole,
        "estimate": cost,
        "in_cache": cached,
        "path": str(store.folder),
    }
    done = "Nothing was recorded (--dry-run)." if dry_run else f"{cached} of {cost.runs} runs are in {store.folder}"
    code = 0
    if not dry_run and not whole:
        done += ": the rest did not fit (workbench cache stats shows the budget, WORKBENCH_CACHE_GB sets it)"
        code = BadInput.exit_code
        document["error"] = {"kind": "BadInput", "message": done, "exit_code": code}
    return Answer(document, lambda console: console.print(done), code)
