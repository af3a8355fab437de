"""Record activations of some sites for some inputs: in the cache, or in memory where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench import arguments
from workbench.cache import store_of
from workbench.core import Edit
from workbench.patching.edits import Edits, edit_list
from workbench.patching.progress import Progress, ProgressCounter
from workbench.patching.recorder import Recorder
from workbench.patching.recording import Recording, Run
from workbench.patching.resolve import (
    model_identity,
    resolve_inputs,
    resolve_layers,
    resolve_mean_over,
    resolve_model,
    site_hooks,
)


def record(
    model: Any,
    task: Any,
    sites: Sequence[str] = ("z",),
    layers: Sequence[int] | int | None = None,
    *,
    edits: Sequence[Edit] | Edit = (),
    mean_over: Any = None,
    seed: int = 0,
    cache: Any = None,
    progress: Progress | None = None,
) -> Recording:
    """Record `sites` at `layers` (all by default) for every prompt: ``rec.clean``, and ``rec.corrupt`` for pairs.

    What the cache holds is not computed again; the rest is computed and kept. The activations themselves stay on the
    disk and are read prompt by prompt when they are asked for.

    Args:
        model: a `HookedLM`, or any `ResumableModel`.
        task: a task, pairs, `PairedInputs`, a text or a list of texts.
        sites: short site names, or hook names inside a block.
        layers: which layers; all by default.
        edits: under which to record: done in both runs of a pair, each taking the values of ``patch`` from the other.
            What a function of your own edits is not kept.
        mean_over, seed: of ``mean`` and ``resample`` edits, see `workbench.run`.
        cache: None for the user's own cache, False for none (all in memory), or a folder.
        progress: called with (done, total, what) after each batch.

    Raises:
        UnknownName: the model has no such site.
        UsageError: a layer that does not exist, or an edit that cannot be made.
        BadInput: the disk is full and the rest does not fit into memory.

    Examples:
        >>> model = wb.load("tiny")
        >>> recording = wb.record(model, wb.task("ioi", n=6), ["z", "pattern"], layers=[1])
        >>> recording.clean["z"][0].shape  # [layer, pos, head, d_head]
        torch.Size([1, 15, 8, 16])
    """
    resumable, inputs, store = resolve_model(model), resolve_inputs(task, model), store_of(cache)
    sites = arguments.texts("sites", sites, "names of sites")
    layers = resolve_layers(layers, resumable.n_layers)
    edits, seed = edit_list("edits", edits), arguments.whole_number("seed", seed, at_least=0)
    mean_over = resolve_mean_over(mean_over, model)
    hooks = site_hooks(resumable, sites, layers)
    names = [hook for per_layer in hooks.values() for hook in per_layer]
    paired = inputs.corrupt is not inputs.clean
    runs = [inputs, inputs.swapped()] if paired else [inputs]
    recorder = Recorder(resumable, store, model_identity(resumable, store))
    done = ProgressCounter(sum(len(run.clean) for run in runs), "recording", progress)
    recorded = []
    for run in runs:
        changed = Edits.of(recorder, run, edits, mean_over, seed, model) if edits else None
        recorded.append(Run(recorder.source(run.clean, names, done, changed), hooks))
    return Recording(recorded[0], recorded[1] if paired else None, sites, layers, edits)
