"""Toys that are no language models: a bidirectional "image" model, and a denoiser that runs its layers once a step.

They show what a vision or a diffusion transformer has to provide. `Toy` is a plain module;
`ResumableToy` resumes it from any depth.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from workbench.core import SITES
from workbench.errors import UnknownName
from workbench.inputs.paired import PairedInputs
from workbench.models.resumable import Stream, Tap, TapsFrom

HEADS, D_HEAD, PATCH, CLASSES = 3, 4, 5, 7
WIDTH = HEADS * D_HEAD


class Block(nn.Module):
    """Pre-norm attention in both directions, then an MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            part(self.norm1(x)).unflatten(-1, (HEADS, D_HEAD)).transpose(1, 2) for part in (self.q, self.k, self.v)
        )
        z = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.o(z.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class Toy(nn.Module):
    """Patches ``[batch, pos, PATCH]`` to ``[batch, CLASSES]``. With several steps the layers' output denoises the
    patches, which enter the layers again; with one step the pooled output is read out."""

    def __init__(self, n_layers: int = 3, n_steps: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.n_steps = n_steps
        self.enter, self.leave = nn.Linear(PATCH, WIDTH), nn.Linear(WIDTH, PATCH)
        self.step = nn.Embedding(n_steps, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(n_layers))
        self.classes = nn.Linear(WIDTH if n_steps == 1 else PATCH, CLASSES)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.mul_(2)
        self.requires_grad_(False)

    def forward(self, patches: Tensor) -> Tensor:
        x = patches
        for step in range(self.n_steps):
            x = self.embedded(patches, step)
            for block in self.blocks:
                x = block(x)
            patches = patches - self.leave(x) / self.n_steps
        return self.classes((x if self.n_steps == 1 else patches).mean(1))

    def embedded(self, patches: Tensor, step: int) -> Tensor:
        return self.enter(patches) + self.step.weight[step]


@dataclass
class ToyBaseRun:
    """`streams[depth]` enters a depth; the last one is read out."""

    streams: list[Stream] = field(default_factory=list)

    @property
    def size(self) -> int:
        return self.streams[0][0].shape[0]

    @property
    def length(self) -> int:
        return self.streams[0][0].shape[1]


class ResumableToy:
    """`workbench.models.resumable.ResumableModel` over a `Toy`: a row carries the residual stream and the patches."""

    causal, resumes = False, True

    def __init__(self, toy: Toy) -> None:
        self.toy, self.n_layers, self.n_steps = toy, len(toy.blocks), toy.n_steps
        self.n_heads = self.n_kv_heads = HEADS
        self.layers_run = 0

    def hook_name(self, site: str, layer: int) -> str:
        part = SITES.get(site, site).replace("hook_rot_", "hook_")
        if part.replace("hook_", "hook_rot_") not in SITES.values() and part not in SITES.values():
            raise UnknownName("site", site, SITES)
        return f"blocks.{layer}.{part}"

    def base_run(self, inputs: Tensor, taps: Mapping[int, Mapping[str, Tap]] | None = None) -> ToyBaseRun:
        base, stream = ToyBaseRun(), self.embed(inputs)
        for depth in range(self.n_layers * self.n_steps):
            base.streams.append(stream)
            stream = self._depth(depth, stream, (taps or {}).get(depth // self.n_layers, {}))
        base.streams.append(stream)
        return base

    def truncate(self, base: ToyBaseRun, length: int) -> ToyBaseRun:
        raise AssertionError("every position of a toy sees every other")

    def embed(self, inputs: Tensor) -> Stream:
        return self.toy.embedded(inputs, 0), inputs

    def stream_at(self, base: ToyBaseRun, depth: int, rows: Tensor, start: int) -> Stream:
        return tuple(part[rows, start:] for part in base.streams[depth])

    def block(
        self,
        base: ToyBaseRun,
        depth: int,
        rows: Tensor,
        start: int,
        stream: Stream,
        taps: TapsFrom,
        frozen: Tensor | None = None,
        expand: frozenset[str] = frozenset(),
        all_positions: bool = False,
    ) -> Stream:
        assert start == 0, "attention sees every position, so none can be left out"
        self.layers_run += len(rows)
        return self._depth(depth, stream, taps(start), frozen)

    def readout(self, base: ToyBaseRun, rows: Tensor, stream: Stream, tokens: Tensor | None = None) -> Tensor:
        logits = self.toy.classes(stream[0 if self.n_steps == 1 else 1].mean(1))
        return logits if tokens is None else logits[:, tokens]

    def full_forward(
        self,
        inputs: Tensor,
        taps: Mapping[int, Mapping[str, Tap]],
        tokens: Tensor | None = None,
        expand: Mapping[int, frozenset[str]] | None = None,
    ) -> Tensor:
        base = self.base_run(inputs, taps)
        return self.readout(base, torch.arange(len(inputs)), base.streams[-1], tokens)

    @contextmanager
    def weights_frozen(self) -> Iterator[None]:
        trainable = [p for p in self.toy.parameters() if p.requires_grad]
        self.toy.requires_grad_(False)
        try:
            yield
        finally:
            for p in trainable:
                p.requires_grad_(True)

    def _depth(self, depth: int, stream: Stream, taps: Mapping[str, Tap], frozen: Tensor | None = None) -> Stream:
        (x, patches), (step, layer) = stream, divmod(depth, self.n_layers)
        block: Any = self.toy.blocks[layer]

        def tap(part: str, x: Tensor) -> Tensor:
            new = taps[name](x) if (name := f"blocks.{layer}.{part}") in taps else None
            return x if new is None else new

        x = tap("hook_resid_pre", x)
        q, k, v = (
            tap(f"attn.hook_{name}", getattr(block, name)(block.norm1(x)).unflatten(-1, (HEADS, D_HEAD)))
            for name in "qkv"
        )
        scores = torch.einsum("bdhx,bshx->bhds", q, k) / D_HEAD**0.5
        pattern = tap("attn.hook_pattern", scores.softmax(-1))
        z = tap("attn.hook_z", torch.einsum("bhds,bshx->bdhx", pattern, v) if frozen is None else frozen)
        x = tap("hook_resid_mid", x + tap("hook_attn_out", block.o(z.flatten(2))))
        x = tap("hook_resid_post", x + tap("hook_mlp_out", block.mlp(block.norm2(x))))
        if layer == self.n_layers - 1 and self.n_steps > 1:
            patches = patches - self.toy.leave(x) / self.n_steps
            x = self.toy.embedded(patches, step + 1) if step + 1 < self.n_steps else x
        return x, patches


def pictures(n: int = 3, length: int = 6) -> PairedInputs:
    """Random patches; a corrupt picture differs in one patch in the middle."""
    generator = torch.Generator().manual_seed(0)
    clean = [torch.randn(length, PATCH, generator=generator) for _ in range(n)]
    corrupt = [x.clone() for x in clean]
    for x in corrupt:
        x[length // 2] = torch.randn(PATCH, generator=generator)
    indices = range(n)
    return PairedInputs(
        "pictures",
        tuple(clean),
        tuple(corrupt),
        tuple((i % CLASSES,) for i in indices),
        tuple(((i + 3) % CLASSES,) for i in indices),
        tuple(() for _ in indices),
        tuple({"end": length - 1} for _ in indices),
    )
