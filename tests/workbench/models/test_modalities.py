"""What is of one modality says so, and is refused in one line for a model of another."""

from __future__ import annotations

import dataclasses

import pytest

import workbench as wb
from tests.conformance.own_models import make
from workbench import cli
from workbench.errors import BadInput, UsageError
from workbench.head_scores.result import SCORES, UNITS
from workbench.models import catalog


@pytest.fixture
def vision_entry(monkeypatch: pytest.MonkeyPatch) -> str:
    """A model of another modality in the catalogue."""
    entry = dataclasses.replace(catalog.get("tiny"), name="digits", modality="vision")
    monkeypatch.setattr(catalog, "entries", lambda: {"tiny": catalog.parse(b"")} | {"digits": entry})
    return "digits"


def test_a_model_has_its_modality_and_its_processor() -> None:
    model = wb.load("tiny")
    assert model.modality == "language" and model.processor is model.tokenizer
    assert make("vit").model.modality == "vision" and make("net").model.modality == "other"
    assert all(entry.modality in catalog.MODALITIES for entry in catalog.entries().values())
    assert catalog.modality_of("a/folder") == "language"


def test_an_unknown_modality_in_a_catalogue_is_refused() -> None:
    text = b'[x]\nsource = "hub"\nfile = "f"\nlicence = "MIT"\nlicence_url = "u"\nfamily = "vit"\nmodality = "smell"\n'
    with pytest.raises(BadInput, match="x: modality='smell' is none of language, vision"):
        catalog.parse(text)


def test_head_scores_declare_what_they_apply_to() -> None:
    assert set(SCORES) == set(UNITS)
    assert SCORES["induction"].modalities == ("language",) and SCORES["entropy"].modalities == ()
    assert SCORES["to_cls"].modalities == ("vision",)


def test_what_needs_a_language_model_refuses_any_other() -> None:
    model = make("vit").model
    with pytest.raises(UsageError, match="task=None: expected images"):
        wb.scores(model)
    with pytest.raises(UsageError, match="model=<HookedNet>: expected a language model or a vision model, because"):
        wb.scores(make("net").model)
    with pytest.raises(UsageError, match=r"expected a language model, because wb.attention_view shows tokens"):
        wb.attention_view(model, "Mary", 0, 0)
    with pytest.raises(UsageError, match=r"expected a language model, because wb.generate continues a text"):
        wb.generate(model, "Mary")


@pytest.mark.parametrize("command", [["scores"], ["patch", "--task", "ioi"], ["record", "--task", "ioi"]])
def test_a_command_refuses_a_model_of_another_modality(
    command: list[str], vision_entry: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*command, "--model", vision_entry]) == 2
    assert "--model digits: expected a language model. This is a vision model." in capsys.readouterr().err


def test_a_page_says_which_models_it_is_for() -> None:
    from app.page import PAGES

    heads, runs = PAGES["heads"], PAGES["runs"]
    assert heads.why_not("digits", "vision") == "This page is for language models, and digits is a vision model."
    assert heads.why_not("tiny", "language") == runs.why_not("digits", "vision") == ""
