"""The catalogue: what it lists, and that listing costs nothing."""

import dataclasses
import json
import re
import subprocess
import sys

import pytest

from workbench.errors import UnknownName
from workbench.models import catalog


def test_the_promised_models_are_listed_and_the_default_is_one_of_them():
    names = {"smollm2-135m-instruct-q4", "gemma3-270m-q4", "gpt2", "gpt2-medium", "pythia-160m", "tiny"} | {
        "dinov2-small-focus",
        "dinov2-small",
        "vit-base",
        "clip-vit-base",
    }
    assert names <= set(catalog.entries())
    assert catalog.DEFAULT == "smollm2-135m-instruct-q4"


@pytest.mark.parametrize("name", list(catalog.entries()))
def test_every_entry_says_where_it_comes_from_under_which_licence(name):
    entry = catalog.get(name)
    assert entry.licence and entry.licence_url.startswith("https://")
    assert entry.note.endswith(".")
    assert (entry.source == "wheel") == bool(entry.wheels)
    assert (entry.source == "hub") == bool(entry.repo)
    assert (entry.source == "bundled") == bool(entry.path)
    assert entry.origin.startswith(entry.source)
    if entry.sha256 is not None:
        assert re.fullmatch(r"[0-9a-f]{64}", entry.sha256)
    if entry.source == "wheel":  # what a stranger's archive holds is pinned to the byte
        assert entry.sha256 and entry.size == sum(wheel.size for wheel in entry.wheels)
        assert entry.files == tuple(wheel.member for wheel in entry.wheels)
    json.dumps(dataclasses.asdict(entry))


def test_only_gemma_asks_for_acceptance():
    assert [name for name, entry in catalog.entries().items() if entry.terms] == ["gemma3-270m-q4"]


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(UnknownName, match="Did you mean 'gpt2'") as caught:
        catalog.get("gpt-2")
    assert caught.value.exit_code == 2


def test_the_catalogue_and_its_states_import_neither_torch_nor_transformers():
    code = (
        "import sys; from workbench.models import catalog, sources;"
        "states = {name: sources.status(name) for name in catalog.entries()};"
        "assert set(states.values()) <= {'ready', 'not fetched', 'damaged', 'missing'}, states;"
        "heavy = {'torch', 'transformers', 'transformer_lens', 'gguf'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
