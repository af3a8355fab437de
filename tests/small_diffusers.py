"""Tiny random models of diffusers and pipelines of them, and plain hooks to compare with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel
from diffusers.models.transformers.pixart_transformer_2d import PixArtTransformer2DModel
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from diffusers.pipelines.dit.pipeline_dit import DiTPipeline
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline
from diffusers.pipelines.pixart_alpha.pipeline_pixart_alpha import PixArtAlphaPipeline
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import StableDiffusion3Pipeline
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn

HEADS, WIDTH, TEXT = 3, 8, 5
LAYERS = 3


def noised(model: Any) -> Any:
    """Weights that all matter; diffusers begins some of them at 0."""
    torch.manual_seed(1)
    model.eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def sized(n: int, heads: int = HEADS, width: int = WIDTH, **settings: Any) -> dict[str, Any]:
    basic = {"num_attention_heads": heads, "attention_head_dim": width}
    return basic | {"in_channels": 2, "num_layers": n, "sample_size": 8, "patch_size": 2} | settings


def dit(n: int = LAYERS, **settings: Any) -> Any:
    return noised(DiTTransformer2DModel(**sized(n, **({"num_embeds_ada_norm": 4} | settings))))


def pixart(n: int = LAYERS, heads: int = HEADS, width: int = WIDTH, **settings: Any) -> Any:
    sizes = {"cross_attention_dim": heads * width, "caption_channels": 10}
    return noised(
        PixArtTransformer2DModel(**sized(n, heads, width, **sizes, **settings), use_additional_conditions=False)
    )


def sd3(n: int = LAYERS, heads: int = HEADS, width: int = WIDTH, **settings: Any) -> Any:
    sizes = {"caption_projection_dim": heads * width, "joint_attention_dim": 10, "pooled_projection_dim": 6}
    rest = {"out_channels": 2, "pos_embed_max_size": 8}
    return noised(SD3Transformer2DModel(**sized(n, heads, width, **sizes, **rest, **settings)))


def sd35(n: int = LAYERS, dual: tuple[int, ...] = (0, 1), **settings: Any) -> Any:
    return sd3(n, dual_attention_layers=dual, qk_norm="rms_norm", **settings)


def flux(n: int = LAYERS, single: int = 2, heads: int = HEADS, width: int = WIDTH) -> Any:
    own: dict[str, Any] = {"num_attention_heads": heads, "attention_head_dim": width, "num_single_layers": single}
    sizes: dict[str, Any] = {"in_channels": 4, "num_layers": n, "joint_attention_dim": 10, "pooled_projection_dim": 6}
    axes = (2, 2, width - 4)
    return noised(FluxTransformer2DModel(patch_size=1, **own, **sizes, axes_dims_rope=axes, guidance_embeds=False))


def inputs_of(model: Any, seed: int = 0, time: float = 700.0, n: int = 2, words: int = TEXT) -> dict[str, Any]:
    g = torch.Generator().manual_seed(seed)
    image = {"hidden_states": torch.randn(n, 2, 8, 8, generator=g), "timestep": torch.full((n,), time)}
    text, pooled = torch.randn(n, words, 10, generator=g), torch.randn(n, 6, generator=g)
    match type(model).__name__:
        case "DiTTransformer2DModel":
            return image | {"timestep": torch.full((n,), int(time)), "class_labels": torch.arange(n)}
        case "PixArtTransformer2DModel":
            mask = torch.ones(n, words)
            mask[0, 3:] = 0
            added = {"resolution": None, "aspect_ratio": None}
            named = {"encoder_hidden_states": text, "encoder_attention_mask": mask, "added_cond_kwargs": added}
            return image | named
        case "SD3Transformer2DModel":
            return image | {"encoder_hidden_states": text, "pooled_projections": pooled}
    places = torch.cartesian_prod(torch.zeros(1), torch.arange(4.0), torch.arange(4.0))
    return {
        "hidden_states": torch.randn(n, 16, 4, generator=g),
        "timestep": torch.full((n,), time / 1000),
        "encoder_hidden_states": text,
        "pooled_projections": pooled,
        "img_ids": places,
        "txt_ids": torch.zeros(words, 3),
    }


def call(model: Any, **inputs: Any) -> Tensor:
    return model(**inputs).sample


#: The modules that z enters: of images, and of Flux's layers that attend and transform at once.
IMAGE, SINGLE = ["to_out.0"], ["proj_out"]


class Plain:
    """PyTorch's own hooks on what enters the output projections: reads z, and writes one head of it."""

    def __init__(self, model: Any, base: str, outputs: list[str], change: Callable[[Tensor], Tensor] | None = None):
        self.seen: list[list[Tensor]] = [[] for _ in outputs]
        self.handles = [
            model.get_submodule(f"{base}.{name}").register_forward_pre_hook(self._hook(i, change))
            for i, name in enumerate(outputs)
        ]

    def _hook(self, i: int, change: Callable[[Tensor], Tensor] | None) -> Callable[..., Any]:
        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            z = args[0][..., : HEADS * WIDTH].unflatten(-1, (HEADS, WIDTH))
            self.seen[i].append(z.clone())
            if change is None:
                return None
            return (torch.cat([change(z.clone()).flatten(2), args[0][..., HEADS * WIDTH :]], -1),)

        return hook

    def __enter__(self) -> Plain:
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()

    @property
    def z(self) -> Tensor:
        return torch.cat([parts[0] for parts in self.seen], 1)


class PlainEdit(Plain):
    """Plain hooks that replace a head of z, in some steps, by what other plain hooks have seen, or by zeros."""

    def __init__(self, model: Any, base: str, outputs: list[str], head: int, steps: Any, other: Plain | None) -> None:
        self.head, self.steps, self.other = head, steps, other
        super().__init__(model, base, outputs, lambda z: z)

    def _hook(self, i: int, change: Any) -> Callable[..., Any]:
        def edit(z: Tensor) -> Tensor:
            now = len(self.seen[i]) - 1
            if now in self.steps:
                z[:, :, self.head] = 0 if self.other is None else self.other.seen[i][now][:, :, self.head]
            return z

        return super()._hook(i, edit)


def scaled(z: Tensor) -> Tensor:
    z[:, :, 1] = 3 * z[:, :, 1] + 1
    return z


def close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and float((a - b).abs().max()) < 1e-5 * max(1, float(b.abs().max()))


# --- pipelines


def small_pipeline(make: Callable[..., Any], scheduler: Any = None) -> Any:
    """A pipeline of tiny random models: image 8 × 8."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"norm_num_groups": 4, "block_out_channels": (4,), "shift_factor": 0.0}
    vae = AutoencoderKL(**sizes, latent_channels=1 if make is flux else 2).eval()
    match make.__name__:
        case "dit":
            own: Any = scheduler or DDIMScheduler()
            pipe: Any = DiTPipeline(dit(num_embeds_ada_norm=1000, out_channels=4), vae, own)
        case "pixart":
            own = scheduler or DPMSolverMultistepScheduler()
            parts: dict[str, Any] = dict.fromkeys(("tokenizer", "text_encoder"))
            pipe = PixArtAlphaPipeline(transformer=pixart(out_channels=4), scheduler=own, vae=vae, **parts)
        case "flux":
            parts = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
            own = scheduler or FlowMatchEulerDiscreteScheduler()
            pipe = FluxPipeline(transformer=flux(), scheduler=own, vae=vae, **parts)
        case _:
            encoders = ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "text_encoder_3", "tokenizer_3")
            own = scheduler or FlowMatchEulerDiscreteScheduler()
            parts = dict.fromkeys(encoders)
            pipe = StableDiffusion3Pipeline(transformer=make(), scheduler=own, vae=vae, **parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def call_pipeline(pipe: Any, generator: torch.Generator | None = None, prompt: int = 0, **changes: Any) -> Tensor:
    """Images [image, channel, row, column] of a prompt that is random embeddings, or a class."""
    g = torch.Generator().manual_seed(100 + prompt)
    run: dict[str, Any] = {"num_inference_steps": 3, "output_type": "np"}
    size = 8 * getattr(pipe, "vae_scale_factor", 1)
    text, negative = 5 * torch.randn(2, 1, TEXT, 10, generator=g)
    match type(pipe).__name__:
        case "DiTPipeline":
            run |= {"class_labels": [3 + prompt], "guidance_scale": 3.0}
        case "PixArtAlphaPipeline":
            mask = torch.ones(1, TEXT, dtype=torch.long)
            run |= {"prompt_embeds": text, "negative_prompt_embeds": negative, "guidance_scale": 3.0}
            run |= {"prompt_attention_mask": mask, "negative_prompt_attention_mask": mask, "negative_prompt": None}
            run |= {"height": size, "width": size, "use_resolution_binning": False}
        case "FluxPipeline":
            run |= {"prompt_embeds": text, "pooled_prompt_embeds": torch.randn(1, 6, generator=g)}
            run |= {"height": size, "width": size}
        case _:
            pooled = torch.randn(2, 6, generator=g)
            run |= {"prompt_embeds": text, "negative_prompt_embeds": negative, "guidance_scale": 3.0}
            run |= {"pooled_prompt_embeds": pooled[:1], "negative_pooled_prompt_embeds": pooled[1:]}
            run |= {"height": size, "width": size}
    generator = generator or torch.Generator().manual_seed(0)
    images = torch.as_tensor(pipe(generator=generator, **(run | changes)).images)
    return images.movedim(3, 1) if (run | changes)["output_type"] == "np" else images


#: Make of the transformer, an attention in hook names and in diffusers, and the modules that z enters.
PIPELINES: list[tuple[Callable[..., Any], str, str, list[str]]] = [
    (dit, "attn", "transformer_blocks.{}.attn1", IMAGE),
    (pixart, "cross_attn", "transformer_blocks.{}.attn2", IMAGE),
    (sd3, "attn", "transformer_blocks.{}.attn", ["to_out.0", "to_add_out"]),
    (sd35, "attn2", "transformer_blocks.{}.attn2", IMAGE),
    (flux, "attn", "transformer_blocks.{}.attn", ["to_add_out", "to_out.0"]),
    (flux, "single_blocks.attn", "single_transformer_blocks.{}", SINGLE),
]


def sample(model: Any, times: list[float], calls: int = 1) -> Tensor:
    """A pipeline's loop: several calls a step, with other noise in each."""
    x = inputs_of(model)["hidden_states"]
    for time in times:
        predictions = [
            call(model, **(inputs_of(model, seed=i, time=time) | {"hidden_states": x}))[:, : x.shape[1]]
            for i in range(calls)
        ]
        x = x - 0.3 * torch.stack(predictions).mean(0)
    return x
