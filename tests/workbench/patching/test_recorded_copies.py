"""What is recorded is a copy: whatever is written into a model's tensors afterwards changes no recorded value."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

import workbench as wb
from workbench.models.diffusion.dit import DiT, DiTConfig


def test_what_is_changed_in_place_afterwards_leaves_recorded_values_alone() -> None:
    """A hook of the user's own writes into z on its way to the output projection, behind the site."""
    torch.manual_seed(0)
    dit = DiT(DiTConfig()).eval()
    for parameter in dit.parameters():
        parameter.data.copy_(0.1 * torch.randn_like(parameter))
    model, latents = wb.HookedDiT(dit, steps=2, guidance=2.0), wb.latents([3, 5], seed=0)
    before: list[Tensor] = []

    def overwrite(_: nn.Module, args: tuple[Tensor]) -> None:
        before.append(args[0].clone())
        args[0].mul_(0.5)

    handle = dit.get_submodule("blocks.2.attn.o_proj").register_forward_pre_hook(overwrite)
    recorded = wb.record(model, latents, ["z"], layers=[2], cache=False).clean.stack("z")
    handle.remove()
    passes = torch.stack(before[-2:]).unflatten(1, (2, 2)).flatten(2, 3)  # [step, row, both passes' pos, d_model]
    assert passes.abs().max() > 0.1
    assert torch.equal(recorded[:, :, 0].flatten(-2), passes.transpose(0, 1))


def test_recorded_tensors_share_no_memory() -> None:
    """Neither with each other, nor over batches: what is written to one changes none of the others."""
    model = wb.load("tiny")
    rec = wb.record(model, ["Then, Mary and John"] * 9 + ["Then, Mary"], ["z", "resid_pre"], cache=False)
    stacked = {(site, i): rec.clean[site][i].clone() for site in rec.clean for i in range(10)}
    source = rec.clean._source
    hooks = [f"blocks.{layer}.{part}" for layer in range(2) for part in ("attn.hook_z", "hook_resid_pre")]
    rows = [(hook, i, source.read([hook], i)[0]) for hook in hooks for i in range(10)]
    ends = sorted((row.data_ptr(), row.data_ptr() + row.nbytes) for _, _, row in rows)
    assert all(end <= start for (_, end), (start, _) in pairwise(ends))
    own = rec.clean["blocks.0.attn.hook_z"][0]
    own.zero_()  # the user's own copy
    assert all(torch.equal(rec.clean[site][i], x) for (site, i), x in stacked.items())
