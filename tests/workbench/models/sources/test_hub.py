"""The hub: only known files, at one commit, and found again offline."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from workbench.errors import NotAvailable, UntrustedModel
from workbench.models import sources
from workbench.models.sources import hub, store


def test_only_known_files_of_a_repository_are_downloaded():
    def files(*names):
        return [type("File", (), {"rfilename": name}) for name in names]

    many = files(
        "config.json", "model.safetensors", "model-00001-of-00002.safetensors", "pytorch_model.bin", "tokenizer.json",
        "modeling_evil.py", "onnx/model.safetensors", "vocab.json", "merges.txt", "tf_model.h5",
    )  # fmt: skip
    assert hub.files_to_download(many, "o/n") == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "vocab.json",
        "merges.txt",
    ]
    with pytest.raises(UntrustedModel, match=r"only as pytorch_model\.bin"):
        hub.files_to_download(files("config.json", "pytorch_model.bin"), "o/n")


def test_a_hub_model_is_fetched_at_its_commit_checked_and_found_again_offline(directory, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    (directory / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    script = Path(__file__).with_name("hub_session.py")
    command = [sys.executable, str(script), str(directory)]
    monkeypatch.setenv("PYTHONPATH", str(script.parents[2]))
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    first, damage, dead = done.stdout.splitlines()[:3]
    provenance = json.loads(first)
    assert provenance["revision"] == "0123456789abcdef0123456789abcdef01234567"
    assert provenance["sha256"] == store.sha256(directory / "model.safetensors")
    assert provenance["sha256"] in damage and "altered or truncated" in damage
    assert "org/other cannot be fetched" in dead and "To work offline" in dead
    assert not list((tmp_path / "hub").rglob("pytorch_model.bin"))


def test_offline_mode_of_the_hub_is_respected(monkeypatch, models_folder, tmp_path):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(NotAvailable, match="HF_HUB_OFFLINE") as caught:
        sources.resolve("gpt2")
    assert str(models_folder / "gpt2") in str(caught.value)
    assert sources.status("gpt2") == "not fetched"


def test_hub_files_placed_by_hand_are_used(directory, models_folder):
    shutil.copytree(directory, models_folder / "gpt2")
    assert sources.status("gpt2") == "ready" and sources.fetch("gpt2") == models_folder / "gpt2"
    assert sources.resolve("gpt2").provenance["source"] == "hub openai-community/gpt2, placed by hand"
