"""`OperatorView`: one head under another attention operator beside its own, as tables, charts and HTML."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from workbench import arguments, statistics
from workbench.core import Head
from workbench.errors import UsageError
from workbench.io.token_text import token_text
from workbench.plotting import style
from workbench.plotting.attention_view import laid_out, numbered, visible
from workbench.plotting.charts import Heatmap
from workbench.plotting.source import Source

if TYPE_CHECKING:
    import pandas as pd

#: Tokens of each side in the notebook's tables.
ROWS = 6


@dataclass(frozen=True, eq=False)
class HeadOutput:
    """What a head sees and writes on one prompt.

    Attributes:
        matrix: what each destination takes from each source; None where there is none.
        scale: what its entries are. An attention weight, an entry of the operator's matrix (which may be negative), or
            the norm of the Jacobian's block where there is no matrix.
        z: the head's z.
        written: ``z W_O``; None where heads do not write through ``W_O`` alone.
        effects: what z at the last position adds to each logit directly; None where that cannot be had.
        logits: the model's, of the next token.
    """

    matrix: Float[np.ndarray, "dest src"] | None
    scale: str
    z: Float[np.ndarray, "pos d_head"]
    written: Float[np.ndarray, "pos d_model"] | None
    effects: Float[np.ndarray, " d_vocab"] | None
    logits: Float[np.ndarray, " d_vocab"]

    @property
    def probabilities(self) -> Float[np.ndarray, " d_vocab"]:
        """Of the next token."""
        return np.exp(_log_softmax(self.logits))


@dataclass(frozen=True, eq=False, repr=False)
class OperatorView:
    """One head on one prompt under another attention operator, beside its own.

    Attributes:
        tokens: the prompt's tokens as text.
        head, operator, model: which.
        own: what the head does in the model as it is. swapped: what it does with the operator in its layer.
        notes: what the swap leaves out or makes up, and what cannot be had, a line each.

    Examples:
        >>> model = wb.load("tiny")
        >>> view = wb.operator_view(model, "Then, Mary and John", 1, 3, "sliding-window(window=2)")
        >>> view.swapped.matrix[-1].round(2).tolist()[:3]  # the last token sees two
        [0.0, 0.0, 0.0]
        >>> view.next_tokens(k=2).columns.tolist()
        ['token', 'own', 'swapped']
    """

    tokens: tuple[str, ...]
    head: Head
    operator: str
    own: HeadOutput
    swapped: HeadOutput
    notes: tuple[str, ...] = ()
    model: str = ""
    tokenizer: Any = field(default=None)

    def table(self) -> pd.DataFrame:
        """What the head writes at each position: ``position, token, own, swapped, cosine``: the norms of its ``z W_O``
        (of z where heads do not write through ``W_O`` alone), and the cosine of the two, NaN where one is 0."""
        import pandas as pd

        own, swapped = self.outputs
        norms = [np.linalg.norm(x, axis=-1) for x in (own, swapped)]
        product = norms[0] * norms[1]
        cosine = np.where(product > 0, (own * swapped).sum(-1) / np.where(product > 0, product, 1), np.nan)
        columns = {"position": range(len(self.tokens)), "token": self.tokens, "own": norms[0], "swapped": norms[1]}
        return pd.DataFrame({**columns, "cosine": cosine})

    @property
    def outputs(self) -> tuple[Float[np.ndarray, "pos d"], Float[np.ndarray, "pos d"]]:
        """What the head writes, its own and under the operator: ``z W_O``, or z."""
        if self.own.written is None or self.swapped.written is None:
            return self.own.z, self.swapped.z
        return self.own.written, self.swapped.written

    def next_tokens(self, k: int = 8) -> pd.DataFrame:
        """The likeliest next tokens of both models: ``token, own, swapped``, by the larger of the two probabilities."""
        return self._best(self.own.probabilities, self.swapped.probabilities, k)

    def promoted(self, k: int = 4) -> pd.DataFrame:
        """The tokens whose logits the head's output at the last position raises most, directly:
        ``token, own, swapped`` in logits, by the larger of the two.

        Raises:
            UsageError: what heads add to the logits cannot be had in this model.
        """
        if self.own.effects is None or self.swapped.effects is None:
            raise UsageError("The tokens that the head promotes: what heads add to the logits cannot be had here.")
        return self._best(self.own.effects, self.swapped.effects, k)

    @property
    def kl(self) -> float:
        """``KL(own ‖ swapped)`` of the next token, in nats; +∞ where the operator alone excludes a token (a logit of
        −∞), and NaN where a logit is."""
        return statistics.kl_divergence(_log_softmax(self.own.logits), _log_softmax(self.swapped.logits))

    def matrices(self, shares: bool = False) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Both matrices as they are drawn; as `shares`, each row divided by the sum of its magnitudes."""
        shares = arguments.flag("shares", shares)
        both = [side.matrix for side in (self.own, self.swapped)]
        own, swapped = (_as_shares(x) if shares and x is not None else x for x in both)
        return own, swapped

    def charts(self, shares: bool = False) -> tuple[Heatmap, ...]:
        """A chart of each matrix, own first, on one scale where both are matrices; of those alone that there are."""
        names, sides = numbered(self.tokens), (self.own, self.swapped)
        scales = self.limits(shares)
        result = []
        for side, values, label, limit in zip(sides, self.matrices(shares), self.labels, scales, strict=True):
            if values is None:
                continue
            cells, columns, rows, words = laid_out(values, names)
            words |= {"diverging": limit[1], "limit": limit[0], "scale": share_of(side.scale) if shares else side.scale}
            title = f"Head {self.head}, {label}"
            result.append(Heatmap(cells, columns, rows, title=title, source=self.source, **words))
        return tuple(result)

    def limits(self, shares: bool = False) -> tuple[tuple[float, bool], tuple[float, bool]]:
        """Of each chart the end of its scale, and whether that is centred on 0: the same for both where both are
        matrices, each its own where one is the norm of a Jacobian."""
        own, swapped = self.matrices(shares)
        if own is None or swapped is None or ("∂" in self.own.scale) != ("∂" in self.swapped.scale):
            return _limit(own), _limit(swapped)
        both = _limit(own), _limit(swapped)
        one = max(both[0][0], both[1][0]), both[0][1] or both[1][1]
        return one, one

    @property
    def source(self) -> Source:
        """What the charts are of."""
        return Source(self.model, "".join(self.tokens), str(self.head))

    @property
    def labels(self) -> tuple[str, str]:
        """What each chart is of."""
        return "its own attention", self.operator

    def _best(self, own: np.ndarray, swapped: np.ndarray, k: int) -> pd.DataFrame:
        import pandas as pd

        k = arguments.whole_number("k", k, at_least=1)
        ids = dict.fromkeys(int(i) for x in (own, swapped) for i in np.argsort(-x, kind="stable")[:k])
        name = str if self.tokenizer is None else lambda i: token_text(self.tokenizer, i)
        rows = [(name(i), float(own[i]), float(swapped[i])) for i in ids]
        rows.sort(key=lambda row: -max(row[1:]))
        return pd.DataFrame(rows, columns=["token", "own", "swapped"])

    def __repr__(self) -> str:
        cosine = float(self.table()["cosine"].iloc[-1])
        return (
            f"OperatorView(head {self.head} under {self.operator}, {len(self.tokens)} tokens; "
            f"at the last its output has cosine {cosine:z.2f} with its own, and the next token KL {self.kl:.3g})"
        )

    def _repr_html_(self) -> str:
        """Both patterns, what the head writes at the last position, and the next token: plain HTML without scripts."""
        from workbench.plotting import matplotlib_charts, notebook

        pictures = "".join(
            notebook.image(matplotlib_charts.image(chart.picture(), dpi=80), chart.title) for chart in self.charts()
        )
        tables = [("Next token", self.next_tokens(ROWS))]
        if self.own.effects is not None and self.swapped.effects is not None:
            tables.append(("Promoted directly, in logits", self.promoted(ROWS)))
        html = "".join(f"<div><b>{title}</b>{_html_table(frame)}</div>" for title, frame in tables)
        notes = "".join(f"<br><i>{escape(note)}</i>" for note in self.notes)
        flex = '<div style="display:flex;flex-wrap:wrap;gap:1em">'
        return f"<div>{escape(repr(self))}{notes}{flex}{pictures}</div>{flex}{html}</div></div>"


def share_of(scale: str) -> str:
    """The scale of a matrix whose rows are divided by the sum of their magnitudes."""
    return f"share of the row: {scale}"


def _as_shares(matrix: Float[np.ndarray, "dest src"]) -> Float[np.ndarray, "dest src"]:
    sums = np.abs(matrix).sum(-1, keepdims=True)
    return np.divide(matrix, sums, out=np.zeros_like(matrix), where=sums > 0)


def _limit(matrix: np.ndarray | None) -> tuple[float, bool]:
    return (1.0, False) if matrix is None else (style.limit(matrix), bool((matrix < 0).any()))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


def _html_table(frame: pd.DataFrame) -> str:
    from workbench.plotting import notebook

    rows = [(visible(str(token)), f"{own:z.3f}", f"{swapped:z.3f}") for token, own, swapped in frame.itertuples(False)]
    return notebook.html_table(tuple(frame.columns), rows)
