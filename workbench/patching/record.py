"""Record activations of some sites for some inputs, in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor

from workbench.errors import BadInput, UnknownName
from workbench.patching.context import inputs_of, refuse_cache, tower_of
from workbench.patching.progress import Progress, Tally
from workbench.patching.tower import Tap, Tower

#: At most this many inputs of one length in a batch: what a recording's unit is.
UNIT = 8


class Run(Mapping[str, list[Tensor]]):
    """Recorded activations of one run of each prompt.

    ``run["z"]`` is a list with one tensor a prompt, ``[layer, pos, head, d_head]`` over the recorded layers;
    ``run["blocks.9.attn.hook_z"]`` the same for one layer, ``[pos, head, d_head]``. Patterns are ``[head, dest, src]``.
    """

    def __init__(self, activations: Mapping[str, list[Tensor]], sites: Mapping[str, Sequence[str]]) -> None:
        self._activations, self._sites = activations, sites

    def __getitem__(self, site: str) -> list[Tensor]:
        if site in self._activations:
            return self._activations[site]
        if site not in self._sites:
            raise UnknownName("recorded site", site, [*self._sites, *self._activations])
        return [torch.stack(layers) for layers in zip(*(self._activations[h] for h in self._sites[site]), strict=True)]

    @property
    def prompts(self) -> int:
        """How many prompts were recorded."""
        return len(next(iter(self._activations.values()), ()))

    def __iter__(self) -> Iterator[str]:
        return iter(self._sites)

    def __len__(self) -> int:
        return len(self._sites)

    def stack(self, site: str) -> Shaped[Tensor, "prompt *rest"]:
        """All prompts as one tensor.

        Raises:
            BadInput: the prompts have several lengths.
        """
        tensors = self[site]
        shapes = {tuple(t.shape) for t in tensors}
        if len(shapes) > 1:  # positions are the first axis along which prompts can differ
            lengths = sorted(next(set(sizes) for sizes in zip(*shapes, strict=True) if len(set(sizes)) > 1))
            raise BadInput(f"Prompts of {', '.join(map(str, lengths))} tokens do not stack: use the list.")
        return torch.stack(tensors)


@dataclass(frozen=True)
class Recording:
    """Activations of a task's prompts: `clean` and, for paired prompts, `corrupt` runs, at `layers`."""

    clean: Run
    corrupt: Run | None
    sites: tuple[str, ...]
    layers: tuple[int, ...]

    def __repr__(self) -> str:
        runs = "clean and corrupt runs" if self.corrupt is not None else "runs"
        return (
            f"Recording({', '.join(self.sites)} at {len(self.layers)} layers, {runs} of {self.clean.prompts} prompts)"
        )


def record(
    model: Any,
    task: Any,
    sites: Sequence[str] = ("z",),
    layers: Sequence[int] | None = None,
    *,
    cache: Any = None,
    progress: Progress | None = None,
) -> Recording:
    """Record `sites` at `layers` (all by default) for every prompt: ``rec.clean``, and ``rec.corrupt`` for pairs.

    Args:
        model: a `HookedLM`, or any `Tower`.
        task: a task, pairs, `PairedInputs`, a text or a list of texts.
        sites: short site names, or hook names inside a block.
        layers: which layers; all by default.
        cache: None or False; there is no activation cache on disk yet.
        progress: called with (done, total, what) after each batch.

    Raises:
        UnknownName: the model has no such site.
        UsageError: a layer that does not exist.
    """
    refuse_cache(cache)
    tower, inputs = tower_of(model), inputs_of(task, model)
    sites = (sites,) if isinstance(sites, str) else tuple(sites)
    layers = tuple(range(tower.n_layers)) if layers is None else tuple(layers)
    hooks = {site: [tower.hook_name(site, layer) for layer in layers] for site in sites}
    names = [hook for per_layer in hooks.values() for hook in per_layer]
    paired = inputs.corrupt is not inputs.clean
    runs = [inputs.clean, inputs.corrupt] if paired else [inputs.clean]
    done, recorded = Tally(sum(len(run) for run in runs), "recording", progress), []
    for run in runs:
        activations: dict[str, list[Tensor]] = {name: [torch.empty(0)] * len(run) for name in names}
        for members in batches(run):
            for name, x in read(tower, torch.stack([run[i] for i in members]), names).items():
                for i, row in zip(members, x, strict=True):
                    activations[name][i] = row
            done(len(members))
        recorded.append(Run(activations, hooks))
    return Recording(recorded[0], recorded[1] if paired else None, sites, layers)


def record_site(
    tower: Tower, inputs: Sequence[Tensor], site: str, stages: Sequence[int]
) -> list[dict[int, Shaped[Tensor, "pos *rest"]]]:
    """One site of each input at some stages, positions first: ``[pos, ...]``, a pattern ``[dest, head, src]``."""
    result: list[dict[int, Tensor]] = [{} for _ in inputs]
    kept: dict[int, Tensor] = {}

    def keeper(stage: int) -> Tap:
        def keep(x: Tensor) -> None:
            kept[stage] = x.clone()

        return keep

    taps: dict[int, dict[str, Tap]] = {}
    for stage in stages:
        step, layer = divmod(stage, tower.n_layers)
        taps.setdefault(step, {})[tower.hook_name(site, layer)] = keeper(stage)
    for members in batches(inputs):
        tower.base_run(torch.stack([inputs[i] for i in members]), taps)
        for stage, x in kept.items():
            for i, row in zip(members, x, strict=True):
                result[i][stage] = row.transpose(0, 1) if site.endswith(("pattern", "hook_attn_scores")) else row
    return result


def read(tower: Tower, batch: Shaped[Tensor, "batch pos *rest"], names: Sequence[str]) -> dict[str, Tensor]:
    """Activations at hook names for one batch, from one run (the first sampling step)."""
    kept: dict[str, Tensor] = {}

    def keep(name: str) -> Tap:
        def tap(x: Tensor) -> None:
            kept[name] = x if x.is_contiguous() else x.contiguous()

        return tap

    tower.base_run(batch, {0: {name: keep(name) for name in names}})
    return kept


def batches(inputs: Sequence[Tensor], at_most: int = UNIT) -> list[list[int]]:
    """Indices of inputs of one length, `at_most` together, cut from the list alone."""
    by_length: dict[int, list[int]] = {}
    for i, x in enumerate(inputs):
        by_length.setdefault(len(x), []).append(i)
    return [same[i : i + at_most] for same in by_length.values() for i in range(0, len(same), at_most)]
