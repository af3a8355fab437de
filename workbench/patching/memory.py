"""How many edited rows run at once, for a stated limit of memory."""

from __future__ import annotations

from torch import Tensor

from workbench.errors import UsageError
from workbench.patching.cone import CHUNK
from workbench.patching.tower import Tower

#: A row's peak activations in a layer, in units of one residual vector a position: the residual stream, its norm,
#: q, k, v and z, and the three of a gated MLP of about 2.7 times the width each.
VECTORS = 20


def chunk_for(tower: Tower, length: int, start: int, tokens: Tensor | None, limit_gb: float) -> int:
    """Rows × positions of a chunk: `CHUNK`, or fewer where the limit asks for it.

    A row of P positions takes about ``4 · (P · (20 · d_model + n_heads · T) + readout)`` bytes.

    Raises:
        UsageError: not even one row fits.
    """
    d_model = getattr(getattr(tower, "model", tower), "d_model", 1024)
    positions = length - start
    vocabulary = getattr(getattr(getattr(tower, "model", None), "cfg", None), "d_vocab", 0)
    readout = 3 * vocabulary if tokens is None else 0
    per_row = 4 * (positions * (VECTORS * d_model + 2 * tower.n_heads * length) + readout)
    rows = int(limit_gb * 1e9 // per_row)
    if rows < 1:
        raise UsageError(
            f"One edited run of {positions} positions needs about {per_row / 1e9:.2f} GB and memory_gb is "
            f"{limit_gb:g}. Raise memory_gb, or use shorter prompts."
        )
    return min(CHUNK, rows * positions)
