"""An oracle that shares nothing with the engine: plain PyTorch hooks on Hugging Face modules, whole forwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

#: Family → (layers, attention, output projection, MLP, norm before the MLP is not needed here).
PARTS = {
    "gpt2": ("transformer.h", "attn", "c_proj"),
    "gpt_neox": ("gpt_neox.layers", "attention", "dense"),
}


def output_projection(model: nn.Module, family: str, layer: int) -> nn.Module:
    """The module whose input is z, heads side by side."""
    layers, attention, output = PARTS.get(family, ("model.layers", "self_attn", "o_proj"))
    return model.get_submodule(f"{layers}.{layer}.{attention}.{output}")


def projection(model: nn.Module, layer: int, which: str) -> nn.Module:
    """A llama-like model's q, k or v projection."""
    return model.get_submodule(f"model.layers.{layer}.self_attn.{which}_proj")


@contextmanager
def edited(*edits: tuple[nn.Module, str, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """Replace the ``input`` or ``output`` of modules: ``(module, "input" | "output", f)``."""
    with ExitStack() as stack:
        for module, end, change in edits:
            if end == "input":
                handle = module.register_forward_pre_hook(lambda _, args, change=change: (change(args[0]), *args[1:]))
            else:
                handle = module.register_forward_hook(lambda _, __, output, change=change: change(output))
            stack.callback(handle.remove)
        yield


def seen(model: nn.Module, ids: Tensor, *places: tuple[nn.Module, str]) -> list[Tensor]:
    """What passes each place in one forward."""
    kept: dict[int, Tensor] = {}

    def keep(i: int) -> Callable[[Tensor], Tensor]:
        def change(x: Tensor) -> Tensor:
            kept[i] = x.clone()
            return x

        return change

    with edited(*((module, end, keep(i)) for i, (module, end) in enumerate(places))):
        model(ids, use_cache=False)
    return [kept[i] for i in range(len(places))]


def head_slice(head: int, d_head: int) -> slice:
    return slice(head * d_head, (head + 1) * d_head)


def logit_difference(model: nn.Module, ids: Tensor, answer: tuple[int, ...], wrong: tuple[int, ...]) -> float:
    """Mean logit of the answers minus mean logit of the wrong answers at the last position."""
    with torch.no_grad():
        logits = model(ids[None], use_cache=False).logits[0, -1]
    return float(logits[list(answer)].mean() - logits[list(wrong)].mean())
