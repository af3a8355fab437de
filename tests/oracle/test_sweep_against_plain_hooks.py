"""Full grids of a sweep, cell by cell, against plain hooks on the Hugging Face model."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from torch import Tensor

from tests.families import nudged, paired
from tests.oracle.plain_hooks import Plain
from workbench.models.language import HookedLM
from workbench.patching.sweep import sweep

INPUTS = paired(2, lengths=(8,))


def patched(plain: Plain, site: str, layer: int, example: int, head: int | None, position: int | None) -> float:
    clean = plain.read(INPUTS.clean[example], site, layer)

    def change(x: Tensor) -> None:
        at = slice(None) if position is None else position
        if head is None:
            x[at] = clean[at]
        else:
            x[at, head] = clean[at, head]

    logits = plain.logits(INPUTS.corrupt[example], (site, layer, change))
    return float(logits[list(INPUTS.answer[example])].mean() - logits[list(INPUTS.wrong[example])].mean())


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2", "gpt_neox"])
def test_every_head(family: str) -> None:
    plain = Plain(nudged(family), family)
    result = sweep(HookedLM(nudged(family)), INPUTS, site="z")
    for layer, head, example in product(range(3), range(6), range(2)):
        expected = patched(plain, "z", layer, example, head, None)
        assert result.values[layer, head, example] == pytest.approx(expected, abs=1e-4)
    assert np.abs(result.delta).max() > 1e-2


@pytest.mark.parametrize(("family", "site"), [("llama", "resid_mid"), ("gemma3", "resid_mid"), ("gpt2", "resid_post")])
def test_every_position(family: str, site: str) -> None:
    plain = Plain(nudged(family), family)
    result = sweep(HookedLM(nudged(family)), INPUTS, site=site, by="position", positions="all")
    for layer, position, example in product(range(3), range(8), range(2)):
        expected = patched(plain, site, layer, example, None, position)
        assert result.values[layer, position, example] == pytest.approx(expected, abs=1e-4)
    assert np.abs(result.delta).max() > 1e-2


def test_every_key_head_and_position() -> None:
    plain = Plain(nudged("llama"), "llama")
    result = sweep(HookedLM(nudged("llama")), INPUTS, site="k", by=["head", "position"], positions="all")
    assert result.axes == ("layer", "kv_head", "position")
    for layer, head, position in product(range(3), range(2), range(8)):
        expected = patched(plain, "k", layer, 0, head, position)
        assert result.values[layer, head, position, 0] == pytest.approx(expected, abs=1e-4)
    assert np.abs(result.delta).max() > 1e-2
