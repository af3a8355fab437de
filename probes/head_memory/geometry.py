"""`key_geometry`: how many directions the keys of every key/value head use on texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench import arguments
from workbench.core import Head
from workbench.errors import UsageError
from workbench.inputs.paired import PairedInputs
from workbench.patching.progress import Progress

from .recorded import cut_texts, recorded
from .spectra import centred, entropy_rank, participation_ratio, singular_values, unit

#: What is done with the keys before their spectrum is taken. The first position, which most heads use as a sink, is
#: left out but for the last kind.
KINDS: Mapping[str, str] = {
    "centred": "less their mean, then of length one: what a softmax over sources can tell apart",
    "uncentred": "of length one: what the head would have if it were linear",
    "raw": "as they are",
    "raw with first": "as they are, the first position with them",
}


@dataclass(frozen=True, eq=False)
class KeyGeometry:
    """The spectra of keys.

    Attributes:
        singular_values: kind (`KINDS`) → those of the matrix of keys, largest first, 0 where a text has fewer.
        n_keys: how many keys each text has, without the first position.
    """

    singular_values: Mapping[str, Float[np.ndarray, "text layer kv_head direction"]]
    n_keys: Int[np.ndarray, " text"]

    def participation_ratio(self, kind: str = "centred") -> Float[np.ndarray, "text layer kv_head"]:
        """``(Σ s²)² / Σ s⁴``, the number of directions that the keys use alike (`spectra.participation_ratio`)."""
        return participation_ratio(torch.from_numpy(self._of(kind))).numpy()

    def entropy_rank(self, kind: str = "centred") -> Float[np.ndarray, "text layer kv_head"]:
        """``exp(H(s / Σ s))`` (`spectra.entropy_rank`)."""
        return entropy_rank(torch.from_numpy(self._of(kind))).numpy()

    def predicted(self, kind: str = "centred") -> Float[np.ndarray, "text layer kv_head"]:
        """``n / PR − 1``: the squared error of a Hebbian memory with these keys, in expectation over independent values
        of length one. Of keys of length one alone.

        Raises:
            UsageError: keys of another length.
        """
        if kind not in ("centred", "uncentred"):
            raise arguments.refusal(
                "kind", kind, "'centred' or 'uncentred'", because="the law is of keys of length one"
            )
        return self.n_keys[:, None, None] / self.participation_ratio(kind) - 1

    def spectrum(self, head: Head | str, kind: str = "centred") -> Float[np.ndarray, " direction"]:
        """The eigenvalues of a key/value head's Gram matrix as shares of their sum, largest first; the mean over texts.

        Args:
            head: such as ``"9.1"`` or ``"9.kv1"``, the key/value head 1 of layer 9.
        """
        if isinstance(head, str):
            head = Head.parse(head.replace("kv", ""))
        head = arguments.instance("head", head, Head, "a key/value head, such as '1.0'")
        square = np.square(self._of(kind))
        arguments.index("layer", head.layer, square.shape[1], "layer")
        arguments.index("kv_head", head.index, square.shape[2], "key/value head")
        of_head = square[:, head.layer, head.index]
        return (of_head / of_head.sum(-1, keepdims=True)).mean(0)

    def frame(self) -> pd.DataFrame:
        """One row per key/value head: every measure, the mean over texts."""
        n_layers, n_kv_heads = self._of("centred").shape[1:3]
        layer, kv_head = np.indices((n_layers, n_kv_heads)).reshape(2, -1)
        columns: dict[str, Any] = {"layer": layer, "kv_head": kv_head}
        columns["name"] = [f"{at}.kv{index}" for at, index in zip(layer, kv_head, strict=True)]
        for kind in KINDS:
            columns[f"participation_ratio_{kind.replace(' ', '_')}"] = self.participation_ratio(kind).mean(0).ravel()
        for kind in ("centred", "uncentred"):
            columns[f"entropy_rank_{kind}"] = self.entropy_rank(kind).mean(0).ravel()
            columns[f"predicted_{kind}"] = self.predicted(kind).mean(0).ravel()
        return pd.DataFrame(columns)

    def _of(self, kind: str) -> Float[np.ndarray, "text layer kv_head direction"]:
        return self.singular_values[arguments.one_of("kind", kind, KINDS)]


@torch.no_grad()
def key_geometry(
    model: Any,
    texts: str | Sequence[str] | PairedInputs,
    *,
    n_tokens: int | None = None,
    cache: Any = None,
    progress: Progress | None = None,
) -> KeyGeometry:
    """The spectra of the keys of every key/value head on texts, each text for itself.

    Keys are as attention receives them: rotated, where the model rotates; each key/value head once, however many query
    heads it serves.

    Args:
        model: a language model whose layers read keys.
        texts: a text, several, or tokenised inputs, whose clean prompts are taken.
        n_tokens: how many tokens of each text are read; all, or as many as the model's context has, by default.
        cache: None for the user's own cache, False for none, or a folder.
        progress: called with (done, total, what).

    Raises:
        UsageError: the model has no keys to record, or a text is shorter.

    Examples:
        >>> import workbench as wb
        >>> from probes.head_memory.geometry import key_geometry
        >>> geometry = key_geometry(wb.load("tiny"), ["When Mary and John went to the store, John gave a book to"])
        >>> geometry.participation_ratio().shape  # [text, layer, kv_head]
        (1, 2, 4)
        >>> geometry.spectrum("1.kv0").sum().round(6)
        np.float64(1.0)
    """
    n_tokens = arguments.whole_number("n_tokens", n_tokens, at_least=2, optional=True)
    inputs = cut_texts(model, [texts] if isinstance(texts, str) else texts, n_tokens)
    spectra = [spectra_of(keys) for keys, _ in recorded(model, inputs, cache=cache, progress=progress)]
    return of_texts(spectra, inputs)


def spectra_of(keys: Float[Tensor, "layer kv_head pos d_head"]) -> dict[str, Float[Tensor, "layer kv_head direction"]]:
    """The singular values of one text's keys, by kind.

    Raises:
        UsageError: keys that are not finite.
    """
    if not bool(keys.isfinite().all()):
        raise UsageError("Some keys are not finite, so that they have no spectrum. Check the model's weights.")
    rest = keys[..., 1:, :]
    kinds = {"centred": unit(centred(rest)), "uncentred": unit(rest), "raw": rest, "raw with first": keys}
    return {kind: singular_values(x) for kind, x in kinds.items()}


def of_texts(spectra: Sequence[Mapping[str, Tensor]], inputs: PairedInputs) -> KeyGeometry:
    """The geometry of texts from what `spectra_of` gives for each."""
    by_kind = {kind: _stacked([of_text[kind].numpy() for of_text in spectra]) for kind in KINDS}
    return KeyGeometry(by_kind, np.array([len(ids) - 1 for ids in inputs.clean]))


def _stacked(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Spectra of texts of several lengths, with zeros for what a shorter one does not have."""
    longest = max(row.shape[-1] for row in rows)
    return np.stack([np.pad(row, [(0, 0), (0, 0), (0, longest - row.shape[-1])]) for row in rows])
