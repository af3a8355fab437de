"""GPU kernels of other packages, which compute z of an operator where they are installed (the extra ``kernels``):
flash-linear-attention's of recurrent operators, and NATTEN's of neighbourhoods.

An operator that has one says so (`workbench.attention.operator.Operator.kernel`), and `BoundOperator.z` uses it for
whole runs in half precision without gradients. Everything else is the operator's own form: float32, in which
flash-linear-attention multiplies with the ten-bit mantissas of TF32 or refuses; rows that resume from a state;
gradients.

What is tested is what a kernel is called with, against the packages' own plain code. **The kernels themselves have not
been run here, as this takes a GPU**; ``python -m tests.benchmarks.on_gpu`` compares them with the operators' matrices.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from types import ModuleType
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.attention.call import Call

Package = Literal["fla", "natten"]

#: By the name under which it is imported: the distribution that the extra installs, and the module with the kernels.
DISTRIBUTIONS: dict[Package, str] = {"fla": "fla-core", "natten": "natten"}
MODULES: dict[Package, str] = {"fla": "fla.ops", "natten": "natten"}
EXTRA = "pip install 'attention-workbench[kernels]'"
#: Precisions in which a kernel rounds no more than the model does. float16 would overflow in a state that is not
#: normalised.
PRECISIONS: dict[Package, tuple[torch.dtype, ...]] = {
    "fla": (torch.bfloat16,),
    "natten": (torch.bfloat16, torch.float16),
}
#: Widths of heads that all kernels of a package take.
WIDTHS: dict[Package, range] = {"fla": range(16, 257, 8), "natten": range(8, 129, 8)}
#: Rows times heads, and entries of a tensor, that the kernels' grids and indices hold.
MOST_ROWS, MOST_ENTRIES = 65_535, 2**31


@dataclass(frozen=True)
class Kernel:
    """A package's kernel for one operator.

    Attributes:
        package: which.
        z: ``z(q, k, v, call) -> z`` by it, before `Operator.finish`.
        fits: ``fits(q, k, call)``: whether it computes what this call says.
    """

    package: Package
    z: Callable[[Tensor, Tensor, Tensor, Call], Tensor]
    fits: Callable[[Tensor, Tensor, Call], bool] = lambda q, k, call: True

    def computes(
        self,
        q: Float[Tensor, "batch head dest d_head"],
        k: Float[Tensor, "batch kv_head src d_head"],
        v: Float[Tensor, "batch kv_head src d_value"],
        call: Call,
    ) -> bool:
        """Whether z of this call is the kernel's: these tensors are on a GPU that it runs on, of a precision, size and
        number of heads that it takes, and need no gradient; `fits` says the rest. A package that cannot be imported is
        reported once, by a warning."""
        tensors = (q, k, v, *call.gates.values(), *call.data.values())
        return (
            is_on_gpu(q)
            and q.dtype == k.dtype == v.dtype
            and q.dtype in PRECISIONS[self.package]
            and q.shape[:3] == k.shape[:3] == v.shape[:3]
            and q.shape[-1] in WIDTHS[self.package]
            and v.shape[-1] in WIDTHS[self.package]
            and 0 < q.shape[0] * q.shape[1] <= MOST_ROWS
            and q.shape[2] > 0
            and max(q.numel(), v.numel()) < MOST_ENTRIES
            and not (torch.is_grad_enabled() and any(x.requires_grad for x in tensors))
            and not torch.are_deterministic_algorithms_enabled()  # kernels are chosen by the clock
            and self.fits(q, k, call)
            and library(self.package) is not None
        )


def is_on_gpu(x: Tensor) -> bool:
    """Whether it is on a CUDA device that has bfloat16 in its matrix units (compute capability 8 on)."""
    return x.is_cuda and torch.cuda.get_device_capability(x.device) >= (8, 0)


@cache
def library(package: Package) -> ModuleType | None:
    """The module with a package's kernels; None where it cannot be imported or was built without them, with a warning
    that says why."""
    distribution = DISTRIBUTIONS[package]
    try:
        module = importlib.import_module(MODULES[package])
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        why = "is not installed" if missing == package else f"cannot be imported ({error})"
    except Exception as error:  # what goes wrong in other people's compiled code has no common class
        why = f"cannot be imported ({type(error).__name__}: {error})"
    else:
        if package != "natten" or module.HAS_LIBNATTEN:
            return module
        why = "was built without its CUDA kernels"
    warnings.warn(
        f"{distribution} {why}: operators run without its GPU kernels, which is slower ({EXTRA}).", stacklevel=2
    )
    return None


def versions() -> dict[str, str]:
    """The installed versions, by distribution. Imports none."""
    result = {}
    for distribution in DISTRIBUTIONS.values():
        try:
            result[distribution] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return result


def positions_first(x: Float[Tensor, "batch head pos *rest"]) -> Float[Tensor, "batch pos head *rest"]:
    """As the packages lay tensors out; the same the other way round."""
    return x.transpose(1, 2)


def imported(package: Package) -> ModuleType:
    """`library` of a package that is there, as `Kernel.computes` has made sure."""
    module = library(package)
    assert module is not None
    return module


def decayed_linear(
    q: Float[Tensor, "batch head pos d_head"],
    k: Float[Tensor, "batch head pos d_head"],
    v: Float[Tensor, "batch head pos d_value"],
    slopes: Float[Tensor, "head"] | None = None,
) -> Float[Tensor, "batch head pos d_value"]:
    """``z_i = Σ_{j ≤ i} exp(−slope (i − j)) (q_i · k_j) v_j`` by flash-linear-attention: what
    `workbench.attention.primitives.recurrence.chunked` computes."""
    inputs = [positions_first(x) for x in (q, k, v)]
    log_decay = None if slopes is None else -slopes.float()
    z, _ = imported("fla").chunk_simple_gla(*inputs, g_gamma=log_decay, scale=1.0)
    return positions_first(z)


def delta_rule(
    q: Float[Tensor, "batch head pos d_head"],
    k: Float[Tensor, "batch head pos d_head"],
    v: Float[Tensor, "batch head pos d_value"],
    beta: Float[Tensor, "gate_batch gate_head pos"],
    log_decay: Float[Tensor, "gate_batch gate_head pos"] | None = None,
    *,
    unit: bool,
) -> Float[Tensor, "batch head pos d_value"]:
    """The (gated) delta rule of ``q/√d`` and k by flash-linear-attention; with `unit`, both of length one first."""
    q_first, k_first, v_first = (positions_first(x) for x in (q, k, v))
    strength = positions_first(beta.float().expand(k.shape[:3]))
    options = {"scale": q.shape[-1] ** -0.5, "use_qk_l2norm_in_kernel": unit}
    if log_decay is None:
        z, _ = imported("fla").chunk_delta_rule(q_first, k_first, v_first, beta=strength, **options)
    else:
        decay = positions_first(log_decay.float().expand(k.shape[:3]))
        rule = imported("fla").chunk_gated_delta_rule
        z, _ = rule(q_first, k_first, v_first, g=decay, beta=strength, **options)
    return positions_first(z)


def neighbourhood(
    q: Float[Tensor, "batch head pos d_head"],
    k: Float[Tensor, "batch head pos d_head"],
    v: Float[Tensor, "batch head pos d_value"],
    grid: tuple[int, ...],
    *,
    window: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    causal: tuple[bool, ...],
    scale: float,
) -> Float[Tensor, "batch head pos d_value"]:
    """Softmax over neighbourhoods on a grid of one to three axes by NATTEN, a value an axis."""
    attention = getattr(imported("natten"), f"na{len(grid)}d")
    inputs = (positions_first(x).unflatten(1, grid) for x in (q, k, v))
    z = attention(*inputs, kernel_size=window, stride=stride, dilation=dilation, is_causal=causal, scale=scale)
    return positions_first(z.flatten(1, len(grid)))
