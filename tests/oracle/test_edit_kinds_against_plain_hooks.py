"""The edits that change an activation position by position (scale, add, identity), against plain hooks on the Hugging
Face model: by head and by position, resumed and in full forwards, with fewer key/value heads than heads."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import workbench as wb
from tests.conformance.toys import ResumableToy, Toy, pictures
from tests.families import hooked, nudged, paired
from tests.oracle.plain_hooks import Plain
from workbench.errors import UsageError
from workbench.models.language import HookedLM
from workbench.models.resumable_layers import ResumableLayers
from workbench.patching.cone import Write
from workbench.patching.recorder import Recorder
from workbench.patching.values import values_of

INPUTS = paired(2, lengths=(8, 10))
FACTOR, U = -1.5, 0.4
FAMILIES = ["llama", "gpt2", "gemma3"]
#: q and k are edited by the oracle before rotary, where a multiple is the same and a sum is not.
SITES = {
    "scale": ("z", "v", "q", "k", "pattern", "resid_pre", "resid_mid", "mlp_out"),
    "add": ("z", "v", "resid_pre", "attn_out", "resid_post"),
    "identity": ("pattern",),
}
CASES = [(kind, site) for kind, sites in SITES.items() for site in sites]
HEADS = ("z", "v", "q", "k", "pattern")


@cache
def models(family: str) -> tuple[HookedLM, Plain]:
    return HookedLM(nudged(family)), Plain(nudged(family), family)


def by_full_forwards(model: HookedLM) -> ResumableLayers:
    resumable = ResumableLayers(model)
    resumable.resumes = False
    return resumable


def vector_for(site: str, n_heads: int | None) -> Tensor:
    """For one head, for all `n_heads` of a site with heads, or for a site without."""
    d_head, d_model = 8, 48
    shape = (d_model,) if site not in HEADS else (d_head,) if n_heads is None else (n_heads, d_head)
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(1))


def changed(kind: str, x: Tensor, position: int, vector: Any) -> Tensor:
    """One position's activation (a pattern's ``[..., src]``) after the edit."""
    if kind == "scale":
        return FACTOR * x
    if kind == "add":
        return x + vector
    own = torch.zeros_like(x)
    own[..., position] = 1
    return (1 - U) * x + U * own


def expected(plain: Plain, kind: str, site: str, example: int, at: dict[str, int | None], vector: Any) -> float:
    """The metric of a full forward of the plain model with one edit."""
    head, only = at["head"], at["position"]

    def change(x: Tensor) -> None:
        for position in range(len(x)) if only is None else [only]:
            where = (position,) if head is None else (position, head)
            x[where] = changed(kind, x[where].clone(), position, vector)

    logits = plain.logits(INPUTS.clean[example], (site, int(at["layer"] or 0), change))
    return float(logits[list(INPUTS.answer[example])].mean() - logits[list(INPUTS.wrong[example])].mean())


def settings(kind: str, vector: Tensor) -> dict[str, Any]:
    arguments: dict[str, dict[str, Any]] = {"scale": {"factor": FACTOR}, "add": {"vector": vector}}
    return {"edit": kind, **arguments.get(kind, {"u": U})}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("kind", "site"), CASES)
@pytest.mark.parametrize("resumed", [True, False])
def test_every_cell_is_a_full_forward_with_that_edit(family: str, kind: str, site: str, resumed: bool) -> None:
    model, plain = models(family)
    engine: Any = model if resumed else by_full_forwards(model)
    n_heads = model.n_kv_heads if site in ("k", "v") else model.n_heads
    for by, names in ([("head", None)] if site in HEADS else []) + [("position", ["S", "end"]), ("layer", None)]:
        vector = vector_for(site, None if by == "head" else n_heads)
        result = wb.sweep(engine, INPUTS, site=site, by=by, positions=names, **settings(kind, vector))
        for index, cell in result.cells():
            if by == "head" and int(cell.get("head") or cell["kv_head"]) % 2:
                continue
            for example in range(2):
                named = INPUTS.positions[example]
                at: dict[str, int | None] = {
                    "layer": int(cell["layer"]),
                    "head": int(cell.get("head") or cell["kv_head"]) if by == "head" else None,
                    "position": named[cell["position"]] if "position" in cell else None,
                }
                value = expected(plain, kind, site, example, at, vector)
                assert result.values[(*index, example)] == pytest.approx(value, abs=1e-4), (by, cell, example)
        assert np.abs(result.delta).max() > 1e-2


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_heads_at_positions_and_edits_at_once(family: str) -> None:
    """A grid of head × position, and `run` with three edits."""
    model, plain = models(family)
    for kind, site in (("scale", "v"), ("add", "z"), ("identity", "pattern")):
        vector = vector_for(site, None)
        arguments = settings(kind, vector)
        result = wb.sweep(model, INPUTS, site=site, by=["head", "position"], positions=["S", -2, "end"], **arguments)
        for index, cell in result.cells():
            if index[1] != 1:
                continue
            position = INPUTS.positions[1].get(cell["position"], 8)
            at: dict[str, int | None] = {"layer": int(cell["layer"]), "head": 1, "position": position}
            value = expected(plain, kind, site, 1, at, vector)
            assert result.values[(*index, 1)] == pytest.approx(value, abs=1e-4)
    vector = vector_for("resid_pre", None)
    edits = [
        wb.Edit("z", 0, 1, kind="scale", factor=FACTOR),
        wb.Edit("resid_pre", 1, position="S", kind="add", vector=vector),
        wb.Edit("v", 2, 0, kind="scale", factor=0.5),
    ]
    out = wb.run(model, INPUTS, edits)
    for i in range(2):
        at_s = INPUTS.positions[i]["S"]
        logits = plain.logits(
            INPUTS.clean[i],
            ("z", 0, lambda x: x[:, 1].mul_(FACTOR)),
            ("resid_pre", 1, lambda x, at=at_s: x[at].add_(vector)),
            ("v", 2, lambda x: x[:, 0].mul_(0.5)),
        )
        assert torch.allclose(out.logits[i], logits, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_at_one_each_position_sees_itself_alone(family: str) -> None:
    """Perturbed-attention guidance: z = v at each position, of the head's own KV head."""
    model, _ = models(family)
    group = model.n_heads // model.n_kv_heads
    for head in (None, 4):
        rec = wb.record(model, INPUTS, ["z", "v", "pattern"], edits=wb.Edit("pattern", 1, head, kind="identity", u=1))
        for i in range(2):
            z, v, pattern = rec.clean["z"][i][1], rec.clean["v"][i][1], rec.clean["pattern"][i][1]
            heads = range(model.n_heads) if head is None else [head]
            for h in heads:
                assert torch.equal(pattern[h], torch.eye(len(INPUTS.clean[i])))
                assert torch.allclose(z[:, h], v[:, h // group], atol=1e-6)
    swept = wb.sweep(model, INPUTS, site="pattern", edit="identity", u=1)
    values = wb.record(model, INPUTS, ["v"]).clean["v"]

    def copied(i: int, layer: int, head: int) -> float:
        own = values[i][layer][:, head // group]
        out = wb.run(model, INPUTS.of([i]), [wb.Edit("z", layer, head, kind=lambda x: own)])
        return float(out.scores()[0])

    for i, layer, head in [(0, 0, 0), (1, 1, 5), (0, 2, 3), (1, 2, 1)]:
        assert swept.values[layer, head, i] == pytest.approx(copied(i, layer, head), abs=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_the_kinds_are_together(family: str) -> None:
    """Scaling by 0 is zero ablation, scaling by 1 and u = 0 are nothing, adding and subtracting is the base."""
    model, _ = models(family)
    for site in ("z", "v", "mlp_out", "pattern"):
        by = "layer" if site == "mlp_out" else "head"
        zero = wb.sweep(model, INPUTS, site=site, by=by, edit="zero")
        scaled = wb.sweep(model, INPUTS, site=site, by=by, edit="scale", factor=0)
        np.testing.assert_allclose(scaled.values, zero.values, atol=1e-6)
        nothing = wb.sweep(model, INPUTS, site=site, by=by, edit="scale", factor=1)
        assert np.abs(nothing.delta).max() < 1e-4 < np.abs(zero.delta).max()
    assert np.abs(wb.sweep(model, INPUTS, site="pattern", edit="identity", u=0).delta).max() < 1e-4
    vector = vector_for("z", None)
    opposites = [wb.Edit("z", 1, 2, kind="add", vector=sign * vector) for sign in (1, -1)]
    out = wb.run(model, INPUTS, opposites)
    assert torch.allclose(out.logits, out.base_logits, atol=1e-4)
    assert (wb.run(model, INPUTS, opposites[:1]).logits - out.base_logits).abs().max() > 1e-2


@pytest.mark.parametrize("kind", ["zero", "scale", "add", "identity"])
def test_an_edit_of_each_position_needs_no_other(kind: str, forwards: list[int]) -> None:
    """So that the last layer, which is read out at the last position, computes no other one."""
    arguments = {"scale": {"factor": 2.0}, "add": {"vector": torch.ones(8)}, "identity": {"u": 0.5}}.get(kind, {})
    model = hooked("llama")
    site = "pattern" if kind == "identity" else "z"
    values: Any = values_of(kind, Recorder(ResumableLayers(model)), INPUTS, site, [0], **arguments)
    assert not Write(0, "hook", values.of(0)).needs_all_positions
    assert Write(0, "hook", lambda x: x).needs_all_positions
    wb.sweep(model, INPUTS, site=site, edit=kind, layers=[2], cache=False, **arguments)  # that runs resume is proven
    lengths: list[int] = []
    handle = model.hf.get_submodule("model.layers.2.mlp").register_forward_pre_hook(
        lambda _, args: lengths.append(args[0].shape[1])
    )
    try:
        wb.sweep(model, INPUTS, site=site, edit=kind, layers=[2], cache=False, **arguments)
    finally:
        handle.remove()
    assert set(lengths) == {1, 8, 10} and lengths.count(1) == 2  # each base run whole, each batch of edits at the end


def test_steps_and_images_take_them_too() -> None:
    inputs, toy = pictures(3), Toy(n_steps=2)
    resumable = ResumableToy(toy)
    for kind, arguments in (("scale", {"factor": -1.0}), ("identity", {"u": 0.7})):
        site = "pattern" if kind == "identity" else "z"
        both: dict[str, Any] = {"site": site, "edit": kind, **arguments}
        result = wb.sweep(resumable, inputs, by=["step", "head"], **both)
        for step, layer, head in [(0, 0, 1), (1, 2, 2), (0, 2, 0)]:

            def change(x: Tensor, kind: str = kind, head: int = head) -> Tensor:
                x = x.clone()
                if kind == "scale":
                    x[:, :, head] *= -1
                else:
                    x[:, head] = 0.3 * x[:, head] + 0.7 * torch.eye(x.shape[-1])
                return x

            taps = {step: {resumable.hook_name(site, layer): change}}
            for i, picture in enumerate(inputs.clean):
                logits = resumable.full_forward(picture[None], taps)[0]
                value = float(logits[inputs.answer[i][0]] - logits[inputs.wrong[i][0]])
                assert result.values[step, layer, head, i] == pytest.approx(value, abs=1e-5)


class TwoBranches(ResumableToy):
    """Patterns whose destinations are twice the sources, as in guidance."""

    def _depth(self, depth: int, stream: Any, taps: Any, frozen: Any = None) -> Any:
        layer = depth % self.n_layers
        name = f"blocks.{layer}.attn.hook_pattern"
        if name in taps:
            taps[name](torch.rand(len(stream[0]), 3, 6, 3))
        return super()._depth(depth, stream, {}, frozen)


REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: wb.Edit("z", 0, kind="scale"), "factor=None: expected a number, because kind='scale' multiplies by it"),
    (lambda: wb.Edit("z", 0, kind="zero", factor=2), "factor=2: expected None, because only kind='scale' uses it"),
    (lambda: wb.Edit("z", 0, kind="scale", factor=float("nan")), "factor=nan: expected a finite number"),
    (lambda: wb.Edit("z", 0, kind="add"), "vector=None: expected a tensor"),
    (lambda: wb.Edit("z", 0, kind="add", vector=torch.full((8,), torch.inf)), "expected finite numbers"),
    (
        lambda: wb.Edit("z", 0, kind="add", vector=torch.ones(8, dtype=torch.long)),
        "vector=.*: expected a tensor of one",
    ),
    (lambda: wb.Edit("pattern", 0, kind="identity"), "u=None: expected a number from 0 to 1"),
    (lambda: wb.Edit("pattern", 0, kind="identity", u=1.1), "u=1.1: expected a number from 0 to 1"),
    (lambda: wb.Edit("z", 0, kind="identity", u=1), "site='z': expected 'pattern', because kind='identity' edits"),
    (lambda: wb.sweep(hooked("llama"), INPUTS, edit="scale"), "factor=None: expected a number, because edit='scale'"),
    (
        lambda: wb.sweep(hooked("llama"), INPUTS, factor=1),
        r"factor=1\.0: expected None, because it is only for edit='scale'",
    ),
    (
        lambda: wb.sweep(hooked("llama"), INPUTS, edit="identity", u=1),
        "site='z': expected 'pattern', because edit='ide",
    ),
    (
        lambda: wb.sweep(hooked("llama"), INPUTS, edit="add", vector=torch.ones(6, 8)),
        r"vector=.*: expected the shape \[d_head\], because that is one head of one position at site 'z'",
    ),
    (
        lambda: wb.sweep(hooked("llama"), INPUTS, edit="add", vector=torch.ones(6), by="layer", site="attn_out"),
        r"vector=.*: expected a tensor of shape \(48,\), because that is the shape of one position at this site",
    ),
    (
        lambda: wb.run(hooked("llama"), INPUTS, [wb.Edit("v", 0, kind="add", vector=torch.ones(6, 8))]),
        r"vector=.*: expected a tensor of shape \(2, 8\)",
    ),
    (
        lambda: wb.run(hooked("llama"), INPUTS, [wb.Edit("v", 0, kind="add", vector=torch.ones(8))]),
        r"edits\[0\]\.vector=.*: expected the shape \[head, d_head\]",
    ),
    (
        lambda: wb.run(TwoBranches(Toy()), pictures(), [wb.Edit("pattern", 0, kind="identity", u=1)]),
        r"u=1\.0: expected rows in which position i is source i, because a row has 3 sources where the input has 6 pos",
    ),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_what_has_no_meaning_is_refused_in_one_line(call: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_their_arguments_are_in_the_keys(tmp_path: Path, forwards: list[int]) -> None:
    model, one = hooked("llama"), torch.ones(8)
    sweeps: list[dict[str, Any]] = [
        {"edit": "scale", "factor": 0.5},
        {"edit": "scale", "factor": 2},
        {"edit": "add", "vector": one},
        {"edit": "add", "vector": 2 * one},
        {"edit": "add", "vector": one.double()},
        {"edit": "identity", "site": "pattern", "u": 0.5},
        {"edit": "identity", "site": "pattern", "u": 1},
    ]
    first = []
    for arguments in sweeps:
        del forwards[:]
        first.append(wb.sweep(model, INPUTS, cache=tmp_path, **arguments))
        assert forwards, arguments
    del forwards[:]
    for result, arguments in zip(first, sweeps, strict=True):
        assert np.array_equal(result.values, wb.sweep(model, INPUTS, cache=tmp_path, **arguments).values)
    assert forwards == []
    edits: list[Any] = [
        wb.Edit(kind=a["edit"], layer=1, head=1, **{"site": "z", **{k: v for k, v in a.items() if k != "edit"}})
        for a in sweeps
    ]
    recorded = []
    for edit in edits:
        del forwards[:]
        recorded.append(wb.record(model, INPUTS, ["resid_post"], edits=edit, cache=tmp_path).clean["resid_post"][0])
        sets = wb.sweep_sets(model, INPUTS, {"a": [edit]}, cache=tmp_path)
        assert sum(forwards) >= 4
        np.testing.assert_allclose(sets.values[0], wb.run(model, INPUTS, [edit]).scores().numpy(), atol=1e-4)
    del forwards[:]
    for edit, x in zip(edits, recorded, strict=True):
        assert torch.equal(
            x, wb.record(model, INPUTS, ["resid_post"], edits=edit, cache=tmp_path).clean["resid_post"][0]
        )
        wb.sweep_sets(model, INPUTS, {"a": [edit]}, cache=tmp_path)
    assert forwards == []


def test_an_edit_keeps_its_own_vector_and_compares_by_its_numbers() -> None:
    vector = torch.ones(8)
    edit, same = (wb.Edit("z", 0, 0, kind="add", vector=vector) for _ in range(2))
    assert edit == same and len({edit, same}) == 1
    vector.zero_()
    assert edit.vector.sum() == 8 and edit != wb.Edit("z", 0, 0, kind="add", vector=vector)
    assert edit != wb.Edit("z", 0, 0, kind="add", vector=torch.ones(8, dtype=torch.float64))
