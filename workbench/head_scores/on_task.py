"""What heads do on a task: direct logit attribution, the IOI read-out, and the logit lens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from workbench.core import Edit
from workbench.inputs.paired import PairedInputs
from workbench.models.anatomy import find
from workbench.models.precision import at_least_float32, called_in_float32
from workbench.models.taps import norm_scale
from workbench.patching.edits import Edits
from workbench.patching.recorder import Recorder

#: The IOI read-out asks whether the name is among this many tokens.
AMONG = 5


@dataclass(frozen=True)
class TaskScores:
    """One row an example, of the clean runs.

    Attributes:
        attribution: direct logit attribution of each head, in logits.
        attribution_uniform: the same, were the head's last row uniform over what it may see.
        read_out: per head, the share of the named tokens' places that it copies, see `read_out`; and of those that it
            suppresses. NaN where no place holds an answer's token.
        lens: logit difference read from the residual stream before each layer and after the last.
        lens_right: whether the answer's logit is the largest of the answers' and wrong answers' at that depth.
    """

    attribution: Float[np.ndarray, "example layer head"]
    attribution_uniform: Float[np.ndarray, "example layer head"]
    read_out: Float[np.ndarray, "layer head"]
    read_out_negative: Float[np.ndarray, "layer head"]
    lens: Float[np.ndarray, "example depth"]
    lens_right: Float[np.ndarray, "example depth"]


@torch.no_grad()
def task_scores(
    model: Any,
    recorder: Recorder,
    inputs: PairedInputs,
    edits: Sequence[Edit] = (),
    over: PairedInputs | None = None,
    *,
    reading_out: int | None = None,
) -> TaskScores:
    """All scores of a task's clean prompts (`inputs` need answers), under `edits` if there are any; `mean_over` as
    in `workbench.record`. The read-out, which costs most, is of the first `reading_out` prompts' places (None: all)."""
    layers = range(model.n_layers)
    last = model.n_layers - 1
    sites = {site: [model.hook_name(site, i) for i in layers] for site in ("z", "v", "resid_pre")}
    sites["end"] = [model.hook_name("resid_post", last)]
    changes = Edits.of(recorder, inputs, edits, over, 0, model) if edits else None
    source = recorder.source(inputs.clean, [hook for hooks in sites.values() for hook in hooks], edits=changes)
    group = model.n_heads // model.n_kv_heads
    last_z, mean_v, lens, right, copied, directions, scales = [], [], [], [], [], [], []
    for i in range(len(inputs)):
        z, v = (at_least_float32(torch.stack(source.read(sites[site], i))) for site in ("z", "v"))
        stream = torch.stack([*source.read(sites["resid_pre"], i), *source.read(sites["end"], i)])
        last_z.append(z[:, -1])
        mean_v.append(v.mean(1).repeat_interleave(group, 1))
        directions.append(answer_direction(model, inputs.answer[i], inputs.wrong[i]))
        scales.append(norm_scale(model.module(model.anatomy.final_norm), stream[-1, -1]))
        logits = model.unembed(stream[:, -1], torch.tensor([*inputs.answer[i], *inputs.wrong[i]], device=stream.device))
        logits = at_least_float32(logits)
        answers, wrongs = logits[:, : len(inputs.answer[i])], logits[:, len(inputs.answer[i]) :]
        lens.append(answers.mean(1) - wrongs.mean(1))
        right.append(answers.max(1).values > wrongs.max(1).values)
        copied.append(stream[min(1, last), _places(inputs, i)])
    actual, towards = torch.stack(last_z), torch.stack(directions) / torch.stack(scales)
    attribution = attributed(model, actual, actual, towards)
    uniform = attributed(model, torch.stack(mean_v), actual, towards)
    first = range(len(inputs))[:reading_out]
    ids = [inputs.clean[i][_places(inputs, i)] for i in first]
    positive, negative = read_out(
        model, torch.cat([copied[0][:0], *copied[: len(first)]]), torch.cat([inputs.clean[0][:0], *ids])
    )
    return TaskScores(
        _numpy(attribution), _numpy(uniform), _numpy(positive), _numpy(negative), _array(lens), _array(right)
    )


def answer_direction(model: Any, answer: Sequence[int], wrong: Sequence[int]) -> Float[Tensor, "d_model"]:
    """The direction whose dot product with the normed residual is the logit difference, without the unembedding's bias:
    the mean over the answers less the mean over the wrong answers; `tokens_to_residual_directions`, at least in
    float32."""
    weight, unembed = model.norm_weight(model.module(model.anatomy.final_norm)), model.W_U.T
    ids = (torch.tensor(list(tokens), device=unembed.device) for tokens in (answer, wrong))
    right, not_right = ((at_least_float32(unembed[tokens]) * weight).mean(0) for tokens in ids)
    return right - not_right


def attributed(
    model: Any,
    z: Float[Tensor, "example layer head d_head"],
    actual: Float[Tensor, "example layer head d_head"],
    towards: Float[Tensor, "example d_model"],
) -> Float[Tensor, "example layer head"]:
    """``(z_h W_O[h]) · towards``: what each head adds to the logit difference at one position, where `towards` is the
    answer's direction over the scale of the final norm.

    The norms' scales are those of the real run: of the final residual and, where a family norms the attention output,
    of that output (made of `actual` z). Summed over heads, with the MLPs, the embedding and the biases, it is the logit
    difference less that of the unembedding's bias. A soft cap on the logits is left out. Computed
    at least in float32.
    """
    anatomy, rows = model.anatomy, []
    z, actual, towards = map(at_least_float32, (z, actual, towards))
    if isinstance(model.module(anatomy.final_norm), nn.LayerNorm):
        towards = towards - towards.mean(-1, keepdim=True)
    for i in range(model.n_layers):
        attn, direction = model.blocks[i].attn, towards
        output = at_least_float32(attn.W_O.flatten(0, 1))  # [head · d_head, d_model]
        if anatomy.attn_out != anatomy.attention:
            after = model.part(i, anatomy.attn_out)
            scale = norm_scale(after, actual[:, i].flatten(1) @ output + attn.b_O)
            direction = direction * model.norm_weight(after) / scale
        read = (direction @ output.T).unflatten(1, z.shape[2:])
        rows.append((z[:, i] * read).sum(-1))
    return torch.stack(rows, 1)


def read_out(
    model: Any, residual: Float[Tensor, "place d_model"], ids: Int[Tensor, "place"]
) -> tuple[Float[Tensor, "layer head"], Float[Tensor, "layer head"]]:
    """The copy score of the IOI paper (Wang et al. 2022): the residual after layer 0 at a name, through layer 1's
    norm, a head's V and O, the final norm and the unembedding; the share of places at which that name is among the
    five tokens with the largest logits. The second is the same with the sign of the head's output flipped, for heads
    that suppress. Computed at least in float32: logits in half precision have ties.
    """
    layer = min(1, model.n_layers - 1)
    norm = model.part(layer, model.anatomy.norm1)
    normed, group = called_in_float32(norm, residual[:, None])[:, 0], model.n_heads // model.n_kv_heads
    shape = (model.n_layers, model.n_heads)
    if not len(ids):
        return torch.full(shape, torch.nan), torch.full(shape, torch.nan)
    ends = (model.module(model.anatomy.final_norm), model.module(model.anatomy.unembed))
    odd = all(getattr(end, "bias", None) is None for end in ends)  # then −x has the logits of x with the sign flipped
    shares: tuple[list[Tensor], list[Tensor]] = ([], [])
    for i in range(model.n_layers):
        attn = model.blocks[i].attn
        W_V, b_V, W_O = (at_least_float32(weight) for weight in (attn.W_V, attn.b_V, attn.W_O))
        v = (torch.einsum("pm,hmd->hpd", normed, W_V) + b_V[:, None]).repeat_interleave(group, 0)
        written = v @ W_O  # [head, place, d_model]
        after = find(model.layer(i), model.anatomy.attn_out)
        if model.anatomy.attn_out != model.anatomy.attention and after is not None:
            written = called_in_float32(after, written)
        logits = _unembedded(model, written)
        flipped = -logits if odd else _unembedded(model, -written)
        for into, ranked in zip(shares, (logits, flipped), strict=True):
            own = ranked.gather(-1, ids.to(ranked.device).expand(len(ranked), -1)[..., None])
            into.append(((ranked > own).sum(-1) < AMONG).float().mean(-1))
    return torch.stack(shares[0]), torch.stack(shares[1])


def _unembedded(model: Any, x: Float[Tensor, "head place d_model"]) -> Float[Tensor, "head place d_vocab"]:
    """`HookedLM.unembed`, at least in float32."""
    normed = called_in_float32(model.module(model.anatomy.final_norm), x.flatten(0, 1)[:, None])[:, 0]
    logits = called_in_float32(model.module(model.anatomy.unembed), normed).unflatten(0, x.shape[:2])
    cap = model.final_softcap
    return logits if cap is None else cap * torch.tanh(logits / cap)


def _places(inputs: PairedInputs, i: int) -> list[int]:
    """Where the prompt holds the token of an answer or a wrong answer (in IOI: the names)."""
    answers = {*inputs.answer[i], *inputs.wrong[i]}
    return [place for place, token in enumerate(inputs.clean[i].tolist()) if token in answers]


def _numpy(x: Tensor) -> np.ndarray:
    return x.detach().cpu().double().numpy()


def _array(rows: Sequence[Tensor]) -> np.ndarray:
    return _numpy(torch.stack(list(rows)))
