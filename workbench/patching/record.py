"""Record activations of some sites for some inputs: in the cache, or in memory where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench import arguments
from workbench.cache import store_of
from workbench.core import Edit
from workbench.models.steps import at_step, resolve_steps
from workbench.patching.edits import Edits, edit_list
from workbench.patching.memory import keep_freed_memory
from workbench.patching.progress import Progress, ProgressCounter
from workbench.patching.recorder import Recorder
from workbench.patching.recording import RecordedRun, Recording
from workbench.patching.resolve import (
    model_identity,
    resolve_inputs,
    resolve_layers,
    resolve_mean_over,
    resolve_model,
    site_hooks,
)


@keep_freed_memory()
def record(
    model: Any,
    task: Any,
    sites: Sequence[str] = ("z",),
    layers: Sequence[int] | int | None = None,
    *,
    heads: Sequence[int] | int | None = None,
    steps: Sequence[int] | int | None = None,
    edits: Sequence[Edit] | Edit = (),
    mean_over: Any = None,
    seed: int = 0,
    cache: Any = None,
    progress: Progress | None = None,
) -> Recording:
    """Record `sites` at `layers` (all by default) for every input: ``rec.clean``, and ``rec.corrupt`` for pairs.

    What the cache holds is not computed again; the rest is computed and stored. The activations themselves stay
    on the disk and are read input by input, on access.

    Args:
        model: a `HookedLM`, or any `ResumableModel`.
        task: a task, pairs, `PairedInputs`, a text or a list of texts.
        sites: short site names, or hook names inside a block.
        layers: which layers; all by default.
        heads: which heads of the sites that have heads; all by default. Of patterns only these are computed. Where
            key/value heads serve several, ``k`` and ``v`` are those of these heads, each once.
        steps: which sampling steps, of a model that runs its layers in several; all by default. They are then the first
            axis of an activation, of a site's (``rec.clean["z"][0]``, ``[step, layer, pos, head, d_head]``) and of a
            hook's (``rec.clean["blocks.2.attn.hook_z"][0]``, ``[step, pos, head, d_head]``); and
            ``rec.clean["blocks.2.attn.hook_z@3"][0]`` is step 3 alone.
        edits: edits under which to record: in both runs of a pair, each taking the values of ``patch`` from the other.
            Activations under an edit by your own function are not cached.
        mean_over, seed: of ``mean`` and ``resample`` edits, see `workbench.run`.
        cache: None for the user's own cache, False for none (all in memory), or a folder.
        progress: called with (done, total, what) after each batch.

    Raises:
        UnknownName: the model has no such site.
        UsageError: a layer or step that does not exist, or an edit that cannot be made.
        BadInput: the disk is full and the rest does not fit into memory.

    Examples:
        >>> model = wb.load("tiny")
        >>> recording = wb.record(model, wb.task("ioi", n=6), ["z", "pattern"], layers=[1])
        >>> recording.clean["z"][0].shape  # [layer, pos, head, d_head]
        torch.Size([1, 15, 8, 16])
    """
    resumable, inputs, store = resolve_model(model), resolve_inputs(task, model), store_of(cache)
    sites = arguments.texts("sites", sites, "names of sites")
    layers, steps = resolve_layers(layers, resumable.n_layers), resolve_steps("steps", steps, resumable.n_steps)
    edits, seed = edit_list("edits", edits), arguments.whole_number("seed", seed, at_least=0)
    mean_over = resolve_mean_over(mean_over, model)
    selected = None if heads is None else arguments.indices("heads", heads, resumable.n_heads, "head")
    hooks = site_hooks(resumable, sites, layers)
    plain_names, n_steps = [hook for per_layer in hooks.values() for hook in per_layer], resumable.n_steps
    names = [at_step(hook, step, n_steps) for step in steps for hook in plain_names]
    paired = inputs.corrupt is not inputs.clean
    runs = [inputs, inputs.swapped()] if paired else [inputs]
    recorder = Recorder(resumable, store, model_identity(resumable, store))
    done = ProgressCounter(sum(len(run.clean) for run in runs), "recording", progress)
    recorded = []
    for run in runs:
        run_edits = Edits.of(recorder, run, edits, mean_over, seed, model) if edits else None
        source = recorder.source(run.clean, names, done, run_edits, selected)
        recorded.append(RecordedRun(source, hooks, steps, n_steps))
    return Recording(recorded[0], recorded[1] if paired else None, sites, layers, edits, steps)
