"""Where a model's weights are: on one device, offloaded by accelerate, or nowhere; and whether they are quantised."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from workbench.errors import UnsupportedModel


def device_of(module: nn.Module) -> torch.device:
    """The device that a module computes on: its parameters', and for offloaded ones that to which accelerate brings
    them."""
    for parameter in module.parameters():
        if parameter.device.type != "meta":
            return parameter.device
    for part in module.modules():
        if (device := getattr(_offloading_hook(part), "execution_device", None)) is not None:
            return torch.device(device if not isinstance(device, int) else f"cuda:{device}")
    return next((buffer.device for buffer in module.buffers()), torch.device("cpu"))


def require_one_device(hf: nn.Module) -> None:
    """Refuse a model that has weights on several devices, or without data.

    Raises:
        UnsupportedModel: either; the message says which.
    """
    kind, devices = type(hf).__name__, sorted({str(p.device) for p in hf.parameters() if p.device.type != "meta"})
    if len(devices) > 1:
        raise UnsupportedModel(
            f"{kind} is spread over {' and '.join(devices)} (device_map). Load it on one device: device_map=None."
        )
    offloaded = {id(p) for part in hf.modules() if _offloading_hook(part) is not None for p in part.parameters()}
    for name, parameter in hf.named_parameters():
        if parameter.device.type == "meta" and id(parameter) not in offloaded:
            raise UnsupportedModel(
                f"{name} of {kind} has no data (it is on the meta device). Load the weights before hooking the model."
            )


def quantised_kind(hf: nn.Module) -> str:
    """The class of the first module (or weight) of a quantised model; empty for one of plain floating-point weights."""
    for module in hf.modules():
        weight: Any = module.__dict__["_parameters"].get("weight")
        if "quantized" in type(module).__module__ or (weight is None and hasattr(module, "qweight")):
            return f"{type(module).__module__}.{type(module).__qualname__}"
        if isinstance(weight, Tensor) and (
            not weight.is_floating_point() or type(weight) not in (Tensor, nn.Parameter, nn.Buffer)
        ):
            return f"{type(weight).__module__}.{type(weight).__qualname__}"
    return ""


def _offloading_hook(module: nn.Module) -> Any:
    """Accelerate's hook that brings a module's weights when it runs, None where it has none."""
    hook = module.__dict__.get("_hf_hook")
    for one in (*getattr(hook, "hooks", ()), hook):
        if getattr(one, "offload", False):
            return one
    return None
