"""Which pairs are patched: a task's, or the user's own, typed or from a file and kept by their hash."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Any

import pandas as pd
import streamlit as st

from app import task_inputs, upload_store, url_state, url_widgets
from app.messages import escape_markdown
from app.task_inputs import MAX_PROMPTS
from app.work import prompts
from workbench.errors import WorkbenchError
from workbench.inputs.pairs import Pair
from workbench.plotting.attention_view import visible

TASK, OWN = "a task", "pairs of my own"
#: In the link: the hash of the user's pairs.
PAIRS = "pairs"
ANSWERS = ("answer", "wrong")
FIELDS = ("clean", "corrupt", *ANSWERS)
#: Pairs whose answers are written out below it.
SPELT = 6
_TEXT = "When {0} and {1} went out, {2} gave a {3} to"
_EXAMPLE = [
    {"clean": _TEXT.format(a, b, b, it), "corrupt": _TEXT.format(a, b, a, it), "answer": f" {a}", "wrong": f" {b}"}
    for a, b, it in (("Anna", "Paul", "rose"), ("Mark", "Lucy", "book"))
]
_BASE, _EDITOR, _WRONG = "pairs-shown", "pairs-editor", "pairs-wrong"


def choose() -> dict[str, Any]:
    """The widgets, and what was chosen, as `prompts.prompts` takes it."""
    source = url_widgets.segments("Patch on", [TASK, OWN], "source")
    if source == OWN:
        return {"pairs": _own()}
    return task_inputs.task_widgets()


def rows(pairs: Any) -> list[dict[str, Any]]:
    """Pairs as the rows of a pair file."""
    return [_row(pair) for pair in pairs.items]


def _row(pair: Pair) -> dict[str, Any]:
    row: dict[str, Any] = {
        "clean": pair.clean,
        "corrupt": pair.corrupt,
        "answer": list(pair.answer),
        "wrong": list(pair.wrong),
    }
    if pair.options:
        row["options"] = list(pair.options)
    if pair.positions:
        row["positions"] = {name: list(span) for name, span in pair.positions.items()}
    return row


def _own() -> str:
    """The hash of the user's pairs; the example's at first."""
    st.file_uploader("From a file (.jsonl, .json, .csv)", ["jsonl", "json", "csv"], key="pairs-file", on_change=_take)
    if wrong := st.session_state.pop(_WRONG, None):
        st.error(escape_markdown(wrong), icon=":material/error:")
    if _BASE not in st.session_state or url_state.navigated_back():
        st.session_state[_BASE] = _linked()
        st.session_state[_EDITOR] = st.session_state.get(_EDITOR, 0) + 1  # a new one: nothing was typed into it
    shown = pd.DataFrame(_typed(st.session_state[_BASE]), columns=list(FIELDS))
    st.caption(
        "The same length in tokens; answers of one token, mostly with a space in front, which is written and typed "
        "as ·; several are parted by |."
    )
    table = st.data_editor(
        shown, num_rows="dynamic", hide_index=True, key=f"pairs-{st.session_state[_BASE]}-{st.session_state[_EDITOR]}"
    )
    name = _kept_rows(table, shown)
    rows_ = _typed(name)
    if said := answers(rows_):
        st.caption(escape_markdown(said))
    if bare := without_space(rows_):
        st.warning(f"{bare} of {len(rows_)} pairs have an answer without a space in front: write ·Mary for “ Mary”.")
    url_state.set_param(PAIRS, name)
    return name


def answers(given: list[dict[str, str]]) -> str:
    """What the answers are, in words that show their spaces: the table shows none in front of a word."""
    if not given:
        return ""
    said = ", ".join(f"{_seen(row['answer'])} over {_seen(row['wrong'])}" for row in given[:SPELT])
    more = f" and {len(given) - SPELT} more" if len(given) > SPELT else ""
    return f"Read as {said}{more}, where · is a space."


def without_space(given: list[dict[str, str]]) -> int:
    """How many pairs have an answer that does not begin with a space, as a word's first token mostly does."""
    texts = [[text for f in ANSWERS for text in row[f].split("|") if text] for row in given]
    return sum(any(not text.startswith((" ", "·")) for text in each) for each in texts)


def _seen(text: str) -> str:
    return "|".join(map(visible, text.split("|")))


def _linked() -> str:
    given = url_state.get_param(PAIRS)
    if given is not None:
        try:
            upload_store.load(given)
            return given
        except WorkbenchError as error:
            url_state.warn(str(error))
    return _keep(_EXAMPLE)


def _take() -> None:
    """Keep an uploaded file's pairs; a callback."""
    file = st.session_state["pairs-file"]
    if file is None:
        return
    try:
        pairs = prompts.read_pairs(file.getvalue(), PurePath(file.name).name)
        if len(pairs) > MAX_PROMPTS:
            raise WorkbenchError(
                f"The file has {len(pairs)} pairs, and at most {MAX_PROMPTS} are swept here: use the script."
            )
        st.session_state[_BASE] = _keep(rows(pairs))
    except WorkbenchError as error:
        st.session_state[_WRONG] = str(error)


def _typed(name: str) -> list[dict[str, str]]:
    """A kept file's rows for the table."""
    lines = [json.loads(line) for line in upload_store.load(name).decode().splitlines()]
    return [{f: _one(line[f], seen=f in ANSWERS) for f in FIELDS} for line in lines]


def _kept_rows(table: pd.DataFrame, shown: pd.DataFrame) -> str:
    """The hash of the table's rows: the file as it came where nothing was typed, so that its positions stay."""
    given = [row for row in table.fillna("").to_dict("records") if any(row.values())]
    if given == shown.to_dict("records"):
        return str(st.session_state[_BASE])
    return _keep([{f: _several(row[f], seen=f in ANSWERS) for f in FIELDS} for row in given])


def _keep(given: list[dict[str, Any]]) -> str:
    return upload_store.save("".join(json.dumps(row) + "\n" for row in given).encode())


def _one(value: Any, seen: bool) -> str:
    """A field as it stands in the table, the spaces in front of answers as dots: a space that is typed first only opens
    the cell, and none is seen there."""
    parts = [value] if isinstance(value, str) else value
    return "|".join(f"·{part[1:]}" if seen and part.startswith(" ") else part for part in parts)


def _several(value: Any, seen: bool) -> Any:
    """The inverse."""
    parts = [f" {part[1:]}" if seen and part.startswith("·") else part for part in str(value).split("|")]
    return parts if len(parts) > 1 else parts[0]
