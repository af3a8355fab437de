"""What ``python -m tests.benchmarks.on_gpu`` checks and times: one function a part, which yields `Line`s."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

import workbench as wb
from tests.benchmarks.bench_operators_linear import HAS_BAR
from tests.benchmarks.bench_operators_sparse import DENSITY, selected
from tests.families import hugging_face, paired
from workbench.attention import gpu_kernels
from workbench.attention.call import Call
from workbench.attention.operator import BoundOperator, operator
from workbench.attention.primitives import block_sparse
from workbench.attention.primitives.blocks import Blocks
from workbench.errors import UsageError
from workbench.models.attention_edits import PartialTap
from workbench.models.language import HookedLM
from workbench.registry import OPERATORS
from workbench.testing.operator_case import Case, long, sample

#: Largest difference over the largest entry that counts as the same.
SAME = {torch.float32: 1e-4, torch.bfloat16: 0.05}
HEADS, WIDTH = 9, 64
#: Settings with which each operator that has a kernel is compared with its matrix.
WITH_KERNELS = (
    "lightning(norm=False)",
    "lightning",
    "linear",
    "linear(feature=relu, normalised=False)",
    "delta",
    "delta(unit=False, beta=0.05)",
    "gated-delta",
    "neighbourhood(window=16)",
    "neighbourhood(window=32, dilation=2)",
)
SWEPT = ("lightning(norm=False)", "linear", "delta", "gated-delta", "sliding-window(window=3)", "neighbourhood")


@dataclass(frozen=True)
class Scale:
    """Where it runs, and whether only little of it."""

    device: torch.device
    quick: bool

    def sizes(self, full: tuple[int, ...], quick: tuple[int, ...]) -> tuple[int, ...]:
        return quick if self.quick else full

    def seconds(self, work: Callable[[], Any], repeats: int = 5) -> float:
        """The median of some calls behind one that warms up."""
        values = []
        for _ in range(2 if self.quick else repeats + 1):
            self._wait()
            start = time.perf_counter()
            work()
            self._wait()
            values.append(time.perf_counter() - start)
        return median(values[1:])

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def random(self, length: int, dtype: torch.dtype = torch.float32, batch: int = 1) -> tuple[Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(length)
        q, k, v = (
            torch.randn(batch, length, HEADS, WIDTH, generator=generator).to(self.device, dtype).transpose(1, 2)
            for _ in range(3)
        )
        return q, k, v


@dataclass(frozen=True)
class Line:
    """A number. `limit`: what it must not exceed, None where it is only printed. `not_run`: why there is none."""

    what: str
    value: float | None
    unit: str = ""
    limit: float | None = None
    not_run: str = ""

    @property
    def met(self) -> bool | None:
        return None if self.limit is None or self.value is None else self.value <= self.limit


def off(result: Tensor, expected: Tensor) -> float:
    """The largest difference over the largest entry; infinite where something is not finite."""
    if not result.isfinite().all():
        return float("inf")
    result, expected = result.double().cpu(), expected.double().cpu()
    return float((result - expected).abs().max() / expected.abs().max().clamp(min=1e-12))


def _without_kernel(bound: BoundOperator) -> BoundOperator:
    return BoundOperator(replace(bound.operator, kernel=None), bound.settings)


def _moved(case: Case, to: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Call]:
    """q, k, v and the call of a case on a device, in another precision."""

    def move(x: Tensor) -> Tensor:
        return x.to(to, dtype) if x.is_floating_point() else x.to(to)

    call = case.call
    gates, data = ({name: move(x) for name, x in entries.items()} for entries in (call.gates, call.data))
    return move(case.q), move(case.k), move(case.v), replace(call, gates=gates, data=data)


def forms(scale: Scale) -> Iterator[Line]:
    """Every operator's own form on the device against its matrix in float64 on the CPU; where it has none, against its
    form there."""
    for name in OPERATORS.names():
        bound = _without_kernel(operator(name))
        for dtype, limit in SAME.items():
            case = sample(bound, long(bound), causal=bound.keeps_causality, dtype=dtype, batch=2)
            exact = _moved(case, torch.device("cpu"), torch.float64)
            try:
                expected = bound.explicit(*exact)
            except UsageError:
                expected = bound.z(*exact)
            z = bound.z(*_moved(case, scale.device, dtype))
            yield Line(f"{name}, {str(dtype)[6:]}: off its matrix", off(z, expected), limit=limit)


def kernels(scale: Scale) -> Iterator[Line]:
    """z by the packages' kernels against the matrix in float64 on the device, and how much faster than our own form."""
    dtype = torch.bfloat16
    for text in WITH_KERNELS:
        bound = operator(text)
        own, kernel = _without_kernel(bound), bound.operator.kernel
        assert kernel is not None
        for length in scale.sizes((64, 200, 1024), (70,)):
            q, k, v = scale.random(length, dtype, batch=2)
            call = bound.call(scale=WIDTH**-0.5, gates=_gates(bound, scale, length, 2))
            exact = replace(call, gates={name: gate.double() for name, gate in call.gates.items()})
            expected = bound.explicit(q.double(), k.double(), v.double(), exact)
            what = f"{text}, {length} positions, bfloat16"
            yield Line(f"{what}: our own form off the matrix", off(own.z(q, k, v, call), expected), limit=0.05)
            if bound.kernel(q, k, v, call) is None:
                yield Line(f"{what}: kernel", None, not_run=_why_no_kernel(kernel, scale))
                continue
            yield Line(f"{what}: {kernel.package} off the matrix", off(bound.z(q, k, v, call), expected), limit=0.05)
        (length,) = scale.sizes((16_384,), (256,))
        q, k, v = scale.random(length, dtype)
        call = bound.call(scale=WIDTH**-0.5, gates=_gates(bound, scale, length, 1))
        if bound.kernel(q, k, v, call) is not None:
            ratio = scale.seconds(partial(own.z, q, k, v, call)) / scale.seconds(partial(bound.z, q, k, v, call))
            yield Line(f"{text}, {length} positions: {kernel.package} faster than our own form", ratio, "×")


def _why_no_kernel(kernel: gpu_kernels.Kernel, scale: Scale) -> str:
    if scale.device.type != "cuda":
        return "no CUDA device"
    installed = gpu_kernels.versions().get(gpu_kernels.DISTRIBUTIONS[kernel.package])
    return f"{kernel.package} does not compute this" if installed else f"{kernel.package} is not installed"


def _gates(bound: BoundOperator, scale: Scale, length: int, batch: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(length)
    strength, rate = (torch.rand(batch, length, HEADS, generator=generator).to(scale.device) for _ in range(2))
    factor = 1.0 if bound.settings.get("unit", True) else 0.05
    gates = {"beta": factor * strength, "g": -0.1 * rate}
    names = {"delta": ("beta",), "gated-delta": ("beta", "g")}.get(bound.operator.name, ())
    return {name: gates[name] for name in names}


def sweeps(scale: Scale) -> Iterator[Line]:
    """A sweep of a swapped model on the device and on the CPU, in float32. In logits."""
    inputs = paired(2)
    for text in SWEPT:
        values, largest = [], 0.0
        for device in (torch.device("cpu"), scale.device):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                model = wb.swap(HookedLM(hugging_face("llama").to(device)), {1: text}, cache=False)
            values.append(wb.sweep(model, inputs, edit="zero", cache=False).values)
            with torch.no_grad():
                largest = float(model.hf(inputs.clean[0][None].to(device)).logits.abs().max())
        difference = float(np.abs(values[0] - values[1]).max())
        yield Line(f"{text}: sweep off the CPU's", difference, "logits", limit=max(1e-4, 1e-5 * largest))


def statistics(scale: Scale) -> Iterator[Line]:
    """Statistics of patterns as attention with other values, against tiles in float64; and their time."""
    try:
        from workbench.attention.statistics import Requested
        from workbench.attention.statistics.by_tiles import tiled_statistics
        from workbench.attention.statistics.fused import fused_statistics
    except ImportError as error:
        yield Line("statistics of patterns", None, not_run=str(error))
        return
    from workbench.models.pattern_formula import PatternFormula

    formula = PatternFormula(scale=WIDTH**-0.5, causal=True)
    requested = Requested(entropy=True, distance=True, received=True, sources=(0,), offsets=(1, 5), pooled=32)
    (length,) = scale.sizes((1024,), (96,))
    q, k, _ = scale.random(length)
    fast = fused_statistics(q, k, formula, requested)
    exact = tiled_statistics(q.double().cpu(), k.double().cpu(), formula, requested)
    for name, expected in vars(exact).items():
        if isinstance(expected, Tensor):
            yield Line(f"statistics, {length} positions: {name}", off(getattr(fast, name), expected), limit=1e-4)
    (length,) = scale.sizes((4096,), (96,))
    q, k, v = scale.random(length)
    ratio = scale.seconds(lambda: fused_statistics(q, k, formula, requested))
    ratio /= scale.seconds(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True))
    yield Line(f"statistics, {length} positions: time over causal SDPA's, float32", ratio, "×")


def growth(scale: Scale) -> Iterator[Line]:
    """How the time of operators with a state grows, by their own form and by the kernel, and against causal SDPA."""
    lengths = scale.sizes((4096, 8192, 16_384, 32_768, 65_536), (128, 256))
    dtype = torch.bfloat16
    softmax = []
    for length in lengths:
        q, k, v = scale.random(length, dtype)
        softmax.append(scale.seconds(partial(F.scaled_dot_product_attention, q, k, v, is_causal=True), 3))
    yield Line("causal SDPA: slope", _slope(lengths, softmax))
    for name in HAS_BAR:
        bound = operator(name)
        for label, form in {"our own form": _without_kernel(bound), "kernel": bound}.items():
            q, k, v = scale.random(64, dtype)
            call = bound.call(scale=WIDTH**-0.5, causal=bound.keeps_causality)
            if label == "kernel" and bound.kernel(q, k, v, call) is None:
                continue
            own = []
            for length in lengths:
                q, k, v = scale.random(length, dtype)
                own.append(scale.seconds(partial(form.z, q, k, v, call), 3))
            yield Line(f"{name}, {label}: slope", _slope(lengths, own), limit=None if scale.quick else 1.15)
            yield Line(f"{name}, {label}, {lengths[-1]} positions: faster than causal SDPA", softmax[-1] / own[-1], "×")


def _slope(lengths: tuple[int, ...], seconds: list[float]) -> float:
    """Of log time against log length, least squares."""
    return float(np.polyfit(np.log(lengths), np.log(seconds), 1)[0])


def sparse(scale: Scale) -> Iterator[Line]:
    """Attention over selected blocks against dense causal SDPA, bfloat16."""
    (length,) = scale.sizes((8192,), (512,))
    q, k, v = scale.random(length, torch.bfloat16)
    dense = scale.seconds(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True), 3)
    generator = torch.Generator().manual_seed(0)
    for size in scale.sizes((128, 256), (64,)):
        table = selected(Blocks.even(length, size, torch.device("cpu")), generator).to(scale.device)
        blocks, call = Blocks.even(length, size, scale.device), operator("softmax").call(scale=WIDTH**-0.5)
        seconds = scale.seconds(partial(block_sparse.by_block, q, k, v, table, blocks, call), 3)
        yield Line(f"blocks of {size}, {DENSITY:.0%} of them, a loop: faster than SDPA", dense / seconds, "×")
    bound = operator("block-mixture", block=scale.sizes((256,), (64,))[0], top_k=8)
    call = bound.call(scale=WIDTH**-0.5)
    yield Line(f"{bound}: faster than SDPA", dense / scale.seconds(lambda: bound.z(q, k, v, call), 3), "×")


def hooks(scale: Scale) -> Iterator[Line]:
    """One head's pattern read in every layer, and all patterns, against a plain forward."""
    from transformers import LlamaConfig, LlamaForCausalLM

    layers, width, (length,) = (12, 768, (1024,)) if not scale.quick else (2, 64, (64,))
    config = LlamaConfig(
        vocab_size=512, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
        num_attention_heads=4 if scale.quick else 12,
    )  # fmt: skip
    torch.manual_seed(0)
    llama: Any = LlamaForCausalLM(config).eval().requires_grad_(False)
    model = HookedLM(llama.to(scale.device))
    ids = torch.randint(0, 512, (1, length), generator=torch.Generator().manual_seed(0)).to(scale.device)

    def forward() -> None:
        model.hf(ids, use_cache=False, logits_to_keep=1)

    def hooked(heads: tuple[int, ...] | None) -> Callable[[], None]:
        def tap(x: Tensor) -> None:
            x.sum()

        taps = {
            model.hook_name("pattern", layer): tap if heads is None else PartialTap(tap, heads)
            for layer in range(layers)
        }

        def work() -> None:
            with model.running(taps):
                forward()

        return work

    plain = scale.seconds(forward)
    one, every = (scale.seconds(hooked(heads)) / plain for heads in ((1,), None))
    limit = None if scale.quick else 1.15
    yield Line(f"one head's pattern in every layer, {length} positions: over a plain forward", one, "×", limit=limit)
    yield Line(f"all patterns of every layer, {length} positions: over a plain forward", every, "×")


PARTS: dict[str, Callable[[Scale], Iterator[Line]]] = {
    "forms": forms,
    "kernels": kernels,
    "sweeps": sweeps,
    "statistics": statistics,
    "growth": growth,
    "sparse": sparse,
    "hooks": hooks,
}
