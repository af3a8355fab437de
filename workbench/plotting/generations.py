"""`Generations`: a prompt continued without and with edits, as a table and HTML."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from workbench.core import Edit
from workbench.plotting.attention_view import visible

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Generation:
    """Tokens that a model adds to a prompt.

    Attributes:
        ids: theirs.
        tokens: their texts.
        probabilities: each token's, given all that stands before it.
        text: all of them; empty where the model has no tokenizer.
    """

    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    probabilities: tuple[float, ...]
    text: str


@dataclass(frozen=True, repr=False)
class Generations:
    """A prompt continued without and with edits.

    Attributes:
        prompt_ids, prompt_tokens: of the prompt; positions of edits count in it.
        before: what the model adds without the edits. after: what it adds with them.
        edits, model: which.

    Examples:
        >>> edit = wb.Edit("z", 1, head=3, kind="zero")
        >>> both = wb.generations(wb.load("tiny"), "Then, Mary and", edits=edit, max_new_tokens=3)
        >>> len(both.before.tokens), len(both.after.probabilities)
        (3, 3)
    """

    prompt_ids: tuple[int, ...]
    prompt_tokens: tuple[str, ...]
    before: Generation
    after: Generation
    edits: tuple[Edit, ...] = ()
    model: str = ""

    @property
    def first_difference(self) -> int | None:
        """The first generated token that differs, counted from 0; None where both texts are the same."""
        pairs = zip(self.before.ids, self.after.ids, strict=False)  # after the first difference one may be longer
        return next((i for i, (one, other) in enumerate(pairs) if one != other), None)

    def table(self) -> pd.DataFrame:
        """One row for each generated position: ``position, before, p_before, after, p_after, same``. Beyond the end of
        the shorter text the token is empty and its probability NaN.

        After the first difference the two texts differ, so their probabilities are given different beginnings.
        """
        import pandas as pd

        rows = max(len(self.before.ids), len(self.after.ids))
        same = [a == b for a, b in zip(self.before.ids, self.after.ids, strict=False)]
        columns: dict[str, list[object]] = {"position": [len(self.prompt_ids) + i for i in range(rows)]}
        for name, side in (("before", self.before), ("after", self.after)):
            missing = rows - len(side.ids)
            columns |= {name: [*side.tokens, *[""] * missing]}
            columns |= {f"p_{name}": [*side.probabilities, *[float("nan")] * missing]}
        return pd.DataFrame({**columns, "same": same + [False] * (rows - len(same))})

    def __repr__(self) -> str:
        first = self.first_difference
        if first is None:
            return f"Generations({len(self.before.ids)} tokens after {len(self.prompt_ids)}, the same before and after)"
        both = f"{self.before.tokens[first]!r} before, {self.after.tokens[first]!r} after"
        where = f"the first that differs is number {first} at position {len(self.prompt_ids) + first}"
        return f"Generations({len(self.before.ids)} and {len(self.after.ids)} tokens; {where}: {both})"

    def _repr_html_(self) -> str:
        """Both texts side by side, the first token that differs marked; point at a token for its probability. Plain
        HTML without scripts."""
        sides = (("Before the edits", self.before), ("After", self.after))
        columns = "".join(f'<div style="flex:1 1 18em"><b>{name}</b>{self._text(side)}</div>' for name, side in sides)
        return f'<div style="display:flex;flex-wrap:wrap;gap:1.5em">{columns}</div>'

    def _text(self, side: Generation) -> str:
        spans = []
        for i, (token, probability) in enumerate(zip(side.tokens, side.probabilities, strict=True)):
            is_first = i == self.first_difference
            note = "; the first that differs" if is_first else ""
            title = f"{len(self.prompt_ids) + i} {escape(repr(token))}: p = {probability:.3f}{note}"
            marked = "outline:2px solid #d55e00;border-radius:2px;font-weight:bold;" if is_first else ""
            style = f"{marked}unicode-bidi:isolate"
            spans.append(f'<span title="{title}" style="{style}">{escape(visible(token))}</span>')
        style = "font-family:monospace;line-height:1.9;overflow-wrap:anywhere"
        return f'<div dir="ltr" style="{style}">{"<wbr>".join(spans) or "(nothing)"}</div>'
