"""Matrices between tasks, from a run of ``circuit-reuse``: the overlap of their circuits, and the damage to each task
when another's circuit is ablated. Each with its null."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from app.circuits.run_tables import read_columns
from app.plotly_text import horizontal_colorbar, wrap
from circuits.reuse import figures
from workbench.io.files import jsonable
from workbench.io.tables import ascii_minus
from workbench.plotting import matplotlib_charts
from workbench.plotting.source import Source

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from workbench.plotting.charts import Heatmap
    from workbench.runs.run import Run

_OVERLAP = ("shared", "union", "jaccard", "null", "null_95", "p_value", "low", "high")
_PAIR = ("task_a", "task_b", "stages", "pair")
_DAMAGE = ("damage", "low", "high")
_RANDOM = ("random", "random_low", "random_high", "beyond_random", "beyond_low", "beyond_high")
#: Replacements of characters that Plotly or Matplotlib would interpret as markup.
_MARKUP = str.maketrans("<>&$", "\u2039\u203a+\u00a7")


@dataclass(frozen=True, eq=False)
class Matrix:
    """A matrix between tasks: both figures, and the rows of the run's table that they show."""

    figure: Any
    picture: Any
    rows: pd.DataFrame
    source: Source

    @property
    def note(self) -> str:
        """The text below the figure in the page."""
        _, *rest = str(self.figure.layout.title.subtitle.text).split(" · ")
        notes = [str(annotation.text) for annotation in self.figure.layout.annotations]
        return " ".join([*(f"{text[0].upper()}{text[1:]}." for text in rest), *notes])

    def plotly(self) -> Figure:
        """For the page: narrow enough for a phone, with most text in `note`."""
        figure = copy.deepcopy(self.figure)
        title, _, rest = str(figure.layout.title.text).partition(" · ")
        first = str(figure.layout.title.subtitle.text).split(" · ")[0]
        title = {"text": title, "subtitle": {"text": wrap(f"{rest} · {first}")}, "x": 0, "y": 0.99, "yanchor": "top"}
        names = list(figure.data[0].x)
        below = 7 * max(map(len, names), default=0) + 36
        margin = {"l": 10, "r": 10, "t": 125, "b": below, "pad": 0}
        figure.update_layout(title=title, margin=margin, height=125 + 46 * len(names) + below)
        figure.layout.annotations = ()
        horizontal_colorbar(figure)
        figure.update_traces(textfont={"size": 10})
        x, y = (axis.title.text or "task" for axis in (figure.layout.xaxis, figure.layout.yaxis))
        figure.update_xaxes(tickvals=names, tickangle=-90, title={"text": x, "standoff": 8}, fixedrange=True)
        broken = [name.replace("-", "-<br>") if len(name) > 10 else name for name in names]
        figure.update_yaxes(tickvals=names, ticktext=broken, title={"text": y}, automargin=True, fixedrange=True)
        return figure

    def image(self, ending: str) -> bytes:
        """As ``png`` or ``svg``."""
        return matplotlib_charts.image(self.picture, ending)

    def csv(self) -> bytes:
        """The exact numbers: the rows of the run's table."""
        return self.source.csv(self.rows)

    def json(self) -> bytes:
        """The same with the labels."""
        layout = self.figure.layout
        fields = {"kind": "matrix", "title": layout.title.text, "subtitle": layout.title.subtitle.text}
        fields |= {"note": ascii_minus(self.note), "rows": self.rows.to_dict("records"), **self.source.fields()}
        return json.dumps(jsonable(fields), ensure_ascii=False).encode()


def overlap(run: Run, percent: float | None = None) -> Matrix:
    """Above the diagonal the Jaccard index of two circuits, below it the 95th percentile of their layer-matched null,
    on it that of the circuits of two split halves of a task's prompts.

    Args:
        percent: of the heads of each stage, other than the run's own (table ``overlap_percent``).

    Raises:
        BadInput: the tables are not as the finding writes them.
    """
    own = percent is None
    frame = read_columns(run, "overlap" if own else "overlap_percent", _PAIR, [*_OVERLAP, "percent"])
    frame = frame if own else frame.query("percent == @percent")
    names = _without_markup(frame, ["task_a", "task_b", "stages", "pair"])
    tasks = list(dict.fromkeys([*names["task_a"], *names["task_b"]]))
    split_half: dict[str, float] = {}
    if own and "tasks" in run.table_names:
        halves = _without_markup(read_columns(run, "tasks", ["task"], ["split_half"]), ["task"])
        split_half = dict(zip(halves["task"], halves["split_half"], strict=True))
    shares = [float(value) for value in frame["percent"]]
    title_fields = _title_fields(run, shares[0] if shares else float("nan"))
    chart = figures.matrix(names, tasks, split_half, **title_fields)
    return _matrix(chart, run, frame)


def cross_ablation(run: Run) -> Matrix:
    """The damage beyond that of random heads of the same layers. Rows: the task whose circuit is ablated; columns: the
    task that is measured.

    Raises:
        BadInput: the table is not as the finding writes it.
    """
    numbers = [*_DAMAGE, *(_RANDOM if "random" in run.table("cross_ablation") else ())]
    frame = read_columns(run, "cross_ablation", ["ablated", "measured"], numbers)
    names = _without_markup(frame, ["ablated", "measured"])
    tasks = list(dict.fromkeys([*names["measured"], *names["ablated"]]))
    config = run.facts.get("config")
    percent = config.get("percent") if isinstance(config, dict) else None
    heads_percent = float(percent) if isinstance(percent, int | float) else float("nan")
    first = [name for name in ("ablated", "measured", *_DAMAGE, *_RANDOM) if name in frame]
    ordered = frame.reindex(columns=[*first, *(name for name in frame if name not in first)])
    chart = figures.damage(names, tasks, **_title_fields(run, heads_percent))
    return _matrix(chart, run, ordered)


def beyond_null(frame: pd.DataFrame) -> pd.DataFrame:
    """The pairs by Jaccard index, and whether they share more than layer-matched random circuits: by ``whole
    interval`` (above the null's 95th percentile), by the ``estimate only``, or ``no``."""
    interval_above, above = frame["low"] > frame["null_95"], frame["jaccard"] > frame["null_95"]
    verdicts = np.select([interval_above & above, above], ["whole interval", "estimate only"], "no")
    rest = ["low", "high", "p_value", *(["p_holm"] if "p_holm" in frame else []), "pair"]
    pairs = frame["task_a"].astype(str) + " × " + frame["task_b"].astype(str)
    first = {"pairs": pairs, "jaccard": frame["jaccard"], "null_95": frame["null_95"], "above_null": verdicts}
    table = pd.DataFrame(first | {name: frame[name] for name in rest})
    return table.sort_values("jaccard", ascending=False, kind="stable").reset_index(drop=True)


def _matrix(chart: Heatmap, run: Run, rows: pd.DataFrame) -> Matrix:
    source = Source.of_run(run.facts)
    return Matrix(chart.figure(), matplotlib_charts.add_source(chart.picture(), source), rows, source)


def _title_fields(run: Run, percent: float) -> dict[str, Any]:
    config = run.facts.get("config")
    n = config.get("n") if isinstance(config, dict) else None
    model = run.facts.get("model")
    name = model.get("name", "") if isinstance(model, dict) else model
    return {"model": str(name).translate(_MARKUP), "n": n if isinstance(n, int) else 0, "percent": percent}


def _without_markup(frame: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """The table with nothing in those columns that a figure would interpret as markup."""
    return frame.assign(**{name: frame[name].astype(str).str.translate(_MARKUP) for name in names})
