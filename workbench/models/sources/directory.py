"""A Hugging Face model directory: checked, hashed, then built by transformers from configuration and tensors alone.

transformers never sees the directory's weights: it gets a parsed configuration and a state dict. Only the tokenizer is
read from the directory, after its configuration was checked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from workbench import arguments
from workbench.errors import UnsupportedModel, UntrustedModel
from workbench.io import trust
from workbench.models.building import building_a_model
from workbench.models.catalog import DIFFUSION_FAMILY, VISION_FAMILIES
from workbench.models.sources import store, vision, weights
from workbench.models.sources.tensors_match import check_report, check_shapes

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

DTYPES = ("float32", "float64", "bfloat16", "float16")
#: Part of the names of the weights of attention operators (`workbench.models.swapped_attention.CHILD`).
OF_OPERATORS = ".workbench_operator."
#: A configuration may ask for so many numbers beyond the weights, so that the tensor that is missing can be named.
ROOM = 2**26
#: Buffers (causal masks and the like) that a configuration may define without any weights.
BUFFER_LIMIT = 2**30


@dataclass(frozen=True)
class Loaded:
    """A model ready for use: evaluation mode, parameters without gradients.

    Attributes:
        hf_model: the unmodified Hugging Face model.
        processor: what makes its inputs: a language model's tokenizer, a vision model's image processor or None; None
            of a diffusion model.
        provenance: JSON-able: name, source, licence, file and sha256 (of the published weights), weights_sha256 and
            config_sha256 (of what was loaded), parameters, dtype, device, torch and transformers.
        modality: what its inputs are, by its family: ``"language"``, ``"vision"`` or ``"diffusion"``.
        operator_tensors: weights of attention operators that the model was trained with
            (`workbench.models.saved_operators`).
    """

    hf_model: PreTrainedModel
    processor: Any
    provenance: dict[str, Any]
    modality: str = "language"
    operator_tensors: Mapping[str, torch.Tensor] = field(default_factory=dict)


def load(
    folder: Path,
    *,
    device: str | torch.device | None,
    dtype: str | torch.dtype | None,
    provenance: Mapping[str, Any],
    expected: Mapping[str, str] | None = None,
    mend: str = "",
    tell: Callable[[int, int, str], None] = lambda *_: None,
) -> Loaded:
    """Load a directory with ``config.json``, safetensors weights, and a tokenizer or an image processor.

    Args:
        device: None takes the GPU where CUDA finds one, else the CPU.
        dtype: None means float32, whatever the file holds.
        provenance: of the origin; hashes, dtype and versions are added.
        expected: SHA-256 by file name, where there is one.
        mend: what a message about damage advises.
        tell: is called with each step.

    Raises:
        UntrustedModel, UnsupportedModel: see `workbench.io.trust`; weights missing, of other shapes, or altered.
    """
    import torch

    target = pick_device(device)
    if not (folder / "config.json").is_file():
        raise UntrustedModel(f"{folder} has no config.json: expected a Hugging Face model directory. {mend}".strip())
    if expected is not None:
        store.read_checked(folder, expected, mend)
    config_bytes = trust.read_small(folder / "config.json")
    settings = trust.parse_json(config_bytes, folder / "config.json")
    trust.check_config(settings, folder / "config.json")
    if "_diffusers_version" in settings:
        do = f"Load it with diffusers' {settings.get('_class_name', 'class')}, and hook that: wb.HookedDiT(model)."
        raise UnsupportedModel(f"{folder} has a model of diffusers, which is not loaded by name. {do}")
    paths = trust.weight_files(folder)
    for name in ("tokenizer_config.json", "generation_config.json", "special_tokens_map.json", *vision.PROCESSORS):
        if (folder / name).is_file():
            trust.check_config(trust.parse_json(trust.read_small(folder / name), folder / name), folder / name)

    tell(0, 0, "importing the model's classes")
    config, model_class, options = build_config(settings, folder / "config.json", paths)
    try:
        sizes = weights.elements(paths)
    except UntrustedModel:
        for path in paths:
            expected_hash = (expected or {}).get(path.name)
            if expected_hash is not None and (actual := store.sha256(path)) != expected_hash:
                raise trust.hash_mismatch(path, expected_hash, actual, mend) from None
        raise
    shapes = weights.shapes(paths) if config.model_type == DIFFUSION_FAMILY else None
    check_budget(config, model_class, *sizes, where=folder, options=options, shapes=shapes)
    tell(0, 0, f"reading and hashing {sum(path.stat().st_size for path in paths) / 1e6:,.0f} MB of weights")
    state, hashes = weights.read(paths)
    for name, actual in hashes.items():
        expected_hash = (expected or {}).get(name, actual)
        if actual != expected_hash:
            raise trust.hash_mismatch(folder / name, expected_hash, actual, mend)
    kind = getattr(torch, dtype_name(dtype))
    tell(0, 0, "building the model")
    operator_tensors = take_operator_tensors(state)
    model = build_model(model_class, config, state, kind, folder, options)
    torch.nn.Module.to(model, target)
    digest = next(iter(hashes.values())) if len(hashes) == 1 else _joint(hashes)
    full_provenance = {
        "file": " + ".join(sorted(hashes)) if len(hashes) <= 2 else f"{trust.WEIGHTS_INDEX} ({len(hashes)} files)",
        "sha256": digest,
        **provenance,
        "weights_sha256": digest,
        "config_sha256": hashlib.sha256(config_bytes).hexdigest(),
        "family": config.model_type,
        "parameters": sum(p.numel() for p in model.parameters()),
        "dtype": str(kind).removeprefix("torch."),
        "device": str(target),
        "torch": version("torch"),
        "transformers": version("transformers"),
    }
    if settings["model_type"] in VISION_FAMILIES:
        return Loaded(model, vision.load_processor(folder), full_provenance, "vision", operator_tensors)
    if settings["model_type"] == DIFFUSION_FAMILY:
        return Loaded(model, None, full_provenance, "diffusion", operator_tensors)
    tokenizer = load_tokenizer(folder, config, converted=(folder / store.SEAL).is_file())
    return Loaded(model, tokenizer, full_provenance, "language", operator_tensors)


def take_operator_tensors(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Remove from a checkpoint's tensors those of attention operators, which transformers does not know."""
    return {name: state.pop(name) for name in list(state) if OF_OPERATORS in name}


def _joint(hashes: Mapping[str, str]) -> str:
    """One hash for several shards: SHA-256 of their names and hashes, sorted."""
    return hashlib.sha256(json.dumps(sorted(hashes.items())).encode()).hexdigest()


def build_config(
    settings: Mapping[str, Any], where: object, paths: Sequence[Path]
) -> tuple[PretrainedConfig, type[PreTrainedModel], dict[str, Any]]:
    """transformers' configuration and class for checked settings, of a causal language model or a vision transformer,
    with further arguments of the class, and our own of a diffusion transformer; never from the network.

    Args:
        paths: the weights, whose headers say whether a vision model has a pooler.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = settings.get("model_type")
    if kind == DIFFUSION_FAMILY:
        return *_diffusion_transformer(settings, where), {}
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        raise UnsupportedModel(
            f"{where} says model_type {kind!r}, which transformers {version('transformers')} does not have."
        )
    try:
        config = CONFIG_MAPPING[kind].from_dict(dict(settings))
    except (StrictDataclassError, TypeError, ValueError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise UntrustedModel(f"{where} is not a valid {kind} configuration: {reason}") from error
    if kind in VISION_FAMILIES:
        return vision.configured(config, settings, paths)
    return config, causal_class(config, where), {}


def _diffusion_transformer(settings: Mapping[str, Any], where: object) -> tuple[Any, Any]:
    from huggingface_hub.errors import StrictDataclassError

    from workbench.models.diffusion.dit import DiT
    from workbench.models.diffusion.dit_config import DiTConfig

    try:
        return DiTConfig.from_dict(dict(settings)), DiT
    except (StrictDataclassError, TypeError, ValueError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise UntrustedModel(f"{where} is not a valid {DIFFUSION_FAMILY} configuration: {reason}") from error


def causal_class(config: PretrainedConfig, where: object) -> type[PreTrainedModel]:
    """The causal language model that transformers registers for a configuration."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise UnsupportedModel(
            f"{where}: transformers has no causal language model for {config.model_type}, and it is no vision "
            "transformer that is loaded by name. Build the model in Python and hook it with a subclass of "
            "wb.HookedModel."
        )
    classes: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    return classes[0] if isinstance(classes, tuple) else classes


def check_budget(
    config: Any,
    model_class: Any,
    elements: int,
    tensors: int,
    where: object,
    options: Mapping[str, Any] = MappingProxyType({}),
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> None:
    """Refuse a configuration that needs much more than the weights hold, before anything of its size is allocated.

    The model is built on torch's meta device, which has shapes and no memory.

    Args:
        shapes: of the weights, where they have to be exactly the model's.
    """
    import torch

    text = config.get_text_config(decoder=True)
    layers = getattr(text, "num_hidden_layers", 0)
    if not isinstance(layers, int) or layers > tensors:
        raise UntrustedModel(f"{where}: the configuration asks for {layers} layers, the weights are {tensors} tensors.")
    try:
        with building_a_model(), torch.device("meta"):
            shell = model_class(config, **options)
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError, ZeroDivisionError, ImportError) as error:
        raise UnsupportedModel(f"{where}: transformers cannot build this {config.model_type} model: {error}") from error
    if shapes is not None:
        check_shapes(shell, shapes, where)
    required = sum(p.numel() for p in shell.parameters())
    buffers = sum(b.numel() * b.element_size() for b in shell.buffers())
    if required > elements + ROOM or buffers > BUFFER_LIMIT:
        raise UntrustedModel(
            f"{where}: the configuration asks for {required:,} parameters and {buffers:,} bytes of buffers, the "
            f"weights hold {elements:,} numbers. The folder mixes files of different models, or the download is "
            "incomplete."
        )


def build_model(
    model_class: Any,
    config: Any,
    state: dict[str, Any],
    dtype: Any,
    where: object,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> PreTrainedModel:
    """The model around these tensors (not copied where dtype and layout agree); every parameter must be among them."""
    with building_a_model(), quiet_transformers():
        try:
            model, report = model_class.from_pretrained(
                None,
                config=config,
                state_dict=state,
                dtype=dtype,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused below, with their names
                **options,
            )
        except (RuntimeError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise UntrustedModel(f"{where}: the weights do not match the configuration: {reason}") from error
    check_report(model, report, where, is_part=config.model_type in VISION_FAMILIES)
    model.requires_grad_(False)
    return model.eval()


def load_tokenizer(folder: Path, config: Any, converted: bool = False) -> PreTrainedTokenizerBase:
    """The directory's tokenizer; never from the network.

    Args:
        converted: `folder` is our own conversion, whose tokenizer.json says everything: it is read as it stands, which
            takes a third of the time that transformers needs.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        if converted:  # without the configuration, which it would store and could not write to a file
            return PreTrainedTokenizerFast.from_pretrained(str(folder), **options)
        return AutoTokenizer.from_pretrained(str(folder), config=config, **options)
    except (OSError, ValueError, ImportError, KeyError, TypeError) as error:
        raise UnsupportedModel(
            f"{folder}: the tokenizer cannot be loaded ({error}). Expected tokenizer.json and tokenizer_config.json "
            "beside the weights."
        ) from error


def dtype_name(dtype: str | torch.dtype | None) -> str:
    """The name of a dtype, float32 for None; `UsageError` for one that is not in `DTYPES`."""
    name = "float32" if dtype is None else str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise arguments.refusal("dtype", dtype, arguments.listing(DTYPES))
    return name


def pick_device(device: str | torch.device | None) -> torch.device:
    """The torch device; None is the GPU where CUDA finds one, else the CPU.

    Raises:
        UsageError: torch does not know the device, or cannot use it on this machine.
    """
    import torch

    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    expected = "a device that torch knows, such as 'cpu', 'cuda', 'cuda:1' or 'mps'"
    if not isinstance(device, str | torch.device):
        raise arguments.refusal("device", device, expected)
    try:
        target = torch.device(device)
    except RuntimeError:
        raise arguments.refusal("device", device, expected) from None
    try:
        torch.zeros(1, device=target).item()  # torch says in many ways what it cannot use; "meta" has no numbers
    except Exception as error:
        reason = str(error).partition("\n")[0].partition(". ")[0].rstrip(".")
        usable = "a device that torch can use on this machine"
        raise arguments.refusal(
            "device", str(device), usable, "Use device='cpu'.", because=f"torch says: {reason}"
        ) from None
    return target


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hide transformers' own progress bars and its table of tensors: progress is the caller's to show, and what does
    not match is refused."""
    from transformers.utils import logging

    was_enabled, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if was_enabled:
            logging.enable_progress_bar()
