"""Inputs of a diffusion transformer: noise in patches, with labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from workbench import arguments
from workbench.core import PASSES
from workbench.inputs.latents import Latents
from workbench.inputs.paired import PairedInputs
from workbench.models.modality import Modality


class LatentInputs(Modality):
    """Mixed into `workbench.models.diffusion.hooked.HookedDiT`: a row is noise in patches ``[pos, pixel]``, with the
    label as its last column; under guidance it has the positions twice, the second time with the label for none."""

    hf: Any
    branches: int
    n_positions: int

    def trial(self) -> Float[Tensor, "two pos column"]:
        shape, n_classes = self.hf.config.image_shape, self.hf.config.n_classes
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(2, *shape, generator=generator)
        return self._inputs(noise, [0, min(1, n_classes)]).to(self.device)

    def _inputs(
        self, noise: Float[Tensor, "row channel *size"], labels: Sequence[int]
    ) -> Float[Tensor, "row pos column"]:
        patches, none = self.hf.patchify(noise), self.hf.config.n_classes
        passes = [[label, none][: self.branches] for label in labels]
        column = torch.tensor(passes, dtype=patches.dtype).repeat_interleave(self.n_positions, 1)[..., None]
        return torch.cat([patches.repeat(1, self.branches, 1), column], -1)

    def prepare(self, task: Any, argument: str = "task") -> PairedInputs:
        """Inputs of `wb.latents`, or `PairedInputs` as they are.

        Raises:
            UsageError: something else, a class that the model does not have, or inputs of another shape.
        """
        if isinstance(task, PairedInputs):
            return super().prepare(task, argument)
        if not isinstance(task, Latents):
            do = "Give wb.latents(classes, n=...)."
            raise arguments.refusal(argument, task, "latents or wb.PairedInputs", do)
        config = self.hf.config
        names, n = {str(name): i for i, name in (config.id2label or {}).items()}, config.n_classes
        clean_labels, other_labels = (task.labels(run, names, n) for run in ("clean", "corrupt"))
        clean = corrupt = tuple(self._inputs(task.noise("clean", config.image_shape), clean_labels))
        if task.is_paired:
            corrupt = tuple(self._inputs(task.noise("corrupt", config.image_shape), other_labels))
        classes = self.outputs_are == "logits"
        answer = tuple((label,) if classes and label < n else () for label in clean_labels)
        wrong = tuple(
            (other,) if classes and task.is_paired and other < n and other != label else ()
            for label, other in zip(clean_labels, other_labels, strict=True)
        )
        positions = {label: i for i, label in enumerate(self.labels(clean[0]))}
        of_pass = {name: tuple(range(i, i + self.n_positions)) for name, i in self._passes().items()}
        places = tuple(f"latent {i + 1}" for i in range(len(clean)))
        runs = (task.sources("clean", clean_labels, names), task.sources("corrupt", other_labels, names))
        return PairedInputs(
            "latents",
            clean,
            corrupt,
            answer,
            wrong,
            positions=(positions,) * len(clean),
            seed=task.seed,
            where=places,
            sources=tuple(zip(*runs, strict=True)),
            regions=(of_pass,) * len(clean) if of_pass else (),
        )

    def _passes(self) -> dict[str, int]:
        """Where each pass of guidance begins, by the name that edits have for its positions."""
        return dict(zip(PASSES.values(), (0, self.n_positions), strict=True)) if self.branches > 1 else {}

    def check_content(self, name: str, inputs: Shaped[Tensor, "pos *rest"]) -> None:
        super().check_content(name, inputs)
        do, length, none = "Use wb.latents.", self.n_positions * self.branches, self.hf.config.n_classes
        if len(inputs) != length:
            why = "guidance makes two passes" if self.branches > 1 else "there is no guidance"
            raise arguments.refusal(name, inputs, f"{length} positions", do, because=why)
        if inputs.dtype in (torch.float16, torch.bfloat16):
            raise arguments.refusal(name, inputs, "at least float32", do, because="labels are among the numbers")
        labels = inputs[:, -1].unflatten(0, (self.branches, -1))
        whole = bool((labels == labels.round()).all()) and bool(((labels >= 0) & (labels <= none)).all())
        if not whole or bool((labels != labels[:, :1]).any()):
            expected = f"one label in the last column, from 0 to {none - 1}, or {none} for none"
            raise arguments.refusal(name, inputs, expected, do)
        noise = inputs[:, :-1].unflatten(0, (self.branches, -1))
        if bool((noise != noise[:1]).any()) or (self.branches > 1 and int(labels[1, 0]) != none):
            expected = f"the same noise in both passes, and the label {none} in the second"
            raise arguments.refusal(name, inputs, expected, do)

    def labels(self, inputs: Shaped[Tensor, "pos *rest"]) -> tuple[str, ...]:
        """Its patch: ``"2,3"`` is row 2, column 3 (of a video the frame before them), ``"none 2,3"`` of the pass
        without a label."""
        places = [
            ",".join(map(str, place))
            for place in torch.cartesian_prod(*map(torch.arange, self.hf.config.grid)).tolist()
        ]
        return tuple(f"{branch}{place}" for branch in ("", "none ")[: self.branches] for place in places)

    def proof_length(self, length: int) -> int:
        """That of one pass."""
        return self.n_positions

    def proof_inputs(self, length: int, rows: Sequence[Tensor]) -> Float[Tensor, "two pos column"]:
        return self.trial()
