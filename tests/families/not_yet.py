"""Cells of the table of families that are wrong, each with the reason: work to be done. The aim is none."""

from __future__ import annotations

#: Family → column → why it is still wrong.
NOT_YET: dict[str, dict[str, str]] = {
    "llama4_chunk10": {
        "attributions": "the chance level counts positions that the window hides",
    },
    "mistral_w10": {
        "attributions": "the chance level counts positions that the window hides",
    },
    "qwen2_w10": {
        "attributions": "the chance level counts positions that the window hides",
    },
    "gemma2_w10": {
        "attributions": "the chance level counts positions that the window hides",
    },
    "gemma3_w10": {
        "attributions": "the chance level counts positions that the window hides",
    },
    "gemma3_bidir": {
        "attributions": "the chance level counts positions that the window hides",
    },
    "afmoe": {
        "z": "z is before a gate or a norm",
        "sweep z · head": "z is before a gate or a norm",
        "sweep z · head · position": "z is before a gate or a norm",
        "path patching": "z is before a gate or a norm",
        "attributions": "factors, gates or norms between heads and logits are left out",
        "scores": "the lens or the weights leave out factors or norms",
    },
    "apertus": {
        "attributions": "a bare error: RuntimeError",
        "scores": "a bare error: RuntimeError",
    },
    "bitnet": {
        "z": "z is before a gate or a norm",
        "sweep z · head": "z is before a gate or a norm",
        "sweep z · head · position": "z is before a gate or a norm",
        "path patching": "z is before a gate or a norm",
        "attributions": "factors, gates or norms between heads and logits are left out",
        "scores": "the lens or the weights leave out factors or norms",
        "bfloat16": "z is before a gate or a norm",
    },
    "codegen": {
        "scores": "a bare error: AttributeError",
    },
    "cohere": {
        "attributions": "factors, gates or norms between heads and logits are left out",
        "scores": "the lens or the weights leave out factors or norms",
    },
    "cohere2": {
        "attributions": "factors, gates or norms between heads and logits are left out",
        "scores": "the lens or the weights leave out factors or norms",
    },
    "deepseek_v2": {
        "scores": "a bare error: AttributeError",
    },
    "deepseek_v3": {
        "attributions": "a bare error: RuntimeError",
        "scores": "a bare error: RuntimeError",
    },
    "deepseek_v32": {
        "attributions": "a bare error: RuntimeError",
        "scores": "a bare error: RuntimeError",
    },
    "deepseek_v32_topk10": {
        "attributions": "the chance level counts positions that the window hides",
        "scores": "a bare error: AttributeError",
    },
    "exaone4": {
        "attributions": "a bare error: RuntimeError",
        "scores": "a bare error: RuntimeError",
    },
    "flex_olmo": {
        "attributions": "a bare error: RuntimeError",
        "scores": "a bare error: RuntimeError",
    },
    "gemma4_text": {
        "attributions": "factors, gates or norms between heads and logits are left out",
    },
    "glm4": {
        "attributions": "factors, gates or norms between heads and logits are left out",
        "scores": "the lens or the weights leave out factors or norms",
    },
    "glm_moe_dsa_topk10": {
        "attributions": "the chance level counts positions that the window hides",
        "scores": "a bare error: AttributeError",
    },
    "gpt_bigcode": {
        "scores": "a bare error: AttributeError",
    },
    "gpt_oss": {
        "attributions": "the chance level counts positions that the window hides",
    },
    "granite": {
        "attributions": "factors, gates or norms between heads and logits are left out",
        "scores": "the lens or the weights leave out factors or norms",
    },
    "granitemoe": {
        "attributions": "factors, gates or norms between heads and logits are left out",
        "scores": "the lens or the weights leave out factors or norms",
    },
    "granitemoeshared": {
        "attributions": "factors, gates or norms between heads and logits are left out",
        "scores": "the lens or the weights leave out factors or norms",
    },
    "hyperclovax": {
        "attributions": "factors, gates or norms between heads and logits are left out",
        "scores": "the lens or the weights leave out factors or norms",
    },
    "jetmoe2": {
        "attributions": "a bare error: AttributeError",
        "scores": "a bare error: AttributeError",
    },
    "minimax_fullattn": {
        "attributions": "factors, gates or norms between heads and logits are left out",
    },
    "olmo2": {
        "attributions": "a bare error: RuntimeError",
        "scores": "a bare error: RuntimeError",
    },
    "olmo3": {
        "attributions": "a bare error: RuntimeError",
        "scores": "a bare error: RuntimeError",
    },
    "opt": {
        "attributions": "a bare error: RuntimeError",
        "scores": "a bare error: RuntimeError",
    },
    "persimmon": {
        "scores": "a bare error: AttributeError",
    },
    "phi3": {
        "scores": "a bare error: AttributeError",
    },
    "phi3_longrope": {
        "scores": "a bare error: AttributeError",
    },
    "qwen3_moe": {
        "bfloat16": "half precision routes other experts",
    },
    "qwen3_next_fullattn": {
        "z": "z is before a gate or a norm",
        "sweep z · head": "z is before a gate or a norm",
        "sweep z · head · position": "z is before a gate or a norm",
        "path patching": "z is before a gate or a norm",
        "attributions": "factors, gates or norms between heads and logits are left out",
        "scores": "a bare error: RuntimeError",
        "bfloat16": "z is before a gate or a norm",
    },
    "dbrx2": {
        "scores": "a bare error: AttributeError",
    },
    "modernbert_decoder": {
        "scores": "a bare error: StopIteration",
    },
    "olmo": {
        "wraps": "a bare error: StopIteration",
    },
    "apertus1p5_text": {
        "attributions": "a bare error: RuntimeError",
        "scores": "a bare error: RuntimeError",
    },
    "axk1": {
        "attributions": "a bare error: RuntimeError",
        "scores": "a bare error: RuntimeError",
    },
    "axk2": {
        "z": "z is before a gate or a norm",
        "sweep z · head": "z is before a gate or a norm",
        "sweep z · head · position": "z is before a gate or a norm",
        "attributions": "a bare error: RuntimeError",
        "scores": "a bare error: RuntimeError",
    },
    "beam": {
        "z": "z is before a gate or a norm",
        "sweep z · head": "z is before a gate or a norm",
        "sweep z · head · position": "z is before a gate or a norm",
        "attributions": "factors, gates or norms between heads and logits are left out",
        "scores": "the lens or the weights leave out factors or norms",
    },
    "cohere2_moe": {
        "attributions": "factors, gates or norms between heads and logits are left out",
        "scores": "the lens or the weights leave out factors or norms",
    },
    "gemma4_unified_text": {
        "attributions": "factors, gates or norms between heads and logits are left out",
    },
    "glm4_moe_lite": {
        "attributions": "a bare error: RuntimeError",
        "scores": "a bare error: RuntimeError",
    },
    "inkling_text": {
        "attributions": "factors, gates or norms between heads and logits are left out",
        "scores": "the lens or the weights leave out factors or norms",
    },
    "kolibri1": {
        "attributions": "factors, gates or norms between heads and logits are left out",
        "scores": "the lens or the weights leave out factors or norms",
    },
    "laguna": {
        "z": "z is before a gate or a norm",
        "sweep z · head": "z is before a gate or a norm",
        "sweep z · head · position": "z is before a gate or a norm",
        "path patching": "z is before a gate or a norm",
        "attributions": "factors, gates or norms between heads and logits are left out",
        "bfloat16": "z is before a gate or a norm",
    },
    "minicpm3": {
        "attributions": "a bare error: RuntimeError",
        "scores": "a bare error: RuntimeError",
    },
    "moshi": {
        "attributions": "a bare error: AttributeError",
        "scores": "a bare error: AttributeError",
    },
    "sarvam_mla": {
        "scores": "a bare error: AttributeError",
    },
    "youtu": {
        "attributions": "a bare error: RuntimeError",
        "scores": "a bare error: RuntimeError",
    },
    "zaya": {
        "scores": "a bare error: AttributeError",
        "bfloat16": "a bare error: RuntimeError",
    },
}
