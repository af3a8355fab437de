"""`HookedLM`: an unmodified Hugging Face causal language model with hooks by TransformerLens's classic names."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformer_lens import ActivationCache, HookedRootModule
from transformer_lens.hook_points import HookPoint

from workbench import arguments
from workbench.core import SITES
from workbench.errors import UnknownName, UnsupportedModel, UsageError
from workbench.models import attention_hook, self_check
from workbench.models.anatomy import anatomy_of
from workbench.models.attention_hook import AttentionEdits, Tap
from workbench.models.hook_points import BlockHooks, Norm
from workbench.models.identity import Identity
from workbench.models.taps import tapped
from workbench.models.transformer_lens_api import TransformerLensTools, transformer_lens_config


class HookedLM(TransformerLensTools, HookedRootModule):
    """A Hugging Face causal language model whose every head can be recorded and edited.

    With no active hook a call is the Hugging Face model's own forward. TransformerLens's ``patching``,
    ``head_detector`` and ``ActivationCache`` run on it. Weights are neither folded nor centred.

    Args:
        hf: a causal language model in memory; it is not modified.
        tokenizer: its tokeniser, or None for a model that gets ids only.
        provenance: where the weights come from (JSON-able), reported in every result.
        check: run the load-time self-check (`workbench.models.self_check.check`).

    Attributes:
        hf, tokenizer, provenance: the arguments.
        n_layers, n_heads, n_kv_heads, d_head, d_model: sizes.
        causal: whether a position attends only to itself and earlier ones.
        resumable: whether the self-check proved that the model resumes from any layer and position exactly; where
            it did not, sweeps recompute full forwards (`why_not_resumable` says why).

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

    hf: Any
    attentions: list[nn.Module]
    blocks: Any
    ln_final: Any

    def __init__(
        self,
        hf: nn.Module,
        tokenizer: Any = None,
        provenance: Mapping[str, Any] | None = None,
        *,
        check: bool = True,
    ) -> None:
        super().__init__()
        if not isinstance(hf, nn.Module) or not hasattr(hf, "config"):
            raise arguments.refusal(
                "hf", hf, "a Hugging Face causal language model", "To load one by name: wb.load(name)."
            )
        if tokenizer is not None and not (callable(tokenizer) and hasattr(tokenizer, "decode")):
            raise arguments.refusal("tokenizer", tokenizer, "a Hugging Face tokenizer, or None")
        if provenance is not None:
            arguments.mapping("provenance", provenance, "a mapping that says where the weights come from")
        check = arguments.flag("check", check)
        object.__setattr__(self, "hf", hf)  # outside the tree of hook points
        self.tokenizer: Any = tokenizer
        self.lock = threading.RLock()
        self.anatomy, self.listed = anatomy_of(hf)
        config = self.hf.config.get_text_config()
        self.n_layers = int(config.num_hidden_layers)
        self.n_heads = int(config.num_attention_heads)
        self.d_model = int(config.hidden_size)
        kv = getattr(config, "num_key_value_heads", None) or self.n_heads
        self.n_kv_heads = int(kv)
        self.d_head = int(getattr(config, "head_dim", None) or self.d_model // self.n_heads)
        self.final_softcap: float | None = getattr(config, "final_logit_softcapping", None)
        if not self.anatomy.layers or not self.anatomy.attention or not self.anatomy.final_norm:
            raise UnsupportedModel(
                f"No decoder layers with attention were found in {type(hf).__name__} (model_type "
                f"{config.model_type!r}). Add its anatomy to workbench.models.anatomy.FAMILIES."
            )
        object.__setattr__(self, "attentions", [self.part(i, self.anatomy.attention) for i in range(self.n_layers)])
        self._attach(hf)
        self.causal = all(attention_hook.is_causal(module, {}) for module in self.attentions)
        self.attention_hooks, self.block_hooks = self._available_hooks()
        self.blocks = nn.ModuleList(BlockHooks(self, i) for i in range(self.n_layers))
        self.hook_embed = HookPoint()
        if self.anatomy.position_embed:
            self.hook_pos_embed = HookPoint()
        self.ln_final = Norm(self.module(self.anatomy.final_norm))
        self.setup()
        self.hook_order = {name: i for i, name in enumerate(self._ordered_hooks())}
        self.cfg = transformer_lens_config(self)
        self.provenance: dict[str, Any] = {"name": str(getattr(hf, "name_or_path", "") or "in memory")}
        self.provenance.update(provenance or {})
        self.train(hf.training)  # hook points too: TransformerLens's tools look at every module
        self.resumable, self.why_not_resumable = True, ""
        self.identity = Identity(self)
        if check:
            self_check.check(self)

    # --- the model itself -----------------------------------------------------------------------------------------

    def forward(
        self,
        input: str | list[str] | Int[Tensor, "batch pos"],
        attention_mask: Int[Tensor, "batch pos"] | None = None,
        return_type: Literal["logits", "loss", "both"] | None = "logits",
        prepend_bos: bool | None = None,
    ) -> Any:
        """Logits ``[batch, pos, d_vocab]`` of the Hugging Face model, with the active hooks applied.

        Args:
            input: text, or ids ``[batch, pos]``.
            attention_mask: 1 for tokens and 0 for padding, left or right; positions are then counted over tokens.
            return_type: ``"logits"``, ``"loss"`` (mean next-token cross-entropy over unmasked tokens), ``"both"``,
                or None.
            prepend_bos: None follows the tokeniser.
        """
        ids = self.to_tokens(input, prepend_bos=prepend_bos)
        kwargs: dict[str, Any] = {"use_cache": False}
        if attention_mask is not None:
            kwargs["attention_mask"] = attention_mask = attention_mask.to(ids.device)
            if not bool(attention_mask.all()):
                kwargs["position_ids"] = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)
        with self.lock, self.running(self._active_hooks()):
            logits = self.hf(ids, **kwargs).logits
        if return_type in ("loss", "both"):
            loss = _loss(logits, ids, attention_mask)
            return loss if return_type == "loss" else (logits, loss)
        if return_type not in ("logits", None):
            raise UsageError(f"return_type={return_type!r}: expected 'logits', 'loss', 'both' or None.")
        return logits if return_type else None

    @contextmanager
    def running(
        self,
        taps: Mapping[str, Tap],
        attention_edits: Mapping[int, AttentionEdits] | None = None,
        must_fire: bool = True,
    ) -> Iterator[None]:
        """Hold the model for one run with `taps` (hook name → function) in place. A second thread waits."""
        with self.lock:
            if not taps and not attention_edits:
                yield
                return
            before = [config._attn_implementation for config in self._configs]
            try:
                for config in self._configs:
                    config._attn_implementation_internal = self._registered
                with tapped(self, taps, attention_edits=attention_edits, must_fire=must_fire):
                    yield
            finally:
                for config, name in zip(self._configs, before, strict=True):
                    config._attn_implementation_internal = name

    def run_with_cache(
        self, *args: Any, return_cache_object: bool = True, remove_batch_dim: bool = False, **kwargs: Any
    ) -> tuple[Any, Any]:
        """As in TransformerLens: the output and an `ActivationCache` of every hook point that fired.

        Raises:
            UnknownName: `names_filter` names a hook point that the model does not have.
            UsageError: `names_filter` matches none of them.
        """
        requested: Any = kwargs.get("names_filter")
        if isinstance(requested, str) or callable(requested):
            requested = [requested]
        names: list[Any] = list(requested or ())
        for name in names:
            self._require(name)
        output, cache = super().run_with_cache(*args, **kwargs)
        if not return_cache_object:
            return output, cache
        activations = ActivationCache(cache, self)
        return output, activations.remove_batch_dim() if remove_batch_dim else activations

    @contextmanager
    def hooks(self, *args: Any, **kwargs: Any) -> Iterator[HookedLM]:
        """As in TransformerLens; another thread's calls wait until these hooks are gone."""
        with self.lock, super().hooks(*args, **kwargs):
            yield self

    def has_active_hooks(self) -> bool:
        """Whether any hook point has a hook."""
        return bool(self._active_hooks())

    def _active_hooks(self) -> dict[str, Tap]:
        return {name: point for name, point in self.hook_dict.items() if point.has_hooks()}

    def _enable_hook(self, name: str | Callable[[str], bool], hook: Callable, dir: Literal["fwd", "bwd"]) -> None:
        self._require(name)
        super()._enable_hook(name, hook, dir)

    def _require(self, name: str | Callable[[str], bool]) -> None:
        if isinstance(name, str) and name not in self.hook_dict:
            raise UnknownName("site", name, self.hook_dict)
        if callable(name) and not any(name(hook_name) for hook_name in self.hook_dict):
            raise UsageError(f"The filter {name!r} matches none of the model's {len(self.hook_dict)} hook points.")

    # --- sites ----------------------------------------------------------------------------------------------------

    def hook_name(self, site: str, layer: int) -> str:
        """The full hook name of a short site name (``z``) or of a name inside a block (``attn.hook_q``).

        ``q`` and ``k`` are what attention receives: after rotary where the model rotates.

        Raises:
            UnknownName: the model has no such site.
        """
        part = SITES.get(arguments.text("site", site, "the name of a site"), site)
        layer = arguments.index("layer", layer, self.n_layers, "layer")
        if not self.anatomy.rotary:
            part = part.replace("hook_rot_", "hook_")
        name = f"blocks.{layer}.{part}"
        if name not in self.hook_dict:
            parts = {hook.split(".", 2)[2] for hook in self.hook_dict if hook.startswith("blocks.0.")}
            short = {s for s in SITES if f"blocks.{layer}.{SITES[s]}" in self.hook_dict} | parts
            hint = "This model has no such site." if site in SITES else ""
            raise UnknownName("site", site, short, hint, argument="site")
        return name

    def attention_site(self, part: str) -> str | None:
        """The tap inside the attention function that serves a name such as ``attn.hook_z``; None for other sites."""
        sites = {
            "attn.hook_v": "v",
            "attn.hook_attn_scores": "scores",
            "attn.hook_pattern": "pattern",
            "attn.hook_z": "z",
        }
        prefix = "attn.hook_rot_" if self.anatomy.rotary else "attn.hook_"
        return {**sites, prefix + "q": "q", prefix + "k": "k"}.get(part)

    def drop_hooks(self, *parts: str) -> None:
        """Leave out hook points of every layer that this model does not have after all."""
        for block in self.blocks:
            for part in parts:
                if hasattr(block, part):
                    delattr(block, part)
        self.setup()
        self.hook_order = {name: i for i, name in enumerate(self._ordered_hooks())}

    def _available_hooks(self) -> tuple[list[str], list[str]]:
        a = self.anatomy
        raw = bool(a.fused and a.fused_layout == "per_head") or bool(a.query and a.key)
        attention = [
            *(["hook_q", "hook_k"] if raw or not a.rotary else []),
            *(["hook_q_normed", "hook_k_normed"] if a.query_norm else []),
            *(["hook_rot_q", "hook_rot_k"] if a.rotary else []),
            *["hook_v", "hook_attn_scores", "hook_pattern", "hook_z"],
        ]
        sequential = not a.parallel and bool(a.attn_out and a.mlp_out)
        block = [
            "hook_resid_pre",
            *(["hook_attn_out"] if a.attn_out else []),
            *(["hook_resid_mid"] if sequential else []),
            *(["hook_mlp_out"] if a.mlp_out else []),
            "hook_resid_post",
        ]
        return attention, block

    def _ordered_hooks(self) -> Iterable[str]:
        yield from (name for name in ("hook_embed", "hook_pos_embed") if name in self.hook_dict)
        parts = ["hook_resid_pre", "ln1.hook_scale", *(f"attn.{h}" for h in self.attention_hooks)]
        parts += ["hook_attn_out", "hook_resid_mid", "ln2.hook_scale", "hook_mlp_out", "hook_resid_post"]
        for layer in range(self.n_layers):
            yield from (name for part in parts if (name := f"blocks.{layer}.{part}") in self.hook_dict)
        yield "ln_final.hook_scale"

    # --- parts of the Hugging Face model --------------------------------------------------------------------------

    def module(self, name: str) -> nn.Module:
        """A submodule of the Hugging Face model."""
        return self.hf.get_submodule(name)

    def layer(self, index: int) -> nn.Module:
        """A decoder layer."""
        return self.module(f"{self.anatomy.layers}.{index}")

    def part(self, layer: int, name: str) -> nn.Module:
        """A part of a decoder layer."""
        return self.layer(layer).get_submodule(name)

    def unembed(
        self, resid: Float[Tensor, "row d_model"], tokens: Int[Tensor, "n"] | None = None
    ) -> Float[Tensor, "row n_or_vocab"]:
        """Logits of the final residual: the model's own final norm, then its unembedding, for all tokens or some."""
        x = self.module(self.anatomy.final_norm)(resid[:, None])[:, 0]
        head: Any = self.module(self.anatomy.unembed)
        if tokens is None:
            logits = head(x)
        else:
            bias = getattr(head, "bias", None)
            logits = F.linear(x, head.weight[tokens], None if bias is None else bias[tokens])
        cap = self.final_softcap
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def _attach(self, hf: Any) -> None:
        configs = [hf.config, hf.config.get_text_config(), *(getattr(a, "config", None) for a in self.attentions)]
        self._configs = list({id(c): c for c in configs if c is not None}.values())
        name = self._configs[-1]._attn_implementation or "eager"
        name = name.removeprefix(attention_hook.PREFIX)
        self.attention_implementation = name
        self._registered = attention_hook.register(name)
        for module in self.attentions:
            attention_hook.attach(module, attention_hook.implementation_of(module, name))

    # --- torch.nn.Module over the Hugging Face model ----------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        return next(self.hf.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(p.dtype for p in self.hf.parameters() if p.is_floating_point())

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        return self.hf.parameters(recurse)

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        return self.hf.named_parameters(*args, **kwargs)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return self.hf.state_dict(*args, **kwargs)

    def to(self, *args: Any, **kwargs: Any) -> HookedLM:
        self.hf.to(*args, **kwargs)
        self.cfg = transformer_lens_config(self)
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> HookedLM:
        """What ``double()``, ``half()``, ``cuda()`` and the like are made of: done to the Hugging Face model."""
        self.hf._apply(fn, recurse)
        self.cfg = transformer_lens_config(self)
        return self

    def train(self, mode: bool = True) -> HookedLM:
        self.hf.train(mode)
        return super().train(mode)


def _loss(logits: Tensor, ids: Tensor, mask: Tensor | None) -> Float[Tensor, ""]:
    losses = F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    if mask is None:
        return losses.mean()
    weights = (mask[:, 1:] * mask[:, :-1]).flatten().to(losses.dtype)
    return (losses * weights).sum() / weights.sum()
