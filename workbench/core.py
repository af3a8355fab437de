"""The words of the workbench as plain values: heads, sites and edits.

Nothing here imports torch, so ``data`` and the command line may use these types for free.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from workbench import arguments

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
    """One attention head, written ``layer.index`` as papers do: ``str(Head(9, 6)) == "9.6"``.

    Examples:
        >>> head = wb.Head(9, 6)
        >>> str(head), head.layer
        ('9.6', 9)
        >>> wb.Head.parse("9.6") == head
        True
    """

    layer: int
    index: int

    def __post_init__(self) -> None:
        for name in ("layer", "index"):
            object.__setattr__(self, name, arguments.whole_number(name, getattr(self, name), at_least=0))

    def __str__(self) -> str:
        return f"{self.layer}.{self.index}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """``Head.parse("9.6") == Head(9, 6)``; raises `UsageError` on anything else."""
        return parse_head("text", text)


def at_positions(info: Mapping[str, Any], axes: Collection[str]) -> str:
    """Where a sweep's edits are made, from what its result reports: ``" at S2, end"`` where only some positions are
    edited, all of them at once; empty for every position, and where positions are an axis."""
    positions = info.get("positions")
    if positions is None or positions == "all" or "position" in axes:
        return ""
    return f" at {', '.join(map(str, positions)) if isinstance(positions, list | tuple) else positions}"


def base_or_direction(info: Mapping[str, Any], has_source: bool) -> str:
    """``"denoise"`` or ``"noise"`` where the values of a sweep come from the other run; else the run that is edited,
    ``"clean run"``, since other edits have no direction. Empty where it is not known."""
    direction = str(info.get("direction") or "")
    if has_source or not direction:
        return direction
    return "clean run" if direction == "noise" else "corrupt run"


def check_site(name: str, site: str, layers: str) -> None:
    """Refuse TransformerLens's full name of a hook, ``blocks.1.attn.hook_z``: the layer is an argument of its own.

    Args:
        layers: what the layer is given by, such as ``layers=[{}]``.
    """
    if match := re.fullmatch(r"blocks\.(\d+)\.(.+)", site):
        layer, hook = match.groups()
        short = next((short for short, part in SITES.items() if part == hook), hook)
        value = [short] if name == "sites" else short
        raise arguments.refusal(
            name, site, "a site without its layer", f"Use {name}={value!r}, {layers.format(layer)}."
        )


def parse_head(name: str, text: Any) -> Head:
    """A head from ``"9.6"``.

    Raises:
        UsageError: anything else, by the `name` of the argument that it was given for.
    """
    if not isinstance(text, str):
        why, do = "9.1 and 9.10 are the same number", "Write it in quotes, or read the column as strings."
        raise arguments.refusal(name, text, "a string such as '9.10'", do, because=why)
    layer, dot, index = text.strip().partition(".")
    if not (dot and layer.isdecimal() and index.isdecimal() and len(layer + index) < 10):
        raise arguments.refusal(name, text, "a head", "Write layer.head, such as '9.6'.")
    return Head(int(layer), int(index))


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

    Examples:
        >>> edit = wb.Edit("z", 1, head=3, position="S2", kind="zero")
        >>> edit.site, edit.layer, edit.head
        ('z', 1, 3)
        >>> wb.run(wb.load("tiny"), wb.task("ioi", n=6), [edit]).scores().shape
        torch.Size([6])
    """

    site: str
    layer: int
    head: int | None = None
    position: int | str | None = None
    kind: str | Callable[[Any], Any] = "patch"
    attend_to: tuple[int | str, ...] | Mapping[int | str, float] | None = None
    step: int = 0

    def __post_init__(self) -> None:
        put = object.__setattr__
        if not isinstance(self.site, str) or (self.site not in SITES and "hook_" not in self.site):
            arguments.one_of("site", self.site, SITES, do="A hook name inside a block is a site too.")
        check_site("site", self.site, "layer={}")
        put(self, "layer", arguments.whole_number("layer", self.layer, at_least=0))
        put(self, "head", arguments.whole_number("head", self.head, at_least=0, optional=True))
        put(self, "position", arguments.position("position", self.position, optional=True))
        put(self, "step", arguments.whole_number("step", self.step, at_least=0))
        if not callable(self.kind):
            arguments.one_of("kind", self.kind, EDIT_KINDS, do="A function of the activation is a kind too.")
        else:
            check_edit_function("kind", self.kind)
        if self.head is not None and self.site in SITES and self.site not in HEAD_SITES:
            raise arguments.refusal("head", self.head, "None", because=f"the site {self.site!r} has no heads")
        if self.attend_to is not None:
            put(self, "attend_to", attended(self.attend_to))
        if self.kind == "pattern" and self.attend_to is None:
            raise arguments.refusal("attend_to", None, "positions", because="kind='pattern' forces attention onto them")
        if self.kind != "pattern" and self.attend_to is not None:
            raise arguments.refusal("attend_to", self.attend_to, "None", because="only kind='pattern' uses it")
        if self.kind == "pattern" and self.site != "pattern":
            raise arguments.refusal("site", self.site, "'pattern'", because="kind='pattern' edits this site")


def check_edit_function(name: str, function: Callable[..., Any]) -> None:
    """Refuse a function edit that does not take the activation alone, such as TransformerLens's ``f(z, hook)``."""
    what = "a function of the activation alone"
    arguments.function_of(name, function, 1, what, do="Write f(activation); TransformerLens's hook is not passed.")


def attended(attend_to: Any) -> tuple[int | str, ...] | Mapping[int | str, float]:
    """Positions that share a pattern's row, or a mapping from position to weight, checked.

    Raises:
        UsageError: something else.
    """
    what = "positions, or a mapping from position to weight"
    if isinstance(attend_to, Mapping):
        for place, weight in attend_to.items():
            arguments.position("attend_to", place)
            arguments.number(f"attend_to[{place!r}]", weight)
        places: tuple[Any, ...] = tuple(attend_to)
    elif isinstance(attend_to, str) or not hasattr(attend_to, "__len__"):
        places = (attend_to,)
    else:
        places = arguments.sequence("attend_to", attend_to, what)
    if not places:
        raise arguments.refusal("attend_to", attend_to, f"{what}, at least one of them")
    places = tuple(arguments.position("attend_to", place) for place in places)
    arguments.each_once("attend_to", attend_to, places, "position")
    return attend_to if isinstance(attend_to, Mapping) else places
