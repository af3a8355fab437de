"""For the load-time self-check: whether heads' contributions add up in the model at hand, and which way they are had.

The short way, ``z W_O`` and the final norm with the unembedding, has to give what attention adds to the stream, and the
outputs; where it does not, contributions go through the model's own modules (`workbench.models.direct_path`), and have
to add up there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from workbench.errors import UnsupportedModel, UsageError, WorkbenchError
from workbench.models.direct_path import DirectPath
from workbench.models.norms import is_norm, norm_bias, norm_scale, numerator
from workbench.models.precision import TOLERANCE, close
from workbench.models.projections import bias_of, projection

if TYPE_CHECKING:
    from workbench.models.hooked import HookedModel

#: Why contributions by position cannot be had behind a convolution.
BEYOND = "what heads add at a position is spread over later ones (by a convolution behind attention)."
#: How many positions, and columns of the unembedding, are compared.
LAST, COLUMNS = 2, 64


@dataclass(frozen=True)
class Additivity:
    """How heads' contributions to the outputs are had.

    Attributes:
        by_weights: attention adds ``Σ z W_O + b_O``, normed where a norm follows, to the stream.
        reads_out: the outputs before any cap are the final norm, the unembedding and a factor.
        embeds: the embedding, and positions' where they are learned, is what enters layer 0.
        path: how they go through the model's own modules, where the short way is not the model's.
        gated: layers in which something between z and the output projection depends on the stream.
        why_not: why contributions to the outputs cannot be had; empty where they can.
    """

    by_weights: bool = False
    reads_out: bool = False
    embeds: bool = False
    path: DirectPath | None = None
    gated: frozenset[int] = frozenset()
    why_not: str = ""

    @property
    def is_short(self) -> bool:
        """Whether the short way is the model's."""
        return self.by_weights and self.reads_out


def additivity(
    model: HookedModel,
    inputs: Shaped[Tensor, "batch pos *rest"],
    by_weights: bool,
    embedded: Sequence[Tensor],
    streams: Sequence[Float[Tensor, "*batch pos d_model"]],
) -> Additivity:
    """Which way gives contributions that add up, on two random inputs.

    Args:
        by_weights: whether `writes_by_weights` holds in every layer, and attention's outputs join the stream.
        embedded: what the embeddings give for these inputs.
        streams: what enters each layer, and what leaves the last one.
    """
    language = model.modality == "language"
    embeds = _embeds(embedded, streams[0])
    reads_out = language and _reads_out(model, streams[-1])
    if by_weights and (reads_out or not language):
        return Additivity(by_weights, reads_out, embeds)
    try:
        path = DirectPath(model)
    except (WorkbenchError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        gated = frozenset() if by_weights else frozenset(range(model.n_layers))
        why_not = "what lies between z and the outputs was not found."
        return Additivity(by_weights, reads_out, embeds, gated=gated, why_not=why_not)
    why_not = _why_not(model, path, inputs)
    moves = why_not == BEYOND  # no matrix by position says what such heads write
    return Additivity(by_weights, reads_out, embeds, None if moves else path, frozenset(path.gated), why_not)


def writes_by_weights(
    model: HookedModel,
    layer: int,
    z: Float[Tensor, "batch pos head d_value"],
    attn_out: Float[Tensor, "batch pos d_model"],
) -> bool:
    """Whether ``Σ z W_O + b_O``, through the norm behind attention, is what a layer's attention adds to the stream."""
    anatomy = model.anatomy
    z, attn_out = z[:, -LAST:], attn_out[:, -LAST:]
    if not anatomy.output:
        return False
    try:
        output = model.attentions[layer].get_submodule(anatomy.output)
        written = z.flatten(2) @ projection(output).T
        written = written + bias_of(output, written)
        if anatomy.attn_out != anatomy.attention:
            after = model.part(layer, anatomy.attn_out)
            if not _is_as_folded(after, written):
                return False
            written = after(written)
    except (AttributeError, RuntimeError, UnsupportedModel):  # experts, or a norm over something else
        return False
    return close(written, attn_out)


def _embeds(embedded: Sequence[Tensor], entering: Float[Tensor, "*batch pos d_model"]) -> bool:
    if not embedded or any(x.shape[1:] != entering.shape[1:] for x in embedded):
        return False
    return close(sum(embedded[1:], embedded[0]), entering)


def _reads_out(model: HookedModel, stream: Float[Tensor, "*batch pos d_model"]) -> bool:
    """Whether the outputs are the final norm, the unembedding's matrix and a factor, but for a cap."""
    if not (model.short_readout or model.logit_scale != 1):
        return False
    norm, stream = model.module(model.anatomy.final_norm), stream[:, -LAST:]
    head: Any = model.module(model.anatomy.unembed)
    try:
        if not _is_as_folded(norm, stream):
            return False
        if type(head) is nn.Linear:  # whose matrix need not be asked for
            return True
        normed, columns = norm(stream), slice(COLUMNS)
        W_U: Any = model.W_U
        own = normed @ W_U[:, columns] + bias_of(head, W_U)[columns]
        return close(own, head(normed)[..., columns])
    except (AttributeError, RuntimeError, UnsupportedModel):
        return False


def _is_as_folded(norm: nn.Module, x: Float[Tensor, "batch pos d_model"]) -> bool:
    """Whether a norm is its gain, its centring, its scale and its bias."""
    if not is_norm(norm, x):
        return False
    return close((numerator(norm, x) / norm_scale(norm, x) + norm_bias(norm, x)).to(x.dtype), norm(x))


def _why_not(model: HookedModel, path: DirectPath, inputs: Tensor) -> str:
    """Why contributions through the model's own modules do not add up; empty where they do."""
    weights = torch.randn(model.n_outputs, generator=torch.Generator().manual_seed(0)).to(inputs.device)

    def score(outputs: Float[Tensor, "batch n_outputs"]) -> Float[Tensor, "batch"]:
        return outputs @ weights.to(outputs)

    try:
        error, size = path.difference(inputs, score)
        if model.reads_last_position:
            directions = path.read_directions(inputs, score)[1].abs()
            if float(directions[:, :, :-1].max()) > TOLERANCE.get(model.dtype, 1e-4) * float(directions.max()):
                return BEYOND
    except (UnsupportedModel, UsageError) as error:
        return str(error)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        return "what the heads add to the outputs cannot be followed through this model's modules."
    if error <= TOLERANCE.get(model.dtype, 1e-4) * max(size, 1e-3):
        return ""
    return f"what the heads add to the outputs does not add up to them (off by {error / size:.2g} of their size)."
