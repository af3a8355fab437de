"""Weights of diffusers' DiT as ours and back, on random configurations, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from tests.oracle.plain_sampling import random_dit
from workbench.errors import UnsupportedModel, UsageError
from workbench.models.diffusion.diffusers_weights import from_diffusers, to_diffusers
from workbench.models.diffusion.dit import DiT, DiTConfig
from workbench.models.diffusion.sampling import sample

#: Heads, width of a head, channels, output channels, layers, size, patch, classes, epsilon.
SIZES = [
    (4, 8, 1, 1, 2, 8, 2, 10, 1e-5),
    (3, 12, 4, 8, 3, 12, 2, 7, 1e-6),
    (2, 16, 3, None, 1, 12, 4, 3, 1e-5),
    (1, 20, 2, 4, 2, 6, 1, 5, 1e-4),
]


def of_diffusers(sizes: tuple[Any, ...], scale: float = 1.0, **settings: Any) -> DiTTransformer2DModel:
    """A random model whose copies of the embedders are one."""
    names = ("num_attention_heads", "attention_head_dim", "in_channels", "out_channels", "num_layers", "sample_size")
    arguments = dict(zip((*names, "patch_size", "num_embeds_ada_norm", "norm_eps"), sizes, strict=True))
    torch.manual_seed(0)
    model = DiTTransformer2DModel(**(arguments | settings)).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.mul_(scale).add_(0.02 * torch.randn_like(parameter))
    blocks: Any = model.transformer_blocks
    for block in blocks[1:]:
        block.norm1.emb.load_state_dict(blocks[0].norm1.emb.state_dict())
    return model


def inputs_of(model: DiTTransformer2DModel) -> tuple[Tensor, Tensor, Tensor]:
    config: Any = model.config
    x = torch.randn(6, config.in_channels, config.sample_size, config.sample_size)
    labels = torch.tensor([0, 1, 2, 0, 1, config.num_embeds_ada_norm])
    return x, torch.tensor([0, 1, 250, 500, 998, 999]), labels


@pytest.mark.parametrize("scale", [1.0, 2.0])
@pytest.mark.parametrize("sizes", SIZES)
def test_weights_of_diffusers_give_the_same(sizes: tuple[Any, ...], scale: float) -> None:
    reference = of_diffusers(sizes, scale)
    converted, (x, time, labels) = from_diffusers(reference).requires_grad_(False), inputs_of(reference)
    expected = reference(x, timestep=time, class_labels=labels).sample
    result = converted(x, time, labels)
    assert result.shape == expected.shape
    assert float((result - expected).abs().max()) < 1e-5 * max(1, float(expected.abs().max()))
    assert float(expected.std()) > 0.1
    back = to_diffusers(converted)
    assert torch.equal(back(x, timestep=time, class_labels=labels).sample, expected)
    assert all(torch.equal(a, b) for a, b in zip(reference.parameters(), back.parameters(), strict=True))


def test_without_biases_of_q_k_and_v_and_in_float64() -> None:
    reference = of_diffusers(SIZES[0], attention_bias=False).double()
    converted, (x, time, labels) = from_diffusers(reference).requires_grad_(False), inputs_of(reference)
    expected = reference(x.double(), timestep=time, class_labels=labels).sample
    assert converted.dtype == torch.float64 and "blocks.0.attn.q_proj.bias" not in converted.state_dict()
    assert torch.allclose(converted(x.double(), time, labels), expected, atol=1e-6)


def test_what_does_not_map_is_refused_by_name() -> None:
    reference = of_diffusers(SIZES[1])
    blocks: Any = reference.transformer_blocks
    with torch.no_grad():
        blocks[2].norm1.emb.timestep_embedder.linear_2.bias[3] += 1
    name = r"transformer_blocks\.2\.norm1\.emb\.timestep_embedder\.linear_2\.bias differs from transformer_blocks\.0"
    with pytest.raises(UnsupportedModel, match=name):
        from_diffusers(reference)
    with pytest.raises(UnsupportedModel, match=r"activation_fn='gelu': expected 'gelu-approximate'"):
        from_diffusers(of_diffusers(SIZES[0], activation_fn="gelu"))
    with pytest.raises(UnsupportedModel, match="norm_elementwise_affine=True: expected False"):
        from_diffusers(of_diffusers(SIZES[0], norm_elementwise_affine=True))
    with pytest.raises(UsageError, match=r"model=<Linear>: expected diffusers' DiTTransformer2DModel"):
        from_diffusers(torch.nn.Linear(1, 1))
    with pytest.raises(UsageError, match="expected a model of images with mlp_ratio=4, because it has num_frames=8"):
        to_diffusers(DiT(DiTConfig(num_frames=8)))


def in_diffusers(scheduler: Any, model: DiT, noise: Tensor, labels: Tensor, guidance: float | None) -> Tensor:
    """Sampling as diffusers' DiTPipeline does it."""
    x, none = noise, torch.full_like(labels, model.config.n_classes)
    for time in scheduler.timesteps:
        times = torch.full((len(x),), float(time), dtype=x.dtype)
        prediction = model(x, times, labels)
        if guidance is not None:
            without = model(x, times, none)
            prediction = without + guidance * (prediction - without)
        x = scheduler.step(prediction[:, : x.shape[1]], time, x).prev_sample
    return x


@pytest.mark.parametrize("guidance", [None, 3.0])
@pytest.mark.parametrize("steps", [1, 4, 7, 50])
def test_ddim_is_diffusers(steps: int, guidance: float | None) -> None:
    """With a learned variance beside the noise."""
    model = random_dit(prediction="noise", num_channels=2, out_channels=4)
    scheduler = DDIMScheduler(clip_sample=False)
    scheduler.set_timesteps(steps)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    noise = torch.randn(3, 2, 8, 8, dtype=torch.float64)
    labels = torch.tensor([0, 4, 2])
    expected = in_diffusers(scheduler, model, noise, labels, guidance)
    result = sample(model, noise, labels, steps=steps, guidance=guidance)
    assert float((result - expected).abs().max()) < 1e-6 * float(expected.abs().max())


@pytest.mark.parametrize("guidance", [None, 2.0])
def test_euler_is_diffusers(guidance: float | None) -> None:
    model = random_dit().float()
    scheduler, steps = FlowMatchEulerDiscreteScheduler(), 5
    scheduler.set_timesteps(sigmas=[1 - i / steps for i in range(steps)])
    noise, labels = torch.randn(3, 1, 8, 8), torch.tensor([0, 4, 2])
    expected = in_diffusers(scheduler, model, noise, labels, guidance)
    result = sample(model, noise, labels, steps=steps, guidance=guidance)
    assert torch.allclose(result, expected, atol=1e-5)
