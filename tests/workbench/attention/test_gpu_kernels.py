"""What GPU kernels are called with: by the signatures in the packages' own files, and computed by their plain code;
where they are not used; and what is said where they cannot be. The kernels themselves need a GPU."""

from __future__ import annotations

import ast
import sys
import warnings
from dataclasses import replace
from importlib import metadata
from inspect import Parameter, Signature
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

import workbench as wb
from tests.oracle.unpacked import FLA_CORE, NATTEN
from workbench.attention import gpu_kernels
from workbench.attention.operator import BoundOperator, operator

HEADS = 3
Tensors = tuple[Tensor, Tensor, Tensor]
RECURRENT = (
    "lightning(norm=False)",
    "lightning(norm=False, slopes='layered')",
    "lightning(norm=False, slopes='minimax', layer_factor=False)",
    "linear",
    "linear(feature='relu')",
    "linear(normalised=False)",
    "delta",
    "delta(unit=False, beta=0.1)",
    "gated-delta",
    "gated-delta(unit=False, beta=0.1, decay=0.7)",
)


def signature(path: str, name: str) -> Signature:
    """Of a function in a file of fla-core; without its ``**kwargs``, which would take a misspelt name."""
    body = ast.parse((FLA_CORE.folder / path).read_text()).body
    (function,) = (node for node in body if isinstance(node, ast.FunctionDef) and node.name == name)
    names, defaults = function.args.args, [ast.literal_eval(default) for default in function.args.defaults]
    values = [Parameter.empty] * (len(names) - len(defaults)) + defaults
    kind = Parameter.POSITIONAL_OR_KEYWORD
    return Signature([Parameter(each.arg, kind, default=value) for each, value in zip(names, values, strict=True)])


def unit(x: Tensor) -> Tensor:
    """fla's ``l2norm_fwd``: ``1 / tl.sqrt(tl.sum(b_x * b_x, 1) + eps)``."""
    return x / torch.sqrt((x * x).sum(-1, keepdim=True) + 1e-6)


class PlainFla:
    """``fla.ops``, whose functions have the real signatures and compute by fla's plain code, in float32."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def _bound(self, name: str, path: str, arguments: Any, options: Any) -> SimpleNamespace:
        self.calls.append(name)
        bound = signature(path, name).bind(*arguments, **options)
        bound.apply_defaults()
        values = SimpleNamespace(**bound.arguments)
        assert values.cu_seqlens is None and values.initial_state is None
        assert values.q.shape == values.k.shape and values.q.shape[:3] == values.v.shape[:3]
        return values

    def chunk_simple_gla(self, *arguments: Any, **options: Any) -> tuple[Tensor, None]:
        a = self._bound("chunk_simple_gla", "fla/ops/simple_gla/chunk.py", arguments, options)
        assert a.g is None
        g = torch.zeros(a.q.shape[:3])
        if a.g_gamma is not None:
            assert a.g_gamma.shape == a.q.shape[2:3]
            g = g + a.g_gamma
        naive = FLA_CORE.file("fla/ops/simple_gla/naive.py")
        return naive.naive_recurrent_simple_gla(a.q, a.k, a.v, g, scale=a.scale)[0].to(a.q.dtype), None

    def chunk_delta_rule(self, *arguments: Any, **options: Any) -> tuple[Tensor, None]:
        a = self._bound("chunk_delta_rule", "fla/ops/delta_rule/chunk.py", arguments, options)
        assert a.beta.shape == a.q.shape[:3]
        q, k = (unit(x.float()) if a.use_qk_l2norm_in_kernel else x.float() for x in (a.q, a.k))
        q = q * a.scale * q.shape[-1] ** 0.5  # the plain code has its own scale
        heads_first = [x.transpose(1, 2) for x in (q, k, a.v, a.beta)]
        naive = FLA_CORE.file("fla/ops/delta_rule/naive.py")
        return naive.delta_rule_recurrence(*heads_first)[0].transpose(1, 2).to(a.q.dtype), None

    def chunk_gated_delta_rule(self, *arguments: Any, **options: Any) -> tuple[Tensor, None]:
        a = self._bound("chunk_gated_delta_rule", "fla/ops/gated_delta_rule/chunk.py", arguments, options)
        assert a.beta.shape == a.g.shape == a.q.shape[:3]
        q, k = (unit(x.float()) if a.use_qk_l2norm_in_kernel else x.float() for x in (a.q, a.k))
        naive = FLA_CORE.file("fla/ops/gated_delta_rule/naive.py")
        z, _ = naive.naive_recurrent_gated_delta_rule(q=q, k=k, v=a.v, beta=a.beta, g=a.g, scale=a.scale)
        return z.to(a.q.dtype), None


@pytest.fixture
def fla(monkeypatch) -> PlainFla:
    """In the place of the package."""
    plain = PlainFla()
    monkeypatch.setattr(gpu_kernels, "library", lambda package: plain)
    return plain


@pytest.fixture
def on_gpu(monkeypatch) -> None:
    """Tensors of the CPU count as on a GPU."""
    monkeypatch.setattr(gpu_kernels, "is_on_gpu", lambda x: True)


@pytest.fixture
def forgotten():
    """Packages are imported anew."""
    gpu_kernels.library.cache_clear()
    yield
    gpu_kernels.library.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "fla"]:
        del sys.modules[name]


def inputs(length: int, width: int = 16, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    sizes = (width, width, 24)
    q, k, v = (torch.randn(2, HEADS, length, size, generator=generator).to(dtype) for size in sizes)
    return q, k, v


def gates(bound: BoundOperator, length: int) -> dict[str, Tensor]:
    """Another one at each position and head."""
    generator = torch.Generator().manual_seed(1)
    values = {
        "beta": torch.rand(2, length, HEADS, generator=generator),
        "g": -torch.rand(2, length, HEADS, generator=generator),
    }
    if not bound.settings.get("unit", True):
        values["beta"] = 0.1 * values["beta"]  # longer keys would let the state grow without bound
    names = {"delta": ("beta",), "gated-delta": ("beta", "g")}.get(bound.operator.name, ())
    return {name: values[name] for name in names}


def doubled(bound: BoundOperator, tensors: Tensors, call: Any) -> Tensor:
    """By the matrix, in float64."""
    exact = replace(call, gates={name: gate.double() for name, gate in call.gates.items()})
    q, k, v = (x.double() for x in tensors)
    return bound.explicit(q, k, v, exact)


def off(z: Tensor, expected: Tensor) -> float:
    assert z.shape == expected.shape
    return float((z.double() - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("name", RECURRENT)
@pytest.mark.parametrize("has_gates, padded", [(False, False), (True, False), (True, True)])
def test_flash_linear_attention_computes_the_matrix(name, has_gates, padded, fla):
    bound, length = operator(name), 70
    padding = None
    if padded:
        padding = torch.ones(2, length, dtype=torch.bool)
        padding[0, :9] = padding[1, 61:] = False
    q, k, v = inputs(length)
    call = bound.call(layer=1, n_layers=3, padding=padding, gates=gates(bound, length) if has_gates else {})
    kernel = bound.operator.kernel
    assert kernel is not None and kernel.package == "fla" and kernel.fits(q, k, call)
    z = kernel.z(q, k, v, call)
    assert len(fla.calls) == 1
    assert off(z, doubled(bound, (q, k, v), call)) < 1e-5


def test_a_query_without_features_in_common_with_a_key_has_z_0(fla):
    bound = operator("linear", feature="relu")
    q, k, v = inputs(5)
    q[:, :, 3] = -1
    kernel = bound.operator.kernel
    assert kernel is not None
    z = kernel.z(q, k, v, bound.call())
    assert not z[:, :, 3].any() and z.isfinite().all() and z[:, :, 4].all()


GRIDS = [
    ((40,), {"window": 5}, True),
    ((40,), {"window": 6, "stride": 3}, False),
    ((50,), {"window": 7, "dilation": 3}, True),
    ((50,), {"window": 8, "stride": 3, "dilation": 2, "causal": True}, False),
    ((40,), {"window": 40}, False),  # everything: NATTEN's plain attention
    ((7, 9), {"window": (3, 4), "stride": (1, 2), "dilation": (2, 1), "causal": (True, False)}, False),
    ((4, 5, 6), {"window": (3, 2, 3), "dilation": (1, 2, 2), "causal": (True, False, False)}, False),
]


@pytest.mark.parametrize("grid, settings, as_sequence", GRIDS)
def test_natten_computes_the_matrix(grid, settings, as_sequence, monkeypatch):
    """By NATTEN itself, which has a forward on the CPU."""
    natten = NATTEN.module("natten")
    monkeypatch.setattr(gpu_kernels, "library", lambda package: natten)
    bound = operator("neighbourhood", **settings)
    kernel = bound.operator.kernel
    assert kernel is not None and kernel.package == "natten"
    q, k, _ = inputs(int(torch.tensor(grid).prod()))
    calls = [bound.call(scale=0.3, causal=False, grid=grid)]
    if as_sequence:
        calls += [bound.call(scale=0.3, causal=False), bound.call(scale=0.3, causal=True)]
    for call in calls:
        assert kernel.fits(q, k, call)
        with NATTEN.importable():
            z = kernel.z(q, k, k.flip(-1), call)
        assert off(z, doubled(bound, (q, k, k.flip(-1)), call)) < 1e-5


@pytest.mark.parametrize(
    "settings, call",
    [
        ({"window": 41}, {}),  # NATTEN refuses it
        ({"window": 21, "dilation": 2}, {}),
        ({"window": 4, "stride": 3}, {"causal": True}),  # the last group of a sequence counts as a whole one
        ({"window": 4}, {"causal": True, "grid": (40,)}),
        ({"window": 4}, {"grid": (39,), "before": 1}),
        ({"window": 2}, {"grid": (2, 2, 2, 5)}),
        ({"window": 4}, {"scale": 0}),
        ({"window": 4}, {"padding": torch.arange(40).expand(2, 40) > 2}),
        ({"window": 4}, {"visible": torch.ones(1, 1, 40, 40, dtype=torch.bool)}),
    ],
)
def test_neighbourhoods_that_are_not_nattens_are_our_own(settings, call, on_gpu, monkeypatch):
    monkeypatch.setattr(gpu_kernels, "library", pytest.fail)
    bound = operator("neighbourhood", **settings)
    q, k, _ = inputs(40, dtype=torch.bfloat16)
    assert bound.kernel(q, k, k, bound.call(**{"scale": 0.3, "causal": False, **call})) is None


def test_natten_without_its_cuda_kernels_is_not_used(forgotten):
    with NATTEN.importable():
        NATTEN.module("natten")
        with pytest.warns(UserWarning, match="natten was built without its CUDA kernels.*workbench.kernels"):
            assert gpu_kernels.library("natten") is None


@pytest.mark.parametrize("name", RECURRENT)
def test_z_is_the_kernels_in_bfloat16(name, fla, on_gpu):
    bound = operator(name)
    tensors = inputs(70, dtype=torch.bfloat16)
    call = bound.call(gates=gates(bound, 70))
    z = bound.z(*tensors, call)
    assert len(fla.calls) == 1 and z.dtype == torch.bfloat16
    assert off(z, doubled(bound, tensors, call)) < 0.02


def test_what_follows_the_mixing_follows_the_kernel(fla, on_gpu):
    bound, tensors = operator("lightning"), inputs(20, dtype=torch.bfloat16)
    assert off(bound.z(*tensors, bound.call()), doubled(bound, tensors, bound.call())) < 0.02
    assert fla.calls == ["chunk_simple_gla"]


def changed(case: str) -> tuple[Tensors, dict[str, Any]]:
    """A call that a kernel does not compute."""
    q, k, v = inputs(12, dtype=torch.bfloat16)
    values: dict[str, Any] = {}
    match case:
        case "float32" | "float64" | "float16":
            q, k, v = (x.to(getattr(torch, case)) for x in (q, k, v))
        case "mixed precisions":
            v = v.float()
        case "fewer key/value heads":
            k, v = k[:, :1], v[:, :1]
        case "the last rows":
            q = q[:, :, 7:]
        case "narrow heads":
            q, k = q[..., :8], k[..., :8]
        case "wide heads":
            q, k = (x.repeat(1, 1, 1, 17) for x in (q, k))
        case "odd values":
            v = v[..., :17]
        case "no rows":
            q, k, v = (x[:0] for x in (q, k, v))
        case "a gradient":
            v = v.requires_grad_()
        case "a gate's gradient":
            values["gates"] = {"beta": torch.rand(2, 12, HEADS).requires_grad_()}
        case "not causal":
            values["causal"] = False
    return (q, k, v), values


CASES = (
    "float32",
    "float64",
    "float16",
    "mixed precisions",
    "fewer key/value heads",
    "the last rows",
    "narrow heads",
    "wide heads",
    "odd values",
    "no rows",
    "a gradient",
)


@pytest.mark.parametrize(
    "name, case",
    [*(("lightning", case) for case in CASES), ("delta", "a gate's gradient"), ("linear", "not causal")],
)
def test_other_calls_are_our_own(name, case, fla, on_gpu):
    bound = operator(name)
    (q, k, v), values = changed(case)
    assert bound.kernel(q, k, v, bound.call(**values)) is None
    if case not in ("mixed precisions", "fewer key/value heads", "no rows"):  # which callers of z do not do
        bound.z(q, k, v, bound.call(**values))
    assert not fla.calls


def test_a_gradient_that_nobody_takes_is_no_obstacle(fla, on_gpu):
    bound, (tensors, _) = operator("lightning"), changed("a gradient")
    with torch.no_grad():
        assert bound.kernel(*tensors, bound.call()) is bound.operator.kernel
    assert bound.kernel(*tensors, bound.call()) is None


def test_under_deterministic_algorithms_nothing_is_chosen_by_the_clock(fla, on_gpu):
    bound, tensors = operator("lightning"), inputs(12, dtype=torch.bfloat16)
    torch.use_deterministic_algorithms(True)
    try:
        assert bound.kernel(*tensors, bound.call()) is None
    finally:
        torch.use_deterministic_algorithms(False)
    assert bound.kernel(*tensors, bound.call()) is not None


def test_a_state_is_resumed_from_by_our_own_form(fla, on_gpu):
    bound, tensors = operator("lightning", norm=False), inputs(20, dtype=torch.bfloat16)
    q, k, v = tensors
    state = bound.advance(k[:, :, :8], v[:, :, :8], bound.call())
    later = bound.z(q[:, :, 8:], k[:, :, 8:], v[:, :, 8:], bound.call(first=8), state)
    assert not fla.calls
    assert off(later, doubled(bound, tensors, bound.call())[:, :, 8:]) < 0.02


def test_on_the_cpu_nothing_is_imported():
    bound, tensors = operator("lightning"), inputs(12, dtype=torch.bfloat16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bound.z(*tensors, bound.call())
    assert not {"fla", "triton"} & set(sys.modules)


def test_a_package_that_is_not_installed_is_reported_once(on_gpu, forgotten):
    bound, tensors = operator("lightning"), inputs(12, dtype=torch.bfloat16)
    with pytest.warns(UserWarning) as messages:
        z = bound.z(*tensors, bound.call())
    (message,) = messages
    assert str(message.message) == (
        "fla-core is not installed: operators run without its GPU kernels, which is slower "
        "(pip install 'attention-workbench[kernels]')."
    )
    assert torch.equal(bound.z(*tensors, bound.call()), z)


@pytest.mark.parametrize(
    "text, why",
    [
        ("raise RuntimeError('no driver')", r"\(RuntimeError: no driver\)"),
        ("import triton_of_another_age", r"\(No module named 'triton_of_another_age'\)"),
        ("raise OSError('libcudart.so.13')", r"\(OSError: libcudart.so.13\)"),
    ],
)
def test_a_package_that_fails_is_reported_with_the_reason(text, why, on_gpu, forgotten, tmp_path, monkeypatch):
    (tmp_path / "fla" / "ops").mkdir(parents=True)
    (tmp_path / "fla" / "__init__.py").touch()
    (tmp_path / "fla" / "ops" / "__init__.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    bound, tensors = operator("lightning"), inputs(12, dtype=torch.bfloat16)
    with pytest.warns(UserWarning, match=f"fla-core cannot be imported {why}: operators run without"):
        assert off(bound.z(*tensors, bound.call()), doubled(bound, tensors, bound.call())) < 0.02


def test_installed_versions_are_known_without_an_import(monkeypatch):
    assert gpu_kernels.versions() == {}

    def version(name: str) -> str:
        if name != "natten":
            raise metadata.PackageNotFoundError(name)
        return "0.21.7"

    monkeypatch.setattr(gpu_kernels.metadata, "version", version)
    assert gpu_kernels.versions() == {"natten": "0.21.7"}


def test_a_swapped_model_says_which_kernel_it_used(fla, on_gpu):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, initializer_range=0.2,
    )  # fmt: skip
    plain: Any = LlamaForCausalLM(config).eval()
    model = wb.HookedLM(plain.to(torch.bfloat16))
    ids = torch.arange(30)[None]
    swapped = wb.swap(model, {0: "lightning", 1: "delta"}, cache=False)
    fla.calls.clear()
    with torch.no_grad():
        logits = swapped(ids)
        assert fla.calls == ["chunk_simple_gla", "chunk_delta_rule"]
        table = swapped.kernels()
        assert table["kernel"].tolist() == ["lightning, fla", "delta, fla"]
        assert table["why"].tolist() == ["no pattern is edited"] * 2
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(gpu_kernels, "is_on_gpu", lambda x: x.is_cuda)
            own = swapped(ids)
        assert swapped.kernels()["kernel"].tolist() == ["lightning", "delta"]
        assert off(logits, own.double()) < 0.03
        swapped.run_with_hooks(ids, fwd_hooks=[("blocks.0.attn.hook_pattern", lambda x, hook: x * 1)])
        assert swapped.kernels()["kernel"].tolist() == ["lightning, explicit", "delta, fla"]
    swapped(ids)  # the parameters want gradients
    assert swapped.kernels()["kernel"].tolist() == ["lightning", "delta"]
