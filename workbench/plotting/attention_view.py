"""`Attention`: one head's pattern on one prompt, with its tokens, as a table, a chart and HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from workbench import arguments
from workbench.core import Head
from workbench.io.written_text import Piece, pieces_of_labels
from workbench.plotting.charts import Heatmap
from workbench.plotting.colour_scale import COLOURS, LINEAR, ColourScale
from workbench.plotting.shaded_text import shade, shaded_text
from workbench.plotting.source import Source

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Picture
    from plotly.graph_objects import Figure

#: Prompts of more tokens show their pattern as a picture, not as a table of cells.
LONG = 64
#: Longer sides of a pattern are pooled in pictures, so that a cell is no smaller than a pixel.
MAX_CELLS = 400
#: Spaces in a row that are shown one by one.
MOST_DOTS = 4
#: What a position is: the one that attends, or the one that is attended to.
DESTINATION, SOURCE = ROLES = ("destination", "source")


@dataclass(frozen=True, eq=False, repr=False)
class Attention:
    """One head's attention on one prompt.

    Attributes:
        tokens: the prompt's tokens as text; bytes that are no character as ``<0xE6>``.
        pattern: how much each destination attends to each source; rows sum to 1, less what a head's sink takes.
        head, model: which.
        pieces: the prompt's text as people write it; by default the tokens.
        causal: whether a mask hides later positions, whose weights are exactly 0 then.

    Examples:
        >>> view = wb.attention_view(wb.load("tiny"), "Then, Mary and John", layer=1, head=3)
        >>> view.tokens
        ('Then', ',', ' Mary', ' and', ' John')
        >>> view.pattern.shape  # [dest, src]
        (5, 5)
        >>> view.table(src=2).columns.tolist()  # who attends to Mary?
        ['destination', 'token', 'weight']
    """

    tokens: tuple[str, ...]
    pattern: Float[np.ndarray, "dest src"]
    head: Head
    model: str = ""
    pieces: tuple[Piece, ...] = ()
    causal: bool = False

    def table(self, dest: int | None = None, k: int = 8, *, src: int | None = None) -> pd.DataFrame:
        """What one destination attends to most, or who attends to one source: ``source, token, weight`` or
        ``destination, token, weight``, the largest first; positions that the mask hides are left out.

        Args:
            dest: the destination; the last position by default. src: the source, in its place.

        Raises:
            UsageError: the prompt has no such position, or both are given.
        """
        import pandas as pd

        if dest is not None and src is not None:
            raise arguments.refusal("src", src, "None", because="dest is given: a table has one of the two")
        k = arguments.whole_number("k", k, at_least=1)
        if src is None:
            at, name = at_position("dest", -1 if dest is None else dest, self.tokens), SOURCE
            weights, masked = self.pattern[at], self._masked(at, DESTINATION)
        else:
            at, name = at_position("src", src, self.tokens), DESTINATION
            weights, masked = self.pattern[:, at], self._masked(at, SOURCE)
        order = np.argsort(-weights, kind="stable")
        order = order[~masked[order]][:k]
        return pd.DataFrame({name: order, "token": [self.tokens[i] for i in order], "weight": weights[order]})

    def html(self, position: int = -1, role: str = DESTINATION, *, colours: str = LINEAR) -> str:
        """The text, shaded by what a position attends to (``role="destination"``) or by who attends to it
        (``role="source"``), from 0 to 1, with a legend; point at a word to read its weight. Plain HTML without scripts.

        Args:
            colours: ``linear``, ``square root`` or ``log``.

        Raises:
            UsageError: the prompt has no such position, or no such role or colours.
        """
        arguments.one_of("role", role, ROLES)
        scale = ColourScale(arguments.one_of("colours", colours, COLOURS))
        at = at_position("position", position, self.tokens)
        weights = self.pattern[at] if role == DESTINATION else self.pattern[:, at]
        heading = f"<div>{escape(question(numbered(self.tokens)[at], role))}</div>"
        pieces = self.pieces or pieces_of_labels(self.tokens)
        return heading + shaded_text(
            pieces, self.tokens, weights, asking=at, scale=scale, masked=self._masked(at, role)
        )

    def _masked(self, at: int, role: str) -> Bool[np.ndarray, " pos"]:
        """The sources that are hidden from a destination, or the destinations that a source is hidden from."""
        later = np.arange(len(self.tokens)) - at
        return self.causal & (later > 0 if role == DESTINATION else later < 0)

    def figure(self, colours: str = LINEAR) -> Figure:
        """Interactive Plotly figure of the pattern; `colours` as in `html`."""
        return self._chart(colours).figure()

    def picture(self, colours: str = LINEAR) -> Picture:
        """The same, still, as a `matplotlib.figure.Figure`."""
        return self._chart(colours).picture()

    def _chart(self, colours: str = LINEAR) -> Heatmap:
        """The pattern as a chart."""
        values, columns, rows, words = laid_out(self.pattern, numbered(self.tokens))
        words |= {"limit": 1.0, "colours": arguments.one_of("colours", colours, COLOURS)}
        source = Source(self.model, "".join(self.tokens), str(self.head))
        return Heatmap(values, columns, rows, title=self._title, scale="attention weight", source=source, **words)

    @property
    def _title(self) -> str:
        return f"Attention of head {self.head}" + (f" · {self.model}" if self.model else "")

    def __repr__(self) -> str:
        best = self.table(k=3)
        seen = ", ".join(f"{t!r} {w:.2f}" for t, w in zip(best["token"], best["weight"], strict=True))
        return f"Attention(head {self.head}, {len(self.tokens)} tokens; the last attends to {seen})"

    def _repr_html_(self) -> str:
        """The tokens shaded by what the last of them attends to, and the whole pattern below: point at a cell to read
        it. Plain HTML without scripts, so that it shows in a notebook that is not trusted, too."""
        from workbench.plotting import matplotlib_charts, notebook

        if len(self.tokens) > LONG:
            grid = notebook.image(matplotlib_charts.image(self.picture(), dpi=90), "picture of the pattern")
        else:
            grid = f"<i>{ROWS_ARE}</i>{self._grid()}"
        return f"<div><b>{escape(self._title)}</b>{self.html()}{grid}</div>"

    def _grid(self) -> str:
        head = "".join(
            f'<th style="writing-mode:vertical-rl;font-weight:normal">{escape(visible(token))}</th>'
            for token in self.tokens
        )
        names, rows = numbered(self.tokens), []
        for dest, row in enumerate(self.pattern):
            cells = "".join(
                f'<td title="{dest} {escape(repr(self.tokens[dest]))} to {src} {escape(repr(self.tokens[src]))}: '
                f'{weight:.3f}" style="{shade(weight)}width:12px;height:12px;padding:0"></td>'
                for src, weight in enumerate(row[: dest + 1] if self.causal else row)
            )
            rows.append(f'<tr><th style="text-align:right;font-weight:normal">{escape(names[dest])}</th>{cells}</tr>')
        return f'<table style="border-collapse:collapse;font-size:11px"><tr><th></th>{head}</tr>{"".join(rows)}</table>'


ROWS_ARE = "each row: the attention of one destination over the source positions"


def question(label: str, role: str) -> str:
    """What is asked about a position."""
    return f"What does {label} attend to?" if role == DESTINATION else f"Who attends to {label}?"


def at_position(name: str, value: Any, tokens: Sequence[str]) -> int:
    """A position of a prompt; negative ones count from the end.

    Raises:
        UsageError: there is no such position.
    """
    last = len(tokens) - 1
    return arguments.whole_number(name, value, at_least=-last - 1, at_most=last) % len(tokens)


def laid_out(
    pattern: Float[np.ndarray, "dest src"],
    names: Sequence[str],
    rows: range | None = None,
    columns: range | None = None,
) -> tuple[np.ndarray, list[str], list[str], dict[str, Any]]:
    """A pattern, or a range of its destinations (`rows`) and sources (`columns`), as it is drawn: the values, pooled
    where there are more than `MAX_CELLS`, the names of columns and rows, and the words that every picture has."""
    rows = rows or range(len(pattern))
    columns = columns or range(len(pattern))
    size = block_size(len(rows), len(columns))
    values = pooled(pattern[rows.start : rows.stop, columns.start : columns.stop], size)
    parts = [ROWS_ARE]
    if (len(rows), len(columns)) != pattern.shape:
        ranges = [f"{part.start} to {part.stop - 1}" for part in (rows, columns)]
        parts.append(f"destinations {ranges[0]} and sources {ranges[1]} of {len(pattern)}")
    if size > 1:
        parts.append(f"pooled: each cell is the largest value of {size} × {size}")
    words = {
        "subtitle": "; ".join(parts),
        "x_title": "source position (attended to)",
        "y_title": "destination position",
        "diverging": False,
    }
    return values, block_names(names, columns, size), block_names(names, rows, size), words


def block_names(names: Sequence[str], part: range, size: int, to: str = "\N{EN DASH}") -> list[str]:
    """The names of blocks of positions: ``4 ·the``, or ``4–5 ·the`` where a block has two or more."""
    blocks = [part[start : start + size] for start in range(0, len(part), size)]
    ends = {block[0]: f"{block[0]}{to}{block[-1]} " for block in blocks if len(block) > 1}
    return [ends[i] + names[i].partition(" ")[2] if (i := block[0]) in ends else names[i] for block in blocks]


def block_size(n_rows: int, n_columns: int) -> int:
    """The side of the blocks that are pooled into one cell each."""
    return -(-max(n_rows, n_columns) // MAX_CELLS)


def numbered(tokens: Sequence[str], *, as_they_are: bool = False) -> list[str]:
    """The tokens with their positions, as labels: their white space to be seen, or in data as it is."""
    return [f"{i} {token if as_they_are else visible(token)}" for i, token in enumerate(tokens)]


def pooled(values: Float[np.ndarray, "row column"], size: int) -> Float[np.ndarray, "block_row block_column"]:
    """The value of largest magnitude in each block of ``size × size`` cells; the last ones may be smaller."""
    if size == 1:
        return values
    rows, columns = (-(-n // size) for n in values.shape)
    padded = np.zeros((rows * size, columns * size), values.dtype)
    padded[: values.shape[0], : values.shape[1]] = values
    blocks = padded.reshape(rows, size, columns, size).swapaxes(1, 2).reshape(rows, columns, size * size)
    return np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[..., None], -1)[..., 0]


def visible(token: str) -> str:
    """A token with its white space to be seen: line breaks as ⏎, carriage returns as ␍, tabs as ⇥, each space at its
    beginning or end as ·, and more than `MOST_DOTS` of these as ·×8."""
    text = token.replace("\n", "⏎").replace("\r", "␍").replace("\t", "⇥")
    middle = text.strip(" ")
    first = len(text) - len(text.lstrip(" "))
    return _dots(first) + middle + _dots(len(text) - first - len(middle))


def _dots(spaces: int) -> str:
    return "·" * spaces if spaces <= MOST_DOTS else f"·×{spaces}"
