"""The page Vision, its numbers against Hugging Face's."""

from __future__ import annotations

import base64
import io
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import streamlit as st
import torch
from PIL import Image
from sklearn.datasets import load_digits
from streamlit.testing.v1 import AppTest

import workbench as wb
from app import sidebar, stoppable, upload_store
from app.vision import image_input, on_image
from app.vision.map_figure import MapFigure
from app.vision.parts.classes import MOST
from tests.app.pages.driving import NewPage
from tests.app.vision.rendered import components, floats
from workbench.plotting.source import Source

NUMBER = 7


def reference(number: int = NUMBER) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """An image of the set, and from Hugging Face its patterns ``[head, dest, src]`` by layer and its logits."""
    model = wb.load("digits-vit")
    digits: Any = load_digits()
    first = {label: np.flatnonzero(digits.target == label)[::5] for label in range(10)}
    chosen = np.sort(np.concatenate(list(first.values())))[number]
    pixels = np.rint(digits.images[chosen] * (255 / 16)).astype(np.uint8)
    inputs = model.processor([Image.fromarray(pixels)], return_tensors="pt")["pixel_values"]
    model.hf.set_attn_implementation("eager")
    with torch.no_grad():
        output = model.hf(inputs, output_attentions=True)
    model.hf.set_attn_implementation("sdpa")
    return pixels, [pattern[0].numpy() for pattern in output.attentions], output.logits[0].numpy()


def test_map_heads_and_grid_are_hugging_faces(new_page: NewPage) -> None:
    app = new_page(model="digits-vit", image_number=str(NUMBER), head="3.2", image_position="1,2", image_score="to_cls")
    assert not app.exception and not app.error and not app.warning
    pixels, patterns, _ = reference()
    by_key = components(app)
    picture, heads, grid = by_key["image-map"], by_key["image-heads"], by_key["image-grid"]
    np.testing.assert_allclose(floats(picture["rows"]).reshape(17, 17), patterns[3][2], atol=1e-5)
    assert picture["whole"] and picture["labels"][picture["selected"]] == "1,2" and picture["grid"] == [4, 4]
    np.testing.assert_allclose(floats(heads["rows"]).reshape(4, 17), patterns[3][:, 1 + 1 * 4 + 2], atol=1e-5)
    assert heads["heads"] == ["3.0", "3.1", "3.2", "3.3"] and heads["selected"] == 2
    for data in (picture, heads):
        image = Image.open(io.BytesIO(base64.b64decode(data["image"].partition(",")[2])))
        np.testing.assert_array_equal(np.asarray(image), pixels)
    to_cls = np.stack([pattern[:, :, 0].mean(1) for pattern in patterns])  # [layer, head]
    np.testing.assert_allclose(np.array(grid["values"]).T, to_cls, atol=1e-5)
    assert grid["levels"] == [pytest.approx(1 / 17)] and "Mean over 17 positions" in grid["note"]


def test_classes_are_the_softmax_of_hugging_faces_logits(new_page: NewPage) -> None:
    app = new_page(model="digits-vit", image_number=str(NUMBER))
    expected = torch.tensor(reference()[2]).softmax(0).numpy()
    chart = app.get("plotly_chart")[0]  # the other is of edits
    (bars,) = json.loads(chart.proto.spec)["data"]
    values = bars["y"]
    if isinstance(values, dict):
        values = np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"])
    assert len(values) == MOST
    np.testing.assert_allclose(values, expected[[int(name) for name in bars["x"]]], atol=1e-5)
    assert list(values) == sorted(values, reverse=True)


def test_the_url_restores_the_page(new_page: NewPage) -> None:
    app = new_page(model="digits-vit")
    app.number_input(key="image-number").set_value(12).run()
    app.selectbox(key="image-score").set_value("similarity").run()
    app.selectbox(key="image-position").set_value("2,3").run()
    app.text_input(key=sidebar.HEAD).set_value("1.3").run()
    again = new_page(
        **{name: values[0] if isinstance(values, list) else values for name, values in app.query_params.items()}
    )
    first, second = components(app), components(again)
    assert first == second and first["image-map"]["title"].startswith("Head 1.3 on digits image 12 (class ")


def test_until_one_is_selected_the_most_focused_head_is_open(new_page: NewPage) -> None:
    app = new_page(model="digits-vit", image_number=str(NUMBER))
    entropies = [-(p * np.log(np.maximum(p, 1e-30))).sum(-1).mean(-1) for p in reference()[1]]
    layer, index = np.unravel_index(np.argmin(entropies), (4, 4))
    assert app.query_params["head"] == f"{layer}.{index}"


def test_a_head_without_shares_is_named_as_such_and_has_no_score(new_page: NewPage) -> None:
    new_page(model="digits-vit")  # sets where uploads are stored
    image = upload_store.save_file(png_of(np.arange(784, dtype=np.uint8).reshape(28, 28)), "own.png")
    app = new_page(model="mnist-vit-reversed", image_from="own", image_file=image, head="0.1")
    assert not app.exception and not app.error
    by_key = components(app)
    assert "entry of the operator's matrix" in by_key["image-map"]["title"]
    assert "no shares of attention" in by_key["image-grid"]["note"]
    assert set(np.ravel(by_key["image-grid"]["values"])) == {None}


def test_the_files_have_every_position() -> None:
    image = wb.images([np.arange(64, dtype=np.uint8).reshape(8, 8)])
    seen = wb.attention_on_image(wb.load("digits-vit"), image, 1, cache=False)
    figure = MapFigure(seen, 2, "0,3", Source("digits-vit", head="1.2", image="an image"))
    table = pd.read_csv(io.BytesIO(figure.csv()))
    assert table["position"].tolist() == list(seen.labels) and set(table["from"]) == {"0,3"}
    assert {*table["model"], *table["image"], *table["head"]} == {"digits-vit", "an image", "L1H2"}
    np.testing.assert_allclose(table["weight"], seen.pattern[2, 4], rtol=1e-6)
    data = json.loads(figure.json())
    np.testing.assert_allclose(data["patches"], seen.pattern[2, 4, 1:].reshape(4, 4), rtol=1e-6)
    assert data["image"] == "an image" and data["from"] == "0,3"
    png = Image.open(io.BytesIO(figure.image("png")))
    assert "digits-vit · head 1.2 · an image" in png.info["Description"]


def test_scoring_says_how_far_it_is_and_can_be_stopped(new_page: NewPage, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuple[int, int, str]] = []
    stopping = [True]

    class Slow(stoppable.Progress):
        """The first layer is stopped; each takes long enough for the progress to be shown."""

        def __call__(self, done: int, total: int, step: str) -> None:
            self._next = 0
            super().__call__(done, total, step)
            steps.append((done, total, step))
            if stopping[0] and done == 1:
                stoppable._stop(self._key)
                st.stop()  # a click ends a run in the same way, from inside the progress

    monkeypatch.setattr(on_image, "Progress", Slow)
    app = new_page(model="digits-vit", image_number="11")
    assert steps[-1] == (1, 4, "scores on images")
    stopping[0] = False
    app.run()
    assert any("Stopped" in info.value for info in app.info) and not app.error
    next(button for button in app.button if button.label == "Score the heads").click().run()
    assert not app.exception and "image-grid" in components(app) and steps[-1] == (4, 4, "scores on images")
    assert not app.get("progress")  # the bar is gone


def own_page(new_page: NewPage, data: bytes, name: str) -> AppTest:
    return new_page(model="digits-vit", image_from="own", image_file=upload_store.save_file(data, name))


def png_of(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_an_image_of_ones_own(new_page: NewPage) -> None:
    new_page(model="digits-vit")  # sets where uploads are stored
    app = own_page(new_page, png_of(np.full((16, 16), 90, np.uint8)), "grey.png")
    assert not app.exception and not app.error
    assert "on grey.png" in components(app)["image-map"]["title"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"no image", "not an image that can be read"),
        (png_of(np.zeros((8, 8, 3), np.uint8)), "3 channels, and the model takes 1"),
    ],
)
def test_an_image_that_the_model_cannot_take_is_one_line(data: bytes, reason: str, new_page: NewPage) -> None:
    new_page(model="digits-vit")
    app = own_page(new_page, data, "mine.png")
    assert not app.exception and "image-map" not in components(app)
    (error,) = app.error
    text = error.value.replace("\\", "")
    assert text.startswith("mine.png: ") and reason in text
    app.selectbox(key=image_input.FROM).set_value("digits").run()
    assert not app.error and "image-map" in components(app)


def test_a_file_in_the_url_that_is_not_there_gives_way_to_a_held_out_image(new_page: NewPage) -> None:
    app = new_page(model="digits-vit", image_from="own", image_file="zzzz")
    assert not app.exception and not app.error and "image-map" in components(app)
    (warning,) = app.warning
    text = warning.value.replace("\\", "")
    assert "'zzzz', which is not a SHA-256 hash" in text and "Showing " in text
    assert app.session_state["image-from"] == "digits" and "image-file" not in app.query_params
    assert not app.run().warning


def test_an_image_is_selected_by_its_class(new_page: NewPage) -> None:
    app = new_page(model="digits-vit")
    digits: Any = load_digits()
    of_class = {label: np.flatnonzero(digits.target == label)[::5] for label in range(10)}
    held_out = np.sort(np.concatenate(list(of_class.values())))
    sevens = [int(i) for i in np.flatnonzero(digits.target[held_out] == 7)]
    next(box for box in app.selectbox if box.label == "Class").set_value("7").run()
    assert not app.exception and app.number_input(key="image-number").value == sevens[0]
    assert next(box for box in app.selectbox if box.label == "Class").value == "7"
    assert f"on digits image {sevens[0]} (class 7)" in components(app)["image-map"]["title"]
    for expected in sevens[1:3]:
        next(button for button in app.button if button.label == "Next of class 7").click().run()
        assert app.number_input(key="image-number").value == expected


def test_without_a_file_the_page_asks_for_one(new_page: NewPage) -> None:
    app = new_page(model="digits-vit", image_from="own")
    assert not app.exception and not app.error and "Upload an image" in app.info[0].value
    assert app.query_params["image-from"] == "own" and "image-map" not in components(app)


def of_size(channels: int, size: int, resizes: bool = True) -> Any:
    config = SimpleNamespace(num_channels=channels, image_size=size)
    return SimpleNamespace(config=config, processor=SimpleNamespace(do_resize=resizes))


def test_the_images_that_are_offered_can_be_taken() -> None:
    grey, colour, fixed = of_size(1, 28), of_size(3, 224), of_size(1, 28, resizes=False)
    sources = [image_input._sources(model) for model in (grey, colour, fixed)]
    assert sources == [
        ["digits", "mnist", "shapes", "own"],
        ["photos", "digits", "mnist", "shapes", "own"],
        ["mnist", "own"],
    ]
    assert [image_input._suitable(m, s) for m, s in zip((grey, colour, fixed), sources, strict=True)] == [
        "mnist",
        "photos",
        "mnist",
    ]
