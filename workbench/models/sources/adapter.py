"""An adapter of peft on disk: ``adapter_config.json`` and ``adapter_model.safetensors``, applied to its base model.

The configuration is checked as a model's is, and the weights are compared with what it asks for before anything of
their size is allocated. The tensors that are hashed are those that are used.
"""

from __future__ import annotations

import copy
import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import NotAvailable, UnsupportedModel, UntrustedModel
from workbench.io import trust
from workbench.models.building import building_a_model
from workbench.models.sources import directory, weights

if TYPE_CHECKING:
    from workbench.models.sources.directory import Loaded

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
#: peft's name for an adapter that is loaded alone.
NAME = "default"
#: Settings under which peft imports a module by name, or copies layers.
_REFUSED = {
    "megatron_config": "it makes peft import another package",
    "layer_replication": "it copies layers of the base model",
}


def is_in(folder: Path) -> bool:
    """Whether a directory holds an adapter's configuration."""
    return (folder / CONFIG).is_file()


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings of ``adapter_config.json``.

    Raises:
        UntrustedModel: it is malformed, would run code, or its weights are missing or no safetensors.
        UnsupportedModel: it needs what the workbench does not load.
    """
    where = folder / CONFIG
    settings = trust.parse_json(trust.read_small(where), where)
    trust.check_config(settings, where)
    for key, reason in _REFUSED.items():
        if settings.get(key):
            raise UnsupportedModel(f"{where} sets {key!r}: {reason}.")
    if not (folder / WEIGHTS).is_file():
        others = sorted(p.name for p in folder.iterdir() if trust.is_refused_format(p))
        if others:
            raise UntrustedModel(trust.pickles(folder, others))
        raise UntrustedModel(
            f"{folder} has {CONFIG} and no {WEIGHTS}. If the adapter was merged into the model's weights, remove "
            f"{CONFIG}."
        )
    return settings


def base_name(folder: Path, settings: Mapping[str, Any]) -> str:
    """The base model that an adapter names, as `workbench.models.sources.resolve` takes it: a folder (also one beside
    the adapter's), a name of the catalogue, or a hub id with its revision.

    Raises:
        UnsupportedModel: it names none.
    """
    name, revision = settings.get("base_model_name_or_path"), settings.get("revision")
    if not isinstance(name, str) or not name:
        raise UnsupportedModel(
            f"{folder / CONFIG} names no base model. Set base_model_name_or_path to a folder, a name of the catalogue "
            "or a hub id."
        )
    if (folder / name).exists():
        return str(folder / name)
    if Path(name).expanduser().exists():
        return name
    return f"{name}@{revision}" if isinstance(revision, str) and "/" in name else name


def apply(
    base: Loaded,
    folder: Path,
    settings: Mapping[str, Any],
    *,
    provenance: Mapping[str, Any],
    expected: Mapping[str, str] | None = None,
    mend: str = "",
) -> Loaded:
    """The base model with the adapter in its layers, active and not merged, as peft itself loads it.

    Args:
        provenance: of the adapter's origin.
        expected, mend: as in `workbench.models.sources.directory.load`.

    Raises:
        NotAvailable: peft is not installed.
        UntrustedModel, UnsupportedModel: the files are altered, of another model, or need a newer peft.
    """
    try:
        import peft
    except ImportError:
        raise NotAvailable(
            f"{folder} is an adapter, and peft is not installed: pip install 'attention-workbench[adapters]'."
        ) from None
    if "adapter" in base.provenance:
        name = base.provenance["name"]
        raise UnsupportedModel(f"The base of {folder} is an adapter itself ({name!r}). Merge that one first.")
    config = _config(settings, folder, peft.PEFT_TYPE_TO_CONFIG_MAPPING)
    _check_weights(base.hf_model, config, folder)
    state, hashes = weights.read([folder / WEIGHTS])
    digest = hashes[WEIGHTS]
    if (other := (expected or {}).get(WEIGHTS, digest)) != digest:
        raise trust.hash_mismatch(folder / WEIGHTS, other, digest, mend)
    wrap: Any = peft.MODEL_TYPE_TO_PEFT_MODEL_MAPPING.get(config.task_type, peft.PeftModel)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers for a name that it will remove
            model = wrap(base.hf_model, config, NAME)
        result = peft.set_peft_model_state_dict(model, state, adapter_name=NAME)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        name = base.provenance["name"]
        raise UntrustedModel(f"{folder}: the adapter does not fit its base {name!r}: {error}") from error
    if result.unexpected_keys:
        raise UntrustedModel(f"{folder}: {_listed(result.unexpected_keys)} of {WEIGHTS} have no place in the model.")
    model.requires_grad_(False)
    model.eval()
    own_tokenizer = any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json"))
    processor = base.processor
    if own_tokenizer:
        processor = directory.load_tokenizer(folder, model.get_base_model().config)
    facts = {
        "file": WEIGHTS,
        "sha256": digest,
        **provenance,
        "adapter": NAME,
        "type": str(getattr(config.peft_type, "value", config.peft_type)),
        "config_sha256": hashlib.sha256(trust.read_small(folder / CONFIG)).hexdigest(),
        "peft": version("peft"),
    }
    own = base.provenance
    joint = hashlib.sha256(json.dumps([own["sha256"], digest]).encode()).hexdigest()
    named = {"name": facts["name"], "sha256": joint, "base": {k: own.get(k) for k in ("name", "source", "sha256")}}
    return replace(base, hf_model=model, processor=processor, provenance={**own, **named, "adapter": facts})


def _config(settings: Mapping[str, Any], folder: Path, kinds: Mapping[Any, Any]) -> Any:
    """peft's configuration. Newer settings that this version does not know are refused: peft would leave them out."""
    kind = kinds.get(settings.get("peft_type"))
    if kind is None:
        raise UnsupportedModel(
            f"{folder / CONFIG} says peft_type {settings.get('peft_type')!r}, which peft {version('peft')} does not "
            "have."
        )
    known = {field.name for field in fields(kind)}
    plain = {name: value for name, value in settings.items() if name != "peft_version"}
    if unknown := sorted(name for name in plain.keys() - known if plain[name]):
        raise UnsupportedModel(
            f"{folder / CONFIG} has {_listed(unknown)}, which peft {version('peft')} does not know. Upgrade peft."
        )
    try:
        config = kind(**{name: value for name, value in plain.items() if name in known})
    except (TypeError, ValueError) as error:
        raise UntrustedModel(f"{folder / CONFIG} is not a valid configuration: {error}") from error
    if config.is_prompt_learning or config.is_adaption_prompt:
        raise UnsupportedModel(
            f"{folder} is an adapter of type {settings['peft_type']}, which adds positions that are no tokens of the "
            "prompt. Only adapters inside a model's layers (LoRA and the like) can be hooked."
        )
    config.inference_mode = True
    return config


def _check_weights(hf: Any, config: Any, folder: Path) -> None:
    """Compare the file's header with the tensors that the configuration asks for, on torch's meta device, which has
    shapes and no memory."""
    import torch
    from peft import PeftModel, get_peft_model_state_dict

    from workbench.io import safetensors_header

    shapes = {tensor.name: tuple(tensor.shape) for tensor in safetensors_header.read(folder / WEIGHTS).tensors}
    planned = copy.deepcopy(config)
    if hasattr(planned, "init_lora_weights"):
        planned.init_lora_weights = False  # some ways to initialise need values
    try:
        with building_a_model(), torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shell = PeftModel(type(hf)(copy.deepcopy(hf.config)), planned, NAME)
        needed = {k: tuple(x.shape) for k, x in get_peft_model_state_dict(shell, save_embedding_layers=False).items()}
    except (AttributeError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise UnsupportedModel(f"{folder}: peft cannot put this adapter into {type(hf).__name__}: {error}") from error
    if missing := sorted(needed.keys() - shapes.keys()):
        raise UntrustedModel(
            f"{folder}: {_listed(missing)} are missing from {WEIGHTS}; they would be random numbers. The files are "
            "incomplete, or not those of this configuration."
        )
    for name, shape in needed.items():
        if shapes[name] != shape:
            raise UntrustedModel(
                f"{folder}: {name} has shape {shapes[name]} where {CONFIG} and the base model ask for {shape}."
            )


def _listed(names: Any) -> str:
    names = list(names)
    return f"{len(names)} entries ({', '.join(map(str, names[:3]))}{', …' if len(names) > 3 else ''})"
