"""Generation under edits: without them Hugging Face's own greedy text, with them a loop over plain forwards."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import workbench as wb
from tests.families import hugging_face, nudged, paired
from tests.oracle.plain_hooks import Plain
from workbench.errors import UsageError
from workbench.models.language import HookedLM

IDS = paired(1, lengths=(9,)).clean[0]


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
def test_without_edits_it_is_greedy_generation(family: str) -> None:
    model, plain = HookedLM(nudged(family)), nudged(family)
    mask = torch.ones_like(IDS)[None]
    expected = plain.generate(IDS[None], attention_mask=mask, max_new_tokens=8, do_sample=False, eos_token_id=None)
    model.hf.generation_config.eos_token_id = None
    assert torch.equal(wb.generate(model, IDS, max_new_tokens=8), expected[0])


def test_edits_hold_for_every_new_token() -> None:
    """One head silenced everywhere; another's row forced onto two positions from the end of the prompt on."""
    model, plain = HookedLM(nudged("llama")), Plain(nudged("llama"), "llama")
    model.hf.generation_config.eos_token_id = None
    edits = [
        wb.Edit("z", 0, head=1, kind="zero"),
        wb.Edit("pattern", 2, head=4, position="end", kind="pattern", attend_to=(1, 3)),
    ]
    ids = IDS
    for _ in range(6):
        values: list[Tensor] = []

        def silence(x: Tensor) -> None:
            x[:, 1] = 0

        plain.logits(ids, ("z", 0, silence), ("v", 2, lambda x, values=values: values.append(x.clone())))
        value = (values[0][1, 1] + values[0][3, 1]) / 2

        def force(x: Tensor, value: Tensor = value) -> None:
            x[len(IDS) - 1 :, 4] = value

        token = plain.logits(ids, ("z", 0, silence), ("z", 2, force)).argmax()
        ids = torch.cat([ids, token[None]])
    assert torch.equal(wb.generate(model, IDS, edits=edits, max_new_tokens=6), ids)
    assert not torch.equal(wb.generate(model, IDS, max_new_tokens=6), ids)


def test_scaled_heads_and_rows_moved_to_the_diagonal_hold_for_every_new_token() -> None:
    """Also at the positions that are new: one head is scaled, another sees its own position alone from the end on."""
    model, plain = HookedLM(nudged("llama")), Plain(nudged("llama"), "llama")
    model.hf.generation_config.eos_token_id = None
    edits = [
        wb.Edit("z", 0, head=1, kind="scale", factor=-1),
        wb.Edit("pattern", 2, head=4, position="end", kind="identity", u=1),
    ]
    ids = IDS
    for _ in range(6):
        values: list[Tensor] = []

        def turn(x: Tensor) -> None:
            x[:, 1] *= -1

        plain.logits(ids, ("z", 0, turn), ("v", 2, lambda x, values=values: values.append(x.clone())))

        def copy(x: Tensor, own: Tensor = values[0][:, 1]) -> None:
            x[len(IDS) - 1 :, 4] = own[len(IDS) - 1 :]

        token = plain.logits(ids, ("z", 0, turn), ("z", 2, copy)).argmax()
        ids = torch.cat([ids, token[None]])
    assert torch.equal(wb.generate(model, IDS, edits=edits, max_new_tokens=6), ids)
    assert not torch.equal(wb.generate(model, IDS, max_new_tokens=6), ids)


def test_a_mean_is_taken_over_all_positions() -> None:
    model = HookedLM(hugging_face("llama"))
    reference = paired(4)
    mean = torch.cat([z[1, :, 2] for z in wb.record(model, reference, "z").clean["z"]]).mean(0)
    by_hand = wb.Edit("z", 1, head=2, kind=lambda x: mean.expand_as(x))
    model.hf.generation_config.eos_token_id = None
    for position in (None, "end", -2, 3):
        mean_edit = wb.Edit("z", 1, head=2, position=position, kind="mean")
        function_edit = wb.Edit("z", 1, head=2, position=position, kind=by_hand.kind)
        assert torch.equal(
            wb.generate(model, IDS, edits=[mean_edit], max_new_tokens=4, mean_over=reference),
            wb.generate(model, IDS, edits=[function_edit], max_new_tokens=4),
        )


def test_text_comes_back_as_text_and_ends_where_the_model_ends() -> None:
    model = wb.load("tiny")
    prompt = wb.task("ioi", n=1).examples()[0].clean
    text = wb.generate(model, prompt, max_new_tokens=3)
    assert isinstance(text, str) and len(model.to_tokens(text)[0]) == len(model.to_tokens(prompt)[0]) + 3
    assert wb.generate(model, prompt, max_new_tokens=0) == model.tokenizer.decode(model.to_tokens(prompt)[0])
    lm = HookedLM(nudged("llama"))
    first = int(wb.generate(lm, IDS, max_new_tokens=1)[-1])
    lm.hf.generation_config.eos_token_id = [first]
    assert len(wb.generate(lm, IDS, max_new_tokens=5)) == len(IDS) + 1


def test_what_has_no_meaning_is_refused() -> None:
    model = HookedLM(nudged("llama"))
    wrong: list[dict[str, Any]] = [
        {"edits": [wb.Edit("z", 0)]},
        {"edits": [wb.Edit("z", 0, kind="resample")]},
        {"edits": [wb.Edit("z", 0, kind="mean")]},
        {"edits": [wb.Edit("z", 0, head=9, kind="zero")]},
        {"max_new_tokens": -1},
    ]
    for options in wrong:
        with pytest.raises(UsageError):
            wb.generate(model, IDS, **options)
    with pytest.raises(UsageError, match="a prompt that has tokens"):
        wb.generate(model, IDS[:0])
