"""What a head's weights say of it: what it copies, which earlier heads it reads, how large its circuits are.

Norms are folded in as they act on a head's input and on what the unembedding reads: their gain, and the centring of a
LayerNorm; a norm behind the attention output or on q and k contributes its gain. Biases, positions and the norms'
denominators are left out. Nothing else is centred. In the row convention, ``x W``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from workbench.core import Head
from workbench.models.anatomy import find
from workbench.models.precision import at_least_float32, called_in_float32

KINDS = ("q", "k", "v")


@dataclass(frozen=True)
class HeadWeights:
    """Weights of all heads in order of layer and head, KV heads repeated for their query heads, norms folded in."""

    Q: Float[Tensor, "head d_model d_head"]
    K: Float[Tensor, "head d_model d_head"]
    V: Float[Tensor, "head d_model d_head"]
    O: Float[Tensor, "head d_head d_model"]  # noqa: E741 - the field's name for it
    layer: Float[Tensor, "head"]

    @classmethod
    def of(cls, model: Any, head: Head | None = None) -> HeadWeights:
        """Those of a `HookedLM`: of all heads, or of one alone."""
        parts: dict[str, list[Tensor]] = {name: [] for name in "QKVO"}
        anatomy = model.anatomy
        heads = torch.arange(model.n_heads) if head is None else torch.tensor([head.index])
        layer_indices = range(model.n_layers) if head is None else [head.layer]
        kv = heads // (model.n_heads // model.n_kv_heads)
        for i in layer_indices:
            attn, layer = model.blocks[i].attn, model.layer(i)
            norm = find(layer, anatomy.norm1) if anatomy.norm1 else None
            after = find(layer, anatomy.attn_out) if anatomy.attn_out != anatomy.attention else None
            for name, weight in (("Q", attn.W_Q[heads]), ("K", attn.W_K[kv]), ("V", attn.W_V[kv])):
                folded = read_through(model, norm, weight)
                gain = _gain_of_heads(model, i, anatomy.query_norm if name == "Q" else anatomy.key_norm)
                parts[name].append(folded * gain if name != "V" and gain is not None else folded)
            W_O = at_least_float32(attn.W_O[heads])
            parts["O"].append(W_O if after is None else W_O * model.norm_weight(after))
        layers = torch.tensor(list(layer_indices)).repeat_interleave(len(heads))
        stacked = {name: torch.cat([at_least_float32(x.detach()).cpu() for x in each]) for name, each in parts.items()}
        return cls(**stacked, layer=layers.float())


def read_through(model: Any, norm: nn.Module | None, weight: Float[Tensor, "*some d_model d_out"]) -> Tensor:
    """A matrix that reads the normed residual, as one that reads the residual itself (but for the denominator)."""
    weight = at_least_float32(weight)
    if norm is None:
        return weight
    folded = model.norm_weight(norm)[:, None] * weight
    return folded - folded.mean(-2, keepdim=True) if isinstance(norm, nn.LayerNorm) else folded


def _gain_of_heads(model: Any, layer: int, name: str) -> Tensor | None:
    norm = find(model.attentions[layer], name) if name else None
    if norm is None:
        return None
    probe = torch.ones(1, 1, 1, model.d_head, device=model.device, dtype=model.dtype)
    # Of ones, whose mean square is 1 up to epsilon, a root-mean-square norm gives its gain.
    return called_in_float32(norm, probe).flatten()


def copy_score(model: Any, heads: HeadWeights) -> Float[Tensor, "head"]:
    """``Σ Re λ / Σ |λ|`` over the eigenvalues λ of the full OV circuit ``W_E W_V W_O W_U`` (Elhage et al. 2021): 1 for
    a head that raises the logit of whatever it attends to, −1 for one that lowers it.

    The circuit's nonzero eigenvalues are those of the small ``W_O (W_U W_E) W_V [d_head, d_head]``.
    """
    final = model.module(model.anatomy.final_norm)
    unembed = read_through(model, final, model.W_U.detach()).cpu()
    back = unembed @ at_least_float32(model.W_E.detach()).cpu()  # [d_model, d_model]
    small = heads.O @ back @ heads.V
    eigenvalues = torch.linalg.eigvals(small)
    return eigenvalues.real.sum(-1) / eigenvalues.abs().sum(-1)


def composition(heads: HeadWeights) -> dict[str, Float[Tensor, "reader writer"]]:
    """``‖OV₁ R₂‖ / (‖OV₁‖ ‖R₂‖)`` (Frobenius) of every head with every head of an earlier layer: R is ``W_Q W_Kᵀ`` of
    the reader for q, ``W_K W_Qᵀ`` for k, ``W_V W_O`` for v (Elhage et al. 2021); NaN where the writer is not earlier.

    For unrelated heads it is near ``1 / √d_model`` (`unrelated`), whatever their size. It looks at weights alone:
    whether anything flows along such a path is for path patching to say.
    """
    writes = _root(heads.V) @ heads.O  # ‖V X‖ = ‖R X‖ for V = QR: the same norms from d_head rows
    reads = {
        "q": heads.Q @ _root(heads.K).mT,
        "k": heads.K @ _root(heads.Q).mT,
        "v": heads.V @ _root(heads.O.mT).mT,
    }
    sizes, n = writes.flatten(1).norm(dim=1), len(writes)
    scores = {kind: writes.new_full((n, n), torch.nan) for kind in reads}
    for layer in heads.layer.unique():
        readers, earlier = heads.layer == layer, heads.layer < layer
        before = writes[earlier].flatten(0, 1)
        for kind, read in reads.items():
            product = before @ read[readers].permute(1, 0, 2).flatten(1)  # [writer · d_head, reader · d_head]
            norms = product.unflatten(0, (-1, writes.shape[1])).unflatten(2, (int(readers.sum()), -1)).norm(dim=(1, 3))
            scale = sizes[earlier][:, None] * read[readers].flatten(1).norm(dim=1)
            scores[kind][readers.nonzero(), earlier.nonzero().T] = (norms / scale).T
    return scores


def _root(x: Float[Tensor, "head d_model d_head"]) -> Float[Tensor, "head d_head d_head"]:
    """R of ``x = QR``."""
    return torch.linalg.qr(x, mode="r").R


def unrelated(d_model: int) -> float:
    """What composition is on average where reader and writer know nothing of each other."""
    return d_model**-0.5


def spectra(heads: HeadWeights) -> dict[str, Float[Tensor, "head d_head"]]:
    """The squared singular values σ² of each head's ``ov`` and ``qk`` circuits, the largest first."""
    circuits = {"ov": (heads.V, heads.O.mT), "qk": (heads.Q, heads.K)}
    return {name: torch.linalg.svdvals(_root(a) @ _root(b).mT).square() for name, (a, b) in circuits.items()}


def circuit_sizes(spectra: dict[str, Float[Tensor, "head d_head"]]) -> dict[str, Float[Tensor, "head"]]:
    """Frobenius norm ``√Σσ²`` and effective rank ``(Σσ²)² / Σσ⁴`` of each head's OV and QK circuits."""
    sizes = {}
    for name, squares in spectra.items():
        sizes[f"{name}_norm"] = squares.sum(-1).sqrt()
        sizes[f"{name}_rank"] = squares.sum(-1).square() / squares.square().sum(-1)
    return sizes
