"""`sweep_sets`: every set of edits is what `run`'s full forwards give; `run` itself is checked against plain hooks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import workbench as wb
from tests.conformance.toys import ResumableToy, Toy, pictures
from tests.families import FAMILIES, hooked, paired
from workbench.errors import UnknownName, UsageError

INPUTS = paired(5)
SETS: dict[str, list[Any]] = {
    "none": [],
    "two heads": [wb.Head(0, 1), wb.Head(2, 4)],
    "a late one": [wb.Head(2, 0)],
    "all but one": [wb.Head(i, j) for i in range(3) for j in range(6) if (i, j) != (1, 2)],
    "mixed": [
        wb.Edit("z", 1, head=3, position="S", kind="zero"),
        wb.Edit("v", 1, head=1, position="end"),
        wb.Edit("pattern", 2, head=0, position="end", kind="pattern", attend_to=("S", 0)),
        wb.Edit("resid_mid", 2, position=-2, kind="mean"),
        wb.Edit("z", 2, head=5, kind=lambda x: 2 * x),
    ],
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("edit", "base"), [("mean", "clean"), ("zero", "corrupt"), ("resample", "clean"), ("patch", "corrupt")]
)
def test_every_set_is_one_full_forward(family: str, edit: str, base: str) -> None:
    model = hooked(family)
    sets = {name: items for name, items in SETS.items() if name != "mixed" or not model.anatomy.parallel}
    result = wb.sweep_sets(model, INPUTS, sets, edit=edit, base=base)
    assert result.axes == ("set",) and result.labels["set"] == tuple(sets)
    for s, items in enumerate(sets.values()):
        edits = [e if isinstance(e, wb.Edit) else wb.Edit("z", e.layer, e.index, kind=edit) for e in items]
        out = wb.run(model, INPUTS, edits, base=base)
        assert np.abs(result.values[s] - out.scores().numpy()).max() < 1e-4
        assert np.abs(result.base - out.scores(base=True).numpy()).max() < 1e-4
        if items:
            assert np.abs(result.delta[s]).max() > 1e-2
    assert (result.delta[0] == 0).all()
    if edit == "patch":
        other = wb.run(model, INPUTS, [], base="clean").scores().numpy()
        assert result.source is not None and np.abs(result.source - other).max() < 1e-4
    else:
        assert (result.source is None) == ("mixed" not in sets)


@pytest.mark.parametrize(
    "numbers", [{"edit": "scale", "factor": 0.5}, {"edit": "add", "vector": torch.ones(8)}], ids=str
)
def test_heads_of_a_set_are_scaled_or_added_to(numbers: dict[str, Any], tmp_path: Path) -> None:
    model, heads = hooked("llama"), [wb.Head(0, 1), wb.Head(2, 4)]
    result = wb.sweep_sets(model, INPUTS, {"two": heads}, **numbers, cache=tmp_path)
    rest = {name: value for name, value in numbers.items() if name != "edit"}
    edits = [wb.Edit("z", head.layer, head.index, kind=numbers["edit"], **rest) for head in heads]
    assert np.abs(result.values[0] - wb.run(model, INPUTS, edits).scores().numpy()).max() < 1e-4
    assert np.abs(result.delta).max() > 1e-2
    doubled = {name: 2 * value for name, value in rest.items()}
    other = wb.sweep_sets(model, INPUTS, {"two": heads}, edit=numbers["edit"], **doubled, cache=tmp_path)
    assert np.abs(other.values - result.values).max() > 1e-2
    with pytest.raises(UsageError, match="it is only for edit"):
        wb.sweep_sets(model, INPUTS, {"two": heads}, edit="zero", **rest)


def test_sets_are_cached_unless_an_edit_has_no_name(tmp_path: Path, forwards: list[int]) -> None:
    model = hooked("llama")
    sets = {name: items for name, items in SETS.items() if name != "mixed"}
    first = wb.sweep_sets(model, INPUTS, sets, cache=tmp_path)
    del forwards[:]
    renamed = {f"my {name}": items for name, items in sets.items()}
    assert np.array_equal(wb.sweep_sets(model, INPUTS, renamed, cache=tmp_path).values, first.values)
    assert forwards == []
    changes: list[dict[str, Any]] = [
        {"edit": "zero"},
        {"base": "corrupt"},
        {"mean_over": "positions"},
        {"metric": "answer_probability"},
    ]
    for change in changes:
        other = wb.sweep_sets(model, INPUTS, sets, cache=tmp_path, **change)
        assert forwards and not np.array_equal(other.values[1:], first.values[1:])
        del forwards[:]
    for _ in range(2):
        wb.sweep_sets(model, INPUTS, SETS, cache=tmp_path)
        assert forwards
        del forwards[:]


def test_a_sweep_over_sets_is_a_sweep(tmp_path: Path) -> None:
    result = wb.sweep_sets(hooked("llama"), INPUTS, SETS)
    table = result.table()
    assert list(table["set"]) == list(SETS) and table.loc[0, "mean_delta"] == 0
    assert result.name((1,)) == "two heads"
    result.save(tmp_path / "s.safetensors")
    read = wb.Sweep.load(tmp_path / "s.safetensors")
    assert np.array_equal(read.values, result.values) and read.labels == result.labels
    assert result.figure("mean_delta").data and "two heads" in result._repr_html_()
    assert result.info["sets"]["mixed"][0] == "zero z 1.3 at S"
    with pytest.raises(UsageError, match="no heads to rank"):
        result.top(3)


@pytest.mark.parametrize("steps", [1, 2])
def test_images_and_sampling_steps_take_sets_too(steps: int) -> None:
    resumable, inputs = ResumableToy(Toy(n_steps=steps)), pictures()
    edits = [wb.Edit("z", 1, head=0, kind="zero", step=steps - 1), wb.Edit("z", 2, head=1, position=2)]
    result = wb.sweep_sets(resumable, inputs, {"both": edits, "one": edits[:1]})
    for values, own_edits in zip(result.values, (edits, edits[:1]), strict=True):
        assert np.abs(values - wb.run(resumable, inputs, own_edits).scores().numpy()).max() < 1e-5
        assert np.abs(values - result.base).max() > 1e-3


def test_what_cannot_be_made_is_refused() -> None:
    model = hooked("llama")
    with pytest.raises(UsageError, match="expected at least one set"):
        wb.sweep_sets(model, INPUTS, {})
    with pytest.raises(UsageError, match=r"edits\[0\].head=7: expected a head from 0 to 5"):
        wb.sweep_sets(model, INPUTS, {"a": [wb.Head(0, 7)]})
    with pytest.raises(UnknownName, match="men"):
        wb.sweep_sets(model, INPUTS, {"a": [wb.Head(0, 1)]}, edit="men")
    with pytest.raises(UsageError, match="base="):
        wb.sweep_sets(model, INPUTS, {"a": []}, base="other")
    with pytest.raises(UsageError, match=r"sets\['a'\]='9\.6': expected wb\.Head and wb\.Edit"):
        wb.sweep_sets(model, INPUTS, {"a": ["9.6"]})  # pyright: ignore[reportArgumentType] - a wrong type on purpose
