"""Path patching in models with a gate between z and the output projection, by plain hooks on what enters it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from torch import Tensor

import workbench as wb
from tests.families import paired
from tests.oracle.plain_hooks import captured, edited, head_slice, logit_difference
from tests.other_families import hooked_other, other
from workbench.core import Head

PAIRS = paired(3)


@pytest.mark.parametrize("family", ["afmoe", "qwen3_next"])
@pytest.mark.parametrize(("position", "freeze"), [("end", "position"), ("S", "position"), ("end", "all")])
@pytest.mark.parametrize("receiver", [None, Head(1, 3)])
def test_a_frozen_head_writes_what_it_wrote(
    family: str, position: str | int, freeze: Any, receiver: Head | None
) -> None:
    plain, model = other(family), hooked_other(family)
    layers = [layer.self_attn for layer in plain.model.layers]
    receivers = None if receiver is None else [receiver]
    into: Any = None if receiver is None else "v"
    result = wb.path_patch(
        model, PAIRS, receivers, into=into, position=position, freeze=freeze, share_kv=receiver is not None
    )
    assert result.info["site"] == "attn.hook_z_gated"
    for example, sender in [(0, Head(0, 1)), (1, Head(0 if receiver else 1, 5))]:
        at: Any = PAIRS.positions[example][position] if isinstance(position, str) else position
        clean, corrupt = PAIRS.clean[example], PAIRS.corrupt[example]
        entries = [(attention.o_proj, "input") for attention in layers]
        base, source = captured(plain, clean[None], *entries), captured(plain, corrupt[None], *entries)
        where = slice(None) if freeze == "all" else at

        def change(layer: int, z: Tensor, base: Any = base, source: Any = source, sender: Head = sender, at: Any = at):
            z, dims = z.clone(), head_slice(sender.index, model.d_head)
            frozen_at = slice(None) if freeze == "all" else at
            z[:, frozen_at] = base[layer][:, frozen_at]
            if layer == sender.layer:
                z[:, at, dims] = source[layer][:, at, dims]
            return z

        frozen = [(attention.o_proj, "input", lambda z, i=i: change(i, z)) for i, attention in enumerate(layers)]
        answers = PAIRS.answer[example], PAIRS.wrong[example]
        if receiver is None:
            with edited(*frozen):
                expected = logit_difference(plain, clean, *answers)
        else:
            values, dims = layers[receiver.layer].v_proj, head_slice(receiver.index // 3, model.d_head)
            with edited(*frozen):
                (received,) = captured(plain, clean[None], (values, "output"))

            def receive(x: Tensor, received: Tensor = received, where: Any = where, dims: slice = dims) -> Tensor:
                x = x.clone()
                x[:, where, dims] = received[:, where, dims]
                return x

            with edited((values, "output", receive)):
                expected = logit_difference(plain, clean, *answers)
        assert result.values[sender.layer, sender.index, example] == pytest.approx(expected, abs=1e-4)
    assert np.nanmax(np.abs(result.delta)) > 1e-3
