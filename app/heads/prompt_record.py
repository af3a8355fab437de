"""Activations and scores of one prompt on one model: recorded once into the cache, then read head by head."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from app.heads import record_scores
from app.heads.streamed_recording import StreamedRecording
from workbench.cache import Store, store_of
from workbench.core import Head
from workbench.head_scores.on_prompt import NAMES
from workbench.head_scores.on_task import answer_direction, attributed
from workbench.head_scores.through_modules import attributed_through_modules, unembedded
from workbench.io.token_text import token_text
from workbench.io.written_text import Piece
from workbench.models.in_forward import attends_in_shares, each_layer
from workbench.models.logit_effects import is_direct, logit_effects, logit_effects_of_layer
from workbench.models.norms import norm_scale
from workbench.models.precision import at_least_float32
from workbench.models.prompts import unpaired
from workbench.patching.attention_at import formula_at, mask_of, masked_at, pattern_hooks, pattern_part, row_log_sums
from workbench.patching.attention_view import pieces_of
from workbench.patching.cached_recording import CachedRecording
from workbench.patching.recorder import Recorder
from workbench.patching.recording import Source
from workbench.patching.resolve import model_identity, resolve_model
from workbench.plotting.attention_view import DESTINATION, SOURCE


def _silent(done: int, total: int, step: str) -> None:
    pass


def _unseen(layer: int, *inputs: Any) -> None:
    pass


@dataclass(frozen=True)
class NextToken:
    """A candidate for the next token."""

    token: str
    id: int
    probability: float
    logit: float


class PromptRecord:
    """One prompt on one model. Little of it stays in memory: activations are read from the cache when they are needed.

    Args:
        model: a `HookedLM`; held by reference and never changed.
        ids: the prompt's tokens.
        cache: where activations are stored, as in `workbench.record`. Without a cache it is a temporary folder, deleted
            with this object: the patterns of a long prompt do not fit in memory many times.
        progress: called with how many layers are done, of how many, and what is being done.

    Attributes:
        tokens: the prompt's tokens as text.
        scores: score → ``[layer, head]`` on this prompt, and the direct logit attribution to the likeliest next token
            over the second.
        chance: score → its value for a causal head with uniform attention; of direct logit attribution the mean
            magnitude over heads whose values are averaged uniformly, which `uniform_attribution` has for each head.
        positions: score of patterns → over how many positions it is a mean.
    """

    def __init__(
        self, model: Any, ids: Sequence[int], cache: Any = None, progress: Callable[[int, int, str], object] = _silent
    ) -> None:
        self.model, self.ids, self._progress = model, torch.tensor(list(ids)), progress
        self.tokens = model.labels(self.ids)
        store, resumable = store_of(cache), resolve_model(model)
        if store is None:
            folder = tempfile.mkdtemp(prefix="workbench-look-")
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            store = Store(folder)
        identity = model_identity(resumable, store)
        scores, scorer = record_scores.read_scores(store, identity, self.ids), record_scores.PromptScores(self.ids)
        self._source = self._recorded(resumable, store, identity, scorer if scores is None else None)
        if scores is None:
            scores = self._compute_scores(scorer)
            record_scores.store_scores(store, identity, self.ids, scores)
        self.scores = {name: scores[name].numpy() for name in (*NAMES, record_scores.ATTRIBUTION)}
        self.chance = dict(zip(NAMES, scores[record_scores.UNIFORM].tolist(), strict=True))
        self.uniform_attribution = scores[record_scores.UNIFORM_ATTRIBUTION].numpy()
        self.chance[record_scores.ATTRIBUTION] = float(scores[record_scores.UNIFORM_ATTRIBUTION].abs().mean())
        self.positions = scorer.counted_positions()
        self._cosines = scores[record_scores.COSINES].numpy()
        self._progress = _silent  # the page that it draws in may be gone while the record stays
        self._recent_patterns: tuple[tuple[Head, Float[np.ndarray, "dest src"]], ...] = ()
        self._recent_positions: tuple[tuple[tuple[int, str], Float[np.ndarray, "layer head pos"]], ...] = ()
        self._log_sums: dict[str, Float[Tensor, "head dest"] | None] = {}
        self._logit_effects: dict[tuple[Head, int, int], tuple[Tensor, Tensor]] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def pattern(self, head: Head) -> Float[np.ndarray, "dest src"]:
        """The head's attention pattern; those of the last two heads stay in memory."""
        for recent, A in self._recent_patterns:
            if recent == head:
                return A
        A = self._pattern(head).cpu().numpy().copy()
        self._recent_patterns = ((head, A), *self._recent_patterns[:1])
        return A

    def attention_at(self, position: int, role: str) -> Float[np.ndarray, "layer head pos"]:
        """What a position attends to (``destination``), or who attends to it (``source``), in every head, from the
        stored q and k; NaN as in `workbench.attention_at`. The last two stay in memory, and the sums of rows."""
        for recent, weights in self._recent_positions:
            if recent == (position, role):
                return weights
        weights = np.full((self.model.n_layers, self.model.n_heads, len(self)), np.nan, np.float32)
        with torch.no_grad():
            for hook, layer in pattern_hooks(self.model).items():
                if role == SOURCE and hook not in self._log_sums:
                    self._log_sums[hook] = row_log_sums(self._source, hook)
                weights[layer] = pattern_part(self._source, hook, position, role, self._log_sums.get(hook)).numpy()
        self._recent_positions = (((position, role), weights), *self._recent_positions[:1])
        return weights

    def masked_at(self, position: int, role: str) -> Bool[np.ndarray, "layer pos"]:
        """What each layer's mask hides from a position, or hides it from, as `workbench.attention_at` has it."""
        hooks = [self.model.hook_name("pattern", i) for i in range(self.model.n_layers) if self.has_pattern(i)]
        formulas = {hook: formula_at(self._source, hook) for hook in hooks}
        return masked_at(self.model, formulas, len(self), position, role)

    def mask(self, layer: int) -> Bool[np.ndarray, "dest src"]:
        """The pairs that the layer's mask hides, as `masked_at` has those of one position."""
        formula = formula_at(self._source, self.model.hook_name("pattern", layer)) if self.has_pattern(layer) else None
        return mask_of(self.model, layer, formula, len(self))

    def attention_between(self, dest: int, src: int) -> Float[np.ndarray, "layer head"]:
        """The attention from one position to another in every head."""
        if any(recent == (src, SOURCE) for recent, _ in self._recent_positions):
            return self.attention_at(src, SOURCE)[:, :, dest]
        return self.attention_at(dest, DESTINATION)[:, :, src]

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """The prompt's text as people write it."""
        return pieces_of(self.model, self.ids)

    def value_weighted(self, head: Head) -> Float[np.ndarray, "dest src"]:
        """``A[q, k] · ‖v_k W_O‖`` in units of the residual stream (Kobayashi et al. 2020): small where attention moves
        little."""
        group = self.model.n_heads // self.model.n_kv_heads
        v = at_least_float32(self._site("v", head.layer)[:, head.index // group])
        size = (v @ at_least_float32(self.model.blocks[head.layer].attn.W_O[head.index])).norm(dim=-1)
        return self.pattern(head) * size.detach().cpu().numpy()[None, :]

    def head_output(self, head: Head, position: int = -1) -> Float[Tensor, "d_model"]:
        """The head's output ``z W_O`` at a position, before any norm that follows the attention; at least in
        float32."""
        z = at_least_float32(self._site("z", head.layer)[position, head.index])
        return (z @ at_least_float32(self.model.blocks[head.layer].attn.W_O[head.index])).detach()

    def logit_effects(self, head: Head, k: int = 8, position: int = -1) -> pd.DataFrame:
        """The tokens whose logits the head's output raises and lowers most: ``token, logit``, the most raised first.

        The output goes directly through the final norm, with the scale of this run, and the unembedding; where more
        stands between z and the logits, through that too, each norm with its scale and each gate as in this run.

        Raises:
            UsageError: what the heads add does not add up in this model.
        """
        end = range(len(self.ids))[position] + 1
        extremes = self._logit_effects.get((head, end, k))
        if extremes is None:
            z, residual = self._site("z", head.layer)[end - 1, head.index], self._final_residual[end - 1]
            extremes = _extremes(logit_effects(self.model, self.ids[:end], head, z, residual), k)
            self._logit_effects[head, end, k] = extremes
        ids, values = extremes
        return pd.DataFrame({"token": self.model.to_str_tokens(ids), "logit": values.numpy()})

    def compute_logit_effects(self, layer: int, k: int = 8) -> None:
        """What `logit_effects` needs of each head of a layer at the last position, where that costs little more than
        for one of them."""
        heads, end = [Head(layer, i) for i in range(self.model.n_heads)], len(self.ids)
        if is_direct(self.model) and any((head, end, k) not in self._logit_effects for head in heads):
            rows = logit_effects_of_layer(self.model, layer, self._site("z", layer)[-1], self._final_residual[-1])
            self._logit_effects |= {(head, end, k): _extremes(row, k) for head, row in zip(heads, rows, strict=True)}

    def similarity(self, head: Head) -> Float[np.ndarray, "layer head"]:
        """Cosine of every head's pattern with this one's, both less the uniform pattern; NaN for itself."""
        row = self._cosines[head.layer * self.model.n_heads + head.index]
        cosines = row.reshape(self.model.n_layers, self.model.n_heads).copy()
        cosines[head.layer, head.index] = np.nan
        return cosines

    def strongest_head(self) -> Head:
        """The head that most directly raises or lowers the likeliest next token over the second."""
        sizes = np.nan_to_num(np.abs(self.scores[record_scores.ATTRIBUTION]))
        layer, index = np.unravel_index(sizes.argmax(), sizes.shape)
        return Head(int(layer), int(index))

    @cached_property
    def median_similarity(self) -> float:
        """The median of |cosine| over all pairs of heads; NaN where no pair has one."""
        cosines = np.abs(self._cosines[np.triu_indices(len(self._cosines), 1)])
        return float(np.median(finite)) if (finite := cosines[np.isfinite(cosines)]).size else np.nan

    def next_tokens(self, k: int = 10) -> list[NextToken]:
        """The likeliest next tokens."""
        return likeliest_tokens(self.model, self.logits, k)

    @cached_property
    def logits(self) -> Float[Tensor, "d_vocab"]:
        """Of the next token."""
        with torch.no_grad():
            return unembedded(self.model, self._final_residual[-1:])[0].cpu()

    @cached_property
    def probabilities(self) -> Float[Tensor, "d_vocab"]:
        """Of the next token."""
        return self.logits.softmax(-1)

    @property
    def _final_residual(self) -> Float[Tensor, "pos d_model"]:
        """The residual stream after the last layer."""
        return self._site("resid_post", self.model.n_layers - 1)

    def _site(self, site: str, layer: int) -> Tensor:
        return self._source.read([self.model.hook_name(site, layer)], 0)[0]

    def has_pattern(self, layer: int) -> bool:
        """Whether the layer's heads have patterns: an operator that was swapped in may have no matrix."""
        return f"blocks.{layer}.attn.hook_pattern" in self.model.hook_dict

    def _pattern(self, head: Head) -> Float[Tensor, "dest src"]:
        """Of its layer's heads it alone is made, where it follows from q and k."""
        if isinstance(self._source, CachedRecording) and self.has_pattern(head.layer):
            stored = self._source.read_formula(self.model.hook_name("pattern", head.layer), 0)
            if stored is not None:
                formula, q, k = stored
                return at_least_float32(formula.pattern(q, k, [head.index])[0]).detach()
        return self._patterns(head.layer)[head.index]

    def _patterns(self, layer: int) -> Float[Tensor, "head dest src"]:
        """NaN where there are none."""
        if not self.has_pattern(layer):
            return torch.full((1, 1, 1), torch.nan).expand(self.model.n_heads, len(self.ids), len(self.ids))
        return at_least_float32(self._site("pattern", layer))

    def _recorded(
        self, resumable: Any, store: Store, identity: bytes | None, scorer: record_scores.PromptScores | None
    ) -> Source:
        """The recording of the prompt; each layer is shown to the scorer where it is computed now."""
        model, layers = self.model, range(self.model.n_layers)
        hooks = [model.hook_name("pattern", i) for i in layers if self.has_pattern(i)]
        hooks += [model.hook_name(site, i) for site in ("v", "z") for i in layers]
        hooks.append(model.hook_name("resid_post", layers[-1]))
        ids = unpaired(model, [self.ids]).clean[0]
        if identity is None:
            return Recorder(resumable, store, identity).source([ids], hooks)

        def reached(layer: int) -> None:
            self._progress(layer + 1, len(layers), "Reading the prompt")

        see, taps = (_unseen, {}) if scorer is None else (scorer.see, scorer.taps(model))
        recording = StreamedRecording(model, resumable, store, identity, ids, hooks, see, reached, taps)
        recording.fill()
        return recording

    @torch.no_grad()
    def _compute_scores(self, scorer: record_scores.PromptScores) -> record_scores.Scores:
        """The scores of patterns, and direct logit attribution at the last position: of the heads, and of
        the same heads with uniform attention."""
        model, layers = self.model, range(self.model.n_layers)
        if not scorer.has_all(layers):  # the store had the recording, or another process made it
            each_layer(model, self.ids[None], scorer.see, scorer.taps(model))
        for layer in layers:
            if layer not in scorer:
                shares = attends_in_shares(model, layer)
                A = self._patterns(layer)[None]
                scorer.add_pattern(layer, A if shares else torch.full_like(A, torch.nan))
        first, second = self.logits.topk(2).indices.tolist()
        z = torch.stack([scorer.last_z[i] for i in layers])[None]
        mean_values = torch.stack([scorer.mean_values[i] for i in layers])[None]
        mean_values = mean_values.repeat_interleave(model.n_heads // model.n_kv_heads, 2)
        if model.additivity.is_short:
            scale = norm_scale(model.module(model.anatomy.final_norm), self._final_residual[-1])
            direction = (answer_direction(model, [first], [second]) / scale)[None]
            both = (attributed(model, inputs, z, direction)[0] for inputs in (z, mean_values))
        else:
            both = attributed_through_modules(model, self.ids, [first], [second], mean_values[0])
        attribution, uniform = (x.cpu() for x in both)
        return {**scorer.scores(), record_scores.ATTRIBUTION: attribution, record_scores.UNIFORM_ATTRIBUTION: uniform}


def _extremes(logits: Float[Tensor, "d_vocab"], k: int) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
    """The k largest entries and the k smallest, from the largest to the smallest: where they are, and what."""
    best, worst = logits.topk(k), (-logits).topk(k)
    ids = torch.cat([best.indices, worst.indices.flip(0)])
    return ids, logits[ids]


def likeliest_tokens(model: Any, logits: Float[Tensor, "d_vocab"], k: int) -> list[NextToken]:
    """The k likeliest tokens of a distribution."""
    best = logits.topk(k)
    probabilities = logits.softmax(-1)[best.indices].tolist()
    rows = zip(best.indices.tolist(), probabilities, best.values.tolist(), strict=True)
    return [NextToken(token_text(model.tokenizer, i), i, p, logit) for i, p, logit in rows]
