"""Packages are fetched by their hash, unpacked once, and not installed."""

import subprocess
import sys
import zipfile
from importlib.util import find_spec

import pytest
import torch

from tests.oracle.unpacked import FLA_CORE, NATTEN, Package
from workbench.models.sources import store


def test_a_source_archive_and_a_wheel():
    assert (NATTEN.folder / "natten" / "functional.py").is_file()
    assert find_spec("natten") is None and str(NATTEN.folder) not in sys.path
    naive = FLA_CORE.file("fla/ops/linear_attn/naive.py")
    assert FLA_CORE.file("fla/ops/linear_attn/naive.py") is naive
    assert "fla" not in sys.modules
    with torch.no_grad():
        q = torch.ones(1, 3, 1, 2)
        assert naive.naive_recurrent_linear_attn(q, q, q)[0].shape == (1, 3, 1, 2)


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """A folder of wheels in the place of the index, with one of them."""
    path = tmp_path / "wheels" / "oracle_in_wheel-1.0-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr("oracle_in_wheel.py", "answer = 42\n")
        opened.writestr(
            "oracle_in_wheel-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: oracle-in-wheel\nVersion: 1.0\n"
        )
        opened.writestr(
            "oracle_in_wheel-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        opened.writestr("oracle_in_wheel-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(path.parent))
    monkeypatch.setenv("WORKBENCH_CACHE_DIR", str(tmp_path / "cache"))
    return path


def test_it_is_fetched_once(wheels):
    package = Package("oracle-in-wheel", "1.0", store.sha256(wheels))
    assert package.module("oracle_in_wheel").answer == 42
    wheels.unlink()
    assert (package.folder / "oracle_in_wheel.py").is_file()


@pytest.mark.parametrize("sha256, version", [("0" * 64, "1.0"), (None, "2.0")])
def test_another_file_or_none_is_an_error_and_leaves_nothing(wheels, sha256, version, tmp_path):
    package = Package("oracle-in-wheel", version, sha256 or store.sha256(wheels))
    with pytest.raises(subprocess.CalledProcessError):
        _ = package.folder
    assert not [path for path in (tmp_path / "cache" / "unpacked").iterdir() if path.is_dir()]
