"""What tasks have to do with each other, from a run of ``circuit-reuse``: the overlap of their circuits, and what each
loses when another's circuit is ablated. Each with its nulls."""

from __future__ import annotations

import copy
import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from app.circuits.circuit_tables import columns
from app.plotted import flat_bar, wrapped
from circuits.reuse import figures
from workbench.io.files import jsonable

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from workbench.runs.run import Run

_OVERLAP = ("shared", "union", "jaccard", "null", "null_95", "p_value", "low", "high")
_PAIR = ("task_a", "task_b", "stages", "pair")
_DAMAGE = ("damage", "low", "high")
_RANDOM = ("random", "random_low", "random_high", "beyond_random", "beyond_low", "beyond_high")
#: What stands for characters that Plotly or Matplotlib would read as markup.
_PLAIN = str.maketrans("<>&$", "\u2039\u203a+\u00a7")


@dataclass(frozen=True, eq=False)
class Matrix:
    """A matrix between tasks: both figures, and the rows of the run's table that it shows."""

    figure: Any
    picture: Any
    rows: pd.DataFrame

    @property
    def note(self) -> str:
        """What stands below the figure in the page, where a telephone's width breaks it."""
        _, *more = str(self.figure.layout.title.subtitle.text).split(" · ")
        notes = [str(each.text) for each in self.figure.layout.annotations]
        return " ".join([*(f"{text[0].upper()}{text[1:]}." for text in more), *notes])

    def plotly(self) -> Figure:
        """For the page: narrow enough for a telephone, with most words in `note`."""
        found = copy.deepcopy(self.figure)
        title, _, more = str(found.layout.title.text).partition(" · ")
        first = str(found.layout.title.subtitle.text).split(" · ")[0]
        title = {"text": title, "subtitle": {"text": wrapped(f"{more} · {first}")}, "x": 0, "y": 0.99, "yanchor": "top"}
        names = list(found.data[0].x)
        below = 7 * max(map(len, names), default=0) + 36
        margin = {"l": 10, "r": 10, "t": 125, "b": below, "pad": 0}
        found.update_layout(title=title, margin=margin, height=125 + 46 * len(names) + below)
        found.layout.annotations = ()
        flat_bar(found)
        found.update_traces(textfont={"size": 10})
        x, y = (axis.title.text or "task" for axis in (found.layout.xaxis, found.layout.yaxis))
        found.update_xaxes(tickvals=names, tickangle=-90, title={"text": x, "standoff": 8}, fixedrange=True)
        broken = [name.replace("-", "-<br>") if len(name) > 10 else name for name in names]
        found.update_yaxes(tickvals=names, ticktext=broken, title={"text": y}, automargin=True, fixedrange=True)
        return found

    def still(self, ending: str) -> bytes:
        """As ``png`` or ``svg``."""
        stream = io.BytesIO()
        self.picture.savefig(stream, format=ending, dpi=200)
        return stream.getvalue()

    def csv(self) -> bytes:
        """The exact numbers: the rows of the run's table."""
        return self.rows.to_csv(index=False).encode()

    def json(self) -> bytes:
        """The same with their words."""
        layout = self.figure.layout
        about = {"kind": "matrix", "title": layout.title.text, "subtitle": layout.title.subtitle.text}
        about |= {"note": self.note, "rows": self.rows.to_dict("records")}
        return json.dumps(jsonable(about), ensure_ascii=False).encode()


def overlap(run: Run, percent: float | None = None) -> Matrix:
    """Above the diagonal the Jaccard index of two circuits, below it the 95th percentile of their layer-matched null,
    on it what the circuits of two halves of a task's own prompts share.

    Args:
        percent: another share of heads a stage than the run's own (table ``overlap_percent``).

    Raises:
        BadInput: the tables are not as the finding writes them.
    """
    own = percent is None
    frame = columns(run, "overlap" if own else "overlap_percent", _PAIR, [*_OVERLAP, "percent"])
    frame = frame if own else frame.query("percent == @percent")
    names = _plainly(frame, ["task_a", "task_b", "stages", "pair"])
    tasks = list(dict.fromkeys([*names["task_a"], *names["task_b"]]))
    itself: dict[str, float] = {}
    if own and "tasks" in run.table_names:
        halves = _plainly(columns(run, "tasks", ["task"], ["split_half"]), ["task"])
        itself = dict(zip(halves["task"], halves["split_half"], strict=True))
    shares = [float(value) for value in frame["percent"]]
    words = _words(run, shares[0] if shares else float("nan"))
    chart = figures.matrix(names, tasks, itself, **words)
    return Matrix(chart.figure(), chart.picture(), frame)


def cross_ablation(run: Run) -> Matrix:
    """Rows: whose circuit is ablated; columns: the task that is measured; the damage beyond that of random heads of the
    same layers.

    Raises:
        BadInput: the table is not as the finding writes it.
    """
    there = run.table("cross_ablation")
    frame = columns(run, "cross_ablation", ["ablated", "measured"], [*_DAMAGE, *(_RANDOM if "random" in there else ())])
    names = _plainly(frame, ["ablated", "measured"])
    tasks = list(dict.fromkeys([*names["measured"], *names["ablated"]]))
    config = run.facts.get("config")
    percent = config.get("percent") if isinstance(config, dict) else None
    share = float(percent) if isinstance(percent, int | float) else float("nan")
    first = [name for name in ("ablated", "measured", *_DAMAGE, *_RANDOM) if name in frame]
    ordered = frame.reindex(columns=[*first, *(name for name in frame if name not in first)])
    chart = figures.damage(names, tasks, **_words(run, share))
    return Matrix(chart.figure(), chart.picture(), ordered)


def beyond_null(frame: pd.DataFrame) -> pd.DataFrame:
    """The pairs, those that share most first, and whether they share more than layer-matched random circuits do:
    ``surely`` where the whole interval lies above the null's 95th percentile, ``yes`` where the index does, ``no``."""
    surely, above = frame["low"] > frame["null_95"], frame["jaccard"] > frame["null_95"]
    said = np.select([surely & above, above], ["surely", "yes"], "no")
    wanted = ["low", "high", "p_value", *(["p_holm"] if "p_holm" in frame else []), "pair"]
    pairs = frame["task_a"].astype(str) + " × " + frame["task_b"].astype(str)
    first = {"pairs": pairs, "jaccard": frame["jaccard"], "null_95": frame["null_95"], "beyond": said}
    table = pd.DataFrame(first | {name: frame[name] for name in wanted})
    return table.sort_values("jaccard", ascending=False, kind="stable").reset_index(drop=True)


def _words(run: Run, percent: float) -> dict[str, Any]:
    config = run.facts.get("config")
    n = config.get("n") if isinstance(config, dict) else None
    model = run.facts.get("model")
    name = model.get("name", "") if isinstance(model, dict) else model
    return {"model": str(name).translate(_PLAIN), "n": n if isinstance(n, int) else 0, "percent": percent}


def _plainly(frame: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """The columns of names with nothing in them that a figure would read as markup."""
    return frame.assign(**{name: frame[name].astype(str).str.translate(_PLAIN) for name in names})
