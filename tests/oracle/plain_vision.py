"""q, k, v, pattern and z of transformers' vision models by plain hooks on their projections, and edits of one head."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.dinov3_vit.modeling_dinov3_vit import apply_rotary_pos_emb

from tests.oracle.plain_hooks import edited

Change = Callable[[Tensor], Tensor]
Sites = dict[str, Tensor]


class PlainViT:
    """Plain hooks on a model.

    Args:
        layers: the attention of each layer, with projections ``q_proj``, ``k_proj`` and ``v_proj``.
        output: the name of its output projection.
    """

    def __init__(self, model: Any, layers: list[nn.Module], output: str, n_heads: int) -> None:
        self.model, self.layers, self.n_heads = model, layers, n_heads
        self.outputs = [layer.get_submodule(output) for layer in layers]

    def read(self, run: Callable[[], object]) -> list[Sites]:
        """Of each layer: q, k, v, z ``[batch, pos, head, d_head]`` and pattern ``[batch, head, dest, src]``.

        ``q`` and ``k`` are what the projections give, ``rot_q`` and ``rot_k`` what attention receives. The pattern is
        softmax(q kᵀ / √d_head + bias); ``eager`` is the one that eager attention returns.
        """
        seen: list[Sites] = [{} for _ in self.layers]
        arguments: list[dict[str, Any]] = []
        bias: list[Tensor] = []
        handles = []
        for layer, output, sites in zip(self.layers, self.outputs, seen, strict=True):
            handles += [
                *(layer.get_submodule(f"{x}_proj").register_forward_hook(self._output(sites, x)) for x in "qkv"),
                output.register_forward_pre_hook(self._input(sites)),
                layer.register_forward_hook(self._returned(sites)),
                layer.register_forward_pre_hook(lambda _, __, named: arguments.append(named), with_kwargs=True),
            ]
        for name, part in self.model.named_modules():
            if name.endswith("position_bias"):
                handles.append(part.register_forward_hook(lambda _, __, output: bias.append(output)))
        run()
        for handle in handles:
            handle.remove()
        n = len(self.layers)
        biases = bias if len(bias) == n else (bias or [torch.zeros(1)]) * n  # one in each layer, one for all, or none
        for sites, added, named in zip(seen, biases, arguments, strict=True):
            q, k = sites["rot_q"], sites["rot_k"] = rotated(sites["q"], sites["k"], named.get("position_embeddings"))
            sites["pattern"] = (torch.einsum("bdhx,bshx->bhds", q, k) / q.shape[-1] ** 0.5 + added).softmax(-1)
        return seen

    @contextmanager
    def edited(self, site: str, layer: int, head: int, change: Change, own: Sites) -> Iterator[None]:
        """One head's q, k, v before any rotation, z, or pattern ``[batch, dest, src]`` changed.

        Args:
            own: the layer's sites in the run that is edited.
        """

        def changed(x: Tensor) -> Tensor:
            heads = self._heads(x).clone()
            if site == "pattern":
                heads[:, :, head] = change(own["pattern"][:, head]) @ own["v"][:, :, head]
            else:
                heads[:, :, head] = change(heads[:, :, head])
            return heads.flatten(2)

        place = self.outputs[layer] if site in ("z", "pattern") else self.layers[layer].get_submodule(f"{site}_proj")
        with edited((place, "input" if site in ("z", "pattern") else "output", changed)):
            yield

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, -1))

    def _output(self, sites: Sites, name: str) -> Callable[..., None]:
        return lambda _, __, output: sites.update({name: self._heads(output)})

    def _returned(self, sites: Sites) -> Callable[..., None]:
        return lambda _, __, output: None if output[1] is None else sites.update(eager=output[1])

    def _input(self, sites: Sites) -> Callable[..., None]:
        return lambda _, args: sites.update(z=self._heads(args[0]))


def rotated(q: Tensor, k: Tensor, rotation: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
    """q and k as attention receives them, by transformers' own function."""
    if rotation is None:
        return q, k
    q, k = apply_rotary_pos_emb(q.transpose(1, 2), k.transpose(1, 2), *rotation)
    return q.transpose(1, 2), k.transpose(1, 2)
