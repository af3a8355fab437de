"""Corrupt images against what numpy and Pillow make of the clean ones, and pairs as a sweep sees them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

import workbench as wb
from tests.oracle.plain_hooks import edited
from tests.small_vit import pictures, small_vit
from workbench.errors import BadInput, UsageError, WorkbenchError
from workbench.registry import CORRUPTIONS

MODEL = small_vit()
ARRAYS = pictures(4)
IMAGES = wb.images(ARRAYS, answer=["zebra", "lion", "zebra", "owl"], name="zoo")
#: What each corruption needs besides its name.
SETTINGS: dict[str, dict[str, Any]] = {"move": {"down": 3, "right": -2}}


def corrupt_arrays(pairs: wb.ImagePairs) -> list[np.ndarray]:
    return [np.asarray(corrupt) for _, corrupt in pairs.images()]


# --- every corruption of the folder


@pytest.mark.parametrize("name", CORRUPTIONS.names())
def test_a_corruption_is_seeded_and_leaves_the_clean_images_as_they_are(name: str) -> None:
    settings = SETTINGS.get(name, {})
    first, again = (corrupt_arrays(IMAGES.corrupted(name, **settings)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert [np.asarray(image).tolist() for image in IMAGES.images()] == [array.tolist() for array in ARRAYS]
    assert not any(np.array_equal(a, b) for a, b in zip(first, ARRAYS, strict=True))
    assert CORRUPTIONS.summary(name).endswith(".")


@pytest.mark.parametrize("name", CORRUPTIONS.names())
def test_pairs_of_it_can_be_swept_and_say_how_they_were_made(name: str) -> None:
    pairs = IMAGES.corrupted(name, seed=5, **SETTINGS.get(name, {}))
    sweep = wb.sweep(MODEL, pairs, metric="kl_divergence", cache=False)
    assert np.isfinite(sweep.values).all() and sweep.info["inputs"]["corruption"] == name
    assert sweep.info["inputs"]["seed"] == 5 and sweep.info["task"] == "zoo"
    of = sweep.info["inputs"]["examples"][1]
    assert of["clean"]["name"] == "image 1" and of["corrupt"]["name"] == f"image 1, {name}"


@pytest.mark.parametrize("name", ["occlude", "swap", "blur"])
def test_nothing_but_the_region_changes(name: str) -> None:
    corrupt = corrupt_arrays(IMAGES.corrupted(name, region=(4, 5, 20, 18)))
    outside = np.ones(ARRAYS[0].shape, dtype=bool)
    outside[4:20, 5:18] = False
    for a, b in zip(ARRAYS, corrupt, strict=True):
        assert np.array_equal(a[outside], b[outside]) and not np.array_equal(a, b)


def test_a_region_drawn_at_random_has_the_size_asked_for_and_moves_with_the_seed() -> None:
    boxes = set()
    for seed in range(6):
        (corrupt, *_) = corrupt_arrays(IMAGES.corrupted("occlude", size=0.25, fill="noise", seed=seed))
        rows, columns = np.nonzero((corrupt != ARRAYS[0]).any(-1))
        boxes.add((rows.min(), columns.min()))
        assert rows.max() - rows.min() < 6 and columns.max() - columns.min() < 5
    assert len(boxes) > 3


def test_the_first_images_of_a_longer_list_are_corrupted_alike() -> None:
    shorter = corrupt_arrays(IMAGES.of([0, 1]).corrupted("occlude", fill="noise"))
    longer = corrupt_arrays(IMAGES.corrupted("occlude", fill="noise"))
    assert all(np.array_equal(a, b) for a, b in zip(shorter, longer, strict=False))


# --- each against numpy or Pillow


@pytest.mark.parametrize(("fill", "value"), [("black", 0), ("white", 255), ("mean", None)])
def test_occlude_covers_a_region(fill: str, value: int | None) -> None:
    (corrupt, *_) = corrupt_arrays(IMAGES.corrupted("occlude", region=(0, 0, 9, 7), fill=fill))
    expected = ARRAYS[0].copy()
    expected[:9, :7] = np.rint(ARRAYS[0].reshape(-1, 3).mean(0)) if value is None else value
    assert np.array_equal(corrupt, expected)


def test_swap_takes_the_region_of_another_image() -> None:
    corrupt = corrupt_arrays(IMAGES.corrupted("swap", region=(3, 3, 12, 12)))
    for i, array in enumerate(corrupt):
        others = [other for j, other in enumerate(ARRAYS) if j != i]
        assert any(np.array_equal(array[3:12, 3:12], other[3:12, 3:12]) for other in others)


def test_blur_is_pillows_gaussian() -> None:
    (corrupt, *_) = corrupt_arrays(IMAGES.corrupted("blur", radius=2))
    assert np.array_equal(corrupt, np.asarray(Image.fromarray(ARRAYS[0]).filter(ImageFilter.GaussianBlur(2))))


def test_move_moves_a_region_and_leaves_the_mean_colour() -> None:
    (corrupt, *_) = corrupt_arrays(IMAGES.corrupted("move", region=(2, 2, 8, 8), down=10, right=9))
    expected, mean = ARRAYS[0].copy(), np.rint(ARRAYS[0].reshape(-1, 3).mean(0))
    expected[2:8, 2:8] = mean
    expected[12:18, 11:17] = ARRAYS[0][2:8, 2:8]
    assert np.array_equal(corrupt, expected)
    (corrupt, *_) = corrupt_arrays(IMAGES.corrupted("move", down=-4, right=3))
    expected = np.broadcast_to(mean, ARRAYS[0].shape).copy()
    expected[:-4, 3:] = ARRAYS[0][4:, :-3]
    assert np.array_equal(corrupt, expected)


def test_relabel_takes_an_image_with_another_answer_which_is_then_wrong() -> None:
    pairs = IMAGES.corrupted("relabel")
    for i, array in enumerate(corrupt_arrays(pairs)):
        (j,) = (j for j, other in enumerate(ARRAYS) if np.array_equal(array, other))
        assert pairs.clean.wrong[i] == IMAGES.answer[j] != IMAGES.answer[i]


def test_a_function_of_ones_own_is_a_corruption() -> None:
    def negative(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return 255 - pixels

    pairs = IMAGES.corrupted(negative)
    assert np.array_equal(corrupt_arrays(pairs)[0], 255 - ARRAYS[0]) and pairs.made_by["corruption"] == "negative"


def test_pairs_of_ones_own_images_take_the_corrupt_ones_answers_as_wrong() -> None:
    pairs = IMAGES.of([0, 1]).paired_with(wb.images(ARRAYS[2:], answer=["crab", "newt"]))
    inputs = pairs.inputs(MODEL)
    assert inputs.answer == ((0,), (1,)) and inputs.wrong == ((3,), (4,))


# --- as the model sees them


def test_a_patch_is_a_region_of_images_as_seen_by_the_model() -> None:
    inputs = IMAGES.as_seen_by(MODEL).corrupted("occlude", region="2,3", fill="noise").inputs(MODEL)
    for clean, corrupt in zip(inputs.clean, inputs.corrupt, strict=True):
        assert (clean != corrupt).any(-1).nonzero().flatten().tolist() == [inputs.positions[0]["2,3"]]


def test_answered_by_takes_the_models_likeliest_classes() -> None:
    pairs = IMAGES.corrupted("blur").answered_by(MODEL)
    arrays = [[clean, corrupt] for clean, corrupt in pairs.images()]
    with torch.no_grad():
        logits = [MODEL.hf(**MODEL.processor(images=both, return_tensors="pt")).logits for both in arrays]
    for answer, wrong, (clean, corrupt) in zip(pairs.clean.answer, pairs.clean.wrong, logits, strict=True):
        best = int(clean.argmax())
        corrupt[best] = -torch.inf
        assert (answer, wrong) == ((best,), (int(corrupt.argmax()),))


def test_a_sweep_equals_plain_hooks_on_the_untouched_model() -> None:
    pairs = IMAGES.corrupted("relabel")
    sweep = wb.sweep(MODEL, pairs, direction="denoise", cache=False)
    runs = [MODEL.processor(images=list(images), return_tensors="pt") for images in zip(*pairs.images(), strict=True)]
    d_head, ids = MODEL.d_head, pairs.inputs(MODEL)
    with torch.no_grad():
        for layer in range(MODEL.n_layers):
            project, seen = MODEL.hf.get_submodule(f"vit.layers.{layer}.attention.o_proj"), []
            with edited((project, "input", lambda z, seen=seen: seen.append(z.clone()) or z)):
                MODEL.hf(**runs[0])
            for head in range(MODEL.n_heads):
                part = slice(head * d_head, (head + 1) * d_head)

                def patch(z: torch.Tensor, part: slice = part, clean: torch.Tensor = seen[0]) -> torch.Tensor:
                    z = z.clone()
                    z[..., part] = clean[..., part]
                    return z

                with edited((project, "input", patch)):
                    logits = MODEL.hf(**runs[1]).logits
                expected = [
                    float(row[a] - row[w]) for row, (a,), (w,) in zip(logits, ids.answer, ids.wrong, strict=True)
                ]
                assert np.abs(sweep.values[layer, head] - expected).max() < 1e-4
    assert np.abs(sweep.delta).max() > 0.1


def test_the_position_axis_has_the_names_of_patches() -> None:
    pairs = IMAGES.corrupted("relabel")
    sweep = wb.sweep(MODEL, pairs, site="resid_pre", by="position", positions=["cls", "2,3"], cache=False)
    assert sweep.labels["position"] == ("cls", "2,3")
    every = wb.sweep(MODEL, pairs, site="resid_pre", by="position", layers=1, cache=False)
    assert every.labels["position"][:2] == ("cls", "0,0") and len(every.labels["position"]) == 17
    assert np.allclose(every.values[0][[0, every.labels["position"].index("2,3")]], sweep.values[1], atol=1e-4)


# --- what is refused


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: IMAGES.corrupted("occlud"), r"^corruption='occlud': .*Did you mean 'occlude'"),
        (lambda: IMAGES.corrupted("occlude", fil="black"), r"Unknown setting of occlude 'fil'. Did you mean 'fill'"),
        (lambda: IMAGES.corrupted("occlude", fill="red"), r"^fill='red': expected 'mean', 'black'"),
        (lambda: IMAGES.corrupted("occlude", region=(0, 0, 99, 9)), r"^region=\(0, 0, 99, 9\): .*within 24 × 20"),
        (lambda: IMAGES.corrupted("occlude", region="2,3"), r"^region='2,3': .*as_seen_by\(model\) first"),
        (lambda: IMAGES.as_seen_by(MODEL).corrupted("occlude", region="2,9"), r"^region='2,9': .*'0,0' to '3,3'"),
        (lambda: IMAGES.corrupted("occlude", size=2), r"^size=2: expected a number above 0 and of at most 1"),
        (lambda: IMAGES.corrupted("relabel", size=0.5), r"^size=0.5: expected None, because relabel changes the whole"),
        (lambda: IMAGES.corrupted("move"), r"^down=0: expected pixels to move by"),
        (lambda: wb.images(ARRAYS).corrupted("relabel"), r"^corruption='relabel': it needs images with answers"),
        (
            lambda: IMAGES.of([0, 2]).corrupted("relabel"),
            r"image 0 needs another image of the list with another answer",
        ),
        (lambda: IMAGES.of([0]).corrupted("swap"), r"image 0 needs another image of the list with other pixels"),
        (lambda: wb.images([ARRAYS[0], ARRAYS[1][:9]]).corrupted("swap"), r"^image 0=.*images of one shape"),
        (lambda: IMAGES.corrupted(lambda pixels, rng: pixels), r"^image 0: <lambda> changes no pixel"),
        (lambda: IMAGES.corrupted(lambda pixels, rng: None), r"corruption=<lambda>: returned None"),
        (lambda: IMAGES.paired_with(IMAGES), r"^image 0: clean and corrupt are the same image"),
        (lambda: IMAGES.paired_with(IMAGES.of([0])), r"^corrupt=.*one corrupt image for each clean one"),
        (lambda: wb.sweep(MODEL, IMAGES.corrupted("blur"), cache=False), r"expected pairs with wrong answers"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(WorkbenchError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_a_change_that_the_processor_hides_is_refused() -> None:
    large = wb.images(pictures(1, 512, 512))
    speck = large.corrupted("occlude", region=(0, 0, 1, 1))
    small = small_vit()
    small.processor.resample = Image.Resampling.NEAREST
    with pytest.raises(BadInput, match=r"^image 0: clean and corrupt are the same for this model"):
        speck.inputs(small)


def test_another_kind_of_model_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^task=.*this is a language model, and these are vision inputs"):
        wb.sweep(wb.load("tiny"), IMAGES.corrupted("blur"))


def test_a_sheet_of_some_says_of_how_many() -> None:
    from workbench.inputs.contact_sheet import AT_LEAST, CAPTION, GAP, first_of

    images = wb.images(list(np.arange(10 * 64, dtype=np.uint8).reshape(10, 8, 8)))
    for several in (images, images.corrupted("blur", radius=1)):
        some, every = several.show(8), several.show(10, columns=10)
        assert some.height == every.height + CAPTION
        foot = np.asarray(some)[every.height :]
        assert foot.min() < 100 and (foot[0] == 255).all()  # something is written, and it is not cut off
        assert (foot[-1] == 255).all() and (foot[:, -1] == 255).all()
        np.testing.assert_array_equal(np.asarray(some)[: every.height], np.asarray(every)[:, : some.width])
        lines = np.asarray(several.show(10, columns=4))
        first, last = np.asarray(every)[:, : lines.shape[1]], np.asarray(every)[:, 8 * (AT_LEAST + GAP) :]
        np.testing.assert_array_equal(lines[: every.height], first)
        np.testing.assert_array_equal(lines[-every.height :, : last.shape[1]], last)
        assert len(lines) == 3 * every.height + 2 * GAP
    assert first_of(8, 20, "pairs") == "the first 8 of 20 pairs" and first_of(8, 8, "pairs") == ""
