"""HookedDiT: settings, inputs, readouts, keys, refusals, and what everything else of the engine does with it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import workbench as wb
from tests.oracle.plain_sampling import latents_of, plain_sample, random_dit
from workbench.cache import CacheNotice
from workbench.errors import HookError, UnknownName, UsageError, WorkbenchError
from workbench.models.diffusion.dit import DiT, DiTConfig
from workbench.models.diffusion.sampling import sample
from workbench.models.diffusion.training import flow_loss

HF = random_dit().float()
PAIRS = wb.latents([3, 0, 2], other=[1, 4, 0], seed=5)


class Classifier(nn.Module):
    """Of images, without anything random."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.map = nn.Linear(64, 5)
        with torch.no_grad():
            self.map.weight.mul_(factor)

    def forward(self, images: Tensor) -> Tensor:
        return self.map(images.flatten(1))


@pytest.fixture(scope="module")
def model() -> wb.HookedDiT:
    return wb.HookedDiT(HF, steps=4, guidance=2.0, readout=Classifier().eval())


def test_unhooked_sampling_is_the_models_own_bit_for_bit(model: wb.HookedDiT) -> None:
    noise, labels = latents_of(PAIRS, "clean", HF).float(), torch.tensor([3, 0, 2])
    expected = sample(HF, noise, labels, steps=4, guidance=2.0)
    assert torch.equal(model.images(PAIRS), expected)
    inputs = torch.stack(model.prepare(PAIRS).clean)
    assert torch.equal(model(inputs), model.sampling.readout.read(expected))
    for i in range(3):
        plain = plain_sample(HF, noise[i], int(labels[i]), 4, 2.0)
        assert torch.allclose(expected[i], plain, atol=1e-5)
    read, x = [], torch.stack(model.prepare(PAIRS).clean)
    assert torch.equal(
        model.run_with_hooks(x, fwd_hooks=[("blocks.1.attn.hook_z", lambda z, hook: read.append(1))]), model(x)
    )
    assert len(read) == 4


def test_inputs_of_latents(model: wb.HookedDiT) -> None:
    prepared = model.prepare(PAIRS)
    assert prepared.clean[0].shape == (32, 5) and prepared.seed == 5
    assert torch.equal(prepared.clean[1][:, :-1], prepared.corrupt[1][:, :-1])  # the same noise
    assert prepared.clean[1][0, -1] == 0 and prepared.corrupt[1][0, -1] == 4 and prepared.clean[1][16, -1] == 5
    assert prepared.answer == ((3,), (0,), (2,)) and prepared.wrong == ((1,), (4,), (0,))
    assert torch.equal(HF.unpatchify(prepared.clean[2][None, :16, :-1])[0], latents_of(PAIRS, "clean", HF).float()[2])
    labels = model.labels(prepared.clean[0])
    assert labels[0] == "0,0" and labels[6] == "1,2" and labels[16 + 6] == "none 1,2" and len(labels) == 32
    assert prepared.positions[0]["none 1,2"] == 22
    other = model.prepare(wb.latents(["LABEL_2"], other_seed=9))
    assert not torch.equal(other.clean[0][:, :-1], other.corrupt[0][:, :-1])
    assert torch.equal(other.clean[0][:, -1], other.corrupt[0][:, -1]) and other.wrong == ((),)
    alone = model.prepare(wb.latents([None, 1], n=4))
    assert alone.clean is alone.corrupt and alone.answer == ((), (1,), (), (1,))
    assert torch.equal(wb.latents(1, n=3).noise("clean", (2,))[:2], wb.latents(1, n=2).noise("clean", (2,)))


def test_a_classifiers_logits_are_what_metrics_read(model: wb.HookedDiT) -> None:
    noise, classifier = latents_of(PAIRS, "clean", HF).float(), model.sampling.readout.read
    images = torch.stack([plain_sample(HF, noise[i], label, 4, 2.0) for i, label in enumerate((1, 4, 0))])
    logits = classifier(images)
    sweep = wb.sweep(model, PAIRS, metric="logit_difference")
    expected = [logits[i, a] - logits[i, w] for i, (a, w) in enumerate([(3, 1), (0, 4), (2, 0)])]
    assert np.allclose(sweep.base, torch.stack(expected).detach().numpy(), atol=1e-4)
    probability = wb.sweep(model, PAIRS, metric="answer_probability", layers=[0], heads=[1])
    assert np.allclose(probability.base, logits.softmax(-1)[range(3), [3, 0, 2]].detach().numpy(), atol=1e-5)
    assert sweep.info["readout"] == "Classifier" and sweep.info["guidance"] == 2.0 and sweep.info["sampler"] == "euler"
    assert model.n_outputs == 5 and model.outputs_are == "logits"


def test_a_prediction_at_a_step() -> None:
    """The velocity that a plain loop has there, after guidance; later steps are not run."""
    model = wb.HookedDiT(HF, steps=4, guidance=2.0, readout="velocity@1")
    noise = latents_of(PAIRS, "clean", HF).float()
    x = noise - _velocity(noise, 1000.0) / 4
    assert model.n_steps == 2 and model.outputs_are == "velocity"
    outputs = model(torch.stack(model.prepare(PAIRS).clean))
    assert torch.allclose(outputs, HF.patchify(_velocity(x, 750.0)).flatten(1), atol=1e-5)
    assert wb.sweep(model, PAIRS, metric=_total, by=["step", "head"]).values.shape == (2, 3, 4, 3)


def _velocity(x: Tensor, time: float) -> Tensor:
    times, labels = torch.full((3,), time), torch.tensor([3, 0, 2])
    without = HF(x, times, torch.full((3,), 5))
    return without + 2 * (HF(x, times, labels) - without)


def _total(outputs: Tensor, example: Any) -> Tensor:
    return outputs.square().sum(-1)


def _mean_row(images: Tensor) -> Tensor:
    return images.mean((1, 3))


def test_numbers_of_ones_own() -> None:
    model = wb.HookedDiT(HF, steps=2, readout=_mean_row)
    assert model.n_outputs == 8 and model.outputs_are == "numbers"
    assert torch.equal(model(torch.stack(model.prepare(PAIRS).clean)), model.images(PAIRS).mean((1, 3)))


def test_everything_that_sets_the_sample_is_in_the_key(tmp_path: Path, model: wb.HookedDiT) -> None:
    others = [
        model,
        model.resampled(steps=5),
        model.resampled(guidance=2.5),
        model.resampled(guidance=None),
        model.resampled(readout=Classifier(1.5).eval()),
        model.resampled(readout=_mean_row),
        model.resampled(readout="velocity@3"),
        model.resampled(readout="velocity@2"),
    ]
    keys = [other.identity.current() for other in others]
    assert None not in keys and len(set(keys)) == len(keys)
    assert model.resampled(readout=Classifier().eval()).identity.current() == keys[0]
    first = wb.sweep(model, PAIRS, cache=tmp_path)
    again = wb.sweep(wb.HookedDiT(HF, steps=4, guidance=2.0, readout=Classifier().eval()), PAIRS, cache=tmp_path)
    changed = wb.sweep(others[4], PAIRS, cache=tmp_path)
    seeds = wb.sweep(model, replace(PAIRS, seed=6, other_seed=6), cache=tmp_path)
    assert np.array_equal(first.values, again.values)
    assert not np.allclose(first.base, changed.base) and not np.allclose(first.base, seeds.base)
    with torch.no_grad():
        model.sampling.readout.read.map.bias.add_(1)
    assert model.identity.current() != keys[0]
    with torch.no_grad():
        model.sampling.readout.read.map.bias.sub_(1)


def test_a_readout_without_a_hash_is_not_cached(tmp_path: Path) -> None:
    handle = open(__file__, encoding="utf-8")  # noqa: SIM115 - something without a hash
    try:
        model = wb.HookedDiT(HF, steps=2, readout=lambda images: images.flatten(1) * (0 if handle.closed else 1))
        with pytest.warns(CacheNotice, match="Nothing is cached"):
            wb.sweep(model, PAIRS, metric=_total, layers=[0], cache=tmp_path)
            wb.record(model, PAIRS, ["z"], cache=tmp_path)
    finally:
        handle.close()


@pytest.mark.parametrize(("name", "branch"), [("with the class", 0), ("without the class", 1)])
def test_an_edit_at_a_pass_is_a_plain_loops(name: str, branch: int) -> None:
    def change(step: int, of: int, z: Tensor) -> Tensor:
        z = z.clone()
        if step == 1 and of == branch:
            z.unflatten(-1, (4, -1))[:, :, 2] = 0
        return z

    guided, pairs = wb.HookedDiT(HF, steps=4, guidance=2.0), wb.latents([3], seed=5)
    edit = wb.Edit("z", 1, head=2, position=name, step=1, kind="zero")
    expected = plain_sample(HF, latents_of(pairs, "clean", HF).float()[0], 3, 4, 2.0, {1: change})
    outcome = wb.run(guided, pairs, [edit])
    assert torch.allclose(outcome.logits[0], expected.flatten(), atol=1e-5)
    assert not torch.allclose(outcome.logits, outcome.base_logits, atol=1e-4)
    assert f"zero z 1.2 in the pass {name} in step 1" in repr(outcome)
    sweep = wb.sweep(guided, pairs, by=["step", "head"], edit="zero", positions=name, metric=_total)
    assert np.isclose(sweep.values[1, 1, 2, 0], outcome.scores(_total)[0], atol=1e-4)
    assert f"z in the pass {name}" in repr(sweep)
    with pytest.raises(UsageError, match="position='with the class'"):
        wb.run(wb.HookedDiT(HF, steps=4), pairs, [replace(edit, position="with the class")])


def test_results_carry_the_step(model: wb.HookedDiT, tmp_path: Path) -> None:
    sweep = wb.sweep(model, PAIRS, by=["step", "head"])
    assert (
        list(sweep.table().columns[:4]) == ["step", "layer", "head_index", "head"] and len(sweep.table()) == 4 * 3 * 4
    )
    assert sweep.name((3, 1, 2)) == "1.2 in step 3"
    sweep.save(tmp_path / "sweep.safetensors")
    assert np.array_equal(wb.Sweep.load(tmp_path / "sweep.safetensors").values, sweep.values)
    assert "step" in str(sweep.figure("mean_delta").to_plotly_json()["layout"])
    named = wb.sweep(model, PAIRS, by=["step", "position"], site="resid_mid", positions=["1,2", "none 1,2"], layers=[1])
    assert named.labels["position"] == ("1,2", "none 1,2") and named.axes == ("step", "layer", "position")


def test_the_rest_of_the_engine(model: wb.HookedDiT) -> None:
    sweep = wb.sweep(model, PAIRS)
    sets = wb.sweep_sets(
        model, PAIRS, {"one": [wb.Edit("z", 1, 2)], "late": [wb.Edit("z", 1, 2, step=3)]}, base="corrupt"
    )
    assert np.allclose(sets.values[0], sweep.values[1, 2], atol=1e-5)
    assert np.allclose(sets.values[1], wb.sweep(model, PAIRS, by=["step", "head"]).values[3, 1, 2], atol=1e-5)
    screen = wb.screen(model, PAIRS, confirm=0.5)
    assert np.allclose(screen.exact.values[screen.confirmed], sweep.values[screen.confirmed], atol=1e-5)
    path = wb.path_patch(model, PAIRS, position=3, direction="denoise")
    assert path.values.shape == (3, 4, 3) and np.isfinite(path.values).all()
    assert wb.estimate(model, PAIRS, cache=False).runs == 6
    for edit in ("mean", "resample", "zero"):
        assert np.isfinite(wb.sweep(model, PAIRS, edit=edit, layers=[2]).values).all()
    attending = wb.sweep(
        model, PAIRS, site="pattern", edit="pattern", attend_to=["1,1"], positions=range(16), layers=[0]
    )
    assert np.abs(attending.delta).max() > 0


def test_small_edits_have_the_effect_that_gradients_say() -> None:
    model = wb.HookedDiT(random_dit(), steps=3, guidance=2.0)
    estimate = wb.screen(model, PAIRS, edit="zero", metric=_total, confirm=0.1).estimate
    exact = wb.sweep(model, PAIRS, edit="scale", factor=1 - 1e-6, metric=_total)
    np.testing.assert_allclose(exact.delta / 1e-6, estimate.delta, atol=2e-3 * np.abs(estimate.delta).max())


@pytest.mark.parametrize("operator", ["sliding-window(window=4)", "uniform", "linear", "neighbourhood(window=3)"])
def test_operators_go_in(model: wb.HookedDiT, operator: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the operator drops
        swapped = wb.swap(model, {1: operator}, grid=(4, 4))
    assert swapped.sampling.facts() == model.sampling.facts()
    before, after = model.images(PAIRS), swapped.images(PAIRS)
    assert not torch.allclose(before, after) and torch.equal(model.images(PAIRS), before)
    sweep = wb.sweep(swapped, PAIRS, layers=[1])
    out = wb.run(swapped, PAIRS, [wb.Edit("z", 1, 2)], base="corrupt")
    assert np.allclose(sweep.values[0, 2], out.scores().numpy(), atol=1e-5)


def test_ddim_videos_and_half_precision() -> None:
    ddim = wb.HookedDiT(random_dit(prediction="noise", num_channels=2, out_channels=4), steps=5)
    video = wb.HookedDiT(random_dit(num_frames=3), steps=2, guidance=1.5)
    assert ddim.sampling.sampler == "ddim" and video.labels(video.trial()[0])[16] == "1,0,0"
    assert ddim.outputs_are == "latents" and video.outputs_are == "video"
    for model in (ddim, video):
        sweep = wb.sweep(model, PAIRS, metric=_total, by=["step", "head"], layers=[1])
        edits = [wb.Edit("z", 1, 3, step=1)]
        scores = wb.run(model, PAIRS, edits, base="corrupt").scores(_total)
        assert np.allclose(sweep.values[1, 0, 3], scores.numpy(), rtol=1e-9)
    half = wb.HookedDiT(random_dit().bfloat16(), steps=2, guidance=2.0)
    assert half.images(PAIRS).dtype == torch.float32 and half.resumable
    assert np.isfinite(wb.sweep(half, PAIRS, metric=_total).values).all()


def test_nan_is_reported_with_its_step_and_its_edit(model: wb.HookedDiT) -> None:
    head = r"after the edit at blocks\.1\.attn\.hook_z of head 1\.2 in step 1"
    edit = [wb.Edit("z", 1, 2, kind=lambda z: z * float("inf"), step=1)]
    with pytest.raises(HookError, match=rf"^Sampling gave NaN or infinity in step 1, {head}\.$"):
        wb.run(model, PAIRS, edit)
    with pytest.raises(HookError, match=head):
        wb.record(model, PAIRS, ["z"], edits=edit, cache=False)
    with pytest.raises(
        HookError, match=r"in step 0, after the edit at blocks\.\d\.attn\.hook_z of head \d\.\d in step 0"
    ):
        wb.sweep(model, PAIRS, edit=lambda z: z * float("nan"))
    with pytest.raises(HookError, match=r"in step 2, after the hooks at blocks\.0\.attn\.hook_z"):
        hooks: list[Any] = [("blocks.0.attn.hook_z@2", lambda z, hook: z / 0)]
        model.run_with_hooks(torch.stack(model.prepare(PAIRS).clean), fwd_hooks=hooks)
    broken = random_dit()
    with torch.no_grad():
        broken.to_patch.bias[0] = torch.nan
    with pytest.raises(HookError, match=r"^Sampling gave NaN or infinity in step 0\.$"):
        wb.HookedDiT(broken, steps=2, check=False).images(PAIRS)
    loose = np.isfinite(wb.sweep(model, PAIRS).values).all()
    assert loose and not model.has_active_hooks()


def _latents(**fields: Any) -> wb.Latents:
    return replace(PAIRS, **fields)


def test_what_is_not_possible_is_refused_in_one_line(model: wb.HookedDiT) -> None:
    prepared = model.prepare(PAIRS)
    plain, guided = wb.HookedDiT(HF, steps=4), torch.stack(prepared.clean)
    unknown = guided.clone()
    unknown[:, :, -1] = 7
    mixed = guided.clone()
    mixed[0, 3, -1] = 1
    noise = guided.clone()
    noise[0, 20, 0] += 1
    refused: list[tuple[Callable[[], object], type[WorkbenchError], str]] = [
        (lambda: wb.sweep(model, PAIRS, steps=[4]), UsageError, "there are 4 steps, and 4 is not among them"),
        (lambda: wb.record(model, PAIRS, steps=9), UsageError, "steps=9: expected a step from 0 to 3"),
        (lambda: wb.run(model, PAIRS, [wb.Edit("z", 0, step=4)]), UsageError, r"edits\[0\]\.step=4: expected a step"),
        (lambda: wb.HookedDiT(HF, steps=4, readout="velocity@4"), UsageError, "expected a step from 0 to 3"),
        (lambda: wb.HookedDiT(HF, readout="noise@1"), UsageError, "because the model predicts velocity"),
        (lambda: model.add_hook("blocks.0.attn.hook_z@4", print), UsageError, "hook_z@4': expected a step from 0 to 3"),
        (lambda: wb.HookedDiT(HF, sampler="ddim"), UsageError, "sampler='ddim': expected 'euler', because the model"),
        (lambda: wb.HookedDiT(HF, sampler="eular"), UnknownName, "Did you mean 'euler'"),
        (lambda: wb.HookedDiT(HF, steps=0), UsageError, "steps=0: expected a whole number from 1 to 1,000"),
        (lambda: wb.HookedDiT(HF, guidance="3"), UsageError, "guidance='3': expected a"),  # pyright: ignore[reportArgumentType] - refused
        (lambda: wb.HookedDiT(HF, readout=3), UsageError, "readout=3: expected None, a classifier of images"),
        (
            lambda: wb.HookedDiT(HF, readout=nn.Linear(3, 2).eval()),
            UsageError,
            "readout=Linear: failed on images of shape",
        ),
        (lambda: wb.HookedDiT(HF, readout=Classifier().train()), UsageError, "readout=Classifier: is in training mode"),
        (lambda: wb.HookedDiT(nn.Linear(1, 1)), UsageError, "hf=<Linear>: expected a DiT"),
        (lambda: wb.sweep(model, _latents(classes=(5, 0, 1))), UsageError, "classes=5: expected a class from 0 to 4"),
        (lambda: wb.sweep(model, wb.latents("seven")), UnknownName, "classes='seven': expected a class of this model"),
        (lambda: wb.sweep(model, "3"), UsageError, "task='3': expected latents or wb.PairedInputs"),
        (lambda: wb.latents([]), UsageError, "classes=[]: expected a class"),
        (lambda: wb.latents(-1), UsageError, "classes=-1: expected a whole number of at least 0"),
        (lambda: wb.latents([1, 2, 3], other=[1, 2]), UsageError, "expected one class, or 3, because there are 3"),
        (lambda: plain(guided), UsageError, "expected 16 positions, because there is no guidance"),
        (lambda: model(guided[:, :16]), UsageError, "expected 32 positions, because guidance makes two passes"),
        (lambda: model(unknown), UsageError, "expected one label in the last column, from 0 to 4, or 5 for none"),
        (lambda: model(mixed), UsageError, "expected one label in the last column"),
        (lambda: model(noise), UsageError, "expected the same noise in both passes"),
        (lambda: model(guided.half()), UsageError, "expected"),
        (lambda: model(guided[..., :3]), UsageError, r"expected \[position, 5\]"),
        (lambda: HF(torch.zeros(1, 1, 4, 4), torch.ones(1), torch.tensor([1])), UsageError, r"expected \[1, 8, 8\]"),
        (lambda: DiT(DiTConfig(image_size=9)), UsageError, "image_size=9: expected a multiple of the patch size"),
        (lambda: DiT(DiTConfig(hidden_size=30)), UsageError, "hidden_size=30: expected a multiple of 4"),
        (lambda: DiT(DiTConfig(out_channels=3)), UsageError, "out_channels=3: expected 1, or 2 with a variance"),
        (
            lambda: wb.sweep(model, PAIRS, site="pattern", edit="pattern", attend_to=["1,1"]),
            HookError,
            "lets one pass of guidance attend to positions of the other",
        ),
        (lambda: plain.resampled(stops=3), UnknownName, "changes='stops'"),
        (lambda: wb.sweep(plain, PAIRS, metric="logit_difference"), UsageError, "expected a metric that reads pixels"),
    ]
    for call, kind, message in refused:
        with pytest.raises(kind, match=message.replace("[]", r"\[\]")) as error:
            call()
        assert "\n" not in str(error.value)


def test_a_checkpoint_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    HF.save_pretrained(tmp_path)
    again = DiT.from_pretrained(tmp_path).eval()
    assert torch.equal(wb.HookedDiT(again, steps=2).images(PAIRS), wb.HookedDiT(HF, steps=2).images(PAIRS))
    assert not again.training and torch.equal(again.position_embed.table, HF.position_embed.table)
    eager = wb.HookedDiT(DiT.from_pretrained(tmp_path, attn_implementation="eager").eval(), steps=2)
    assert torch.allclose(eager.images(PAIRS), wb.HookedDiT(HF, steps=2).images(PAIRS), atol=1e-5)


def test_a_folder_is_loaded_by_name_and_one_of_another_shape_refused(tmp_path: Path) -> None:
    HF.save_pretrained(tmp_path)
    loaded = wb.load(str(tmp_path))
    assert isinstance(loaded, wb.HookedDiT) and loaded.provenance["family"] == "workbench_dit"
    assert torch.equal(loaded.resampled(steps=2).images(PAIRS), wb.HookedDiT(HF, steps=2).images(PAIRS))
    config = json.loads((tmp_path / "config.json").read_text())
    refused: list[tuple[dict[str, Any], str]] = [
        (
            {"hidden_size": 64},
            r"the weights have patch_embed\.weight \[32, 4\], and the configuration says \[64, 4\]\.$",
        ),
        ({"num_hidden_layers": 2}, r"the weights have blocks\.2\.\S+ \[\d+\], and the configuration says none\.$"),
        ({"num_hidden_layers": 4}, r"the weights have blocks\.3\.\S+ none, and the configuration says \[192, 32\]\.$"),
        ({"prediction": "image"}, r"'prediction' expected one of \('velocity', 'noise'\), got image\.?$"),
        ({"hidden_size": 30}, r"^hidden_size=30: expected a multiple of 4"),
    ]
    for change, message in refused:
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(WorkbenchError, match=message) as error:
            wb.load(str(tmp_path))
        assert "\n" not in str(error.value)


def test_the_loss_of_the_velocity() -> None:
    """A model that predicts 0 has ‖noise − image‖²; labels are dropped as often as was said, and by the generator."""
    fresh = DiT(DiTConfig(id2label={i: str(i) for i in range(5)}))
    assert not fresh.get_parameter("blocks.0.modulation.weight").any() and not fresh.to_patch.weight.any()
    images, labels = torch.full((4000, 1, 8, 8), 2.0), torch.zeros(4000, dtype=torch.long)
    loss = flow_loss(fresh, images, labels, generator=torch.Generator().manual_seed(0))
    assert float(loss.detach()) == pytest.approx(1 + 4, rel=0.01)
    seen: list[Tensor] = []
    fresh.label_embed.register_forward_hook(lambda _, args, __: seen.append(args[0]))
    again = flow_loss(fresh, images, labels, label_dropout=0.3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loss, again) and float((seen[0] == 5).float().mean()) == pytest.approx(0.3, abs=0.03)
    with pytest.raises(UsageError, match="labels: expected classes from 0 to 4"):
        flow_loss(fresh, images, labels + 5)
    with pytest.raises(UsageError, match="the model predicts noise"):
        flow_loss(DiT(DiTConfig(prediction="noise")), images, labels)


def test_a_tap_that_is_silent_in_a_step_is_an_error(model: wb.HookedDiT) -> None:
    """Taps at the same hooks in all steps are put in place once, and are checked in each step all the same."""
    form, inputs = model.resumable_form(), torch.stack(list(model.prepare(_latents(), "inputs").clean))
    name, seen = "blocks.1.attn.hook_z", []
    taps = {step: {name: lambda x, step=step: seen.append((step, x.shape[1]))} for step in range(model.n_steps)}
    outputs = form.full_forward(inputs, taps)
    assert [step for step, _ in seen] == list(range(model.n_steps))
    assert {n for _, n in seen} == {model.branches * model.n_positions}
    assert torch.equal(outputs, form.full_forward(inputs, {1: taps[1]}))  # and in some steps alone
    block = model.hf.blocks[1]

    def skip_once(_: nn.Module, args: Any) -> None:
        if model.step == 1:
            model.step = 0  # what happens now is booked on another step

    handle = block.register_forward_pre_hook(skip_once)
    with pytest.raises(HookError, match=f"Nothing happened at {name}@1: the site was never reached"):
        form.full_forward(inputs, taps)
    handle.remove()
