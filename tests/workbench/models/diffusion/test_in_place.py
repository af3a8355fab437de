"""diffusers' own transformers hooked in place, against plain hooks on the untouched model."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel
from diffusers.models.transformers.pixart_transformer_2d import PixArtTransformer2DModel
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.pipelines.dit.pipeline_dit import DiTPipeline
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import StableDiffusion3Pipeline
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn

import workbench as wb
from workbench.errors import HookError, UnknownName, UnsupportedModel, UsageError

HEADS, WIDTH, TEXT = 3, 8, 5
BASIC: dict[str, Any] = {"num_attention_heads": HEADS, "attention_head_dim": WIDTH}
LAYERS = 3


def noised(model: Any) -> Any:
    """Weights that all matter; diffusers begins some of them at 0."""
    torch.manual_seed(1)
    model.eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def sized(n: int, **settings: Any) -> dict[str, Any]:
    return BASIC | {"in_channels": 2, "num_layers": n, "sample_size": 8, "patch_size": 2} | settings


def dit(n: int = LAYERS, **settings: Any) -> Any:
    return noised(DiTTransformer2DModel(**sized(n, **({"num_embeds_ada_norm": 4} | settings))))


def pixart(n: int = LAYERS) -> Any:
    width = {"cross_attention_dim": HEADS * WIDTH, "caption_channels": 10}
    return noised(PixArtTransformer2DModel(**sized(n, **width), use_additional_conditions=False))


def sd3(n: int = LAYERS, **settings: Any) -> Any:
    sizes = {"caption_projection_dim": HEADS * WIDTH, "joint_attention_dim": 10, "pooled_projection_dim": 6}
    rest = {"out_channels": 2, "pos_embed_max_size": 8}
    return noised(SD3Transformer2DModel(**sized(n, **sizes, **rest, **settings)))


def sd35(n: int = LAYERS) -> Any:
    return sd3(n, dual_attention_layers=(0, 1), qk_norm="rms_norm")


def flux(n: int = LAYERS) -> Any:
    sizes: dict[str, Any] = {"in_channels": 4, "num_layers": n, "num_single_layers": 2, "joint_attention_dim": 10}
    rest: dict[str, Any] = {"pooled_projection_dim": 6, "axes_dims_rope": (2, 2, 4), "guidance_embeds": False}
    return noised(FluxTransformer2DModel(patch_size=1, **BASIC, **sizes, **rest))


def inputs_of(model: Any, seed: int = 0, time: float = 700.0, n: int = 2) -> dict[str, Any]:
    g = torch.Generator().manual_seed(seed)
    image = {"hidden_states": torch.randn(n, 2, 8, 8, generator=g), "timestep": torch.full((n,), time)}
    text, pooled = torch.randn(n, TEXT, 10, generator=g), torch.randn(n, 6, generator=g)
    match type(model).__name__:
        case "DiTTransformer2DModel":
            return image | {"timestep": torch.full((n,), int(time)), "class_labels": torch.arange(n)}
        case "PixArtTransformer2DModel":
            mask = torch.ones(n, TEXT)
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
        "txt_ids": torch.zeros(TEXT, 3),
    }


def call(model: Any, **inputs: Any) -> Tensor:
    return model(**inputs).sample


#: Model, attention in hook names and in diffusers, and the modules that z enters, in the order of z's positions.
IMAGE, SINGLE = ["to_out.0"], ["proj_out"]
CASES: list[tuple[Callable[..., Any], str, str, list[str]]] = [
    (dit, "blocks.1.attn", "transformer_blocks.1.attn1", IMAGE),
    (pixart, "blocks.1.attn", "transformer_blocks.1.attn1", IMAGE),
    (pixart, "blocks.1.cross_attn", "transformer_blocks.1.attn2", IMAGE),
    (sd3, "blocks.1.attn", "transformer_blocks.1.attn", ["to_out.0", "to_add_out"]),
    (sd3, "blocks.2.attn", "transformer_blocks.2.attn", IMAGE),
    (sd35, "blocks.1.attn", "transformer_blocks.1.attn", ["to_out.0", "to_add_out"]),
    (sd35, "blocks.1.attn2", "transformer_blocks.1.attn2", IMAGE),
    (flux, "blocks.1.attn", "transformer_blocks.1.attn", ["to_add_out", "to_out.0"]),
    (flux, "single_blocks.1.attn", "single_transformer_blocks.1", SINGLE),
]
IDS = [f"{make.__name__}-{name}" for make, name, *_ in CASES]


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


def scaled(z: Tensor) -> Tensor:
    z[:, :, 1] = 3 * z[:, :, 1] + 1
    return z


def close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and float((a - b).abs().max()) < 1e-5 * max(1, float(b.abs().max()))


@pytest.mark.parametrize(("make", "name", "base", "outputs"), CASES, ids=IDS)
def test_recorded_and_edited_heads_are_those_of_plain_hooks(
    make: Callable[..., Any], name: str, base: str, outputs: list[str]
) -> None:
    model = make()
    inputs, hooked = inputs_of(model), wb.HookedDiffusers(model)
    unhooked = call(model, **inputs)
    with Plain(model, base, outputs) as plain:
        call(model, **inputs)
    output, cache = hooked.run_with_cache(**inputs)
    assert torch.equal(output.sample, unhooked)
    z = cache[f"{name}.hook_z@0"]
    assert torch.equal(z[:, : plain.z.shape[1]], plain.z)
    rot = "rot_" if make is flux else ""
    q, k, v = (cache[f"{name}.hook_{x}@0"].transpose(1, 2) for x in (f"{rot}q", f"{rot}k", "v"))
    scores, pattern = cache[f"{name}.hook_attn_scores@0"], cache[f"{name}.hook_pattern@0"]
    seen = scores[0, 0, 0] > -1000
    assert close(scores[..., seen], (q @ k.mT / WIDTH**0.5)[..., seen])
    assert close(pattern, scores.softmax(-1))
    assert close((pattern @ v).transpose(1, 2), z)
    with Plain(model, base, outputs, scaled):
        expected = call(model, **inputs)
    with hooked.hooks([(f"{name}.hook_z", lambda z, hook: scaled(z))]):
        edited = call(model, **inputs)
    assert close(edited, expected)
    assert float((expected - unhooked).abs().max()) > 1e-3
    assert torch.equal(call(model, **inputs), unhooked)


@pytest.mark.parametrize(("make", "name", "base", "outputs"), CASES, ids=IDS)
def test_edited_q_k_v_and_patterns_are_those_of_attention_written_out(
    make: Callable[..., Any], name: str, base: str, outputs: list[str]
) -> None:
    model = make()
    inputs, hooked = inputs_of(model), wb.HookedDiffusers(model)
    _, cache = hooked.run_with_cache(**inputs)
    rot = "rot_" if make is flux else ""
    names = {"q": f"{name}.hook_{rot}q", "k": f"{name}.hook_{rot}k", "v": f"{name}.hook_v", "pattern": ""}
    names["pattern"] = f"{name}.hook_pattern"
    bias = cache[f"{name}.hook_attn_scores@0"]
    bias = torch.where(bias < -1000, bias, 0)
    for site, hook in names.items():
        now = {x: cache[f"{own}@0"].clone() for x, own in names.items()}
        at = (slice(None), 1) if site == "pattern" else (slice(None), slice(None), 1)
        now[site][at] = 0.5 * now[site][at].flip(-1)

        def edit(x: Tensor, hook: Any, at: Any = at) -> Tensor:
            x = x.clone()
            x[at] = 0.5 * x[at].flip(-1)
            return x

        q, k, v = (now[x].transpose(1, 2) for x in "qkv")
        pattern = now["pattern"] if site == "pattern" else (q @ k.mT / WIDTH**0.5 + bias).softmax(-1)
        z = (pattern @ v).transpose(1, 2)
        with Plain(model, base, outputs) as plain, hooked.hooks([(hook, edit)]):
            edited = call(model, **inputs)
        assert close(plain.z, z[:, : plain.z.shape[1]])
        assert float((plain.z - cache[f"{name}.hook_z@0"][:, : plain.z.shape[1]]).abs().max()) > 1e-3
        with hooked.hooks([(f"{name}.hook_z", lambda _, hook, z=z: z)]):
            assert close(edited, call(model, **inputs))


@pytest.mark.parametrize("make", [dit, pixart, sd3, sd35, flux])
def test_residual_streams_are_what_layers_get_and_give(make: Callable[..., Any]) -> None:
    model = make()
    inputs, hooked, calls = inputs_of(model), wb.HookedDiffusers(model), []
    handle = model.transformer_blocks[1].register_forward_hook(
        lambda _, args, kwargs, output: calls.append((args, kwargs, output)), with_kwargs=True
    )
    call(model, **inputs)
    handle.remove()
    (args, kwargs, output), cache = calls[0], hooked.run_with_cache(**inputs)[1]
    assert torch.equal(cache["blocks.1.hook_resid_pre@0"], args[0] if args else kwargs["hidden_states"])
    assert torch.equal(cache["blocks.1.hook_resid_post@0"], output[1] if isinstance(output, tuple) else output)
    if isinstance(output, tuple):
        assert torch.equal(cache["blocks.1.hook_text_resid_pre@0"], kwargs["encoder_hidden_states"])
        assert torch.equal(cache["blocks.1.hook_text_resid_post@0"], output[0])
    with hooked.hooks([("blocks.1.hook_resid_post", lambda x, hook: 2 * x)]):
        edited = call(model, **inputs)
    double = model.transformer_blocks[1].register_forward_hook(
        lambda _, args, output: (output[0], 2 * output[1]) if isinstance(output, tuple) else 2 * output
    )
    expected = call(model, **inputs)
    double.remove()
    assert torch.equal(edited, expected)


@pytest.mark.parametrize(("make", "base"), [(dit, "attn1"), (sd3, "attn"), (flux, "attn")])
def test_an_edit_of_layer_1_leaves_layer_10_alone(make: Callable[..., Any], base: str) -> None:
    model = make(11)
    hooked, inputs, outputs = wb.HookedDiffusers(model), inputs_of(model), IMAGE
    if make is not dit:
        outputs = ["to_out.0", "to_add_out"]
    with Plain(model, f"transformer_blocks.1.{base}", outputs, scaled):
        expected = call(model, **inputs)
    with hooked.hooks([("blocks.1.attn.hook_z", lambda z, hook: scaled(z))]):
        assert close(call(model, **inputs), expected)
    with Plain(model, f"transformer_blocks.10.{base}", IMAGE, scaled):
        assert not close(call(model, **inputs), expected)


@pytest.mark.parametrize(("make", "text_first"), [(sd3, False), (flux, True)])
def test_parts_of_a_joint_pattern_have_names(make: Callable[..., Any], text_first: bool) -> None:
    model = make()
    hooked, inputs, name = wb.HookedDiffusers(model), inputs_of(model), "blocks.1.attn.hook_pattern"
    text, image = (slice(0, TEXT), slice(TEXT, None)) if text_first else (slice(16, None), slice(0, 16))
    _, cache = hooked.run_with_cache(**inputs)
    pattern, z = cache[f"{name}@0"], cache["blocks.1.attn.hook_z@0"]
    assert torch.equal(hooked.part(f"{name}@0", pattern, "image", "text"), pattern[:, :, image, text])
    assert torch.equal(hooked.part(name, pattern, src="image"), pattern[..., image])
    assert torch.equal(hooked.part("blocks.1.attn.hook_z", z, "text"), z[:, text])
    assert torch.equal(hooked.part("blocks.1.attn.hook_v", z, src="image"), z[:, image])

    def no_text(pattern: Tensor, hook: Any) -> Tensor:
        hooked.part(hook.name, pattern, "image", "text")[:, 1] = 0
        return pattern

    v = cache["blocks.1.attn.hook_v@0"].transpose(1, 2)
    edited = pattern.clone()
    edited[:, 1, image, text] = 0
    z = (edited @ v).transpose(1, 2)
    with hooked.hooks([(name, no_text)]), hooked.recording("blocks.1.attn.hook_z") as recorded:
        call(model, **inputs)
    assert close(recorded["blocks.1.attn.hook_z@0"], z)
    for bad in ({"dest": "sound"}, {"dest": "image", "src": "video"}):
        with pytest.raises(UsageError, match="expected"):
            hooked.part(name, pattern, **bad)
    with pytest.raises(UsageError, match="as in the last call of the model"):
        hooked.part(name, pattern[:, :, 1:], "image")
    with pytest.raises(UsageError, match="no such axis"):
        hooked.part("blocks.1.attn.hook_z", z, src="text")


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


@pytest.mark.parametrize("calls", [1, 2])
@pytest.mark.parametrize("make", [dit, pixart, sd3, flux])
def test_steps_of_the_users_own_pipeline(make: Callable[..., Any], calls: int) -> None:
    model, times = make(), [900.0, 600.0, 300.0]
    hooked, base = wb.HookedDiffusers(model), "transformer_blocks.1." + ("attn" if make in (sd3, flux) else "attn1")
    outputs = {sd3: ["to_out.0", "to_add_out"], flux: ["to_add_out", "to_out.0"]}.get(make, IMAGE)
    unhooked = sample(model, times, calls=calls)
    with Plain(model, base, outputs) as plain:
        sample(model, times, calls=calls)
    with hooked.recording("blocks.1.attn.hook_z") as cache:
        assert torch.equal(sample(model, times, calls=calls), unhooked)
    assert list(cache) == [f"blocks.1.attn.hook_z@{step}" for step in range(3)]
    for step, z in enumerate(cache.values()):
        passes = range(calls * step, calls * (step + 1))
        assert torch.equal(z, torch.cat([torch.cat([part[i] for part in plain.seen], 1) for i in passes]))
    counter = iter(range(1000))

    def in_step_1(z: Tensor) -> Tensor:
        return scaled(z) if next(counter) // (calls * len(outputs)) == 1 else z

    with Plain(model, base, outputs, in_step_1):
        expected = sample(model, times, calls=calls)
    with hooked.hooks([("blocks.1.attn.hook_z@1", lambda z, hook: scaled(z))]):
        edited = sample(model, times, calls=calls)
    assert close(edited, expected)
    assert float((edited - unhooked).abs().max()) > 1e-4
    with hooked.recording("blocks.1.attn.hook_z", steps=[0, 2]) as cache:
        sample(model, times)
    assert list(cache) == ["blocks.1.attn.hook_z@0", "blocks.1.attn.hook_z@2"]


def test_a_later_timestep_begins_anew() -> None:
    model, seen = dit(), []
    hooked = wb.HookedDiffusers(model)
    with hooked.hooks([("blocks.0.attn.hook_z", lambda z, hook: seen.append(hooked.step))]):
        sample(model, [900, 500])
        sample(model, [900, 500, 200])
    assert seen == [0, 1, 0, 1, 2]
    with (
        pytest.raises(HookError, match=r"^A second sampling begins: a recording holds one\."),
        hooked.recording("blocks.0.attn.hook_z"),
    ):
        sample(model, [900, 500])
        sample(model, [900, 500])
    with hooked.hooks([("blocks.0.attn.hook_z", lambda z, hook: None)]):  # nothing is left behind
        sample(model, [900])


def test_what_cannot_be_hooked_is_refused_in_a_line() -> None:
    model = sd3()
    hooked, inputs = wb.HookedDiffusers(model), inputs_of(model)
    for site in ("attn_out", "resid_mid", "mlp_out"):
        with pytest.raises(
            UnknownName, match=f"SD3Transformer2DModel applies gates inline, so that {site} has no place"
        ):
            hooked.add_hook(f"blocks.0.hook_{site}", lambda x, hook: x)
    with pytest.raises(UnknownName, match="Did you mean"):
        hooked.add_hook("blocks.3.attn.hook_z", lambda x, hook: x)
    with (
        pytest.raises(HookError, match=r"Nothing happened at blocks\.0\.attn\.hook_z@4"),
        hooked.hooks([("blocks.0.attn.hook_z@4", lambda x, hook: x)]),
    ):
        sample(model, [900, 500])
    with (
        pytest.raises(HookError, match="An edit must keep the shape"),
        hooked.hooks([("blocks.0.attn.hook_z", lambda x, hook: x[:, 1:])]),
    ):
        call(model, **inputs)
    unet = UNet2DModel(block_out_channels=(32,), down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",))
    with pytest.raises(UnsupportedModel, match=r"^UNet2DModel is a U-Net: expected a transformer, DiT"):
        wb.HookedDiffusers(unet)
    with pytest.raises(UnsupportedModel, match=r"^Linear is not among the models"):
        wb.HookedDiffusers(nn.Linear(2, 2))
    with pytest.raises(UsageError, match="expected a pipeline of diffusers, or its transformer"):
        wb.HookedDiffusers("stable-diffusion-3")
    with pytest.raises(UnsupportedModel, match="is compiled"):
        wb.HookedDiffusers(torch.compile(model, backend="eager"))
    with pytest.raises(UsageError, match=r"nothing resumes a run of SD3Transformer2DModel in its pipeline"):
        wb.record(hooked, wb.latents(1), ["z"])
    model.enable_gradient_checkpointing()
    with pytest.raises(UnsupportedModel, match=r"Call disable_gradient_checkpointing\(\)\."), torch.enable_grad():
        hooked(**inputs)


class Twice:
    """A processor that attends twice."""

    def __call__(self, attn: Any, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        heads = attn.to_q(hidden_states).unflatten(-1, (HEADS, WIDTH)).transpose(1, 2)
        attend = nn.functional.scaled_dot_product_attention
        return attn.to_out[0]((attend(heads, heads, heads) + attend(heads, heads, heads)).transpose(1, 2).flatten(2))


def test_a_processor_that_attends_itself_or_twice_is_an_error() -> None:
    model = dit()
    inputs, hooked = inputs_of(model), wb.HookedDiffusers(model)
    for processor, message in ((AttnProcessor(), "AttnProcessor computes attention itself"), (Twice(), "2 times")):
        model.transformer_blocks[1].attn1.processor = processor
        unhooked = call(model, **inputs)
        with (
            pytest.raises(UnsupportedModel, match=rf"^blocks\.1\.attn: .*{message}"),
            hooked.hooks([("blocks.1.attn.hook_z", lambda z, hook: None)]),
        ):
            call(model, **inputs)
        with hooked.hooks([("blocks.0.attn.hook_z", lambda z, hook: None)]):
            assert torch.equal(call(model, **inputs), unhooked)


def test_two_models_do_not_disturb_each_other() -> None:
    one, other = sd3(), flux()
    inputs, others = inputs_of(one), inputs_of(other)
    unhooked, unhooked_other = call(one, **inputs), call(other, **others)
    hooked, hooked_other = wb.HookedDiffusers(one), wb.HookedDiffusers(other)
    edits = [("blocks.1.attn.hook_z", lambda z, hook: 0 * z)]
    with hooked.hooks(edits):
        edited = call(one, **inputs)
        assert torch.equal(call(other, **others), unhooked_other)
        with hooked_other.hooks(edits):
            edited_other = call(other, **others)
            assert torch.equal(call(one, **inputs), edited)
        from_thread: list[Tensor] = []
        thread = threading.Thread(target=lambda: from_thread.append(call(one, **inputs)))
        thread.start()
        thread.join()
    assert torch.equal(from_thread[0], unhooked)  # hooks are those of the thread that set them
    assert not torch.equal(edited, unhooked)
    assert not torch.equal(edited_other, unhooked_other)
    assert torch.equal(call(one, **inputs), unhooked)
    assert torch.equal(call(other, **others), unhooked_other)
    assert all("forward" not in vars(module) for model in (one, other) for module in model.modules())


def test_hooks_within_hooks_are_called_once_each() -> None:
    model, seen = sd3(), []
    hooked, inputs = wb.HookedDiffusers(model), inputs_of(model)
    with hooked.hooks([("blocks.1.attn.hook_z", lambda z, hook: seen.append("z"))]):
        with hooked.hooks([("blocks.1.attn.hook_v", lambda z, hook: seen.append("v"))]):
            call(model, **inputs)
        call(model, **inputs)
    assert seen == ["v", "z", "z"]


def of_pipeline(make: Callable[..., Any]) -> tuple[Any, Callable[[], Tensor]]:
    """A pipeline of random models, and a call of it in three steps with guidance, which gives images or a latent."""
    torch.manual_seed(0)
    vae = AutoencoderKL(norm_num_groups=4, block_out_channels=(4,), latent_channels=2).eval()
    run: dict[str, Any] = {"num_inference_steps": 3, "guidance_scale": 3.0, "output_type": "latent"}
    if make is dit:
        scheduler: Any = DDIMScheduler()
        pipe: Any = DiTPipeline(dit(num_embeds_ada_norm=1000, out_channels=4), vae, scheduler)
        run |= {"class_labels": [3, 7], "output_type": "np"}
    else:
        nothing: dict[str, Any] = dict.fromkeys(
            ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "text_encoder_3", "tokenizer_3")
        )
        scheduler = FlowMatchEulerDiscreteScheduler()
        pipe = StableDiffusion3Pipeline(transformer=sd3(), scheduler=scheduler, vae=vae, **nothing)
        text = {"prompt_embeds": torch.randn(1, TEXT, 10), "negative_prompt_embeds": torch.randn(1, TEXT, 10)}
        pooled = {"pooled_prompt_embeds": torch.randn(1, 6), "negative_pooled_prompt_embeds": torch.randn(1, 6)}
        run |= {**text, **pooled, "height": 8 * pipe.vae_scale_factor, "width": 8 * pipe.vae_scale_factor}
    pipe.set_progress_bar_config(disable=True)
    return pipe, lambda: torch.as_tensor(pipe(generator=torch.Generator().manual_seed(0), **run).images)


@pytest.mark.parametrize(("make", "base"), [(dit, "attn1"), (sd3, "attn")])
def test_pipelines_of_diffusers_are_hooked(make: Callable[..., Any], base: str) -> None:
    pipe, run = of_pipeline(make)
    hooked, unhooked = wb.HookedDiffusers(pipe), run()
    outputs = ["to_out.0", "to_add_out"] if make is sd3 else IMAGE
    with Plain(pipe.transformer, f"transformer_blocks.0.{base}", outputs) as plain:
        run()
    with hooked.recording("blocks.0.attn.hook_z") as cache:
        assert torch.equal(run(), unhooked)
    assert list(cache) == [f"blocks.0.attn.hook_z@{step}" for step in range(3)]
    for step, z in enumerate(cache.values()):
        assert torch.equal(z, torch.cat([part[step] for part in plain.seen], 1))
    with Plain(pipe.transformer, f"transformer_blocks.0.{base}", outputs, scaled):
        expected = run()
    with hooked.hooks([("blocks.0.attn.hook_z", lambda z, hook: scaled(z))]):
        assert close(run(), expected)
    assert not close(unhooked, expected)
    assert torch.equal(run(), unhooked)
