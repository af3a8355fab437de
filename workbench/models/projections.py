"""The matrix and the bias of a projection, of the map that runs: an adapter that is not merged, a quantised weight or a
foreign hook changes what a projection computes and not its ``weight``."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from workbench.errors import UnsupportedModel
from workbench.models.fingerprint import Fingerprint, NoFingerprint
from workbench.models.interference import has_foreign_hooks, has_other_forward
from workbench.models.placement import device_of
from workbench.models.precision import TOLERANCE
from workbench.models.tensor_hash import sample

#: Maps that are remembered: those of a layer, so that its heads do not evaluate them again.
REMEMBERED = 8
#: Rows that are sent through a module at once.
_ROWS = 512

Map = tuple[Float[Tensor, "d_out d_in"], Float[Tensor, "d_out"]]
_maps: OrderedDict[int, tuple[weakref.ref[nn.Module], Any, Map]] = OrderedDict()
_lock = threading.Lock()


def projection(module: nn.Module) -> Float[Tensor, "d_out d_in"]:
    """The matrix W of a projection that computes ``W x + b`` for each position.

    That of a plain ``nn.Linear`` or ``Conv1D`` (which stores its transpose) is its own weight, not a copy. Any other
    module is evaluated on the unit vectors, ``W e_i = f(e_i) − f(0)``, and has to be linear on random vectors: an
    adapter counts as it is now (active, scaled, merged or off). Such a matrix has no gradient.

    Raises:
        UnsupportedModel: the module is not linear, or does not say how wide its input is.
    """
    if is_plain(module):
        weight: Any = module.weight
        return weight.T if isinstance(module, Conv1D) else weight
    return _evaluated(module)[0].clone()  # whoever writes into it changes no other reader's


def bias_of(module: nn.Module | None, like: Tensor) -> Float[Tensor, "d_out"]:
    """The bias b of a projection, ``f(0)``; zeros as wide as `like` where it has none, or is missing.

    Raises:
        UnsupportedModel: as `projection`.
    """
    if module is None or is_plain(module):
        bias: Any = getattr(module, "bias", None)
        return torch.zeros(like.shape[-1], dtype=like.dtype, device=like.device) if bias is None else bias
    return _evaluated(module)[1].clone()


def embedding(module: nn.Module, n: int) -> Float[Tensor, "n d_model"]:
    """The row of each of `n` tokens: the weight of an ``nn.Embedding``, else what the module gives for each id (an
    adapter)."""
    if (
        isinstance(module, nn.Embedding)
        and type(module.weight) in (Tensor, nn.Parameter)
        and not has_other_forward(module)
    ):
        return module.weight
    with torch.no_grad():
        return module(torch.arange(n, device=_float_of(module).device)[None])[0]


def is_plain(module: nn.Module) -> bool:
    """Whether the module computes ``x Wᵀ + b`` with its ``weight`` and ``bias`` and nothing else."""
    if type(module).forward not in (nn.Linear.forward, Conv1D.forward):
        return False
    if has_other_forward(module) or has_foreign_hooks(module):
        return False
    weight: Any = module.weight
    return type(weight) in (Tensor, nn.Parameter) and weight.is_floating_point()


def _evaluated(module: nn.Module) -> Map:
    """The map of a module, from memory while nothing of it has changed."""
    state = _state(module)
    with _lock:
        known = _maps.get(id(module))
        if known is not None and known[0]() is module and state is not None and known[1] == state:
            _maps.move_to_end(id(module))
            return known[2]
    evaluated = _evaluate(module)
    with _lock:
        _maps[id(module)] = weakref.ref(module), state, evaluated
        _maps.move_to_end(id(module))
        while len(_maps) > REMEMBERED:
            _maps.popitem(last=False)
    return evaluated


def _state(module: nn.Module) -> Any:
    """What the map depends on: settings and tensors; None where that cannot be told."""
    try:
        fingerprint = Fingerprint(module)
    except NoFingerprint:
        return None
    hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
    return fingerprint.digest, tuple(map(id, hooks)), sample(fingerprint.tensors, 8)


@torch.no_grad()
def _evaluate(module: nn.Module) -> Map:
    d_in, like = _input_width(module), _float_of(module)
    # Past the module's own call only where nobody else has a hook: a hook of a run in progress must not see this.
    call: Any = module if has_foreign_hooks(module) else module.forward
    try:
        zero = call(like.new_zeros(1, 1, d_in))[0, 0]
        matrix = torch.empty(len(zero), d_in, dtype=zero.dtype, device=zero.device)
        for start in range(0, d_in, _ROWS):
            unit = torch.eye(d_in, dtype=like.dtype, device=like.device)[start : start + _ROWS]
            matrix[:, start : start + len(unit)] = (call(unit[:, None])[:, 0] - zero).T
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(3, 4, d_in, generator=generator).to(like) * like.new_tensor([0.1, 1, 10])[:, None, None]
        actual, expected = call(x), x.to(matrix) @ matrix.T + zero
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise UnsupportedModel(f"{_no_matrix(module)}: it fails on unit vectors ({error}).") from error
    for x_actual, x_expected in zip(actual, expected, strict=True):
        limit = TOLERANCE.get(actual.dtype, 1e-4) * x_expected.abs().max()
        if not bool(((x_actual - x_expected).abs() <= limit).all()):
            raise UnsupportedModel(
                f"{_no_matrix(module)}: its output for random inputs differs from the matrix of its outputs for unit "
                f"vectors by {float((x_actual - x_expected).abs().max()):.2g}. What is computed from weights cannot be "
                "had for this model; sweeps, recordings and scores from activations can."
            )
    return matrix, zero


def _no_matrix(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__} is no linear map"


def _input_width(module: nn.Module) -> int:
    for part in module.modules():  # an adapter wraps the module that knows it
        for name in ("in_features", "infeatures", "nx"):
            if isinstance(width := getattr(part, name, None), int):
                return width
        weight = getattr(part, "weight", None)
        if isinstance(weight, Tensor) and weight.ndim == 2:
            return int(weight.shape[0] if isinstance(part, Conv1D) else weight.shape[1])
    raise UnsupportedModel(
        f"{type(module).__module__}.{type(module).__qualname__} does not say how wide its input is (in_features), so "
        "that its matrix cannot be had."
    )


def _float_of(module: nn.Module) -> Tensor:
    """A tensor with the device and the precision of the module's inputs."""
    tensors = [*module.parameters(), *module.buffers()]
    dtype = next((x.dtype for x in tensors if x.is_floating_point()), torch.get_default_dtype())
    return torch.zeros((), dtype=dtype, device=device_of(module))
