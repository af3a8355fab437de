"""q, k, v, pattern and z of an attention of diffusers by plain hooks on its projections, and edits of one head."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor, nn

from tests.oracle.plain_hooks import edited

Sites = dict[str, Tensor]
#: Site → the projection and the norm behind it; of text that has its own.
OWN = {"q": ("to_q", "norm_q"), "k": ("to_k", "norm_k"), "v": ("to_v", "")}
ADDED = {"q": ("add_q_proj", "norm_added_q"), "k": ("add_k_proj", "norm_added_k"), "v": ("add_v_proj", "")}


class PlainAttention:
    """Plain hooks on one attention.

    Args:
        attention: diffusers' module.
        parts: the projections, `OWN` and `ADDED`, in the order of their positions.
        outputs: the modules that z enters, in the order of z's positions.
        mask: ``[batch, src]``, 0 where nothing is attended to.
    """

    def __init__(self, attention: Any, parts: list[Any], outputs: list[nn.Module], mask: Tensor | None = None) -> None:
        self.attention, self.parts, self.outputs, self.mask = attention, parts, outputs, mask
        self.heads: int = attention.heads
        self.size: int = attention.to_q.out_features
        self.rows: list[slice] = []  # of each output

    def read(self, run: Callable[[], object]) -> Sites:
        """q, k, v, z ``[batch, pos, head, d_head]`` and pattern ``[batch, head, dest, src]`` of one run.

        q and k are normed and rotated as the model does it. z has the positions that enter an output projection.
        """
        seen: dict[tuple[str, int], Tensor] = {}
        rotation: list[Any] = []

        def projected(site: str, i: int) -> Callable[..., None]:
            return lambda _, __, x: seen.update({(site, i): x})

        def attended(i: int) -> Callable[..., None]:
            return lambda _, args: seen.update({("z", i): args[0]})

        with ExitStack() as stack:
            handles = [
                self._last(*names).register_forward_hook(projected(site, i))
                for i, part in enumerate(self.parts)
                for site, names in part.items()
            ]
            handles += [module.register_forward_pre_hook(attended(i)) for i, module in enumerate(self.outputs)]
            before = self.attention.register_forward_pre_hook(
                lambda _, __, named: rotation.append(named.get("image_rotary_emb")), with_kwargs=True
            )
            for handle in (*handles, before):
                stack.callback(handle.remove)
            run()
        sites = {x: torch.cat([self._by_head(seen[x, i]) for i in range(len(self.parts))], 1) for x in "qkv"}
        entered = [self._by_head(seen["z", i][..., : self.size]) for i in range(len(self.outputs))]
        sites["z"] = torch.cat(entered, 1)
        ends = list(itertools.accumulate(x.shape[1] for x in entered))
        self.rows = [slice(end - x.shape[1], end) for x, end in zip(entered, ends, strict=True)]
        if rotation[0] is not None:
            rotate: Any = apply_rotary_emb
            sites |= {x: rotate(sites[x], rotation[0], sequence_dim=1) for x in "qk"}
        return sites | {"pattern": self.pattern(sites)}

    def pattern(self, sites: Sites) -> Tensor:
        """softmax(q kᵀ / √d_head) over what is attended to."""
        scores = torch.einsum("bdhx,bshx->bhds", sites["q"], sites["k"]) / sites["q"].shape[-1] ** 0.5
        if self.mask is not None:
            scores = scores.masked_fill(self.mask[:, None, None] == 0, -torch.inf)
        return scores.softmax(-1)

    def z_after(self, sites: Sites, site: str, head: int, change: Callable[[Tensor], Tensor]) -> Tensor:
        """One head's z ``[batch, dest, d_head]`` after a change of its q, k, v, z or pattern."""
        new = {x: value.clone() for x, value in sites.items()}
        part = (slice(None), head) if site == "pattern" else (slice(None), slice(None), head)
        new[site][part] = change(new[site][part])
        if site == "z":
            return new["z"][:, :, head]
        pattern = new["pattern"] if site == "pattern" else self.pattern(new)
        return pattern[:, head] @ new["v"][:, :, head]

    @contextmanager
    def replaced(self, head: int, z: Tensor) -> Iterator[None]:
        """One head's z ``[batch, dest, d_head]`` where it enters the output projections of the run that was read."""

        def entering(rows: slice) -> Callable[[Tensor], Tensor]:
            def change(x: Tensor) -> Tensor:
                heads = self._by_head(x[..., : self.size]).clone()
                heads[:, :, head] = z[:, rows]
                return torch.cat([heads.flatten(2), x[..., self.size :]], -1)

            return change

        places = zip(self.outputs, self.rows, strict=True)
        with edited(*((module, "input", entering(rows)) for module, rows in places)):
            yield

    def _last(self, projection: str, norm: str) -> nn.Module:
        """The norm behind a projection where there is one."""
        return getattr(self.attention, norm, None) or getattr(self.attention, projection)

    def _by_head(self, x: Tensor) -> Tensor:
        """``[batch, pos, head, d_head]``, of heads side by side, or of heads that come first as SD3 norms them."""
        if x.ndim == 3:
            return x.unflatten(-1, (self.heads, -1))
        return x.transpose(1, 2) if type(self.attention.processor).__name__.startswith("Joint") else x
