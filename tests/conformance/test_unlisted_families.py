"""Families that nobody listed: what is exact against plain hooks, and the true reason where one is refused."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

from tests.conformance.test_other_models import SIZES, compare_z, shaken
from tests.families import paired
from tests.oracle.plain_hooks import captured, edited, logit_difference
from workbench.core import Edit
from workbench.errors import UnknownName, UnsupportedModel
from workbench.models.language import HookedLM
from workbench.patching.run import run
from workbench.patching.sweep import sweep

TOKENS: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
#: Encoder–decoders in the manner of BART.
BART: dict[str, Any] = {
    **{"vocab_size": SIZES["vocab_size"], "d_model": 48, "encoder_layers": 3, "decoder_layers": 3},
    **{"encoder_attention_heads": 6, "decoder_attention_heads": 6, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64},
    **TOKENS,
}
DBRX: dict[str, Any] = {
    **{"vocab_size": SIZES["vocab_size"], "d_model": 48, "n_heads": 6, "n_layers": 3, "max_seq_len": 64},
    "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 1e4},
    "ffn_config": {
        **{"ffn_hidden_size": 64, "moe_num_experts": 4, "moe_top_k": 2, "hidden_size": 48},
        "ffn_act_fn": {"name": "silu"},
    },
}
LLAMA4: dict[str, Any] = {
    **SIZES,
    **{"num_key_value_heads": 2, "head_dim": 8, "intermediate_size_mlp": 64, "num_local_experts": 4},
    **{"num_experts_per_tok": 1, "moe_layers": [0, 2], "no_rope_layers": [1, 1, 1], "attention_chunk_size": 32},
    **TOKENS,
}
GEMMA3N: dict[str, Any] = {
    **SIZES,
    **{"num_key_value_heads": 2, "head_dim": 8, "vocab_size_per_layer_input": SIZES["vocab_size"]},
    **{"hidden_size_per_layer_input": 8, "num_kv_shared_layers": 0, "laurel_rank": 4},
    **{"layer_types": ["sliding_attention", "sliding_attention", "full_attention"]},
    **{"activation_sparsity_pattern": [0.0] * 3, **TOKENS},
}


def config(kind: str, **settings: Any) -> Any:
    return transformers.AutoConfig.for_model(kind, **settings)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("biogpt", {**SIZES, **TOKENS}),
        ("modernbert-decoder", {**SIZES, **TOKENS}),
        ("whisper", {**BART, "num_mel_bins": 8, "decoder_start_token_id": 1}),
        ("dbrx", DBRX),
        ("llama4_text", LLAMA4),
    ],
)
def test_usual_names_admit_a_family(kind: str, settings: dict[str, Any]) -> None:
    model, hf = HookedLM(shaken(config(kind, **settings))), shaken(config(kind, **settings))
    ids = paired(1).clean[0][None]
    assert torch.equal(model(ids), hf(ids, use_cache=False).logits)
    assert model.resumable and model.causal
    compare_z(model, hf, kind)


def written(at: int, value: Tensor) -> Callable[[Tensor], Tensor]:
    """One prompt's MLP output, flat or not, with `value` at one position."""

    def change(x: Tensor) -> Tensor:
        x = x.clone()
        x.view(-1, 48)[at] = value
        return x

    return change


def test_a_branch_that_is_flat_is_edited_where_it_is_said() -> None:
    """Llama 4's experts return ``[batch · pos, d_model]``, its dense layers ``[batch, pos, d_model]``."""
    model, hf = HookedLM(shaken(config("llama4_text", **LLAMA4))), shaken(config("llama4_text", **LLAMA4))
    inputs = paired(3, lengths=(8,))
    patched = sweep(model, inputs, site="mlp_out", by="position", positions="all", cache=False)
    zeroed = run(model, inputs, [Edit("mlp_out", 2, position="end", kind="zero")], cache=False).scores()
    for layer, example in product(range(3), range(len(inputs))):
        mlp = hf.get_submodule(f"model.layers.{layer}.feed_forward")
        assert isinstance(mlp(torch.zeros(2, 4, 48)), tuple) == (layer != 1)
        clean, corrupt = inputs.clean[example], inputs.corrupt[example]
        answers = inputs.answer[example], inputs.wrong[example]
        values = captured(hf, clean[None], (mlp, "output"))[0].view(8, 48)
        for position in range(8):
            with edited((mlp, "output", written(position, values[position]))):
                expected = logit_difference(hf, corrupt, *answers)
            assert patched.values[layer, position, example] == pytest.approx(expected, abs=1e-4)
        if layer == 2:
            with edited((mlp, "output", written(-1, torch.zeros(48)))):
                expected = logit_difference(hf, clean, *answers)
            assert float(zeroed[example]) == pytest.approx(expected, abs=1e-4)
    assert np.abs(patched.delta).max() > 1e-2
    _, cache = model.run_with_cache(inputs.clean[0][None])
    for layer in range(3):
        mid = cache["resid_pre", layer] + cache["attn_out", layer]
        assert torch.allclose(mid + cache["mlp_out", layer], cache["resid_post", layer], atol=1e-5)


def test_a_branch_of_another_shape_is_left_out() -> None:
    """What an edit of it would change is not known."""
    hf = shaken(config("phi", **SIZES))
    mlp: Any = hf.get_submodule("model.layers.1.mlp")
    forward = mlp.forward
    mlp.forward = lambda x: forward(x)[None]
    hf.get_submodule("model.layers.1").register_forward_hook(lambda _, __, output: output[0])
    with pytest.warns(UserWarning, match=r"in layer 1 the MLP gives \(1, 2, 8, 48\) and the residual stream is \(2, 8"):
        model = HookedLM(hf)
    assert not any("attn_out" in name or "mlp_out" in name for name in model.hook_dict)


def test_a_norm_that_does_not_read_the_middle_leaves_it_out() -> None:
    """GPT-NeoX's parallel layers have two norms, both of the layer's input."""
    hf: Any = shaken(transformers.GPTNeoXConfig(**SIZES, use_parallel_residual=True))
    hf.config.model_type = "unlisted"
    with pytest.warns(UserWarning, match="post_attention_layernorm does not read the sum of the residual stream and"):
        model = HookedLM(hf)
    assert not any("resid_mid" in name for name in model.hook_dict)


def test_several_streams_are_no_residual_stream() -> None:
    with pytest.warns(UserWarning, match=r"its layers carry 4 streams .*are left out\), so sweeps run full forward"):
        model = HookedLM(shaken(config("gemma3n_text", **GEMMA3N)))
    hf = shaken(config("gemma3n_text", **GEMMA3N))
    assert model.causal
    compare_z(model, hf, "gemma3n")
    for site in ("resid_pre", "resid_post", "mlp_out"):
        with pytest.raises(UnknownName, match=f"site='{site}': expected the name of a site"):
            sweep(model, paired(2), site=site, by="position")


# --- refused ----------------------------------------------------------------------------------------------------------

GROUPED: dict[str, Any] = {**SIZES, "num_key_value_heads": 2, **TOKENS}
LINEAR: dict[str, Any] = {
    **{"linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8},
    **{"layer_types": ["linear_attention", "full_attention", "linear_attention"], "head_dim": 8},
}
EXPERTS = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
}
GPT1 = {"vocab_size": SIZES["vocab_size"], "n_embd": 48, "n_layer": 3, "n_head": 6, "n_positions": 64}
XGLM = {"vocab_size": SIZES["vocab_size"], "d_model": 48, "num_layers": 3, "attention_heads": 6, "ffn_dim": 64}
FALCON = {name: SIZES[name] for name in SIZES if name != "intermediate_size"}
NONE_IN_0_AND_2 = "no attention in layers 0 and 2 (linear attention, a convolution or a state instead), and every layer"
ITSELF = "computes its attention itself instead of calling"
Auto = Callable[[Any], Any]
causal, masked = transformers.AutoModelForCausalLM.from_config, transformers.AutoModelForMaskedLM.from_config
seq2seq, headless = transformers.AutoModelForSeq2SeqLM.from_config, transformers.AutoModel.from_config
REFUSED: list[tuple[str, Auto, dict[str, Any], str]] = [
    ("mamba", causal, {"vocab_size": 101, "hidden_size": 48, "num_hidden_layers": 2}, "gives no num_attention_heads"),
    ("qwen3_next", causal, {**GROUPED, **LINEAR, **EXPERTS}, NONE_IN_0_AND_2),
    ("qwen3_5_text", causal, {**GROUPED, **LINEAR}, NONE_IN_0_AND_2),
    ("lfm2", causal, {**GROUPED, "layer_types": ["conv", "full_attention", "conv"]}, NONE_IN_0_AND_2),
    (
        "gemma4_text",
        causal,
        {**GROUPED, "head_dim": 8, "global_head_dim": 16, "layer_types": GEMMA3N["layer_types"]},
        "layers of unequal head_dim (8, 8, 16). Every layer has to have the same",
    ),
    ("minimax", causal, {**GROUPED, "head_dim": 8, "num_local_experts": 4}, f"of layer 1 {ITSELF}"),
    ("falcon", causal, FALCON, f"FalconAttention of layers 0, 1 and 2 {ITSELF}"),
    ("openai-gpt", causal, GPT1, ITSELF),
    ("xglm", causal, XGLM, ITSELF),
    ("diffllama", causal, GROUPED, "layer 0 calls the attention function 2 times in a forward, not once"),
    ("bert", causal, {**SIZES, "is_decoder": True}, "has no norm after its last layer, or one of another name"),
    ("bart", causal, BART, "has no norm after its last layer, or one of another name"),
    ("bert", masked, SIZES, "BertForMaskedLM is an encoder, which fills in masked tokens, and HookedLM takes decoders"),
    (
        "bart",
        transformers.AutoModelForSeq2SeqLM.from_config,
        BART,
        "is an encoder–decoder, and HookedLM takes decoders",
    ),
    ("llama", headless, GROUPED, "LlamaModel is a model without logits of the next token"),
    (
        "llama",
        transformers.AutoModelForSequenceClassification.from_config,
        GROUPED,
        "LlamaForSequenceClassification is a model without logits of the next token",
    ),
]


@pytest.mark.parametrize(("kind", "build", "settings", "reason"), REFUSED)
def test_a_refusal_gives_the_true_reason_in_one_line(
    kind: str, build: Auto, settings: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UnsupportedModel) as refused:
        HookedLM(build(config(kind, **settings)).eval())
    message = str(refused.value)
    assert reason in message and "\n" not in message
    # An entry is recommended where one may help.
    assert ("FAMILIES" in message) == ("another name" in message)
