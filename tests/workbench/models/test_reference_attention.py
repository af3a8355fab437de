"""The reference form of attention against Hugging Face's eager function and PyTorch's, and the fast form against it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward

from workbench.models import prefix_attention, reference_attention
from workbench.models.prefix_attention import Prefix

KV, GROUP, SIZE, SCALE = 2, 3, 8, 0.4
HEADS = KV * GROUP


def randoms(*shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


@pytest.mark.parametrize("softcap", [None, 2.0])
def test_it_is_hugging_faces_eager_attention(softcap: float | None) -> None:
    query, keys, values = randoms((2, HEADS, 5, SIZE), (2, KV, 5, SIZE), (2, KV, 5, SIZE))
    layer: Any = nn.Module()
    layer.num_key_value_groups = GROUP
    mask = torch.full((5, 5), -1e9, dtype=torch.float64).triu(1)[None, None]
    expected, _ = eager_attention_forward(layer, query, keys, values, mask, scaling=SCALE, softcap=softcap)
    z = reference_attention.attention(query, [(keys, values)], mask, SCALE, softcap=softcap)
    # Hugging Face's softmax is float32 here.
    assert torch.allclose(z, expected, atol=1e-6)


@pytest.mark.parametrize("window", [None, 2])
def test_it_is_pytorchs_attention_with_a_boolean_mask(window: int | None) -> None:
    query, keys, values = randoms((2, HEADS, 3, SIZE), (2, KV, 5, SIZE), (2, KV, 5, SIZE))
    mask = reference_attention.visible(3, 5, True, window, query.device)
    assert mask is not None and mask.sum().item() == (12 if window is None else 6)
    z = reference_attention.attention(query, [(keys, values)], mask, SCALE)
    expected = nn.functional.scaled_dot_product_attention(query, keys, values, mask, scale=SCALE, enable_gqa=True)
    assert torch.allclose(z, expected.transpose(1, 2), atol=1e-12)


def test_sources_in_parts_are_the_sources_put_together() -> None:
    query, keys, values = randoms((2, HEADS, 2, SIZE), (2, KV, 5, SIZE), (2, KV, 5, SIZE))
    mask = reference_attention.visible(2, 5, True, None, query.device)
    parts = list(zip(keys.split([3, 2], 2), values.split([3, 2], 2), strict=True))
    apart = reference_attention.attention(query, parts, mask, SCALE)
    together = reference_attention.attention(query, [(keys, values)], mask, SCALE)
    assert torch.allclose(apart, together, atol=1e-12)
    shared = reference_attention.attention(query, [(keys[:1], values[:1])], mask, SCALE)
    repeated = [(keys[:1].expand(2, -1, -1, -1), values[:1].expand(2, -1, -1, -1))]
    assert torch.allclose(shared, reference_attention.attention(query, repeated, mask, SCALE), atol=1e-12)


def test_heads_that_do_not_divide_are_refused() -> None:
    query, keys = randoms((1, 3, 2, SIZE), (1, KV, SIZE, 4))
    with pytest.raises(ValueError, match="3 query heads cannot share 2"):
        reference_attention.grouped_product(query, keys)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("rows", [[0, 0, 0], [0, 0, 1], [0, 1, 2], None])
def test_the_fast_form_over_prefixes_is_the_reference_form(rows: list[int] | None, causal: bool) -> None:
    start, own, batch = 4, 3, 3
    n_examples = 1 if rows is None else max(rows) + 1
    query, key, value = randoms((batch, HEADS, own, SIZE), (batch, KV, own, SIZE), (batch, KV, own, SIZE))
    keys, values = randoms((n_examples, KV, start, SIZE), (n_examples, KV, start, SIZE))
    prefix = Prefix(start, keys, values, None, None if rows is None else torch.tensor(rows))
    assert prefix_attention.is_plain(prefix, query, key, value, {"scaling": SCALE})
    assert not prefix_attention.is_plain(prefix, query, key, value, {"scaling": SCALE, "softcap": 2.0})
    fast = prefix_attention.attention(query, key, value, prefix, SCALE, causal)
    examples = torch.zeros(batch, dtype=torch.long) if rows is None else torch.tensor(rows)
    together = [(torch.cat([keys[examples], key], 2), torch.cat([values[examples], value], 2))]
    mask = reference_attention.visible(own, start + own, causal, None, query.device)
    assert torch.allclose(fast, reference_attention.attention(query, together, mask, SCALE), atol=1e-12)
