"""What cannot be used is refused in one line before any work, from Python and from the command line: of images and of
diffusion models."""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import ResNetConfig, ResNetForImageClassification

import workbench as wb
from tests.small_vit import small_vit
from workbench.errors import WorkbenchError
from workbench.registry import ROOT

CHECKPOINTS = ROOT / "data" / "checkpoints"
SAMPLES = ["--label", "3", "--other", "8", "--steps", "3"]


def changed(name: str, to: Path, change: dict[str, Any]) -> Path:
    """A copy of a checkpoint with another ``"config"``, or with tensors of other shapes by name (none for ``()``)."""
    shutil.copytree(CHECKPOINTS / name, to)
    settings = json.loads((to / "config.json").read_text()) | change.get("config", {})
    (to / "config.json").write_text(json.dumps(settings))
    tensors = load_file(to / "model.safetensors")
    for key, shape in change.items():
        if key == "config":
            continue
        if shape:
            tensors[key] = torch.zeros(shape)
        else:
            del tensors[key]
    save_file(tensors, to / "model.safetensors", metadata={"format": "pt"})
    return to


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of images, good and bad."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    Image.fromarray(rng.integers(0, 256, (40, 40), dtype=np.uint8)).save(folder / "good.png")
    Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(folder / "colour.png")
    (folder / "cut.png").write_bytes((folder / "good.png").read_bytes()[:300])
    (folder / "text.png").write_text("no image")
    return folder


BIAS = "vit.embeddings.patch_embeddings.projection.bias"
OF_SHAPES: list[tuple[str, dict[str, Any], str]] = [
    ("digits-vit", {BIAS: (65,)}, f"the weights have {BIAS} [65], and the configuration says [64]."),
    ("digits-vit", {BIAS: ()}, f"the weights have {BIAS} none, and the configuration says [64]."),
    ("digits-vit", {"config": {"hidden_size": 128}}, "cls_token [1, 1, 64], and the configuration says [1, 1, 128]."),
    ("digits-vit", {"config": {"image_size": 16}}, "position_embeddings [1, 17, 64], and the configuration says [1,"),
    ("digits-vit", {"config": {"num_hidden_layers": 7}}, "vit.layers.4.attention.q_proj.weight none, and the"),
    ("digits-vit", {"config": {"num_hidden_layers": 2}}, "vit.layers.2.attention.k_proj.bias, and the"),
    ("digits-dit", {"label_embed.weight": (9, 64)}, "label_embed.weight [9, 64], and the configuration says [11, 64]."),
    ("digits-dit", {"patch_embed.weight": ()}, "patch_embed.weight none, and the configuration says [64, 4]."),
    ("digits-dit", {"config": {"patch_size": 4}}, "patch_embed.weight [64, 4], and the configuration says [64, 16]."),
    ("tiny", {"config": {"num_hidden_layers": 1}}, "model.layers.1.input_layernorm.weight, and the"),
    ("tiny", {"config": {"num_attention_heads": 3}}, "is not a valid llama configuration: Class validation error"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "message"), OF_SHAPES)
def test_a_checkpoint_of_another_shape(
    name: str, change: dict[str, Any], message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = changed(name, tmp_path / "model", change)
    with pytest.raises(WorkbenchError) as error:
        wb.load(str(folder))
    assert message in str(error.value) and "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")  # transformers prints nothing of its own


def test_a_tensor_that_the_model_does_not_have_is_named(tmp_path: Path) -> None:
    folder = changed("tiny", tmp_path / "model", {"of.another.model": (3,)})
    with pytest.warns(UserWarning, match=r"of\.another\.model, which the model does not have: it is not used"):
        model: Any = wb.load(str(folder))
    inputs: Any = model.trial()
    assert torch.equal(model.outputs(inputs), wb.load("tiny").outputs(inputs))


OF_ARRAYS: list[tuple[Callable[[], Any], str]] = [
    (lambda: wb.images([np.zeros((8, 8, 2), np.uint8)]), "with 1 or 3 channels"),
    (lambda: wb.images([np.zeros((0, 8), np.uint8)]), "shape (0, 8)>: expected [row, column]"),
    (lambda: wb.images([np.full((8, 8), 200.0)]), "because these are from 200 to 200"),
    (lambda: wb.images([np.full((8, 8), -0.5)]), "because these are from -0.5 to -0.5"),
    (lambda: wb.images([np.full((8, 8), np.nan)]), "because 64 of 64 are NaN or infinite"),
    (lambda: wb.images([np.zeros((8, 8), np.int16)]), "because these are of int16"),
    (lambda: wb.Edit("z", 0, kind="ablate"), "Use 'zero' or 'mean'."),
    (lambda: wb.record(vit(), wb.images([np.zeros((8, 8), np.uint8)], answer=[10]), ["z"]), "there are 10 classes."),
    (lambda: wb.run(vit(), wb.images([np.zeros((8, 8), np.uint8)]), [wb.Edit("z", 0, position="9,9", kind="zero")]),
     "Patches are named by row and column from 0."),
    (lambda: vit()(torch.zeros(1, 1, 9, 9)), "of 8 × 8 pixels, because these have 9 × 9 pixels"),
    (lambda: vit()(torch.zeros(1, 3, 8, 8)), "because these have 3 channels"),
    (lambda: vit()(torch.full((1, 1, 8, 8), torch.nan)), "expected finite numbers"),
    (lambda: wb.record(vit(), wb.images([np.zeros((8, 8, 3), np.uint8)]), ["z"]), "3 channels, and the model takes 1"),
    (lambda: wb.images([np.zeros((8, 8), np.uint8)], answer=["nine"]).corrupted("occlude", fill="white").inputs(vit()),
     "answer='nine': expected a class of this model"),
    (lambda: wb.record(dit(), wb.latents(10), ["z"]), "classes=10: expected a class from 0 to 9"),
    (lambda: wb.record(dit(), wb.latents(3, other="x"), ["z"]), "other='x': expected a class of this model"),
    (lambda: wb.sweep(dit(), wb.latents(3, other=8), metric="contrast", steps=3), "steps=3: expected a step from 0"),
    (lambda: wb.run(dit(), wb.latents(3, other=8), [wb.Edit("z", 0, step=3)]), "edits[0].step=3: expected a step from"),
    (lambda: wb.record(dit(), wb.latents(3), ["z"], steps=[3]), "steps=[3]: expected steps from 0 to 2"),
    (lambda: dit().run_with_hooks(dit().trial(), fwd_hooks=[("blocks.0.attn.hook_z@3", lambda z, hook: z)]),
     "name='blocks.0.attn.hook_z@3': expected a step from 0 to 2"),
    (lambda: dit().resampled(readout="velocity@3"), "readout='velocity@3': expected a step from 0 to 2"),
    (lambda: dit().resampled(readout="velocity@2").resampled(steps=2), "steps=2: expected more than 2"),
    (lambda: dit().resampled(readout=wb.load("mnist-vit")), "readout=mnist-vit: does not take images of"),
    (lambda: wb.HookedViT(no_transformer()), "expected a Hugging Face vision transformer"),
    (lambda: wb.HookedDiT(no_transformer()), "expected a DiT, or diffusers' DiTTransformer2DModel"),
    (lambda: wb.HookedDiffusers(no_transformer()), "not among the models that are hooked in place"),
    (lambda: wb.HookedViT(with_nan()), "failed the load-time self-check: its weights hold NaN, in "
     "vit.layers.0.mlp.fc1.weight (1 of "),
    (lambda: wb.HookedDiT(dit_with_nan()), "self-check: its weights hold NaN, in blocks.1.attn.o_proj.weight (2 of "),
    (lambda: wb.HookedLM(lm_with_nan()), "its weights hold NaN, in model.layers.1.mlp.up_proj.weight (1 of "),
    (lambda: dit().resampled(guidance=float("nan")), "guidance=nan: expected a finite number or None"),
    (lambda: wb.HookedViT(resnet()), "(model_type 'resnet') is of no family that HookedViT knows"),
]  # fmt: skip


def no_transformer() -> Any:
    return nn.Linear(3, 3)


def with_nan() -> Any:
    hf = small_vit().hf
    hf.vit.layers[0].mlp.fc1.weight.data[0, 0] = torch.nan
    return hf


def dit_with_nan() -> Any:
    hf = copy.deepcopy(dit().hf)
    hf.blocks[1].attn.o_proj.weight.data[:2, 0] = torch.nan
    return hf


def lm_with_nan() -> Any:
    hf = copy.deepcopy(wb.load("tiny").hf)
    hf.model.layers[1].mlp.up_proj.weight.data[3, 0] = torch.nan
    return hf


def vit() -> Any:
    return wb.load("digits-vit")


def dit() -> Any:
    model: Any = wb.load("digits-dit")
    return model.resampled(steps=3)


def resnet() -> Any:
    sizes = {"embedding_size": 8, "hidden_sizes": [8] * 4, "depths": [1] * 4}
    return ResNetForImageClassification(ResNetConfig(**sizes)).eval()


@pytest.mark.parametrize(("call", "message"), OF_ARRAYS)
def test_from_python(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(WorkbenchError) as error:
        call()
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--model", "{bad vit}", "--images", "{images}/good.png", "--edit", "zero"], 3, f"{BIAS} [65], and the conf"),
        (["--model", "{bad dit}", *SAMPLES], 3, "label_embed.weight [9, 64], and the configuration says [11, 64]"),
        (["--model", "{resnet}", "--images", "{images}/good.png", "--edit", "zero"], 2, "expected a vision model"),
        (["--model", "{diffusers}", *SAMPLES], 2, "expected a diffusion model"),
        (["--model", "digits-vit", "--images", "{images}/cut.png", "--edit", "zero"], 3, "cut.png: the file is"),
        (["--model", "digits-vit", "--images", "{images}/text.png", "--edit", "zero"], 3, "text.png: not an image"),
        (["--model", "digits-vit", "--images", "{images}/none.png", "--edit", "zero"], 3, "none.png: no such file"),
        (["--model", "digits-vit", "--images", "{images}/colour.png", "--edit", "zero"], 3, "the model takes 1"),
        (["--model", "digits-vit", "--images", "{images}/good.png", "--edit", "zero", "--answer", "nine"], 2,
         "answer='nine'"),
        (["--model", "digits-dit", "--label", "10", "--other", "8"], 2, "--label 10: expected a class from 0 to 9"),
        (["--model", "digits-dit", *SAMPLES, "--at-steps", "3"], 2, "step 3 is beyond the 3 steps"),
    ],
)  # fmt: skip
def test_from_the_command_line(
    words: list[str], code: int, message: str, run: Any, images: Path, tmp_path: Path
) -> None:
    places: dict[str, Any] = {"images": images}
    if "{bad vit}" in words:
        places["bad vit"] = changed("digits-vit", tmp_path / "vit", {BIAS: (65,)})
    if "{bad dit}" in words:
        places["bad dit"] = changed("digits-dit", tmp_path / "dit", {"label_embed.weight": (9, 64)})
    if "{resnet}" in words:
        places["resnet"] = tmp_path / "resnet"
        resnet().save_pretrained(places["resnet"])
    if "{diffusers}" in words:
        places["diffusers"] = tmp_path / "diffusers"
        places["diffusers"].mkdir()
        (places["diffusers"] / "config.json").write_text('{"_class_name": "DiTTransformer2DModel"}')
    words = [re.sub(r"\{(.+?)\}", lambda match: str(places[match.group(1)]), word) for word in words]
    actual, out, err = run("patch", *words, "--no-cache")
    (line,) = [line for line in err.splitlines() if line.startswith("workbench: ")]
    assert actual == code and message in line and out == "", line


def test_a_folder_of_diffusers_says_how_to_load_it(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"_class_name": "DiTTransformer2DModel", "_diffusers_version": "0.42.1"}')
    with pytest.raises(WorkbenchError, match=r"Load it with diffusers' DiTTransformer2DModel, and hook that"):
        wb.load(str(tmp_path))
