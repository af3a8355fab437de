"""What TransformerLens's tools need of a model besides hooks: tokens, weights, directions, biases, a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens.config import TransformerLensConfig

from workbench.arguments import refusal
from workbench.errors import UsageError
from workbench.models.anatomy import find
from workbench.models.hook_points import bias_of
from workbench.models.taps import norm_eps
from workbench.models.token_text import token_text

if TYPE_CHECKING:
    from workbench.models.hooked import HookedModel


class TransformerLensTools:
    """Mixed into `HookedLM`, which is what `self` is; nothing is folded or centred."""

    def to_tokens(
        self: Any, input: str | Sequence[str] | Int[Tensor, "*batch pos"], prepend_bos: bool | None = None
    ) -> Int[Tensor, "batch pos"]:
        """Ids ``[batch, pos]``. BOS follows the tokeniser's default unless `prepend_bos` says otherwise.

        Raises:
            UsageError: no tokens, ids outside the vocabulary, or texts of different lengths.
        """
        if isinstance(input, Tensor):
            return _checked_ids(input[None] if input.ndim == 1 else input, self.cfg.d_vocab).to(self.device)
        texts = [input] if isinstance(input, str) else input
        if not isinstance(texts, list | tuple) or not texts or not all(isinstance(text, str) for text in texts):
            raise refusal("input", input, "a text, a list of texts, or a tensor of token ids")
        if self.tokenizer is None:
            raise UsageError("This model has no tokeniser: pass ids, not text.")
        rows = [self.tokenizer(t, add_special_tokens=prepend_bos is None)["input_ids"] for t in texts]
        if prepend_bos:
            rows = [[self.tokenizer.bos_token_id, *row] for row in rows]
        if not all(rows):
            raise refusal("input", input, "a text that has tokens")
        if len({len(row) for row in rows}) != 1:
            lengths = ", ".join(str(len(row)) for row in rows)
            raise UsageError(
                f"Texts of {lengths} tokens cannot be stacked: pass ids with an attention_mask, or one at a time."
            )
        return torch.tensor(rows, dtype=torch.long, device=self.device)

    def to_single_token(self: Any, string: str) -> int:
        """The id of a text that is one token; raises `UsageError` otherwise."""
        ids = self.tokenizer(string, add_special_tokens=False)["input_ids"]
        if len(ids) != 1:
            raise UsageError(f"{string!r} is {len(ids)} tokens {self.tokenizer.convert_ids_to_tokens(ids)}, not one.")
        return ids[0]

    def to_str_tokens(self: Any, input: str | Int[Tensor, "pos"]) -> list[str]:
        """Each token of a text, or of ids, as text; a byte that is no character of its own as ``<0xE6>``."""
        return [token_text(self.tokenizer, i) for i in self.to_tokens(input)[0].tolist()]

    @property
    def W_U(self: Any) -> Float[Tensor, "d_model d_vocab"]:
        return self.module(self.anatomy.unembed).weight.T

    @property
    def b_U(self: Any) -> Float[Tensor, "d_vocab"]:
        return bias_of(self.module(self.anatomy.unembed), self.W_U)

    @property
    def W_E(self: Any) -> Float[Tensor, "d_vocab d_model"]:
        return self.module(self.anatomy.embed).weight

    def tokens_to_residual_directions(
        self: Any, tokens: str | int | Int[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch d_model"]:
        """The direction whose dot product with the normed residual is the token's logit: the final norm's weight
        (1 + weight in Gemma) ⊙ the unembedding row. A LayerNorm's bias adds a constant that no component carries."""
        index = self.to_single_token(tokens) if isinstance(tokens, str) else tokens
        rows = self.W_U.T[torch.as_tensor(index, device=self.device)]
        return (rows * self.norm_weight(self.module(self.anatomy.final_norm))).to(rows.dtype)


def _checked_ids(ids: Tensor, d_vocab: int) -> Int[Tensor, "batch pos"]:
    if ids.ndim != 2 or not ids.numel() or ids.is_floating_point() or ids.dtype == torch.bool:
        raise refusal("input", ids, "token ids [batch, pos], at least one")
    outside = ids[(ids < 0) | (ids >= d_vocab)]
    if len(outside):
        why = f"the vocabulary has {d_vocab} tokens, and {int(outside[0])} is not among them"
        raise refusal("input", ids, f"token ids from 0 to {d_vocab - 1}", because=why)
    return ids


def transformer_lens_config(model: HookedModel) -> TransformerLensConfig:
    """The model's sizes as a TransformerLens configuration."""
    config, norm = model.config, find(model.hf, model.anatomy.final_norm) if model.anatomy.final_norm else None
    return TransformerLensConfig(
        d_model=model.d_model,
        d_head=model.d_head,
        n_layers=model.n_layers,
        n_ctx=int(getattr(config, "max_position_embeddings", 0) or 0),
        n_heads=model.n_heads,
        d_mlp=getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None),
        d_vocab=model.n_outputs,
        device=str(model.device),
        default_prepend_bos=False,
        n_key_value_heads=model.n_kv_heads if model.n_kv_heads != model.n_heads else None,
        normalization_type="LN" if isinstance(norm, nn.LayerNorm) else "RMS",
        positional_embedding_type="rotary" if model.anatomy.rotary else "standard",
        final_rms=not isinstance(norm, nn.LayerNorm),
        act_fn=str(getattr(config, "hidden_act", None) or getattr(config, "activation_function", None) or "gelu"),
        gated_mlp=bool(model.anatomy.mlp) and find(model.part(0, model.anatomy.mlp), "gate_proj") is not None,
        uses_rms_norm=not isinstance(norm, nn.LayerNorm),
        eps=1e-5 if norm is None else norm_eps(norm),
        dtype=model.dtype,
    )
