"""`HookedModel`: a transformer whose heads can be recorded and edited, whatever its inputs are.

A modality is a subclass that says what its inputs are and what its metrics read: `workbench.models.language.HookedLM`
is one. ``docs/howto/any-model.md`` brings a model of one's own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from workbench import arguments
from workbench.core import SITES
from workbench.errors import UnknownName, UnsupportedModel
from workbench.io.local_names import local_name
from workbench.models import attention_hook, module_state, sdpa_attention, self_check
from workbench.models.additivity import Additivity
from workbench.models.anatomy import find, missing_part
from workbench.models.attention_edits import AttentionEdits, Tap
from workbench.models.checked_hooks import CheckedHooks
from workbench.models.explicit_attention import is_causal
from workbench.models.hook_arguments import check_gradients
from workbench.models.hook_points import BlockHooks, Norm, available_hooks, ordered_hooks
from workbench.models.identity import Identity
from workbench.models.kernel_notes import forget_kernel
from workbench.models.layer_operators import LayerOperators
from workbench.models.modality import Modality, Sizes
from workbench.models.norms import is_norm, norm_eps
from workbench.models.placement import device_of, require_one_device
from workbench.models.precision import at_least_float32, called_in_float32
from workbench.models.projections import bias_of
from workbench.models.proofs import Proofs
from workbench.models.swapped_modules import leave_out_patterns, swapped_operators
from workbench.models.taps import tapped


class HookedModel(LayerOperators, Modality, CheckedHooks):
    """A transformer whose every head can be recorded and edited: what does not depend on the kind of its inputs, which
    a subclass gives (`workbench.models.modality.Modality`).

    With no active hook a call is the wrapped model's own forward. Inputs are tensors ``[batch, pos, ...]``.

    Args:
        hf: the model in memory, a stack of layers each of which calls an attention function: Hugging Face's
            ``AttentionInterface``, or ``torch.nn.functional.scaled_dot_product_attention``. It is not modified.
        processor: what turns texts or images into inputs (a tokeniser, an image processor), or None.
        provenance: where the weights come from (JSON-able), reported in every result.
        check: run the load-time self-check (`workbench.models.self_check.check`).

    Attributes:
        hf, processor, provenance: the arguments.
        modality: what its inputs are: ``"language"``, ``"vision"``, ...
        n_layers, n_heads, n_kv_heads, d_head, d_model: sizes.
        n_outputs: how many numbers `outputs` gives for an input: the vocabulary, or the classes.
        causal: whether a position attends only to itself and earlier ones.
        resumable: whether the self-check proved that the model resumes from any layer and position exactly; where
            it did not, sweeps recompute full forwards (`why_not_resumable` says why).

    Raises:
        UnsupportedModel: the self-check failed; the message gives the reason.

    Examples:
        >>> model = wb.load("tiny")  # of a modality that is there; docs/howto/any-model.md makes another
        >>> isinstance(model, wb.HookedModel), model.modality
        (True, 'language')
    """

    hf: Any
    attentions: list[nn.Module]
    blocks: Any

    def __init__(
        self,
        hf: nn.Module,
        processor: Any = None,
        provenance: Mapping[str, Any] | None = None,
        *,
        check: bool = True,
    ) -> None:
        own = set(vars(self))  # what the class of the model has set before, and reads
        super().__init__()
        if not isinstance(hf, nn.Module):
            raise arguments.refusal("hf", hf, "a torch module")
        if provenance is not None:
            arguments.mapping("provenance", provenance, "a mapping that says where the weights come from")
        check = arguments.flag("check", check)
        object.__setattr__(self, "hf", hf)  # outside the tree of hook points
        require_one_device(hf)
        self.processor: Any = processor
        self.lock = threading.RLock()
        self._content = {}
        self.anatomy, self.listed = self.parts_of(hf)
        self._require_parts()
        sizes = arguments.instance(f"{type(self).__name__}.sizes()", self.sizes(), Sizes, "wb.Sizes")
        self.n_layers, self.n_heads, self.n_kv_heads = sizes.n_layers, sizes.n_heads, sizes.n_kv_heads
        self.d_head, self.d_model = sizes.d_head, sizes.d_model
        self._require_layers()
        object.__setattr__(self, "attentions", [self.part(i, self.anatomy.attention) for i in range(self.n_layers)])
        self._require_attentions()
        if self.anatomy.final_norm and self.modality != "language":
            self._require_norm()
        self._attach(hf)
        #: By layer, the operator that was swapped in (`wb.swap`); other layers have the model's own attention.
        self.operators = swapped_operators(self.attentions)
        self.causal = all(is_causal(module, {}) for module in self.attentions) and self.position_keeps_earlier
        self.attention_hooks, self.block_hooks = available_hooks(self.anatomy)
        self.blocks = nn.ModuleList(BlockHooks(self, i) for i in range(self.n_layers))
        for layer, operator in self.operators.items():
            leave_out_patterns(self.blocks[layer].attn, operator)
        if self.anatomy.embed:
            self.hook_embed = HookPoint()
        if self.anatomy.position_embed:
            self.hook_pos_embed = HookPoint()
        if self.anatomy.final_norm:
            self.ln_final = Norm(self.module(self.anatomy.final_norm))
        self.setup()
        self.hook_order = {name: i for i, name in enumerate(ordered_hooks(self))}
        self.n_outputs = self.count_outputs()
        self.cfg = self.transformer_lens_config()
        self.provenance: dict[str, Any] = {"name": local_name(str(getattr(hf, "name_or_path", "") or "in memory"))}
        self.provenance.update(provenance or {})
        self.train(hf.training)  # hook points too: TransformerLens's tools look at every module
        self.resumable, self.why_not_resumable = True, ""
        #: Whether `read_out` may take a shorter way (language models: the final norm and the unembedding alone).
        self.short_readout = True
        #: How many positions `outputs` read of what leaves the last layer, the first ones, where they read no other; 0
        #: where that is not known.
        self.reads_first = 0
        #: Whether `read_out` gets the same from one input alone, whatever the rows are (models of images).
        self.embeds_one = False
        #: What logits are multiplied by after the unembedding (Cohere, Granite); the self-check measures it.
        self.logit_scale = 1.0
        #: How heads' contributions to the outputs are had; the self-check finds it.
        self.additivity = Additivity(why_not="the model was loaded without the self-check.")
        #: Whether z is what enters the output projection: no gate and no norm stands between.
        self.z_is_projected = True
        #: By layer, which of its arguments have an entry for each input; the self-check finds them.
        self.row_arguments: dict[int, frozenset[int]] = {}
        self.identity, self.proofs = Identity(self), Proofs(self)
        #: The names of its own attributes; others are looked at for cache keys (`workbench.models.identity`).
        self.first_attributes = frozenset({*vars(self), "first_attributes"} - own)
        if check:
            self.check_with(self_check.check)

    def check_with(self, check: Callable[[HookedModel], None]) -> None:
        """Have the model checked by a function such as `workbench.models.self_check.check`.

        Raises:
            UnsupportedModel: it failed.
        """
        check(self)

    # --- runs and hooks ---------------------------------------------------------------------------------------------

    def forward(self, input: Shaped[Tensor, "batch pos *rest"]) -> Float[Tensor, "batch n_outputs"]:
        """The outputs, with the active hooks applied.

        Raises:
            UsageError: inputs that are not as the model's `trial` is.
        """
        if not isinstance(input, Tensor) or input.ndim < 2:
            raise arguments.refusal("input", input, "a tensor [input, position, ...]")
        self.check_content("input", input[0])
        with self.lock, self.state_put_back(), self.running(points := self._active_hooks()):
            outputs = self.outputs(input.to(self.device))
        check_gradients(points, outputs)
        return outputs

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
                for module in self.attentions:
                    forget_kernel(module)
                yield
                return
            with ExitStack() as stack:
                if self._configs:
                    names = {config._attn_implementation for config in self._configs}
                    stack.enter_context(attention_hook.answered(names))
                else:
                    stack.enter_context(sdpa_attention.answered(self.attentions))
                stack.enter_context(tapped(self, taps, attention_edits=attention_edits, must_fire=must_fire))
                yield

    @contextmanager
    def weights_frozen(self) -> Iterator[None]:
        """While it lasts, gradients are those of activations alone; another thread's calls wait."""
        with self.lock:
            trainable = [p for p in self.parameters() if p.requires_grad]
            try:
                for p in trainable:
                    p.requires_grad_(False)
                yield
            finally:
                for p in trainable:
                    p.requires_grad_(True)

    def state_put_back(self) -> AbstractContextManager[None]:
        """While it lasts, modules may change what they keep beside parameters (`workbench.models.module_state`)."""
        return module_state.state_put_back(module_state.modules_with_state(self.hf))

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
            if layer in self.operators and part in ("attn.hook_pattern", "attn.hook_attn_scores"):
                hint = f"Layer {layer} attends by {self.operators[layer]}, which has none."
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

    def set_heads(self, n_kv_heads: int, d_head: int) -> None:
        """Another number of KV heads and another width of heads than the configuration says."""
        self.n_kv_heads, self.d_head = n_kv_heads, d_head
        for block in self.blocks:
            block.attn.shape = (self.n_heads, n_kv_heads, d_head)
        self.cfg = self.transformer_lens_config()

    def hook_gated_z(self) -> None:
        """Give every layer the hook point ``attn.hook_z_gated``: z as it enters the output projection."""
        self.attention_hooks = [*self.attention_hooks, "hook_z_gated"]
        for block in self.blocks:
            block.attn.hook_z_gated = HookPoint()
        self.setup()
        self.hook_order = {name: i for i, name in enumerate(ordered_hooks(self))}

    def drop_hooks(self, *parts: str) -> None:
        """Leave out hook points of every layer that this model does not have after all."""
        for block in self.blocks:
            for part in parts:
                holder, name = (block.attn, part.removeprefix("attn.")) if part.startswith("attn.") else (block, part)
                if hasattr(holder, name):
                    delattr(holder, name)
        self.setup()
        self.hook_order = {name: i for i, name in enumerate(ordered_hooks(self))}

    # --- parts of the wrapped model --------------------------------------------------------------------------

    def module(self, name: str) -> nn.Module:
        """A submodule of the wrapped model."""
        return self.hf.get_submodule(name)

    def layer(self, index: int) -> nn.Module:
        """A layer."""
        return self.module(f"{self.anatomy.layers}.{index}")

    def part(self, layer: int, name: str) -> nn.Module:
        """A part of a layer."""
        return self.layer(layer).get_submodule(name)

    def norm_weight(self, norm: nn.Module) -> Float[Tensor, "d_model"]:
        """What a norm multiplies by, at least in float32; measured on its own output so that ``weight`` and
        ``1 + weight`` need no table."""
        probe = torch.ones(1, 1, self.d_model, device=self.device, dtype=self.dtype)
        probe[..., ::2] = -1  # mean 0, mean square 1
        shift = called_in_float32(norm, torch.zeros_like(probe))[0, 0].nan_to_num()
        out = called_in_float32(norm, probe)[0, 0] - shift
        return out * probe[0, 0] * (1 + norm_eps(norm, probe)) ** 0.5

    def accumulated_bias(
        self, layer: int, mlp_input: bool = False, include_mlp_biases: bool = True
    ) -> Float[Tensor, "d_model"]:
        """Sum of the output biases of the attention (and MLP) branches below `layer`; with `mlp_input` also its own
        attention's."""
        total = at_least_float32(torch.zeros(self.d_model, device=self.device, dtype=self.dtype))
        for i in range(layer + mlp_input):
            total = total + self.blocks[i].attn.b_O
            if include_mlp_biases and i < layer:
                total = total + bias_of(find(self.part(i, self.anatomy.mlp), self.anatomy.mlp_output), total)
        return total.to(self.dtype)

    def _require_parts(self) -> None:
        """Every part that the anatomy names has to be there."""
        if missing := missing_part(self.hf, self.anatomy):
            name, field = missing
            raise UnsupportedModel(
                f"{type(self.hf).__name__} has no module {name!r} for {field}. Name it in {type(self).__name__}.parts."
            )

    def _require_norm(self) -> None:
        """What is named as the final norm is one."""
        name = self.anatomy.final_norm
        probe = torch.randn(1, 4, self.d_model, generator=torch.Generator().manual_seed(0))
        try:
            norm = is_norm(self.module(name), probe.to(self.device, self.dtype))
        except (NotImplementedError, RuntimeError, TypeError):
            norm = False
        if not norm:
            raise UnsupportedModel(f"{type(self.hf).__name__}: final_norm={name!r} is no norm of width {self.d_model}.")

    def _require_layers(self) -> None:
        """As many layers as there are."""
        layers: Any = self.module(self.anatomy.layers)
        if len(layers) != self.n_layers:
            raise UnsupportedModel(
                f"{type(self.hf).__name__} has {len(layers)} modules in {self.anatomy.layers!r}, and n_layers is "
                f"{self.n_layers}."
            )

    def _require_attentions(self) -> None:
        """Each layer has an attention module of its own."""
        if len(set(map(id, self.attentions))) != self.n_layers:
            raise UnsupportedModel(
                f"Layers of {type(self.hf).__name__} share an attention module: none is edited alone."
            )

    def _attach(self, hf: Any) -> None:
        """Have the attention modules call `hooked_attention`: by name where transformers looks their function up, else
        in the place of PyTorch's function (`workbench.models.sdpa_attention`)."""
        configs = [getattr(hf, "config", None), self.config, *(getattr(a, "config", None) for a in self.attentions)]
        by_name = {id(config): config for config in configs if hasattr(config, "_attn_implementation")}
        self._configs = list(by_name.values())
        for module in self.attentions:
            attention_hook.set_edits(module, None)
            if self._configs:
                attention_hook.implementation_of(module, self._configs[-1]._attn_implementation)

    @property
    def attention_implementation(self) -> str:
        """The attention function that the model calls."""
        return (self._configs[-1]._attn_implementation or "eager") if self._configs else "sdpa"

    # --- torch.nn.Module over the wrapped model ----------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        return device_of(self.hf)

    @property
    def dtype(self) -> torch.dtype:
        return next(p.dtype for p in self.hf.parameters() if p.is_floating_point())

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        return self.hf.parameters(recurse)

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        return self.hf.named_parameters(*args, **kwargs)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return self.hf.state_dict(*args, **kwargs)

    def to(self, *args: Any, **kwargs: Any) -> HookedModel:
        self.hf.to(*args, **kwargs)
        self.cfg = self.transformer_lens_config()
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> HookedModel:
        """What ``double()``, ``half()``, ``cuda()`` and the like are made of: done to the wrapped model."""
        self.hf._apply(fn, recurse)
        self.cfg = self.transformer_lens_config()
        return self

    def train(self, mode: bool = True) -> HookedModel:
        self.hf.train(mode)
        return super().train(mode)
