"""Charts as descriptions: numbers, labels and words, drawn by Plotly (`figure`) and by matplotlib (`picture`).

Every chart has a title (what, model, n), a subtitle (how it was measured), names of its axes with their units, and a
note at its foot. ``Heatmap(...).figure()`` and ``.picture()`` are the same chart, interactive and still.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Float

from workbench.plotting import style
from workbench.plotting.colour_scale import LINEAR, ColourScale

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture
    from plotly.graph_objects import Figure

    from workbench.plotting.source import Source

#: Cells of a heatmap's longer side, above which there are no gaps between them.
MAX_CELLS_WITH_GAPS = 64


#: Of measured points, whose x are all written along the axis.
MOST_TICKS = 9

#: Of small multiples: the room for a name and the gap between two maps, as shares of a map's size.
NAME_ROOM, BETWEEN = 0.3, 0.1


@dataclass(frozen=True, eq=False, kw_only=True)
class Chart:
    """The words around a chart, and how it is drawn; `kind` names its drawing in both renderers. `source` says what the
    chart is of, in a line at its foot."""

    kind: ClassVar[str]
    title: str = ""
    subtitle: str = ""
    note: str = ""
    source: Source | None = None

    def figure(self) -> Figure:
        """Interactive, as a Plotly figure."""
        from workbench.plotting import plotly_charts

        figure = plotly_charts.draw(self)
        return figure if self.source is None else self.source.annotate(figure)

    def picture(self) -> Picture:
        """Still, as a `matplotlib.figure.Figure`."""
        from workbench.plotting import matplotlib_charts

        picture = matplotlib_charts.draw(self)
        return picture if self.source is None else matplotlib_charts.add_source(picture, self.source)


@dataclass(frozen=True, eq=False)
class Heatmap(Chart):
    """``values[row, column]``, first row on top; NaN has the colour `blank`, grey by default.

    Attributes:
        x, y: names of the columns and of the rows.
        scale: the quantity with its unit, beside the colour bar.
        diverging: colours centred on 0, from −limit to limit (by default the largest magnitude); else from 0 to limit.
        colours: ``linear``, ``square root`` or ``log``; the colour bar and the texts have the values themselves.
        show_values: write each value into its cell; `labelled`: of the still picture, the cells to write into instead.
        hover: the text of each cell of the interactive figure.
    """

    kind = "heatmap"
    values: Float[np.ndarray, "row column"]
    x: Sequence[str]
    y: Sequence[str]
    scale: str = ""
    x_title: str = ""
    y_title: str = ""
    limit: float | None = None
    diverging: bool = True
    colours: str = LINEAR
    show_values: bool = False
    labelled: np.ndarray | None = None
    hover: np.ndarray | None = None
    blank: str = style.BLANK

    @property
    def colour_scale(self) -> ColourScale:
        """From values to colours."""
        limit = style.limit(self.values) if self.limit is None else self.limit
        return ColourScale(self.colours, limit, self.diverging)

    @property
    def has_gaps(self) -> bool:
        """Whether there is a gap between cells: between those of a large heatmap little else would be seen."""
        return max(self.values.shape) <= MAX_CELLS_WITH_GAPS


def of_heads(
    values: Float[np.ndarray, "layer head"],
    layers: Sequence[str],
    heads: Sequence[str],
    *,
    hover: np.ndarray | None = None,
    labelled: np.ndarray | None = None,
    **options: Any,
) -> Heatmap:
    """The heatmap of a value for each head: layers across and heads down, in every figure as in the explorer's grids.

    Args:
        layers, heads: their names.
        hover, labelled: ``[layer, head]``, as those of a `Heatmap`.
        options: the others of a `Heatmap`; ``y_title`` where the rows are not "head".
    """
    across = [None if array is None else array.T for array in (hover, labelled)]
    titles = {"x_title": "layer", "y_title": "head"}
    return Heatmap(values.T, layers, heads, hover=across[0], labelled=across[1], **{**titles, **options})


@dataclass(frozen=True, eq=False)
class Bars(Chart):
    """A bar for each name, with its interval.

    Attributes:
        low, high: ends of the intervals, NaN where there is none.
        scale: the quantity with its unit, along the vertical axis.
        reference: a mark beside each bar (a chance level, a null), called `reference_name` in the legend.
        bar_name: what the legend calls the bars.
        hover: the text of each bar of the interactive figure.
    """

    kind = "bars"
    values: Float[np.ndarray, " bar"]
    low: Float[np.ndarray, " bar"]
    high: Float[np.ndarray, " bar"]
    names: Sequence[str]
    scale: str = ""
    x_title: str = ""
    reference: np.ndarray | None = None
    reference_name: str = "chance"
    bar_name: str = ""
    hover: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Line:
    """One line of a chart of `Lines`; `low` and `high` are the ends of its band, if it has one. A `dashed` line, for
    what others are compared with, has no markers."""

    x: Float[np.ndarray, " point"]
    y: Float[np.ndarray, " point"]
    low: Float[np.ndarray, " point"] | None = None
    high: Float[np.ndarray, " point"] | None = None
    dashed: bool = field(default=False, kw_only=True)


@dataclass(frozen=True, eq=False)
class Lines(Chart):
    """Lines by name, each with a band where it has an interval; `log_x` for a logarithmic horizontal axis."""

    kind = "lines"
    lines: Mapping[str, Line]
    x_title: str = ""
    y_title: str = ""
    log_x: bool = False


@dataclass(frozen=True, eq=False)
class Series:
    """Points with the ends of their intervals, and the curve that they are compared with, in one colour.

    Attributes:
        low, high: ends of the intervals; None where there are none.
        curve: x and y of a line, such as a law; None where there is none.
    """

    x: Float[np.ndarray, " point"]
    y: Float[np.ndarray, " point"]
    low: Float[np.ndarray, " point"] | None = None
    high: Float[np.ndarray, " point"] | None = None
    curve: tuple[np.ndarray, np.ndarray] | None = None


@dataclass(frozen=True, eq=False)
class PointsAndCurves(Chart):
    """Measured points with their intervals beside curves, by name; `curve_name` is what the legend calls the curves.

    Attributes:
        log_x, log_y: for logarithmic axes; what is not above 0 is then left out.
    """

    kind = "points and curves"
    series: Mapping[str, Series]
    x_title: str = ""
    y_title: str = ""
    curve_name: str = "law"
    log_x: bool = False
    log_y: bool = False

    @property
    def x_ticks(self) -> list[float]:
        """The x of all points where they are few and short; else empty."""
        values = sorted({float(x) for series in self.series.values() for x in series.x})
        short = all(len(f"{value:g}") <= 4 for value in values)
        return values if short and len(values) <= MOST_TICKS else []


@dataclass(frozen=True, eq=False)
class Panels(Chart):
    """Lines in several panels with common axes; a line has the same name and colour in each.

    Attributes:
        panels: the lines of each panel, by its title.
        columns: how many panels stand side by side.
        y_range: of every panel; by default all that is drawn.
    """

    kind = "panels"
    panels: Mapping[str, Mapping[str, Line]]
    columns: int = 2
    x_title: str = ""
    y_title: str = ""
    y_range: tuple[float, float] | None = None

    @property
    def names(self) -> list[str]:
        """Of the lines, in their order."""
        return list(dict.fromkeys(name for lines in self.panels.values() for name in lines))

    @property
    def rows(self) -> int:
        """How many rows of panels there are."""
        return -(-len(self.panels) // self.columns)


@dataclass(frozen=True, eq=False)
class Multiples(Chart):
    """Many small heatmaps of one size on one scale from 0 to 1, with a name below each; drawn as one image.

    Attributes:
        maps: one for each name, first row on top.
        names: of the maps.
        columns: how many stand side by side.
        scale: the quantity with its unit, beside the colour bar.
        colours: as of a `Heatmap`.
        hover: of the interactive figure, the text of each entry.
    """

    kind = "multiples"
    maps: Float[np.ndarray, "map row column"]
    names: Sequence[str]
    columns: int
    scale: str = ""
    colours: str = LINEAR
    hover: np.ndarray | None = None
    blank: str = style.BLANK

    @property
    def colour_scale(self) -> ColourScale:
        """From values to colours."""
        return ColourScale(self.colours)

    @property
    def gaps(self) -> tuple[int, int]:
        """Empty rows below each map, where its name stands, and empty columns beside it, in entries."""
        rows, columns = self.maps.shape[1:]
        return max(1, round(NAME_ROOM * rows)), max(1, round(BETWEEN * columns))

    def mosaic(self, of: np.ndarray | None = None) -> np.ndarray:
        """All maps as one array (or something `of` each of their entries); NaN, or None, between them."""
        of = self.maps if of is None else of
        (n, rows, columns), (below, beside) = of.shape, self.gaps
        lines, kind = -(-n // self.columns), of.dtype
        fill = None if kind.hasobject else np.nan
        tiles = np.full((lines * self.columns, rows + below, columns + beside), fill, dtype=kind)
        tiles[:n, :rows, :columns] = of
        tiles = tiles.reshape(lines, self.columns, rows + below, columns + beside)
        return tiles.swapaxes(1, 2).reshape(lines * (rows + below), self.columns * (columns + beside))

    @property
    def places(self) -> Float[np.ndarray, "map 2"]:
        """Where the names stand in the mosaic: x and y of the middle of the gap below each map."""
        (n, rows, columns), (below, beside) = self.maps.shape, self.gaps
        line, column = np.divmod(np.arange(n), self.columns)
        x = column * (columns + beside) + (columns - 1) / 2
        return np.stack([x, line * (rows + below) + rows + (below - 1) / 2], -1)


class Regression(NamedTuple):
    """A line ``y = intercept + slope · x`` with Pearson's correlation."""

    slope: float
    intercept: float
    correlation: float


@dataclass(frozen=True, eq=False)
class Scatter(Chart):
    """A point for each name, with the least-squares line through them.

    Attributes:
        x, y: the coordinates; points with a NaN are left out.
        names: of the points, for the interactive figure and for the `labelled` points of the still picture.
        regression: draw the line.
        log: logarithmic axes; the line is then that of the logarithms, and what is not above 0 is left out.
        diagonal: what the legend calls the line y = x; it is drawn where it has a name.
        labelled: how many points are named in the still picture, those furthest from the mean first.
    """

    kind = "scatter"
    x: Float[np.ndarray, " point"]
    y: Float[np.ndarray, " point"]
    names: Sequence[str]
    x_title: str = ""
    y_title: str = ""
    regression: bool = True
    labelled: int = 6
    log: bool = False
    diagonal: str = ""

    @property
    def finite(self) -> np.ndarray:
        """Mask of the points that are drawn."""
        finite = np.isfinite(self.x) & np.isfinite(self.y)
        return finite & (self.x > 0) & (self.y > 0) if self.log else finite

    @property
    def ends(self) -> np.ndarray:
        """The least and the largest x that is drawn."""
        x = self.x[self.finite]
        return np.array([x.min(), x.max()]) if len(x) else np.array([])

    def on_line(self, x: np.ndarray) -> np.ndarray:
        """The least-squares line at x, where there is one."""
        line = self.line
        assert line is not None
        fitted = line.intercept + line.slope * (np.log10(x) if self.log else x)
        return 10**fitted if self.log else fitted

    @property
    def line(self) -> Regression | None:
        """The least-squares line (`scipy.stats.linregress`); None below two different x."""
        from scipy import stats

        x, y = self.x[self.finite], self.y[self.finite]
        if self.log:
            x, y = np.log10(x), np.log10(y)
        if not self.regression or len(x) < 2 or np.ptp(x) == 0:
            return None
        fit: Any = stats.linregress(x, y)
        return Regression(float(fit.slope), float(fit.intercept), float(fit.rvalue))

    @property
    def furthest(self) -> list[int]:
        """Indices of the points to name: furthest from the mean, each axis in units of its standard deviation."""
        distance = np.zeros(len(self.names))
        for side in (np.asarray(self.x, float), np.asarray(self.y, float)):
            side = np.log10(np.where(self.finite, side, np.nan)) if self.log else side
            spread = np.nanstd(side) if self.finite.any() else 0.0
            distance += np.nan_to_num((side - np.nanmean(side)) / spread) ** 2 if spread else 0.0
        order = np.argsort(-distance, kind="stable")
        return [int(i) for i in order if self.finite[i]][: self.labelled]


@dataclass(frozen=True, eq=False)
class Graph(Chart):
    """Nodes at places, with arrows between them.

    Attributes:
        nodes: name → (x, y).
        edges: (from, to) → strength; wider arrows are stronger, and negative ones have the other colour.
        groups: name → group; each group has its own colour in the legend.
    """

    kind = "graph"
    nodes: Mapping[str, tuple[float, float]]
    edges: Mapping[tuple[str, str], float]
    groups: Mapping[str, str] = field(default_factory=dict)
    x_title: str = ""
    y_title: str = ""

    @property
    def members(self) -> dict[str, list[str]]:
        """Group → its nodes, in their order."""
        result: dict[str, list[str]] = {}
        for name in self.nodes:
            result.setdefault(self.groups.get(name, ""), []).append(name)
        return result

    def width(self, strength: float) -> float:
        """The width of an arrow, 0.5 to 4, by its share of the strongest."""
        strongest = max(map(abs, self.edges.values()), default=0.0)
        return 0.5 + 3.5 * abs(strength) / strongest if strongest else 0.5
