"""Valid calls of what takes a diffusion model or samples, and the odd values that they take."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch

import workbench as wb
from tests.conformance.arguments.odd_values import MAPPINGS, TEXTS
from tests.oracle.plain_sampling import random_dit


@cache
def diffusion_model() -> Any:
    return wb.HookedDiT(random_dit(), steps=2)


@cache
def diffusers_model() -> Any:
    from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel

    sizes: dict[str, Any] = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2, "sample_size": 8}
    return DiTTransformer2DModel(**sizes, patch_size=2, in_channels=1, num_embeds_ada_norm=10).eval()


def one_step(generator: Any) -> Any:
    """A pipeline of one step."""
    import torch

    noise = torch.randn(1, 1, 8, 8, generator=generator)
    return diffusers_model()(noise, timestep=torch.tensor([999]), class_labels=torch.tensor([3])).sample


@cache
def pixart() -> wb.HookedDiffusers:
    """Whose image attends to a text of three tokens."""
    from diffusers.models.transformers.pixart_transformer_2d import PixArtTransformer2DModel

    sizes: dict[str, Any] = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 1, "sample_size": 4}
    width: dict[str, Any] = {"in_channels": 2, "cross_attention_dim": 16, "caption_channels": 6}
    return wb.HookedDiffusers(PixArtTransformer2DModel(**sizes, **width, use_additional_conditions=False).eval())


def joint_recording() -> dict[str, Any]:
    """What `words_on_image` needs."""
    inputs = {"timestep": torch.tensor([5]), "encoder_hidden_states": torch.ones(1, 3, 6)}
    inputs |= {"hidden_states": torch.ones(1, 2, 4, 4), "added_cond_kwargs": {"resolution": None, "aspect_ratio": None}}
    name = "blocks.0.cross_attn.hook_pattern"
    _, recorded = pixart().run_with_cache(**inputs, names_filter=name)
    return {"model": pixart(), "recorded": recorded, "name": f"{name}@0", "words": ["a", "black", "dog"]}


@cache
def fast_tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    own = Tokenizer(models.WordLevel({"<unk>": 0, "dog": 1}, unk_token="<unk>"))
    own.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=own, unk_token="<unk>")


#: What a parameter of one call takes besides.
TAKES: dict[str, set[str]] = {
    "HookedDiT.check": {"True"},
    "HookedDiT.guidance": {"-1", "0", "0.5", "huge", "None"},
    "HookedDiT.processor": {"None"},
    "HookedDiT.provenance": {"None", *MAPPINGS},
    "HookedDiT.readout": {"None"},
    "HookedDiT.sampler": {"None"},
    "HookedDiT.steps": {"None"},
    "latents.classes": {"0", "huge", *TEXTS, "None", "[None]", "[0, 0]", "[word]"},
    "latents.n": {"None"},
    "latents.other": {"0", "huge", *TEXTS, "None", "[None]", "[word]"},
    "latents.other_seed": {"0", "huge", "None"},
    "sweep_pipeline.seeds": {"0"},
    "sweep_pipeline.source": {"None"},
    "Trajectory.picture.other": {"None"},
    "Trajectory.picture.sample": {"0"},
    "Trajectory.pixels.sample": {"0"},
    "Trajectory.pixels.step": {"0"},
    "Trajectory.table.other": {"None"},
    "WordMaps.of.head": {"None"},
    "WordMaps.picture.head": {"None"},
    "WordMaps.picture.pixels": {"None"},
    "attention_on_sample.over_steps": {"None"},
    "attention_on_sample.step": {"0"},
    "word_positions.prompt": TEXTS,
    "word_positions.start": {"0", "huge"},
    "words_on_image.grid": {"None"},
    "words_on_image.row": {"0"},
    "words_on_image.words": {"{word: 1}"},
}

#: An object of each class, whose methods are called.
INSTANCES: dict[str, Callable[[], Any]] = {
    "HookedDiT": diffusion_model,
    "HookedDiffusers": lambda: wb.HookedDiffusers(diffusers_model()),
    "Trajectory": lambda: wb.trajectory(diffusion_model(), wb.latents(3)),
    "WordMaps": lambda: wb.words_on_image(**joint_recording()),
}

#: Call, or call and the parameter that varies → further arguments with which it runs.
VALID_IN: dict[str, Callable[[], dict[str, Any]]] = {
    "HookedDiT": lambda: {"hf": diffusion_model().hf},
    "HookedDiffusers": lambda: {"model": diffusers_model()},
    "HookedDiffusers.hook_name": lambda: {"site": "z"},
    "HookedDiffusers.has_heads": lambda: {"name": "blocks.0.attn.hook_z"},
    "HookedDiffusers.reads_sources": lambda: {"name": "blocks.0.attn.hook_z"},
    "HookedDiT.hook_name": lambda: {"site": "z"},
    "HookedDiT.forward": lambda: {"input": diffusion_model().trial()},
    "HookedDiT.images": lambda: {"inputs": wb.latents(1)},
    "latents": lambda: {"classes": 1},
    "sweep_pipeline": lambda: {"model": wb.HookedDiffusers(diffusers_model()), "run": one_step, "edit": "zero"},
    "sweep_pipeline.factor": lambda: {"edit": "scale"},
    "sweep_pipeline.vector": lambda: {"edit": "add"},
    "sweep_pipeline.u": lambda: {"edit": "identity", "site": "pattern"},
    "trajectory": lambda: {
        "model": diffusion_model(),
        "inputs": wb.latents([3, 1]),
        "edits": [wb.Edit("z", 0, kind="mean")],
    },
    "attention_on_sample": lambda: {"model": diffusion_model(), "latents": wb.latents(3), "step": 1},
    "Trajectory.distances": lambda: {"other": INSTANCES["Trajectory"]()},
    "Trajectory.pixels": lambda: {"sample": 0, "step": 1},
    "WordMaps.of": lambda: {"word": "dog"},
    "words_on_image": joint_recording,
    "word_positions": lambda: {"tokenizer": fast_tokenizer(), "prompt": "a dog"},
}
