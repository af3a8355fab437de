"""Every public function and method refuses an odd argument by its name, with what was expected and what to do.

The names come from the stub, so that a new one is tested the moment it exists: each of its parameters gets every odd
value in turn, the others a valid one. The call has to raise one of our errors that names the argument as it is typed
(``layers=[0, 0]: …``), or the value has to be among those that the parameter takes (`TAKES`).
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import random
import re
import tempfile
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure as Picture
from plotly.graph_objects import Figure

import workbench as wb
from tests.oracle.plain_sampling import random_dit
from tests.small_vit import pictures, small_vit
from workbench.errors import BadInput, HookError, WorkbenchError
from workbench.models.resumable import NotFinite
from workbench.registry import ROOT
from workbench.runs.directory import RunDirectory


class Odd:
    """An object that is nothing in particular."""

    def __init__(self, *_: object, **__: object) -> None:
        pass


def returns_none(*_: object, **__: object) -> None:
    """A function that does nothing."""


#: Values that make no sense for nearly every parameter.
ODD: dict[str, Any] = {
    "True": True,
    "-1": -1,
    "0": 0,
    "0.5": 0.5,
    "huge": 10**30,
    "nan": float("nan"),
    "inf": float("inf"),
    "''": "",
    "word": "nonsense",
    "NUL": "a\0b",
    "bytes": b"z",
    "None": None,
    "[]": [],
    "[[0]]": [[0]],
    "[None]": [None],
    "[True]": [True],
    "[0, 0]": [0, 0],
    "[word]": ["nonsense"],
    "{}": {},
    "{word: 1}": {"nonsense": 1},
    "{0: None}": {0: None},
    "object": Odd(),
    "function": returns_none,
    "class": Odd,
    "array": np.zeros((2, 3)),
}
TEXTS = {"word", "NUL"}
ANY_TEXT = {"''", *TEXTS}
MAPPINGS = {"{}", "{word: 1}", "{0: None}"}
FUNCTIONS = {"function", "class"}
ONE_TEXT = {*TEXTS, "[word]"}
#: What a parameter of this name takes of the odd values, wherever it stands.
TAKES_EVERYWHERE: dict[str, set[str]] = {
    "cache": {"None", "word"},  # a folder
    "progress": {"None", *FUNCTIONS},
    "mean_over": {"None", *ONE_TEXT},  # a list of texts is inputs
    "tokenizer": {"None"},
    "layers": {"None", "0"},
    "heads": {"None", "0"},
    "positions": {"None"},
    "seed": {"0", "huge"},
    "path": {"word"},
    "max_length": {"huge", "None"},
    "edits": {"[]"},
    "direction": {"None"},
    "memory_gb": {"0.5", "huge"},
    "quantity": {"None"},
    "where": {"None"},
    "layer": {"0"},
    "head": {"0"},
    "k": {"huge"},
    "percent": {"0.5"},
    "steps": {"None", "0"},
    "factor": {"-1", "0", "0.5", "huge"},
    "u": {"0", "0.5"},
}
#: Methods of `ImageAttention`.
AT_A_POSITION = ("index", "patches", "picture", "table", "title", "weights")
#: What a parameter of one call takes of them besides.
TAKES: dict[str, set[str]] = {
    "Attention.html.position": {"-1", "0"},
    "Attention.table.dest": {"-1", "0", "None"},
    "Attention.table.src": {"-1", "0", "None"},
    "Circuit.edges": {"[]"},
    "Circuit.provenance": MAPPINGS,
    "Circuit.heads": {"[]"},
    "Circuit.model": ANY_TEXT,
    "Circuit.name": ANY_TEXT,
    "Circuit.from_json.what": ANY_TEXT,
    "Circuit.from_run.task": {"None"},
    "Edit.attend_to": {"-1", "0", "huge", *ONE_TEXT, "{word: 1}"},
    "Edit.head": {"0", "huge", "None"},
    "Edit.kind": FUNCTIONS,
    "Edit.layer": {"0", "huge"},
    "Edit.position": {"-1", "0", "huge", *TEXTS, "None"},
    "Edit.step": {"0", "huge", "None"},
    "HeadScores.ranking.k": {"None"},
    **{
        f"ImageAttention.{name}.position": {"0"}
        for name in ("index", "patches", "picture", "table", "title", "weights")
    },
    "scores_on.prompts": ONE_TEXT,
    "Finding.claim": ANY_TEXT,
    "Finding.defaults": MAPPINGS,
    "Finding.files": {"[]", "[word]"},
    "Finding.full": MAPPINGS,
    "Finding.name": TEXTS,
    "Finding.question": ANY_TEXT,
    "Finding.results_version": {"huge"},
    "Finding.run": FUNCTIONS,
    "Finding.source": ANY_TEXT,
    "Finding.tasks": {"[]", "[word]"},
    "Finding.thresholds": MAPPINGS,
    "Finding.title": ANY_TEXT,
    "Finding.report.model": {"None"},  # a finding of no model is for tests
    "Finding.report.settings": {"None", "{}"},
    "Finding.settings.changes": {"{}"},
    "Head.index": {"0", "huge"},
    "Head.layer": {"0", "huge"},
    **{f"Anatomy.{field.name}": ANY_TEXT for field in dataclasses.fields(wb.Anatomy) if field.default == ""},
    **{f"Anatomy.{name}": {"True"} for name in ("heads_first", "rotary", "parallel")},
    "HookedLM.check": {"True"},
    "HookedLM.provenance": {"None", *MAPPINGS},
    "HookedLM.forward.input": ONE_TEXT,
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
    "HookedViT.check": {"True"},
    "HookedViT.processor": {"None"},
    "HookedViT.provenance": {"None", *MAPPINGS},
    "PairedInputs.regions": {"[]"},
    "HookedLM.forward.attention_mask": {"None"},
    "HookedLM.forward.prepend_bos": {"None"},
    "HookedLM.forward.return_type": {"None"},
    "HookedLM.to_tokens.input": ONE_TEXT,
    "HookedLM.to_tokens.prepend_bos": {"None"},
    "HookedLM.to_str_tokens.input": TEXTS,
    "HookedLM.tokens_to_residual_directions.tokens": {"0", "[[0]]", "[0, 0]"},
    "MemoryCurve.capacity.limit": {"-1", "0", "0.5", "huge"},
    "ModelView.of.score": ANY_TEXT,
    "Notes.merge.other_weights": {"True"},
    **{f"Notes.{name}.address": {"''"} for name in ("save", "table", "to_bytes")},
    "Notes.tag.link": {"''", "None"},
    "Notes.tag.tags": ONE_TEXT,
    "Notes.untag.tags": ONE_TEXT,
    "Notes.write.link": {"''", "None"},
    "Notes.write.seen": {"None"},
    "Notes.write.text": {"''", "word"},
    "OperatorView.charts.shares": {"True"},
    "OperatorView.limits.shares": {"True"},
    "OperatorView.matrices.shares": {"True"},
    "Outcome.scores.base": {"True"},
    "PairedInputs.groups.causal": {"True"},
    "Pair.answer": ONE_TEXT,
    "Pair.clean": TEXTS,
    "Pair.corrupt": TEXTS,
    "Pair.corrupt_positions": {"{}"},
    "Pair.options": {*ONE_TEXT, "[]"},
    "Pair.positions": {"{}"},
    "Pair.wrong": ONE_TEXT,
    "PairedInputs.bos": {*ANY_TEXT, "None"},
    "PairedInputs.dropped": {"0", "huge"},
    "PairedInputs.meta": MAPPINGS,
    "PairedInputs.name": TEXTS,
    "PairedInputs.seed": {"-1", "None"},
    "PairedInputs.place.example": {"0"},
    "PairedInputs.where": {"[]"},
    "PairedInputs.texts": {"[]"},
    "PairedInputs.sources": {"[]"},
    "PairedInputs.info": MAPPINGS,
    "ImagePairs.of.examples": {"0", "[0, 0]"},
    "ImagePairs.show.n": {"huge"},
    "Images.corrupted.region": {"None"},
    "Images.corrupted.size": {"0.5", "None"},
    "Images.of.examples": {"0", "[0, 0]"},
    "Images.show.n": {"huge"},
    "distance_to.vector": {"[0, 0]"},
    "images.answer": {"None", "[word]", "[[0]]"},
    "images.name": TEXTS,
    "images.wrong": {"None", "[word]", "[[0]]"},
    "PositionAttention.strongest_head.position": {"-1", "0"},
    "prompt_pair.answer": {"None"},
    "prompt_pair.wrong": {"None"},
    "PairedInputs.groups.at_most": {"huge", "None"},
    "PairedInputs.of.examples": {"0", "[0, 0]"},
    "Pairs.name": TEXTS,
    "Pairs.where": ONE_TEXT,
    "Pairs.skip": {"True"},
    "pairs.skip": {"True"},
    "read_pairs.skip": {"True"},
    "Report.facts": MAPPINGS,
    "Report.figures": MAPPINGS,
    "Report.pictures": MAPPINGS,
    "Report.reason": ANY_TEXT,
    "Report.summary": ANY_TEXT,
    "Report.tables": MAPPINGS,
    "Sweep.base": {"[0, 0]"},
    "Sweep.info": MAPPINGS,
    "Sweep.labels": {"{}"},
    "Sweep.source": {"None", "[0, 0]"},
    "Sweep.name.index": {"[0, 0]"},
    "Sweep.of.examples": {"0", "[0, 0]"},
    "Task.draw": FUNCTIONS,
    "Task.name": TEXTS,
    "Task.positions": ONE_TEXT,
    "Task.question": ANY_TEXT,
    "Task.relation": ANY_TEXT,
    "Task.settings": {"{}"},
    "Task.stages": {"{}"},
    "Task.title": ANY_TEXT,
    "Task.variants": {"{}"},
    "attention_at.position": {"-1", "0"},
    "attention_at.prompt": {*TEXTS, "[0, 0]"},  # two token ids
    "attention_between.dest": {"-1", "0"},
    "attention_between.prompt": {*TEXTS, "[0, 0]"},
    "attention_between.src": {"-1", "0"},
    "attention_view.prompt": {*TEXTS, "[0, 0]"},  # two token ids
    "estimate.task": ONE_TEXT,
    "generate.max_new_tokens": {"0"},
    "generate.chat": {"True"},
    "generate.prompt": TEXTS,
    "generations.chat": {"True"},
    "generations.max_new_tokens": {"0"},
    "generations.prompt": TEXTS,
    "memory.d_value": {"None"},
    "model_view.prompt": {*TEXTS, "[0, 0]"},  # two token ids
    "model_view.score": ANY_TEXT,
    "model_view.size": {"huge"},
    "notes.folder": {"None", "word"},
    "operator_view.prompt": {*TEXTS, "[0, 0]"},  # two token ids
    "operator_view.bidirectional": {"True"},
    "load.bidirectional": {"True"},
    "load.operators": {"None"},
    "load.accept_licence": {"True", *TEXTS, "None"},
    "load.device": {"None"},
    "load.dtype": {"None"},
    "pairs.answer": {"[word]"},
    "pairs.clean": {"[word]"},
    "pairs.corrupt": {"[word]"},
    "pairs.name": TEXTS,
    "pairs.options": {"None", "[None]"},
    "pairs.positions": {"[None]"},
    "pairs.wrong": {"[word]"},
    "path_patch.into": {"None"},
    "path_patch.position": {"-1", "0", "None"},
    "path_patch.receivers": {"None"},
    "path_patch.share_kv": {"True"},
    "record.task": ONE_TEXT,
    "run.inputs": ONE_TEXT,
    "run.unedited": {"True"},
    "scores.random_baseline": {"True"},
    "scores.task": {"None"},
    "screen.attend_to": {"-1", "0"},
    "screen.confirm": {"0.5"},
    "screen.positions": {"-1", "0"},
    "sweep.attend_to": {"-1", "0"},
    "sweep.positions": {"-1", "0"},
    "sweep_pipeline.seeds": {"0"},
    "sweep_pipeline.source": {"None"},
    "swap.before": {"0", "huge"},  # read by operators on grids alone
    "swap.bidirectional": {"True"},
    "swap.data": {"None", "{}"},
    "swap.grid": {"[]"},
    "swap.text": {"None", *TEXTS},  # read by operators with a fixed text alone
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
    "tiny.bidirectional": {"True"},
    "tiny.kv_heads": {"None"},
    "tiny.operators": {"None"},
}
#: Results of calls: nobody makes one by hand.
MADE_BY_CALLS = {
    *{"Attention", "AttentionBetween", "Estimate", "Generations", "HeadScores", "ImageAttention", "ImagePairs"},
    *{"Images", "Latents", "MemoryCurve", "ModelView", "Notes"},
    *{"OperatorView", "Outcome", "PositionAttention", "Recording", "Run", "Screen", "Trajectory", "WordMaps"},
}
#: Of methods with TransformerLens's or torch's names and meaning, those that are tried.
OWN_METHODS = {
    "HookedLM": {
        *{"hook_name", "forward", "to_tokens", "to_single_token", "to_str_tokens", "tokens_to_residual_directions"}
    },
    "HookedDiT": {"hook_name", "forward", "images"},
    "HookedDiffusers": {"hook_name", "has_heads", "reads_sources"},
    "Latents": set(),
    "HookedViT": {"hook_name", "forward", "pixels_to_inputs", "inputs_to_pixels", "patch_grid"},
}
#: To be subclassed: `HookedLM` is one.
BASES = {"HookedModel"}
#: What authors state in files: `wb.testing.check_operator` and the like say what is wrong with it.
STATED = {"ImageSet", "LabelledImages", "Operator"}
#: Called by findings' own machinery, not by people.
INTERNAL = {"Report.with_judgement"}


# --- valid calls


@cache
def model() -> Any:
    return wb.load("tiny")


@cache
def task() -> Any:
    return wb.task("ioi", n=2)


@cache
def inputs() -> Any:
    return task().inputs(model().tokenizer)


@cache
def vision_model() -> Any:
    return small_vit()


@cache
def encoder() -> Any:
    """A vision model without a classifier."""
    return wb.HookedViT(vision_model().hf.vit, vision_model().processor)


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


@cache
def images() -> wb.Images:
    return wb.images(pictures(1), answer=["zebra"])


@cache
def sweep() -> wb.Sweep:
    return wb.sweep(model(), task(), cache=False)


@cache
def run_folder() -> Path:
    """A finished run."""
    folder = Path(tempfile.mkdtemp())
    with RunDirectory.create(folder, "ioi-circuit", {"model": "tiny"}) as run:
        run.add_report(
            wb.Report(
                "undecided", "n = 2", {"heads": pd.DataFrame([HEAD_ROW])}, {"plot": Figure()}, {"plot": Picture()}
            )
        )
    assert run.path is not None
    return run.path


HEAD_ROW = {"task": "ioi", "stage": "logits", "layer": 0, "index": 1, "head": "0.1", "role": "mover"}
PAIR = wb.Pair("So Mary met John", "So Anna met John", (" Mary",), (" Anna",), (" Mary", " Anna"))
CIRCUIT = wb.Circuit("ioi", "tiny", ((wb.Head(0, 1), "mover"),))


def draw(rng: random.Random) -> wb.Pair:
    """A task's."""
    return PAIR


#: An object of each class, whose methods are called.
INSTANCES: dict[str, Callable[[], Any]] = {
    "Attention": lambda: wb.attention_view(model(), "So Mary met John", 0, 0, cache=False),
    "AttentionBetween": lambda: wb.attention_between(model(), "So Mary met John", 2, 1),
    "Circuit": lambda: CIRCUIT,
    "Edit": lambda: wb.Edit("z", 0, 0),
    "Estimate": lambda: wb.estimate(model(), task(), cache=False),
    "Generations": lambda: wb.generations(model(), "So Mary met John", max_new_tokens=2),
    "Finding": lambda: wb.Finding("a", "A", "A?", "A.", {}, returns_report, {"n": 6, "seed": 0}),
    "Anatomy": lambda: wb.Anatomy(layers="blocks", attention="attn"),
    "Head": lambda: wb.Head(0, 1),
    "HeadScores": lambda: wb.scores_on(model(), task(), cache=False),
    "HookedLM": model,
    "HookedDiT": diffusion_model,
    "HookedDiffusers": lambda: wb.HookedDiffusers(diffusers_model()),
    "HookedViT": vision_model,
    "ImageAttention": lambda: wb.attention_on_image(vision_model(), images(), 0, cache=False),
    "ImagePairs": lambda: images().corrupted("blur"),
    "Images": images,
    "MemoryCurve": lambda: wb.memory(d=4, n=[2, 4], trials=3),
    "ModelView": lambda: wb.model_view(model(), "So Mary met John", cache=False),
    "Notes": lambda: noted(),
    "OperatorView": lambda: wb.operator_view(model(), "So Mary met John", 0, 0, "softmax", cache=False),
    "Outcome": lambda: wb.run(model(), task(), [wb.Edit("z", 0, 0)], cache=False),
    "Pair": lambda: PAIR,
    "PairedInputs": inputs,
    "PositionAttention": lambda: wb.attention_at(model(), "So Mary met John", 2),
    "Pairs": lambda: wb.pairs([PAIR.clean], [PAIR.corrupt], [" Mary"], [" Anna"]),
    "Recording": lambda: wb.record(model(), task(), cache=False),
    "Report": lambda: wb.Report("undecided", "n = 2"),
    "Run": lambda: wb.Run.read(run_folder()),
    "Screen": lambda: wb.screen(model(), task(), cache=False),
    "Sizes": lambda: wb.Sizes(2, 4, 4, 8, 32),
    "Sweep": sweep,
    "Task": task,
    "Trajectory": lambda: wb.trajectory(diffusion_model(), wb.latents(3)),
    "WordMaps": lambda: wb.words_on_image(**joint_recording()),
}


def returns_report(*_: object) -> wb.Report:
    """A finding's run."""
    return wb.Report("undecided", "n = 6")


#: What required parameters are given.
VALID: dict[str, Callable[[], Any]] = {
    "model": model,
    "task": task,
    "inputs": task,
    "prompts": task,
    "edits": lambda: [wb.Edit("z", 0, 0, kind="zero")],
    "prompt": lambda: "So Mary met John",
    "sets": lambda: {"one": [wb.Head(0, 0)]},
    "tokenizer": lambda: model().tokenizer,
    "cache": lambda: False,
    "layer": lambda: 0,
    "head": lambda: 0,
    "operator": lambda: "softmax",
}
VALID_IN: dict[str, Callable[[], dict[str, Any]]] = {
    "Circuit": lambda: {"name": "ioi", "model": "tiny", "heads": ((wb.Head(0, 1), "mover"),)},
    "Circuit.all_from_run": lambda: {"path": run_folder()},
    "Circuit.from_run": lambda: {"path": run_folder()},
    "Circuit.from_json": lambda: {"data": CIRCUIT.json()},
    "Circuit.load": lambda: {"path": saved(CIRCUIT, "circuit.json")},
    "Circuit.save": lambda: {"path": "circuit.json"},
    "Edit": lambda: {"site": "z"},
    "Edit.attend_to": lambda: {"site": "pattern", "kind": "pattern"},
    "Edit.factor": lambda: {"kind": "scale"},
    "Edit.vector": lambda: {"kind": "add"},
    "Edit.u": lambda: {"site": "pattern", "kind": "identity"},
    "Finding": lambda: {
        **{"name": "a", "title": "A", "question": "A?", "claim": "A."},
        **{"thresholds": {}, "run": returns_report, "defaults": {"n": 6}},
    },
    "Finding.settings": lambda: {"changes": {"n": 6}},
    "Head": lambda: {"layer": 0, "index": 1},
    "Head.parse": lambda: {"text": "9.6"},
    "HeadScores.figure": lambda: {"score": "locality"},
    "HeadScores.chance_level": lambda: {"score": "locality"},
    "HeadScores.interval": lambda: {"score": "locality"},
    "HeadScores.ranking": lambda: {"score": "locality"},
    "HeadScores.without_value": lambda: {"score": "locality"},
    "HeadScores.load": lambda: {"path": saved(INSTANCES["HeadScores"](), "scores.safetensors")},
    "HeadScores.picture": lambda: {"score": "locality"},
    "HeadScores.save": lambda: {"path": "scores.safetensors"},
    "HeadScores.top": lambda: {"score": "locality"},
    "HookedLM": lambda: {"hf": model().hf},
    "HookedDiT": lambda: {"hf": diffusion_model().hf},
    "HookedDiffusers": lambda: {"model": diffusers_model()},
    "HookedDiffusers.hook_name": lambda: {"site": "z"},
    "HookedDiffusers.has_heads": lambda: {"name": "blocks.0.attn.hook_z"},
    "HookedDiffusers.reads_sources": lambda: {"name": "blocks.0.attn.hook_z"},
    "image_set": lambda: {"name": "digits"},
    "HookedDiT.hook_name": lambda: {"site": "z"},
    "HookedDiT.forward": lambda: {"input": diffusion_model().trial()},
    "HookedDiT.images": lambda: {"inputs": wb.latents(1)},
    "latents": lambda: {"classes": 1},
    "HookedViT": lambda: {"hf": vision_model().hf},
    "HookedViT.hook_name": lambda: {"site": "z"},
    "HookedViT.forward": lambda: {"input": vision_model().trial()},
    "HookedViT.inputs_to_pixels": lambda: {"inputs": vision_model().trial()},
    "HookedViT.patch_grid": lambda: {"n_positions": 17},
    "HookedViT.pixels_to_inputs": lambda: {"pixels": vision_model().inputs_to_pixels(vision_model().trial())},
    **{f"ImageAttention.{name}": lambda: {"position": "1,2"} for name in AT_A_POSITION},
    "ImagePairs.answered_by": lambda: {"model": vision_model()},
    "ImagePairs.inputs": lambda: {"model": vision_model()},
    "ImagePairs.of": lambda: {"examples": [0]},
    "Images.answered_by": lambda: {"model": vision_model()},
    "Images.as_seen_by": lambda: {"model": vision_model()},
    "Images.corrupted": lambda: {"corruption": "occlude"},
    "Images.inputs": lambda: {"model": vision_model()},
    "Images.of": lambda: {"examples": [0]},
    "Images.paired_with": lambda: {"corrupt": wb.images(pictures(1, seed=1))},
    "images": lambda: {"images": pictures(1)},
    "cosine_to": lambda: {"vector": [1.0, 2.0]},
    "distance_to": lambda: {"vector": [1.0, 2.0]},
    "feature_change": lambda: {
        "model": encoder(),
        "images": wb.images(pictures(1)),
        "edits": [wb.Edit("z", 0, 0, kind="zero")],
    },
    "Sizes": lambda: {"n_layers": 2, "n_heads": 4, "n_kv_heads": 4, "d_head": 8, "d_model": 32},
    "HookedLM.hook_name": lambda: {"site": "z"},
    "HookedLM.forward": lambda: {"input": "So Mary met John"},
    "HookedLM.to_tokens": lambda: {"input": "So Mary met John"},
    "HookedLM.to_str_tokens": lambda: {"input": "So Mary met John"},
    "HookedLM.to_single_token": lambda: {"string": "Mary"},
    "HookedLM.tokens_to_residual_directions": lambda: {"tokens": 3},
    "MemoryCurve.capacity": lambda: {"limit": 0.5},
    "MemoryCurve.load": lambda: {"path": saved(INSTANCES["MemoryCurve"](), "curve.safetensors")},
    "MemoryCurve.save": lambda: {"path": "curve.safetensors"},
    "memory": lambda: {"d": 4, "n": 4, "trials": 3},
    "ModelView.of": lambda: {"heads": [wb.Head(0, 1)]},
    "Notes.merge": lambda: {"path": saved(noted(), "notes.json")},
    "Notes.remove": lambda: {"head": "0.1"},
    "Notes.save": lambda: {"path": "notes.json"},
    "Notes.tag": lambda: {"head": "0.1", "tags": ["mover"]},
    "Notes.untag": lambda: {"head": "0.1", "tags": ["mover"]},
    "Notes.write": lambda: {"head": "0.1", "text": "A mover."},
    "Pair": lambda: {"clean": "a", "corrupt": "b", "answer": ("c",), "wrong": ("d",)},
    "Pairs": lambda: {"items": (PAIR,), "where": ("pair 1",)},
    "PairedInputs": lambda: {field.name: getattr(inputs(), field.name) for field in dataclasses.fields(inputs())},
    "PairedInputs.place": lambda: {"example": 0},
    "PositionAttention.over_heads": lambda: {"over": "mean"},
    "PositionAttention.strongest_head": lambda: {"position": 1},
    "attention_between": lambda: {"dest": -1, "src": 0},
    "attention_on_image": lambda: {"model": vision_model(), "image": images()},
    "check_pairs": lambda: {"pairs": INSTANCES["Pairs"]()},
    "prompt_pair": lambda: {"clean": "Then, Mary and John", "corrupt": "Then, Paul and John"},
    "PairedInputs.of": lambda: {"examples": [0]},
    "Report": lambda: {"verdict": "undecided", "summary": "n = 2"},
    "Run.read": lambda: {"path": run_folder()},
    "Run.read_header": lambda: {"path": run_folder()},
    "Run.data": lambda: {"name": "run.json"},
    "Run.table": lambda: {"name": "heads"},
    "Run.figure": lambda: {"name": "plot"},
    "Run.picture": lambda: {"name": "plot"},
    "Run.export": lambda: {"target": "run.zip"},
    "Sweep": lambda: {"values": np.zeros((1, 1, 2)), "base": np.zeros(2), "source": None, "axes": ("layer", "head")},
    "Sweep.load": lambda: {"path": saved(sweep(), "sweep.safetensors")},
    "Sweep.name": lambda: {"index": (0, 0)},
    "Sweep.of": lambda: {"examples": [0]},
    "Sweep.save": lambda: {"path": "sweep.safetensors"},
    "Sweep.top": lambda: {"k": 1},
    "Sweep.top.percent": lambda: {"k": None},
    "Screen.top": lambda: {"k": 1},
    "Screen.top.percent": lambda: {"k": None},
    "Task": lambda: {"name": "a", "title": "A", "question": "A?", "draw": draw},
    "load": lambda: {"name": "tiny"},
    "swap": lambda: {"operators": {0: "softmax"}},
    "pairs": lambda: {"clean": ["a"], "corrupt": ["b"], "answer": [" c"], "wrong": [" d"]},
    "path_patch": lambda: {"receivers": [wb.Head(1, 0)]},
    "read_pairs": lambda: {"path": pairs_file()},
    "sweep_pipeline": lambda: {"model": wb.HookedDiffusers(diffusers_model()), "run": one_step, "edit": "zero"},
    "sweep_pipeline.factor": lambda: {"edit": "scale"},
    "sweep_pipeline.vector": lambda: {"edit": "add"},
    "sweep_pipeline.u": lambda: {"edit": "identity", "site": "pattern"},
    "sweep.attend_to": lambda: {"edit": "pattern", "site": "pattern"},
    "sweep.factor": lambda: {"edit": "scale"},
    "sweep.vector": lambda: {"edit": "add"},
    "sweep_sets.factor": lambda: {"edit": "scale"},
    "sweep_sets.vector": lambda: {"edit": "add"},
    "sweep.u": lambda: {"edit": "identity", "site": "pattern"},
    "sweep.mean_over": lambda: {"edit": "mean"},
    "sweep.positions": lambda: {"by": ["head", "position"]},
    "screen.attend_to": lambda: {"edit": "pattern", "site": "pattern"},
    "screen.factor": lambda: {"edit": "scale"},
    "screen.vector": lambda: {"edit": "add"},
    "screen.u": lambda: {"edit": "identity", "site": "pattern"},
    "screen.mean_over": lambda: {"edit": "mean"},
    "task": lambda: {"name": "ioi"},
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


def saved(result: Any, name: str) -> str:
    result.save(name)
    return name


def noted() -> wb.Notes:
    notes = wb.notes(model(), folder="notes")
    notes.write("0.1", "A mover.")
    return notes


def pairs_file() -> str:
    Path("pairs.csv").write_text("clean,corrupt,answer,wrong\na,b, c, d\n", encoding="utf-8")
    return "pairs.csv"


# --- the calls


@dataclass(frozen=True)
class Call:
    """A public function, constructor or method: its name in the tables above, and how to get hold of it."""

    name: str
    get: Callable[[], Callable[..., Any]]
    parameters: tuple[inspect.Parameter, ...]


def public_names() -> list[str]:
    """The names of the stub, without its folders."""
    tree = ast.parse((ROOT / "workbench" / "__init__.pyi").read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module]
    return [alias.asname or alias.name for node in imports for alias in node.names]


def calls() -> Iterator[Call]:
    for name in public_names():
        value = getattr(wb, name)
        if not inspect.isclass(value):
            yield Call(name, lambda value=value: value, _parameters(value))
            continue
        if issubclass(value, Exception) or name in BASES | STATED:
            continue
        if name not in MADE_BY_CALLS:
            yield Call(name, lambda value=value: value, _parameters(value))
        for method, function in _methods(value).items():
            instance = (lambda value=value: value) if isinstance(function, classmethod) else INSTANCES[name]
            parameters = _parameters(getattr(value, method))[not isinstance(function, classmethod) :]
            if parameters:
                yield Call(f"{name}.{method}", lambda i=instance, m=method: getattr(i(), m), parameters)


def _methods(cls: type) -> dict[str, Any]:
    own_bases = [base for base in reversed(cls.__mro__) if base.__module__.startswith("workbench.")]
    members = {name: member for base in own_bases for name, member in vars(base).items()}
    return {
        name: member
        for name, member in members.items()
        if not name.startswith("_")
        and isinstance(member, types.FunctionType | classmethod)
        and name in OWN_METHODS.get(cls.__name__, members)
        and f"{cls.__name__}.{name}" not in INTERNAL
    }


def _parameters(function: Any) -> tuple[inspect.Parameter, ...]:
    """Those that have names, and what stands behind ``**keywords: Unpack[…]``."""
    named: list[inspect.Parameter] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            named.append(parameter)
        elif "Unpack[" in str(parameter.annotation):
            keywords = vars(inspect.getmodule(function))[str(parameter.annotation).partition("[")[2].rstrip("]")]
            named += [inspect.Parameter(name, parameter.KEYWORD_ONLY, default=...) for name in keywords.__annotations__]
    return tuple(named)


def _valid(call: Call, varied: str) -> dict[str, Any]:
    """Arguments with which the call runs."""
    names = {p.name: p for p in call.parameters}
    arguments = {
        name: VALID[name]() for name in names if name in VALID and (names[name].default is EMPTY or name == "cache")
    }
    for key in (call.name, f"{call.name}.{varied}"):
        arguments |= VALID_IN.get(key, dict)()
    return arguments


EMPTY = inspect.Parameter.empty
CALLS = list(calls())


def _taken(call: str, parameter: str) -> set[str]:
    return TAKES.get(f"{call}.{parameter}", set()) | TAKES_EVERYWHERE.get(parameter, set())


def _names(message: str, parameter: str) -> bool:
    return re.search(rf"(?<![\w.]){parameter}(?:=|\[|: )|^pair \d+: .*\b{parameter}\b", message) is not None


def _names_the_value(error: WorkbenchError, parameter: str, label: str) -> bool:
    """A file or entry that does not exist is named itself, and so is the hook at which an edit of the user's failed."""
    if isinstance(error, BadInput) and label in ONE_TEXT:
        text = ODD[label][0] if label == "[word]" else ODD[label]
        return text in str(error) or repr(text) in str(error)
    if isinstance(error, NotFinite) and parameter == "factor":  # it is too large for the precision of a pipeline
        return "after edits at " in str(error)
    return isinstance(error, HookError) and parameter == "edit" and str(error).startswith("The edit at ")


def complaint(call: Call, parameter: str, label: str) -> str:
    """What is wrong with how an odd value is met; empty when nothing is."""
    arguments = {**_valid(call, parameter), parameter: ODD[label]}
    try:
        result = call.get()(**arguments)
        if inspect.isgenerator(result):
            next(result, None)
    except WorkbenchError as error:
        if _names(str(error), parameter) or _names_the_value(error, parameter, label):
            return ""
        return f"{call.name}({parameter}={label}) does not name {parameter}: {type(error).__name__}: {error}"
    except Exception as error:
        return f"{call.name}({parameter}={label}) raises {type(error).__name__}: {str(error)[:100]}"
    return "" if label in _taken(call.name, parameter) else f"{call.name}({parameter}={label}) runs"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("call", CALLS, ids=[call.name for call in CALLS])
def test_odd_arguments_are_refused_by_name(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    call.get()(**_valid(call, ""))
    complaints = [complaint(call, p.name, label) for p in call.parameters for label in ODD]
    assert not (real := list(filter(None, complaints))), "\n".join(real)


def test_the_tables_name_what_exists() -> None:
    """A parameter that was renamed or left takes its entry with it."""
    known = {f"{call.name}.{p.name}" for call in CALLS for p in call.parameters}
    assert set(TAKES) <= known
    assert set(TAKES_EVERYWHERE) <= {p.name for call in CALLS for p in call.parameters}
    assert all(key in known or key in {call.name for call in CALLS} for key in VALID_IN)
