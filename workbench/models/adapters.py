"""Models with adapters of peft: which model is hooked, and which adapters it runs with now.

peft puts its layers (LoRA and the like) in the place of a model's own and a wrapper around the model. The model inside
is hooked: with its layers it computes what the wrapper does, which is proven when it is wrapped. What is switched on
the wrapper (``disable_adapter()``, ``set_adapter()``, ``merge_adapter()``) happens in the layers, so that results
follow.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from workbench.errors import UnsupportedModel


def model_inside(hf: Any) -> nn.Module:
    """The model that a peft wrapper runs, with the adapters in its layers; any other module as it is.

    Raises:
        UnsupportedModel: the adapter is no part of the layers (prompt and prefix tuning), or replaces the attention.
    """
    peft: Any = sys.modules.get("peft")  # who has a model of peft has imported it
    if peft is None or not isinstance(hf, peft.PeftModel | peft.PeftMixedModel):
        return hf
    configs: dict[str, Any] = getattr(hf, "peft_config", {})
    for name, config in configs.items():
        if config.is_prompt_learning or config.is_adaption_prompt:
            kind = getattr(config.peft_type, "value", config.peft_type)
            raise UnsupportedModel(
                f"Adapter {name!r} is of type {kind}, which adds positions that are no tokens of the prompt. Only "
                "adapters inside a model's layers (LoRA and the like) can be hooked."
            )
    inside = hf.get_base_model()
    if not isinstance(inside, nn.Module):
        raise UnsupportedModel(f"{type(hf).__name__} holds no torch module.")
    return inside


@torch.no_grad()
def require_same_forward(wrapper: nn.Module, inside: nn.Module, ids: Int[Tensor, "batch pos"]) -> None:
    """Show that a wrapper computes nothing besides the model inside.

    Raises:
        UnsupportedModel: their logits differ, or the wrapper cannot be called with ids alone.
    """
    kind = type(wrapper).__name__
    with evaluation_mode(wrapper):
        try:
            outer = wrapper(input_ids=ids, use_cache=False).logits
        except (AttributeError, RuntimeError, TypeError, ValueError) as error:
            raise UnsupportedModel(f"{kind} cannot be called with token ids alone: {error}") from error
        inner: Any = inside(ids, use_cache=False).logits
    if not torch.equal(outer, inner):
        by = float((outer - inner).abs().max())
        raise UnsupportedModel(
            f"{kind} does more than its layers: its logits differ by {by:.2g} from those of the model inside, which is "
            "what can be hooked."
        )


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Every module in evaluation mode; afterwards each is as it was."""
    before = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in before:
            part.training = training


def adapters_of(hf: nn.Module) -> list[dict[str, Any]]:
    """The adapters that a model holds, each with its state now: ``active``, ``merged`` or ``off``, and the factors by
    which it is scaled; JSON-able, empty for a model without any."""
    tuners: Any = sys.modules.get("peft.tuners.tuners_utils")
    if tuners is None:
        return []
    states: dict[str, set[str]] = {}
    scales: dict[str, set[float]] = {}
    layers: list[Any] = [module for module in hf.modules() if isinstance(module, tuners.BaseTunerLayer)]
    for layer in layers:
        running = () if layer.disable_adapters else layer.active_adapters
        for name in sorted(layer._get_available_adapters()):
            merged = name in layer.merged_adapters
            states.setdefault(name, set()).add("merged" if merged else "active" if name in running else "off")
            scaling = getattr(layer, "scaling", None)
            if isinstance(scaling, dict) and isinstance(scaling.get(name), int | float):
                scales.setdefault(name, set()).add(float(scaling[name]))
    return [
        {"name": name, "state": "/".join(sorted(states[name])), "scaling": sorted(scales.get(name, ()))}
        for name in sorted(states)
    ]
