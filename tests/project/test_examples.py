"""Every script of ``examples`` runs as it is and leaves what it says."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

import workbench as wb
from workbench.registry import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
#: The model of a script, where it is not the default one.
MODELS = {"patch_images": "digits-vit", "image_heads": "shapes-vit", "patch_samples": "digits-dit"}
#: What a script writes.
FILES = {
    "first_steps": ["heads.png", "ioi.safetensors"],
    "find_circuit": ["ioi.circuit.json"],
    "own_prompts": ["heads.png"],
    "patch_images": ["heads.png", "pairs.png"],
    "image_heads": ["head.png"],
    "patch_samples": ["heads.png"],
}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_it_runs(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    results = runpy.run_path(str(example))
    if example.stem == "edit_pipeline":
        assert results["model"].hf is results["transformer"]
    else:
        assert results["model"].provenance["name"] == MODELS.get(example.stem, "smollm2-135m-instruct-q4")
    output = capsys.readouterr().out
    assert output.count("\n") >= 5
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES.get(example.stem, []))
    assert all(path.stat().st_size > 2_000 for path in tmp_path.glob("*.png"))
    if example.stem == "own_prompts":
        assert "effect" in output
    if example.stem == "patch_images":
        assert results["sweep"].n == 40 and results["sweep"].effect.max() > 0.1
        first = results["where"].mean_delta[0]
        assert abs(first[1]) > 0.1 > abs(first[0])  # the covered patch alone differs before layer 0
    if example.stem == "image_heads":
        low = results["mean"] - 1.96 * results["error"]
        assert (low > 0).any() and results["mean"].shape == (4, 4)  # some heads look at shapes more than their area
    if example.stem == "patch_samples":
        late, clean, corrupt = (results[name] for name in ("late", "clean", "corrupt"))
        assert clean > 5 and corrupt < -5  # the classifier sees a 3, and an 8
        assert late[0] > late[5] > 0  # the more steps are patched the more of the 8 there is
        assert results["sweep"].axes == ("step", "layer", "head")
    if example.stem == "edit_pipeline":
        changes = results["changes"]
        assert len(changes) == 6 and min(changes.values()) > 0 and "the same image: True" in output
        assert output.rstrip().endswith("the same image as before: True")
    if example.stem == "find_circuit":
        assert wb.Circuit.load("ioi.circuit.json").head_set == results["circuit"].head_set
        left = dict(zip(results["left"].labels["set"], results["left"].values.mean(1), strict=True))
        assert left["only the circuit"] > 2 > max(left["all but the circuit"], left["no head"])
    if example.stem == "swapped_operators":
        difference = results["table"].set_index("swap")["logit difference"].astype(float)
        assert difference["none"] > difference["sliding-window(window=8) in 0-9"] > difference["lightning in 0-9"]
        assert len(difference) == 7 and wb.Head(23, 3) in results["movers"]
    if example.stem == "repair_task":
        negative, _, right, others = results["sweep"].mean_delta
        assert results["sweep"].n == 40 and negative > max(0, right, others)
