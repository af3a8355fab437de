"""Whether weights are those that a configuration asks for, and if not, the first tensor that differs."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from workbench.errors import UntrustedModel

Shape = Sequence[int]
#: The number of a layer in a name.
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


def check_shapes(shell: Any, shapes: Mapping[str, tuple[int, ...]], where: object) -> None:
    """Refuse weights that are not exactly those of a model, by the first tensor that differs.

    Raises:
        UntrustedModel: one is missing, of another shape, or not the model's.
    """
    own = {name: tuple(x.shape) for name, x in shell.state_dict().items()}
    for name in [*own, *(name for name in shapes if name not in own)]:
        if shapes.get(name) != own.get(name):
            raise _differs(where, name, shapes.get(name), own.get(name))


def check_report(model: Any, report: Mapping[str, Any], where: object, is_part: bool = False) -> None:
    """Refuse a model some of whose parameters transformers had to invent, or whose weights have more layers than its
    configuration, by the first tensor that differs. Of other tensors that are not the model's there is a warning.

    Args:
        report: what transformers says of loading.
        is_part: the model may be a part of what the weights are of, such as CLIP's vision tower: no warning.

    Raises:
        UntrustedModel: a tensor is missing, of another shape, or of a further layer.
    """
    own = {name: tuple(x.shape) for name, x in model.state_dict().items()}
    shapes = {str(name): (actual, expected) for name, actual, expected in report.get("mismatched_keys", ())}
    missing = set(map(str, report.get("missing_keys", ())))
    for name in [*own, *sorted((missing | set(shapes)) - set(own))]:
        if name in shapes:
            raise _differs(where, name, *shapes[name])
        if name in missing:
            raise _differs(where, name, None, own.get(name))
    if messages := report.get("error_msgs"):
        raise UntrustedModel(f"{where}: the weights do not match the configuration: {' '.join(str(messages).split())}")
    unexpected = sorted(map(str, report.get("unexpected_keys", ())))
    for name in unexpected:
        if _is_of_a_further_layer(name, own):
            raise UntrustedModel(f"{where}: the weights have {name}, and the configuration says none.")
    if unexpected and not is_part:
        more, it = (f" and {len(unexpected) - 1} more", "they are") if len(unexpected) > 1 else ("", "it is")
        text = f"{where}: the weights have {unexpected[0]}{more}, which the model does not have: {it} not used."
        warnings.warn(text, stacklevel=2)


def _is_of_a_further_layer(name: str, own: Collection[str]) -> bool:
    """Whether the name is that of a parameter in a layer beyond the last one."""
    return any(
        int(match.group()) > 0 and f"{name[: match.start()]}0{name[match.end() :]}" in own
        for match in _NUMBER.finditer(name)
    )


def _differs(where: object, name: str, actual: Shape | None, expected: Shape | None) -> UntrustedModel:
    shapes = ["none" if shape is None else list(shape) for shape in (actual, expected)]
    return UntrustedModel(f"{where}: the weights have {name} {shapes[0]}, and the configuration says {shapes[1]}.")
