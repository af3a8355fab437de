"""A directory as a model: its numbers are those of transformers, and what would run code or does not fit is refused."""

import json

import pytest
import torch
import transformers

from tests import small_models
from workbench.errors import UnknownName, UnsupportedModel, UntrustedModel, UsageError
from workbench.models import sources
from workbench.models.sources import store


def test_a_directory_gives_the_logits_of_transformers_itself(directory):
    loaded = sources.resolve(directory)
    ids = torch.tensor([[0, 5, 9, 32, 4]])
    reference = transformers.AutoModelForCausalLM.from_pretrained(str(directory), local_files_only=True)
    assert torch.equal(loaded.hf_model(ids).logits, reference(ids).logits)
    assert not loaded.hf_model.training
    assert not any(parameter.requires_grad for parameter in loaded.hf_model.parameters())
    assert loaded.hf_model.lm_head.weight is loaded.hf_model.model.embed_tokens.weight
    assert loaded.processor("the the").input_ids == [small_models.WORDS.index("the"), small_models.WORDS.index("Ġthe")]
    json.dumps(loaded.provenance)
    assert loaded.provenance["sha256"] == store.sha256(directory / "model.safetensors")
    assert loaded.provenance["dtype"] == "float32" and loaded.provenance["family"] == "llama"


def test_weights_have_memory_of_their_own(directory):
    before = store.sha256(directory / "model.safetensors")
    model = sources.resolve(directory).hf_model
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    (directory / "model.safetensors").write_bytes((directory / "model.safetensors").read_bytes())
    assert store.sha256(directory / "model.safetensors") == before
    addresses = [parameter.data_ptr() for parameter in model.parameters()]
    assert len(set(addresses)) == len(addresses) and all(address % 64 == 0 for address in addresses)


def test_shards_and_dtypes(tmp_path):
    model = small_models.save_directory(tmp_path / "model", torch.bfloat16, max_shard_size="20KB")
    assert len(list((tmp_path / "model").glob("*.safetensors"))) > 1
    wide = sources.resolve(tmp_path / "model")
    assert {parameter.dtype for parameter in wide.hf_model.parameters()} == {torch.float32}
    assert torch.equal(wide.hf_model.model.embed_tokens.weight, model.model.embed_tokens.weight.float())
    assert sources.resolve(tmp_path / "model", dtype="bfloat16").hf_model.dtype == torch.bfloat16
    assert sources.resolve(tmp_path / "model", dtype=torch.float64).hf_model.dtype == torch.float64
    with pytest.raises(UsageError, match="dtype='int8': expected 'float32'"):
        sources.resolve(tmp_path / "model", dtype="int8")
    with pytest.raises(UsageError, match=r"dtype=torch\.int8: expected 'float32'"):
        sources.resolve(tmp_path / "model", dtype=torch.int8)
    with pytest.raises(UsageError, match="device='abacus': expected a device"):
        sources.resolve(tmp_path / "model", device="abacus")


@pytest.mark.parametrize("device", ["xpu", "cuda:99", "meta", torch.device("cuda:99")])
def test_a_device_that_torch_cannot_use_here_is_refused(directory, device):
    with pytest.raises(UsageError, match=rf"device='{device}': expected .*, because .* Use device='cpu'\.$"):
        sources.resolve(directory, device=device)


def change_config(directory, **changes):
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_directories_that_would_run_code_are_refused(directory):
    change_config(directory, auto_map={"AutoModelForCausalLM": "modeling_evil.Evil"})
    (directory / "modeling_evil.py").write_text("raise SystemExit('code of a stranger')")
    with pytest.raises(UntrustedModel, match="auto_map"):
        sources.resolve(directory)


def test_a_tokenizer_that_would_run_code_is_refused(directory):
    path = directory / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": {"AutoTokenizer": ["t.T", None]}}))
    with pytest.raises(UntrustedModel, match=r"tokenizer_config\.json contains 'auto_map'"):
        sources.resolve(directory)


def test_truncated_weights_are_refused(directory):
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UntrustedModel, match="truncated or altered"):
        sources.resolve(directory)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"num_hidden_layers": 10**7}, UntrustedModel, "10000000 layers"),
        (
            {"num_hidden_layers": 4},
            UntrustedModel,
            r"layers\.2\.\S+ none, and the configuration says \[32, 32\]",
        ),
        ({"intermediate_size": 10**9}, UntrustedModel, "the configuration asks for"),
        (
            {"num_hidden_layers": 1, "intermediate_size": 60},
            UntrustedModel,
            r"mlp\.gate_proj\.weight \[64, 32\], and the configuration says \[60, 32\]",
        ),
        ({"model_type": "no-such-model"}, UnsupportedModel, "model_type 'no-such-model'"),
        ({"model_type": "convnext"}, UnsupportedModel, "no causal language model"),
    ],
)
def test_configurations_that_do_not_fit_the_weights_are_refused_before_allocating(directory, changes, error, message):
    change_config(directory, **changes)
    with pytest.raises(error, match=message):
        sources.resolve(directory)


def test_names_and_files_that_are_no_models(tmp_path):
    with pytest.raises(UnknownName, match="Did you mean 'gpt2-medium'"):
        sources.resolve("gpt2-medum")
    with pytest.raises(UnknownName, match="no file or directory"):
        sources.resolve("./nowhere/at/all")
    (tmp_path / "weights.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(UntrustedModel, match="save_pretrained"):
        sources.resolve(tmp_path / "weights.bin")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(UntrustedModel, match="the directory with"):
        sources.resolve(tmp_path / "model.safetensors")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UntrustedModel, match=r"has no config\.json"):
        sources.resolve(tmp_path / "empty")


def test_a_model_that_is_no_language_model_is_refused_with_what_to_do(tmp_path):
    config = transformers.SwinConfig(
        image_size=16, patch_size=2, embed_dim=16, depths=[1], num_heads=[2], window_size=2
    )
    transformers.SwinForImageClassification(config).save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModel, match=r"no causal language model for swin.* hook it with a subclass"):
        sources.resolve(tmp_path)


def test_a_gguf_of_another_architecture_is_refused(tmp_path):
    from tests.workbench.io.test_trust import gguf, key, string

    path = tmp_path / "model.gguf"
    path.write_bytes(gguf(key("general.architecture", 8, string("rwkv7")), 1, [("w", (8,), 0, 0)], b"\0" * 32))
    with pytest.raises(UnsupportedModel, match="architecture 'rwkv7'"):
        sources.resolve(path)
