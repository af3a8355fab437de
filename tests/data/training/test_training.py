"""Training: the same bits whether it was interrupted or not, and the command that does it."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import workbench as wb
from data.training.kit import card
from data.training.kit.command import train_into
from data.training.kit.dit import sampled
from data.training.kit.recipe import ImageRecipe, Recipe
from data.training.kit.training import STEPS, train
from data.training.kit.vit import shifted
from workbench.cli import main
from workbench.errors import UsageError
from workbench.models.diffusion.dit import DiT
from workbench.models.diffusion.training import flow_loss
from workbench.registry import RECIPES


def quiet(done: int, total: int, what: str) -> None:
    pass


def short(name: str, **changes: object) -> Recipe:
    return replace(RECIPES[name], **{"steps": 5, "batch": 4, "warm_up": 2, "save_every": 2, **changes})


def same(one: nn.Module, other: nn.Module) -> bool:
    expected = other.state_dict()
    return all(torch.equal(x, expected[name]) for name, x in one.state_dict().items())


@pytest.mark.parametrize("name", RECIPES.names())
def test_an_interrupted_run_ends_in_the_same_bits(name: str, tmp_path: Path) -> None:
    recipe = short(name)
    whole = train(recipe, tmp_path / "whole", quiet)
    assert train(recipe, tmp_path / "cut", quiet, stop_after=3) is None
    torch.manual_seed(12345)  # the state of torch's own generator is of no account
    resumed = train(recipe, tmp_path / "cut", quiet)
    assert whole is not None and resumed is not None and same(whole, resumed)
    untrained = train(replace(recipe, learning_rate=0.0), tmp_path / "still", quiet)
    assert untrained is not None and not same(whole, untrained)
    assert [path.name for path in (tmp_path / "cut" / STEPS).iterdir()] == ["0000004.safetensors"]


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    train(short("digits-vit"), tmp_path, quiet, stop_after=2)
    with pytest.raises(UsageError, match="made by another recipe for digits-vit"):
        train(short("digits-vit", seed=1), tmp_path, quiet)


def test_a_half_written_checkpoint_is_not_resumed(tmp_path: Path) -> None:
    train(short("digits-vit"), tmp_path, quiet, stop_after=2)
    (tmp_path / STEPS / "0000004.partial").write_bytes(b"half")
    assert train(short("digits-vit"), tmp_path, quiet) is not None


def test_the_learning_rate_rises_and_falls() -> None:
    recipe = short("digits-vit", steps=100, warm_up=10, learning_rate=1.0)
    rates = [recipe.learning_rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == rates[10] == 1.0 and rates[55] == pytest.approx(0.5)
    assert 0 < rates[99] < 0.001


def test_the_average_is_the_one_of_its_formula(tmp_path: Path) -> None:
    """Against plain torch: AdamW on the same batches, the average of its weights taken by hand."""
    recipe = short("digits-dit", steps=3, warm_up=1, average=0.5)
    trained = train(recipe, tmp_path, quiet)
    torch.manual_seed(recipe.seed)
    network = recipe.network()
    assert isinstance(network, DiT) and isinstance(recipe, ImageRecipe)
    parameters = dict(network.named_parameters())
    average = {name: x.detach().clone() for name, x in parameters.items()}
    optimizer = torch.optim.AdamW(network.parameters(), betas=(0.9, 0.99), weight_decay=0.0)
    pixels = torch.from_numpy(recipe.images.train.pixels).float() / 127.5 - 1
    for step in range(3):
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        rows = torch.randint(len(pixels), (recipe.batch,), generator=generator)
        labels = torch.from_numpy(recipe.images.train.labels)[rows]
        loss = flow_loss(network, pixels[rows], labels, label_dropout=0.1, generator=generator)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = recipe.learning_rate_at(step)
        optimizer.step()
        decay = min(0.5, (1 + step) / (10 + step))
        average = {name: decay * x + (1 - decay) * parameters[name].detach() for name, x in average.items()}
    assert trained is not None
    for name, x in trained.named_parameters():
        assert torch.allclose(x, average[name], atol=1e-6)


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_the_samples_that_cards_judge_are_those_of_the_hooked_model(guidance: float) -> None:
    dit = wb.load("digits-dit", device="cpu")
    assert isinstance(dit, wb.HookedDiT) and isinstance(dit.hf, DiT)
    latents, labels = wb.latents([3, 5, 9], seed=4), torch.tensor([3, 5, 9])
    samples = sampled(dit.hf, latents.noise("clean", (1, 8, 8)), labels, 25, guidance)
    expected = dit.resampled(steps=25, guidance=None if guidance == 1 else guidance).images(latents)
    assert torch.allclose(samples, expected, atol=1e-4)


def test_shifted_images_are_moved_by_whole_pixels() -> None:
    pixels = torch.arange(2 * 1 * 5 * 6.0).view(2, 1, 5, 6)
    moved = shifted(pixels, 2, torch.Generator().manual_seed(0))
    down, right = torch.randint(-2, 3, (2, 2), generator=torch.Generator().manual_seed(0))
    for i in range(2):
        for row in range(5):
            for column in range(6):
                source = pixels[i, 0, min(max(row - int(down[i]), 0), 4), min(max(column - int(right[i]), 0), 5)]
                assert moved[i, 0, row, column] == source


def test_the_command_trains_writes_a_card_and_refuses_to_do_it_twice(tmp_path, monkeypatch, capsys) -> None:
    module = importlib.import_module("data.training.digits_vit")
    monkeypatch.setattr(module, "recipe", short("digits-vit"))
    folder = tmp_path / "digits-vit"
    assert main(["train", "digits-vit", "--into", str(folder), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "config.json", "model.safetensors", "preprocessor_config.json"
    ]  # fmt: skip
    assert answer["sha256"] == card.finished(folder) and answer["is_shipped"] is False
    assert answer["parameters"] == sum(x.numel() for x in load_file(folder / "model.safetensors").values())
    assert card.values(folder) == {m["measure"]: round(m["value"], 4) for m in answer["measured"]}
    assert "**Not reached: accuracy.**" in (folder / "README.md").read_text()  # after five steps
    assert main(["train", "digits-vit", "--into", str(folder)]) == 2
    assert "holds a trained model" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(UsageError, match="expected a new folder"):
        train_into(short("digits-vit"), tmp_path / "mine", quiet)


def test_the_command_lists_recipes_and_suggests_names(capsys) -> None:
    assert main(["train", "--json"]) == 0
    recipes = json.loads(capsys.readouterr().out)["recipes"]
    assert [row["name"] for row in recipes] == RECIPES.names() and all(row["what"] for row in recipes)
    assert main(["train", "digit-vit"]) == 2
    assert "Did you mean 'digits-vit'" in capsys.readouterr().err
