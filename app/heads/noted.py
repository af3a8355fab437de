"""The notes of the page's model, and the fields in which the open head's are written.

A field is saved when it changes, in a callback with the head that it belongs to: the click that leaves it may open
another head. What could not be saved stays a draft of this session, such as a text in whose place another session wrote
one: both are shown, and the user says which of them stays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlencode

import streamlit as st

import workbench as wb
from app import models, sidebar
from app.messages import show_error
from workbench.core import Head
from workbench.errors import WorkbenchError
from workbench.head_notes.note import MAX_LINK, MAX_TAGS, MAX_TEXT, ChangedElsewhere, Note
from workbench.head_notes.subject import Subject, short_name

_STATUS = "note-status"


def notes_of(model_name: str) -> wb.Notes:
    """The notes of a model of the explorer. Its weights are hashed once, when there are notes of its name."""
    return wb.Notes(_subject(model_name))


@models.cleared_on_release
@st.cache_resource(max_entries=models.MAX_MODELS, show_spinner=False)
def _subject(model_name: str) -> Subject:
    return Subject.of_model(models.load(model_name))


@dataclass(frozen=True)
class Fields:
    """The fields of one head.

    Attributes:
        name: the model's name in the explorer.
        page: the name of the page that a note's link opens; empty for the first.
    """

    name: str
    head: Head
    page: str = ""

    def key(self, field: str) -> str:
        return f"note-{field}-{self.name}-{self.head}"

    def show(self, note: Note, tags: tuple[str, ...]) -> None:
        """The fields, with the note as it is on the disk; `tags` are those to choose from."""
        self._follow(note)
        error, status = st.session_state.pop(_STATUS, {}).get(self.key(""), ("", ""))
        st.multiselect(
            "Tags",
            list(dict.fromkeys((*tags, *st.session_state[self.key("tags")]))),
            key=self.key("tags"),
            accept_new_options=True,
            max_selections=MAX_TAGS,
            placeholder="Choose tags, or type new ones",
            on_change=self._save_tags,
        )
        st.text_area(
            f"Note on head {self.head}",
            key=self.key("text"),
            max_chars=MAX_TEXT,
            height=100,
            placeholder="What does this head do?",
            on_change=self._save_text,
        )
        if error:
            show_error(error)
        if note.text != st.session_state[self.key("base")].text:
            self._show_other_text(note)
        elif not error and (status or note):
            st.caption(status or f"Changed {_time(note)}.")

    def _show_other_text(self, note: Note) -> None:
        """The text that another session wrote below the one that is typed here, and the two ways on."""
        st.warning(
            f"Changed elsewhere since you opened it, {_time(note)}. What you typed is kept above and is not saved. "
            "The text is now:"
            if note.text
            else "Removed elsewhere since you opened it. What you typed is kept above and is not saved."
        )
        if note.text:
            st.text(note.text)
        with st.container(horizontal=True):
            st.button("Save what I typed", key=self.key("save-own"), on_click=self._save_over, args=(note,))
            label = "Take the text from elsewhere" if note.text else "Remove it here, too"
            st.button(label, key=self.key("take-other"), on_click=self._take_over, args=(note,))

    def _follow(self, note: Note) -> None:
        """Fields that are rendered for the first time, or again, hold the draft or the note, and without a draft they
        take over what another session wrote. ``base`` is the note whose text the field was filled with."""
        state = st.session_state
        text, seen = state.get(self.key("text"), state.get(self.key("draft"))), state.get(self.key("seen"), note)
        if text is None or text in (state.setdefault(self.key("base"), note).text, note.text):
            self._take_over(note)
        else:
            state[self.key("text")] = text
        if state.get(self.key("tags"), list(seen.tags)) == list(seen.tags):
            state[self.key("tags")] = list(note.tags)
        state[self.key("seen")] = note

    def _take_over(self, note: Note) -> None:
        """The field has the note's text, and there is no draft."""
        st.session_state.update({self.key("text"): note.text, self.key("base"): note})
        st.session_state.pop(self.key("draft"), None)

    def _save_over(self, note: Note) -> None:
        """Save the draft in place of a text that another session wrote."""
        st.session_state[self.key("base")] = note
        self._save_text()

    def _save_text(self) -> None:
        state = st.session_state
        text, base = str(state[self.key("text")] or ""), state[self.key("base")]
        state[self.key("draft")] = text
        note = self._save(lambda notes: notes.write(self.head, text, self._link(), seen=base))
        if note is not None:
            self._take_over(note)

    def _save_tags(self) -> None:
        """Save what this session added and removed: other sessions' tags stay."""
        state = st.session_state
        seen, chosen = state[self.key("seen")].tags, list(state[self.key("tags")])
        added, removed = [t for t in chosen if t not in seen], [t for t in seen if t not in chosen]

        def change(notes: wb.Notes) -> Note:
            note = notes.tag(self.head, added, self._link()) if added else Note(self.head)
            return notes.untag(self.head, removed) if removed else note

        if self._save(change) is not None:
            state[self.key("tags")] = list(state[self.key("seen")].tags)
        else:
            state[self.key("tags")] = list(seen)

    def _save(self, change: Callable[[wb.Notes], Note]) -> Note | None:
        """Make a change; what went wrong is shown at the fields."""
        try:
            note = change(notes_of(self.name))
        except ChangedElsewhere:  # the next run shows both texts
            return None
        except WorkbenchError as error:
            st.session_state[_STATUS] = {self.key(""): (str(error), "")}
            return None
        st.session_state[self.key("seen")] = note
        st.session_state[_STATUS] = {self.key(""): ("", "Saved." if note else "Removed.")}
        return note

    def _link(self) -> str | None:
        """The page as it is, with this head; None where its URL is too long."""
        query = {**st.query_params.to_dict(), sidebar.HEAD: str(self.head)}
        if sidebar.MODEL in query:
            query[sidebar.MODEL] = short_name(query[sidebar.MODEL])
        link = f"/{self.page}?{urlencode(query)}"
        return link if len(link) <= MAX_LINK else None


def _time(note: Note) -> str:
    return f"{note.changed[:16].replace('T', ' ')} UTC"
