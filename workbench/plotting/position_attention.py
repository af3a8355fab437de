"""`PositionAttention` and `AttentionBetween`: one position, or a pair of positions, in every head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from workbench import arguments
from workbench.core import Head
from workbench.io.written_text import Piece, pieces_of_labels
from workbench.plotting import style
from workbench.plotting.attention_view import DESTINATION, SOURCE, numbered, question
from workbench.plotting.charts import Heatmap, of_heads
from workbench.plotting.colour_scale import COLOURS, LINEAR, ColourScale
from workbench.plotting.shaded_text import shaded_text
from workbench.plotting.source import Source

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Picture
    from plotly.graph_objects import Figure

#: How the heads are put together.
MAXIMUM, MEAN = OVER_HEADS = ("maximum", "mean")


@dataclass(frozen=True, eq=False, repr=False)
class PositionAttention:
    """What a position attends to, or who attends to it, in every head.

    Attributes:
        tokens: the prompt's tokens as text.
        weights: ``[layer, head, pos]``, the weights on the sources, or those of the destinations; NaN in layers whose
            operator has no shares of attention, 0 where a mask hides the source.
        position, role: which, and whether it attends (``destination``) or is attended to (``source``).
        model: its name.
        pieces: the prompt's text as people write it; by default the tokens.
        masked: ``[layer, pos]``, which of them a layer's mask hides; by default none.

    Examples:
        >>> seen = wb.attention_at(wb.load("tiny"), "Then, Mary and John", position=4)
        >>> seen.weights.shape, seen.mean.shape  # [layer, head, pos], [pos]
        ((2, 8, 5), (5,))
    """

    tokens: tuple[str, ...]
    weights: Float[np.ndarray, "layer head pos"]
    position: int
    role: str = DESTINATION
    model: str = ""
    pieces: tuple[Piece, ...] = ()
    masked: Bool[np.ndarray, "layer pos"] | None = None

    @cached_property
    def masked_everywhere(self) -> Bool[np.ndarray, " pos"]:
        """The positions that every layer with weights hides: no head attends, whatever the prompt."""
        has_weights = np.isfinite(self.weights).any((1, 2))
        if self.masked is None or not has_weights.any():
            return np.zeros(len(self.tokens), bool)
        return np.all(self.masked[has_weights], axis=0)

    @cached_property
    def _by_head(self) -> Float[np.ndarray, "head pos"]:
        """Of the heads that have weights, in order of layer and head."""
        rows = self.weights.reshape(-1, self.weights.shape[-1])
        return rows[np.isfinite(rows).all(-1)]

    @cached_property
    def mean(self) -> Float[np.ndarray, " pos"]:
        """Over all heads that have weights; NaN where there is none."""
        return self._over(np.mean)

    @cached_property
    def maximum(self) -> Float[np.ndarray, " pos"]:
        """Over all heads that have weights; NaN where there is none."""
        return self._over(np.max)

    def over_heads(self, over: str) -> Float[np.ndarray, " pos"]:
        """``maximum`` or ``mean``.

        Raises:
            UsageError: neither.
        """
        return self.maximum if arguments.one_of("over", over, OVER_HEADS) == MAXIMUM else self.mean

    def _over(self, reduce: Callable[..., np.ndarray]) -> Float[np.ndarray, " pos"]:
        return reduce(self._by_head, axis=0) if len(self._by_head) else np.full(len(self.tokens), np.nan)

    def strongest_head(self, position: int) -> Head | None:
        """The head with the largest weight there; None where no head has one, or every mask hides it.

        Raises:
            UsageError: the prompt has no such position.
        """
        last = len(self.tokens) - 1
        position = arguments.whole_number("position", position, at_least=-last - 1, at_most=last)
        weights = self.weights[:, :, position]
        if self.masked is not None:
            weights = np.where(self.masked[:, position, None], np.nan, weights)
        if not np.isfinite(weights).any():
            return None
        layer, index = np.unravel_index(np.nanargmax(weights), weights.shape)
        return Head(int(layer), int(index))

    def table(self, k: int = 8) -> pd.DataFrame:
        """The positions with the largest maximum: ``source`` (or ``destination``) ``, token, mean, maximum, head``, the
        head of the maximum. Those that every mask hides are left out."""
        import pandas as pd

        k = arguments.whole_number("k", k, at_least=1)
        order = np.argsort(-np.nan_to_num(self.maximum, nan=-np.inf), kind="stable")
        order = order[~self.masked_everywhere[order]][:k]
        name = SOURCE if self.role == DESTINATION else DESTINATION
        heads = [self.strongest_head(int(i)) for i in order]
        columns = {name: order, "token": [self.tokens[i] for i in order]}
        columns |= {"mean": self.mean[order], "maximum": self.maximum[order]}
        return pd.DataFrame({**columns, "head": ["" if head is None else str(head) for head in heads]})

    def html(self, over: str = MAXIMUM, *, colours: str = LINEAR) -> str:
        """The text, shaded by the maximum or the mean over heads, as `Attention.html`; the scale of the mean ends at
        the largest.

        Raises:
            UsageError: no such `over` or colours.
        """
        scale, what = shading(over, self.over_heads(over), arguments.one_of("colours", colours, COLOURS))
        heading = question(numbered(self.tokens)[self.position], self.role)
        pieces = self.pieces or pieces_of_labels(self.tokens)
        options = {"asking": self.position, "scale": scale, "what": what}
        options |= {"masked": self.masked_everywhere}
        return f"<div>{escape(heading)}</div>{shaded_text(pieces, self.tokens, self.over_heads(over), **options)}"

    def __repr__(self) -> str:
        n_layers, n_heads = self.weights.shape[:2]
        what = question(numbered(self.tokens)[self.position], self.role)
        return f"PositionAttention({what} {n_layers} × {n_heads} heads, {len(self.tokens)} tokens)"

    def _repr_html_(self) -> str:
        return f"<div><b>All heads{f' · {escape(self.model)}' if self.model else ''}</b>{self.html()}</div>"


def shading(over: str, weights: Float[np.ndarray, " pos"], colours: str = LINEAR) -> tuple[ColourScale, str]:
    """How the text is shaded by the maximum or the mean over heads, and what the legend says. A maximum is on the scale
    from 0 to 1; a mean over many heads comes nowhere near 1, and its scale ends at the largest."""
    if over == MAXIMUM:
        return ColourScale(colours), f"attention weight, {over} over heads"
    scale = ColourScale(colours, style.limit(weights))
    return scale, f"attention weight, {over} over heads, on a scale up to the largest"


@dataclass(frozen=True, eq=False, repr=False)
class AttentionBetween:
    """The attention that one position pays to another in every head.

    Attributes:
        tokens: the prompt's tokens as text.
        values: ``[layer, head]``; NaN in layers whose operator has no shares of attention, 0 where a mask hides `src`.
        dest, src: the position that attends, and the one that is attended to.
        model: its name.
        uniform: the weight in a head that attends to all positions alike; of a causal model to all up to its own.
        masked: ``[layer]``, whether its mask hides `src` from `dest`; by default none does.

    Examples:
        >>> pair = wb.attention_between(wb.load("tiny"), "Then, Mary and John", dest=4, src=2)
        >>> pair.values.shape, pair.uniform  # [layer, head]
        ((2, 8), 0.2)
    """

    tokens: tuple[str, ...]
    values: Float[np.ndarray, "layer head"]
    dest: int
    src: int
    model: str = ""
    uniform: float = float("nan")
    masked: Bool[np.ndarray, " layer"] | None = None

    @property
    def unmasked(self) -> Float[np.ndarray, "layer head"]:
        """The values, NaN where a mask hides `src`, too."""
        return self.values if self.masked is None else np.where(self.masked[:, None], np.nan, self.values)

    @property
    def why_masked(self) -> str:
        """Which layers hide `src` from `dest`; empty where none does."""
        if self.masked is None or not (self.masked & np.isfinite(self.values).any(1)).any():
            return ""
        hidden = f"the mask hides position {self.src} from position {self.dest}"
        is_later = self.src > self.dest
        return f"{hidden}, which comes before it" if is_later else f"{hidden}, whose window does not reach it"

    def table(self, k: int = 10) -> pd.DataFrame:
        """The heads with the largest weights: ``head, weight``; those without a weight are left out, and those whose
        mask hides `src`."""
        import pandas as pd

        k = arguments.whole_number("k", k, at_least=1)
        flat = self.unmasked.ravel()
        order = [int(i) for i in np.argsort(-flat, kind="stable") if np.isfinite(flat[i])][:k]
        heads = [str(Head(*divmod(i, self.values.shape[1]))) for i in order]
        return pd.DataFrame({"head": heads, "weight": flat[order]})

    def figure(self, colours: str = LINEAR) -> Figure:
        """Interactive Plotly figure of the grid of heads; colours ``linear``, ``square root`` or ``log``."""
        return self._chart(colours).figure()

    def picture(self, colours: str = LINEAR) -> Picture:
        """The same, still, as a `matplotlib.figure.Figure`."""
        return self._chart(colours).picture()

    @property
    def title(self) -> str:
        """Which pair."""
        names = numbered(self.tokens)
        return f"Attention from {names[self.dest]} to {names[self.src]}"

    def _chart(self, colours: str) -> Heatmap:
        n_layers, n_heads = self.values.shape
        return of_heads(
            self.unmasked,
            [str(i) for i in range(n_layers)],
            [str(i) for i in range(n_heads)],
            title=self.title + (f" · {self.model}" if self.model else ""),
            subtitle="; ".join(filter(None, [f"uniform attention: {self.uniform:.3g}", self.why_masked])),
            scale="attention weight",
            limit=1.0,
            diverging=False,
            colours=arguments.one_of("colours", colours, COLOURS),
            source=Source(self.model, "".join(self.tokens)),
        )

    def __repr__(self) -> str:
        best = ", ".join(f"{head} {weight:.2f}" for head, weight in self.table(3).itertuples(index=False))
        return f"AttentionBetween({self.title}: {best or self.why_masked or 'no weights'}; uniform {self.uniform:.2f})"

    def _repr_html_(self) -> str:
        from workbench.plotting import matplotlib_charts, notebook

        picture = notebook.image(matplotlib_charts.image(self.picture(), "png", 90), "picture of the grid of heads")
        return f"<div>{escape(repr(self))}{picture}</div>"
