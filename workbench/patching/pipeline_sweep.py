"""`sweep_pipeline`: heads and steps of a pipeline of diffusers, edited one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench import arguments
from workbench.core import check_edit_kind
from workbench.models.diffusion.in_place import HookedDiffusers
from workbench.patching.metric import Metric
from workbench.patching.pipeline_plan import PipelinePlan, Run
from workbench.patching.progress import Progress, ProgressCounter
from workbench.patching.settings import SweepSettings
from workbench.results.sweep import Sweep

#: Edits that need no other inputs and no named positions.
KINDS = ("patch", "zero", "scale", "add", "identity")
#: The torch seeds.
_LARGEST_SEED = 2**63 - 1


@torch.no_grad()
def sweep_pipeline(
    model: Any,
    run: Run,
    source: Run | None = None,
    *,
    site: str = "z",
    by: str | Sequence[str] = ("step", "head"),
    edit: str | Callable[[Tensor], Tensor] = "patch",
    metric: str | Metric | Callable[[Tensor], Tensor] = "image_distance",
    layers: Sequence[int] | int | None = None,
    heads: Sequence[int] | int | None = None,
    steps: Sequence[int] | int | None = None,
    factor: float | None = None,
    vector: Tensor | None = None,
    u: float | None = None,
    seeds: Sequence[int] | int = (0,),
    progress: Progress | None = None,
) -> Sweep:
    """Edit one head at a time in the user's own pipeline, in one step or all: ``values[step, layer, head, example]``.

    An example is an image of a seed. Each value is the metric of a run of the whole pipeline with that one edit. A run
    enters at the edited step: before it the transformer's calls are answered with what they gave in the unedited run.
    First it is shown on one seed, for each of these steps, that the images stay the same bit for bit; where they do
    not, whole runs are made, with a warning (``info["exact"]``). Nothing is cached. One seed gives no intervals, and
    effects are NaN where runs and source hardly differ: `Sweep.effect_note` says so.

    Args:
        model: a `wb.HookedDiffusers`, best of the pipeline.
        run: called with a generator: ``lambda generator: pipe(prompt_embeds=x, generator=generator)``. It gives images:
            a tensor ``[image, ...]``, an array or PIL images ``[image, row, column, channel]``, or a pipeline's output.
            What it draws has to come from the generator. Embeddings save the text encoder in every run.
        source: for ``patch``, another such function, such as another prompt: its activations are inserted, of the same
            head in the same step, from the same seed.
        site: a short site name, or a name without its layer: ``"cross_attn.hook_z"``, ``"single_blocks.attn.hook_z"``.
        by: ``"step"`` and ``"head"``, one of them, or ``"layer"`` alone. Without ``"step"`` an edit is made in all
            `steps` at once, without ``"head"`` of all heads at once.
        edit: ``patch``, ``zero``, ``scale``, ``add``, ``identity`` (see `workbench.core.Edit`), or a function of an
            activation, ``[image or pass of guidance, pos, d_head]``.
        metric: a metric of pixels by name (images of one or three channels), or ``f(images [image, ...]) -> [image]``.
            Arrays and PIL images reach it as ``[image, channel, row, column]``.
        layers, heads, steps: which ones; all by default.
        factor, vector, u: of the edits of that kind.
        seeds: of the generators, on the CPU.
        progress: called with (edited runs done, total, what) after each.

    Raises:
        UnknownName: no such site, edit or metric.
        UsageError: arguments that do not go together; images that differ between two runs of one seed.
        HookError: the runs have other rows than those of `source`; the step cannot be told.
        NotFinite: sampling gave NaN or infinity.

    Examples:
        >>> import torch
        >>> from diffusers import DiTTransformer2DModel
        >>> sizes = dict(num_attention_heads=2, attention_head_dim=8, num_layers=2, sample_size=4, in_channels=4)
        >>> dit = wb.HookedDiffusers(DiTTransformer2DModel(**sizes, patch_size=2).eval())
        >>> def run(generator):  # in the place of a pipeline
        ...     x = torch.randn(1, 4, 4, 4, generator=generator)
        ...     for t in (900, 500, 100):
        ...         x = x - dit.hf(x, torch.tensor([t]), torch.tensor([1])).sample / 3
        ...     return x
        >>> sweep = wb.sweep_pipeline(dit, run, edit="zero", metric=lambda images: images.square().mean((1, 2, 3)))
        >>> sweep.axes, sweep.values.shape
        (('step', 'layer', 'head'), (3, 2, 2, 1))
    """
    arguments.instance("model", model, HookedDiffusers, "a wb.HookedDiffusers", do="Use wb.HookedDiffusers(pipe).")
    settings = SweepSettings(
        site=site, by=by, edit=edit, metric=metric, layers=layers, heads=heads, steps=steps, factor=factor,
        vector=vector, u=u, direction="noise",
    )  # fmt: skip
    if not callable(edit):
        check_edit_kind("edit", edit, KINDS)
    _check_functions(run, source, edit)
    seeds = _seeds(seeds)
    plan = PipelinePlan.of(model, settings, metric)
    counter: ProgressCounter | None = None
    rows: list[np.ndarray] = []  # [example, cell] of each seed
    base, of_source = [], []
    for seed in seeds:
        images, calls = plan.recorded(run, seed)
        plan.resolve_steps(calls)
        if counter is None:
            counter = ProgressCounter(len(plan.cells) * len(seeds), "sweep", progress)
            plan.prove(run, seed, images, calls)
        other, activations = plan.of_source(source, seed) if source is not None else (None, None)
        base.append(plan.scores(images, images))
        if other is not None:
            of_source.append(plan.scores(other, images))
        scores = []
        for cell in plan.cells:
            edited = plan.edited(run, seed, cell, calls, activations)
            scores.append(plan.scores(edited, images))
            counter(1)
        rows.append(np.stack(scores, -1))
    values = np.concatenate(rows).T.reshape(*map(len, plan.labels.values()), -1)
    info = plan.info() | {"n": values.shape[-1], "seeds": list(seeds)}
    patched = np.concatenate(of_source) if edit == "patch" else None
    return Sweep(values, np.concatenate(base), patched, tuple(plan.labels), plan.labels, info)


def _check_functions(run: Any, source: Any, edit: Any) -> None:
    for name, function in (("run", run), ("source", source)):
        if name == "source" and function is None:
            continue
        what, do = "a function of a generator", "Write lambda generator: pipe(..., generator=generator)."
        if not callable(function) or isinstance(function, type):
            raise arguments.refusal(name, function, what, do)
        arguments.function_of(name, function, 1, what, do=do)
    if (edit == "patch") != (source is not None):
        expected = "a function of a generator" if source is None else "None"
        why = "edit='patch' takes its values from it" if source is None else "only edit='patch' uses it"
        raise arguments.refusal("source", source, expected, because=why)


def _seeds(seeds: Any) -> tuple[int, ...]:
    entries: Iterable[Any] = [seeds] if isinstance(seeds, int) else arguments.sequence("seeds", seeds, "seeds")
    numbers = [arguments.whole_number("seeds", seed, at_least=0, at_most=_LARGEST_SEED) for seed in entries]
    if not numbers:
        raise arguments.refusal("seeds", seeds, "at least one seed")
    arguments.each_once("seeds", seeds, numbers, "seed")
    return tuple(numbers)
