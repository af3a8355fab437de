"""``workbench patch``, ``workbench record`` and ``workbench scores`` on images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers import Dinov2Config, Dinov2Model

import workbench as wb
from tests.small_vit import PATCH, SIDE, pictures, small_vit
from workbench.cli.image_options import image_request
from workbench.errors import UsageError
from workbench.patching.estimate import count_cached

MODEL = small_vit()


@pytest.fixture
def run(run: Any) -> Any:
    """As everywhere, with paths among the words."""
    return lambda *words: run(*map(str, words))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of five images, and a file beside them that is none."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, array in enumerate(pictures(5)):
        Image.fromarray(array).save(folder / f"{i}.png")
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a vision model, which is loaded from memory."""
    monkeypatch.setattr("workbench.load", lambda name, operators=None, progress=None: MODEL)
    (tmp_path / "vit").mkdir()
    return str(tmp_path / "vit")


def test_patch_on_images_equals_the_sweep_of_the_library(run: Any, photos: Path, model: str) -> None:
    code, out, _ = run(
        "patch", "--model", model, "--images", photos, "--corrupt", "occlude(size=0.6, fill=black)", "--seed", "3",
        "--no-cache", "--json",
    )  # fmt: skip
    document = json.loads(out)
    assert code == 0 and document["n"] == 5 and document["info"]["task"] == "images"
    pairs = wb.images(photos).corrupted("occlude", seed=3, size=0.6, fill="black").answered_by(MODEL)
    sweep = wb.sweep(MODEL, pairs, cache=False)
    np.testing.assert_allclose([cell["mean_delta"] for cell in document["cells"]], sweep.mean_delta.ravel(), atol=1e-5)
    inputs = document["info"]["inputs"]
    assert inputs["answers"] == "the model's likeliest classes" and inputs["fill"] == "black"
    assert [example["clean"]["name"] for example in inputs["examples"]] == [f"{i}.png" for i in range(5)]
    assert document["task_check"]["status"] is None  # its own classes it always knows


def test_files_may_follow_each_other_and_classes_be_named(run: Any, photos: Path, model: str) -> None:
    files = [photos / f"{i}.png" for i in range(3)]
    code, out, _ = run(
        "patch", "--model", model, "--images", *files, "--corrupt", "blur(radius=6)", "--answer", "zebra", "--wrong",
        "2", "--positions", "cls;2,3", "--by", "head,position", "--no-cache", "--json",
    )  # fmt: skip
    document = json.loads(out)
    assert code == 0 and document["n"] == 3 and document["labels"]["position"] == ["cls", "2,3"]
    assert "answers" not in document["info"]["inputs"] and document["task_check"]["status"] is not None
    code, out, _ = run("patch", "--model", model, "--images", files[0], "--edit", "zero", "--no-cache", "--top", "2")
    assert code == 0 and "0.png: zero z" in out


def test_a_number_that_names_another_class_is_refused(photos: Path) -> None:
    model: Any = type("Model", (), {"output_names": ("1", "owl", "2", "7")})
    for value, message in (
        ("1", "--answer 1: class 0 has this name, and it stands for class 1 by index too"),
        ("2", ""),
    ):
        request = image_request([photos], None, answers=[value])
        if message:
            with pytest.raises(UsageError, match=message):
                request.for_model(model, answers=True)
        else:
            assert request.for_model(model, answers=True).answer == ((2,),) * 5


def test_a_region_may_be_a_patch(run: Any, photos: Path, model: str) -> None:
    code, out, _ = run(
        "patch", "--model", model, "--images", photos, "--corrupt", "occlude(region='2,3', fill=noise)", "--site",
        "resid_pre", "--by", "position", "--positions", "2,3;0,0", "--no-cache", "--json",
    )  # fmt: skip
    assert code == 0
    first = {cell["position"]: cell["mean_delta"] for cell in json.loads(out)["cells"] if cell["layer"] == 0}
    assert abs(first["2,3"]) > 1e-3 > abs(first["0,0"])


def test_a_model_without_classes_is_measured_by_its_feature(
    run: Any, photos: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=SIDE, patch_size=PATCH)
    encoder = wb.HookedViT(Dinov2Model(config).eval(), MODEL.processor)
    monkeypatch.setattr("workbench.load", lambda *_, **__: encoder)
    code, out, _ = run("patch", "--model", model, "--images", photos, "--corrupt", "swap", "--no-cache", "--json")
    document = json.loads(out)
    assert code == 0 and document["info"]["metric"] == "feature_cosine"
    np.testing.assert_allclose(document["source"], 1, atol=1e-5)  # the clean image's own
    code, _, err = run(
        "patch", "--model", model, "--images", photos, "--corrupt", "swap", "--metric", "accuracy", "--no-cache"
    )
    assert code == 2 and "expected a metric that reads features" in err


def test_the_answer_is_kept_and_another_image_is_another_answer(
    run: Any, photos: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from workbench.cli import stored_answer

    monkeypatch.setenv("WORKBENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("WORKBENCH_CACHE", "on")
    monkeypatch.setattr(stored_answer, "files_and_code", lambda name: [[], "code"])
    loads: list[str] = []

    def load(name: str, **_: Any) -> Any:
        loads.append(name)
        return MODEL

    monkeypatch.setattr("workbench.load", load)
    command = ["patch", "--model", str(photos), "--images", photos, "--corrupt", "swap", "--json"]
    first, again = (json.loads(run(*command)[1]) for _ in range(2))
    assert len(loads) == 1 and again == first
    Image.fromarray(pictures(1, seed=9)[0]).save(photos / "0.png")
    changed = json.loads(run(*command)[1])
    assert len(loads) == 2 and changed["base"] != first["base"]
    run(*command, "--seed", "1")
    assert len(loads) == 3


def test_record_fills_the_cache_with_what_the_library_reads(
    run: Any, photos: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("WORKBENCH_CACHE", "on")
    command = ["record", "--model", model, "--images", photos, "--sites", "z,pattern", "--layers", "1-2", "--json"]
    code, out, _ = run(*command, "--dry-run")
    assert code == 0 and json.loads(out)["in_cache"] == 0
    code, out, _ = run(*command)
    document = json.loads(out)
    assert code == 0 and document["recorded"] and document["in_cache"] == document["estimate"]["runs"] == 5
    loaded = wb.load(model)
    assert count_cached(loaded, wb.images(photos), ["z"], [1, 2]) == 5
    pairs = wb.images(photos).corrupted("occlude", seed=3, fill="black")
    assert count_cached(loaded, pairs, ["z"], [1, 2]) < 10  # the corrupt ones are missing
    code, out, _ = run(*command, "--corrupt", "occlude(fill=black)", "--seed", "3")
    assert code == 0 and json.loads(out)["in_cache"] == count_cached(loaded, pairs, ["z"], [1, 2]) == 10
    code, _, err = run("record", "--model", "tiny", "--images", photos)
    assert code == 2 and "expected a vision model" in err
    code, _, err = run("record", "--model", model, "--corrupt", "blur")
    assert code == 2 and "--corrupt is only for --images" in err


def test_scores_of_images_stand_beside_their_chance_levels(run: Any, photos: Path, model: str) -> None:
    code, out, _ = run("scores", "--model", model, "--images", photos, "--no-cache", "--json")
    document = json.loads(out)
    expected = wb.scores(MODEL, wb.images(photos), cache=False)
    chance = {row["score"]: row for row in document["chance"]}
    assert code == 0 and chance["to_cls"]["uniform"] == pytest.approx(1 / 17)
    assert chance["distance"]["random"] == pytest.approx(expected.random["distance"].mean())
    np.testing.assert_allclose([row["to_self"] for row in document["heads"]], expected["to_self"].ravel(), atol=1e-6)
    command = ["scores", "--model", model, "--images", photos, "--no-cache", "--no-random"]
    code, out, _ = run(*command, "--score", "distance")
    assert code == 0 and "Patterns on 5 images of 4 × 4 patches" in out and "chance: uniform attention" in out
    assert "n = 5: an interval from so few images is little more than their range." in out
    code, out, _ = run(*command, photos / next(photos.glob("*.png")).name, "--score", "distance", "--json")
    assert code == 0 and json.loads(out)["ranking"]["interval_note"] == ""  # of six images
    code, out, _ = run(*command)
    assert code == 0 and "Not available: to_registers: the model has no registers." in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["patch", "--images", "{photos}"], 2, "Give --corrupt CORRUPTION or --other-images PATH, or another --edit"),
        (["patch", "--images", "{photos}", "--corrupt", "occlud"], 2, "corruption='occlud': .*Did you mean 'occlude'"),
        (["patch", "--images", "{photos}", "--corrupt", "occlude(fil=1)"], 2, "Unknown setting of occlude 'fil'"),
        (["patch", "--images", "{photos}", "--corrupt", "occlude("], 2, r"--corrupt='occlude\(': expected NAME"),
        (["patch", "--images", "{photos}", "--corrupt", "blur(seed=1)"], 2, "Give --seed S"),
        (["patch", "--images", "{photos}/9.png", "--corrupt", "blur"], 3, "9.png: no such file"),
        (["patch", "--images", "{photos}/notes.txt", "--corrupt", "blur"], 3, "notes.txt: not an image"),
        (["patch", "--images", "{photos}", "--corrupt", "blur", "--task", "ioi"], 2, "--task is for prompts"),
        (["patch", "--images", "{photos}", "--corrupt", "blur", "--answer", "zebr"], 2, "Did you mean 'zebra'"),
        (["patch", "--images", "{photos}", "--corrupt", "blur", "--answer", "9"], 2, "a class from 0 to 4"),
        (["patch", "--images", "{photos}", "--corrupt", "blur", "--wrong", "9"], 2, "--wrong is only for --answer"),
        (["patch", "--images", "{photos}", "--corrupt", "blur", *["--answer", "owl"] * 2], 2, "2 classes for 5 images"),
        (["patch", "--images", "{photos}", "--corrupt", "blur", "--answer", "owl"], 2, "pairs with wrong answers"),
        (
            ["patch", "--images", "{photos}", "--corrupt", "relabel"],
            2,
            "the class of each image. Give --answer CLASS for each",
        ),
        (["patch", "--task", "ioi", "--corrupt", "blur"], 2, "--corrupt is only for --images"),
        (["patch", "{photos}"], 2, "images follow --images"),
        (["scores", "--images", "{photos}", "--score", "induction"], 2, "Unknown score 'induction'"),
        (["scores", "--images", "{photos}", "--n", "3"], 2, "--n is for prompts"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    arguments: list[str], code: int, message: str, run: Any, photos: Path, model: str
) -> None:
    words = [word.format(photos=photos) if "{photos}" in word else word for word in arguments]
    actual, _, err = run(*words, "--model", model, "--no-cache")
    (line,) = [line for line in err.splitlines() if line.startswith("workbench: ")]
    assert actual == code
    assert pytest.raises(AssertionError, match=message).matches(AssertionError(line)), line


def test_images_and_models_of_text_do_not_go_together(run: Any, photos: Path, no_model: None) -> None:
    code, _, err = run("patch", "--model", "tiny", "--images", photos, "--corrupt", "blur")
    assert code == 2 and "--model tiny: expected a vision model. This is a language model." in err


def test_two_folders_are_compared(run: Any, photos: Path, model: str, tmp_path: Path) -> None:
    others = tmp_path / "others"
    others.mkdir()
    for i, array in enumerate(pictures(5)):
        Image.fromarray(255 - array).save(others / f"{i}.png")
    words = ["patch", "--model", model, "--images", photos, "--other-images", others]
    code, out, err = run(*words, "--answer", "zebra", "--wrong", "owl", "--no-cache", "--json")
    assert code == 0, err
    document = json.loads(out)
    rows = [["zebra"]] * 5, [["owl"]] * 5
    pairs = wb.images(photos, *rows).paired_with(wb.images(others))
    sweep = wb.sweep(MODEL, pairs, cache=False)
    np.testing.assert_allclose([cell["mean_delta"] for cell in document["cells"]], sweep.mean_delta.ravel(), atol=1e-5)
    examples = document["info"]["inputs"]["examples"]
    assert [example["corrupt"]["name"] for example in examples] == [f"{i}.png" for i in range(5)]
    assert all(example["clean"]["sha256"] != example["corrupt"]["sha256"] for example in examples)
    (others / "4.png").unlink()
    code, _, err = run(*words)
    assert code == 2 and "--other-images: expected one for each of --images, 5. These are 4 images." in err
    code, _, err = run(*words, "--corrupt", "blur")
    assert code == 2 and "both give the corrupt images" in err
    code, _, err = run(*words, others / "0.png")
    assert code == 2 and "it is not clear whose image this is" in err
    code, _, err = run("patch", "--model", model, "--images", photos)
    assert code == 2 and "--other-images PATH" in err


@pytest.fixture
def by_class(tmp_path: Path) -> Path:
    """Folders named by classes, one by its index, with files of the same name in several."""
    names = {"owl": [0, 1], "zebra": [2], "3": [3, 4]}
    for name, members in names.items():
        (tmp_path / "classes" / name).mkdir(parents=True)
        for place, i in enumerate(members):
            Image.fromarray(pictures(5)[i]).save(tmp_path / "classes" / name / f"{place}.png")
    (tmp_path / "classes" / ".cache").mkdir()
    return tmp_path / "classes"


def test_folders_name_the_classes_of_images(run: Any, by_class: Path, model: str) -> None:
    words = ["patch", "--model", model, "--images", by_class, "--corrupt", "relabel", "--answer", "by-folder"]
    code, out, err = run(*words, "--no-cache", "--json")
    assert code == 0, err
    files = [by_class / folder / name for folder, name in
             (("3", "0.png"), ("3", "1.png"), ("owl", "0.png"), ("owl", "1.png"), ("zebra", "0.png"))]  # fmt: skip
    images = wb.images(files, answer=[3, 3, "owl", "owl", "zebra"])
    sweep = wb.sweep(MODEL, images.corrupted("relabel", seed=0), cache=False)
    cells = [cell["mean_delta"] for cell in json.loads(out)["cells"]]
    np.testing.assert_allclose(cells, sweep.mean_delta.ravel(), atol=1e-5)
    assert np.abs(cells).max() > 1e-2
    request = image_request([files[2]], None, ["by-folder"], others=[by_class / "zebra"])
    assert (request.images.answer, request.images.wrong) == ((("owl",),), (("zebra",),))
    moved = by_class.with_name("moved")
    by_class.rename(moved)
    (moved / "owl").rename(moved / "yak")
    assert image_request([moved], None, ["by-folder"]).written() != image_request([moved], None).written()
    code, _, err = run("patch", "--model", model, "--images", moved, "--corrupt", "relabel", "--answer", "by-folder")
    assert code == 2 and "yak" in err


def test_the_other_images_decide_the_stored_answer(photos: Path) -> None:
    first, second, third = (photos / f"{i}.png" for i in range(3))
    written = [image_request([first], None, others=[other]).written() for other in (second, third)]
    assert written[0] != written[1]


def test_the_list_says_how_many_cells_and_in_which_units(run: Any, photos: Path, model: str) -> None:
    words = ["patch", "--model", model, "--images", photos, "--corrupt", "blur(radius=6)", "--no-cache"]
    n = MODEL.n_layers * MODEL.n_heads
    code, out, _ = run(*words, "--top", "3")
    assert code == 0 and f"The 3 strongest of {n} cells; change: that of the mean logit difference" in out
    code, out, _ = run(*words, "--top", "1000")
    assert code == 0 and f"All {n} cells;" in out
