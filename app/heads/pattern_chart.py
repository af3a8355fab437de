"""A head's attention pattern as a chart: all of it or a range, pooled to what can be drawn."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from app.downloadable import Chart
from workbench.plotting import style
from workbench.plotting.attention_view import block_names, block_size, laid_out, numbered, pooled
from workbench.plotting.charts import Heatmap
from workbench.plotting.colour_scale import LINEAR, ColourScale
from workbench.plotting.shaded_text import MASKED
from workbench.plotting.source import Source

#: Of cells that a mask hides, in pictures: nothing. On the page its background shows through.
MASKED_COLOUR = "white"
#: Destinations and sources that are shown.
Ranges = tuple[range, range]


@dataclass(frozen=True, eq=False)
class PatternChart(Chart):
    """A heatmap of a pattern, or of a range of it.

    Attributes:
        ranges: the destinations and the sources that are shown.
        length: of the prompt.
        masked: the cells all of whose pairs a mask hides: they are empty in data, and a picture shows nothing of them.
    """

    ranges: Ranges = (range(1), range(1))
    length: int = 1
    masked: Bool[np.ndarray, "row column"] | None = None

    @property
    def size(self) -> int:
        """The side of the blocks of which each cell shows the largest value."""
        return block_size(*map(len, self.ranges))

    @property
    def colour_scale(self) -> ColourScale:
        """From values to colours."""
        options = self.options
        return ColourScale(options["colours"], options["limit"], options["diverging"])

    def canvas(self) -> dict[str, Any]:
        """The chart for the page's canvas: the values as they are, in float32."""
        (values,), (columns, rows), scale = self.arrays, self.labels, self.colour_scale
        return {
            "title": self.options["title"],
            "subtitle": self.options["subtitle"],
            "units": self.options["scale"] + (f" ({scale.name})" if scale.name else ""),
            "rows": rows,
            "columns": columns,
            "values": base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode(),
            "first": [part.start for part in self.ranges],
            "end": [part.stop for part in self.ranges],
            "size": self.size,
            "length": self.length,
            "masked": MASKED,
            "mask": "" if self.masked is None else base64.b64encode(np.packbits(self.masked).tobytes()).decode(),
            "scale": {"kind": scale.kind, "limit": scale.limit, "diverging": scale.diverging},
            "ticks": [[share, text] for _, share, text in scale.ticks()],
        }

    def data_arrays(self) -> tuple[np.ndarray, ...]:
        """The values, NaN where a mask hides the pair."""
        (values,) = self.arrays
        return (values if self.masked is None else np.where(self.masked, np.nan, values),)

    def _chart(self, labels: Sequence[list[str]]) -> Heatmap:
        (values,) = self.data_arrays()
        x, y = labels
        return Heatmap(values, x, y, **self.options, blank=MASKED_COLOUR)

    def positions(self, row: int, column: int, pattern: Float[np.ndarray, "dest src"]) -> tuple[int, int]:
        """Destination and source of a cell; of a pooled one, those of its largest magnitude."""
        (dests, srcs), size = self.ranges, self.size
        dest, src = dests.start + row * size, srcs.start + column * size
        block = np.abs(pattern[dest : min(dest + size, dests.stop), src : min(src + size, srcs.stop)])
        i, j = np.unravel_index(np.nanargmax(block), block.shape) if np.isfinite(block).any() else (0, 0)
        return dest + int(i), src + int(j)


def pattern_chart(
    pattern: Float[np.ndarray, "dest src"],
    tokens: Sequence[str],
    *,
    title: str,
    scale: str,
    ranges: Ranges | None = None,
    signed: bool = False,
    limit: float | None = None,
    colours: str = LINEAR,
    source: Source | None = None,
    masked: Bool[np.ndarray, "dest src"] | None = None,
    quantity: str = "",
    data_tokens: Sequence[str] | None = None,
) -> PatternChart:
    """The chart of a pattern.

    Args:
        ranges: the destinations and the sources that are shown; all by default.
        signed: a difference of two patterns, on a scale centred on zero.
        limit: the end of the scale; by default the largest magnitude.
        colours: linear, square root or log.
        source: what the downloads name.
        masked: the pairs that a mask hides; None where it hides none, or it is not known which.
        quantity: what the values are, for data; by default the title.
        data_tokens: the tokens as data have them, where `tokens` have marks for white space.
    """
    rows, columns = ranges or (range(len(tokens)), range(len(tokens)))
    values, column_names, row_names, options = laid_out(pattern, numbered(tokens), rows, columns)
    in_data = numbered(tokens if data_tokens is None else data_tokens, as_they_are=True)
    size = block_size(len(rows), len(columns))
    data_labels = tuple(block_names(in_data, part, size, "-") for part in (columns, rows))
    options |= {"title": title, "scale": scale, "diverging": signed, "colours": colours}
    options["limit"] = style.limit(values) if limit is None else limit
    if masked is not None:
        is_visible = ~masked[rows.start : rows.stop, columns.start : columns.stop]
        masked = pooled(is_visible.astype(np.float32), size) == 0
    return PatternChart(
        "heatmap",
        (values,),
        (column_names, row_names),
        options,
        source=source or Source(),
        facts={"quantity": quantity or title, "units": scale},
        data_labels=data_labels,
        ranges=(rows, columns),
        length=len(tokens),
        masked=masked,
    )
