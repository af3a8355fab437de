"""Tiny random models of a `Configuration`: sharp weights, and biases and norms that are not neutral."""

from __future__ import annotations

from typing import Any

import torch
import transformers

from tests.families.configurations import Configuration
from tests.families.shrink import shrunk

#: More weights than this are no tiny model: a size was not found.
LARGEST = 1_000_000
_AUTO: dict[str, Any] = {
    "causal": transformers.AutoModelForCausalLM,
    "masked": transformers.AutoModelForMaskedLM,
    "seq2seq": transformers.AutoModelForSeq2SeqLM,
    "speech": transformers.AutoModelForSpeechSeq2Seq,
}


class NoTinyModel(Exception):
    """No small model of this configuration can be made; the message says why."""


def tiny_model(configuration: Configuration, dtype: torch.dtype = torch.float32) -> Any:
    """A fresh model; the same weights every time.

    Raises:
        NoTinyModel: its sizes cannot be made small by their names, or it takes more than tokens.
    """
    try:
        config = shrunk(configuration.model_type, configuration.settings)
        text = config.get_text_config(decoder=configuration.head == "causal")
    except Exception as error:
        raise NoTinyModel(one_line(error)) from None
    if text.model_type != config.model_type:
        raise NoTinyModel(f"it reads more than text; its language model is {text.model_type}")
    auto = _AUTO[configuration.head]
    try:
        with torch.device("meta"):
            size = sum(parameter.numel() for parameter in auto.from_config(config).parameters())
        if size > LARGEST:
            raise NoTinyModel(f"{size:,} weights: some of its sizes have other names")
        torch.manual_seed(0)
        model = auto.from_config(config).eval().requires_grad_(False)
    except NoTinyModel:
        raise
    except Exception as error:
        raise NoTinyModel(one_line(error)) from None
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.mul_(configuration.scale)
        elif parameter.is_floating_point():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    if configuration.implementation:
        model.set_attn_implementation(configuration.implementation)
    return model.to(dtype)


def one_line(error: BaseException) -> str:
    """An error's text without its class, in one line."""
    return " ".join(str(error).split()) or type(error).__name__
