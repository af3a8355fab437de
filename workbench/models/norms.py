"""Norms by what they do: gain, bias, centring and denominator are asked of the module itself, whatever its class.

A norm is ``gain · (x − mean) / scale + bias`` over the last axis, with the mean subtracted or not. Held at the scale of
a run it is linear in x, but for its bias: this is how contributions go through it.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

#: What an epsilon is called.
_EPSILONS = ("eps", "variance_epsilon", "epsilon", "layer_norm_epsilon", "norm_eps")
#: Beside the square of this an epsilon is nothing.
_LARGE = 100.0

_CENTRES: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
_IS_NORM: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def norm_scale(norm: nn.Module, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch 1"]:
    """What a norm divides by: ``sqrt(mean((x − mean)²) + eps)`` where it centres, else ``sqrt(mean(x²) + eps)``."""
    centred, eps = centres(norm, x), norm_eps(norm, x)
    x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    if centred:
        x = x - x.mean(-1, keepdim=True)
    return (x.pow(2).mean(-1, keepdim=True) + eps).sqrt()


def norm_eps(norm: nn.Module, like: Float[Tensor, "*batch width"] | None = None) -> float:
    """The norm's epsilon, whatever its attribute is called; measured where it has none, 0 where there is nothing to
    measure with.

    Args:
        like: something that the norm takes.
    """
    for name in _EPSILONS:
        if isinstance(value := getattr(norm, name, None), int | float):
            return float(value)
    if like is None:
        weight = next(norm.parameters(), None)
        width = getattr(norm, "normalized_shape", None) or (None if weight is None else weight.shape)
        if width is None:
            return 0.0
        like = torch.zeros(1, *width) if weight is None else torch.zeros_like(weight)[None]
    # gain · a / sqrt(a² + eps) at an a of the size of common epsilons' roots.
    small = 3e-3
    ratio = (_of_alternating(norm, like, small).double().norm() / _of_alternating(norm, like).double().norm()).item()
    return max(0.0, small**2 * (1 / ratio**2 - 1)) if ratio else 0.0


def centres(norm: nn.Module, like: Float[Tensor, "*batch width"]) -> bool:
    """Whether a norm subtracts the mean, asked with a constant; `like` is something that it takes."""
    if isinstance(norm, nn.LayerNorm):
        return True
    if norm not in _CENTRES:
        constant = torch.full_like(_one_row(like), 3.0)
        answer, gain = _without_bias(norm, constant), norm_gain(norm, like)
        _CENTRES[norm] = bool(answer.abs().max() < 1e-2 * gain.abs().max())
    return _CENTRES[norm]


def norm_bias(norm: nn.Module, like: Float[Tensor, "*batch width"]) -> Tensor:
    """What a norm adds: its output for zeros (0 for one without an epsilon, which has none there)."""
    return torch.nan_to_num(norm.forward(torch.zeros_like(_one_row(like))))


def norm_gain(norm: nn.Module, like: Float[Tensor, "*batch width"]) -> Tensor:
    """What a norm multiplies by, for one row of `like`."""
    return _of_alternating(norm, like) * _alternating(_one_row(like))


def numerator(norm: nn.Module, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
    """``gain · (x − mean)``: what a norm divides by its scale; linear in x."""
    gain = norm_gain(norm, x)
    return gain * (x - x.mean(-1, keepdim=True) if centres(norm, x) else x)


def held_factor(
    numerator: Float[Tensor, "*batch width"], output: Float[Tensor, "*batch width"], bias: Tensor
) -> Float[Tensor, "*batch 1"]:
    """One over the scale of a norm in a run, from its numerator and its output there."""
    up = torch.promote_types(output.dtype, torch.float32)
    numerator, output = numerator.to(up), (output - bias).to(up)
    return (output * numerator).sum(-1, keepdim=True) / (numerator * numerator).sum(-1, keepdim=True).clamp(min=1e-30)


def is_norm(module: nn.Module, x: Tensor) -> bool:
    """Whether a module without parts is a norm over the last axis of what it takes: found by its outputs, for x four
    times as large and for x turned round."""
    if module not in _IS_NORM:
        _IS_NORM[module] = _behaves_as_norm(module, x)
    return _IS_NORM[module]


@torch.no_grad()
def _behaves_as_norm(module: nn.Module, x: Tensor) -> bool:
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        return True
    if isinstance(module, nn.Linear | nn.Embedding | nn.Dropout) or any(True for _ in module.children()):
        return False
    if not x.is_floating_point() or x.ndim < 2 or x.shape[-1] < 4 or x.shape[-1] % 2:
        return False
    row = _one_row(x)
    try:
        up = torch.promote_types(row.dtype, torch.float32)
        probe = torch.arange(row.numel(), dtype=up, device=row.device).mul(2.4).cos().mul(3).reshape(row.shape)
        outputs = [_without_bias(module, (factor * probe).to(row.dtype)).to(up) for factor in (1, 4, -1)]
        if any(y.shape != row.shape for y in outputs):
            return False
        expected = norm_gain(module, x) * (probe - probe.mean(-1, keepdim=True) if centres(module, x) else probe)
        size = outputs[0].abs().max()
        tolerance = 2e-2 * size
        if not bool(size > 0) or not torch.isfinite(size):
            return False
        same = (outputs[1] - outputs[0]).abs().max() <= tolerance
        odd = (outputs[2] + outputs[0]).abs().max() <= tolerance
        factor = held_factor(expected, outputs[0], torch.zeros((), device=row.device))
        return bool(same and odd and (expected * factor - outputs[0]).abs().max() <= tolerance)
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError):
        return False


def _one_row(like: Tensor) -> Tensor:
    """The first entry of the first axis, along which norms treat all alike; a vector is that already."""
    return like[:1] if like.ndim > 1 else like


def _alternating(like: Tensor) -> Tensor:
    """1 and −1 in turn: mean 0, mean square 1."""
    probe = torch.ones_like(like)
    probe[..., 1::2] = -1
    return probe


def _of_alternating(norm: nn.Module, like: Tensor, size: float = _LARGE) -> Tensor:
    return _without_bias(norm, size * _alternating(_one_row(like)))


def _without_bias(norm: nn.Module, x: Tensor) -> Tensor:
    return norm.forward(x) - norm_bias(norm, x)
