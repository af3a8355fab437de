"""What is refused before any library sees it: model files that would run code, or that are not what they claim.

A model directory is data from a stranger. transformers is told not to trust remote code, and this module does not
rely on it: configurations that name code, kernels or another loader are refused here, and weights are safetensors or
nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.errors import UnsupportedModel, UntrustedModel

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
#: Largest JSON file that is read; the largest tokenizers of 2026 take about 35 MB.
JSON_LIMIT = 128 * 2**20
NESTING_LIMIT = 32

#: Keys that make a loader import or fetch code, wherever in a configuration they stand.
_CODE = {
    "auto_map": "it names Python code to run",
    "custom_pipelines": "it names Python code to run",
    "trust_remote_code": "it asks to trust code from elsewhere",
    "_attn_implementation_internal": "it makes transformers load an attention kernel from elsewhere",
    "_experts_implementation_internal": "it makes transformers load a kernel from elsewhere",
    "kernel_config": "it makes transformers load kernels from elsewhere",
    "fusion_config": "it replaces modules of the model",
    "transformers_weights": "it names another weights file",
}
#: Keys that choose an implementation; built-in ones are harmless, anything else is fetched as a kernel.
_IMPLEMENTATION = {"attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation"}
_BUILT_IN = {
    None, "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention", "grouped_mm", "batched_mm",
}  # fmt: skip
#: Formats that are pickles, may hold pickles, or belong to another framework.
_REFUSED = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".npz", ".npy", ".h5", ".msgpack"}


def hash_mismatch(what: object, expected: str, actual: str, advice: str) -> UntrustedModel:
    """The error for bytes that are not the expected ones, with both hashes and what to do."""
    return UntrustedModel(
        f"{what} is altered or truncated: expected SHA-256 {expected}, found {actual}. Nothing was loaded. {advice}"
    )


def parse_json(data: bytes, where: object) -> dict[str, Any]:
    """An object from JSON bytes; `UntrustedModel` for anything else, including nesting that would exhaust the stack."""
    if len(data) > JSON_LIMIT:
        raise UntrustedModel(f"{where} has {len(data):,} bytes; at most {JSON_LIMIT:,} are read.")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UntrustedModel(f"{where} is not a JSON file: {error}") from None
    if not isinstance(value, dict):
        raise UntrustedModel(f"{where} contains a {type(value).__name__}, not a JSON object.")
    return value


def read_small(path: Path) -> bytes:
    """The bytes of a configuration or tokenizer file, at most `JSON_LIMIT` of them."""
    if path.stat().st_size > JSON_LIMIT:
        raise UntrustedModel(f"{path} has {path.stat().st_size:,} bytes; at most {JSON_LIMIT:,} are read.")
    return path.read_bytes()


def check_config(config: Mapping[str, Any], where: object) -> None:
    """Refuse a configuration that would run code, fetch kernels, or needs another loader.

    Raises:
        UntrustedModel: a forbidden key, at any depth, or nesting beyond `NESTING_LIMIT`.
        UnsupportedModel: weights quantised in a format of another library.
    """
    pending: list[tuple[str, Any, int]] = [("", config, 0)]
    while pending:
        path, value, depth = pending.pop()
        if depth > NESTING_LIMIT:
            raise UntrustedModel(f"{where} is nested more than {NESTING_LIMIT} deep at {path[:80]}….")
        if isinstance(value, Mapping):
            for key, inner in value.items():
                _check_key(str(key), inner, f"{path}{key}", where)
                pending.append((f"{path}{key}.", inner, depth + 1))
        elif isinstance(value, list):
            pending.extend((f"{path}{i}.", inner, depth + 1) for i, inner in enumerate(value))
    if config.get("quantization_config"):
        raise UnsupportedModel(
            f"{where} describes weights quantised for another library (quantization_config). The workbench needs plain "
            "floating-point safetensors, or a .gguf file, which it dequantises itself."
        )


def _check_key(key: str, value: Any, path: str, where: object) -> None:
    if key in _CODE:
        reason = _CODE[key]
    elif key in _IMPLEMENTATION and (not isinstance(value, str | None) or value not in _BUILT_IN):
        reason = f"its value {value!r} is not a built-in implementation and would be fetched from elsewhere"
    else:
        return
    raise UntrustedModel(
        f"{where} contains {path!r}: {reason}. The workbench runs only architectures that are part of transformers; "
        f"if this model is one of them, remove the key, otherwise build the model in Python and wrap it with HookedLM."
    )


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model directory, one or the shards that its index names.

    Raises:
        UntrustedModel: there are none (other formats are named, with a way to convert them), or the index names a
            file outside the directory.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    index = folder / WEIGHTS_INDEX
    if index.is_file():
        shards = parse_json(read_small(index), index).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise UntrustedModel(f"{index} has no weight_map.")
        names = sorted({str(shard) for shard in shards.values()})
        for name in names:
            check_member(name, index, suffix=".safetensors")
            if not (folder / name).is_file():
                raise UntrustedModel(f"{index} names {name}, which is missing: the download is incomplete.")
        return [folder / name for name in names]
    others = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in _REFUSED)
    if others:
        raise UntrustedModel(pickles(folder, others))
    raise UntrustedModel(f"{folder} contains no weights: expected {WEIGHTS}, or {WEIGHTS_INDEX} and its shards.")


def pickles(where: object, names: list[str]) -> str:
    """The message about weights in a format that can run code when it is opened."""
    return (
        f"{where} has weights only as {', '.join(names[:4])}. Such files can run code when they are opened, so they "
        "are refused; the workbench reads safetensors and GGUF. Convert them where this does no harm (a throw-away "
        "container): load the model with transformers there and call model.save_pretrained(FOLDER), which writes "
        f"{WEIGHTS}; then give that FOLDER."
    )


def is_refused_format(path: Path) -> bool:
    """Whether the file's name ends like a pickle or another framework's weights."""
    return path.suffix.lower() in _REFUSED


def check_member(name: str, where: object, suffix: str = "") -> None:
    """Refuse a file name that is not a plain name (a folder, a drive, ``..``) or lacks the suffix."""
    if not name or name != Path(name).name or "\\" in name or ":" in name or name in {".", ".."}:
        raise UntrustedModel(f"{where} names the file {name!r}, which lies outside its folder.")
    if not name.endswith(suffix):
        raise UntrustedModel(f"{where} names the file {name!r}; expected *{suffix}.")
