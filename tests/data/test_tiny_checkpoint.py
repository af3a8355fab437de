"""The tiny model in the repository does what its card says, loaded by plain transformers."""

from __future__ import annotations

import hashlib
import re

import pytest
from transformers import AutoTokenizer, LlamaForCausalLM

import workbench as wb
from data.training.tiny import batches, checkpoint, prompts, recipe, train
from workbench.models import catalog

CARD = (checkpoint.OUT / "README.md").read_text()


def test_its_card_and_the_catalogue_name_its_hash_and_it_is_small() -> None:
    weights = checkpoint.OUT / "model.safetensors"
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert sha256 in CARD
    assert catalog.entries()["tiny"].sha256 == sha256
    assert weights.stat().st_size < 1_000_000


def test_it_is_right_on_held_out_prompts() -> None:
    model = LlamaForCausalLM.from_pretrained(checkpoint.OUT).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint.OUT)
    draws = prompts.draws()
    questions = {
        name: batches.questions(tokenizer, prompts.held_out(name, draws[name])) for name in ("ioi", recipe.LIKE)
    }
    accuracy = train.accuracies(model, questions, recipe.Recipe())
    for name in recipe.REQUIRED:
        assert accuracy[name] >= recipe.BAR
        assert accuracy[name] == pytest.approx(float(re.findall(rf"\| {name} \| ([\d.]+)", CARD)[0]), abs=2e-3)


def test_the_projects_own_task_runs_on_it() -> None:
    sweep = wb.sweep(wb.load("tiny"), wb.task("ioi", n=6))
    assert sweep.values.shape == (2, 8, 6)
    assert sweep.source is not None and (sweep.source > 0).all() and (sweep.base < 0).all()
