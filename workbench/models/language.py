"""`HookedLM`: an unmodified Hugging Face causal language model with hooks by TransformerLens's classic names."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from workbench import arguments
from workbench.errors import UnsupportedModel
from workbench.inputs.paired import PairedInputs
from workbench.models import self_check
from workbench.models.adapters import adapters_of, model_inside, require_same_forward
from workbench.models.anatomy import Anatomy, anatomy_of
from workbench.models.hook_arguments import check_gradients
from workbench.models.hooked import HookedModel
from workbench.models.placement import quantised_kind
from workbench.models.precision import at_least_float32, close
from workbench.models.projections import is_plain
from workbench.models.prompts import prepare
from workbench.models.proofs import next_length
from workbench.models.resumable_layers import LayersRun
from workbench.models.swapped_attention import operator_of
from workbench.models.token_ids import check_mask
from workbench.models.transformer_lens_api import TransformerLensTools
from workbench.models.unsupported import require_decoder, require_parts, require_sizes

#: Tokens of each input of the load-time self-check.
TRIAL_LENGTH = 8
#: Tokens of each input on which half precision's rounding is looked at: enough for experts to be chosen anew.
ROUNDING_LENGTH = 128


class HookedLM(TransformerLensTools, HookedModel):
    """A Hugging Face causal language model whose every head can be recorded and edited.

    With no active hook a call is the Hugging Face model's own forward. TransformerLens's ``patching``,
    ``head_detector`` and ``ActivationCache`` run on it. Weights are neither folded nor centred.

    Args:
        hf: a causal language model in memory, also one with adapters of peft; it is not modified.
        tokenizer: its tokeniser, or None for a model that gets ids only.
        provenance: where the weights come from (JSON-able), reported in every result.
        check: run the load-time self-check (`workbench.models.self_check.check`).

    Attributes:
        tokenizer: what `workbench.models.hooked.HookedModel` calls the processor; the other attributes are there.
        peft: the peft model, whose ``disable_adapter()``, ``set_adapter()`` and the like change what this model
            computes; None for a model without one. `hf` is then the model inside, with the adapters in its layers.

    Raises:
        UnsupportedModel: the self-check failed; the message gives the reason.

    Examples:
        >>> model = wb.load("tiny")
        >>> logits = model("Then, Mary and John went to the")
        >>> logits.shape == (1, 7, model.cfg.d_vocab)
        False
        >>> model.hook_name("z", 0)
        'blocks.0.attn.hook_z'
    """

    peft: Any

    modality: ClassVar[str] = "language"
    reads_last_position: ClassVar[bool] = True
    where_parts_are_named: ClassVar[str] = "Its anatomy may need an entry in workbench.models.anatomy.FAMILIES."

    def __init__(
        self,
        hf: nn.Module,
        tokenizer: Any = None,
        provenance: Mapping[str, Any] | None = None,
        *,
        check: bool = True,
    ) -> None:
        if not isinstance(hf, nn.Module) or not hasattr(hf, "config"):
            raise arguments.refusal(
                "hf", hf, "a Hugging Face causal language model", "To load one by name: wb.load(name)."
            )
        if tokenizer is not None and not (callable(tokenizer) and hasattr(tokenizer, "decode")):
            raise arguments.refusal("tokenizer", tokenizer, "a Hugging Face tokenizer, or None")
        check = arguments.flag("check", check)
        inside = model_inside(hf)
        with _saying_that_it_is_quantised(inside):
            super().__init__(inside, tokenizer, provenance, check=False)
        object.__setattr__(self, "peft", None if inside is hf else hf)  # no child, as the model itself is none
        self.first_attributes |= {"peft"}
        if check:
            self.check_with(self_check.check)

    def check_with(self, check: Callable[[HookedModel], None]) -> None:
        with _saying_that_it_is_quantised(self.hf):
            check(self)
        if self.peft is not None:
            require_same_forward(self.peft, self.hf, self.trial())

    @property
    def tokenizer(self) -> Any:
        """The tokeniser, None for a model that gets ids only."""
        return self.processor

    def forward(
        self,
        input: str | list[str] | Tensor,
        attention_mask: Tensor | None = None,
        return_type: Literal["logits", "loss", "both"] | None = "logits",
        prepend_bos: bool | None = None,
    ) -> Any:
        """Logits ``[batch, pos, d_vocab]`` of the Hugging Face model, with the active hooks applied.

        Args:
            input: text, or ids ``[batch, pos]``.
            attention_mask: ``[batch, pos]``, 1 for tokens and 0 for padding, left or right; positions are then counted
                over tokens.
            return_type: ``"logits"``, ``"loss"`` (mean next-token cross-entropy over unmasked tokens), ``"both"``,
                or None.
            prepend_bos: None follows the tokeniser.

        Raises:
            UsageError: what `to_tokens` refuses, a mask that is none of these ids, a loss of one token, or backward
                hooks on a run without gradients.
        """
        arguments.one_of("return_type", return_type, ("logits", "loss", "both"), optional=True)
        ids = self.to_tokens(input, prepend_bos=prepend_bos)
        if return_type in ("loss", "both") and ids.shape[1] < 2:
            raise arguments.refusal(
                "return_type", return_type, "'logits'", because="one token has no next one to predict"
            )
        kwargs: dict[str, Any] = {"use_cache": False}
        if attention_mask is not None:
            kwargs["attention_mask"] = attention_mask = check_mask(attention_mask, ids)
            if not bool(attention_mask.all()):
                kwargs["position_ids"] = (attention_mask.cumsum(-1) - 1).clamp(min=0)
        with self.lock, self.state_put_back(), self.running(points := self._active_hooks()):
            logits = self.hf(ids, **kwargs).logits
        check_gradients(points, logits)
        if return_type in ("loss", "both"):
            loss = _loss(logits, ids, attention_mask)
            return loss if return_type == "loss" else (logits, loss)
        return logits if return_type else None

    # --- what the engine needs of a language model --------------------------------------------------------------------

    @property
    def config(self) -> Any:
        return self.hf.config.get_text_config()

    @property
    def final_softcap(self) -> float | None:
        """The cap of the logits, ``cap · tanh(logits / cap)``; None for none."""
        return getattr(self.config, "final_logit_softcapping", None)

    def parts_of(self, hf: Any) -> tuple[Anatomy, bool]:
        require_decoder(hf)
        require_sizes(hf, self.config)
        return anatomy_of(hf)

    def count_outputs(self) -> int:
        return int(self.config.vocab_size)

    def _require_parts(self) -> None:
        require_parts(self.hf, self.config, self.anatomy)

    @cached_property
    def _takes_logits_to_keep(self) -> bool:
        return "logits_to_keep" in inspect.signature(self.hf.forward).parameters

    def outputs(self, inputs: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch d_vocab"]:
        """The logits of the token after the last position."""
        # Only the last position's logits are computed: those of a full prompt are much work for a small model.
        last = {"logits_to_keep": 1} if self._takes_logits_to_keep else {}
        return self.hf(inputs, use_cache=False, **last).logits[:, -1]

    def trial(self) -> Int[Tensor, "batch pos"]:
        longest = getattr(self.config, "max_position_embeddings", None) or 2**24
        children = filter(None, map(operator_of, self.attentions))
        if grids := [x.context for x in children if x.context.grid]:  # they fix the length
            return self._random_ids(math.prod(grids[0].grid) + grids[0].before)
        lengths = [bound.check_length for bound in self.operators.values()]
        return self._random_ids(max([TRIAL_LENGTH, *(min(length, longest) for length in lengths)]))

    def rounding_trial(self) -> Int[Tensor, "batch pos"]:
        longest = getattr(self.config, "max_position_embeddings", None) or ROUNDING_LENGTH
        return self._random_ids(min(ROUNDING_LENGTH, longest))

    def proof_length(self, length: int) -> int:
        """The next power of two, or number in the configuration that may be a length; at most the context length."""
        longest = getattr(self.config, "max_position_embeddings", None) or length
        return max(length, min(next_length(length, self.config, TRIAL_LENGTH), longest))

    def proof_inputs(self, length: int, rows: Sequence[Tensor]) -> Int[Tensor, "two pos"]:
        return self._random_ids(length)

    def _random_ids(self, length: int) -> Int[Tensor, "two pos"]:
        generator = torch.Generator().manual_seed(0)
        return torch.randint(0, self.n_outputs, (2, length), generator=generator).to(self.device)

    def trial_outputs(self, inputs: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d_vocab"]:
        """The logits at every position."""
        return self.hf(inputs, use_cache=False).logits

    def run_layers(self, inputs: Int[Tensor, "batch pos"]) -> None:
        self.hf.base_model(inputs, use_cache=False)

    def read_out(
        self,
        inputs: Int[Tensor, "row pos"],
        stream: Float[Tensor, "row some_pos d_model"],
        entries: Int[Tensor, "n"] | None = None,
        rest: tuple[Any, ...] | None = None,
    ) -> Float[Tensor, "row n"]:
        """As every model does; where the self-check showed that the final norm and the unembedding are all that comes
        after the layers, only the logits of `entries` are computed."""
        if self.short_readout:
            return self.unembed(stream[:, -1], entries)
        return super().read_out(inputs, stream, entries, rest)

    def unembed(
        self, resid: Float[Tensor, "row d_model"], tokens: Int[Tensor, "n"] | None = None
    ) -> Float[Tensor, "row n_or_vocab"]:
        """Logits of the final residual: the model's own final norm, then its unembedding and what scales the logits,
        for all tokens or some."""
        x = self.module(self.anatomy.final_norm)(resid[:, None])[:, 0]
        head: Any = self.module(self.anatomy.unembed)
        if tokens is None:
            logits = head(x)
        elif not is_plain(head):  # an adapter, or a quantised weight
            logits = head(x)[:, tokens]
        else:
            bias = getattr(head, "bias", None)
            logits = F.linear(x, head.weight[tokens], None if bias is None else bias[tokens])
        if self.logit_scale != 1:
            logits = logits * self.logit_scale
        cap = self.final_softcap
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def choose_readout(self, base: LayersRun) -> None:
        stream = base.streams[-1]
        try:
            unembedded = self.unembed(stream[:, -1])
        except (AttributeError, RuntimeError, TypeError):
            self.short_readout = False
            return
        logits = super().read_out(base.inputs, stream, None, base.rest)
        self.short_readout = close(unembedded, logits)
        if not self.short_readout and self.final_softcap is None and logits.shape == unembedded.shape:
            a, b = unembedded.double(), logits.double()
            factor = float((a * b).sum() / (a * a).sum())
            if close(unembedded * factor, logits):
                self.logit_scale = factor

    def identity_facts(self) -> dict[str, Any]:
        """None besides those of every model: the modules are transformers'."""
        return {}

    def prepare(self, task: Any, argument: str = "task") -> PairedInputs:
        return prepare(self, task, argument)

    def labels(self, inputs: Int[Tensor, "pos"]) -> tuple[str, ...]:
        """Its tokens, as text."""
        return tuple(map(str, inputs.tolist())) if self.tokenizer is None else tuple(self.to_str_tokens(inputs))

    def info(self, inputs: PairedInputs) -> dict[str, Any]:
        adapters = adapters_of(self.hf)
        if loaded := self.provenance.get("adapter"):  # from a file
            for adapter in adapters:
                if adapter["name"] == loaded["adapter"]:
                    adapter["sha256"] = loaded["sha256"]
        return {"bos": inputs.bos, **super().info(inputs), **({"adapters": adapters} if adapters else {})}


@contextmanager
def _saying_that_it_is_quantised(hf: nn.Module) -> Iterator[None]:
    """Add to a refusal that the weights are quantised, which may be its reason."""
    try:
        yield
    except UnsupportedModel as error:
        if not (kind := quantised_kind(hf)):
            raise
        why = f"Its weights are quantised ({kind}), which may round by the whole batch: load it in floating point."
        raise UnsupportedModel(f"{error} {why}") from None


def _loss(logits: Tensor, ids: Tensor, mask: Tensor | None) -> Float[Tensor, ""]:
    losses = F.cross_entropy(at_least_float32(logits[:, :-1]).flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    if mask is None:
        return losses.mean()
    weights = (mask[:, 1:] * mask[:, :-1]).flatten().to(losses.dtype)
    return (losses * weights).sum() / weights.sum()
