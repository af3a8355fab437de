"""Path patching against the published procedure, written out with plain hooks: two runs a sender."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from torch import Tensor

from tests.families import hooked, hugging_face, paired
from tests.oracle.plain_hooks import captured, edited, head_slice, logit_difference, output_projection, projection
from workbench.core import Head
from workbench.models.language import HookedLM
from workbench.patching.path import path_patch

PAIRS = paired(3)


def published(
    family: str,
    example: int,
    sender: Head,
    receivers: list[Head] | None,
    into: str,
    at: int,
    everywhere: bool,
    swapped: HookedLM | None = None,
):
    """The metric of the clean prompt along the sender's direct paths, as the study computes it; of `swapped`, the
    family's model with other operators, where that is the subject."""
    hooked_model = swapped or hooked(family)
    model = hugging_face(family) if swapped is None else swapped.hf
    clean, corrupt = PAIRS.clean[example], PAIRS.corrupt[example]
    outputs = [(output_projection(model, family, layer), "input") for layer in range(hooked_model.n_layers)]
    base, source = captured(model, clean[None], *outputs), captured(model, corrupt[None], *outputs)
    sender_dims = head_slice(sender.index, hooked_model.d_head)

    def freeze(layer: int):
        def change(z: Tensor) -> Tensor:
            z = z.clone()
            if everywhere:
                z[:] = base[layer]
            else:
                z[:, at] = base[layer][:, at]
            if layer == sender.layer:
                z[:, at, sender_dims] = source[layer][:, at, sender_dims]
            return z

        return change

    first = [(module, end, freeze(layer)) for layer, (module, end) in enumerate(outputs)]
    if receivers is None:
        with edited(*first):
            return logit_difference(model, clean, PAIRS.answer[example], PAIRS.wrong[example])
    reachable = [head for head in receivers if head.layer > sender.layer]
    ends = [(projection(model, head.layer, into), "output") for head in reachable]
    with edited(*first):
        inputs = captured(model, clean[None], *ends)
    group = hooked_model.n_heads // (hooked_model.n_heads if into == "q" else hooked_model.n_kv_heads)

    def receive(index: int, head: Head):
        part = head_slice(head.index // group, hooked_model.d_head)

        def change(x: Tensor) -> Tensor:
            x, positions = x.clone(), slice(None) if everywhere else at
            x[:, positions, part] = inputs[index][:, positions, part]
            return x

        return change

    with edited(*((ends[i][0], "output", receive(i, head)) for i, head in enumerate(reachable))):
        return logit_difference(model, clean, PAIRS.answer[example], PAIRS.wrong[example])


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2", "gpt_neox"])
@pytest.mark.parametrize(("position", "freeze"), [("end", "position"), ("S", "position"), (4, "all")])
def test_to_the_logits(family: str, position: str | int, freeze: Any) -> None:
    result = path_patch(hooked(family), PAIRS, position=position, freeze=freeze)
    for example, sender in [(0, Head(0, 1)), (1, Head(1, 5)), (2, Head(2, 0))]:
        at = PAIRS.positions[example][position] if isinstance(position, str) else position
        expected = published(family, example, sender, None, "q", at, freeze == "all")
        assert result.values[sender.layer, sender.index, example] == pytest.approx(expected, abs=1e-4)
    if position == "end":
        assert np.abs(result.delta).max() > 1e-2


@pytest.mark.parametrize("into", ["q", "k", "v"])
@pytest.mark.parametrize(("position", "freeze"), [("end", "position"), ("S", "position"), ("S", "all")])
def test_to_heads(into: Any, position: str, freeze: Any) -> None:
    receivers = [Head(1, 2), Head(2, 4)]
    result = path_patch(
        hooked("llama"), PAIRS, receivers, into=into, position=position, freeze=freeze, share_kv=into != "q"
    )
    for example, sender in [(0, Head(0, 1)), (1, Head(0, 5)), (2, Head(1, 0))]:
        expected = published(
            "llama", example, sender, receivers, into, PAIRS.positions[example][position], freeze == "all"
        )
        assert result.values[sender.layer, sender.index, example] == pytest.approx(expected, abs=1e-4)
    assert np.isnan(result.values[2]).all()
    assert np.nanmax(np.abs(result.delta)) > 1e-2


def test_a_receiver_of_a_group_is_reached_alone() -> None:
    alone = path_patch(hooked("llama"), PAIRS, [Head(2, 4)], into="v", position="S")
    shared = path_patch(hooked("llama"), PAIRS, [Head(2, 4)], into="v", position="S", share_kv=True)
    each = [path_patch(hooked("llama"), PAIRS, [Head(2, h)], into="v", position="S").delta for h in (3, 4, 5)]
    assert np.nanmax(np.abs(alone.delta - shared.delta)) > 1e-2
    # Together the three heads of the group make the shared edit; v enters the logits almost linearly at the last layer.
    together = path_patch(hooked("llama"), PAIRS, [Head(2, 3), Head(2, 4), Head(2, 5)], into="v", position="S")
    assert np.nanmax(np.abs(together.delta - shared.delta)) < 1e-4
    assert np.nanmax(np.abs(sum(each) - shared.delta)) > 0


@pytest.mark.parametrize("direction", ["noise", "denoise"])
def test_both_runs_have_the_scores_of_plain_forwards(direction: Any) -> None:
    """The source run is resumed from its first difference on."""
    model = hugging_face("llama")
    runs = [PAIRS.clean, PAIRS.corrupt] if direction == "noise" else [PAIRS.corrupt, PAIRS.clean]
    logits = [[model(ids[None]).logits[0, -1] for ids in run] for run in runs]
    clean = logits[0 if direction == "noise" else 1]
    by_difference = path_patch(hooked("llama"), PAIRS, direction=direction)
    by_divergence = path_patch(hooked("llama"), PAIRS, direction=direction, metric="kl_divergence")
    for scores, divergences, rows in zip(
        (by_difference.base, by_difference.source), (by_divergence.base, by_divergence.source), logits, strict=True
    ):
        assert scores is not None and divergences is not None
        for i, row in enumerate(rows):
            expected = row[list(PAIRS.answer[i])].mean() - row[list(PAIRS.wrong[i])].mean()
            assert scores[i] == pytest.approx(float(expected), abs=1e-4)
            p, q = clean[i].log_softmax(-1), row.log_softmax(-1)
            assert divergences[i] == pytest.approx(float((p.exp() * (p - q)).sum()), abs=1e-4)
