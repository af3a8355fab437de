"""Every linear statistic of a pattern is attention with other values, which a fused kernel computes.

- ``Σ_k A[q, k] u[k]`` for values u: positions (distance), norms, the bins of a pooled map, v itself.
- The log-sum-exp comes with the kernel. ``entropy = lse − scale · q · (A K)``, because ``log A = scale · q k − lse``.
  All keys are shifted by the first one, which moves no pattern and keeps lse small.
- What a key receives is ``exp`` of the log-sum-exp of its column: attention of k over q, with ``−lse`` of each row as
  one more dimension, and backwards in time where it is causal.
- One entry is ``exp(scale · q k − lse)``: sources, offsets and pairs of equal tokens are dot products.
- A sink, one more logit, takes its share of each row afterwards.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.attention.statistics.matches import TokenMatches
from workbench.attention.statistics.pooling import bin_weights
from workbench.attention.statistics.requested import Formula, Requested
from workbench.attention.statistics.result import PatternStatistics, assembled

#: Pairs whose dot products are taken at once.
PAIRS = 2**16
#: The kernels take head widths that this divides.
ALIGNED = 8

Heads = Float[Tensor, "batch head pos width"]


def can_compute(q: Tensor, formula: Formula, requested: Requested) -> bool:
    """Whether a fused kernel has all of it: no cap, window, largest weights or strongest sources, and matches with a
    list of pairs; on CUDA no float64."""
    windowed = formula.causal and formula.window is not None and formula.window < q.shape[2]
    listed = all(formula.causal and each.listed for each in requested.matches.values())
    has_maxima = bool(requested.top) or requested.largest is not None
    has_kernel = q.device.type in ("cpu", "cuda") and (q.device.type == "cpu" or q.dtype != torch.float64)
    return has_kernel and formula.softcap is None and not windowed and not has_maxima and listed


@torch.no_grad()
def fused_statistics(
    q: Float[Tensor, "batch head pos d_head"],
    k: Float[Tensor, "batch kv_head pos d_head"],
    formula: Formula,
    requested: Requested,
    *,
    v: Float[Tensor, "batch kv_head pos d_value"] | None = None,
    value_norms: Float[Tensor, "batch head pos"] | None = None,
) -> PatternStatistics:
    """As `pattern_statistics`, where `can_compute` says so."""
    run = _Pattern(q, k, formula)
    results = {"mass": run.mass}
    listed = bool(requested.matches)
    if requested.entropy:
        results["entropy"] = run.entropy()
    columns = _Columns(run)
    if requested.distance:
        columns.add("distance", run.position[:, None] / run.length)
    if value_norms is not None:
        columns.add("value_weighted", value_norms[..., None])
    if v is not None:
        columns.add("z", v.repeat_interleave(run.group, 1))
    bins = None if requested.pooled is None else bin_weights(run.length, requested.pooled, run.query)
    if bins is not None:
        columns.add("pooled", bins.mT)
    sums = columns.sums()
    if "distance" in sums:
        results["distance"] = run.position * run.mass - sums["distance"][..., 0] * run.length
    if "value_weighted" in sums:
        results["value_weighted"] = sums["value_weighted"][..., 0]
    if "z" in sums:
        results["z"] = sums["z"]
    if bins is not None:
        results["pooled"] = bins @ sums["pooled"]
    if requested.received or listed:
        results["received"] = run.received()
    if requested.sources:
        results["at_sources"] = torch.stack([run.at_source(each) for each in requested.sources], 2)
    offsets = [run.at_offset(each) for each in (*requested.offsets, *((0,) if listed else ()))]
    results["at_offsets"] = (
        torch.stack(offsets, 2) if offsets else run.mass.new_empty(*run.mass.shape[:2], 0, run.length)
    )
    of_matches = {name: {"matched": run.matched(each)} for name, each in requested.matches.items()}
    return assembled(results, of_matches, requested)


def attention(query: Heads, key: Heads, value: Heads, causal: bool) -> tuple[Heads, Float[Tensor, "batch head pos"]]:
    """``softmax(q kᵀ) v`` and the log-sum-exp of each row, by torch's kernel for the device. All widths are equal."""
    if query.device.type == "cpu":
        z, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, 0.0, causal, scale=1.0)
    else:
        z, lse, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(
            query, key, value, None, True, 0.0, causal, scale=1.0
        )
    return z, lse[..., : query.shape[2]]  # CUDA's is padded


class _Pattern:
    """q and k of some patterns, with the log-sum-exp and the sum of each row."""

    def __init__(self, q: Tensor, k: Tensor, formula: Formula) -> None:
        dtype, self.length, self.group = (
            torch.promote_types(q.dtype, torch.float32),
            q.shape[2],
            q.shape[1] // k.shape[1],
        )
        self.causal = formula.causal
        keys = k.to(dtype)
        self.query = q.to(dtype) * formula.scale
        self.key = (keys - keys[:, :, :1]).repeat_interleave(self.group, 1)
        self.position = torch.arange(self.length, device=q.device, dtype=dtype)
        self.width = _aligned(q.shape[-1])
        self._padded_query, self._padded_key = (_pad(x, self.width).contiguous() for x in (self.query, self.key))
        weighted_keys, self._own_lse = attention(self._padded_query, self._padded_key, self._padded_key, self.causal)
        self._weighted_keys = weighted_keys[..., : q.shape[-1]]
        self.mass, self.lse = torch.ones_like(self._own_lse), self._own_lse
        if formula.sinks is not None:
            first = torch.tensor(formula.sinks, dtype=dtype, device=q.device)[:, None]
            # The scores have moved with the keys, and the sink moves with them.
            sinks = first - (self.query * keys[:, :, :1].repeat_interleave(self.group, 1)).sum(-1)
            self.lse = torch.logaddexp(self._own_lse, sinks)
            self.mass = torch.exp(self._own_lse - self.lse)

    def entropy(self) -> Tensor:
        scores = (self.query * self._weighted_keys).sum(-1) * self.mass
        return self.mass * self.lse - scores

    def weighted(self, values: Heads) -> Heads:
        """``Σ_k A[q, k] values[k]`` for at most `width` columns."""
        z, _ = attention(self._padded_query, self._padded_key, _pad(values, self.width).contiguous(), self.causal)
        return z[..., : values.shape[-1]] * self.mass[..., None]

    def received(self) -> Tensor:
        ones, width = torch.ones_like(self.lse)[..., None], _aligned(self.query.shape[-1] + 1)
        from_keys = _pad(torch.cat([self.key, ones], -1), width)
        to_queries = _pad(torch.cat([self.query, -self.lse[..., None]], -1), width)
        if self.causal:
            from_keys, to_queries = from_keys.flip(2), to_queries.flip(2)
        _, lse = attention(from_keys.contiguous(), to_queries.contiguous(), to_queries.contiguous(), self.causal)
        return torch.exp(lse.flip(2) if self.causal else lse)

    def at_source(self, source: int) -> Tensor:
        weights = torch.exp((self.query * self.key[:, :, source, None]).sum(-1) - self.lse)
        return weights * (self.position >= source) if self.causal else weights

    def at_offset(self, offset: int) -> Tensor:
        rows = torch.zeros_like(self.lse)
        if abs(offset) < self.length and (offset >= 0 or not self.causal):
            low, high = max(0, offset), self.length + min(0, offset)
            products = (self.query[:, :, low:high] * self.key[:, :, low - offset : high - offset]).sum(-1)
            rows[..., low:high] = torch.exp(products - self.lse[..., low:high])
        return rows

    def matched(self, matches: TokenMatches) -> Tensor:
        sums, (dests, srcs) = torch.zeros_like(self.lse), matches.pairs()
        for dest, src in zip(dests.to(sums.device).split(PAIRS), srcs.to(sums.device).split(PAIRS), strict=True):
            products = (self.query[:, :, dest] * self.key[:, :, src]).sum(-1)
            weights = torch.exp(products - self.lse[..., dest])
            sums.scatter_add_(-1, src.expand_as(weights), weights)
        return sums


class _Columns:
    """Values of several statistics side by side, so that the kernel runs once for each `width` of them."""

    def __init__(self, run: _Pattern) -> None:
        self._run, self._columns = run, dict[str, Tensor]()

    def add(self, name: str, values: Float[Tensor, "*batch_head pos columns"]) -> None:
        shape = (*self._run.query.shape[:2], *values.shape[-2:])
        self._columns[name] = values.to(self._run.query.dtype).expand(shape)

    def sums(self) -> dict[str, Tensor]:
        if not self._columns:
            return {}
        parts = torch.cat(list(self._columns.values()), -1).split(self._run.width, -1)
        sums = torch.cat([self._run.weighted(part) for part in parts], -1)
        widths = [x.shape[-1] for x in self._columns.values()]
        return dict(zip(self._columns, sums.split(widths, -1), strict=True))


def _aligned(width: int) -> int:
    return -(-width // ALIGNED) * ALIGNED


def _pad(x: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(x, (0, width - x.shape[-1]))
