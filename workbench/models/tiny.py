"""`tiny`: a small model with random weights, for trying operators and for training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from workbench import arguments
from workbench.attention.operator import BoundOperator, Operator
from workbench.models.building import building_a_model
from workbench.models.language import HookedLM
from workbench.models.swap import operators_by_layer, swap

#: Weights of a model that is still tiny.
LARGEST = 200_000_000


def tiny(
    kind: str = "lm",
    *,
    layers: int = 2,
    width: int = 64,
    heads: int = 4,
    kv_heads: int | None = None,
    vocabulary: int = 256,
    context: int = 2048,
    operators: Mapping[Any, str | Operator | BoundOperator] | None = None,
    bidirectional: bool = False,
    seed: int = 0,
) -> HookedLM:
    """A small Llama of transformers with random weights, hooked, with any attention operators in its layers.

    It has no tokeniser: inputs are ids from 0 to ``vocabulary − 1``. Every parameter takes gradients, those of the
    operators among them, which are parameters of ``model.hf`` like all others.

    Args:
        kind: ``"lm"``, a language model.
        layers: how many. width: of the residual stream; the MLPs are four times as wide.
        heads: query heads a layer, each ``width / heads`` wide. kv_heads: key/value heads; None for as many.
        vocabulary: how many tokens there are. context: the longest input.
        operators: layers → operator, as `wb.swap` takes them: ``{"all": "lightning"}``.
        bidirectional: allow operators that let positions see later ones.
        seed: of the weights.

    Raises:
        UsageError: sizes that do not go together, or operators that `wb.swap` refuses.
        UnknownName: no such operator or setting.

    Examples:
        >>> import torch
        >>> model = wb.tiny("lm", layers=2, width=32, operators={1: "lightning"})
        >>> ids = torch.randint(0, 256, (4, 16), generator=torch.Generator().manual_seed(0))
        >>> optimizer = torch.optim.AdamW(model.hf.parameters(), lr=1e-2)
        >>> before = model(ids, return_type="loss").item()
        >>> for _ in range(5):
        ...     model(ids, return_type="loss").backward()
        ...     optimizer.step()
        ...     optimizer.zero_grad()
        >>> model(ids, return_type="loss").item() < before
        True
    """
    arguments.one_of("kind", kind, ("lm",))
    sizes = {"layers": layers, "width": width, "heads": heads, "vocabulary": vocabulary, "context": context}
    sizes = {name: arguments.whole_number(name, value, at_least=1, at_most=10**6) for name, value in sizes.items()}
    n_kv_heads = arguments.whole_number("kv_heads", kv_heads, at_least=1, optional=True) or sizes["heads"]
    seed = arguments.whole_number("seed", seed, at_least=0, at_most=2**64 - 1)
    bidirectional = arguments.flag("bidirectional", bidirectional)
    if sizes["width"] % (2 * sizes["heads"]):
        because = "heads have an even width, half of which is rotated against the other"
        raise arguments.refusal("width", width, f"a multiple of 2 · heads = {2 * sizes['heads']}", because=because)
    if sizes["heads"] % n_kv_heads:
        raise arguments.refusal("kv_heads", kv_heads, f"a number that divides heads={heads}")
    weights = 2 * sizes["vocabulary"] * sizes["width"] + 16 * sizes["layers"] * sizes["width"] ** 2
    if weights > LARGEST:
        largest = max(("layers", "width", "vocabulary"), key=lambda name: sizes[name])
        raise arguments.refusal(largest, sizes[largest], f"a model of at most {LARGEST:,} weights")
    if operators is not None:
        operators_by_layer("operators", operators, sizes["layers"])
    config = LlamaConfig(
        vocab_size=sizes["vocabulary"],
        hidden_size=sizes["width"],
        intermediate_size=4 * sizes["width"],
        num_hidden_layers=sizes["layers"],
        num_attention_heads=sizes["heads"],
        num_key_value_heads=n_kv_heads,
        max_position_embeddings=sizes["context"],
        bos_token_id=None,
        eos_token_id=None,
    )
    with building_a_model(), torch.random.fork_rng():
        torch.manual_seed(seed)
        hf = LlamaForCausalLM(config).eval()
    made = ", ".join(f"{name} {value}" for name, value in {**sizes, "kv_heads": n_kv_heads, "seed": seed}.items())
    model = HookedLM(hf, provenance={"name": f"tiny {kind}", "source": f"random weights: {made}"})
    return model if operators is None else swap(model, operators, bidirectional=bidirectional)
