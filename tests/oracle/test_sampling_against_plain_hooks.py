"""Heads of a diffusion transformer, patched in every step, step by step and in one branch of guidance, against a plain
loop with plain hooks."""

from __future__ import annotations

import copy
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import workbench as wb
from tests.oracle.plain_sampling import Change, latents_of, plain_sample, random_dit
from workbench.errors import UsageError

STEPS, LAYERS, HEADS, D_HEAD, POSITIONS = 3, 3, 4, 8, 16
WEIGHTS = torch.linspace(-1, 1, 64, dtype=torch.float64)


def mass(outputs: Tensor, example: Any) -> Tensor:
    """A number in which every pixel counts for itself."""
    return (outputs.square() * WEIGHTS.to(outputs)).sum(-1)


@pytest.fixture(scope="module", params=[None, 1.7], ids=["plain", "guided"])
def model(request: pytest.FixtureRequest) -> wb.HookedDiT:
    return wb.HookedDiT(random_dit(), steps=STEPS, guidance=request.param)


PAIRS = wb.latents([3, 0], other=[1, 4], seed=5)


class Plain:
    """The same model without the engine."""

    def __init__(self, model: wb.HookedDiT) -> None:
        self.hf, self.guidance = model.hf, model.sampling.guidance
        self.branches = 1 if self.guidance is None else 2
        self.noise = latents_of(PAIRS, "clean", self.hf)

    def image(self, example: int, run: str, changes: dict[int, Change] | None = None) -> Tensor:
        label = (PAIRS.classes if run == "clean" else PAIRS.other or ())[example]
        assert isinstance(label, int)
        return plain_sample(self.hf, self.noise[example], label, STEPS, self.guidance, changes)

    def z(self, example: int, run: str) -> dict[tuple[int, int, int], Tensor]:
        """By layer, step and branch."""
        seen: dict[tuple[int, int, int], Tensor] = {}

        def reading(layer: int) -> Change:
            return lambda step, branch, x: seen.setdefault((layer, step, branch), x.clone())

        self.image(example, run, {layer: reading(layer) for layer in range(LAYERS)})
        return seen

    def patched(
        self,
        example: int,
        layer: int,
        head: int,
        steps: Any = range(STEPS),
        branches: Any = (0, 1),
        rows: Any = slice(None),
    ) -> Tensor:
        """The corrupt run's image with a clean head."""
        source, columns = self.z(example, "clean"), slice(head * D_HEAD, (head + 1) * D_HEAD)

        def change(step: int, branch: int, x: Tensor) -> Tensor:
            x = x.clone()
            if step in steps and branch in branches:
                x[:, rows, columns] = source[layer, step, branch][:, rows, columns]
            return x

        return self.image(example, "corrupt", {layer: change})

    def score(self, image: Tensor) -> float:
        return float(mass(image.reshape(1, -1), None))


def test_every_step_as_one_cell_and_step_by_step(model: wb.HookedDiT) -> None:
    plain = Plain(model)
    together = wb.sweep(model, PAIRS, metric=mass)
    apart = wb.sweep(model, PAIRS, metric=mass, by=["step", "head"])
    assert together.axes == ("layer", "head") and apart.axes == ("step", "layer", "head")
    assert together.info["exact"] == "resumed"
    for example in range(len(PAIRS)):
        assert together.base[example] == pytest.approx(plain.score(plain.image(example, "corrupt")), abs=1e-9)
    for layer, head in product(range(LAYERS), (0, 3)):
        expected = plain.score(plain.patched(0, layer, head))
        assert together.values[layer, head, 0] == pytest.approx(expected, abs=1e-9)
    for step, layer in product(range(STEPS), range(LAYERS)):
        expected = plain.score(plain.patched(1, layer, 2, steps=[step]))
        assert apart.values[step, layer, 2, 1] == pytest.approx(expected, abs=1e-9)
    assert np.abs(together.delta).max() > 1e-2 and np.abs(apart.delta).min() > 0


def test_one_position_one_branch_and_some_steps(model: wb.HookedDiT) -> None:
    plain, branches = Plain(model), model.branches
    for branch in range(branches):
        positions = range(branch * POSITIONS, (branch + 1) * POSITIONS)
        values = wb.sweep(model, PAIRS, metric=mass, positions=positions).values
        for layer in range(LAYERS):
            expected = plain.score(plain.patched(0, layer, 1, branches=[branch]))
            assert values[layer, 1, 0] == pytest.approx(expected, abs=1e-9)
    name = "2,1" if branches == 1 else "none 2,1"
    at = wb.sweep(model, PAIRS, metric=mass, by=["head", "position"], positions=[name], steps=[0, 2])
    assert at.labels["position"] == (name,)
    expected = plain.score(plain.patched(0, 1, 3, steps=[0, 2], branches=[branches - 1], rows=[9]))
    assert at.values[1, 3, 0, 0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("kind", ["zero", "scale", "identity"])
def test_other_edits(model: wb.HookedDiT, kind: str) -> None:
    plain, columns = Plain(model), slice(2 * D_HEAD, 3 * D_HEAD)
    arguments: dict[str, Any] = {"scale": {"factor": 0.3}, "identity": {"u": 1.0, "site": "pattern"}}.get(kind, {})
    values = wb.sweep(model, PAIRS, edit=kind, metric=mass, **arguments).values
    for layer in range(LAYERS):
        v: list[Tensor] = []

        def change(step: int, branch: int, z: Tensor, v: list[Tensor] = v) -> Tensor:
            z = z.clone()
            new = {"zero": lambda: 0 * z, "scale": lambda: 0.3 * z, "identity": lambda: v[-1]}
            z[..., columns] = new[kind]()[..., columns]
            return z

        reading = plain.hf.get_submodule(f"blocks.{layer}.attn.v_proj").register_forward_hook(
            lambda _, __, out, v=v: v.append(out)
        )
        expected = plain.score(plain.image(1, "clean", {layer: change}))
        reading.remove()
        assert values[layer, 2, 1] == pytest.approx(expected, abs=1e-9)


def test_in_single_precision_too(model: wb.HookedDiT) -> None:
    """To 1e-5 of pixels between −8 and 8."""
    single = wb.HookedDiT(copy.deepcopy(model.hf).float(), steps=STEPS, guidance=model.sampling.guidance)
    plain = Plain(single)
    plain.noise = plain.noise.float()
    for layer, step in ((0, 0), (1, 2), (2, 1)):
        edits = [wb.Edit("z", layer, 3, step=step)]
        resumed = wb.sweep(single, PAIRS, metric=_mean, by=["step", "head"]).values[step, layer, 3, 0]
        image = plain.patched(0, layer, 3, steps=[step])
        assert resumed == pytest.approx(float(image.mean()), abs=1e-5)
        outputs = wb.run(single, PAIRS, edits, base="corrupt").logits[0]
        assert torch.allclose(outputs, image.flatten(), atol=1e-5)


def _mean(outputs: Tensor, example: Any) -> Tensor:
    return outputs.mean(-1)


def test_recordings_are_what_plain_hooks_read(model: wb.HookedDiT, tmp_path: Any) -> None:
    """Every head in every step, in memory and through the cache."""
    plain, branches = Plain(model), model.branches
    for cache in (False, tmp_path):
        rec = wb.record(model, PAIRS, ["z", "v", "pattern", "q", "k"], cache=cache)
        for example in range(len(PAIRS)):
            z = rec.clean["z"][example]
            assert z.shape == (STEPS, LAYERS, branches * POSITIONS, HEADS, D_HEAD)
            for (layer, step, branch), x in plain.z(example, "clean").items():
                own = z[step, layer, branch * POSITIONS : (branch + 1) * POSITIONS]
                assert torch.allclose(own.flatten(1), x[0], atol=1e-10)
            pattern, v = rec.clean["pattern"][example], rec.clean["v"][example]
            assert torch.allclose(torch.einsum("tlhds,tlshx->tldhx", pattern, v), z, atol=1e-10)
            scores = torch.einsum("tldhx,tlshx->tlhds", rec.clean["q"][example], rec.clean["k"][example]) / D_HEAD**0.5
            first = scores[..., :POSITIONS, :POSITIONS].softmax(-1)
            assert torch.allclose(pattern[..., :POSITIONS, :POSITIONS], first, atol=1e-10)


def test_plain_hooks_of_transformer_lens(model: wb.HookedDiT) -> None:
    """A plain name is every step, ``@1`` step 1."""
    plain, inputs = Plain(model), torch.stack(model.prepare(PAIRS).clean)

    def halved(x: Tensor, hook: Any) -> Tensor:
        x = x.clone()
        x[:, :, 2] /= 2
        return x

    def changing(steps: Any) -> Change:
        columns = torch.arange(2 * D_HEAD, 3 * D_HEAD)
        return lambda step, _, x: x.index_copy(2, columns, x[..., columns] / (2 if step in steps else 1))

    for name, steps in (("blocks.1.attn.hook_z", range(STEPS)), ("blocks.1.attn.hook_z@1", [1])):
        outputs = model.run_with_hooks(inputs, fwd_hooks=[(name, halved)])
        expected = plain.image(0, "clean", {1: changing(steps)})
        assert torch.allclose(outputs[0], expected.flatten(), atol=1e-10)
    outputs, cache = model.run_with_cache(inputs, names_filter=["blocks.0.attn.hook_z", "blocks.2.hook_resid_post"])
    assert len(cache) == 2 * STEPS and torch.equal(outputs, model(inputs))
    z = cache["blocks.0.attn.hook_z@2"][1].flatten(1)
    assert torch.allclose(z[:POSITIONS], plain.z(1, "clean")[0, 2, 0][0], atol=1e-10)
    _, one = model.run_with_cache(inputs, names_filter="blocks.0.attn.hook_z@2")
    assert list(one) == ["blocks.0.attn.hook_z@2"] and torch.equal(one["blocks.0.attn.hook_z@2"][1].flatten(1), z)
    with pytest.raises(UsageError, match="hook_z@9': expected a step from 0 to"):
        model.run_with_cache(inputs, names_filter="blocks.0.attn.hook_z@9")


def test_what_joins_the_residual_stream(model: wb.HookedDiT) -> None:
    rec = wb.record(model, PAIRS, ["resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"], cache=False).clean
    pre, attn, mid, mlp, post = (
        rec.stack(site) for site in ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")
    )
    assert torch.allclose(pre + attn, mid, atol=1e-10) and torch.allclose(mid + mlp, post, atol=1e-10)
    assert torch.equal(post[:, :, :-1], pre[:, :, 1:])
