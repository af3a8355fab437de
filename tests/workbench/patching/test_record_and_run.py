"""`record` and `run`: what they return, what it equals in a plain forward, and what they refuse."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

import workbench as wb
from tests.families import VOCABULARY, hooked, hugging_face, nudged, paired
from tests.oracle.plain_hooks import Change, Plain, captured, output_projection
from workbench.core import Edit
from workbench.errors import BadInput, UnknownName, UsageError
from workbench.models.language import HookedLM
from workbench.patching.record import record
from workbench.patching.run import run
from workbench.patching.sweep import sweep

INPUTS = paired(4)


@pytest.fixture(scope="module")
def llama() -> tuple[HookedLM, Plain]:
    return HookedLM(nudged("llama")), Plain(nudged("llama"), "llama")


# --- record -----------------------------------------------------------------------------------------------------------


def test_a_recording_is_a_list_of_prompts_over_layers() -> None:
    rec = record(hooked("llama"), INPUTS, ["z", "k", "pattern", "resid_post", "attn.hook_q"], layers=[0, 2])
    assert rec.corrupt is not None
    for run_ in (rec.clean, rec.corrupt):
        assert [tuple(z.shape) for z in run_["z"]] == [(2, n, 6, 8) for n in (9, 11, 9, 11)]
        assert tuple(run_["k"][1].shape) == (2, 11, 2, 8)
        assert tuple(run_["attn.hook_q"][1].shape) == (2, 11, 6, 8)
        assert tuple(run_["pattern"][0].shape) == (2, 6, 9, 9)
        assert tuple(run_["resid_post"][0].shape) == (2, 9, 48)
        assert torch.equal(run_["blocks.2.attn.hook_z"][3], run_["z"][3][1])
    assert not torch.equal(rec.clean["z"][0], rec.corrupt["z"][0])
    assert rec.layers == (0, 2)
    assert "4 inputs" in repr(rec)
    with pytest.raises(UnknownName, match="recorded site"):
        rec.clean["v"]
    with pytest.raises(TypeError, match="Index the input first"):
        rec.clean["z"]["a"]  # pyright: ignore[reportCallIssue, reportArgumentType] - a wrong type on purpose
    with pytest.raises(AttributeError, match=r"\[0\]\.shape"):
        rec.clean["z"].shape  # noqa: B018 - reading it is the test
    with pytest.raises(BadInput, match="9, 11 positions"):
        rec.clean.stack("z")
    with pytest.raises(BadInput, match="9, 11 positions"):
        rec.clean.stack("pattern")
    with pytest.raises(BadInput, match="9, 11 positions"):
        rec.clean.stack("blocks.0.attn.hook_z")
    same = record(hooked("llama"), paired(3, lengths=(9,)), "z")
    assert tuple(same.clean.stack("z").shape) == (3, 3, 9, 6, 8)
    assert tuple(same.clean.stack("blocks.1.attn.hook_z").shape) == (3, 9, 6, 8)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "gemma3"])
def test_recorded_z_is_what_the_output_projection_gets(family: str) -> None:
    model = hugging_face(family)
    rec = record(hooked(family), INPUTS, "z")
    for i, ids in enumerate(INPUTS.clean):
        ends = [(output_projection(model, family, layer), "input") for layer in range(3)]
        for layer, z in enumerate(captured(model, ids[None], *ends)):
            assert torch.allclose(rec.clean["z"][i][layer].flatten(1), z[0], atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "gemma3", "gpt2", "gpt_neox"])
def test_recorded_patterns_are_eager_attention_weights(family: str) -> None:
    eager = nudged(family, "eager")
    rec = record(HookedLM(nudged(family)), INPUTS, "pattern")
    for i, ids in enumerate(INPUTS.clean):
        weights = eager(ids[None], output_attentions=True, use_cache=False).attentions
        for layer in range(3):
            assert torch.allclose(rec.clean["pattern"][i][layer], weights[layer][0], atol=1e-5)
            assert torch.allclose(rec.clean["pattern"][i][layer].sum(-1), torch.ones(()), atol=1e-5)


def test_one_layer_and_one_edit_need_no_list() -> None:
    model = hooked("llama")
    assert record(model, INPUTS, "z", 1).layers == (1,)
    edit = Edit("pattern", 1, head=0, kind="pattern", attend_to=[0])  # pyright: ignore[reportArgumentType] - a wrong type on purpose
    assert edit.attend_to == (0,)
    assert record(model, INPUTS, "pattern", 1, edits=edit).edits == (edit,)
    assert model.double().dtype == torch.float64 and model.float().dtype == torch.float32


@pytest.mark.parametrize(
    "arguments",
    [
        {"layers": [1.5]},
        {"layers": "3"},
        {"layers": [9]},
        {"layers": []},
        {"sites": []},
        {"edits": [Edit("z", 0, kind="zero")], "mean_over": "banana"},
    ],
)
def test_recording_refuses_what_means_nothing(arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        record(hooked("llama"), INPUTS, **arguments)


def test_recording_refuses_what_does_not_exist() -> None:
    with pytest.raises(UnknownName, match="attn_out"):
        record(hooked("llama"), INPUTS, ["attn_uot"])
    with pytest.raises(UsageError, match=r"layers=\[7\]: expected layers from 0 to 2"):
        record(hooked("llama"), INPUTS, ["z"], layers=[7])
    with pytest.raises(UsageError, match=r"layers=\[-1\]: expected layers from 0"):
        record(hooked("llama"), INPUTS, ["z"], layers=[-1])
    with pytest.raises(UnknownName, match="no such site"):
        record(hooked("gpt_neox"), INPUTS, ["resid_mid"])


def test_a_recording_does_not_change_with_later_runs(llama: tuple[HookedLM, Plain]) -> None:
    model, _ = llama
    rec = record(model, INPUTS, ["z", "resid_pre", "resid_mid", "v"])
    copies = {site: [x.clone() for x in rec.clean[site]] for site in rec.clean}
    run(model, INPUTS, [Edit("z", 0, kind="zero"), Edit("resid_pre", 1, kind="zero"), Edit("v", 1, kind="zero")])
    again = record(model, INPUTS, ["z", "resid_pre", "resid_mid", "v"])
    for site, values in copies.items():
        assert all(
            torch.equal(a, b) and torch.equal(a, c)
            for a, b, c in zip(values, rec.clean[site], again.clean[site], strict=True)
        )


# --- run --------------------------------------------------------------------------------------------------------------


def writing(source: Tensor, head: int | None, position: int | None):
    """Patch in place from an activation of another run."""

    def change(x: Tensor) -> None:
        at = slice(None) if position is None else position
        if head is None:
            x[at] = source[at]
        else:
            x[at, head] = source[at, head]

    return change


@pytest.mark.parametrize("base", ["clean", "corrupt"])
def test_several_edits_at_once_are_one_plain_forward(llama: tuple[HookedLM, Plain], base: str) -> None:
    model, plain = llama
    edits = [
        Edit("z", 0, head=1),
        Edit("z", 0, head=4, position="S"),
        Edit("v", 1, head=1, position="end"),
        Edit("mlp_out", 1, position="S", kind="zero"),
        Edit("resid_mid", 2, position=-2),
        Edit("z", 2, head=5, kind=lambda x: 2 * x),
        Edit("pattern", 2, head=0, position="end", kind="pattern", attend_to=("S", 0)),
    ]
    out = run(model, INPUTS, edits, base=base)
    for i in range(len(INPUTS)):
        runs = (INPUTS.clean[i], INPUTS.corrupt[i])
        ids, other = runs if base == "clean" else runs[::-1]
        at, end = INPUTS.positions[i]["S"], INPUTS.positions[i]["end"]
        row = torch.zeros(len(ids))
        row[[at, 0]] = 0.5
        earlier: list[Change] = [
            ("z", 0, writing(plain.read(other, "z", 0), 1, None)),
            ("z", 0, writing(plain.read(other, "z", 0), 4, at)),
            ("v", 1, writing(plain.read(other, "v", 1), 1, end)),
            ("mlp_out", 1, lambda x, at=at: x[at].zero_()),
        ]
        # The last layer's attention row is replaced: its z is uniform over the values that the other edits leave.
        values: list[Tensor] = []
        plain.logits(ids, *earlier, ("v", 2, lambda x, values=values: values.append(x.clone())))
        z_end = row @ values[0][:, 0]

        def last(x: Tensor, end: int = end, z_end: Tensor = z_end) -> None:
            x[end, 0] = z_end
            x[:, 5] *= 2

        mid = writing(plain.read(other, "resid_mid", 2), None, len(ids) - 2)
        expected = plain.logits(ids, *earlier, ("z", 2, last), ("resid_mid", 2, mid))
        assert torch.allclose(out.logits[i], expected, atol=1e-4)
        assert torch.allclose(out.base_logits[i], plain.logits(ids), atol=1e-4)
        assert (out.logits[i] - out.base_logits[i]).abs().max() > 1e-2
    assert out.scores().shape == (4,)
    assert not torch.equal(out.scores(), out.scores(base=True))


def test_a_single_edit_of_run_is_a_cell_of_a_sweep(llama: tuple[HookedLM, Plain]) -> None:
    model, _ = llama
    for kind, options in [("patch", {}), ("zero", {}), ("mean", {}), ("resample", {"seed": 3})]:
        swept = sweep(
            model, INPUTS, site="z", by=["head", "position"], positions=["S"], edit=kind, direction="noise", **options
        )
        out = run(model, INPUTS, [Edit("z", 1, head=2, position="S", kind=kind)], **options)
        assert out.scores().numpy() == pytest.approx(swept.values[1, 2, 0], abs=1e-4)
        assert abs(out.scores() - out.scores(base=True)).max() > 1e-3
        assert torch.equal(run(model, INPUTS, out.edits, unedited=False, **options).scores(), out.scores())


def test_a_pattern_edit_attends_to_its_positions(llama: tuple[HookedLM, Plain]) -> None:
    model, plain = llama
    weights = {"S": 0.75, 0: 0.25}
    out = run(model, INPUTS, [Edit("pattern", 1, head=3, position="end", kind="pattern", attend_to=weights)])
    for i, ids in enumerate(INPUTS.clean):
        at, end = INPUTS.positions[i]["S"], INPUTS.positions[i]["end"]
        values = plain.read(ids, "v", 1)[:, 3 // 3]
        z = 0.75 * values[at] + 0.25 * values[0]
        expected = plain.logits(ids, ("z", 1, lambda x, end=end, z=z: x[end, 3].copy_(z)))
        assert torch.allclose(out.logits[i], expected, atol=1e-4)
        assert (out.logits[i] - out.base_logits[i]).abs().max() > 1e-2
    everywhere = run(model, INPUTS, [Edit("pattern", 1, head=3, kind="pattern", attend_to=(0,))])
    for i, ids in enumerate(INPUTS.clean):
        first = plain.read(ids, "v", 1)[0, 1]
        expected = plain.logits(ids, ("z", 1, lambda x, first=first: x[:, 3].copy_(first.expand_as(x[:, 3]))))
        assert torch.allclose(everywhere.logits[i], expected, atol=1e-4)


def test_means_follow_named_positions_then_indices(llama: tuple[HookedLM, Plain]) -> None:
    model, plain = llama
    z = [plain.read(ids, "z", 1) for ids in INPUTS.clean]
    named = torch.stack([x[positions["S"]] for x, positions in zip(z, INPUTS.positions, strict=True)]).mean(0)
    nameless = torch.stack([x[6] for x in z if len(x) == 9]).mean(0)
    everything = torch.cat(z).mean(0)
    cases = [
        (Edit("z", 1, head=2, position="S", kind="mean"), None, INPUTS.positions[0]["S"], named),
        (Edit("z", 1, head=2, position=6, kind="mean"), None, 6, nameless),
        (Edit("z", 1, head=2, position=6, kind="mean"), "positions", 6, everything),
    ]
    for edit, mean_over, position, mean in cases:
        out = run(model, INPUTS, [edit], mean_over=mean_over)
        expected = plain.logits(
            INPUTS.clean[0], ("z", 1, lambda x, position=position, mean=mean: x[position, 2].copy_(mean[2]))
        )
        assert torch.allclose(out.logits[0], expected, atol=1e-4)
    others = paired(2, lengths=(9,), seed=5)
    with pytest.raises(BadInput, match=r"11 positions.*mean_over='positions'"):
        run(model, INPUTS, [Edit("z", 1, kind="mean")], mean_over=others)
    out = run(model, paired(2, lengths=(9,)), [Edit("z", 1, head=2, position=6, kind="mean")], mean_over=others)
    mean = torch.stack([plain.read(ids, "z", 1)[6] for ids in others.clean]).mean(0)
    ids = paired(2, lengths=(9,)).clean[0]
    assert torch.allclose(out.logits[0], plain.logits(ids, ("z", 1, lambda x: x[6, 2].copy_(mean[2]))), atol=1e-4)


def test_resampling_draws_another_prompt_of_the_same_length(llama: tuple[HookedLM, Plain]) -> None:
    model, plain = llama
    inputs = paired(6, lengths=(9, 11))
    edits = [Edit("resid_post", 2, position="end", kind="resample")]
    partners = set()
    for seed in range(6):
        out = run(model, inputs, edits, seed=seed)
        partner_of = []
        for i in range(6):
            same = [j for j in range(6) if torch.allclose(out.logits[i], plain.logits(inputs.clean[j]), atol=1e-4)]
            assert len(same) == 1
            assert same[0] != i
            assert len(inputs.clean[same[0]]) == len(inputs.clean[i])
            partner_of.append(same[0])
        assert sorted(partner_of) == list(range(6))  # each prompt lends its values once
        partners.add(tuple(partner_of))
        assert torch.equal(run(model, inputs, edits, seed=seed).logits, out.logits)
    assert len(partners) > 1
    with pytest.raises(BadInput, match="only one of 11 positions"):
        run(model, paired(3), edits)


def test_run_refuses_what_cannot_mean_anything() -> None:
    model = hooked("llama")
    texts = dataclasses.replace(INPUTS, corrupt=INPUTS.clean)
    with pytest.raises(UsageError, match=r"edits\[0\].head=6: expected a head from 0 to 5"):
        run(model, INPUTS, [Edit("z", 0, head=6)])
    with pytest.raises(UsageError, match=r"edits\[0\].head=2: expected a KV head from 0 to 1"):
        run(model, INPUTS, [Edit("v", 0, head=2)])
    with pytest.raises(UsageError, match="head=-1: expected a whole number of at least 0"):
        run(model, INPUTS, [Edit("z", 0, head=-1)])
    with pytest.raises(UsageError, match=r"edits\[0\].layer=3: expected a layer from 0 to 2"):
        run(model, INPUTS, [Edit("z", 3, head=0)])
    with pytest.raises(UsageError, match="position='IO': expected one of S, end"):
        run(model, INPUTS, [Edit("z", 0, head=0, position="IO")])
    with pytest.raises(UsageError, match="position=40: expected a position from -9 to 8"):
        run(model, INPUTS, [Edit("z", 0, head=0, position=40)])
    with pytest.raises(UsageError, match=r"wb\.pairs"):
        run(model, texts, [Edit("z", 0)])
    with pytest.raises(UsageError, match="'clean' or 'corrupt'"):
        run(model, INPUTS, [Edit("z", 0)], base="other")
    with pytest.raises(UsageError, match="because the model has no tokenizer"):
        run(model, "a text", [])
    assert torch.equal(run(model, INPUTS, []).logits, run(model, INPUTS, []).base_logits)
    with pytest.raises(UsageError, match="no unedited run"):
        run(model, INPUTS, [], unedited=False).scores("kl_divergence")
    assert run(model, texts, [Edit("z", 0, kind="zero")]).logits.shape == (4, VOCABULARY)


# --- what an outcome says of both runs --------------------------------------------------------------------------------


def test_an_outcome_compares_the_next_tokens_without_and_with_the_edits(llama: tuple[HookedLM, Plain]) -> None:
    model, plain = llama
    edits = [Edit("z", 0, 1, kind="zero")]
    outcome = run(model, INPUTS, edits)

    def silence(x: Tensor) -> None:
        x[:, 1] = 0

    table = outcome.table(k=3)
    for i, ids in enumerate(INPUTS.clean):
        p, q = plain.logits(ids).double(), plain.logits(ids, ("z", 0, silence)).double()
        expected = torch.nn.functional.kl_div(q.log_softmax(-1), p.log_softmax(-1), log_target=True, reduction="sum")
        assert outcome.kl()[i].item() == pytest.approx(expected.item(), rel=1e-3, abs=1e-7)
        rows = table[table["input"] == i]
        assert set(rows["id"]) == set(p.topk(3).indices.tolist()) | set(q.topk(3).indices.tolist())
        best = rows.iloc[0]
        assert max(best["before"], best["after"]) == pytest.approx(float(max(p.softmax(-1).max(), q.softmax(-1).max())))
        tokens = rows["id"].tolist()
        assert rows["before"].tolist() == pytest.approx(p.softmax(-1)[tokens].tolist(), abs=1e-6)
        assert rows["after"].tolist() == pytest.approx(q.softmax(-1)[tokens].tolist(), abs=1e-6)
    assert (outcome.kl() > 1e-6).all()
    same = run(model, INPUTS, [Edit("z", 0, 1, kind="scale", factor=1.0)])
    assert same.kl().tolist() == [0.0] * len(INPUTS)
    excluded = outcome.base_logits.clone()
    excluded[:, 5] = -torch.inf  # a token that both runs exclude
    both = dataclasses.replace(outcome, logits=excluded, plain=excluded)
    assert both.kl().tolist() == [0.0] * len(INPUTS)
    with pytest.raises(UsageError, match="no unedited run"):
        run(model, INPUTS, edits, unedited=False).table()


def test_an_outcome_is_shown_in_a_line() -> None:
    model: Any = wb.load("tiny")
    task = wb.task("ioi", n=3)
    zero = [wb.Edit("z", 1, head=head, kind="zero", position="S2") for head in range(4)]
    n = model.n_outputs
    assert repr(wb.run(model, task, zero[:1])) == f"<{n} logits of 3 inputs under zero z 1.0 at S2, clean run>"
    outcome = wb.run(model, task, zero, base="corrupt", unedited=False)
    assert repr(outcome) == f"<{n} logits of 3 inputs under 4 edits, corrupt run, without the unedited run>"
