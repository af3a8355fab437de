"""What heads do on a task: direct logit attribution, the IOI read-out, and the logit lens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.core import Edit
from workbench.head_scores.through_modules import attributed_through_modules, read_out, taps_of, unembedded
from workbench.inputs.paired import PairedInputs
from workbench.models.norms import centres, norm_scale
from workbench.models.precision import at_least_float32
from workbench.models.visible_positions import visible_from_the_end
from workbench.patching.edits import Edits
from workbench.patching.recorder import Recorder


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
    streams = has_stream(model)
    sites = {site: [model.hook_name(site, i) for i in layers] for site in ("z", "v")}
    if streams:
        sites["resid_pre"] = [model.hook_name("resid_pre", i) for i in layers]
        sites["end"] = [model.hook_name("resid_post", last)]
    changes = Edits.of(recorder, inputs, edits, over, 0, model) if edits else None
    source = recorder.source(inputs.clean, [hook for hooks in sites.values() for hook in hooks], edits=changes)
    group = model.n_heads // model.n_kv_heads
    short, seen = model.additivity.is_short, {}
    last_z, mean_v, lens, right, copied, directions, scales, parts = [], [], [], [], [], [], [], []
    for i in range(len(inputs)):
        z, v = (at_least_float32(torch.stack(source.read(sites[site], i))) for site in ("z", "v"))
        last_z.append(z[:, -1])
        mean_v.append(_mean_of_visible(model, inputs.clean[i], v.repeat_interleave(group, 2), seen))
        if not short:
            taps = None if changes is None else taps_of(recorder.resumable, changes.edited_run(i))
            parts.append(
                attributed_through_modules(model, inputs.clean[i], inputs.answer[i], inputs.wrong[i], mean_v[i], taps)
            )
        if not streams:
            continue
        stream = torch.stack([*source.read(sites["resid_pre"], i), *source.read(sites["end"], i)])
        if short:
            directions.append(answer_direction(model, inputs.answer[i], inputs.wrong[i]))
            scales.append(norm_scale(model.module(model.anatomy.final_norm), stream[-1, -1]))
        tokens = torch.tensor([*inputs.answer[i], *inputs.wrong[i]], device=stream.device)
        logits = unembedded(model, stream[:, -1], tokens)
        answers, wrongs = logits[:, : len(inputs.answer[i])], logits[:, len(inputs.answer[i]) :]
        lens.append(answers.mean(1) - wrongs.mean(1))
        right.append(answers.max(1).values > wrongs.max(1).values)
        copied.append(stream[min(1, last), answer_places(inputs, i)])
    if short:
        actual, towards = torch.stack(last_z), torch.stack(directions) / torch.stack(scales)
        attribution = attributed(model, actual, actual, towards)
        uniform = attributed(model, torch.stack(mean_v), actual, towards)
    else:
        attribution, uniform = (torch.stack(part) for part in zip(*parts, strict=True))
    if not streams:
        nothing, nowhere = torch.full((model.n_layers, model.n_heads), torch.nan), [torch.full((1,), torch.nan)]
        lens = right = nowhere * len(inputs)
        return TaskScores(
            _numpy(attribution), _numpy(uniform), _numpy(nothing), _numpy(nothing), _array(lens), _array(right)
        )
    first = range(len(inputs))[:reading_out]
    ids = [inputs.clean[i][answer_places(inputs, i)] for i in first]
    positive, negative = read_out(
        model, torch.cat([copied[0][:0], *copied[: len(first)]]), torch.cat([inputs.clean[0][:0], *ids])
    )
    return TaskScores(
        _numpy(attribution), _numpy(uniform), _numpy(positive), _numpy(negative), _array(lens), _array(right)
    )


def has_stream(model: Any) -> bool:
    """Whether the layers pass on one residual stream."""
    return "blocks.0.hook_resid_pre" in model.hook_dict


def _mean_of_visible(
    model: Any,
    ids: Tensor,
    v: Float[Tensor, "layer pos head d_head"],
    seen: dict[int, Tensor],
) -> Float[Tensor, "layer head d_head"]:
    """What uniform attention over all that the last position may see would give; `seen` keeps, by length, what that
    is, ``[layer, head, pos]``."""
    may_see = seen.get(len(ids))
    if may_see is None:
        may_see, of_all = visible_from_the_end(model, ids)
        if of_all:
            seen[len(ids)] = may_see
    if bool(may_see.all()):
        return v.mean(1)
    weights = may_see.to(v) / may_see.sum(-1, keepdim=True)
    return torch.einsum("lhp,lphd->lhd", weights, v)


def answer_direction(model: Any, answer: Sequence[int], wrong: Sequence[int]) -> Float[Tensor, "d_model"]:
    """The direction whose dot product with the normed residual is the logit difference, without the unembedding's bias:
    the mean over the answers less the mean over the wrong answers; `tokens_to_residual_directions`, at least in
    float32."""
    weight, unembed = model.norm_weight(model.module(model.anatomy.final_norm)), model.W_U.T
    ids = (torch.tensor(list(tokens), device=unembed.device) for tokens in (answer, wrong))
    right, not_right = ((at_least_float32(unembed[tokens]) * weight).mean(0) for tokens in ids)
    direction = right - not_right
    return direction if model.logit_scale == 1 else direction * model.logit_scale


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
    difference less that of the unembedding's bias; of logits that are capped, the difference before the cap. Computed
    at least in float32. Of models whose `additivity` is not the short one it would be wrong:
    `attributed_through_modules` is for them.
    """
    anatomy, rows = model.anatomy, []
    z, actual, towards = map(at_least_float32, (z, actual, towards))
    if centres(model.module(anatomy.final_norm), towards):
        towards = towards - towards.mean(-1, keepdim=True)
    for i in range(model.n_layers):
        attn, direction = model.blocks[i].attn, towards
        output = at_least_float32(attn.W_O.flatten(0, 1))  # [head · d_head, d_model]
        if anatomy.attn_out != anatomy.attention:
            after = model.part(i, anatomy.attn_out)
            scale = norm_scale(after, actual[:, i].flatten(1) @ output + attn.b_O)
            direction = direction * model.norm_weight(after) / scale
            direction = direction - direction.mean(-1, keepdim=True) if centres(after, direction) else direction
        read = (direction @ output.T).unflatten(1, z.shape[2:])
        rows.append((z[:, i] * read).sum(-1))
    return torch.stack(rows, 1)


def answer_places(inputs: PairedInputs, i: int) -> list[int]:
    """Where the prompt holds the token of an answer or a wrong answer (in IOI: the names)."""
    answers = {*inputs.answer[i], *inputs.wrong[i]}
    return [place for place, token in enumerate(inputs.clean[i].tolist()) if token in answers]


def _numpy(x: Tensor) -> np.ndarray:
    return x.detach().cpu().double().numpy()


def _array(rows: Sequence[Tensor]) -> np.ndarray:
    return _numpy(torch.stack(list(rows)))
