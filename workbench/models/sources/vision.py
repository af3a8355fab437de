"""Vision transformers of a directory: their class, and their image processor."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.errors import UnsupportedModel
from workbench.io import safetensors_header, trust

#: Files that may describe an image processor.
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
#: Models of images and texts → the class of their vision tower.
_TOWERS = {"CLIPModel": "CLIPVisionModelWithProjection", "SiglipModel": "SiglipVisionModel"}


def configured(config: Any, settings: Mapping[str, Any], paths: Sequence[Path]) -> tuple[Any, Any, dict[str, Any]]:
    """The configuration, the class and its further arguments: the classifier that the configuration names, or else the
    encoder; of a model of images and texts its vision tower. Without weights for a pooler it is left out.

    Args:
        paths: the weights.
    """
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    names = settings.get("architectures")
    name = str(names[0]) if isinstance(names, list) and names else ""
    if hasattr(config, "vision_config") and not name.endswith("ForImageClassification"):
        name = _TOWERS.get(name, _TOWERS["CLIPModel" if config.model_type == "clip" else "SiglipModel"])
        if config.model_type == "clip":
            config.vision_config.projection_dim = config.projection_dim
        config = config.vision_config
    ends = ("ForImageClassification", "ForImageClassificationWithTeacher", "VisionModel", "VisionModelWithProjection")
    chosen: Any = getattr(transformers, name, None) if name.endswith(ends) else None
    if chosen is None or chosen.config_class is not type(config):
        chosen = MODEL_MAPPING[type(config)]
    options: dict[str, Any] = {}
    if "add_pooling_layer" in inspect.signature(chosen.__init__).parameters:
        tensors = (tensor.name for path in paths for tensor in safetensors_header.read(path).tensors)
        options["add_pooling_layer"] = any("pooler." in tensor for tensor in tensors)
    return config, chosen, options


def load_processor(folder: Path) -> Any:
    """The directory's image processor in the form that works with PIL, so that numbers do not depend on torchvision;
    None where the directory has none. Never from the network.

    Raises:
        UnsupportedModel: it cannot be loaded.
    """
    from transformers import AutoImageProcessor, ViTImageProcessorPil

    if not any((folder / name).is_file() for name in PROCESSORS):
        return None
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        if _type_of(folder).startswith("DINOv3ViT"):  # has no such form: its settings in the form that ViT has
            return ViTImageProcessorPil.from_pretrained(str(folder), **options)
        processor = AutoImageProcessor.from_pretrained(str(folder), backend="pil", **options)
    except (OSError, ValueError, ImportError, KeyError, TypeError) as error:
        raise UnsupportedModel(f"{folder}: the image processor cannot be loaded ({error}).") from error
    if processor.backend != "pil":
        raise UnsupportedModel(f"{folder}: its {type(processor).__name__} has no form that works with PIL.")
    return processor


def _type_of(folder: Path) -> str:
    for name in PROCESSORS:
        if (folder / name).is_file():
            settings = trust.parse_json(trust.read_small(folder / name), folder / name)
            settings = settings.get("image_processor", settings)
            if isinstance(settings, dict) and "image_processor_type" in settings:
                return str(settings["image_processor_type"])
    return ""
