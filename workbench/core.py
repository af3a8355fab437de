"""The words of the workbench as plain values: heads, sites and edits.

Nothing here imports torch, so ``data`` and the command line may use these types for free.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from workbench import arguments
from workbench.errors import UnknownName

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

EDIT_KINDS = ("patch", "zero", "mean", "resample", "scale", "add", "pattern", "identity")
#: Other words for them, as papers have them.
_OTHER_WORDS: dict[str, str] = dict.fromkeys(("ablate", "ablation", "knockout", "knock_out"), "zero or mean")
_OTHER_WORDS |= {"zero_ablate": "zero", "mean_ablate": "mean", "resample_ablate": "resample", "steer": "add"}
#: Those that take their values from other runs.
RECORDED_KINDS = ("patch", "mean", "resample")
#: Those that edit attention rows.
PATTERN_KINDS = ("pattern", "identity")
#: Kind → the argument that it takes and no other kind does, what that is, and what the kind does with it.
ARGUMENT_OF = {
    "scale": ("factor", "a number", "multiplies by it"),
    "add": ("vector", "a tensor of one position's shape", "adds it"),
    "pattern": ("attend_to", "positions", "forces attention onto them"),
    "identity": ("u", "a number from 0 to 1", "moves a row so far"),
}


#: The two passes of classifier-free guidance, and what pictures and positions call them; without guidance there is the
#: first alone.
PASSES = {"label": "with the class", "none": "without the class"}
#: Between a model's name and its operators.
WITH = " with "


def full_name(name: Any, operators: Mapping[Any, Any] | None) -> str:
    """The name, and the operators where there are any (by layer, as `HookedModel.operators` and a result's ``info``
    have them): ``"tiny with 0-1=lightning; 3=softmax"``."""
    layers: dict[str, list[int]] = {}
    for layer, operator in (operators or {}).items():
        layers.setdefault(str(operator), []).append(int(layer))
    parts = [f"{_ranges(sorted(numbers))}={operator}" for operator, numbers in layers.items()]
    return f"{name}{WITH}{'; '.join(parts)}" if parts else str(name)


def _ranges(numbers: list[int]) -> str:
    """``[0, 1, 2, 5]`` as ``0-2,5``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


@dataclass(frozen=True, order=True)
class Head:
    """One attention head, written ``layer.index`` as papers do: ``str(Head(9, 6)) == "9.6"``.

    Examples:
        >>> head = wb.Head(9, 6)
        >>> str(head), head.layer
        ('9.6', 9)
        >>> wb.Head.parse("9.6") == wb.Head.parse("L9H6") == head
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
        """``Head.parse("9.6") == Head(9, 6)``; also as ``L9H6``, ``L9.H6`` or ``a9.h6``. Raises `UsageError` on
        anything else."""
        return parse_head("text", text)


def example_head(n_layers: int = 2, n_heads: int = 4) -> Head:
    """The head that messages have as an example: 1.3, or the nearest one that the model has."""
    return Head(min(1, n_layers - 1), min(3, n_heads - 1))


def written_both_ways(head: Head) -> str:
    """``1.3 or L1H3``, as a head may be typed."""
    return f"{head} or L{head.layer}H{head.index}"


def at_positions(info: Mapping[str, Any], axes: Collection[str]) -> str:
    """Where a sweep's edits are made, from what its result reports: ``" at S2, end"`` where only some positions are
    edited, all of them at once; empty for every position, and where positions are an axis.

    >>> at_positions({"positions": ["S2", "end"]}, ["head"]), at_positions({"positions": "with the class"}, ["head"])
    (' at S2, end', ' in the pass with the class')
    """
    positions = info.get("positions")
    if positions is None or positions == "all" or "position" in axes:
        return ""
    return _at(", ".join(map(str, positions)) if isinstance(positions, list | tuple) else positions)


def _at(position: Any) -> str:
    return f" in the pass {position}" if position in PASSES.values() else f" at {position}"


def in_steps(info: Mapping[str, Any], axes: Collection[str]) -> str:
    """The sampling steps in which a sweep makes each edit, from what its result reports: ``"in all 4 steps at once"``,
    ``"in step 0"``; empty for models with one step, and where steps are an axis."""
    n_steps, steps = info.get("n_steps", 1), list(info.get("steps") or [])
    if n_steps == 1 or "step" in axes or not steps:
        return ""
    if len(steps) == n_steps:
        return f"in all {n_steps} steps at once"
    return f"in step {steps[0]}" if len(steps) == 1 else f"in steps {', '.join(map(str, steps))} at once"


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


#: ``9.6`` as in papers, ``L9H6`` as in TransformerLens's figures, ``a9.h6`` as in names of edges.
_HEAD = re.compile(r"(?:([0-9]+)\.|[LA]([0-9]+)[. ]?H)([0-9]+)", re.IGNORECASE)


def parse_head(name: str, text: Any) -> Head:
    """A head from ``"9.6"`` or ``"L9H6"``.

    Raises:
        UsageError: anything else, by the `name` of the argument that it was given for.
    """
    if not isinstance(text, str):
        why, do = "9.1 and 9.10 are the same number", "Write it in quotes, or read the column as strings."
        raise arguments.refusal(name, text, "a string such as '9.10'", do, because=why)
    match = _HEAD.fullmatch(text.strip())
    numbers = [] if match is None else [number for number in match.groups() if number]
    if not numbers or len("".join(numbers)) >= 10:
        raise arguments.refusal(name, text, "a head", f"Write layer.head, such as {written_both_ways(example_head())}.")
    return Head(*map(int, numbers))


def parse_heads(name: str, heads: Any) -> list[Head]:
    """Heads written as ``Head(9, 6)``, ``"9.6"`` or ``(9, 6)``.

    Raises:
        UsageError: anything else, by the `name` of the argument that they were given for.
    """
    result = []
    for head in arguments.sequence(name, heads, "a list of heads"):
        if isinstance(head, tuple) and len(head) == 2:
            head = Head(*(arguments.whole_number(name, number, at_least=0) for number in head))
        is_text = isinstance(head, str)
        result.append(parse_head(name, head) if is_text else arguments.instance(name, head, Head, "a list of wb.Head"))
    return result


@dataclass(frozen=True)
class Edit:
    """What is done at one site.

    Attributes:
        site: a short name of `SITES` (``"z"``), or ``attn.hook_q`` and the like for raw projections.
        layer: the layer, counted from 0.
        head: the head (the KV head for ``k`` and ``v``); ``None`` edits every head.
        position: an index, a named position of the task (``"S2"``, ``"end"``), or ``None`` for all positions.
            For ``pattern`` and ``identity`` it is the destination row.
        kind: ``patch`` (from the other run of the pair), ``zero``, ``mean``, ``resample``, ``scale``
            (``x · factor``), ``add`` (``x + vector``), ``pattern`` (a row of weights), ``identity`` (row i becomes
            ``(1 − u) · row + u · onehot(i)``), or a callable ``f(activation) -> activation`` that keeps the shape
            (applied per prompt).
        attend_to: for ``pattern``: the positions (indices or names) that share the row uniformly, or a mapping
            from position to weight.
        step: the sampling step or steps (diffusion models); ``None`` edits every step.
        factor: for ``scale``: any finite number. 0 is ``zero``.
        vector: for ``add``: a tensor of one position's shape at that site: ``[d_head]`` with a head, ``[head, d_head]``
            or ``[d_model]`` without; a copy is stored.
        u: for ``identity``: from 0 (the row as it is) to 1 (each position sees itself alone, so that z = v).

    Raises:
        UnknownName: no such site or kind.
        UsageError: an argument of another type, one that belongs to another kind, or one that the kind needs.

    Examples:
        >>> edit = wb.Edit("z", 1, head=3, position="S2", kind="zero")
        >>> edit.site, edit.layer, edit.head
        ('z', 1, 3)
        >>> wb.run(wb.load("tiny"), wb.task("ioi", n=6), [edit]).scores().shape
        torch.Size([6])
        >>> wb.Edit("pattern", 1, head=3, kind="identity", u=0.5).u
        0.5
    """

    site: str
    layer: int
    head: int | None = None
    position: int | str | None = None
    kind: str | Callable[[Any], Any] = "patch"
    attend_to: tuple[int | str, ...] | Mapping[int | str, float] | None = None
    step: int | tuple[int, ...] | None = None
    factor: float | None = None
    vector: Any = field(default=None, compare=False)
    u: float | None = None
    #: A hash of the vector's numbers and precision: what compares and names it.
    vector_hash: str = field(default="", init=False, repr=False)

    def __post_init__(self) -> None:
        put = object.__setattr__
        if not isinstance(self.site, str) or (self.site not in SITES and "hook_" not in self.site):
            arguments.one_of("site", self.site, SITES, do="A hook name inside a block is a site too.")
        check_site("site", self.site, "layer={}")
        put(self, "layer", arguments.whole_number("layer", self.layer, at_least=0))
        put(self, "head", arguments.whole_number("head", self.head, at_least=0, optional=True))
        put(self, "position", arguments.position("position", self.position, optional=True))
        put(self, "step", _steps("step", self.step))
        if not callable(self.kind):
            check_edit_kind("kind", self.kind, EDIT_KINDS)
        else:
            check_edit_function("kind", self.kind)
        if self.head is not None and self.site in SITES and self.site not in HEAD_SITES:
            raise arguments.refusal("head", self.head, "None", because=f"the site {self.site!r} has no heads")
        for kind, (name, expected, use) in ARGUMENT_OF.items():
            value = getattr(self, name)
            if value is not None:
                put(self, name, checked_argument(name, value))
            if self.kind == kind and value is None:
                raise arguments.refusal(name, None, expected, because=f"kind={kind!r} {use}")
            if self.kind != kind and value is not None:
                raise arguments.refusal(name, value, "None", because=f"only kind={kind!r} uses it")
        if self.vector is not None:
            put(self, "vector_hash", vector_hash(self.vector))
        check_kind_of_site(self.kind, self.site, "kind")


def check_edit_kind(name: str, value: Any, kinds: Collection[str], do: str = "A function works too.") -> None:
    """Refuse what is none of the kinds; of words that papers have for one, with the kind.

    Raises:
        UnknownName, UsageError: it is none.
    """
    word = value.lower().replace("-", "_").replace(" ", "_") if isinstance(value, str) else ""
    intended = [kind for kind in _OTHER_WORDS.get(word, "").split(" or ") if kind in kinds]
    if intended:
        do = f"Use {' or '.join(map(repr, intended))}."  # the nearest by spelling would be others
        raise UnknownName("edit", value, (), do, argument=name, expected=arguments.listing(kinds))
    arguments.one_of(name, value, kinds, do=do)


def describe_edit(edit: Edit) -> str:
    """An edit in words: ``"zero z 1.2 at S2"``, ``"patch z 1.2 in steps 2, 3"``."""
    kind = edit.kind if isinstance(edit.kind, str) else getattr(edit.kind, "__name__", "function")
    where = f"{edit.layer}" if edit.head is None else str(Head(edit.layer, edit.head))
    where += "" if edit.position is None else _at(edit.position)
    if edit.step is not None:
        steps = (edit.step,) if isinstance(edit.step, int) else edit.step
        where += f" in step{'s' * (len(steps) > 1)} {', '.join(map(str, steps))}"
    numbers = [f"{number:g}" for number in (edit.factor, edit.u) if number is not None]
    return " ".join([kind, *numbers, edit.site, where])


def check_kind_of_site(kind: Any, site: str, name: str) -> None:
    """Refuse an edit that has no meaning at a site; `name` is the argument that the kind was given for.

    Raises:
        UsageError: attention rows edited at another site, or a vector added to attention rows or scores.
    """
    if kind in PATTERN_KINDS and site != "pattern":
        raise arguments.refusal("site", site, "'pattern'", because=f"{name}={kind!r} edits attention rows")
    if kind == "add" and site.endswith(("pattern", "hook_attn_scores")):
        do = "Give a function of the activation."
        raise arguments.refusal(
            "site", site, "a site with a vector at each position", do, because=f"{name}='add' adds one there"
        )


def checked_argument(name: str, value: Any) -> Any:
    """The value of an argument that belongs to one kind of edit (`ARGUMENT_OF`).

    Raises:
        UsageError: something else.
    """
    if name == "attend_to":
        return attended(value)
    if name == "vector":
        return _vector(name, value)
    return arguments.number(name, value, at_least=0, at_most=1) if name == "u" else arguments.number(name, value)


def vector_hash(vector: Any) -> str:
    """A hash of a tensor's numbers, shape and precision."""
    return blake2b(repr((str(vector.dtype), vector.tolist())).encode(), digest_size=20).hexdigest()


def _vector(name: str, value: Any) -> Any:
    """A copy of a tensor of finite numbers; torch itself is not imported here."""
    expected = "a tensor of one position's shape, [d_head], [head, d_head] or [d_model]"
    if isinstance(value, type) or not all(hasattr(value, method) for method in ("is_floating_point", "detach")):
        raise arguments.refusal(name, value, expected)
    if not value.is_floating_point() or value.ndim not in (1, 2) or not value.numel():
        raise arguments.refusal(name, value, expected)
    if not all(math.isfinite(number) for number in value.flatten().tolist()):
        raise arguments.refusal(name, value, "finite numbers")
    return value.detach().clone()


def _steps(name: str, value: Any) -> int | tuple[int, ...] | None:
    """None, a step, or several."""
    if not hasattr(value, "__len__"):
        return arguments.whole_number(name, value, at_least=0, optional=True)
    entries = arguments.sequence(name, value, "a sampling step, several of them, or None for all")
    if not entries:
        raise arguments.refusal(name, value, "at least one step", "Leave it out for all of them.")
    steps = tuple(arguments.whole_number(name, entry, at_least=0) for entry in entries)
    arguments.each_once(name, value, steps, "step")
    return steps


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
