"""Every shipped model is what its card says, measured again."""

from __future__ import annotations

import hashlib
import re

import pytest

from data.training.kit import card
from data.training.kit.recipe import CHECKPOINTS, ImageRecipe
from data.training.kit.vit import WITHIN, ViTRecipe
from tests.data.training.shipped import shipped
from workbench.models import catalog
from workbench.registry import RECIPES

NAMES = [name for name in RECIPES.names() if (CHECKPOINTS / name).is_dir()]
#: Those of images, which `wb.load` loads by the name that the catalogue has for them.
OF_IMAGES = [name for name in NAMES if isinstance(RECIPES[name], ImageRecipe)]
LARGEST = 3_000_000


def test_every_recipe_has_its_checkpoint() -> None:
    assert RECIPES.names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_card_and_weights_agree_and_the_weights_are_small(name: str) -> None:
    folder, recipe = CHECKPOINTS / name, RECIPES[name]
    weights = (folder / card.WEIGHTS).read_bytes()
    assert len(weights) <= LARGEST
    assert card.finished(folder) == hashlib.sha256(weights).hexdigest()
    text = (folder / card.CARD).read_text()
    for part in (recipe.data, f"data/training/{name.replace('-', '_')}.py", f"seed {recipe.seed};"):
        assert part in text


@pytest.mark.parametrize("name", OF_IMAGES)
def test_the_catalogue_has_the_hash_the_size_and_the_place_and_the_card_the_source(name: str) -> None:
    folder, entry, images = CHECKPOINTS / name, catalog.get(name), RECIPES[name].images
    assert card.finished(folder) == entry.sha256 and card.n_parameters(folder) == entry.parameters
    assert (entry.source, entry.path) == ("bundled", f"data/checkpoints/{name}")
    text = (folder / card.CARD).read_text()
    assert images.licence in text and images.source[1:] in text


@pytest.mark.parametrize("name", NAMES)
def test_quality_is_that_of_the_card(name: str) -> None:
    recipe = RECIPES[name]
    measured, printed = recipe.measure(shipped(recipe)), card.values(CHECKPOINTS / name)
    assert measured.keys() == printed.keys()
    for measure, one in measured.items():
        assert one.value == pytest.approx(printed[measure], abs=5e-3)  # other machines round otherwise
    text = (CHECKPOINTS / name / card.CARD).read_text()
    missed = [measure for measure, one in measured.items() if not one.reached]
    assert ("Not reached" in text) == bool(missed)


@pytest.mark.parametrize("name", [name for name in NAMES if getattr(RECIPES[name], "beside", "")])
def test_reversed_attention_is_nearly_as_good_as_softmax(name: str) -> None:
    recipe = RECIPES[name]
    assert isinstance(recipe, ViTRecipe)
    accuracies = [card.values(CHECKPOINTS / each)["accuracy"] for each in (name, recipe.beside)]
    assert accuracies[0] >= accuracies[1] - WITHIN


def test_the_readme_says_what_the_cards_say() -> None:
    text = (CHECKPOINTS.parents[1] / "README.md").read_text()
    rows = re.findall(r"^\| \[(\S+)\]\(data/checkpoints/(\S+)/README\.md\) \| (\S+) \| (\S+) \| (\S+) \|$", text, re.M)
    assert sorted(row[0] for row in rows) == OF_IMAGES
    for name, folder, value, at_least, reached in rows:
        assert name == folder
        lines = (CHECKPOINTS / name / card.CARD).read_text().splitlines()
        assert f"| accuracy | {value} | {at_least} |" in lines
        missed = any("Not reached" in line for line in lines)
        assert reached == ("–" if at_least == "–" else "**no**" if missed else "yes")
