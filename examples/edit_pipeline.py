# %% Heads of diffusers' own DiT, unmodified, in a pipeline of your own. This one is small and random: it shows how to
# hook, and its numbers mean nothing.
# pyright: reportPrivateImportUsage=false, reportArgumentType=false, reportAttributeAccessIssue=false
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiTPipeline, DiTTransformer2DModel

import workbench as wb

torch.manual_seed(0)
sizes = {"num_attention_heads": 4, "attention_head_dim": 16, "num_layers": 3, "sample_size": 8, "patch_size": 2}
transformer = DiTTransformer2DModel(**sizes, in_channels=4, out_channels=4, num_embeds_ada_norm=1000).eval()
with torch.no_grad():
    for parameter in transformer.parameters():  # diffusers begins gates at 0, where no head would matter
        parameter += 0.05 * torch.randn_like(parameter)
vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4).eval()
pipe = DiTPipeline(transformer, vae, DDIMScheduler())
pipe.set_progress_bar_config(disable=True)


def sample():
    generator = torch.Generator().manual_seed(0)
    return torch.as_tensor(pipe([3, 7], num_inference_steps=4, generator=generator, output_type="np").images)


# %% Reading changes nothing. Guidance's passes are inputs of the batch: two with their labels, then two without.
plain = sample()
model = wb.HookedDiffusers(pipe)
with model.recording(["blocks.1.attn.hook_z", "blocks.1.attn.hook_pattern"]) as cache:
    recorded = sample()
for name, activation in cache.items():
    print(name, tuple(activation.shape))
print("recorded and not, the same image:", bool(torch.equal(plain, recorded)))


# %% One head set to zero, in every step or in one.
def without(head):
    def edit(z, hook):
        z[:, :, head] = 0
        return z

    return edit


changes = {}
for name in ["blocks.1.attn.hook_z", *(f"blocks.1.attn.hook_z@{step}" for step in range(4))]:
    with model.hooks([(name, without(2))]):
        changes[name] = float((sample() - plain).square().mean().sqrt())
    print(f"{name}, head 2 set to zero: the image moves by {changes[name]:.4f}")


# %% Identity: every patch attends to itself alone, which is how attention is perturbed for guidance.
def identity(pattern, hook):
    return torch.eye(pattern.shape[-1]).expand_as(pattern).clone()


with model.hooks([(f"blocks.{layer}.attn.hook_pattern", identity) for layer in range(3)]):
    changes["identity"] = float((sample() - plain).square().mean().sqrt())
print(f"every layer without attention: the image moves by {changes['identity']:.4f}")
print("afterwards, the same image as before:", bool(torch.equal(plain, sample())))
