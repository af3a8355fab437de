"""A column of the table: path patching, against the published procedure, two runs a sender."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

import workbench as wb
from tests.families.cell import Cell, Comparison, workbench_call
from tests.families.subject import Subject, rows_of, some_of
from workbench.core import Head

#: Every how many-eth sender is compared.
EVERY = 3


def paths(subject: Subject) -> Cell:
    """Path patching of one pair, to the logits and into heads' q, k and v, freezing one position or all."""
    plain, example = subject.plain, 1
    comparison = Comparison()
    inputs = some_of(subject.inputs, [example])
    base = subject.plain_score(inputs.clean[0], example)
    heads = [Head(plain.layers[-1], 4), Head(plain.layers[-1], 1)]
    cases: list[tuple[list[Head], Any, str, Any]] = [([], None, "end", "position"), ([], None, "S", "all")]
    if len(plain.layers) > 1:
        cases += [(heads, "q", "end", "position"), (heads, "k", "S", "position"), (heads, "v", "S", "all")]
    for receivers, into, position, freeze in cases:
        shared: dict[str, Any] = {"share_kv": True} if into in ("k", "v") else {}
        with workbench_call():
            result = wb.path_patch(
                subject.model,
                inputs,
                receivers or None,
                into=into,
                position=position,
                freeze=freeze,
                cache=False,
                **shared,
            )
        rows = dict(zip(plain.layers, rows_of(result, plain.layers), strict=True))
        path = Path(
            subject,
            example,
            (inputs.clean[0], inputs.corrupt[0]),
            inputs.positions[0][position],
            freeze == "all",
            receivers,
            into,
        )
        senders = plain.layers[:-1] if receivers else plain.layers
        for layer, head in [(layer, head) for layer in senders for head in range(plain.n_heads)][1::EVERY]:
            comparison.add(result.values[rows[layer], head, 0], path.score(layer, head), base)
    return comparison.cell()


class Path:
    """The direct paths of senders to `receivers` (none: the final stream) in one pair.

    Args:
        prompts: the base run's and the source run's.
        at: where the sender's z is patched; `everywhere` freezes the other heads' z at all positions, not only there.
    """

    def __init__(
        self,
        subject: Subject,
        example: int,
        prompts: tuple[Tensor, Tensor],
        at: int,
        everywhere: bool,
        receivers: Sequence[Head],
        into: str | None,
    ) -> None:
        self.subject, self.example, self.receivers, self.into = subject, example, receivers, into or ""
        self.rows = slice(None) if everywhere else slice(at, at + 1)
        self.at, self.ids = at, prompts[0]
        plain = subject.plain
        #: Heads are frozen behind a gate, and before a norm, which is recomputed (docs/howto/paths.md).
        self.site = "z" if subject.is_gated else subject.plain_site("z")
        self.base, self.source = (
            dict(zip(plain.layers, plain.read(ids, self.site, *plain.layers), strict=True)) for ids in prompts
        )

    def score(self, layer: int, head: int) -> float:
        """The metric of the base run along one sender's paths."""
        edits: dict[tuple[str, int], Any] = {(self.site, i): self._freeze(i, layer, head) for i in self.base}
        if not self.receivers:
            return self.subject.plain_score(self.ids, self.example, edits)
        captured: dict[int, Tensor] = {}
        receiving = sorted({receiver.layer for receiver in self.receivers})
        reading = {(self.into, i): lambda x, i=i: captured.update({i: x.clone()}) for i in receiving}
        self.subject.plain.logits(self.ids, {**edits, **reading})
        writing = {(self.into, i): self._receive(i, captured[i]) for i in receiving}
        return self.subject.plain_score(self.ids, self.example, writing)

    def _freeze(self, layer: int, sender: int, head: int) -> Callable[[Tensor], object]:
        def change(x: Tensor) -> None:
            x[self.rows] = self.base[layer][self.rows]
            if layer == sender:
                x[self.at, head] = self.source[layer][self.at, head]

        return change

    def _receive(self, layer: int, values: Tensor) -> Callable[[Tensor], object]:
        group = self.subject.plain.n_heads // values.shape[1]
        heads = {receiver.index // group for receiver in self.receivers if receiver.layer == layer}

        def change(x: Tensor) -> None:
            for head in heads:
                x[self.rows, head] = values[self.rows, head]

        return change
