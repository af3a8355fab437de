"""Whether the parts that a class of one's own names do what their names say, seen in one call of each layer."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from workbench.models.resumption import LayerAlone
from workbench.models.taps import on_input, on_output

if TYPE_CHECKING:
    from workbench.models.hooked import HookedModel


def misnamed_part(model: HookedModel, layer: LayerAlone) -> str:
    """What is wrong with a part of a layer, as a sentence without its full stop; empty where nothing is.

    ``norm1`` has to read the layer's input, ``output`` z, and ``query``, ``key`` and ``value`` (or ``fused``) have to
    give what attention receives, up to a factor; where q and k are normed or rotated on the way only v is compared.
    """
    parts = model.anatomy
    read: dict[str, Tensor] = {}
    received: dict[str, Tensor] = {}
    plain = not (parts.rotary or parts.query_norm)
    projections = {"q": parts.query, "k": parts.key, "v": parts.value}
    with ExitStack() as stack:
        attention = model.attentions[layer.index]
        watched = [("norm1", layer.module, parts.norm1, on_input), ("output", attention, parts.output, on_input)]
        watched += [(name, attention, part, on_output) for name, part in (*projections.items(), ("fused", parts.fused))]
        for name, root, part, on in watched:
            for handle in on(root.get_submodule(part), partial(read.__setitem__, name)) if part else ():
                stack.callback(handle.remove)
        sites = {site: model.hook_name(site, layer.index) for site in ("q", "k", "v", "z")}
        stack.enter_context(model.running({hook: partial(received.__setitem__, site) for site, hook in sites.items()}))
        layer.call()
    if "norm1" in read and not torch.equal(read["norm1"], layer.before):
        return f"norm1={parts.norm1!r} does not read the layer's input"
    if "output" in read and not _same(read["output"], received["z"].flatten(2)):
        return f"output={parts.output!r} does not read z"
    if "fused" in read:
        read |= _split(read["fused"], parts.fused_layout, received)
    for name in ("q", "k", "v") if plain else ("v",):
        if name in read and not _same(read[name], received[name].flatten(2)):
            part = f"fused={parts.fused!r}" if parts.fused else f"{projections[name]!r}"
            return f"{part} does not give the {name} that attention receives"
    return ""


def _split(fused: Tensor, layout: str, received: dict[str, Tensor]) -> dict[str, Tensor]:
    """q, k and v of the output of one matrix; empty where it is not as wide as the three."""
    widths = [received[name].shape[2] * received[name].shape[3] for name in "qkv"]
    if fused.shape[-1] != sum(widths):
        return {name: fused for name in "qkv"}
    if layout == "blocks":
        return dict(zip("qkv", fused.split(widths, -1), strict=True))
    by_head = fused.unflatten(-1, (received["q"].shape[2], 3, -1))
    return {name: by_head[..., i, :].flatten(-2) for i, name in enumerate("qkv")}


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are the same up to a factor."""
    if a.shape != b.shape:
        return False
    a, b = a.double().flatten(), b.double().flatten()
    return bool((a * b.norm() - b * a.norm()).abs().max() <= 1e-4 * a.norm() * b.norm())
