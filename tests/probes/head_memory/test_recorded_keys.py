"""Recorded keys are those that attention receives, against transformers' own rotation of the projections."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from probes.head_memory.recorded import recorded
from tests.families import VOCABULARY, hooked
from tests.oracle.plain_hooks import projection
from workbench.inputs.paired import PairedInputs


def test_keys_are_rotated_as_transformers_rotates_them() -> None:
    model = hooked("llama")
    ids = torch.arange(20) % VOCABULARY
    projected: dict[tuple[int, str], torch.Tensor] = {}
    with ExitStack() as hooks, torch.no_grad():
        for layer in range(model.n_layers):
            for which in ("k", "v"):
                module = projection(model.hf, layer, which)
                handle = module.register_forward_hook(
                    lambda *a, at=(layer, which): projected.__setitem__(at, a[2].detach())
                )
                hooks.callback(handle.remove)  # other tests have this model, too
        model.hf(ids[None])
    keys, values = next(recorded(model, PairedInputs("x", (ids,), (ids,)), cache=False))
    shape = (1, len(ids), model.n_kv_heads, model.d_head)
    for layer in range(model.n_layers):
        k, v = (projected[layer, which].reshape(shape).transpose(1, 2) for which in ("k", "v"))
        cos, sin = model.hf.model.rotary_emb(k, torch.arange(len(ids))[None])
        rotated = apply_rotary_pos_emb(k, k, cos, sin)[1][0]
        assert torch.allclose(keys[layer], rotated.double(), atol=1e-5)
        assert not torch.allclose(keys[layer], k[0].double(), atol=1e-2)
        assert torch.allclose(values[layer], v[0].double(), atol=1e-6)
