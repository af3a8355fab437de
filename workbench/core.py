"""The words of the workbench as plain values: heads, sites and edits.

Nothing here imports torch, so ``data`` and the command line may use these types for free.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from workbench.errors import UnknownName, UsageError

#: Short names of the sites that can be recorded and edited, with TransformerLens's classic hook name inside a block.
#: ``q`` and ``k`` are the rotated ones, as attention receives them (see `hook_name`).
SITES: Mapping[str, str] = {
    "resid_pre": "hook_resid_pre",
    "resid_mid": "hook_resid_mid",
    "resid_post": "hook_resid_post",
    "attn_out": "hook_attn_out",
    "mlp_out": "hook_mlp_out",
    "q": "attn.hook_rot_q",
    "k": "attn.hook_rot_k",
    "v": "attn.hook_v",
    "z": "attn.hook_z",
    "pattern": "attn.hook_pattern",
}

#: Sites with a head axis: ``[..., pos, head, d_head]``, or ``[..., head, dest, src]`` for the pattern.
HEAD_SITES = frozenset({"q", "k", "v", "z", "pattern"})
#: Sites whose head axis counts key/value heads.
KV_SITES = frozenset({"k", "v"})

EDIT_KINDS = ("patch", "zero", "mean", "resample", "pattern")
#: Those that take their values from other runs.
RECORDED_KINDS = ("patch", "mean", "resample")


@dataclass(frozen=True, order=True)
class Head:
    """One attention head, written ``layer.index`` as papers do: ``str(Head(9, 6)) == "9.6"``."""

    layer: int
    index: int

    def __str__(self) -> str:
        return f"{self.layer}.{self.index}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """``Head.parse("9.6") == Head(9, 6)``; raises `UsageError` on anything else.

        A number is refused: ``9.10`` and ``9.1`` are two heads and one number.
        """
        if not isinstance(text, str):
            raise UsageError(
                f"head={text!r}: expected text such as '9.10', because 9.1 and 9.10 are one number. Write it in "
                "quotes, or read the column as text."
            )
        try:
            layer, index = text.strip().split(".")
            return cls(int(layer), int(index))
        except ValueError:
            raise UsageError(f"{text!r} is not a head: write layer.head, such as 9.6.") from None


@dataclass(frozen=True)
class Edit:
    """What is done at one site.

    Attributes:
        site: a short name of `SITES` (``"z"``), or ``attn.hook_q`` and the like for raw projections.
        layer: the layer, counted from 0.
        head: the head (the KV head for ``k`` and ``v``); ``None`` edits every head.
        position: an index, a named position of the task (``"S2"``, ``"end"``), or ``None`` for all positions.
            For ``pattern`` it is the destination row.
        kind: ``patch`` (from the other run of the pair), ``zero``, ``mean``, ``resample``, ``pattern``, or a
            callable ``f(activation) -> activation`` that keeps the shape (applied per prompt).
        attend_to: for ``pattern``: the positions (indices or names) that share the row uniformly, or a mapping
            from position to weight.
        step: the sampling step (diffusion models only).
    """

    site: str
    layer: int
    head: int | None = None
    position: int | str | None = None
    kind: str | Callable[[Any], Any] = "patch"
    attend_to: tuple[int | str, ...] | Mapping[int | str, float] | None = None
    step: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.attend_to, list):
            object.__setattr__(self, "attend_to", tuple(self.attend_to))
        if isinstance(self.attend_to, str | int):
            object.__setattr__(self, "attend_to", (self.attend_to,))
        if isinstance(self.kind, str) and self.kind not in EDIT_KINDS:
            raise UnknownName("edit", self.kind, EDIT_KINDS)
        if self.site not in SITES and "hook_" not in self.site:
            raise UnknownName("site", self.site, SITES)
        if self.head is not None and self.site in SITES and self.site not in HEAD_SITES:
            raise UsageError(
                f"Site {self.site!r} has no heads, so head={self.head} has no meaning. Leave the head out."
            )
        if (self.kind == "pattern") != (self.attend_to is not None):
            raise UsageError("attend_to belongs to kind='pattern', and kind='pattern' needs it.")
        if self.kind == "pattern" and self.site != "pattern":
            raise UsageError(f"kind='pattern' edits the site 'pattern', not {self.site!r}.")
