"""The rivals: the same patching with the tools at hand today, each as one plain function over a set of cells.

Each takes the corrupt prompts as one batch, writes the clean run's z of one head, and reads the logit difference: one
forward a cell. A cell is (layer, head), or (layer, head, position). All return ``[cell, prompt]``. Everything runs
without gradients, which none of these tools switches off by itself. Llama-like module names are assumed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from tests.benchmarks.subject import Prompts

Cell = tuple[int, ...]
#: Layer → z of one run.
Z = Mapping[int, Float[Tensor, "prompt pos d_model"]]
Scores = Float[Tensor, "cell prompt"]


# --- TransformerLens --------------------------------------------------------------------------------------------------


@torch.no_grad()
def transformer_lens_cache(bridge: Any, ids: Tensor) -> Any:
    """z of every layer, by hook name, as TransformerLens's own `ActivationCache`."""
    return bridge.run_with_cache(ids, names_filter=lambda name: name.endswith("attn.hook_z"))[1]


@torch.no_grad()
def transformer_lens(bridge: Any, clean: Any, prompts: Prompts, cells: Sequence[Cell]) -> Scores:
    """TransformerLens's own loops, `get_act_patch_attn_head_out_all_pos` and `…_by_pos`, restricted to some cells."""
    from transformer_lens import patching

    by_position = len(cells[0]) == 3
    if by_position:
        sweep, columns = patching.get_act_patch_attn_head_out_by_pos, ["layer", "pos", "head"]
        cells = [(layer, position, head) for layer, head, position in cells]
    else:
        sweep, columns = patching.get_act_patch_attn_head_out_all_pos, ["layer", "head"]
    rows = pd.DataFrame(cells, columns=columns)
    options: dict[str, Any] = {"index_axis_names": None, "index_df": rows, "reduce": "none"}
    result: Any = sweep(bridge, prompts.corrupt, clean, prompts.difference, **options)
    return result.values


# --- nnsight ----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def nnsight(traced: Any, clean: Z, prompts: Prompts, cells: Sequence[Cell]) -> Scores:
    """One trace a cell: the head's slice of the output projection's input is overwritten."""
    width = _head_width(traced.model.config)
    scores = []
    for layer, head in cells:
        columns = slice(head * width, (head + 1) * width)
        with traced.trace(prompts.corrupt):
            traced.model.layers[layer].self_attn.o_proj.input[:, :, columns] = clean[layer][:, :, columns]
            logits = traced.lm_head.output[:, -1:].save()
        scores.append(prompts.difference(logits))
    return torch.stack(scores)


# --- plain torch hooks ------------------------------------------------------------------------------------------------


@torch.no_grad()
def hooked_z(hf: Any, ids: Tensor) -> Z:
    """z of every layer, read with plain hooks."""
    z: dict[int, Tensor] = {}
    projections = [layer.self_attn.o_proj for layer in hf.model.layers]
    handles = [
        module.register_forward_pre_hook(lambda _, args, i=i: z.__setitem__(i, args[0].clone()))
        for i, module in enumerate(projections)
    ]
    try:
        hf(ids)
    finally:
        for handle in handles:
            handle.remove()
    return z


@torch.no_grad()
def torch_hook(hf: Any, clean: Z, prompts: Prompts, cells: Sequence[Cell], last_logits_only: bool = False) -> Scores:
    """One forward pre-hook a cell on the output projection, then the whole model; with `last_logits_only` the
    unembedding is computed for the last position alone."""
    width = _head_width(hf.config)
    options = {"logits_to_keep": 1} if last_logits_only else {}
    scores = []
    for layer, head in cells:
        columns = slice(head * width, (head + 1) * width)

        def patch(_: Any, args: tuple[Tensor, ...], layer: int = layer, columns: slice = columns) -> tuple[Tensor]:
            x = args[0].clone()
            x[:, :, columns] = clean[layer][:, :, columns]
            return (x,)

        handle = hf.model.layers[layer].self_attn.o_proj.register_forward_pre_hook(patch)
        try:
            scores.append(prompts.difference(hf(prompts.corrupt, **options).logits))
        finally:
            handle.remove()
    return torch.stack(scores)


# --- path patching ----------------------------------------------------------------------------------------------------


def _patch_head(x: Tensor, hook: Any, head: int, source: Tensor) -> Tensor:
    x[:, -1, head] = source[:, -1, head]
    return x


def _patch_all(x: Tensor, hook: Any, source: Tensor) -> Tensor:
    x[:, -1] = source[:, -1]
    return x


def _keep(x: Tensor, hook: Any, name: str, into: dict[str, Tensor]) -> None:
    into[name] = x.clone()


@torch.no_grad()
def published_path_patching(
    bridge: Any,
    clean: Mapping[str, Tensor],
    corrupt: Mapping[str, Tensor],
    prompts: Prompts,
    cells: Sequence[Cell],
    receivers: Sequence[tuple[int, int]] | None = None,
    lean: bool = False,
) -> Scores:
    """The path patching of Merullo et al. (2024, arXiv 2310.08744), senders one at a time, at the last position.

    As in their released code, the base is the clean run and each sender takes two runs: in the first its z is the
    corrupt run's and a hook for each other head of the model freezes that head's z, everything is cached, and the
    receivers' inputs are kept; the second patches only those in.

    Args:
        receivers: heads whose query is patched, or None for the final residual.
        lean: the same without waste, as a careful user would write it: one freezing hook a layer instead of one a head,
            and nothing cached but the receivers' inputs.
    """
    n_layers, n_heads = bridge.cfg.n_layers, bridge.cfg.n_heads
    z_names = [f"blocks.{layer}.attn.hook_z" for layer in range(n_layers)]
    if receivers is None:
        inputs = {f"blocks.{n_layers - 1}.hook_resid_post": [None]}
    else:
        inputs: dict[str, list[Any]] = {}
        for layer, head in receivers:
            inputs.setdefault(f"blocks.{layer}.attn.hook_q", []).append(head)
    scores = []
    for layer, head in cells:
        captured: dict[str, Tensor] = {}
        hooks: list[tuple[str, Any]] = [(name, partial(_keep, name=name, into=captured)) for name in inputs]
        send = (z_names[layer], partial(_patch_head, head=head, source=corrupt[z_names[layer]]))
        if lean:
            hooks += [(name, partial(_patch_all, source=clean[name])) for name in z_names] + [send]
            bridge.run_with_hooks(prompts.clean, fwd_hooks=hooks)
        else:
            hooks += [send] + [
                (name, partial(_patch_head, head=other, source=clean[name]))
                for at, name in enumerate(z_names)
                for other in range(n_heads)
                if (at, other) != (layer, head)
            ]
            for name, hook in hooks:
                bridge.add_hook(name, hook)
            bridge.run_with_cache(prompts.clean)
            bridge.reset_hooks()
        second = [
            (name, partial(_patch_all, source=x) if of is None else partial(_patch_head, head=of, source=x))
            for name, x in captured.items()
            for of in inputs[name]
        ]
        scores.append(prompts.difference(bridge.run_with_hooks(prompts.clean, fwd_hooks=second)))
    return torch.stack(scores)


def _head_width(config: Any) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
