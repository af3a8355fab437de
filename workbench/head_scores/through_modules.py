"""Direct logit attribution and the IOI read-out through a model's own modules, where heads write through more than
``W_O``, with what is not linear held at its value in the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.errors import UnsupportedModel, UsageError
from workbench.models.anatomy import find
from workbench.models.precision import at_least_float32, called_in_float32
from workbench.models.reads_writes import ReadsWrites, same
from workbench.models.resumable import ResumableModel, Tap
from workbench.patching.cone import EditedRun, full_forward_taps

#: The IOI read-out asks whether the name is among this many tokens.
AMONG = 5


def attributed_through_modules(
    model: Any,
    ids: Int[Tensor, "pos"],
    answer: Sequence[int],
    wrong: Sequence[int],
    mean_v: Float[Tensor, "layer head d_head"],
    taps: Mapping[str, Tap] | None = None,
) -> tuple[Float[Tensor, "layer head"], Float[Tensor, "layer head"]]:
    """What each head adds to the logit difference at the last position, and what it would with the mean of its values
    for z; NaN where that cannot be had (`workbench.models.additivity`).

    Gates, the other branches and the norms' scales are those of the run; of logits that are capped it is the difference
    before the cap.

    Args:
        taps: edits of the run.
    """
    path, shape = model.additivity.path, (model.n_layers, model.n_heads)
    if path is None or model.additivity.why_not:
        return torch.full(shape, torch.nan), torch.full(shape, torch.nan)

    def difference(logits: Float[Tensor, "batch d_vocab"]) -> Float[Tensor, "batch"]:
        return logits[:, list(answer)].mean(-1) - logits[:, list(wrong)].mean(-1)

    z, directions = path.read_directions(ids[None], difference, taps)
    direction = directions[0, :, -1]
    return (z[0, :, -1] * direction).sum(-1), (mean_v * direction).sum(-1)


def taps_of(resumable: ResumableModel, run: EditedRun) -> Mapping[str, Tap]:
    """The edits of one run of a model with one step, as taps of a complete forward."""
    return full_forward_taps(resumable, [run], {})[0].get(0, {})


def unembedded(
    model: Any, x: Float[Tensor, "row d_model"], tokens: Int[Tensor, "n"] | None = None
) -> Float[Tensor, "row n"]:
    """The model's own logits of rows of the stream behind the last layer, of all tokens or some, at least in
    float32."""
    if model.short_readout or model.logit_scale != 1:
        return at_least_float32(model.unembed(x, tokens))
    ids = model.trial()[:1, :1].expand(len(x), 1)
    return at_least_float32(model.read_out(ids, x[:, None], tokens))


def read_out(
    model: Any, residual: Float[Tensor, "place d_model"], ids: Int[Tensor, "place"]
) -> tuple[Float[Tensor, "layer head"], Float[Tensor, "layer head"]]:
    """The copy score of the IOI paper (Wang et al. 2022): the residual after layer 0 at a name, through layer 1's
    norm, a head's V and O, the final norm and the unembedding; the share of places at which that name is among the
    five tokens with the largest logits. The second is the same with the sign of the head's output flipped, for heads
    that suppress. A gate behind z is that of the same place. NaN where a layer cannot be called alone. Computed at
    least in float32 where heads write through ``W_O`` alone: logits in half precision have ties.
    """
    shape = (model.n_layers, model.n_heads)
    nowhere = torch.full(shape, torch.nan), torch.full(shape, torch.nan)
    if not len(ids):
        return nowhere
    try:
        through = _layers_alone(model)
    except (UnsupportedModel, UsageError):  # why_no_read_out says it
        return nowhere
    normed = _normed(model, through, min(1, model.n_layers - 1), residual)
    ends = (model.module(model.anatomy.final_norm), model.module(model.anatomy.unembed))
    odd = all(getattr(end, "bias", None) is None for end in ends)  # then −x has the logits of x with the sign flipped
    shares: tuple[list[Tensor], list[Tensor]] = ([], [])
    for i in range(model.n_layers):
        written = _written(model, through, i, normed)
        logits = _logits(model, written)
        flipped = -logits if odd else _logits(model, -written)
        for into, ranked in zip(shares, (logits, flipped), strict=True):
            own = ranked.gather(-1, ids.to(ranked.device).expand(len(ranked), -1)[..., None])
            into.append(((ranked > own).sum(-1) < AMONG).float().mean(-1))
    return torch.stack(shares[0]), torch.stack(shares[1])


def why_no_read_out(model: Any) -> str:
    """Why the IOI read-out of a model cannot be had; empty where it can."""
    try:
        _layers_alone(model)
    except (UnsupportedModel, UsageError) as error:
        return str(error)
    return ""


def _layers_alone(model: Any) -> ReadsWrites:
    if model.additivity.path is None and not model.additivity.by_weights:
        raise UsageError(model.additivity.why_not)
    through = ReadsWrites(model)
    for i in range(model.n_layers):
        through.reads(i, through.probe(1, model.d_model))
    return through


def _normed(
    model: Any, through: ReadsWrites, layer: int, residual: Float[Tensor, "place d_model"]
) -> Float[Tensor, "place d_model"]:
    """What attention of a layer is called with, by the norm before it where that is shown to be all."""
    normed = through.reads(layer, residual).normed
    if not model.anatomy.norm1:
        return normed
    own = called_in_float32(model.part(layer, model.anatomy.norm1), residual[:, None])[:, 0]
    return own if same(own, normed) else normed


def _logits(model: Any, x: Float[Tensor, "head place d_model"]) -> Float[Tensor, "head place d_vocab"]:
    """Logits of what heads write, with weights at least in float32 where the unembedding follows the final norm."""
    if not model.additivity.reads_out:
        return unembedded(model, x.flatten(0, 1)).unflatten(0, x.shape[:2])
    normed = called_in_float32(model.module(model.anatomy.final_norm), x.flatten(0, 1)[:, None])[:, 0]
    logits = called_in_float32(model.module(model.anatomy.unembed), normed).unflatten(0, x.shape[:2])
    logits = logits if model.logit_scale == 1 else logits * model.logit_scale
    cap = model.final_softcap
    return logits if cap is None else cap * torch.tanh(logits / cap)


def _written(
    model: Any, through: ReadsWrites, i: int, normed: Float[Tensor, "place d_model"]
) -> Float[Tensor, "head place d_model"]:
    """What each head alone writes of the places that attention of its layer is called with."""
    anatomy, attn, group = model.anatomy, model.blocks[i].attn, model.n_heads // model.n_kv_heads
    v = _values(model, through, i, normed).repeat_interleave(group, 0)
    if model.additivity.by_weights:
        written = v @ at_least_float32(attn.W_O)
        after = find(model.layer(i), anatomy.attn_out)
        if anatomy.attn_out == anatomy.attention or after is None:
            return written
        return called_in_float32(after, written)
    rows = []
    for head, value in enumerate(v):
        z = value.new_zeros(len(value), model.n_heads, value.shape[-1])
        z[:, head] = value
        rows.append(through.writes(i, z, normed=normed))
    return torch.stack(rows)


def _values(
    model: Any, through: ReadsWrites, i: int, normed: Float[Tensor, "place d_model"]
) -> Float[Tensor, "kv_head place d_head"]:
    """A layer's values of what attention is called with: by its projection where that is shown to be plain."""
    attn = model.blocks[i].attn
    try:
        W_V, b_V = at_least_float32(attn.W_V), at_least_float32(attn.b_V)
        v = torch.einsum("pm,hmd->hpd", normed, W_V) + b_V[:, None]
    except (AttributeError, RuntimeError, UnsupportedModel):
        return through.reads(i, normed, normed=True).v.transpose(0, 1)
    real = through.reads(i, normed[:2], normed=True).v.transpose(0, 1)
    return v if same(v[:, :2], real) else through.reads(i, normed, normed=True).v.transpose(0, 1)
