"""Edits and sweeps on the page Vision, against Hugging Face's model with plain hooks."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from streamlit.testing.v1 import AppTest

import workbench as wb
from app import upload_store
from app.page import PAGES
from app.patching.sweep_view import SweepDownload
from app.work.images import read_image, read_pair
from tests.app.pages.driving import TIMEOUT, NewPage
from tests.app.vision.driving import HEAD, NUMBER, OTHER, open_pair, pixels, plain, request_of
from tests.app.vision.rendered import components
from workbench.errors import BadInput, WorkbenchError
from workbench.io.tables import printed
from workbench.results.circuit import Circuit
from workbench.runs.run import Run


def bars(app: AppTest) -> dict[str, tuple[float, float]]:
    """Class → probability before and after, of the chart of edits."""
    (spec,) = [
        json.loads(chart.proto.spec) for chart in app.get("plotly_chart") if "before and after" in chart.proto.spec
    ]
    after, before = (next(trace for trace in spec["data"] if trace["name"] == name) for name in ("after", "before"))
    return {
        str(x): (float(p), float(q))
        for x, p, q in zip(after["x"], numbers(before["y"]), numbers(after["y"]), strict=True)
    }


def numbers(values: Any) -> np.ndarray:
    if isinstance(values, dict):
        return np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"])
    return np.array(values)


@pytest.mark.parametrize("at", ["every position", "the selected position"])
@pytest.mark.parametrize("kind", ["patch, denoise", "patch, noise", "zero", "mean"])
def test_classes_before_and_after_are_plain_hooks(kind: str, at: str, new_page: NewPage) -> None:
    app = open_pair(new_page, image_edit=kind, image_at=at)
    base, other = (OTHER, NUMBER) if kind == "patch, denoise" else (NUMBER, OTHER)
    values = plain(pixels(base if kind in ("zero", "mean") else other))[1][HEAD[0]][:, HEAD[1]]
    if kind == "zero":
        values = torch.zeros_like(values)
    if kind == "mean":
        values = values.mean(0, keepdim=True).expand_as(values)
    where = slice(None) if at == "every position" else [1 + 1 * 4 + 2]
    before, after = (plain(pixels(base), edits, where)[0].softmax(0).numpy() for edits in ({}, {HEAD: values}))
    displayed = bars(app)
    assert set(displayed) == set(map(str, range(10)))
    for name, both in displayed.items():
        np.testing.assert_allclose(both, (before[int(name)], after[int(name)]), atol=1e-5)
    assert abs(before - after).max() > 1e-6


def test_the_heads_of_the_set_are_edited_together(new_page: NewPage) -> None:
    app = open_pair(new_page, image_edit="zero", image_edited="the heads of the set", set="0.1,3.2")
    zeros = torch.zeros(17, 16)
    after = plain(pixels(NUMBER), {(0, 1): zeros, (3, 2): zeros})[0].softmax(0).numpy()
    for name, (_, value) in bars(app).items():
        assert value == pytest.approx(after[int(name)], abs=1e-5)
    empty = open_pair(new_page, image_edit="zero", image_edited="the heads of the set")
    assert any("No head is in the set" in info.value for info in empty.info)


def test_a_sweep_is_plain_hooks_and_opens_as_a_run(
    new_page: NewPage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    app, job = request_of(monkeypatch, new_page, image_edit="patch, noise", set="1.1:mover")
    assert job["prompts"]["images"]["corrupt"] == {"other": {"set": "digits", "number": OTHER}}
    clean, corrupt = (plain(pixels(number)) for number in (NUMBER, OTHER))
    answer, wrong = int(clean[0].argmax()), int(corrupt[0].argmax())
    assert answer != wrong
    grid = np.array(components(app)["sweep-grid"]["values"]).T
    difference = [float(logits[answer] - logits[wrong]) for logits in (clean[0], corrupt[0])]
    for layer, head in np.ndindex(4, 4):
        edited, _ = plain(pixels(NUMBER), {(layer, head): corrupt[1][layer][:, head]})
        effect = (float(edited[answer] - edited[wrong]) - difference[0]) / (difference[1] - difference[0])
        assert grid[layer, head] == pytest.approx(effect, abs=2e-5)
    app.button(key="save-run").click().run()
    assert not app.exception and not app.error
    (path,) = (tmp_path / "runs").iterdir()
    run = Run.read(path)
    assert set(run.table_names) == {"sweep", "heads"} and "digits-vit" in run.summary
    test = wb.image_set("digits").test
    names = [f"digits image {number} (class {test.labels[number]})" for number in (NUMBER, OTHER)]
    assert " and ".join(names) in run.summary
    of_answer = f"The answer is class {answer}, the open image’s likeliest; the wrong answer is class {wrong}"
    assert any(of_answer in caption.value.replace("\\", "") for caption in app.caption)
    table = pd.read_csv(io.BytesIO(SweepDownload(wb.Sweep.load(path / "sweep.safetensors")).csv()))
    hashes = [hashlib.sha256(b"(8, 8, 1)" + pixels(number).tobytes()).hexdigest()[:12] for number in (NUMBER, OTHER)]
    expected = [f"{name} (SHA-256 {digest}…)" for name, digest in zip(names, hashes, strict=True)]
    assert [table[side].unique().tolist() for side in ("image", "other image")] == [[x] for x in expected]
    assert Circuit.from_run(path).heads == ((wb.Head(1, 1), "mover"),)
    assert path.name in opened("runs").selectbox(key="run").options
    circuits = opened("circuits")
    assert circuits.selectbox(key="circuit-task").value == " and ".join(names)
    assert circuits.dataframe[1 if len(circuits.dataframe) > 1 else 0].value["head"].tolist() == ["1.1"]
    with_head = opened("circuits", head="1.1")
    assert "Open 1.1 on Vision" in [button.label for button in with_head.button]


def opened(page: str, **params: str) -> AppTest:
    """Another page."""
    lines = ["from app import url_state", f"from app.pages import {page}", "with url_state.update_url():"]
    app = AppTest.from_string("\n".join([*lines, f"    {page}.page.render()"]), default_timeout=TIMEOUT)
    app.query_params.update(params)
    app.run()
    assert not app.exception and not app.error
    return app


def test_a_model_without_classes_shows_its_feature(new_page: NewPage, monkeypatch: pytest.MonkeyPatch) -> None:
    from app import models

    digits = wb.load("digits-vit")
    encoder = wb.HookedViT(digits.hf.vit, digits.processor, {"name": "encoder"})
    monkeypatch.setattr(models, "load", lambda name: encoder)
    app = open_pair(new_page, image_edit="patch, noise")
    html = " ".join(str(element.proto.body) for element in app.get("html"))
    change = wb.feature_change(
        encoder,
        read_pair(
            {"clean": {"set": "digits", "number": NUMBER}, "corrupt": {"other": {"set": "digits", "number": OTHER}}},
            encoder,
        ),
        [wb.Edit("z", *HEAD, kind="patch")],
        cache=False,
    )
    for name in ("cosine", "distance"):
        for value in change[f"{name}_after"]:
            assert printed(value, ".3f") in html
    assert app.selectbox(key="image-metric").value == "feature_cosine"
    assert set(app.selectbox(key="image-metric").options) == {"feature cosine", "feature distance"}
    assert "gives a feature" in " ".join(caption.value for caption in app.caption)


@pytest.mark.parametrize("corruption", ["occlude", "blur", "move", "swap"])
def test_a_corruption_is_the_librarys(corruption: str, new_page: NewPage) -> None:
    app = open_pair(new_page, corrupt=corruption, corrupt_seed="4")
    assert any(f"The corrupt image is made by {corruption}" in caption.value for caption in app.caption)
    script = app.code[0].value
    names: dict[str, Any] = {}
    exec(compile(script.partition("edits =")[0], "script", "exec"), names)  # noqa: S102 - the page's own script
    settings = {"move": {"right": 2}, "blur": {}, "occlude": {"size": 0.5}, "swap": {"size": 0.5}}[corruption]
    clean, other = ({"set": "digits", "number": number} for number in (NUMBER, OTHER))
    model = wb.load("digits-vit")
    listed = [read_image(clean), *([read_image(other)] if corruption == "swap" else [])]
    images = wb.images([image for x in listed for image in x.images()]).as_seen_by(model)
    expected = images.corrupted(corruption, seed=4, **settings).corrupt.pictures[0].pixels
    np.testing.assert_array_equal(names["images"].corrupt.pictures[0].pixels, expected)
    assert names["images"].clean.answer == ((int(plain(pixels(NUMBER))[0].argmax()),),)


def test_the_selected_patch_is_corrupted(new_page: NewPage) -> None:
    app = open_pair(new_page, corrupt="occlude", corrupt_where="the selected patch", corrupt_fill="white")
    assert any("patch 1,2" in caption.value for caption in app.caption)
    assert "the selected patch" in where_options(app)
    at_cls = new_page(model="digits-vit", corrupt="occlude", image_position="cls")
    assert where_options(at_cls) == ["a region drawn at random"]


def where_options(app: AppTest) -> list[str]:
    """Where a corruption can be."""
    groups: list[Any] = [group for group in app.get("button_group") if group.key == "corrupt-where"]
    return list(groups[0].options)


def test_what_cannot_be_paired_is_one_line(new_page: NewPage) -> None:
    app = new_page(model="digits-vit", image_number="5", other_image_number="5")
    assert not app.exception and "same image" in app.error[0].value
    assert not any(button.key == "start-sweeps" for button in app.button)


@pytest.mark.parametrize(
    "source",
    [{"set": "digits", "number": 10_000}, {"set": "digits", "number": -1}, {"photo": "../x"}, {"file": "0" * 64}, {}],
)
def test_images_that_a_job_cannot_have(source: dict[str, Any], new_page: NewPage) -> None:
    with pytest.raises(BadInput):
        read_image(source)


def test_an_uploaded_image_is_read_by_its_hash(new_page: NewPage, tmp_path: Path) -> None:
    new_page(model="digits-vit")  # sets where uploads are stored
    Image.fromarray(pixels(NUMBER)).save(tmp_path / "a.png")
    stored = upload_store.save_file((tmp_path / "a.png").read_bytes(), "a.png")
    np.testing.assert_array_equal(read_image({"file": stored}).pictures[0].pixels[..., 0], pixels(NUMBER))
    with pytest.raises(WorkbenchError):
        read_image({"set": "nothing", "number": 0})


def test_parts_are_in_the_help() -> None:
    assert "Patch and ablate" in PAGES["vision"].help_text("vision")
