"""What the explorer knows of one prompt on one model: recorded once into the cache, then read head by head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

import workbench as wb
from workbench.head_scores import patterns
from workbench.head_scores.on_prompt import NAMES, prompt_scores, uniform_prompt_scores
from workbench.head_scores.on_task import answer_direction, attributed
from workbench.models.taps import norm_scale
from workbench.patching.context import unpaired
from workbench.vocabulary import Head

#: Longer prompts are compared by patterns pooled to this many positions.
POOLED = 128


@dataclass(frozen=True)
class NextToken:
    """One token that may come next."""

    token: str
    id: int
    probability: float
    logit: float


class Look:
    """One prompt on one model.

    Args:
        model: a `HookedLM`; held by reference and never changed.
        ids: the prompt's tokens.
        cache: where what is recorded is kept, as in `workbench.record`.

    Attributes:
        tokens: the prompt's tokens as text.
        scores: score → ``[layer, head]`` on this prompt, and the direct logit attribution to the likeliest next token
            over the second.
        chance: score → what a causal head that attends uniformly has.
    """

    def __init__(self, model: Any, ids: Sequence[int], cache: Any = None) -> None:
        self.model, self.ids = model, torch.tensor(list(ids))
        self.tokens = tuple(model.to_str_tokens(self.ids))
        self.recording = wb.record(model, unpaired(model, [self.ids]), ["pattern", "v", "z", "resid_post"], cache=cache)
        self.scores, self.chance = self._scores(), uniform_prompt_scores(self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    def pattern(self, head: Head) -> Float[np.ndarray, "dest src"]:
        """The head's attention pattern."""
        return self._patterns(head.layer)[head.index].cpu().numpy()

    def value_weighted(self, head: Head) -> Float[np.ndarray, "dest src"]:
        """``A[q, k] · ‖v_k W_O‖``, so that attention to positions from which nothing is moved is small (Kobayashi et
        al. 2020), in units of the residual stream."""
        group = self.model.n_heads // self.model.n_kv_heads
        v = self._site("v", head.layer)[:, head.index // group].float()
        size = (v @ self.model.blocks[head.layer].attn.W_O[head.index].float()).norm(dim=-1)
        return self.pattern(head) * size.detach().cpu().numpy()[None, :]

    def written(self, head: Head, position: int = -1) -> Float[Tensor, "d_model"]:
        """What the head adds to the residual stream at a position, before any norm behind the attention."""
        z = self._site("z", head.layer)[position, head.index]
        return (z @ self.model.blocks[head.layer].attn.W_O[head.index]).detach()

    def writes(self, head: Head, k: int = 8, position: int = -1) -> pd.DataFrame:
        """The tokens whose logits the head raises and lowers most, straight through the final norm (its scale held as
        in this run) and the unembedding: ``token, logit``, the most raised first."""
        norm = self.model.module(self.model.anatomy.final_norm)
        x = self.written(head, position)
        if isinstance(norm, nn.LayerNorm):
            x = x - x.mean()
        x = x * self.model.norm_weight(norm) / norm_scale(norm, self._end[position])
        logits = (x @ self.model.W_U).detach().float().cpu()
        best, worst = logits.topk(k), (-logits).topk(k)
        ids = [*best.indices.tolist(), *reversed(worst.indices.tolist())]
        return pd.DataFrame({"token": self.model.to_str_tokens(torch.tensor(ids)), "logit": logits[ids].numpy()})

    def similar(self, head: Head) -> Float[np.ndarray, "layer head"]:
        """Cosine of every head's pattern with this one's, both less the uniform pattern; NaN for itself."""
        here = self._directions[head.layer * self.model.n_heads + head.index]
        found = (self._directions @ here).reshape(self.model.n_layers, self.model.n_heads).cpu().numpy().copy()
        found[head.layer, head.index] = np.nan
        return found

    def next_tokens(self, k: int = 10) -> list[NextToken]:
        """The likeliest next tokens."""
        return likeliest(self.model, self._logits, k)

    @cached_property
    def _logits(self) -> Float[Tensor, "d_vocab"]:
        with torch.no_grad():
            return self.model.unembed(self._end[-1:])[0].float().cpu()

    @property
    def _end(self) -> Float[Tensor, "pos d_model"]:
        """The residual stream behind the last layer."""
        return self._site("resid_post", self.model.n_layers - 1)

    def _site(self, site: str, layer: int) -> Tensor:
        return self.recording.clean[self.model.hook_name(site, layer)][0]

    def _patterns(self, layer: int) -> Float[Tensor, "head dest src"]:
        return self._site("pattern", layer).float()

    def _scores(self) -> dict[str, Float[np.ndarray, "layer head"]]:
        rows: dict[str, list[Tensor]] = {name: [] for name in NAMES}
        directions, even = [], _small(patterns.uniform(len(self))[None].float())[0]
        for layer in range(self.model.n_layers):
            A = self._patterns(layer)
            for name, score in prompt_scores(A, self.ids).items():
                rows[name].append(score)
            directions.append(patterns.centred(_small(A), even, skip=0))
        self._directions = torch.cat(directions)
        found = {name: torch.stack(each).cpu().numpy() for name, each in rows.items()}
        return found | {"direct_logit_attribution": self._attribution()}

    @torch.no_grad()
    def _attribution(self) -> Float[np.ndarray, "layer head"]:
        first, second = self._logits.topk(2).indices.tolist()
        scale = norm_scale(self.model.module(self.model.anatomy.final_norm), self._end[-1])
        towards = answer_direction(self.model, [first], [second]) / scale
        z = torch.stack([self._site("z", i)[-1] for i in range(self.model.n_layers)])[None]
        return attributed(self.model, z, z, towards[None])[0].float().cpu().numpy()


def likeliest(model: Any, logits: Float[Tensor, "d_vocab"], k: int) -> list[NextToken]:
    """The k likeliest tokens of a distribution."""
    best = logits.topk(k)
    chances = logits.softmax(-1)[best.indices].tolist()
    rows = zip(best.indices.tolist(), chances, best.values.tolist(), strict=True)
    return [NextToken(model.tokenizer.decode([i]), i, p, logit) for i, p, logit in rows]


def _small(A: Float[Tensor, "head dest src"]) -> Float[Tensor, "head row column"]:
    """Patterns of a long prompt pooled to `POOLED` positions, so that all heads can be compared at once."""
    return torch.nn.functional.adaptive_avg_pool2d(A, POOLED) if A.shape[-1] > POOLED else A
