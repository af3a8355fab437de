"""Small model files for the tests of sources: a Hugging Face directory and a GGUF file, with random weights."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

WORDS = ["<s>", "</s>", "<unk>", *(chr(c) for c in range(ord("a"), ord("z") + 1)), "Ġ", "th", "the", "Ġthe"]
MERGES = ["t h", "th e", "Ġ the"]
LAYERS, HEADS, KV_HEADS, D_HEAD, D_MODEL, D_MLP = 2, 4, 2, 8, 32, 64


def llama_config(**changes: Any) -> transformers.LlamaConfig:
    """A two-layer Llama with grouped-query attention over `WORDS`."""
    return transformers.LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=D_MODEL,
        intermediate_size=D_MLP,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=1,
        **changes,
    )


def save_directory(folder: Path, dtype: torch.dtype = torch.float32, **options: Any) -> transformers.LlamaForCausalLM:
    """Write config.json, safetensors and a tokenizer to `folder`; the model that was written."""
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(llama_config(tie_word_embeddings=True)).eval()
    torch.nn.Module.to(model, dtype)
    model.save_pretrained(str(folder), **options)
    vocabulary = {word: i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary, merges=[(left, right) for left, right in map(str.split, MERGES)], unk_token="<unk>"
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(str(folder))
    return model


def save_gguf(path: Path) -> dict[str, np.ndarray]:
    """Write a llama GGUF file with some tensors in 8-bit blocks; the values that a reader should find, by GGUF name."""
    import gguf

    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(64)
    writer.add_embedding_length(D_MODEL)
    writer.add_feed_forward_length(D_MLP)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(D_HEAD)
    writer.add_vocab_size(len(WORDS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(WORDS)
    writer.add_token_types([3, 3, 2] + [1] * (len(WORDS) - 3))
    writer.add_token_merges(MERGES)
    for add, number in ((writer.add_bos_token_id, 0), (writer.add_eos_token_id, 1), (writer.add_unk_token_id, 2)):
        add(number)
    expected = {}
    shapes = {"token_embd.weight": (len(WORDS), D_MODEL), "output_norm.weight": (D_MODEL,)}
    for layer in range(LAYERS):
        shapes |= {
            f"blk.{layer}.attn_norm.weight": (D_MODEL,),
            f"blk.{layer}.attn_q.weight": (HEADS * D_HEAD, D_MODEL),
            f"blk.{layer}.attn_k.weight": (KV_HEADS * D_HEAD, D_MODEL),
            f"blk.{layer}.attn_v.weight": (KV_HEADS * D_HEAD, D_MODEL),
            f"blk.{layer}.attn_output.weight": (D_MODEL, HEADS * D_HEAD),
            f"blk.{layer}.ffn_norm.weight": (D_MODEL,),
            f"blk.{layer}.ffn_gate.weight": (D_MLP, D_MODEL),
            f"blk.{layer}.ffn_up.weight": (D_MLP, D_MODEL),
            f"blk.{layer}.ffn_down.weight": (D_MODEL, D_MLP),
        }
    for name, shape in shapes.items():
        values = random.normal(size=shape).astype(np.float32) / 4
        if "ffn" in name and "norm" not in name:
            blocks = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(name, blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
            values = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(name, values)
        expected[name] = values
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected
