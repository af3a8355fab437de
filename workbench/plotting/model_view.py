"""`ModelView`: the patterns of many heads on one prompt, as small multiples: a table, charts and HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from workbench import arguments
from workbench.core import Head, parse_heads
from workbench.io.tables import printed
from workbench.plotting.attention_view import numbered
from workbench.plotting.charts import Multiples
from workbench.plotting.colour_scale import COLOURS, LINEAR
from workbench.plotting.source import Source

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Picture
    from plotly.graph_objects import Figure

#: Maps that stand side by side where they are not in rows of one layer each.
SIDE_BY_SIDE = 10
#: Pixels of the picture in a notebook, before it scrolls.
HEIGHT = 640


@dataclass(frozen=True, eq=False, repr=False)
class ModelView:
    """Attention patterns of many heads on one prompt.

    Attributes:
        heads: which, in the order in which they are shown.
        maps: the largest weight of each block of destinations and sources; the patterns themselves where `block` is 1.
        block: positions of a row or column; the last may have fewer.
        tokens: the prompt's tokens as text.
        model: its name, with its operators.
        notes: which layers are left out, and why, a line each.
        values: a value for each head, where they are ranked by one. score: what that is.

    Examples:
        >>> model = wb.load("tiny")
        >>> best = wb.scores_on(model, wb.task("ioi", n=6)).top("previous_token", 2)
        >>> view = wb.model_view(model, "Then, Mary and John", best, score="previous token")
        >>> view.maps.shape, len(view.values)  # [head, row, column]
        ((2, 5, 5), 2)
    """

    heads: tuple[Head, ...]
    maps: Float[np.ndarray, "head row column"]
    block: int
    tokens: tuple[str, ...]
    model: str = ""
    notes: tuple[str, ...] = ()
    values: Float[np.ndarray, " head"] | None = None
    score: str = ""

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Of the rows and columns: ``2 ·Mary``, or the positions of a block, ``64 to 95``."""
        return self._labels(numbered(self.tokens))

    @cached_property
    def data_labels(self) -> tuple[str, ...]:
        """The same with the tokens as they are: ``2  Mary``."""
        return self._labels(numbered(self.tokens, as_they_are=True))

    def _labels(self, names: Sequence[str]) -> tuple[str, ...]:
        if self.block == 1:
            return tuple(names)
        last = len(self.tokens) - 1
        starts = range(0, len(self.tokens), self.block)
        return tuple(f"{i} to {min(i + self.block - 1, last)}" if i < last else str(i) for i in starts)

    def of(self, heads: Sequence[Any], score: str = "") -> ModelView:
        """Some of the heads, in this order.

        Args:
            heads: ``Head(23, 3)``, ``"23.3"`` or ``(23, 3)``, or pairs of a head and its value.
            score: what the values are.

        Raises:
            UsageError: a head that is not among these.
        """
        score = arguments.text("score", score, empty=True)
        entries, values = _heads_and_values(heads)
        places = {head: i for i, head in enumerate(self.heads)}
        if unknown := [head for head in entries if head not in places]:
            why = f"there is no pattern of {unknown[0]}"
            note = next((note for note in self.notes if note.startswith(f"Layer {unknown[0].layer} ")), "")
            raise arguments.refusal("heads", heads, "heads whose patterns are here", note, because=why)
        maps = self.maps[[places[head] for head in entries]]
        return replace(self, heads=tuple(entries), maps=maps, values=values, score=score)

    def table(self) -> pd.DataFrame:
        """One row for each head and row of its map: ``head``, the value where there is one, ``destination``, and a
        column for each label of a source."""
        import pandas as pd

        n, rows, columns = self.maps.shape
        names = list(self.data_labels)
        table = pd.DataFrame(self.maps.reshape(n * rows, columns), columns=pd.Index(names))
        table.insert(0, "destination", names * n)
        if self.values is not None:
            table.insert(0, self.score or "value", np.repeat(self.values, rows))
        table.insert(0, "head", np.repeat([str(head) for head in self.heads], rows))
        return table

    def figure(self, colours: str = LINEAR) -> Figure:
        """Interactive Plotly figure: all maps as one image, on one scale from 0 to 1; point at a cell to read it.

        Args:
            colours: ``linear``, or ``square root`` or ``log``, which show small weights.
        """
        return replace(self._chart(colours), hover=self._hover).figure()

    def picture(self, colours: str = LINEAR) -> Picture:
        """The same, still, as a `matplotlib.figure.Figure`."""
        return self._chart(colours).picture()

    @property
    def _hover(self) -> np.ndarray:
        """Of each entry: head, destination and source."""
        labels = [escape(label, quote=False) for label in self.labels]  # Plotly interprets HTML tags
        pairs = np.array([[f"{row} → {column}" for column in labels] for row in labels], dtype=object)
        heads = np.array([f"{head}: " for head in self.heads], dtype=object)
        return heads[:, None, None] + pairs[None]

    def _chart(self, colours: str) -> Multiples:
        pooled = "" if self.block == 1 else f"; pooled: each cell is the largest weight of {self.block} × {self.block}"
        ranked = f"; below each: {self.score or 'its value'}" if self.values is not None else ""
        return Multiples(
            self.maps,
            self.names,
            self._columns,
            scale="attention weight",
            colours=arguments.one_of("colours", colours, COLOURS),
            title=self._title,
            subtitle=f"{len(self.tokens)} tokens; in each map destinations downwards, sources across{pooled}{ranked}",
            note=" ".join(self.notes),
            source=self.source,
        )

    @property
    def source(self) -> Source:
        """What the maps are of."""
        return Source(self.model, "".join(self.tokens))

    @property
    def names(self) -> list[str]:
        """What stands below each map: the head, and its value where there is one."""
        if self.values is None:
            return [str(head) for head in self.heads]
        return [f"{head}  {value_text(value)}" for head, value in zip(self.heads, self.values, strict=True)]

    @property
    def _columns(self) -> int:
        """A row for each layer where heads are in order of layer, and each layer has as many."""
        layers = [head.layer for head in self.heads]
        counts = {layer: layers.count(layer) for layer in layers}
        is_grid = self.values is None and list(self.heads) == sorted(self.heads) and len(set(counts.values())) == 1
        return max(1, next(iter(counts.values())) if is_grid else min(SIDE_BY_SIDE, len(layers)))

    @property
    def _title(self) -> str:
        n = len(self.heads)
        what = f"Attention of {n} head{'' if n == 1 else 's'}"
        return " · ".join(filter(None, [what, self.model]))

    def __repr__(self) -> str:
        rows, columns = self.maps.shape[1:]
        blocks = "" if self.block == 1 else f", pooled by {self.block} × {self.block}"
        return f"ModelView({len(self.heads)} heads, {len(self.tokens)} tokens; maps of {rows} × {columns}{blocks})"

    def _repr_html_(self) -> str:
        """All maps in one picture that scrolls: plain HTML without scripts."""
        from workbench.plotting import matplotlib_charts, notebook

        picture = notebook.image(matplotlib_charts.image(self.picture(), dpi=90), "picture of the patterns")
        notes = "".join(f"<br><i>{escape(note)}</i>" for note in self.notes)
        return f'<div>{escape(repr(self))}{notes}<div style="max-height:{HEIGHT}px;overflow:auto">{picture}</div></div>'


def value_text(value: float) -> str:
    """A head's value, in three digits."""
    return printed(value) if np.isfinite(value) else "no value"


def _heads_and_values(heads: Any) -> tuple[list[Head], Float[np.ndarray, " head"] | None]:
    """Heads, each once, and their values where they have any."""
    entries = arguments.sequence("heads", heads, "a list of heads")
    if not entries:
        raise arguments.refusal("heads", heads, "at least one head", "Leave it out for all of them.")
    pairs: list[Any] = [entry if _is_pair(entry) else (entry, None) for entry in entries]
    result = parse_heads("heads", [head for head, _ in pairs])
    arguments.each_once("heads", heads, [str(head) for head in result], "head")
    values = [value for _, value in pairs if value is not None]
    if len(values) not in (0, len(pairs)):
        raise arguments.refusal("heads", heads, "a value for each head, or for none", because="some have one")
    if not all(isinstance(value, Real) and not isinstance(value, bool) for value in values):
        raise arguments.refusal("heads", heads, "pairs of a head and a number")
    return result, np.array(values, dtype=float) if values else None


def _is_pair(entry: Any) -> bool:
    return isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[0], Head | str)
