"""Heads in order of a score, and which heads a few words select."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from workbench import arguments
from workbench.core import Head, example_head, parse_head, written_both_ways
from workbench.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

#: Scores whose heads are in order of size, whatever the sign: a head that lowers the answer's logit, or copies with the
#: opposite sign, is as strong as one that raises it. A head that avoids the keys that it is scored on is not.
BY_SIZE = ("direct_logit_attribution", "copy_score")
_LAYERS = re.compile(r"L?([0-9]{1,4})\.?(?:-([0-9]{1,4}))?", re.IGNORECASE)


def order_of(values: Float[np.ndarray, "layer head"], by_size: bool = False) -> Int[np.ndarray, "rank"]:
    """Indices into ``values.ravel()``, the largest first; equal ones in order of layer and head, those without a value
    last."""
    sizes = np.abs(values) if by_size else values
    return np.argsort(np.where(np.isfinite(values), -sizes, np.inf), axis=None, kind="stable")


def ranked(
    values: Float[np.ndarray, "layer head"],
    of_heads: Mapping[str, float | Float[np.ndarray, "layer head"] | None] | None = None,
    *,
    by_size: bool = False,
    among: Bool[np.ndarray, "layer head"] | None = None,
) -> pd.DataFrame:
    """One row a head that has a value, the largest first: ``rank`` among all heads, ``head``, ``value``, and a column
    for each of `of_heads` that is not None (chance level, ends of the interval).

    Args:
        by_size: in order of ``|value|``.
        among: the heads that are listed; None for all. Ranks stay those among all heads.
    """
    import pandas as pd

    order = order_of(values, by_size)[: int(np.isfinite(values).sum())]
    columns: dict[str, Any] = {
        "rank": np.arange(1, len(order) + 1),
        "head": np.array([str(Head(*divmod(int(i), values.shape[1]))) for i in order], dtype=object),
        "value": values.ravel()[order],
    }
    for name, column in (of_heads or {}).items():
        if column is not None:
            columns[name] = np.broadcast_to(column, values.shape).ravel()[order]
    listed = np.ones(len(order), bool) if among is None else among.ravel()[order]
    return pd.DataFrame({name: np.asarray(column)[listed] for name, column in columns.items()})


def filter_forms(n_layers: int, n_heads: int) -> str:
    """What `heads_named` reads, with heads and layers of the model: ``1.3 or L1H3, 1 or 0-1``."""
    head = example_head(n_layers, n_heads)
    return f"{written_both_ways(head)}, {head.layer} or 0-{head.layer}"


def heads_named(text: str, n_layers: int, n_heads: int, name: str = "heads") -> Bool[np.ndarray, "layer head"]:
    """Which heads a text selects: heads and layers, separated by commas, such as ``17.4``, ``L17H4``, ``17`` or
    ``10-19``; all where it is empty.

    Raises:
        UsageError: something else, or what the model does not have.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    chosen = np.full((n_layers, n_heads), not words)
    for word in words:
        match = _LAYERS.fullmatch(word)
        if match is not None:
            first, last = int(match[1]), int(match[2] or match[1])
            if not first <= last < n_layers:
                why = f"its layers are 0 to {n_layers - 1}"
                raise arguments.refusal(name, word, "layers of the model, from the first to the last", because=why)
            chosen[first : last + 1] = True
            continue
        try:
            head = parse_head(name, word)
        except UsageError:
            do = f"Write {filter_forms(n_layers, n_heads)}, and commas between several."
            raise arguments.refusal(name, word, "a head, a layer or a range of layers", do) from None
        if not (head.layer < n_layers and head.index < n_heads):
            why = f"it has {n_layers} layers of {n_heads} heads"
            raise arguments.refusal(name, word, "a head of the model", because=why)
        chosen[head.layer, head.index] = True
    return chosen
