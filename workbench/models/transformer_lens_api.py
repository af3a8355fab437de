"""What TransformerLens's tools need of a model besides hooks: tokens, weights, directions, biases, a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.config import TransformerLensConfig

from workbench.arguments import flag, refusal, text
from workbench.errors import UsageError
from workbench.inputs.tokenising import is_unknown
from workbench.io.token_text import token_text
from workbench.models.anatomy import find
from workbench.models.norms import centres, norm_eps
from workbench.models.projections import bias_of, embedding, projection
from workbench.models.token_ids import check_ids

if TYPE_CHECKING:
    from workbench.models.hooked import HookedModel


class TransformerLensTools:
    """Mixed into `HookedLM`, which is what `self` is; nothing is folded or centred."""

    def to_tokens(
        self: Any, input: str | Sequence[str] | Tensor, prepend_bos: bool | None = None
    ) -> Int[Tensor, "batch pos"]:
        """Ids ``[batch, pos]`` of a text, of texts or of ids. BOS follows the tokeniser's default
        unless `prepend_bos` says otherwise.

        Raises:
            UsageError: no tokens, ids outside the vocabulary, texts of different lengths, more tokens than the model's
                context, or a BOS that the tokeniser does not have.
        """
        if prepend_bos is not None:
            prepend_bos = flag("prepend_bos", prepend_bos)
        if isinstance(input, Tensor):
            if prepend_bos is not None:
                raise refusal(
                    "prepend_bos", prepend_bos, "None", because="the input is ids, which are taken as they are"
                )
            ids = input[None] if input.ndim == 1 else input
            what = "token ids [batch, pos], at least one"
            return check_ids("input", ids, self.cfg.d_vocab, self._limit(ids), what, ndim=2).to(self.device)
        texts = [input] if isinstance(input, str) else input
        if not isinstance(texts, list | tuple) or not texts or not all(isinstance(text, str) for text in texts):
            raise refusal("input", input, "a text, a list of texts, or a tensor of token ids")
        tokenizer = self._required_tokenizer("input", input)
        if prepend_bos and tokenizer.bos_token_id is None:
            raise refusal("prepend_bos", True, "False or None", because="this tokeniser has no BOS token")
        rows = [tokenizer(t, add_special_tokens=prepend_bos is None)["input_ids"] for t in texts]
        if prepend_bos:
            rows = [[tokenizer.bos_token_id, *row] for row in rows]
        if not all(rows):
            raise refusal("input", input, "a text that has tokens")
        if len({len(row) for row in rows}) != 1:
            lengths = ", ".join(str(len(row)) for row in rows)
            raise UsageError(
                f"Texts of {lengths} tokens cannot be stacked: pass ids with an attention_mask, or one at a time."
            )
        ids = torch.tensor(rows, dtype=torch.long, device=self.device)
        return check_ids("input", ids, self.cfg.d_vocab, self._limit(ids), "a text", ndim=2)

    def _limit(self: Any, ids: Tensor) -> int:
        """`most_positions`, which walks through all modules, only where it matters."""
        return self.most_positions if 0 < self.cfg.n_ctx < ids.shape[-1] else self.cfg.n_ctx

    @property
    def most_positions(self: Any) -> int:
        """How many positions the model can tell apart, 0 for no limit: one that rotates its queries and keys runs past
        its context length."""
        rotates = any("rotary" in type(part).__name__.lower() for part in self.hf.modules())
        return 0 if rotates else self.cfg.n_ctx

    def _required_tokenizer(self: Any, name: str, text: Any) -> Any:
        if self.tokenizer is None:
            raise refusal(name, text, "token ids", because="this model has no tokeniser")
        return self.tokenizer

    def to_single_token(self: Any, string: str) -> int:
        """The id of a text that is one token; raises `UsageError` otherwise."""
        return self._single_token("string", string)

    def _single_token(self: Any, name: str, string: str) -> int:
        tokenizer = self._required_tokenizer(name, string)
        ids = tokenizer(text(name, string, "a text that is one token"), add_special_tokens=False)["input_ids"]
        if len(ids) != 1:
            why = f"it is {len(ids)}: {tokenizer.convert_ids_to_tokens(ids)}"
            raise refusal(name, string, "a text that is one token", because=why)
        if is_unknown(tokenizer, ids[0], string):
            raise refusal(name, string, "a text that is one token", because="this tokeniser does not know it")
        return ids[0]

    def to_str_tokens(self: Any, input: str | Tensor) -> list[str]:
        """Each token of a text, or of ids ``[pos]``, as text; a byte that is no character of its own as ``<0xE6>``.

        Raises:
            UsageError: several texts or rows of ids, or what `to_tokens` refuses.
        """
        tokenizer = self._required_tokenizer("input", input)
        rows = self.to_tokens(input)
        if isinstance(input, list | tuple) or len(rows) != 1:
            raise refusal("input", input, "one text, or the ids of one prompt")
        return [token_text(tokenizer, i) for i in rows[0].tolist()]

    @property
    def W_U(self: Any) -> Float[Tensor, "d_model d_vocab"]:
        return projection(self.module(self.anatomy.unembed)).T

    @property
    def b_U(self: Any) -> Float[Tensor, "d_vocab"]:
        return bias_of(self.module(self.anatomy.unembed), self.W_U)

    @property
    def W_E(self: Any) -> Float[Tensor, "d_vocab d_model"]:
        return embedding(self.module(self.anatomy.embed), self.n_outputs)

    @property
    def adapter(self: Any) -> OutputTransform:
        """What TransformerLens's logit lens asks for what follows the unembedding."""
        return OutputTransform(self)

    def tokens_to_residual_directions(self: Any, tokens: str | int | Tensor) -> Float[Tensor, "*batch d_model"]:
        """The direction whose dot product with the normed residual is the token's logit: the final norm's weight
        (1 + weight in Gemma) ⊙ the unembedding row, times what scales the logits (Cohere). A LayerNorm's bias adds a
        constant that no component carries, and a soft cap is left out.

        Raises:
            UsageError: a text that is not one token, ids outside the vocabulary, or logits that are more than that.
        """
        if not self.additivity.reads_out:
            raise UsageError(
                f"tokens_to_residual_directions: the logits of {type(self.hf).__name__} are not shown to be its final "
                "norm and unembedding. wb.scores attributes logits to heads."
            )
        index = self._single_token("tokens", tokens) if isinstance(tokens, str) else tokens
        try:
            ids = torch.as_tensor(index, device=self.device)
        except (TypeError, ValueError, RuntimeError):
            raise refusal("tokens", tokens, "a token, its id, or a tensor of ids") from None
        flat = check_ids("tokens", ids.reshape(-1), self.cfg.d_vocab, 0, "a token, its id, or a tensor of ids", ndim=1)
        rows = self.W_U.T[flat.reshape(ids.shape)]
        directions = rows * self.norm_weight(self.module(self.anatomy.final_norm))
        return (directions if self.logit_scale == 1 else directions * self.logit_scale).to(rows.dtype)


class OutputTransform:
    """What a model does to its logits after the unembedding."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def apply_output_logits_transform(self, logits: Float[Tensor, "*row d_vocab"]) -> Float[Tensor, "*row d_vocab"]:
        """``cap · tanh(scale · logits / cap)``, each where the model has it."""
        model = self._model
        scaled = logits if model.logit_scale == 1 else logits * model.logit_scale
        cap = model.final_softcap
        return scaled if cap is None else cap * torch.tanh(scaled / cap)


def transformer_lens_config(model: HookedModel) -> TransformerLensConfig:
    """The model's sizes as a TransformerLens configuration."""
    config, norm = model.config, find(model.hf, model.anatomy.final_norm) if model.anatomy.final_norm else None
    row = torch.zeros(1, 1, model.d_model, dtype=model.dtype, device=model.device)
    centred = norm is not None and centres(norm, row)
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
        normalization_type="LN" if centred else "RMS",
        positional_embedding_type="rotary" if model.anatomy.rotary else "standard",
        final_rms=not centred,
        act_fn=str(getattr(config, "hidden_act", None) or getattr(config, "activation_function", None) or "gelu"),
        gated_mlp=bool(model.anatomy.mlp) and find(model.part(0, model.anatomy.mlp), "gate_proj") is not None,
        uses_rms_norm=not centred,
        eps=1e-5 if norm is None else norm_eps(norm, row),
        dtype=model.dtype,
    )
