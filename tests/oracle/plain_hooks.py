"""An oracle that shares nothing with the engine: plain PyTorch hooks on Hugging Face modules, full forwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

#: Changes the activation of one prompt in place: ``[pos, ...]``, a pattern ``[dest, head, src]``.
InPlace = Callable[[Tensor], object]
#: Site, layer and what changes its activation.
Change = tuple[str, int, InPlace]

#: Family → (layers, attention, its output projection, the norm before the MLP).
PARTS = {
    "gpt2": ("transformer.h", "attn", "c_proj", "ln_2"),
    "gpt_neox": ("gpt_neox.layers", "attention", "dense", ""),
    "gemma2": ("model.layers", "self_attn", "o_proj", "pre_feedforward_layernorm"),
    "gemma3": ("model.layers", "self_attn", "o_proj", "pre_feedforward_layernorm"),
    "gemma3n": ("model.layers", "self_attn", "o_proj", "pre_feedforward_layernorm"),
    "biogpt": ("biogpt.layers", "self_attn", "out_proj", ""),
    "whisper": ("model.decoder.layers", "self_attn", "out_proj", ""),
    "modernbert-decoder": ("model.layers", "attn", "Wo", "mlp_norm"),
    "dbrx": ("transformer.blocks", "norm_attn_norm.attn", "out_proj", "norm_attn_norm.norm_2"),
}
LLAMA_LIKE = ("model.layers", "self_attn", "o_proj", "post_attention_layernorm")
#: Families that norm q and k between projection and rotation, and whether heads come before positions there.
NORMED = {"qwen3": False, "gemma3": True}


def output_projection(model: nn.Module, family: str, layer: int) -> nn.Module:
    """The module whose input is z, heads side by side."""
    layers, attention, output, _ = PARTS.get(family, LLAMA_LIKE)
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
                handle = module.register_forward_pre_hook(_before(change))
            else:
                handle = module.register_forward_hook(_after(change))
            stack.callback(handle.remove)
        yield


def _before(change: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    return lambda _, args: (change(args[0]), *args[1:])


def _after(change: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    return lambda _, __, output: (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)


def captured(model: nn.Module, ids: Tensor, *ends: tuple[nn.Module, str]) -> list[Tensor]:
    """Inputs or outputs of modules in one forward: ``(module, "input" | "output")``."""
    activations: dict[int, Tensor] = {}

    def capture(i: int) -> Callable[[Tensor], Tensor]:
        def read(x: Tensor) -> Tensor:
            activations[i] = x.clone()
            return x

        return read

    with edited(*((module, end, capture(i)) for i, (module, end) in enumerate(ends))):
        model(ids, use_cache=False)
    return [activations[i] for i in range(len(ends))]


def head_slice(head: int, d_head: int) -> slice:
    return slice(head * d_head, (head + 1) * d_head)


def logit_difference(model: nn.Module, ids: Tensor, answer: tuple[int, ...], wrong: tuple[int, ...]) -> float:
    """Mean logit of the answers minus mean logit of the wrong answers at the last position."""
    with torch.no_grad():
        logits = model(ids[None], use_cache=False).logits[0, -1]
    return float(logits[list(answer)].mean() - logits[list(wrong)].mean())


class Plain:
    """A Hugging Face model read and edited at the workbench's sites by plain hooks, one prompt at a time.

    q and k are edited before rotary: at one and the same position that is equivalent, for values of another run and
    for anything linear.
    """

    def __init__(self, model: Any, family: str) -> None:
        self.model, self.family = model, family
        config = model.config
        self.n_heads = config.num_attention_heads
        self.n_kv_heads = getattr(config, "num_key_value_heads", None) or self.n_heads
        self.d_head = getattr(config, "head_dim", None) or config.hidden_size // self.n_heads
        self.eager = deepcopy(model)
        self.eager.set_attn_implementation("eager")

    def logits(self, ids: Tensor, *edits: Change) -> Tensor:
        """The last position's logits with the edits, the earliest first."""
        with torch.no_grad(), ExitStack() as stack:
            for edit in edits:
                stack.enter_context(self.editing(ids, edit))
            return self.model(ids[None], use_cache=False).logits[0, -1]

    def read(self, ids: Tensor, site: str, layer: int) -> Tensor:
        """The activation, positions first: ``[pos, ...]``, a pattern ``[dest, head, src]``."""
        if site == "pattern":
            with torch.no_grad():
                return (
                    self.eager(ids[None], use_cache=False, output_attentions=True).attentions[layer][0].transpose(0, 1)
                )
        activations: list[Tensor] = []
        self.logits(ids, (site, layer, lambda x: activations.append(x.clone())))
        return activations[0]

    @contextmanager
    def editing(self, ids: Tensor, edit: Change) -> Iterator[None]:
        """Change one site in place for the length of the block."""
        site, layer, change = edit
        if site == "pattern":
            pattern, values = self.read(ids, "pattern", layer).clone(), self.read(ids, "v", layer)
            change(pattern)
            values = values.repeat_interleave(self.n_heads // self.n_kv_heads, 1)
            z = torch.einsum("dhs,shx->dhx", pattern, values)
            site, change = "z", lambda x: x.copy_(z)
        edits = self._resid_mid(layer, change) if site == "resid_mid" else [self._edit(site, layer, change)]
        with edited(*edits):
            yield

    def _part(self, layer: int, name: str) -> nn.Module:
        return self.model.get_submodule(
            ".".join(filter(None, (PARTS.get(self.family, LLAMA_LIKE)[0], str(layer), name)))
        )

    def _edit(self, site: str, layer: int, change: InPlace) -> tuple[nn.Module, str, Callable[[Tensor], Tensor]]:
        _, attention, output, _ = PARTS.get(self.family, LLAMA_LIKE)
        gemma, heads = self.family.startswith("gemma"), (self.n_heads, self.d_head)
        if site in ("resid_pre", "resid_post"):
            return self._part(layer, ""), "input" if site == "resid_pre" else "output", _in_place(change, lambda x: x)
        if site == "attn_out":
            name = "post_attention_layernorm" if gemma else attention
            return self._part(layer, name), "output", _in_place(change, lambda x: x)
        if site == "mlp_out":
            name = "post_feedforward_layernorm" if gemma else "mlp"
            return self._part(layer, name), "output", _in_place(change, lambda x: x)
        if site == "z":
            return (
                self._part(layer, f"{attention}.{output}"),
                "input",
                _in_place(change, lambda x: x.unflatten(-1, heads)),
            )
        which = "qkv".index(site)
        if self.family == "gpt2":
            blocks = _in_place(change, lambda x: x.unflatten(-1, (3, *heads))[..., which, :, :])
            return self._part(layer, "attn.c_attn"), "output", blocks
        if self.family == "gpt_neox":
            triples = _in_place(change, lambda x: x.unflatten(-1, (self.n_heads, 3, self.d_head))[..., which, :])
            return self._part(layer, "attention.query_key_value"), "output", triples
        if site != "v" and self.family in NORMED:
            heads_first = NORMED[self.family]
            normed = _in_place(change, lambda x: x.transpose(1, 2) if heads_first else x)
            return self._part(layer, f"{attention}.{site}_norm"), "output", normed
        return (
            self._part(layer, f"{attention}.{site}_proj"),
            "output",
            _in_place(change, lambda x: x.unflatten(-1, (-1, self.d_head))),
        )

    def _resid_mid(self, layer: int, change: InPlace) -> list[tuple[nn.Module, str, Callable[[Tensor], Tensor]]]:
        """The norm before the MLP sees the edited stream; what the skip branch misses is added to the layer's end."""
        moved: list[Tensor] = []

        def before(x: Tensor) -> Tensor:
            new = x.clone()
            change(new[0])
            moved.append(new - x)
            return new

        norm = self._part(layer, PARTS.get(self.family, LLAMA_LIKE)[3])
        return [(norm, "input", before), (self._part(layer, ""), "output", lambda x: x + moved.pop())]


def _in_place(change: InPlace, view: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def changed(x: Tensor) -> Tensor:
        x = x.clone()
        change(view(x)[0])
        return x

    return changed
