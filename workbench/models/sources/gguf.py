"""GGUF files: checked, dequantised once by transformers, and stored as an ordinary float32 model directory."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from workbench.errors import NotAvailable, UnsupportedModel
from workbench.io import trust
from workbench.models import gguf_header
from workbench.models.building import building_a_model
from workbench.models.sources import directory, store
from workbench.models.sources.tensors_match import check_report

#: GGUF architectures that are dense causal language models with softmax attention and that transformers dequantises.
ARCHITECTURES = (
    "llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "gpt2", "phi3", "stablelm", "starcoder2", "falcon",
    "bloom", "nemotron",
)  # fmt: skip

#: Texts that a converted tokenizer must encode as the original does: spaces, digits, accents, other scripts, emoji.
_PROBES = ("The keys of the cabinet  are 1,234 here.\n\tIsn't", " naïve Ünïcode — “東京” 🙂", "")
Progress = Callable[[int, int, str], None]


def convert(file: Path, target: Path, digest: str, progress: Progress) -> dict[str, Any]:
    """Write the model of a GGUF file into `target`: model.safetensors, config.json and the tokenizer's files.

    transformers dequantises; tied weights are written once. (Its own ``save_pretrained`` refuses a model that came
    from GGUF, although the weights are plain float32.)

    Returns:
        What ``source.json`` says about the origin: file, its SHA-256 and the versions that converted it.

    Raises:
        UntrustedModel: the header is malformed or its metadata needs more than its tensors hold.
        UnsupportedModel: an architecture outside `ARCHITECTURES`, or one that transformers cannot read.
        NotAvailable: the package ``gguf`` or ``accelerate`` is missing, or the disk is too full.
    """
    progress(0, 0, f"checking and converting {file.name} (once; half a minute for 100 million parameters)")
    header = gguf_header.read(file)
    if header.architecture not in ARCHITECTURES:
        raise UnsupportedModel(
            f"{file} has the architecture {header.architecture!r}, which cannot be converted. Supported are "
            f"{', '.join(ARCHITECTURES)}."
        )
    store.need_space(4 * header.elements, file.name)
    link = target / file.name
    _link(file, link)  # alone in its folder: transformers reads further files beside the one it loads
    try:
        _write(link, target, header)
    finally:
        link.unlink()
    return {
        "origin": {"file": file.name, "sha256": digest, "bytes": file.stat().st_size},
        "converted": {name: version(name) for name in ("transformers", "torch", "gguf")},
    }


def _link(file: Path, link: Path) -> None:
    try:
        os.symlink(file.resolve(), link)
    except OSError:
        shutil.copyfile(file, link)


def _write(file: Path, target: Path, header: gguf_header.Header) -> None:
    for name in ("gguf", "accelerate"):
        try:
            version(name)
        except PackageNotFoundError:
            raise NotAvailable(f"Reading .gguf files needs another package: python -m pip install {name}") from None
    import torch
    import transformers
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoTokenizer

    options = {"gguf_file": file.name, "local_files_only": True, "trust_remote_code": False}
    unpack = {}
    if hasattr(transformers, "GgufConfig"):  # newer versions keep weights packed, with kernels from the hub
        unpack["quantization_config"] = transformers.GgufConfig(dequantize=True)
    try:
        config = AutoConfig.from_pretrained(str(file.parent), **options)
        model_class: Any = directory.causal_class(config, file.name)
        directory.check_budget(config, model_class, header.elements, len(header.tensors), where=file.name)
        with building_a_model(), directory.quiet_transformers():
            model, report = model_class.from_pretrained(
                str(file.parent), config=config, dtype=torch.float32, output_loading_info=True, **options, **unpack
            )
        check_report(model, report, file.name)
        tokenizer = AutoTokenizer.from_pretrained(str(file.parent), **options)
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError, OSError) as error:
        raise UnsupportedModel(
            f"transformers {version('transformers')} cannot read {file.name} ({type(error).__name__}: {error})."
        ) from error

    first_names: dict[int, str] = {}  # by address: a tied weight is saved once and tied again on load
    state = {}
    for name, tensor in model.state_dict().items():
        if first_names.setdefault(tensor.data_ptr(), name) == name:
            state[name] = tensor.contiguous()
    save_file(state, target / trust.WEIGHTS, metadata={"format": "pt"})
    (target / "config.json").write_text(json.dumps(_settings(model), indent=1) + "\n", encoding="utf-8")
    tokenizer.save_pretrained(str(target))
    _tidy(target / "tokenizer_config.json")
    reloaded = directory.load_tokenizer(target, model.config, converted=True)
    if any(tokenizer(text).input_ids != reloaded(text).input_ids for text in _PROBES):
        raise UnsupportedModel(f"{file.name}: its tokenizer changes when it is saved; transformers cannot convert it.")


def _settings(model: Any) -> Mapping[str, Any]:
    settings = model.config.to_dict()
    settings["architectures"] = [type(model).__name__]
    return {key: value for key, value in settings.items() if key not in {"quantization_config", "_name_or_path"}}


def _tidy(path: Path) -> None:
    """Drop the settings that name the folder it was converted in."""
    settings = trust.parse_json(trust.read_small(path), path)
    portable = {key: value for key, value in settings.items() if key not in {"is_local", "local_files_only"}}
    path.write_text(json.dumps(portable, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
