"""Recording while something is edited: what plain hooks read, and what the cache keeps of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import workbench as wb
from tests.families import hooked, nudged, paired
from tests.oracle.plain_hooks import Change, Plain
from workbench.cache import Store
from workbench.errors import UsageError
from workbench.models.language import HookedLM

INPUTS = paired(5)
SITES = ("z", "v", "resid_post", "pattern")
EDITS = [
    wb.Edit("z", 0, head=1),
    wb.Edit("v", 1, head=1, position="end", kind="zero"),
    wb.Edit("pattern", 1, head=0, position="end", kind="pattern", attend_to=("S",)),
]


@pytest.mark.parametrize("cached", [False, True])
def test_activations_under_edits_are_what_plain_hooks_read(cached: bool, tmp_path: Path) -> None:
    model, plain = HookedLM(nudged("llama")), Plain(nudged("llama"), "llama")
    rec = wb.record(model, INPUTS, SITES, edits=EDITS, cache=tmp_path if cached else False)
    assert rec.corrupt is not None and "under 3 edits" in repr(rec)
    for run, ours, others in ((rec.clean, INPUTS.clean, INPUTS.corrupt), (rec.corrupt, INPUTS.corrupt, INPUTS.clean)):
        for i, (ids, other) in enumerate(zip(ours, others, strict=True)):
            at, end = INPUTS.positions[i]["S"], INPUTS.positions[i]["end"]
            source = plain.read(other, "z", 0)

            def patch(x: Tensor, source: Tensor = source) -> None:
                x[:, 1] = source[:, 1]

            def silence(x: Tensor, end: int = end) -> None:
                x[end, 1] = 0

            edits: list[Change] = [("z", 0, patch), ("v", 1, silence)]
            # the edited row attends to S alone, so that head's z at the end is the value at S
            there: list[Tensor] = []
            plain.logits(ids, *edits, ("v", 1, keeping(there)))

            def attend(x: Tensor, end: int = end, value: Tensor = there[0][at, 0]) -> None:
                x[end, 0] = value

            edits.append(("z", 1, attend))
            for site in ("z", "v", "resid_post"):
                for layer in range(3):
                    seen: list[Tensor] = []
                    plain.logits(ids, *edits, (site, layer, keeping(seen)))
                    assert torch.allclose(run[site][i][layer], seen[0], atol=1e-4), (site, layer)
            row = torch.zeros(len(ids))
            row[at] = 1
            assert torch.equal(run["pattern"][i][1, 0, end], row)
            assert torch.allclose(run["pattern"][i].sum(-1), torch.ones(()), atol=1e-5)
    unedited = wb.record(model, INPUTS, SITES, cache=False)
    assert all((a - b).abs().max() > 1e-2 for a, b in zip(rec.clean["z"], unedited.clean["z"], strict=True))


def keeping(into: list[Tensor]) -> Callable[[Tensor], object]:
    return lambda x: into.append(x.clone())


def test_a_recording_under_edits_is_computed_once_and_is_no_other(tmp_path: Path, forwards: list[int]) -> None:
    model = hooked("gemma3")
    plain = wb.record(model, INPUTS, SITES, cache=tmp_path)
    first = wb.record(model, INPUTS, SITES, edits=EDITS, cache=tmp_path)
    del forwards[:]
    again = wb.record(model, INPUTS, SITES, edits=EDITS, cache=tmp_path)
    assert forwards == []
    for site in SITES:
        for a, b, c in zip(first.clean[site], again.clean[site], plain.clean[site], strict=True):
            assert torch.equal(a, b)
            assert not torch.equal(a, c)
    assert Store(tmp_path).verify()[1] == 0


CHANGED: dict[str, dict[str, Any]] = {
    "another head": {"edits": [wb.Edit("z", 0, head=2), *EDITS[1:]]},
    "another place": {"edits": [wb.Edit("z", 0, head=1, position="S"), *EDITS[1:]]},
    "another kind": {"edits": [wb.Edit("z", 0, head=1, kind="zero"), *EDITS[1:]]},
    "other weights": {"edits": [*EDITS[:2], wb.Edit("pattern", 1, 0, "end", "pattern", attend_to=(0,))]},
    "fewer": {"edits": EDITS[:2]},
}


@pytest.mark.parametrize("change", CHANGED)
def test_every_edit_is_part_of_the_key(change: str, tmp_path: Path, forwards: list[int]) -> None:
    model = hooked("llama")
    wb.record(model, INPUTS, "z", edits=EDITS, cache=tmp_path)
    del forwards[:]
    wb.record(model, INPUTS, "z", cache=tmp_path, **CHANGED[change])
    assert sum(forwards) >= 2 * len(INPUTS)


def test_what_values_are_taken_from_is_part_of_the_key(tmp_path: Path) -> None:
    """The same prompts and edits, with other partners, other means, another draw."""
    model = hooked("llama")

    def z(inputs: wb.PairedInputs, kind: str, **options: Any) -> Tensor:
        rec = wb.record(model, inputs, "z", edits=[wb.Edit("z", 0, kind=kind)], cache=tmp_path, **options)
        fresh = wb.record(model, inputs, "z", edits=[wb.Edit("z", 0, kind=kind)], cache=False, **options)
        assert torch.allclose(rec.clean["z"][0], fresh.clean["z"][0], atol=1e-5)
        return rec.clean["z"][0]

    others = replace(INPUTS, corrupt=paired(5, seed=9).corrupt)
    assert not torch.equal(z(INPUTS, "patch"), z(others, "patch"))
    assert not torch.equal(z(INPUTS, "mean"), z(INPUTS, "mean", mean_over=paired(4, seed=5)))
    assert not torch.equal(z(INPUTS, "mean"), z(INPUTS, "mean", mean_over="positions"))
    assert not torch.equal(z(INPUTS, "mean"), z(INPUTS.of([0, 1, 2]), "mean"))
    draws = [z(INPUTS, "resample", seed=seed) for seed in range(4)]
    assert any(not torch.equal(draws[0], other) for other in draws[1:])


def test_what_a_function_does_is_not_kept(tmp_path: Path, forwards: list[int]) -> None:
    model, edits = hooked("llama"), [wb.Edit("z", 0, kind=lambda x: 2 * x)]
    for _ in range(2):
        wb.record(model, INPUTS, "z", edits=edits, cache=tmp_path)
    assert sum(forwards) == 4 * len(INPUTS)


def test_edits_that_cannot_be_made_are_refused() -> None:
    with pytest.raises(UsageError, match=r"edits\[0\].head=9: expected a head from 0 to 5"):
        wb.record(hooked("llama"), INPUTS, "z", edits=[wb.Edit("z", 0, head=9)])
    with pytest.raises(UsageError, match=r"edits\[0\]='z': expected a wb\.Edit"):
        wb.record(hooked("llama"), INPUTS, "z", edits=["z"])  # pyright: ignore[reportArgumentType] - a wrong type on purpose
