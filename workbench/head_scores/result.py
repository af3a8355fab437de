"""`HeadScores`: what is known of every head of a model, one number at a time, each beside its chance level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from os import PathLike
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float

from workbench import arguments, statistics
from workbench.core import Head
from workbench.head_scores import file
from workbench.head_scores.ranking import BY_SIZE, order_of, ranked
from workbench.io.tables import number

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Picture
    from plotly.graph_objects import Figure

    from workbench.plotting.charts import Heatmap

#: Models of tokens, whose positions have a next one; and of images, whose patches have a distance.
LANGUAGE, VISION = ("language",), ("vision",)
BOTH = (*LANGUAGE, *VISION)


class ScoreKind(NamedTuple):
    """A score's unit, and the modalities of the models that have it; empty for every one."""

    units: str
    modalities: tuple[str, ...] = ()


SCORES: Mapping[str, ScoreKind] = {
    "previous_token": ScoreKind("attention", LANGUAGE),
    "duplicate_token": ScoreKind("attention", LANGUAGE),
    "induction": ScoreKind("attention", LANGUAGE),
    "sink": ScoreKind("attention", LANGUAGE),
    "locality": ScoreKind("attention", LANGUAGE),
    "entropy": ScoreKind("nats"),
    "distance": ScoreKind("patches", VISION),
    "to_cls": ScoreKind("attention", VISION),
    "to_registers": ScoreKind("attention", VISION),
    "to_self": ScoreKind("attention", VISION),
    "similarity": ScoreKind("cosine"),
    "copy_score": ScoreKind("Σ Re λ / Σ |λ|", BOTH),
    "ioi_copy": ScoreKind("share of names", LANGUAGE),
    "ioi_copy_negative": ScoreKind("share of names", LANGUAGE),
    "direct_logit_attribution": ScoreKind("logits", LANGUAGE),
    "q_composition": ScoreKind("ratio of norms", BOTH),
    "k_composition": ScoreKind("ratio of norms", BOTH),
    "v_composition": ScoreKind("ratio of norms", BOTH),
    "ov_norm": ScoreKind("Frobenius norm", BOTH),
    "qk_norm": ScoreKind("Frobenius norm", BOTH),
    "ov_rank": ScoreKind("effective rank", BOTH),
    "qk_rank": ScoreKind("effective rank", BOTH),
}


def scores_of(modality: str) -> list[str]:
    """The scores that models of a modality have."""
    return [name for name, kind in SCORES.items() if not kind.modalities or modality in kind.modalities]


#: What each score is in.
UNITS: Mapping[str, str] = {name: kind.units for name, kind in SCORES.items()}
#: Scores that are of a task.
ON_TASK = ("ioi_copy", "ioi_copy_negative", "direct_logit_attribution")


@dataclass(frozen=True, eq=False, repr=False)
class HeadScores:
    """Scores of all heads of a model.

    Attributes:
        values: score → its value for each head; of scores over samples the mean.
        samples: score → its value in each sequence (pattern scores) or example (direct logit attribution).
        uniform: score → that of a head that attends uniformly to what it may see; a number, or one a head.
        random: score → its values for the heads of a model of the same configuration with random weights.
        pairs: ``similarity`` and ``q_composition``, … → ``[head, head]`` in order of layer and head (rows read, columns
            write); NaN where there is none.
        lens: the logit lens on the task, one row a depth.
        info: model, task, sizes and seeds, JSON-able; ``absent`` says of scores that this model does not have why,
            and ``without_pattern_scores`` of layers whose operator has no pattern of shares.

    Examples:
        >>> scores = wb.scores_on(wb.load("tiny"), wb.task("ioi", n=6))
        >>> scores.names[:2]
        ('previous_token', 'duplicate_token')
        >>> scores.table().shape[0]  # one row a head
        16
    """

    values: Mapping[str, Float[np.ndarray, "layer head"]]
    samples: Mapping[str, Float[np.ndarray, "sample layer head"]]
    uniform: Mapping[str, float | Float[np.ndarray, "layer head"]]
    random: Mapping[str, Float[np.ndarray, "layer head"]]
    pairs: Mapping[str, Float[np.ndarray, "reader writer"]]
    lens: pd.DataFrame
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The scores."""
        return tuple(self.values)

    @property
    def positions(self) -> Mapping[str, int]:
        """Score → over how many positions, of all sequences or prompts, it is taken: rows of patterns; for direct logit
        attribution the last one of each prompt; for the IOI read-out those that hold an answer's token. Scores of
        weights have none."""
        return self.info.get("positions", {})

    @property
    def absent(self) -> dict[str, list[str]]:
        """Why this model does not have some scores, whose values are NaN: reason → the scores."""
        reasons: dict[str, list[str]] = {}
        for name, reason in self.info.get("absent", {}).items():
            reasons.setdefault(reason, []).append(name)
        return reasons

    def table(self) -> pd.DataFrame:
        """One row a head: every score, its 95 % interval where it is a mean, and beside it over how many positions it
        is taken, and what a uniform head and the average head of the random model have. Scores that this model does
        not have are NaN, see `absent`."""
        import pandas as pd

        n_layers, n_heads = next(iter(self.values.values())).shape
        layer, head = np.indices((n_layers, n_heads)).reshape(2, -1)
        columns: dict[str, Any] = {"layer": layer, "head": head, "name": self.heads}
        for name, values in self.values.items():
            columns[name] = values.ravel()
            if name in self.samples:
                low, high = self.interval(name)
                columns |= {f"{name}_low": low.ravel(), f"{name}_high": high.ravel()}
            if name in self.pairs:
                columns[f"{name}_with"] = self._partners(name)
            if name in self.positions:
                columns[f"{name}_positions"] = self.positions[name]
            if name in self.uniform:
                columns[f"{name}_uniform"] = np.broadcast_to(self.uniform[name], values.shape).ravel()
            if name in self.random:
                columns[f"{name}_random"] = np.full(values.size, _mean(self.random[name]))
        return pd.DataFrame(columns)

    def chance(self) -> pd.DataFrame:
        """One row a score: over how many positions it is taken (of patterns), what a uniform head has (its mean over
        heads where it is one a head), and the mean and the 95th percentile of the random model's heads."""
        import pandas as pd

        rows = []
        for name in self.values:
            random = self.random.get(name)
            known = random is not None and np.isfinite(random).any()
            rows.append(
                {
                    "score": name,
                    "units": UNITS.get(name, ""),
                    "positions": float(self.positions.get(name, np.nan)),
                    "uniform": float(np.mean(self.uniform[name])) if name in self.uniform else np.nan,
                    "random": float(np.nanmean(random)) if known and random is not None else np.nan,
                    "random_95": float(np.nanpercentile(random, 95)) if known and random is not None else np.nan,
                }
            )
        return pd.DataFrame(rows)

    def ranking(self, score: str, *, layers: Any = None, k: int | None = None) -> pd.DataFrame:
        """The heads in order of a score, the largest first; of direct logit attribution and the copy score, by size.
        Equal ones are in order of layer and head. Heads without a value are left out, see `without_value`.

        Args:
            layers: one layer or several; None for all. Ranks stay those among all heads.
            k: how many heads at most; None for all.

        Returns:
            One row a head: ``rank``, ``head``, ``value``; ``low`` and ``high``, the ends of the 95 % interval, where
            the score is a mean over two samples or more; ``chance``, where there is a chance level (what it is,
            `chance_level` says); ``positions``, over how many the score is taken, where it is taken over positions.

        Raises:
            UnknownName: no such score.
            UsageError: layers that the model does not have, or `k` below 1.

        Examples:
            >>> scores = wb.scores_on(wb.load("tiny"), "Mary and John and Mary and John and Mary")
            >>> scores.ranking("induction", layers=1, k=2).columns.tolist()
            ['rank', 'head', 'value', 'chance', 'positions']
        """
        values = self[score]
        k = arguments.whole_number("k", k, at_least=1, optional=True)
        among = None
        if layers is not None:
            among = np.zeros(values.shape, dtype=bool)
            among[list(arguments.indices("layers", layers, len(values), "layer"))] = True
        low, high = self.interval(score) if len(self.samples.get(score, ())) > 1 else (None, None)
        columns = {
            "low": low,
            "high": high,
            "chance": self.chance_level(score)[0],
            "positions": self.positions.get(score),
        }
        frame = ranked(values, columns, by_size=score in BY_SIZE, among=among)
        return frame if k is None else frame.head(k)

    def chance_level(self, score: str) -> tuple[float | np.ndarray | None, str]:
        """The chance level in `ranking`, one number or one a head, and what it is: that of a head that attends
        uniformly where there is one, else the mean of the heads with random weights, else what is expected of random
        vectors or tokens. ``(None, "")`` where there is none."""
        _ = self[score]
        if score in self.uniform:
            return self.uniform[score], "uniform attention"
        if np.isfinite(level := _mean(self.random.get(score, np.array(np.nan)))):
            return level, "random weights, the mean of all heads"
        for ending, name, words in (
            ("_composition", "unrelated_composition", "unrelated heads"),
            ("ioi_copy", "read_out_chance", "random tokens"),
            ("ioi_copy_negative", "read_out_chance", "random tokens"),
        ):
            if score.endswith(ending) and name in self.info:
                return float(self.info[name]), words
        return None, ""

    def without_value(self, score: str) -> dict[str, list[Head]]:
        """Why some heads have no value of a score: reason → the heads; empty where all have one."""
        from workbench.head_scores.absent import why_heads_have_none

        _ = self[score]
        reasons = (self.info.get(name, {}) for name in ("absent", "without_pattern_scores"))
        return why_heads_have_none(score, self.values, *reasons)

    def top(self, score: str, k: int = 5) -> list[tuple[Head, float]]:
        """The k heads with the largest value; of direct logit attribution and the copy score, by size."""
        values, k = self[score], arguments.whole_number("k", k, at_least=1)
        order = order_of(values, score in BY_SIZE)[:k]
        where = zip(*np.unravel_index(order, values.shape), strict=True)
        return [(Head(int(i), int(j)), float(values[i, j])) for i, j in where]

    def interval(self, score: str) -> tuple[np.ndarray, np.ndarray]:
        """The 95 % bootstrap interval of a score's mean over sequences or examples."""
        arguments.one_of("score", score, self._intervals)
        return self._intervals[score]

    # --- showing and keeping

    def figure(self, score: str) -> Figure:
        """A value for each head, layers across, interactive; its chance levels stand in the subtitle."""
        return self._chart(score).figure()

    def picture(self, score: str) -> Picture:
        """The same, drawn with matplotlib."""
        return self._chart(score).picture()

    def json(self) -> dict[str, Any]:
        """Everything but the samples, JSON-able."""
        from workbench.io.files import jsonable

        tables = {"heads": self.table(), "chance": self.chance(), "logit_lens": self.lens}
        return jsonable({"info": self.info, **{name: frame.to_dict("records") for name, frame in tables.items()}})

    def save(self, path: str | PathLike[str]) -> None:
        """Write one ``.safetensors`` file that `load` reads."""
        file.save(self, path)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> HeadScores:
        """Read what `save` wrote, as untrusted input. Raises `BadInput` with the path and what is wrong."""
        return file.load(path, cls)

    def __repr__(self) -> str:
        return f"HeadScores({self._label}: {', '.join(self.names)})"

    def _repr_html_(self) -> str:
        from workbench.plotting import matplotlib_charts
        from workbench.plotting.notebook import html_table, image

        rows = []
        for row in self.chance().to_dict("records"):
            best = ", ".join(f"{head} ({number(value)})" for head, value in self.top(row["score"], 3) if value == value)
            levels = [number(row["positions"], ".0f"), *(number(row[k]) for k in ("uniform", "random", "random_95"))]
            rows.append((row["score"].replace("_", " "), best, *levels))
        head = ("score", "strongest heads", "positions", "uniform head", "random weights", "their 95th percentile")
        first = "induction" if "induction" in self.values else self.names[0]
        picture = image(matplotlib_charts.image(self.picture(first), dpi=90), f"{first} scores")
        absent = "".join(
            f"<p>Not available: {escape(', '.join(names))}: {escape(reason)}</p>"
            for reason, names in self.absent.items()
        )
        return f"<div><b>{escape(self._label)}</b>{html_table(head, rows)}{absent}{picture}</div>"

    @property
    def _label(self) -> str:
        n_layers, n_heads = next(iter(self.values.values())).shape
        return f"{n_layers} × {n_heads} heads of {self.info.get('model')}, task {self.info.get('task')}"

    def _chart(self, score: str) -> Heatmap:
        """The score of each head."""
        from workbench.plotting.charts import of_heads
        from workbench.plotting.source import Source

        n_layers, n_heads = self[score].shape
        chance = self.chance().set_index("score").loc[score]
        levels = {"uniform head": chance["uniform"], "random weights": chance["random"]}
        known = [f"{name} {number(level)}" for name, level in levels.items() if level == level]
        on_task = score in ON_TASK or "sequences" not in self.info
        on = f"{self.info.get('task')}, n = {self.info.get('n')}" if on_task else ""
        counted = [f"{self.positions[score]:,} positions"] if score in self.positions else []
        repeated = f"{self.info.get('sequences')} × {self.info.get('period')} random tokens, repeated"
        source = on or (repeated if score in self.samples or score == "similarity" else "weights alone")
        return of_heads(
            self[score],
            [str(i) for i in range(n_layers)],
            [str(j) for j in range(n_heads)],
            title=f"{self.info.get('model')} · {score.replace('_', ' ')}",
            subtitle=" · ".join([source, *counted, *known]),
            scale=f"{score.replace('_', ' ')} ({UNITS.get(score, '')})",
            diverging=bool((self[score] < 0).any()),
            source=Source.of_info(self.info),
        )

    def __getitem__(self, score: str) -> Float[np.ndarray, "layer head"]:
        arguments.one_of("score", score, self.values)
        return self.values[score]

    @cached_property
    def heads(self) -> list[str]:
        """``0.0``, ``0.1``, … in the order of `pairs`."""
        n_layers, n_heads = next(iter(self.values.values())).shape
        return [str(Head(i, j)) for i in range(n_layers) for j in range(n_heads)]

    @cached_property
    def _intervals(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        intervals = {}
        for name, samples in self.samples.items():
            interval = statistics.mean_interval(np.moveaxis(samples, 0, -1))
            intervals[name] = (interval.low, interval.high)
        return intervals

    def _partners(self, name: str) -> list[str]:
        pairs = self.pairs[name]
        best = np.where(np.isfinite(pairs), pairs, -np.inf).argmax(1)
        return [self.heads[j] if np.isfinite(row).any() else "" for j, row in zip(best, pairs, strict=True)]


def _mean(values: np.ndarray) -> float:
    """The mean of what is known; NaN where nothing is."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else np.nan
