"""``workbench patch`` and ``workbench record`` on the samples of a diffusion model."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import workbench as wb
from workbench.cli.latent_options import latent_request
from workbench.patching.estimate import count_cached
from workbench.registry import ROOT

loaded_model: Any = functools.cache(wb.load)
SAMPLED = ["--label", "3", "--other", "8", "--samples", "3", "--steps", "4"]


@pytest.fixture(autouse=True)
def load(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Models are loaded once; the names that were asked for."""
    names: list[str] = []

    def load(name: str, operators: Any = None, progress: Any = None) -> Any:
        names.append(name)
        return loaded_model(Path(name).name)

    monkeypatch.setattr("workbench.load", load)
    return names


def patched(run: Any, *words: str) -> dict[str, Any]:
    code, out, err = run("patch", "--model", "digits-dit", "--no-cache", "--json", *words)
    assert code == 0, err
    return json.loads(out)


def mean_deltas(document: dict[str, Any]) -> np.ndarray:
    return np.array([cell["mean_delta"] for cell in document["cells"]])


def test_a_sweep_over_steps_equals_that_of_the_library(run: Any) -> None:
    words = ["--seed", "5", "--guidance", "2", "--by", "step,head", "--metric", "contrast"]
    document = patched(run, *SAMPLED, *words)
    model = loaded_model("digits-dit").resampled(steps=4, guidance=2.0)
    sweep = wb.sweep(model, wb.latents(3, other=8, n=3, seed=5), by=["step", "head"], metric="contrast", cache=False)
    assert document["axes"] == ["step", "layer", "head"] and sweep.mean_delta.size == 4 * 6 * 4
    np.testing.assert_allclose(mean_deltas(document), sweep.mean_delta.ravel(), atol=1e-6)
    info = document["info"]
    assert (info["sampler"], info["sampler_steps"], info["guidance"], info["readout"]) == ("euler", 4, 2.0, "pixels")
    assert info["inputs"]["examples"][2] == {"clean": {"class": "3", "seed": 7}, "corrupt": {"class": "8", "seed": 7}}


def test_the_metric_by_default_is_that_of_the_library(run: Any) -> None:
    document, model = patched(run, *SAMPLED), loaded_model("digits-dit").resampled(steps=4)
    pairs = wb.latents(3, other=8, n=3, seed=0)
    default = wb.sweep(model, pairs, cache=False)
    named = wb.sweep(model, pairs, metric="image_distance", cache=False)
    assert default.info["metric"] == document["info"]["metric"] == "image_distance"
    np.testing.assert_array_equal(default.values, named.values)
    np.testing.assert_allclose(mean_deltas(document), default.mean_delta.ravel(), atol=1e-6)


def test_a_classifier_reads_the_samples(run: Any) -> None:
    document = patched(run, *SAMPLED, "--readout", "digits-vit")
    assert document["info"]["metric"] == "logit_difference" and document["info"]["readout"] == "digits-vit"
    clean, corrupt = document["source"], document["base"]
    assert min(clean) > 0 > max(corrupt)  # threes and eights are told apart
    assert document["task_check"]["status"] == "done" and "clean samples" in document["task_check"]["reason"]
    alone = patched(run, "--label", "3", "--samples", "2", "--steps", "4", "--edit", "zero", "--readout", "digits-vit")
    assert alone["info"]["metric"] == "answer_probability" and min(alone["base"]) > 0.5
    none = patched(
        run, "--label", "none", "--samples", "2", "--steps", "2", "--edit", "zero", "--readout", "digits-vit"
    )
    assert none["info"]["metric"] == "kl_divergence" and none["info"]["inputs"]["examples"][0]["clean"]["class"] is None


def test_a_prediction_is_read_and_steps_are_edited(run: Any) -> None:
    words = ["--readout", "velocity@2", "--at-steps", "1-2", "--by", "step,head"]
    document = patched(run, *SAMPLED, *words)
    model = loaded_model("digits-dit").resampled(steps=4, readout="velocity@2")
    velocities = [model.outputs(rows) for rows in _inputs(model)]
    expected = (velocities[0] - velocities[1]).square().mean(1).sqrt()  # the corrupt velocity from the clean one
    assert document["info"]["metric"] == "image_distance" and document["labels"]["step"] == ["1", "2"]
    np.testing.assert_allclose(document["base"], expected.detach(), rtol=1e-5)
    np.testing.assert_allclose(document["source"], 0, atol=1e-6)


def _inputs(model: Any) -> Any:
    import torch

    inputs = model.prepare(wb.latents(3, other=8, n=3))
    return torch.stack(inputs.clean), torch.stack(inputs.corrupt)


def test_a_video_is_measured_by_its_distance(run: Any) -> None:
    code, out, _ = run(
        "patch", "--model", "moving-digits-dit", "--label", "3", "--other", "5", "--samples", "2", "--steps", "2",
        "--by", "layer", "--no-cache",
    )  # fmt: skip
    assert code == 0 and "class 3, other class 5, seed 0 to 1: patch z" in out
    assert "n = 2: an interval from so few samples" in out


def test_other_noise_labels_in_turn_and_positions(run: Any) -> None:
    document = patched(
        run, "--label", "3", "--label", "none", "--other-seed", "40", "--samples", "3", "--steps", "2",
        "--guidance", "2", "--by", "position", "--site", "resid_pre", "--positions", "2,3;none 2,3",
        "--metric", "contrast",
    )  # fmt: skip
    runs = document["info"]["inputs"]["examples"]
    assert [run["clean"] for run in runs] == [
        {"class": "3", "seed": 0}, {"class": None, "seed": 1}, {"class": "3", "seed": 2}
    ]  # fmt: skip
    assert [run["corrupt"]["seed"] for run in runs] == [40, 41, 42]
    assert document["labels"]["position"] == ["2,3", "none 2,3"]


def test_a_run_directory_is_listed_and_says_what_was_sampled(run: Any, tmp_path: Path) -> None:
    words = [*SAMPLED, "--by", "layer", "--out", str(tmp_path / "runs"), "--model", "digits-dit", "--no-cache"]
    assert run("patch", *words)[0] == 0
    (folder,) = (tmp_path / "runs").iterdir()
    code, out, _ = run("runs", "list", "--dir", str(tmp_path / "runs"), "--json")
    (listed,) = [row for row in json.loads(out)["runs"] if row["id"] == folder.name]
    assert code == 0 and listed["model"] == "digits-dit" and listed["n"] == 3
    sweep = wb.Sweep.load(folder / "sweep.safetensors")
    assert sweep.info["sampler_steps"] == 4 and sweep.info["inputs"]["examples"][0]["corrupt"]["class"] == "8"
    code, out, _ = run("runs", "show", str(folder))
    assert code == 0 and "class 3, other class 8, seed 0 to 2: patch z" in out


def test_the_answer_is_kept_until_something_changes(
    run: Any, load: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from workbench.cli import stored_answer

    files: dict[str, list[str]] = {}
    monkeypatch.setenv("WORKBENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("WORKBENCH_CACHE", "on")
    monkeypatch.setattr(stored_answer, "files_and_code", lambda name: [files.get(name, []), "code"])
    command = ["patch", "--model", "digits-dit", *SAMPLED, "--by", "layer", "--json"]
    first, again = (json.loads(run(*command)[1]) for _ in range(2))
    assert load == ["digits-dit"] and again == first
    judged = [*command, "--readout", "digits-vit"]
    run(*judged)
    run(*judged)
    assert load[1:] == ["digits-dit", "digits-vit"]
    files["digits-vit"] = ["another classifier"]
    run(*judged)
    assert len(load) == 5
    for changed in (["--guidance", "2"], ["--other-seed", "9"], ["--seed", "1"], ["--at-steps", "0"]):
        run(*command, *changed)
    run(*[{"4": "3"}.get(word, word) for word in command])  # steps
    assert len(load) == 10


def test_names_of_classes_come_before_indices_and_what_names_two_is_refused() -> None:
    config = type("Config", (), {"id2label": {0: "1", 1: "owl", 2: "none", 3: "7"}, "n_classes": 4})
    model: Any = type("Model", (), {"hf": type("DiT", (), {"config": config})})

    def classes(*labels: str) -> Any:
        return latent_request(labels).latents(model).classes[: len(labels)]

    assert classes("owl", "0", "2", "7") == (1, 0, 2, 3)
    for text, message in (("1", "class 1 by index"), ("none", "no class")):
        with pytest.raises(wb.errors.UsageError, match=f"--label {text}: class . has this name, and .* {message} too"):
            classes(text)


def test_record_fills_the_cache_with_what_the_library_reads(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("WORKBENCH_CACHE", "on")
    command = ["record", "--model", "digits-dit", *SAMPLED, "--guidance", "2", "--sites", "z,pattern", "--json"]
    code, out, _ = run(*command, "--at-steps", "1-2", "--dry-run")
    assert code == 0 and json.loads(out)["in_cache"] == 0
    code, out, _ = run(*command, "--at-steps", "1-2")
    document = json.loads(out)
    assert code == 0 and document["recorded"] and document["in_cache"] == document["estimate"]["runs"] == 6
    model, samples = loaded_model("digits-dit").resampled(steps=4, guidance=2.0), wb.latents(3, other=8, n=3)
    assert count_cached(model, samples, ["z", "pattern"], steps=[1, 2]) == 6
    assert count_cached(model, samples, ["z"], steps=[0]) == count_cached(model.resampled(steps=5), samples, ["z"]) == 0
    code, _, err = run(*command[:-1], "--at-steps", "4")
    assert code == 2 and "step 4 is beyond the 4 steps" in err
    code, _, err = run("record", "--model", "digits-vit", *SAMPLED)
    assert code == 2 and "expected a diffusion model. This is a vision model. Give --images PATH" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--label", "3"], "Give --other CLASS or --other-seed S, or another --edit"),
        (["--label", "3", "--other", "3"], "--other 3: expected another class than that of --label"),
        (["--label", "3", "--other-seed", "0"], "--other-seed 0: expected another seed than --seed"),
        (["--label", "13", "--other", "8"], "--label 13: expected a class from 0 to 9"),
        (["--label", "three", "--other", "8"], "label='three': expected a class of this model. Its classes: 0, 1, 2,"),
        (["--label", "3", "--other", "eight"], "other='eight': expected a class of this model"),
        (["--label", "3", "--other", "8", "--other", "7"], "--other: 2 classes for 1 labels"),
        (["--label", "3", "--label", "4", "--other", "8", "--samples", "1"], "--samples 1: expected at least one for"),
        ([*SAMPLED, "--edit", "ablate"], "Use 'zero' or 'mean'"),
        ([*SAMPLED, "--guidance", "2", "--positions", "with class"], "one of with the class, without the class, 0,0"),
        ([*SAMPLED, "--positions", "without the class"], "because without guidance there is one pass only"),
        ([*SAMPLED, "--steps", "0"], "--steps 0: expected 1 to 1000"),
        ([*SAMPLED, "--steps", "1001"], "--steps 1001: expected 1 to 1000"),
        ([*SAMPLED, "--at-steps", "4"], "--at-steps: step 4 is beyond the 4 steps"),
        ([*SAMPLED, "--at-steps", "x"], "--at-steps x: 'x' is neither a step nor a range"),
        ([*SAMPLED, "--readout", "velocity@1", "--at-steps", "2"], "step 2 is beyond the 2 steps"),
        ([*SAMPLED, "--readout", "velocity@4"], "readout='velocity@4': expected a step from 0 to 3"),
        ([*SAMPLED, "--readout", "noise@1"], "the model predicts velocity"),
        ([*SAMPLED, "--readout", "velocity"], "A prediction, such as velocity@3, works too"),
        ([*SAMPLED, "--readout", "tiny"], "--readout tiny: expected a vision model. This is a language model"),
        ([*SAMPLED, "--readout", "mnist-vit"], "of 28 × 28 pixels, because these have 8 × 8 pixels"),
        ([*SAMPLED, "--sampler", "ddim"], "the model predicts velocity, and ddim needs noise"),
        ([*SAMPLED, "--sampler", "ddpm"], "Unknown sampler 'ddpm'"),
        ([*SAMPLED, "--guidance", "nan"], "--guidance nan: expected a finite number"),
        ([*SAMPLED, "--metric", "logit_difference"], "expected a metric that reads pixels"),
        ([*SAMPLED, "--readout", "digits-vit", "--metric", "contrast"], "expected a metric that reads logits"),
        (["--label", "3", "--other", "none", "--readout", "digits-vit", "--metric", "logit_difference"],
         "Give another class as other to wb.latents"),
        (["--label", "none", "--other", "3", "--readout", "digits-vit", "--metric", "answer_probability"],
         "Give classes to wb.latents"),
        ([*SAMPLED, "--task", "ioi"], "--task is for prompts, and these are samples"),
        ([*SAMPLED, "--n", "4"], "--n is for prompts, and these are samples"),
        ([*SAMPLED, "--corrupt", "blur"], "--corrupt is only for --images"),
        ([*SAMPLED, "--images", "x.png"], "--label is for samples, and --images for images"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(words: list[str], message: str, run: Any) -> None:
    code, _, err = run("patch", "--model", "digits-dit", "--no-cache", *words)
    (line,) = [line for line in err.splitlines() if line.startswith("workbench: ")]
    assert code == 2 and message in line, line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["patch", "--model", "digits-dit"], "Give --label CLASS for samples"),
        (["patch", "--model", "digits-dit", "--task", "ioi"], "This is a diffusion model"),
        (["patch", "--model", "digits-dit", "--images", "x.png"], "expected a vision model. This is a diffusion model"),
        (["patch", "--model", "digits-vit", *SAMPLED], "This is a vision model. Give --images PATH"),
        (["patch", "--model", "tiny", *SAMPLED], "This is a language model. Give --task NAME"),
        (["patch", "--model", "data/checkpoints/digits-vit", *SAMPLED], "expected a diffusion model. This is a vision"),
        (["patch", "--model", "data/checkpoints/digits-dit", "--task", "ioi"], "This is a diffusion model"),
        (["patch", "--model", "tiny", "--task", "ioi", "--by", "step"], "--by step is only for samples"),
        *[
            (["patch", "--model", "tiny", "--task", "ioi", option, value], f"{option} is only for samples of a")
            for option, value in (
                ("--other", "8"), ("--samples", "2"), ("--other-seed", "0"), ("--steps", "3"), ("--guidance", "0"),
                ("--sampler", "euler"), ("--readout", "digits-vit"), ("--at-steps", "0"),
            )
        ],
        (["scores", "--model", "digits-dit"], "because heads are scored on texts and on images"),
        (["record", "--model", "digits-dit", "--task", "ioi"], "This is a diffusion model"),
        (["reproduce", "ioi-circuit", "--model", "digits-dit"], "because findings ask about texts"),
    ],
)  # fmt: skip
def test_options_of_another_modality_are_refused_before_a_model_is_loaded(
    words: list[str], message: str, run: Any, load: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    code, _, err = run(*words)
    (line,) = [line for line in err.splitlines() if line.startswith("workbench: ")]
    assert code == 2 and re.search(re.escape(message), line), line
    assert load == []


def test_the_steps_that_are_edited_are_printed(run: Any) -> None:
    words = ["patch", "--model", "digits-dit", "--no-cache", *SAMPLED, "--by", "layer"]
    printed = [run(*words, *at)[1] for at in ([], ["--at-steps", "0"], ["--at-steps", "1,3"])]
    ways = ("in all 4 steps at once", "in step 0", "in steps 1, 3 at once")
    for out, way in zip(printed, ways, strict=True):
        assert f"Edited {way}." in " ".join(out.split())
    by_step = run(*words[:-2], "--by", "step,layer")[1]
    assert "Edited" not in by_step and "in step 3" in by_step  # the cells say it
