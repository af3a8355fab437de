"""Texts before and after edits: Hugging Face's own greedy text, its chat template, a loop over plain hooks."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import workbench as wb
from tests.families import nudged, paired
from tests.oracle.plain_hooks import Plain
from workbench.errors import UsageError
from workbench.models.language import HookedLM
from workbench.plotting.generations import Generation, Generations

IDS = paired(1, lengths=(9,)).clean[0]
TEMPLATE = (
    "{% for m in messages %}{% if m['content'] == 'no' %}{{ raise_exception('not\nthat') }}{% endif %}"
    "{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'John:' }}{% endif %}"
)


def greedy(model: Any, ids: Tensor, count: int) -> tuple[list[int], list[float]]:
    """Hugging Face's own tokens and their probabilities."""
    options: dict[str, Any] = {"do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    mask = torch.ones_like(ids)[None]
    out = model.generate(ids[None], attention_mask=mask, max_new_tokens=count, eos_token_id=None, **options)
    tokens = out.sequences[0, len(ids) :].tolist()
    return tokens, [float(row[0].softmax(-1)[t]) for row, t in zip(out.logits, tokens, strict=True)]


@pytest.fixture
def chatty() -> HookedLM:
    """The tiny model with a chat template."""
    tiny = wb.load("tiny")
    tokenizer = copy(tiny.tokenizer)
    tokenizer.chat_template = TEMPLATE
    return HookedLM(tiny.hf, tokenizer)


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
def test_before_is_greedy_generation_with_its_probabilities(family: str) -> None:
    model = HookedLM(nudged(family))
    model.hf.generation_config.eos_token_id = None
    both = wb.generations(model, IDS, max_new_tokens=6)
    tokens, probabilities = greedy(nudged(family), IDS, 6)
    assert list(both.before.ids) == tokens and both.before == both.after and both.first_difference is None
    np.testing.assert_allclose(both.before.probabilities, probabilities, atol=1e-5)
    assert "the same before and after" in repr(both) and both.table()["same"].tolist() == [True] * 6


def test_after_is_a_loop_over_plain_hooks() -> None:
    model, plain = HookedLM(nudged("llama")), Plain(nudged("llama"), "llama")
    model.hf.generation_config.eos_token_id = None
    edit = wb.Edit("z", 0, head=1, position=3, kind="zero")

    def silence(x: Tensor) -> None:
        x[3, 1] = 0

    ids, probabilities = IDS, []
    for _ in range(6):
        row = plain.logits(ids, ("z", 0, silence)).softmax(-1)
        probabilities.append(float(row.max()))
        ids = torch.cat([ids, row.argmax()[None]])
    steps: list[tuple[int, int, str]] = []
    both = wb.generations(
        model, IDS, edits=edit, max_new_tokens=6, progress=lambda done, total, what: steps.append((done, total, what))
    )
    assert list(both.after.ids) == ids[len(IDS) :].tolist()
    np.testing.assert_allclose(both.after.probabilities, probabilities, atol=1e-5)
    assert list(both.before.ids) == greedy(nudged("llama"), IDS, 6)[0]
    assert (both.before.ids, both.before.probabilities) != (both.after.ids, both.after.probabilities)
    assert steps[-1] == (12, 12, "generate") and both.edits == (edit,)
    assert torch.equal(wb.generate(model, IDS, edits=edit, max_new_tokens=6), ids)


def test_a_chat_is_what_hugging_face_generates_after_its_own_template(chatty: HookedLM) -> None:
    message = "When Mary and John went to the store, John gave a drink to"
    encoded = chatty.tokenizer.apply_chat_template(
        [{"role": "user", "content": message}], add_generation_prompt=True, return_tensors="pt"
    )
    ids = encoded["input_ids"][0]
    tokens, probabilities = greedy(chatty.hf, ids, 5)
    both = wb.generations(chatty, message, max_new_tokens=5, chat=True)
    assert both.prompt_ids == tuple(ids.tolist()) and list(both.before.ids) == tokens
    assert both.prompt_ids != tuple(chatty.to_tokens(message)[0].tolist())
    np.testing.assert_allclose(both.before.probabilities, probabilities, atol=1e-5)
    whole = chatty.tokenizer.decode([*ids.tolist(), *tokens])
    assert wb.generate(chatty, message, max_new_tokens=5, chat=True) == whole
    assert both.before.text == chatty.tokenizer.decode(tokens)


def test_positions_count_in_the_templates_text(chatty: HookedLM) -> None:
    message = "Mary and John went to the store"
    unedited = wb.generations(chatty, message, max_new_tokens=1, chat=True)
    position = len(unedited.prompt_ids) - 2
    assert position >= len(chatty.to_tokens(message)[0])  # which the message alone does not have
    edit = wb.Edit("attn_out", 0, position=position, kind="zero")
    plain = Plain(chatty.hf, "llama")

    def silence(x: Tensor) -> None:
        x[position] = 0

    expected = plain.logits(torch.tensor(unedited.prompt_ids), ("attn_out", 0, silence)).softmax(-1)
    both = wb.generations(chatty, message, edits=edit, max_new_tokens=1, chat=True)
    assert both.after.ids == (int(expected.argmax()),)
    assert both.after.probabilities[0] == pytest.approx(float(expected.max()), abs=1e-5)
    assert abs(both.after.probabilities[0] - both.before.probabilities[0]) > 1e-4


def test_a_chat_that_cannot_be_had_is_refused_in_one_line(chatty: HookedLM) -> None:
    plain = wb.load("tiny")
    cases: list[tuple[Any, Any, str]] = [
        (plain, "Mary", "chat=True: expected False, because the model's tokenizer has no chat template"),
        (HookedLM(nudged("llama")), "Mary", "because the model has no tokenizer"),
        (chatty, torch.tensor([1, 2]), "expected a text, what the user says"),
        (chatty, "no", "the model's chat template refuses it: not that"),
    ]
    for model, prompt, message in cases:
        for call in (wb.generate, wb.generations):
            with pytest.raises(UsageError) as error:
                call(model, prompt, chat=True)
            assert message in str(error.value) and "\n" not in str(error.value)


def test_the_first_difference_is_marked_and_a_text_that_ended_is_filled() -> None:
    before = Generation((4, 5, 6), (" a", "<b>", "c"), (0.5, 0.25, 0.75), " a<b>c")
    after = Generation((4, 7), (" a", '"&'), (0.5, 0.125), ' a"&')
    both = Generations((1, 2), ("x", "y"), before, after)
    assert both.first_difference == 1
    table = both.table()
    assert table["position"].tolist() == [2, 3, 4] and table["same"].tolist() == [True, False, False]
    assert table["after"].tolist() == [" a", '"&', ""] and np.isnan(table["p_after"][2])
    html = both._repr_html_()
    assert html.count("outline") == 2 and "&lt;b&gt;" in html and "<b></" not in html
    assert "p = 0.125; the first that differs" in html and "number 1 at position 3" in repr(both)


def test_a_text_ends_where_the_model_ends() -> None:
    model = HookedLM(nudged("llama"))
    first = wb.generations(model, IDS, max_new_tokens=1).before.ids[0]
    model.hf.generation_config.eos_token_id = [first]
    steps: list[int] = []
    both = wb.generations(model, IDS, max_new_tokens=5, progress=lambda done, *_: steps.append(done))
    assert both.before.ids == (first,) and steps[-1] == 10
    assert wb.generations(model, IDS, max_new_tokens=0).before == Generation((), (), (), "")
