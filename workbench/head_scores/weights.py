"""What a head's weights say of it: what it copies, which earlier heads it reads, how large its circuits are.

Norms are folded in as they act on a head's input and on what the unembedding reads: their gain, and the centring of
those that centre; a norm behind z or behind the attention output, or on q and k, contributes its gain, and so does what
multiplies the attention output. Biases, positions, gates and the norms' denominators are left out. Nothing else is
centred. In the row convention, ``x W``. Matrices made of the projections are compared with what the layer itself does
to random vectors; where they are not that, they are measured on the layer (`workbench.models.reads_writes`), q and k
then with what a rotation multiplies them by (YaRN).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from workbench.core import Head
from workbench.errors import UnsupportedModel, UsageError
from workbench.models.anatomy import find
from workbench.models.norms import centres
from workbench.models.precision import at_least_float32, called_in_float32
from workbench.models.reads_writes import ReadsWrites, same

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
    def of(cls, model: Any, which: Head | int | None = None, through: ReadsWrites | None = None) -> HeadWeights:
        """Those of a `HookedLM`.

        Args:
            which: one head, the layer of several, or None for all.
            through: the model's, where there is one already: making it runs the model.

        Raises:
            UsageError: a layer's q, k or v is not linear in the stream, or what it writes not in z.
        """
        parts: dict[str, list[Tensor]] = {name: [] for name in "QKVO"}
        heads = torch.tensor([which.index]) if isinstance(which, Head) else torch.arange(model.n_heads)
        layer = which.layer if isinstance(which, Head) else which
        layer_indices = range(model.n_layers) if layer is None else [layer]
        kv, through = heads // (model.n_heads // model.n_kv_heads), through or ReadsWrites(model)
        for i in layer_indices:
            reads = _reads_of(model, through, i, heads, kv)
            for name, weight in zip("QKV", reads, strict=True):
                parts[name].append(weight)
            parts["O"].append(_writes_of(model, through, i, heads, reads[2].shape[-1]))
        layers = torch.tensor(list(layer_indices)).repeat_interleave(len(heads))
        stacked = {name: torch.cat([at_least_float32(x.detach()).cpu() for x in each]) for name, each in parts.items()}
        return cls(**stacked, layer=layers.float())


def why_not(model: Any) -> str:
    """Why a model's heads have no weights; empty where they have."""
    try:
        HeadWeights.of(model)
    except (UnsupportedModel, UsageError) as error:
        return str(error)
    return ""


def why_no_copy_score(model: Any) -> str:
    """Why a model whose heads have weights has no copy scores; empty where it has."""
    try:
        copy_score(model, HeadWeights.of(model, Head(0, 0)))
    except (UnsupportedModel, UsageError) as error:
        return str(error)
    return ""


def _reads_of(model: Any, through: ReadsWrites, i: int, heads: Tensor, kv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What a layer's q, k and v read of the stream, ``[head, d_model, d_head]`` each; `kv` are the heads' KV heads."""

    def of_heads(x: Float[Tensor, "row some_head d"]) -> Float[Tensor, "head row d"]:
        return x[:, heads if x.shape[1] == model.n_heads else kv].permute(1, 0, 2)

    try:
        folded = _folded(model, i, heads, kv)
    except (AttributeError, RuntimeError, UnsupportedModel):  # projections of other names, or fused in another layout
        folded = None
    if folded is not None:
        probe = through.probe(2, model.d_model)
        real, own = map(of_heads, through.bare_reads(i, probe)), [probe.to(weight) @ weight for weight in folded]
        q, k, v = zip(own, real, strict=True)
        # The softmax's scale (OPT) and a rotation's are left out, as of other families.
        if same(*v) and all(same(_times_a_number(x, y), y) for x, y in (q, k)):
            return folded
    q, k, v = map(of_heads, through.read_matrices(i))
    return q, k, v


def _times_a_number(x: Tensor, like: Tensor) -> Tensor:
    """x in the size of another array of its shape."""
    return x * ((x * like).sum() / (x * x).sum()) if x.shape == like.shape else x


def _folded(model: Any, i: int, heads: Tensor, kv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The projections, with the norm before them and the gains of norms of q and k folded in."""
    anatomy, attn = model.anatomy, model.blocks[i].attn
    norm = find(model.layer(i), anatomy.norm1) if anatomy.norm1 else None
    weights = {"q": attn.W_Q[heads], "k": attn.W_K[kv], "v": attn.W_V[kv]}
    read = {name: read_through(model, norm, weight) for name, weight in weights.items()}
    gains = {"q": _gain_of_heads(model, i, anatomy.query_norm), "k": _gain_of_heads(model, i, anatomy.key_norm)}
    q, k = (read[name] if gain is None else read[name] * gain for name, gain in gains.items())
    return q, k, read["v"]


def _writes_of(
    model: Any, through: ReadsWrites, i: int, heads: Tensor, d_value: int
) -> Float[Tensor, "some_head d_value d_model"]:
    """What a layer adds to the stream for z."""
    if not model.additivity.by_weights:
        return through.write_matrix(i, d_value)[heads]
    W_O = at_least_float32(model.blocks[i].attn.W_O[heads])
    if model.anatomy.attn_out == model.anatomy.attention:
        return W_O
    after = model.part(i, model.anatomy.attn_out)
    weight = W_O * model.norm_weight(after)
    return weight - weight.mean(-1, keepdim=True) if centres(after, weight[0]) else weight


def read_through(model: Any, norm: nn.Module | None, weight: Float[Tensor, "*some d_model d_out"]) -> Tensor:
    """A matrix that reads the normed residual, as one that reads the residual itself (but for the denominator)."""
    weight = at_least_float32(weight)
    if norm is None:
        return weight
    folded = model.norm_weight(norm)[:, None] * weight
    centred = centres(norm, torch.zeros(1, 1, model.d_model, device=model.device, dtype=model.dtype))
    return folded - folded.mean(-2, keepdim=True) if centred else folded


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

    Raises:
        UsageError: the logits are not linear in the normed stream, or embeddings are no vectors of it.
    """
    W_E = at_least_float32(model.W_E.detach()).cpu()
    if W_E.shape[1] != model.d_model:
        raise UsageError(f"embeddings are {W_E.shape[1]} wide, and the residual stream is {model.d_model}.")
    if model.additivity.reads_out:
        unembed = read_through(model, model.module(model.anatomy.final_norm), model.W_U.detach()).cpu()
    else:
        unembed = at_least_float32(ReadsWrites(model).readout_matrix()).cpu()
    if model.W_E.shape[0] != unembed.shape[-1]:
        sizes = f"{model.W_E.shape[0]} tokens are embedded and {unembed.shape[-1]} read out"
        raise UsageError(f"there is no full OV circuit: {sizes}.")
    back = unembed @ W_E  # [d_model, d_model]
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
