"""The widgets that select the pairs to patch: a task's, or the user's own, typed or uploaded, stored by their hash.

Own pairs are in one of these states. Nothing was uploaded: the example's are shown, and called so. All can be used.
Some cannot: their rows are marked, and nothing runs until they are mended or left out. A file was refused, or is not on
this machine: no other pairs are shown, and the reason stands under the uploader.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import streamlit as st

from app import sidebar, task_inputs, upload_store, url_state, url_widgets
from app.messages import escape_markdown, show_error
from app.patching import pairs_table
from app.task_inputs import MAX_PROMPTS
from app.work.stored_pairs import EXAMPLE, TYPED, StoredPairs, fits, load_stored
from workbench.errors import BadInput, UsageError, WorkbenchError
from workbench.inputs.files import parse_rows
from workbench.inputs.problems import PairProblem, find_problems
from workbench.inputs.rows import pair_from_row

TASK, OWN = "a task", "pairs of my own"
#: URL parameters: where pairs come from, the hash of the user's own, and what they are called. The last is for people
#: who read the URL: stored pairs bear their own name.
SOURCE, PAIRS, NAME = "source", "pairs", "pairs-name"
#: The uploader's key.
UPLOAD = "pairs-file"
_TEXT = "When {0} and {1} went out, {2} gave a {3} to"
_EXAMPLE = StoredPairs(
    tuple(
        {"clean": _TEXT.format(a, b, b, it), "corrupt": _TEXT.format(a, b, a, it), "answer": f" {a}", "wrong": f" {b}"}
        for a, b, it in (("Anna", "Paul", "rose"), ("Mark", "Lucy", "book"))
    ),
    ("", ""),
)
_CONTENTS, _IN_URL, _REASONS = "pairs-shown", "pairs-in-url", "pairs-reasons"
#: Versions of the editor and the uploader: a new version has forgotten what was typed, or the file.
_EDITOR, _UPLOADER = "pairs-editor", "pairs-uploader"
_REMOVED = "pairs-removed"


@dataclass(frozen=True)
class PairsState:
    """The selected pairs.

    Attributes:
        prompts: as `load_prompts` takes them; None where they cannot be used.
        blocked: why not, in one line; empty where they can.
        name: what they are called: the task, or the file.
    """

    prompts: dict[str, Any] | None
    blocked: str
    name: str


@dataclass(frozen=True)
class Contents:
    """What the table was filled with, or why there is none.

    Attributes:
        stored: the hash of the pairs.
        problems: what was wrong with each row when the table was filled; None before that.
        file: the name of a file that was refused, or is not on this machine.
        reason: why it is not shown; empty where pairs are.
    """

    stored: str = ""
    problems: tuple[str, ...] | None = None
    file: str = ""
    reason: str = ""


def pairs_widgets(model: Any) -> PairsState:
    """The widgets, and the selected pairs, checked with the model's tokeniser."""
    if url_widgets.segments("Patch on", [TASK, OWN], SOURCE) == OWN:
        task_inputs.hidden_widgets()
        return _own_pairs(model)
    prompts = task_inputs.task_widgets()
    name = str(prompts["task"])
    try:
        task_inputs.tokenize(sidebar.model_name(), prompts)
    except WorkbenchError as error:
        show_error(error)
        return PairsState(None, str(error), name)
    return PairsState(prompts, "", name)


def open_pairs(pairs: StoredPairs) -> None:
    """Show these pairs when the page is rendered next.

    Raises:
        BadInput: they are too large.
    """
    _show(Contents(pairs.save()), forget_file=True)


def _own_pairs(model: Any) -> PairsState:
    if _CONTENTS not in st.session_state:
        _show(_from_url())
    elif url_state.navigated_back() and _url_values() != st.session_state.get(_IN_URL):
        _show(_from_url(), forget_file=True)
    version = st.session_state.get(_UPLOADER, 0)
    key = f"{UPLOAD}-{version}" if version else UPLOAD
    # No kind of file is refused by the browser: what is wrong with one is said here.
    st.file_uploader("Upload pairs (.jsonl, .json, .csv)", key=key, on_change=_upload, args=(key,))
    contents: Contents = st.session_state[_CONTENTS]
    if contents.reason:
        return _refused(contents)
    try:
        pairs = load_stored(contents.stored)
    except BadInput as error:  # deleted while the page was open
        return _refused(Contents(reason=str(error)))
    return _table(pairs, contents, model)


def _refused(contents: Contents) -> PairsState:
    show_error(contents.reason)
    st.button("Use the example pairs", key="pairs-example", on_click=_use_example, args=(True,))
    _to_url(None, contents.file)
    return PairsState(None, contents.reason, contents.file or "pairs")


def _table(pairs: StoredPairs, contents: Contents, model: Any) -> PairsState:
    """The table, what was typed into it, and whether that can be used."""
    model_name = sidebar.model_name()
    if contents.problems is None:
        contents = replace(contents, problems=_reasons(len(pairs.rows), _problems(model_name, contents.stored, model)))
        st.session_state[_CONTENTS] = contents
    heading = st.empty()
    st.caption(
        "The clean and corrupt prompts must have the same number of tokens. An answer is one token, usually with a "
        "leading space, which the table shows and takes as ·; in a file write the space itself. Separate several "
        "answers with |."
    )
    edited = _editor(pairs, contents)
    current = pairs_table.edited_pairs(pairs, edited)
    stored = contents.stored if current is pairs else current.save()
    problems = _problems(model_name, stored, model)
    if pairs_table.marks_differ(pairs, edited, current, _reasons(len(current.rows), problems)):
        _show(Contents(stored))  # a row was mended or spoilt, or another model was selected
        st.rerun()
    heading.markdown(_heading(current))
    blocked = _too_few_or_many(current.name, len(current.rows))
    if blocked:
        show_error(blocked)
    elif problems:
        blocked = _show_problems(stored, problems, len(current.rows))
    _show_answers(current)
    _to_url(stored, current.name)
    return PairsState(None if blocked else {"pairs": stored}, blocked, current.name)


def _editor(pairs: StoredPairs, contents: Contents) -> pd.DataFrame:
    table = pairs_table.to_table(pairs, contents.problems or ())
    config: dict[str, Any] = {
        pairs_table.PLACE: st.column_config.TextColumn(disabled=True, width=110),
        pairs_table.PROBLEM: st.column_config.TextColumn("cannot be used, because", disabled=True, width=260),
        **{name: st.column_config.TextColumn(width=90) for name in pairs_table.ANSWERS},
    }
    return st.data_editor(
        pairs_table.styled(table),
        num_rows="dynamic",
        hide_index=True,
        column_config={name: column for name, column in config.items() if name in table},
        column_order=[name for name in pairs_table.ORDER if name in table],
        key=f"pairs-{contents.stored}-{st.session_state[_EDITOR]}",
    )


def _heading(pairs: StoredPairs) -> str:
    count = f"{len(pairs.rows)} pair{'' if len(pairs.rows) == 1 else 's'}"
    if pairs.name == EXAMPLE and not pairs.file:
        return f"**Example pairs** · {count}. Type over them, or upload your own."
    return f"**{escape_markdown(pairs.name)}** · {count}"


def _show_problems(stored: str, problems: Sequence[PairProblem], size: int) -> str:
    """Which pairs cannot be used, and the button that leaves them out; the first reason."""
    first = f"{problems[0].where}: {problems[0].problem}"
    rest = f" And {len(problems) - 1} more." if len(problems) > 1 else ""
    show_error(f"{len(problems)} of {size} pairs cannot be used with {sidebar.own_model_name()}. {first}{rest}")
    if len(problems) < size:
        rows = tuple(problem.row for problem in problems)
        label = f"Leave out {len(rows)} row{'s' * (len(rows) > 1)}"
        st.button(label, key="pairs-leave-out", on_click=_leave_out, args=(stored, rows))
    return first + rest


def _show_answers(pairs: StoredPairs) -> None:
    cells = [pairs_table.to_cells(row) for row in pairs.rows]
    if answers := pairs_table.spell_answers(cells):
        st.caption(escape_markdown(answers))
    if without := pairs_table.count_without_space(cells):
        st.warning(f"{without} of {len(cells)} pairs have an answer without a leading space. Type ·Mary for “ Mary”.")


def _too_few_or_many(name: str, n: int) -> str:
    if not n:
        return f"{name}: there are no pairs. Type one, or upload a file."
    if n > MAX_PROMPTS:
        return f"{name}: {n} pairs, and the limit here is {MAX_PROMPTS}. Use fewer pairs, or wb.sweep in Python."
    return ""


def _reasons(size: int, problems: Sequence[PairProblem]) -> tuple[str, ...]:
    """What is wrong with each row; empty where nothing is."""
    by_row = {problem.row: problem.problem for problem in problems}
    return tuple(by_row.get(row, "") for row in range(1, size + 1))


@st.cache_resource(max_entries=16, show_spinner="Checking the pairs …")
def _problems(model_name: str, stored: str, _model: Any) -> list[PairProblem]:
    """What is wrong with stored pairs; `model_name` and `stored` are what Streamlit hashes."""
    pairs = load_stored(stored)
    return find_problems(zip(pairs.where, pairs.rows, strict=True), _model.tokenizer, _model.cfg.n_ctx or None)


# --- from one state to another


def _show(contents: Contents, forget_file: bool = False) -> None:
    """Show other pairs in a new editor; with `forget_file` also in a new uploader, in which no file stands."""
    st.session_state[_CONTENTS] = contents
    st.session_state[_EDITOR] = st.session_state.get(_EDITOR, 0) + 1
    st.session_state[_UPLOADER] = st.session_state.get(_UPLOADER, 0) + forget_file


def _upload(key: str) -> None:
    """Show the pairs of an uploaded file, or why it was refused; the example's where it was removed. A callback."""
    upload = st.session_state[key]
    # Where one file replaces another, the browser reports a removal first: that is no step of its history.
    st.session_state[_REMOVED] = upload is None
    if upload is None:
        _use_example()
        return
    name = upload_store.file_name(upload.name)
    try:
        _show(Contents(_read(upload.getvalue(), name).save()))
    except WorkbenchError as error:
        reason = upload_store.reason(error, name)
        st.session_state.setdefault(_REASONS, {})[name] = reason
        _show(Contents(file=name, reason=reason))


def _read(data: bytes, name: str) -> StoredPairs:
    """The rows of a file. Those that a model cannot be asked are rows all the same.

    Raises:
        UsageError, BadInput: the file cannot be read, or the table cannot hold one of its rows.
    """
    rows = pairs_table.from_export(parse_rows(data, name, pairs_table.OWN), data)
    if problem := _too_few_or_many(name, len(rows)):
        raise UsageError(problem)
    for where, row in rows:
        if not fits(row):
            pair_from_row(row, where)  # says what is wrong
            raise BadInput(f"{where}: half of a character (a lone surrogate). Write it in valid Unicode.")
    lines = tuple(where.removeprefix(f"{name} ") for where, _ in rows)
    return StoredPairs(tuple(row for _, row in rows), lines, name)


def _leave_out(stored: str, rows: Sequence[int]) -> None:
    """Leave out the rows of those numbers; a callback."""
    _show(Contents(pairs_table.without_rows(load_stored(stored), rows).save()))


def _use_example(forget_file: bool = False) -> None:
    """Show the example's pairs; a callback."""
    _show(Contents(_EXAMPLE.save()), forget_file)


def _from_url() -> Contents:
    stored, name = _url_values()
    if stored is not None:
        try:
            load_stored(stored)
            return Contents(stored)
        except WorkbenchError as error:
            return Contents(file=name, reason=f"{name or 'Pairs'}: {error}")
    if name in ("", EXAMPLE, TYPED):
        return Contents(_EXAMPLE.save())
    unknown = f"{name}: the URL names this file, but not its content, as after a refused upload. Upload it again."
    return Contents(file=name, reason=st.session_state.get(_REASONS, {}).get(name, unknown))


def _url_values() -> tuple[str | None, str]:
    name = url_state.get_param(NAME)
    return url_state.get_param(PAIRS), upload_store.file_name(name) if name else ""


def _to_url(stored: str | None, name: str) -> None:
    if st.session_state.pop(_REMOVED, False):
        return  # the next run writes it
    st.session_state[_IN_URL] = (stored, name)
    for key, value in ((PAIRS, stored), (NAME, name)):
        if value:
            url_state.set_param(key, value)
        else:
            url_state.remove_param(key)
