"""Adapters on disk: loaded as peft loads them, named with their hash, and refused where they would run code, are
incomplete or belong to another model."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

import workbench as wb
from tests import small_models
from workbench.errors import NotAvailable, UnsupportedModel, UntrustedModel
from workbench.models import sources
from workbench.models.sources import hub, store

IDS = torch.tensor([[0, 5, 9, 32, 4]])
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    small_models.save_directory(tmp_path / "base")
    return tmp_path / "base"


def save_adapter(folder: Path, base: Path, name: Any = None, **options: Any) -> Any:
    """Write a LoRA adapter of `base` to `folder`; the peft model that was written."""
    torch.manual_seed(1)
    hf = transformers.AutoModelForCausalLM.from_pretrained(str(base))
    settings: dict[str, Any] = {"r": 2, "init_lora_weights": False, "target_modules": ["q_proj", "v_proj", "o_proj"]}
    settings |= {"task_type": "CAUSAL_LM", **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = peft.get_peft_model(hf, peft.LoraConfig(**settings)).eval()
        model.save_pretrained(str(folder))
    change(folder, base_model_name_or_path=str(base) if name is None else name)
    return model


def change(folder: Path, **settings: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def of_peft(folder: Path, base: Path) -> Any:
    hf = transformers.AutoModelForCausalLM.from_pretrained(str(base))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return peft.PeftModel.from_pretrained(hf, str(folder)).eval()


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")  # peft's, of the adapter that it makes
@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"use_dora": True}, {"modules_to_save": ["lm_head"]}])
def test_an_adapter_s_folder_gives_the_logits_of_peft(options: dict[str, Any], base: Path, tmp_path: Path) -> None:
    save_adapter(tmp_path / "adapter", base, **options)
    model = wb.load(str(tmp_path / "adapter"))
    expected = of_peft(tmp_path / "adapter", base)(input_ids=IDS).logits
    assert torch.equal(model(IDS), expected)
    assert not torch.allclose(wb.load(str(base))(IDS), expected, atol=1e-3)
    assert not any(p.requires_grad for p in model.parameters()) and not model.peft.training
    with model.peft.disable_adapter():
        assert torch.equal(model(IDS), wb.load(str(base))(IDS))
    assert model.to_tokens("the the").tolist()[0][-1] == small_models.WORDS.index("Ġthe")


def test_provenance_names_the_adapter_and_its_base(base: Path, tmp_path: Path) -> None:
    save_adapter(tmp_path / "adapter", base)
    digests = [store.sha256(base / "model.safetensors"), store.sha256(tmp_path / "adapter/adapter_model.safetensors")]
    provenance = wb.load(str(tmp_path / "adapter")).provenance
    json.dumps(provenance)
    assert provenance["name"] == "./adapter"
    assert provenance["base"] == {"name": f"./{base.name}", "source": "directory", "sha256": digests[0]}
    assert provenance["adapter"]["sha256"] == digests[1] and provenance["adapter"]["type"] == "LORA"
    assert provenance["sha256"] not in digests and provenance["weights_sha256"] == digests[0]
    save_adapter(tmp_path / "other", base, r=3)
    assert wb.load(str(tmp_path / "other")).provenance["sha256"] != provenance["sha256"]


def test_results_name_the_adapter_s_hash(base: Path, tmp_path: Path) -> None:
    save_adapter(tmp_path / "adapter", base)
    model = wb.load(str(tmp_path / "adapter"))
    pairs = wb.PairedInputs(
        name="ids", clean=(IDS[0],), corrupt=(IDS[0].flip(0),), answer=((1,),), wrong=((2,),), positions=({"end": 4},)
    )
    info = wb.sweep(model, pairs).info
    digest = store.sha256(tmp_path / "adapter" / "adapter_model.safetensors")
    assert info["adapters"] == [{"name": "default", "state": "active", "scaling": [4.0], "sha256": digest}]
    assert info["model_sha256"] == model.provenance["sha256"]


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_an_adapter_is_loaded_in_the_precision_that_peft_gives_it(dtype: str, base: Path, tmp_path: Path) -> None:
    save_adapter(tmp_path / "adapter", base)
    hf = transformers.AutoModelForCausalLM.from_pretrained(str(base), dtype=getattr(torch, dtype))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = peft.PeftModel.from_pretrained(hf, str(tmp_path / "adapter")).eval()(input_ids=IDS).logits
    assert torch.equal(wb.load(str(tmp_path / "adapter"), dtype=dtype)(IDS), expected)


def test_a_folder_with_a_model_and_an_adapter_is_both(base: Path, tmp_path: Path) -> None:
    """The model in the folder is the base, whatever other base the adapter names; as for transformers."""
    save_adapter(tmp_path / "adapter", base, name="org/elsewhere")
    expected = of_peft(tmp_path / "adapter", base)(input_ids=IDS).logits
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(tmp_path / "adapter" / name, base)
    assert torch.equal(wb.load(str(base))(IDS), expected)
    (base / "adapter_model.safetensors").unlink()
    with pytest.raises(UntrustedModel, match=r"has adapter_config\.json and no adapter_model\.safetensors\. If the"):
        wb.load(str(base))


def test_the_base_is_found_beside_the_adapter_or_in_the_catalogue(base: Path, tmp_path: Path) -> None:
    save_adapter(tmp_path / "adapter", base, name="../base")
    assert sources.resolve(tmp_path / "adapter").provenance["base"]["sha256"] == store.sha256(
        base / "model.safetensors"
    )
    tiny = wb.load("tiny")
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = peft.get_peft_model(tiny.hf, peft.LoraConfig(init_lora_weights=False, target_modules=["q_proj"]))
        wrapped.eval().save_pretrained(str(tmp_path / "tiny"))
    change(tmp_path / "tiny", base_model_name_or_path="tiny")
    model = wb.load(str(tmp_path / "tiny"))
    assert torch.equal(model(IDS), wrapped(input_ids=IDS).logits)
    assert model.provenance["base"]["name"] == "tiny" and model.provenance["licence"] == tiny.provenance["licence"]


def test_an_adapter_of_the_hub_is_loaded_from_its_snapshot(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adapter and base are repositories of the hub, both in its cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    save_adapter(tmp_path / "adapter", base, name="org/base")
    for name in ("base", "adapter"):
        repository = tmp_path / "hub" / f"models--org--{name}"
        shutil.copytree(tmp_path / name, repository / "snapshots" / COMMIT)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(COMMIT)
    model = wb.load("org/adapter")
    assert torch.equal(model(IDS), of_peft(tmp_path / "adapter", base)(input_ids=IDS).logits)
    assert model.provenance["adapter"]["revision"] == COMMIT == wb.load("org/base").provenance["revision"]
    assert model.provenance["base"]["name"] == "org/base" and model.provenance["name"] == "org/adapter"


def test_an_adapter_s_files_are_downloaded() -> None:
    def files(*names: str) -> list[Any]:
        return [type("File", (), {"rfilename": name}) for name in names]

    many = files("README.md", "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin", "tokenizer.json")
    assert hub.files_to_download(many, "o/n") == ["adapter_config.json", "adapter_model.safetensors", "tokenizer.json"]
    with pytest.raises(UntrustedModel, match=r"only as adapter_model\.bin"):
        hub.files_to_download(files("adapter_config.json", "adapter_model.bin"), "o/n")


def test_pickles_are_refused(base: Path, tmp_path: Path) -> None:
    save_adapter(tmp_path / "adapter", base)
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
    (tmp_path / "adapter" / "adapter_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(UntrustedModel, match=r"has weights only as adapter_model\.bin"):
        wb.load(str(tmp_path / "adapter"))


REFUSALS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "code": ({"auto_map": {"x": "evil.Evil"}}, UntrustedModel, "auto_map"),
    "a package": ({"megatron_config": {"a": 1}, "megatron_core": "evil"}, UnsupportedModel, "import another package"),
    "layers": ({"layer_replication": [[0, 2], [1, 2]]}, UnsupportedModel, "copies layers"),
    "no base": ({"base_model_name_or_path": None}, UnsupportedModel, "names no base model"),
    "base elsewhere": ({"base_model_name_or_path": "/nowhere/at all"}, NotAvailable, "Set base_model_name_or_path in"),
    "a newer setting": ({"sharpen": 2.0}, UnsupportedModel, r"has 1 entries \(sharpen\), which peft .* does not know"),
    "another type": ({"peft_type": "SUPERLORA"}, UnsupportedModel, "peft_type 'SUPERLORA'"),
    "prompt tuning": ({"peft_type": "PROMPT_TUNING"}, UnsupportedModel, "has .*, which peft|adds positions"),
    "another rank": (
        {"r": 10**9},
        UntrustedModel,
        r"has shape \(2, 32\) where adapter_config\.json and",
    ),
    "other modules": ({"target_modules": ["q_proj", "k_proj"]}, UntrustedModel, "are missing from adapter_model"),
    "fewer modules": ({"target_modules": ["q_proj"]}, UntrustedModel, "have no place in the model"),
    "no modules": ({"target_modules": ["c_attn"]}, UnsupportedModel, "peft cannot put this adapter into Llama"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_what_does_not_fit_is_refused(what: str, base: Path, tmp_path: Path) -> None:
    settings, error, reason = REFUSALS[what]
    save_adapter(tmp_path / "adapter", base)
    change(tmp_path / "adapter", **settings)
    with pytest.raises(error, match=reason):
        wb.load(str(tmp_path / "adapter"))


def test_an_adapter_of_an_adapter_or_of_itself_is_refused(base: Path, tmp_path: Path) -> None:
    save_adapter(tmp_path / "adapter", base)
    save_adapter(tmp_path / "second", base, name=str(tmp_path / "adapter"))
    with pytest.raises(UnsupportedModel, match="is an adapter itself"):
        wb.load(str(tmp_path / "second"))
    change(tmp_path / "adapter", base_model_name_or_path=str(tmp_path / "adapter"))
    with pytest.raises(UntrustedModel, match="names itself as its base"):
        wb.load(str(tmp_path / "adapter"))


def test_altered_weights_of_an_adapter_are_noticed(base: Path, tmp_path: Path) -> None:
    from workbench.models.sources import adapter, directory

    save_adapter(tmp_path / "adapter", base)
    loaded = directory.load(base, device=None, dtype=None, provenance={"name": "base"})
    settings = adapter.read_settings(tmp_path / "adapter")
    with pytest.raises(UntrustedModel, match="altered or truncated"):
        adapter.apply(
            loaded, tmp_path / "adapter", settings, provenance={"name": "a"}, expected={adapter.WEIGHTS: "0" * 64}
        )
