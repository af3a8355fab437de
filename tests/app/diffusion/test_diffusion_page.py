"""The page Diffusion, its numbers against a plain sampling loop with plain hooks."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from streamlit.testing.v1 import AppTest
from torch import Tensor

import workbench as wb
from app.diffusion import readouts, sampled, sweeps
from app.diffusion.step import STEP
from app.page import PAGES
from app.patching.sweep_view import SweepDownload
from app.work import result_files
from tests.app.pages.driving import NewPage
from tests.app.patching.driving import InlineQueue
from tests.app.vision.rendered import components, floats
from tests.oracle.plain_sampling import plain_sample
from workbench.runs.sweep_run import summary

LABEL, OTHER, SEED, STEPS, GUIDANCE, HEADS = 3, 8, 7, 4, 2.0, 4
QUERY = {
    "model": "digits-dit",
    "sample_class": str(LABEL),
    "sample_other": str(OTHER),
    "sample_seed": str(SEED),
    "sample_steps": str(STEPS),
}


def params(app: AppTest) -> dict[str, str]:
    """The page's URL."""
    return {name: x[0] if isinstance(x, list) else x for name, x in app.query_params.items()}


def load_dit() -> wb.HookedDiT:
    model: Any = wb.load("digits-dit")
    return model


def network() -> Any:
    return load_dit().hf


def noise(seed: int = SEED) -> Tensor:
    return torch.randn((1, 8, 8), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def plain_states(label: int = LABEL) -> tuple[list[Tensor], list[Tensor]]:
    """The sample before each step and at the end, and the image on the straight line of each step's velocity."""
    model, states, ends = network(), [noise()], []
    for step in range(STEPS):
        t = 1 - step / STEPS
        both = [model(states[-1][None], torch.tensor([1000 * t]), torch.tensor([of]))[0] for of in (label, 10)]
        velocity = both[1] + GUIDANCE * (both[0] - both[1])
        ends.append(states[-1] - t * velocity)
        states.append(states[-1] - velocity / STEPS)
    return states, ends


@torch.no_grad()
def plain_without(head: tuple[int, int], steps: range, seed: int = SEED) -> Tensor:
    """The finished sample with one head at zero in some steps."""

    def change(step: int, branch: int, z: Tensor) -> Tensor:
        z = z.clone()
        if step in steps:
            z.unflatten(-1, (HEADS, -1))[:, :, head[1]] = 0
        return z

    return plain_sample(network(), noise(seed), LABEL, STEPS, GUIDANCE, {head[0]: change})


def pixels(images: list[str]) -> list[np.ndarray]:
    """The pictures that a component gets."""
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(x.partition(",")[2])))).astype(int) for x in images]


def as_pixels(image: Tensor) -> np.ndarray:
    return ((image[0].clamp(-1, 1) + 1) * 127.5).numpy()


def assert_strip(data: dict[str, Any], states: list[Tensor], ends: list[Tensor]) -> None:
    assert [column["label"] for column in data["columns"]] == ["0", "1", "2", "3", "end"] and data["steps"] == STEPS
    for i, column in enumerate(data["columns"]):
        displayed, expected = pixels(column["images"]), [states[i], *ends[i : i + 1]]
        for seen, image in zip(displayed, expected, strict=True):
            np.testing.assert_allclose(seen, as_pixels(image), atol=0.51)  # rounded to whole numbers


def test_the_strip_is_a_plain_loops_sample(new_page: NewPage) -> None:
    app = new_page(**QUERY, sample_step="2")
    assert not app.exception and not app.error and not app.warning
    data = components(app)["sample-strip"]
    assert_strip(data, *plain_states())
    assert data["selected"] == 2 and data["title"] == f"Class {LABEL}, seed {SEED}, over the steps"


@torch.no_grad()
def plain_patterns(layer: int, at: int) -> list[np.ndarray]:
    """``[head, dest, src]`` of the pass with the class, and of that without, in a step."""
    model, stored = network(), []
    attn = model.get_submodule(f"blocks.{layer}.attn")
    hooks = [
        getattr(attn, name).register_forward_hook(
            lambda _, args, out: stored.append(out[0].unflatten(-1, (HEADS, -1)).transpose(0, 1))
        )
        for name in ("q_proj", "k_proj")
    ]
    state = plain_states()[0][at]
    stored.clear()
    for label in (LABEL, 10):
        model(state[None], torch.tensor([1000 * (1 - at / STEPS)]), torch.tensor([label]))
    for hook in hooks:
        hook.remove()
    pairs = [(q, k) for q, k in zip(stored[::2], stored[1::2], strict=True)]
    return [(q @ k.mT / q.shape[-1] ** 0.5).softmax(-1).numpy() for q, k in pairs]


@pytest.mark.parametrize(("branch", "name"), [("label", "with the class"), ("none", "without the class")])
def test_the_map_is_that_of_plain_hooks_in_the_step_and_pass(branch: str, name: str, new_page: NewPage) -> None:
    app = new_page(**QUERY, sample_step="2", sample_pass=branch, head="3.1", image_position="1,2")
    assert not app.exception and not app.error
    expected = plain_patterns(3, 2)[branch == "none"]
    data, heads = components(app)["sample-map"], components(app)["sample-heads"]
    np.testing.assert_allclose(floats(data["rows"]).reshape(16, 16), expected[1], atol=1e-5)
    assert data["labels"][data["selected"]] == "1,2" and data["grid"] == [4, 4]
    assert data["title"].startswith(f"Head 3.1 on class {LABEL}, seed {SEED}, step 2, {name}, from 1,2")
    np.testing.assert_allclose(floats(heads["rows"]).reshape(4, 16), expected[:, 6], atol=1e-5)
    (seen,) = pixels([data["image"]])
    np.testing.assert_allclose(seen, as_pixels(plain_states()[1][2]), atol=0.51)


def test_without_guidance_there_is_one_pass(new_page: NewPage) -> None:
    app = new_page(**QUERY, sample_guided="no", sample_pass="none")
    assert not app.exception and not app.error
    assert "the class" not in components(app)["sample-map"]["title"]
    expected = plain_sample(network(), noise(), LABEL, STEPS)
    (end,) = pixels(components(app)["sample-strip"]["columns"][-1]["images"])
    np.testing.assert_allclose(end, as_pixels(expected.detach()), atol=0.51)


def test_a_cell_of_the_grid_is_a_plain_loop_with_one_head_edited(
    new_page: NewPage, queue: InlineQueue, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    app = new_page(**QUERY, sample_edit="zero", sample_metric="contrast", sample_n="2", head="1.2", sample_step="1")
    assert set(np.ravel(components(app)["steps-grid"]["values"])) == {None}
    app.button(key=f"start-{result_files.SWEEPS}").click().run()
    app.run()
    assert not app.exception and not app.error
    data = components(app)["steps-grid"]
    assert data["selected"] == [1, 1 * HEADS + 2] and len(data["values"]) == 24 and len(data["values"][0]) == STEPS
    for head, step in (((1, 2), 1), ((4, 3), 3)):
        changes = [
            plain_without(head, range(step, step + 1), SEED + i).std(correction=0)
            - plain_without(head, range(0), SEED + i).std(correction=0)
            for i in range(2)
        ]
        value = data["values"][head[0] * HEADS + head[1]][step]
        assert value == pytest.approx(float(sum(changes) / 2), abs=1e-5)
    (request,) = queue.requests
    assert request["sampling"] == {"sampler": "euler", "steps": STEPS, "guidance": GUIDANCE, "readout": ""}
    app.button(key="add-strongest").click().run()
    flat = np.abs(np.array(data["values"])).max(1).reshape(6, 4)
    strongest = {f"{i // HEADS}.{i % HEADS}" for i in np.argsort(-flat.ravel())[:3]}
    assert set(params(app)["set"].split(",")) == strongest
    again = new_page(**params(app))
    assert components(again)["steps-grid"]["values"] == data["values"] and len(queue.requests) == 1
    monkeypatch.chdir(tmp_path)
    again.button(key="save-run").click().run()
    assert not again.exception and not again.error
    (folder,) = (tmp_path / "runs").iterdir()
    saved = wb.Sweep.load(folder / "sweep.safetensors")
    assert saved.axes == ("step", "layer", "head")
    assert saved.info["inputs"]["examples"][0]["clean"] == {"class": str(LABEL), "seed": SEED}
    assert {str(head) for head in wb.Circuit.from_run(folder).head_set} == strongest


@pytest.mark.parametrize("query", [{"sample_edit": "patch"}, {"sample_edit": "zero", "sample_readout": "digits-vit"}])
def test_the_samples_own_class_as_the_other_one_is_refused(query: dict[str, str], new_page: NewPage) -> None:
    app = new_page(**{**QUERY, "sample_other": str(LABEL)}, **query, set="0.1", set_edit="patch")
    assert not app.exception and app.button(key=f"start-{result_files.SWEEPS}").disabled
    errors = [error.value.replace("\\", "") for error in app.error]
    assert len(errors) == 2  # of the sweep, and of the edit of the set
    assert all("Other class 3: expected another class than the sample’s" in text for text in errors)
    assert "edited-strip" not in components(app)
    app.selectbox(key=sampled.OTHER).set_value(str(OTHER)).run()
    assert not app.error and not app.button(key=f"start-{result_files.SWEEPS}").disabled


def test_where_patches_come_from_is_shown_and_said(new_page: NewPage) -> None:
    app = new_page(**QUERY, sample_edit="patch")
    captions = [caption.value.replace("\\", "") for caption in app.caption]
    assert any(f"from the run of class {OTHER} and is patched into the run of class {LABEL}" in x for x in captions)
    assert app.get("image") and any(f"Class {OTHER}, from the same noise" in x for x in captions)


@pytest.mark.parametrize(
    ("first", "last", "steps"), [("1", "2", [1, 2]), ("3", "2", [2, 3]), ("zzz", "9", [0, 1, 2, 3])]
)
def test_frames_are_in_the_steps_of_the_edit(first: str, last: str, steps: list[int], new_page: NewPage) -> None:
    app = new_page(**QUERY, set="0.1,2.3", set_first_step=first, set_last_step=last)
    assert not app.exception
    expected = sorted([step, row] for step in steps for row in (1, 2 * HEADS + 3))
    assert sorted(components(app)["steps-grid"]["marked"]) == expected


def test_a_sweep_reads_the_classifier_that_is_selected(new_page: NewPage) -> None:
    app = new_page(**QUERY, sample_edit="patch", sample_n="2", sample_readout="digits-vit")
    app.button(key=f"start-{result_files.SWEEPS}").click().run()
    app.run()
    assert not app.exception and not app.error
    (path,) = result_files.result_paths(result_files.SWEEPS)
    sweep = wb.Sweep.load(path)
    model = load_dit().resampled(steps=STEPS, guidance=GUIDANCE, readout=wb.load("digits-vit"))
    pairs = wb.latents(LABEL, other=OTHER, n=2, seed=SEED)
    expected = wb.sweep(model, pairs, by=["step", "head"], direction="noise", cache=False)
    np.testing.assert_allclose(sweep.values, expected.values, atol=1e-5)
    table = pd.read_csv(io.BytesIO(SweepDownload(sweep).csv()))
    facts = {"class": LABEL, "other class": OTHER, "seed": f"{SEED} to {SEED + 1}", "sampler": "euler", "steps": STEPS}
    facts |= {"guidance": GUIDANCE, "readout": "digits-vit", "model": "digits-dit", "workbench": wb.__version__}
    assert {name: table[name].unique().tolist() for name in facts} == {name: [fact] for name, fact in facts.items()}
    png = Image.open(io.BytesIO(SweepDownload(sweep).image("png")))
    assert f"class {LABEL}, other class {OTHER}, seed {SEED} to {SEED + 1}, sampler euler" in png.info["Description"]


def test_the_edited_sample_is_a_plain_loops_with_the_head_at_zero(new_page: NewPage) -> None:
    query = {"set": "2.1", "set_edit": "zero", "set_first_step": "1", "set_last_step": "2"}
    app = new_page(**QUERY, **query, sample_readout="digits-vit")
    assert not app.exception and not app.error
    plain, edited = (components(app)[f"{name}-strip"] for name in ("plain", "edited"))
    assert_strip(plain, *plain_states())
    expected, before = plain_without((2, 1), range(1, 3)), plain_without((2, 1), range(0))
    (end,) = pixels(edited["columns"][-1]["images"])
    np.testing.assert_allclose(end, as_pixels(expected), atol=0.51)
    distance = float((expected - before).square().mean().sqrt())
    assert edited["columns"][-1]["text"] == f"Finished: {distance:.3g} from the sample without edits"
    assert edited["columns"][1]["text"].endswith(": 0 from the sample without edits")
    assert edited["title"] == "With edits (head 2.1: set to zero, in steps 1 to 2)"
    (html,) = (x.proto.body for x in app.get("html") if "image distance" in x.proto.body)
    rows = [re.findall(r"<td[^>]*>([^<]*)</td>", row) for row in html.split("<tr>")]
    numbers = {row[0]: [float(x.replace("\N{MINUS SIGN}", "-")) for x in row[1:4]] for row in rows if row}
    before_after = [float(image.std(correction=0)) for image in (before, expected)]
    np.testing.assert_allclose(numbers["contrast"][:2], before_after, atol=1e-3)
    np.testing.assert_allclose(numbers["image distance"], [0, distance, distance], atol=1e-3)
    chart = json.loads(app.get("plotly_chart")[-1].proto.spec)
    (bars,) = [trace for trace in chart["data"] if trace["type"] == "bar"]
    values = bars["y"]
    if isinstance(values, dict):
        values = np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"])
    classifier = wb.load("digits-vit")
    with torch.no_grad():
        logits = classifier.hf(expected[None]).logits[0]
    expected_classes = logits.softmax(0).numpy()[[int(name) for name in bars["x"]]]
    assert len(bars["x"]) == 10 and "Before and after the edits; all 10 classes" in json.dumps(chart["layout"])
    np.testing.assert_allclose(values, expected_classes, atol=1e-4)


@pytest.mark.parametrize(("kind", "words"), [("patch", "patched from the other class"), ("identity", "to itself")])
def test_other_edits_sample_again(kind: str, words: str, new_page: NewPage) -> None:
    app = new_page(**QUERY, set="0.1,4.2", set_edit=kind)
    assert not app.exception and not app.error
    edited = components(app)["edited-strip"]
    assert "heads 0.1, 4.2" in edited["title"] and words in edited["title"] and "in every step" in edited["title"]
    site = {"patch": {}, "identity": {"kind": "identity", "u": 1.0}}[kind]
    edits = [wb.Edit("pattern" if site else "z", layer, head=head, **site) for layer, head in ((0, 1), (4, 2))]
    model = load_dit().resampled(steps=STEPS, guidance=GUIDANCE)
    outcome = wb.run(model, wb.latents(LABEL, other=OTHER, seed=SEED), edits, cache=False)
    (end,) = pixels(edited["columns"][-1]["images"])
    np.testing.assert_allclose(end, as_pixels(outcome.logits.reshape(1, 8, 8)), atol=0.51)


@torch.no_grad()
def plain_without_in_pass(head: tuple[int, int], steps: range, branch: int) -> Tensor:
    """The finished sample with one head at zero in one pass of some steps; pass 0 has the class."""

    def change(step: int, of: int, z: Tensor) -> Tensor:
        z = z.clone()
        if step in steps and of == branch:
            z.unflatten(-1, (HEADS, -1))[:, :, head[1]] = 0
        return z

    return plain_sample(network(), noise(), LABEL, STEPS, GUIDANCE, {head[0]: change})


@pytest.mark.parametrize(("passes", "name"), [("label", "with the class"), ("none", "without the class")])
def test_an_edit_in_one_pass_is_a_plain_loops(passes: str, name: str, new_page: NewPage) -> None:
    query = {"set": "2.1", "set_edit": "zero", "set_passes": passes, "set_first_step": "1", "set_last_step": "2"}
    app = new_page(**QUERY, **query)
    assert not app.exception and not app.error and not app.warning
    edited = components(app)["edited-strip"]
    assert edited["title"] == f"With edits (head 2.1: set to zero, in steps 1 to 2, in the pass {name})"
    expected = plain_without_in_pass((2, 1), range(1, 3), int(passes == "none"))
    (end,) = pixels(edited["columns"][-1]["images"])
    np.testing.assert_allclose(end, as_pixels(expected), atol=0.51)
    distance = float((expected - plain_without((2, 1), range(0))).square().mean().sqrt())
    both = float((expected - plain_without((2, 1), range(1, 3))).square().mean().sqrt())
    assert distance > 1e-3 and both > 1e-3
    assert edited["columns"][-1]["text"] == f"Finished: {distance:.3g} from the sample without edits"
    assert params(app)["set-passes"] == passes


def test_a_sweep_in_one_pass_is_the_librarys_and_says_so(new_page: NewPage, queue: InlineQueue) -> None:
    app = new_page(**QUERY, sample_edit="patch", sample_n="2", sample_passes="none")
    captions = [caption.value.replace("\\", "") for caption in app.caption]
    assert any("z of one head in one step in the pass without the class comes from" in x for x in captions)
    app.button(key=f"start-{result_files.SWEEPS}").click().run()
    app.run()
    assert not app.exception and not app.error
    (path,) = result_files.result_paths(result_files.SWEEPS)
    sweep, model = wb.Sweep.load(path), load_dit().resampled(steps=STEPS, guidance=GUIDANCE)
    how: dict[str, Any] = {"by": ["step", "head"], "direction": "noise", "metric": "image_distance", "cache": False}
    pairs = wb.latents(LABEL, other=OTHER, n=2, seed=SEED)
    np.testing.assert_allclose(sweep.values, wb.sweep(model, pairs, positions=range(16, 32), **how).values, atol=1e-5)
    assert "patch z in the pass without the class by step" in SweepDownload(sweep).source.edited
    assert "in the pass without the class" in summary(sweep)


def test_without_guidance_no_pass_can_be_selected(new_page: NewPage) -> None:
    app = new_page(**QUERY, sample_guided="no", set="2.1", set_passes="none", sample_passes="none")
    assert not app.exception and not app.error
    assert not {"set-passes", "sample-passes"} & {box.key for box in app.selectbox}
    assert components(app)["edited-strip"]["title"] == "With edits (head 2.1: set to zero, in every step)"


def test_notes_are_those_of_the_model_and_link_to_the_page(new_page: NewPage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", "on")  # notes are in its folder
    app = new_page(**QUERY, head="3.1")
    (field,) = [area for area in app.text_area if area.label == "Note on head 3.1"]
    field.set_value("Looks at the edge of the digit.").run()
    assert not app.exception and not app.error
    note = wb.notes(wb.load("digits-dit"))["3.1"]
    link = urlsplit(note.link)
    assert note.text == "Looks at the edge of the digit." and link.path == "/diffusion"
    assert parse_qs(link.query)["sample-class"] == [str(LABEL)]
    assert "**Notes**" in PAGES["diffusion"].help_text("diffusion")


def test_the_url_restores_the_page(new_page: NewPage) -> None:
    app = new_page(**QUERY)
    app.selectbox(key=sampled.CLASS).set_value("5").run()
    app.number_input(key=sampled.GUIDANCE).set_value(3.5).run()
    app.slider(key=STEP).set_value(3).run()
    app.selectbox(key="sample-pass").set_value("none").run()
    app.selectbox(key="image-position").set_value("2,3").run()
    app.selectbox(key=readouts.READOUT).set_value("digits-vit").run()
    again = new_page(**params(app))
    first, second = components(app), components(again)
    assert first == second and not again.warning
    assert "class 5, seed 7, step 3, without the class, from 2,3" in first["sample-map"]["title"]


def test_steps_that_are_not_there_and_unknown_classes_are_one_line(new_page: NewPage) -> None:
    app = new_page(**{**QUERY, "sample_class": "eleven"}, sample_step="9")
    assert not app.exception and not app.error
    warnings = [warning.value.replace("\\", "") for warning in app.warning]
    assert any("sample-class=eleven, which is not an option. Showing 0." in text for text in warnings)
    assert any("sample-step=9, which is out of range (0 to 3). Showing 0." in text for text in warnings)


def test_another_model_is_one_line(new_page: NewPage) -> None:
    app = new_page(model="digits-vit")
    (error,) = app.error
    assert "expected a diffusion model" in error.value.replace("\\", "")


def test_videos_have_their_frames_side_by_side_and_their_distance(new_page: NewPage) -> None:
    app = new_page(model="moving-digits-dit", sample_steps="2", set="0.1")
    assert not app.exception and not app.error
    model = wb.load("moving-digits-dit")
    frames, rows, columns = model.hf.config.grid
    data = components(app)
    assert data["sample-map"]["grid"] == [rows, frames * columns] and "edited-strip" in data
    (end,) = pixels(data["sample-strip"]["columns"][-1]["images"])
    size = model.hf.config.image_size
    assert end.shape == (size, frames * size)
    assert list(app.selectbox(key=sweeps.METRIC).options) == ["image distance"]
    assert any("<td>image distance</td>" in html.proto.body for html in app.get("html"))
