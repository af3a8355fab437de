"""What the operators of a model's layers mean for its runs, and how its attention was computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from workbench.attention.operator import BoundOperator
from workbench.models.kernel_notes import OWN, kernel_of

if TYPE_CHECKING:
    import pandas as pd


class LayerOperators:
    """Mixed into `workbench.models.hooked.HookedModel`."""

    operators: dict[int, BoundOperator]
    attentions: list[nn.Module]
    attention_implementation: str

    @property
    def position_keeps_earlier(self) -> bool:
        """Whether runs may leave out the positions before an edit: every swapped operator leaves these alone, by
        position or by block, and computes the later ones without them."""
        bound = self.operators.values()
        return all(x.causal in ("model", "token", "block") and x.operator.resumes != "no" for x in bound)

    @property
    def why_never_resumed(self) -> str:
        """Why runs of this model are never resumed, as the end of a sentence; empty where they may be."""
        for operator in self.operators.values():
            if "token embeddings" in operator.declared("needs"):
                return f"is not possible, as {operator} reads the token embeddings in its layers"
        return ""

    def first_changed(self, position: int) -> int:
        """The first position that a change at a position can reach: that itself, or the first of its block where an
        operator attends to all of a block (`workbench.attention.operator.Operator.block`)."""
        sizes = {operator.block for operator in self.operators.values()}
        while (first := min((position // size * size for size in sizes), default=position)) < position:
            position = first
        return position

    def kernels(self) -> pd.DataFrame:
        """How each layer's attention was computed when it last ran: ``layer, kernel, why``, a row a layer.

        The kernel is the model's own attention function by name, the operator that was swapped in (with the package
        whose GPU kernel computed it, ``lightning, fla``), or the explicit form, which only layers need whose pattern is
        edited (of the heads that are edited, where the edit says so), or which resume under a mask.

        Examples:
            >>> model = wb.load("tiny")
            >>> _ = model.run_with_hooks("So Mary", fwd_hooks=[("blocks.1.attn.hook_pattern", lambda x, hook: 0 * x)])
            >>> model.kernels()["kernel"].tolist()
            ['sdpa', 'explicit']
        """
        import pandas as pd

        notes = [kernel_of(module) for module in self.attentions]
        rows = [(i, self.attention_implementation if name == OWN else name, why) for i, (name, why) in enumerate(notes)]
        return pd.DataFrame(rows, columns=pd.Index(["layer", "kernel", "why"]))
