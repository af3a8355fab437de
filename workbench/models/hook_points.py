"""What TransformerLens's tools expect: hook points by their classic names, and weights by head.

Only hook points that fire are created. The Hugging Face modules stay outside this tree (`HookedRootModule.setup` writes
a name onto every module it finds); the weights here are views of theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from workbench.errors import UnsupportedModel
from workbench.models.anatomy import Anatomy, find
from workbench.models.projections import bias_of, projection

if TYPE_CHECKING:
    from workbench.models.hooked import HookedModel


def available_hooks(a: Anatomy) -> tuple[list[str], list[str]]:
    """The hook points of an attention layer, and those of a block."""
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


def ordered_hooks(model: HookedModel) -> Iterator[str]:
    """The model's hook points in the order in which they fire."""
    parts = ["hook_resid_pre", "ln1.hook_scale", *(f"attn.{hook}" for hook in model.attention_hooks)]
    parts += ["hook_attn_out", "hook_resid_mid", "ln2.hook_scale", "hook_mlp_out", "hook_resid_post"]
    in_layers = [f"blocks.{layer}.{part}" for layer in range(model.n_layers) for part in parts]
    names = ["hook_embed", "hook_pos_embed", *in_layers, "ln_final.hook_scale"]
    return (name for name in names if name in model.hook_dict)


class Unregistered:
    """Holds a module without making it a child."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module


class Norm(nn.Module):
    """A norm's hook point; calling it applies the model's own norm."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.hook_scale = HookPoint()
        self.wrapped = Unregistered(norm)

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.wrapped.module(x)


class AttentionHooks(nn.Module):
    """Hook points of one attention layer, and its weights: ``W_Q [head, d_model, d_head]``, ``W_K``, ``W_V`` with KV
    heads, ``W_O [head, d_head, d_model]``. Attention is ``z_h W_O[h]`` summed over heads, plus ``b_O``."""

    def __init__(self, model: HookedModel, layer: int) -> None:
        super().__init__()
        self.wrapped = Unregistered(model.attentions[layer])
        self.anatomy, self.shape = model.anatomy, (model.n_heads, model.n_kv_heads, model.d_head)
        for name in model.attention_hooks:
            setattr(self, name, HookPoint())

    @property
    def W_Q(self) -> Float[Tensor, "head d_model d_head"]:
        return self._heads("query", self.shape[0])

    @property
    def W_K(self) -> Float[Tensor, "kv_head d_model d_head"]:
        return self._heads("key", self.shape[1])

    @property
    def W_V(self) -> Float[Tensor, "kv_head d_model d_head"]:
        return self._heads("value", self.shape[1])

    @property
    def b_V(self) -> Float[Tensor, "kv_head d_head"]:
        _, n_kv_heads, d_head = self.shape
        if not self.anatomy.fused:
            module = self._part("value")
            return bias_of(module, self.W_V[0].new_empty(n_kv_heads * d_head)).unflatten(0, (n_kv_heads, d_head))
        module = self.wrapped.module.get_submodule(self.anatomy.fused)
        fused = bias_of(module, projection(module)[:, 0])
        if self.anatomy.fused_layout == "blocks":
            return fused.chunk(3)[2].unflatten(0, (n_kv_heads, d_head))
        return fused.unflatten(0, (n_kv_heads, 3, d_head))[:, 2]

    @property
    def W_O(self) -> Float[Tensor, "head d_head d_model"]:
        n_heads, _, d_head = self.shape
        return projection(self._part("output")).T.unflatten(0, (n_heads, d_head))

    @property
    def b_O(self) -> Float[Tensor, "d_model"]:
        return bias_of(self._part("output"), self.W_O)

    def _part(self, field: str) -> nn.Module:
        """A projection of its own.

        Raises:
            UnsupportedModel: there is none.
        """
        name = getattr(self.anatomy, field)
        if not name:
            kind = type(self.wrapped.module).__name__
            raise UnsupportedModel(f"{kind} has no {field} projection of its own, so there are no weights by head.")
        return self.wrapped.module.get_submodule(name)

    def _heads(self, which: str, n_heads: int) -> Float[Tensor, "some_head d_model d_head"]:
        if not self.anatomy.fused:
            matrix = projection(self._part(which))
        else:
            fused, index = projection(self.wrapped.module.get_submodule(self.anatomy.fused)), "qkv".index(which[0])
            if self.anatomy.fused_layout == "blocks":
                matrix = fused.chunk(3)[index]
            else:
                matrix = fused.unflatten(0, (n_heads, 3, -1))[:, index].flatten(0, 1)
        return matrix.unflatten(0, (n_heads, self.shape[2])).mT


class BlockHooks(nn.Module):
    """Hook points of one layer."""

    #: TransformerLens's logit lens checks whether a layer's output is the residual stream itself.
    hook_out_is_single_residual_stream = True

    def __init__(self, model: HookedModel, layer: int) -> None:
        super().__init__()
        for name in model.block_hooks:
            setattr(self, name, HookPoint())
        self.attn = AttentionHooks(model, layer)
        for name, norm in (("ln1", model.anatomy.norm1), ("ln2", model.anatomy.norm2)):
            module = find(model.layer(layer), norm) if norm else None
            if module is not None and not isinstance(module, nn.Identity):
                setattr(self, name, Norm(module))
