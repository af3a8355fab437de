"""Statistics of patterns, against torch's softmax on whole matrices in float64."""

from __future__ import annotations

import doctest
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from workbench.attention.statistics import Requested, TokenMatches, pattern_statistics, value_output_norms
from workbench.attention.statistics.by_tiles import tiled_statistics
from workbench.attention.statistics.fused import can_compute, fused_statistics
from workbench.models.pattern_formula import PatternFormula

REQUESTED = Requested(
    entropy=True, distance=True, received=True, sources=(0, 3), offsets=(0, 1, 5, -1, 70), pooled=32, largest=5, top=4
)
FORMULAS = {
    "causal": PatternFormula(0.3, True),
    "not causal": PatternFormula(0.3, False),
    "short window": PatternFormula(0.3, True, window=1),
    "window": PatternFormula(0.3, True, window=7),
    "window of more than a tile": PatternFormula(0.3, True, window=90),
    "cap": PatternFormula(0.3, True, softcap=1.5),
    "cap in a window": PatternFormula(0.3, True, window=70, softcap=1.5),
    "sinks": PatternFormula(0.3, True, sinks=(0.5, -1.0, 2.0, 8.0, 0.0, -30.0)),
    "sinks in a window": PatternFormula(0.3, True, window=20, sinks=(0.5, -1.0, 2.0, 8.0, 0.0, -30.0)),
    "sinks, not causal": PatternFormula(0.3, False, sinks=(0.5, -1.0, 2.0, 8.0, 0.0, -30.0)),
}


def softmax_of(q: Tensor, k: Tensor, formula: PatternFormula, mask: Tensor | None = None) -> Tensor:
    """The patterns in float64, by torch's softmax."""
    length = q.shape[2]
    scores = (q.double() * formula.scale) @ k.double().repeat_interleave(q.shape[1] // k.shape[1], 1).mT
    if formula.softcap is not None:
        scores = formula.softcap * torch.tanh(scores / formula.softcap)
    dest, src = torch.arange(length)[:, None], torch.arange(length)[None]
    seen = torch.ones(length, length, dtype=torch.bool) if mask is None else mask
    if formula.causal:
        seen = seen & (src <= dest) & (src > dest - (formula.window or length))
    scores = scores.masked_fill(~seen, -math.inf)
    if formula.sinks is not None:
        sinks = torch.tensor(formula.sinks, dtype=torch.float64)[None, :, None, None]
        scores = torch.cat([scores, sinks.expand(*scores.shape[:3], 1)], -1)
    return torch.softmax(scores, -1).nan_to_num()[..., :length]


def inputs(batch: int, heads: int, kv_heads: int, length: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """q, k, v and norms of values."""
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(batch, heads, length, 8, generator=generator)
    k, v = (torch.randn(batch, kv_heads, length, 8, generator=generator) for _ in range(2))
    return 2 * q, 2 * k, v, torch.rand(batch, heads, length, generator=generator)


def expected(A: Tensor, v: Tensor, norms: Tensor, ids: Tensor, requested: Requested) -> dict[str, Tensor]:
    """Each statistic by its definition."""
    length = A.shape[-1]
    position, pad = torch.arange(length), torch.nn.functional.pad
    shifted = {d: A.diagonal(-d, -2, -1) if abs(d) < length else A[..., 0, :0] for d in requested.offsets}
    result = {
        "mass": A.sum(-1),
        "entropy": torch.special.entr(A).sum(-1),
        "distance": (A * (position[:, None] - position)).sum(-1),
        "value_weighted": (A * norms[:, :, None]).sum(-1),
        "z": A @ v.double().repeat_interleave(A.shape[1] // v.shape[1], 1),
        "at_sources": torch.stack([A[..., each] for each in requested.sources], 2),
        "at_offsets": torch.stack(
            [
                pad(row, (length - row.shape[-1], 0) if d >= 0 else (0, length - row.shape[-1]))
                for d, row in shifted.items()
            ],
            2,
        ),
        "received": A.sum(-2),
        "pooled": torch.nn.functional.adaptive_avg_pool2d(A, requested.pooled)
        if length > (requested.pooled or 0)
        else A,
        "largest": torch.nn.functional.max_pool2d(A, requested.largest or 1, ceil_mode=True),
        "top_weights": A.topk(min(requested.top, length), -1).values,
    }
    for name, shift in (("same", 0), ("after", 1)):
        tokens = ids.tolist()
        matches = torch.tensor(
            [
                [shift <= src < dest and tokens[src - shift] == tokens[dest] for src in range(length)]
                for dest in range(length)
            ]
        )
        later = torch.ones(length, length, dtype=torch.bool).tril(-1)
        result[f"matched {name}"] = (A * matches).sum(-2)
        result[f"unmatched {name}"] = (A * (later & ~matches)).sum(-2)
    return result


def pooled(A: Tensor, bins: int) -> Tensor:
    return torch.nn.functional.adaptive_avg_pool2d(A, bins) if A.shape[-1] > bins else A


def compare(statistics: Any, definitions: dict[str, Tensor], tolerance: float = 1e-5) -> set[str]:
    """Everything that was computed equals its definition, a distance relatively to the length; what was compared."""
    compared = set()
    for name, value in definitions.items():
        kind, _, which = name.partition(" ")
        computed = getattr(statistics, kind)[which] if which else getattr(statistics, kind)
        if computed is None:
            continue
        if name == "top_weights":
            computed = computed[..., : value.shape[-1]]
        scale = value.shape[-1] if name == "distance" else 1
        torch.testing.assert_close(computed.double() / scale, value / scale, atol=tolerance, rtol=tolerance, msg=name)
        compared.add(name)
    return compared


def ids_of(length: int, kinds: int) -> Tensor:
    return torch.randint(0, kinds, (length,), generator=torch.Generator().manual_seed(5))


def matches_of(ids: Tensor) -> dict[str, TokenMatches]:
    return {"same": TokenMatches(ids), "after": TokenMatches(ids, 1)}


@pytest.mark.parametrize("length", [64, 65, 131])
@pytest.mark.parametrize("kv_heads", [1, 2, 6])
@pytest.mark.parametrize("name", FORMULAS)
def test_tiles_give_every_statistic_of_the_whole_pattern(name: str, kv_heads: int, length: int) -> None:
    q, k, v, norms = inputs(2, 6, kv_heads, length)
    ids, formula = ids_of(length, 30), FORMULAS[name]
    requested = replace(REQUESTED, matches=matches_of(ids))
    statistics = pattern_statistics(q, k, formula, requested, v=v, value_norms=norms)
    A = softmax_of(q, k, formula)
    definitions = expected(A, v, norms, ids, requested)
    assert compare(statistics, definitions) == set(definitions)
    sources = statistics.top_sources
    assert sources is not None and statistics.top_weights is not None
    named = A.gather(-1, sources.clamp(min=0)) * (sources >= 0)
    torch.testing.assert_close(named, statistics.top_weights.double(), atol=1e-5, rtol=0)
    if formula.causal and formula.window is None:
        assert (sources[:, :, 0] >= 0).sum(-1).eq(1).all() and (sources[:, :, 3:] >= 0).all()


@pytest.mark.parametrize("length", [63, 64, 65, 131])
@pytest.mark.parametrize("name", FORMULAS)
def test_attention_with_other_values_gives_the_same(name: str, length: int) -> None:
    q, k, v, norms = inputs(2, 6, 2, length)
    ids, formula = ids_of(length, 60), FORMULAS[name]
    requested = replace(REQUESTED, matches=matches_of(ids) if formula.causal else {}, largest=None, top=0)
    if not can_compute(q, formula, requested):
        assert formula.softcap is not None or (formula.window or length) < length
        return
    fused = fused_statistics(q, k, formula, requested, v=v, value_norms=norms)
    definitions = expected(softmax_of(q, k, formula), v, norms, ids, requested)
    definitions = {x: y for x, y in definitions.items() if formula.causal or " " not in x}
    assert compare(fused, definitions, 2e-5) == set(definitions) - {"top_weights", "largest"}
    tiled = tiled_statistics(q, k, formula, requested, v=v, value_norms=norms)
    assert compare(fused, {x: getattr(tiled, x).double() for x in ("mass", "entropy", "received", "z")}, 2e-5)


def test_which_form_is_for_what() -> None:
    q, requested = torch.zeros(1, 1, 8, 4), Requested(entropy=True)
    assert can_compute(q, PatternFormula(1, True), requested) and can_compute(q, PatternFormula(1, False), requested)
    assert can_compute(q, PatternFormula(1, True, window=8), requested)
    assert not can_compute(q, PatternFormula(1, True, window=7), requested)
    assert not can_compute(q, PatternFormula(1, True, softcap=1.0), requested)
    assert not can_compute(q, PatternFormula(1, True), Requested(top=1))
    assert not can_compute(q, PatternFormula(1, True), Requested(largest=2))
    dense = {"same": TokenMatches(torch.tensor([1] * 500 + [2]))}
    assert not dense["same"].listed
    assert not can_compute(torch.zeros(1, 1, 501, 4), PatternFormula(1, True), Requested(matches=dense))
    assert not can_compute(q, PatternFormula(1, False), Requested(matches={"same": TokenMatches(torch.arange(8))}))


@given(
    length=st.integers(1, 150),
    heads=st.sampled_from([(1, 1), (2, 1), (6, 2), (5, 5), (9, 1)]),
    causal=st.booleans(),
    window=st.none() | st.integers(1, 160),
    softcap=st.none() | st.floats(0.5, 20),
    kinds=st.integers(1, 40),
    pooled=st.integers(1, 160),
    largest=st.integers(1, 160),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=60, deadline=None)
def test_any_shape(
    length: int,
    heads: tuple[int, int],
    causal: bool,
    window: int | None,
    softcap: float | None,
    kinds: int,
    pooled: int,
    largest: int,
    seed: int,
) -> None:
    q, k, v, norms = inputs(1, *heads, length, seed)
    formula = PatternFormula(0.2, causal, window if causal else None, softcap)
    ids = ids_of(length, kinds)
    requested = replace(REQUESTED, matches=matches_of(ids), pooled=pooled, largest=largest, sources=(0,))
    definitions = expected(softmax_of(q, k, formula), v, norms, ids, requested)
    statistics = pattern_statistics(q, k, formula, requested, v=v, value_norms=norms)
    assert compare(statistics, definitions, 2e-5) == set(definitions)
    if can_compute(q, formula, replace(requested, largest=None, top=0)):
        fused = fused_statistics(q, k, formula, replace(requested, largest=None, top=0), v=v, value_norms=norms)
        assert compare(fused, definitions, 5e-5) == set(definitions) - {"top_weights", "largest"}


@pytest.mark.parametrize("name", FORMULAS)
def test_float64_is_computed_in_float64(name: str) -> None:
    q, k, v, norms = (x.double() for x in inputs(1, 6, 2, 131))
    ids, formula = ids_of(131, 20), FORMULAS[name]
    requested = replace(REQUESTED, matches=matches_of(ids))
    statistics = pattern_statistics(q, k, formula, requested, v=v, value_norms=norms)
    assert statistics.entropy is not None and statistics.entropy.dtype == torch.float64
    compare(statistics, expected(softmax_of(q, k, formula), v, norms, ids, requested), 1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(dtype: torch.dtype) -> None:
    q, k, v, norms = (x.to(dtype) for x in inputs(1, 6, 2, 131))
    ids, formula = ids_of(131, 20), FORMULAS["causal"]
    requested = replace(REQUESTED, matches=matches_of(ids))
    exact = expected(softmax_of(q, k, formula), v, norms, ids, requested)
    statistics = pattern_statistics(q, k, formula, requested, v=v, value_norms=norms)
    assert statistics.mass.dtype == torch.float32
    compare(statistics, exact)
    compare(
        fused_statistics(q, k, formula, replace(requested, largest=None, top=0), v=v, value_norms=norms), exact, 5e-5
    )


@pytest.mark.parametrize("name", ["causal", "window", "sinks", "not causal"])
def test_any_mask_and_rows_that_see_nothing(name: str) -> None:
    q, k, v, norms = inputs(1, 6, 2, 131)
    ids, formula = ids_of(131, 20), FORMULAS[name]
    mask = torch.rand(131, 131, generator=torch.Generator().manual_seed(1)) < 0.6
    mask[70] = False
    requested = replace(REQUESTED, matches=matches_of(ids))
    statistics = pattern_statistics(q, k, formula, requested, v=v, value_norms=norms, mask=mask)
    definitions = expected(softmax_of(q, k, formula, mask), v, norms, ids, requested)
    assert compare(statistics, definitions) == set(definitions)
    assert statistics.z is not None and not statistics.mass[..., 70].any() and not statistics.z[:, :, 70].any()


def test_scores_of_any_size_stay_finite() -> None:
    q, k, v, norms = inputs(1, 6, 2, 100)
    for formula in (PatternFormula(300.0, True), PatternFormula(1e-6, True)):
        statistics = pattern_statistics(q, k, formula, Requested(entropy=True), v=v, value_norms=norms)
        compare(statistics, {"entropy": torch.special.entr(softmax_of(q, k, formula)).sum(-1)}, 1e-4)


@pytest.mark.parametrize(
    "ids",
    [
        torch.tensor([1] * 150),
        torch.tensor([1] * 140 + [2]),
        torch.tensor([1] * 70 + [2] + [1] * 70),
        torch.arange(100),
        torch.tensor([7]),
        torch.arange(75).repeat(2),
    ],
    ids=["one token", "one other at the end", "one other within", "all different", "one", "repeated"],
)
def test_matches_are_those_of_plain_loops(ids: Tensor) -> None:
    length = len(ids)
    for shift in (0, 1):
        matches = TokenMatches(ids, shift)
        tokens = ids.tolist()
        pairs = {(q, k) for q in range(length) for k in range(shift, q) if tokens[k - shift] == tokens[q]}
        others = [sum((q, k) not in pairs for q in range(k + 1, length)) for k in range(length)]
        assert set(zip(*(x.tolist() for x in matches.pairs()), strict=True)) == pairs
        assert matches.n_others.tolist() == others
        counted = {k for _, k in pairs if others[k]}
        assert set(matches.counted.nonzero()[:, 0].tolist()) == counted
        assert matches.n_rows == len({q for q, k in pairs if k in counted})
        q, k, v, norms = inputs(1, 2, 1, length)
        requested = Requested(matches={"same" if shift == 0 else "after": matches})
        definitions = expected(softmax_of(q, k, FORMULAS["causal"]), v, norms, ids, REQUESTED if length > 3 else _SHORT)
        name = "same" if shift == 0 else "after"
        statistics = pattern_statistics(q, k, FORMULAS["causal"], requested)
        compare(statistics, {x: y for x, y in definitions.items() if x.endswith(f" {name}")}, 1e-6)


_SHORT = replace(REQUESTED, sources=(0,))


def test_norms_of_values_are_those_of_what_is_written() -> None:
    generator = torch.Generator().manual_seed(0)
    v, W_O = torch.randn(2, 2, 9, 5, generator=generator), torch.randn(6, 5, 12, generator=generator)
    W_O[0, :, :] = W_O[0, :1]  # of rank one: most values write next to nothing
    written = v.double().repeat_interleave(3, 1)[..., None, :] @ W_O.double()[:, None]
    norms = value_output_norms(v, W_O)
    torch.testing.assert_close(norms.double(), written.norm(dim=-1)[..., 0], atol=1e-5, rtol=1e-5)
    assert value_output_norms(v.bfloat16(), W_O.bfloat16()).dtype == torch.float32


def test_what_cannot_be_computed_is_refused() -> None:
    q = torch.zeros(1, 3, 8, 4)
    with pytest.raises(ValueError, match="3 query heads cannot share 2"):
        pattern_statistics(q, q[:, :2], PatternFormula(1, True), Requested())
    with pytest.raises(ValueError, match="are for 5 positions, and q has 8"):
        pattern_statistics(q, q, PatternFormula(1, True), Requested(matches={"same": TokenMatches(torch.arange(5))}))
    with pytest.raises(ValueError, match="of 'lightning': expected softmax"):
        pattern_statistics(q, q, PatternFormula(1, True, operator="lightning"), Requested())


def test_the_example_of_the_docstring_runs() -> None:
    text, names = pattern_statistics.__doc__ or "", {"torch": torch, "Requested": Requested}
    example = doctest.DocTestParser().get_doctest(
        text, names | {"pattern_statistics": pattern_statistics}, "example", None, None
    )
    assert len(example.examples) == 4
    assert doctest.DocTestRunner().run(example).failed == 0


class Largest(TorchDispatchMode):
    """The most entries of any tensor that an operation returned."""

    entries = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for x in tree_leaves(result):
            if isinstance(x, Tensor):
                self.entries = max(self.entries, x.numel())
        return result


@pytest.mark.parametrize("form", [tiled_statistics, fused_statistics])
@pytest.mark.parametrize("window", [None, 300])
def test_no_tensor_is_as_large_as_a_pattern(form: Any, window: int | None) -> None:
    length = 1500
    q, k, v, norms = inputs(1, 4, 2, length)
    ids = ids_of(length, 400)
    requested = Requested(
        entropy=True, distance=True, received=True, sources=(0,), offsets=(0, 1), pooled=64, matches=matches_of(ids)
    )
    with Largest() as seen:
        matches_of(ids)
        if form is tiled_statistics:
            requested = replace(requested, largest=100, top=4)
            form(q, k, PatternFormula(0.3, True, window), requested, v=v, value_norms=norms)
        else:
            form(q, k, PatternFormula(0.3, True), requested, v=v, value_norms=norms)
    pattern = length * length
    assert 4 * length * 8 < seen.entries < pattern / 3
    with Largest() as seen:
        softmax_of(q, k, PatternFormula(0.3, True, window))
    assert seen.entries == 4 * pattern
