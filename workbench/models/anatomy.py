"""Where a model family has its parts, as dotted names inside the Hugging Face model.

A family is one entry of `FAMILIES`. A model of an unlisted family is discovered: its layers by their number,
its attention by who calls the attention function, the rest by the usual names. The load-time self-check
(`workbench.models.self_check`) then shows which of the guesses hold.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from torch import nn

from workbench import arguments


@dataclass(frozen=True)
class Anatomy:
    """Dotted names of a model's parts; those of a layer's parts are relative to the layer, projections' to the
    attention module. What a model does not have stays empty: its hook points are then left out.

    Attributes:
        layers: the list of layers.
        embed, final_norm, unembed: the two ends of the residual stream; position_embed where positions are learned.
        attention, mlp: the two branches of a layer.
        attn_out, mlp_out: the modules whose outputs join the residual stream (Gemma norms after each branch).
        norm1, norm2: the norms before the branches.
        query, key, value: projections, empty where `fused`.
        output, mlp_output: the projections that end the branches (relative to attention and MLP).
        fused: the one matrix of q, k and v, and whether it is laid out ``"blocks"`` (all q, all k, all v) or
            ``"per_head"`` (q, k and v of each head in turn).
        query_norm, key_norm: norms of q and k before rotary, and whether heads come before positions there.
        rotary: whether q and k are rotated between projection and attention.
        parallel: the MLP reads the layer's input, so that there is no ``resid_mid``.

    Raises:
        UsageError: a name that is not a string, or a layout that is neither.

    Examples:
        >>> parts = wb.Anatomy(layers="encoder.layers", attention="attn", attn_out="attn", output="proj")
        >>> parts.mlp_out
        ''
    """

    layers: str = ""
    embed: str = ""
    position_embed: str = ""
    final_norm: str = ""
    unembed: str = ""
    attention: str = ""
    mlp: str = ""
    attn_out: str = ""
    mlp_out: str = ""
    norm1: str = ""
    norm2: str = ""
    query: str = ""
    key: str = ""
    value: str = ""
    output: str = ""
    mlp_output: str = ""
    fused: str = ""
    fused_layout: str = "blocks"
    query_norm: str = ""
    key_norm: str = ""
    heads_first: bool = False
    rotary: bool = False
    parallel: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, bool):
                object.__setattr__(self, field.name, arguments.flag(field.name, value))
            else:
                arguments.text(field.name, value, "the dotted name of a module", empty=True)
        arguments.one_of("fused_layout", self.fused_layout, ("blocks", "per_head"))


LLAMA = Anatomy(
    layers="model.layers",
    embed="model.embed_tokens",
    final_norm="model.norm",
    unembed="lm_head",
    attention="self_attn",
    mlp="mlp",
    attn_out="self_attn",
    mlp_out="mlp",
    norm1="input_layernorm",
    norm2="post_attention_layernorm",
    query="q_proj",
    key="k_proj",
    value="v_proj",
    output="o_proj",
    mlp_output="down_proj",
    rotary=True,
)
GEMMA = replace(
    LLAMA, norm2="pre_feedforward_layernorm", attn_out="post_attention_layernorm", mlp_out="post_feedforward_layernorm"
)
GPT2 = Anatomy(
    layers="transformer.h",
    embed="transformer.wte",
    position_embed="transformer.wpe",
    final_norm="transformer.ln_f",
    unembed="lm_head",
    attention="attn",
    mlp="mlp",
    attn_out="attn",
    mlp_out="mlp",
    norm1="ln_1",
    norm2="ln_2",
    output="c_proj",
    mlp_output="c_proj",
    fused="c_attn",
)
GPT_NEOX = Anatomy(
    layers="gpt_neox.layers",
    embed="gpt_neox.embed_in",
    final_norm="gpt_neox.final_layer_norm",
    unembed="embed_out",
    attention="attention",
    mlp="mlp",
    attn_out="attention",
    mlp_out="mlp",
    norm1="input_layernorm",
    norm2="post_attention_layernorm",
    output="dense",
    mlp_output="dense_4h_to_h",
    fused="query_key_value",
    fused_layout="per_head",
    rotary=True,
    parallel=True,
)

DBRX = Anatomy(
    layers="transformer.blocks",
    embed="transformer.wte",
    final_norm="transformer.norm_f",
    unembed="lm_head",
    attention="norm_attn_norm.attn",
    mlp="ffn",
    attn_out="norm_attn_norm.attn",
    mlp_out="ffn",
    norm1="norm_attn_norm.norm_1",
    norm2="norm_attn_norm.norm_2",
    output="out_proj",
    rotary=True,
)

#: `config.model_type` → anatomy.
FAMILIES: dict[str, Anatomy] = {
    "llama": LLAMA,
    "mistral": LLAMA,
    "qwen2": LLAMA,
    "qwen3": replace(LLAMA, query_norm="q_norm", key_norm="k_norm"),
    "gemma2": GEMMA,
    "gemma3_text": replace(GEMMA, query_norm="q_norm", key_norm="k_norm", heads_first=True),
    "gpt2": GPT2,
    "gpt_neox": GPT_NEOX,
    "dbrx": DBRX,
}
#: Usual names of parts, for families that are not listed.
_FINAL_NORMS = ("norm", "final_layernorm", "final_layer_norm", "ln_f", "layer_norm", "final_norm", "norm_f")
_MLP_OUTPUTS = ("down_proj", "fc2", "c_proj", "w2", "Wo")


def anatomy_of(model: Any) -> tuple[Anatomy, bool]:
    """The anatomy of a Hugging Face causal language model, and whether its family is a listed one."""
    config = model.config
    anatomy = FAMILIES.get(config.model_type)
    if anatomy is None:
        return discover(model), False
    if anatomy is GPT_NEOX and not config.use_parallel_residual:
        anatomy = replace(anatomy, parallel=False)
    if find(model, anatomy.unembed) is None:
        anatomy = replace(anatomy, unembed=_unembed_name(model))
    return anatomy, True


def discover(model: Any) -> Anatomy:
    """Guess the anatomy of an unlisted family from the usual names; missing parts are left empty."""
    n_layers = model.config.get_text_config().num_hidden_layers
    lists = [name for name, part in model.named_modules() if isinstance(part, nn.ModuleList) and len(part) == n_layers]
    layers = lists[0] if lists else ""
    trunk = layers.rpartition(".")[0]
    layer = find(model, layers + ".0") if layers else None
    attention = _first(layer, "self_attn", "attn", "attention", "self_attention")
    attention_module = find(layer, attention) if layer is not None and attention else None
    mlp = _first(layer, "mlp", "feed_forward", "block_sparse_moe", "ffn")
    norm2, after_attention, after_mlp = _norms_after(layer)
    return Anatomy(
        layers=layers,
        embed=_name_of(model, model.get_input_embeddings()),
        position_embed=_prefixed(trunk, _first(find(model, trunk), "wpe")),
        final_norm=_prefixed(trunk, _first(find(model, trunk), *_FINAL_NORMS)),
        unembed=_unembed_name(model),
        attention=attention,
        attn_out=after_attention or attention,
        mlp=mlp,
        mlp_out=(after_mlp or mlp) if mlp else "",
        norm1=_first(layer, "input_layernorm", "ln_1", "norm1", "self_attn_layer_norm", "attn_norm"),
        norm2=norm2,
        query=_first(attention_module, "q_proj"),
        key=_first(attention_module, "k_proj"),
        value=_first(attention_module, "v_proj"),
        output=_first(attention_module, "o_proj", "out_proj", "dense", "c_proj", "Wo"),
        mlp_output=_first(find(layer, mlp) if layer is not None and mlp else None, *_MLP_OUTPUTS),
        rotary=True,
        parallel=norm2 == "" and after_attention == "",
    )


def _norms_after(layer: nn.Module | None) -> tuple[str, str, str]:
    """The norm before the MLP, and those behind attention and the MLP, by their usual names:
    ``post_attention_layernorm`` is the first of these where nothing else can be it, as in Llama, and the second where
    another stands before the MLP (Gemma) or none before attention (OLMo 2)."""
    before = _first(layer, "pre_feedforward_layernorm", "pre_mlp_layernorm")
    after_mlp = _first(layer, "post_mlp_layernorm", "post_feedforward_layernorm")
    if after_attention := _first(layer, "post_self_attn_layernorm"):
        return _first(layer, "post_attention_layernorm"), after_attention, after_mlp
    named = _first(layer, "post_attention_layernorm")
    if named and (before or (after_mlp and not _first(layer, "input_layernorm"))):
        return before, named, after_mlp
    return named or before or _first(layer, "ln_2", "norm2", "mlp_norm"), "", ""


def find(root: nn.Module | None, name: str) -> nn.Module | None:
    """The submodule of that dotted name, or None."""
    try:
        return root.get_submodule(name) if root is not None else None
    except AttributeError:
        return None


def missing_part(model: nn.Module, anatomy: Anatomy) -> tuple[str, str] | None:
    """The first part that the anatomy names and the model does not have, and which field names it; layers and attention
    have to be named. None where all are there."""
    outer = ("layers", "embed", "position_embed", "final_norm")
    of_layer = ("attention", "mlp", "attn_out", "mlp_out", "norm1", "norm2")
    of_attention = ("query", "key", "value", "output", "fused", "query_norm", "key_norm")
    layer = f"{anatomy.layers}.0."
    places = [("", outer), (layer, of_layer), (f"{layer}{anatomy.attention}.", of_attention)]
    for prefix, names in [*places, (f"{layer}{anatomy.mlp}.", ("mlp_output",) if anatomy.mlp else ())]:
        for field in names:
            name = getattr(anatomy, field)
            required = field in ("layers", "attention")
            if (name or required) and (not name or find(model, prefix + name) is None):
                return prefix + name, field
    return None


def _first(root: nn.Module | None, *names: str) -> str:
    return next((name for name in names if find(root, name) is not None), "")


def _prefixed(trunk: str, name: str) -> str:
    return f"{trunk}.{name}" if trunk and name else name


def _name_of(model: nn.Module, module: nn.Module | None) -> str:
    return next((name for name, part in model.named_modules() if part is module), "")


def _unembed_name(model: Any) -> str:
    return _name_of(model, model.get_output_embeddings())
