"""Random models and calls over the traps.

A case is a family with random settings (window, chunk, caps, scales, norms, groups, causality, dtype, an adapter),
random prompts, and one call. `tests.families.random_check` compares it with plain hooks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.families.adapters import ADAPTERS
from tests.families.columns import HEAD_SITES
from tests.families.configurations import Configuration


@dataclass(frozen=True)
class Case:
    """One random model, its prompts and a call."""

    configuration: Configuration
    dtype: str
    adapter: str
    prompts: int
    seed: int
    call: str
    arguments: dict[str, Any]


# --- drawing ----------------------------------------------------------------------------------------------------------

WINDOWS = (3, 5, 10, 128)


def _window(draw: st.DrawFn) -> dict[str, Any]:
    return {"sliding_window": draw(st.sampled_from([None, *WINDOWS]))}


def _mixed(draw: st.DrawFn) -> dict[str, Any]:
    kinds = st.sampled_from(["sliding_attention", "full_attention"])
    return {
        "sliding_window": draw(st.sampled_from(WINDOWS)),
        "layer_types": draw(st.lists(kinds, min_size=3, max_size=3)),
    }


def _groups(draw: st.DrawFn) -> dict[str, Any]:
    return {"num_key_value_heads": draw(st.sampled_from([1, 2, 3, 6]))}


def _head_size(draw: st.DrawFn) -> dict[str, Any]:
    return {"head_dim": draw(st.sampled_from([4, 8, 16]))}


def _flag(name: str) -> Callable[[st.DrawFn], dict[str, Any]]:
    return lambda draw: {name: draw(st.booleans())}


def _one_of(name: str, *values: Any) -> Callable[[st.DrawFn], dict[str, Any]]:
    return lambda draw: {name: draw(st.sampled_from(values))}


def _causality(draw: st.DrawFn) -> dict[str, Any]:
    return draw(st.sampled_from([{}, {}, {}, {"is_causal": False}]))


_GRANITE = (
    _groups,
    _one_of("embedding_multiplier", 1.0, 3.0),
    _one_of("logits_scaling", 1.0, 2.0, 8.0),
    _one_of("residual_multiplier", 1.0, 0.4),
    _one_of("attention_multiplier", 0.35, 1.0),
)
_COHERE = (_groups, _one_of("logit_scale", 0.5, 1.0, 2.0))
_ROPE = st.sampled_from(
    [
        {},
        {},
        {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}, "max_position_embeddings": 10},
        {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}},
    ]
)
_BIASES = (_flag("attention_bias"), _flag("mlp_bias"))

#: Model type → what is drawn for it.
TRAITS: dict[str, tuple[Callable[[st.DrawFn], dict[str, Any]], ...]] = {
    "llama": (_groups, _head_size, *_BIASES, _causality, _flag("tie_word_embeddings"), lambda draw: draw(_ROPE)),
    "mistral": (_groups, _head_size, _window, _causality),
    "qwen2": (_groups, _mixed),
    "qwen3": (_groups, _head_size, _mixed, _flag("attention_bias"), _causality),
    "gemma2": (
        _groups,
        _head_size,
        _mixed,
        _one_of("attn_logit_softcapping", None, 3.0),
        _one_of("final_logit_softcapping", None, 4.0),
        _one_of("query_pre_attn_scalar", 8, 2),
    ),
    "gemma3_text": (
        _groups,
        _head_size,
        _mixed,
        _one_of("final_logit_softcapping", None, 4.0),
        _flag("use_bidirectional_attention"),
    ),
    "gpt2": (_one_of("scale_attn_by_inverse_layer_idx", False, True), _flag("scale_attn_weights")),
    "gpt_neox": (_flag("use_parallel_residual"), _flag("attention_bias"), _one_of("rotary_pct", 0.25, 1.0)),
    "llama4_text": (
        _groups,
        _one_of("attention_chunk_size", 4, 10, 128),
        _one_of("floor_scale", 4, 10, 8192),
        _one_of("attn_scale", 0.1, 1.0),
        _flag("attn_temperature_tuning"),
        _flag("use_qk_norm"),
        _one_of("no_rope_layers", [1, 1, 0], [0, 1, 1], [1, 1, 1]),
        _one_of("interleave_moe_layer_step", 1, 2),
    ),
    "granite": (*_GRANITE, _flag("attention_bias")),
    "granitemoe": _GRANITE,
    "cohere": (*_COHERE, _flag("use_qk_norm"), _flag("attention_bias")),
    "cohere2": (*_COHERE, _mixed),
    "glm4": (_groups, _flag("attention_bias")),
    "olmo2": (_groups,),
    "olmo3": (_groups, _mixed),
    "exaone4": (_groups, _mixed),
    "gpt_oss": (_groups, _mixed),
    "starcoder2": (_groups, _window, _flag("use_bias")),
    "stablelm": (_groups, _flag("use_parallel_residual"), _flag("qk_layernorm"), _flag("use_qkv_bias")),
    "phi": (_groups, _flag("qk_layernorm"), _one_of("partial_rotary_factor", 0.5, 1.0)),
    "phi3": (_groups, _window),
    "gptj": (),
    "opt": (_flag("do_layer_norm_before"), _flag("enable_bias"), _flag("layer_norm_elementwise_affine")),
    "nanochat": (_groups, _one_of("final_logit_softcapping", 4.0, 15.0)),
    "afmoe": (_groups, _mixed, _flag("mup_enabled")),
    "qwen3_next": (_groups, _head_size, lambda _: {"layer_types": ["full_attention"] * 3}),
    "bitnet": (_groups,),
    "mixtral": (_groups, _window),
    "deepseek_v3": (lambda _: {"num_key_value_heads": 6}, _one_of("q_lora_rank", None, 24)),
    "gpt_bigcode": (_flag("multi_query"),),
    "biogpt": (_flag("scale_embedding"),),
    "olmo": (_groups, _one_of("clip_qkv", None, 1.0)),
    "ministral3": (
        _groups,
        lambda draw: {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 1e4,
                "factor": 4.0,
                "original_max_position_embeddings": draw(st.sampled_from([4, 10, 64])),
                "llama_4_scaling_beta": draw(st.sampled_from([0.1, 1.0])),
            }
        },
    ),
}
LENGTHS = ((5,), (7, 9), (12,), (13, 16), (10, 11))
ADAPTED = ("llama", "mistral", "qwen2", "qwen3", "gemma2")


@st.composite
def cases(draw: st.DrawFn, types: tuple[str, ...] = tuple(TRAITS)) -> Case:
    """A random case."""
    model_type = draw(st.sampled_from(types))
    values: dict[str, Any] = {}
    for trait in TRAITS[model_type]:
        values |= trait(draw)
    if model_type in ("qwen2", "qwen3") and "sliding_attention" in values.get("layer_types", ()):
        values["use_sliding_window"] = True
    implementation = "eager" if model_type in ("gemma2", "gpt_oss") else draw(st.sampled_from(["", "", "eager"]))
    scale = 8.0 if model_type == "gpt2" else 5.0
    configuration = Configuration(model_type, values, implementation, draw(st.sampled_from(LENGTHS)), scale=scale)
    adapter = draw(st.sampled_from(["", "", *ADAPTERS])) if model_type in ADAPTED else ""
    dtype = draw(st.sampled_from(["float32", "float32", "float32", "float64", "bfloat16"]))
    call = draw(st.sampled_from(["sweep", "sweep", "sweep", "record", "path_patch", "scores"]))
    if dtype == "bfloat16":
        call = "sweep"
    return Case(
        configuration,
        dtype,
        adapter,
        draw(st.sampled_from([1, 2, 3, 5])),
        draw(st.integers(0, 999)),
        call,
        _call(draw, call),
    )


def _call(draw: st.DrawFn, call: str) -> dict[str, Any]:
    if call == "record":
        return {"sites": [draw(st.sampled_from(["z", "q", "k", "v", "pattern", "resid_pre", "resid_post"]))]}
    if call == "path_patch":
        into = draw(st.sampled_from([None, "q", "k", "v"]))
        return {
            "into": into,
            "position": draw(st.sampled_from(["S", "end"])),
            "freeze": draw(st.sampled_from(["position", "all"])),
            "direction": draw(st.sampled_from(["noise", "denoise"])),
        }
    if call == "scores":
        return {}
    site = draw(st.sampled_from(["z", "z", "q", "k", "v", "pattern", "resid_pre", "resid_post"]))
    axes = [["head"], ["head", "position"], ["position"]] if site in HEAD_SITES else [["position"], ["layer"]]
    return {
        "site": site,
        "by": draw(st.sampled_from(axes)),
        "edit": draw(st.sampled_from(["patch", "patch", "zero"])),
        "direction": draw(st.sampled_from(["denoise", "noise"])),
    }
