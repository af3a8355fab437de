"""`Notes`: the tags and texts of a model's heads, on this machine's disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import arguments
from workbench.cache.folder import switched_off_everywhere, user_folder
from workbench.core import Head, parse_head
from workbench.errors import BadInput, UsageError
from workbench.head_notes.note import (
    FIELDS,
    ChangedElsewhere,
    Note,
    at_most,
    check_address,
    check_link,
    check_tags,
    check_text,
    joined,
)
from workbench.head_notes.notes_file import NAME, NotesFile, document, read_document, to_bytes
from workbench.head_notes.subject import Subject
from workbench.io.files import save_atomic
from workbench.io.tables import to_csv, with_places

if TYPE_CHECKING:
    import pandas as pd

#: What `Notes.save` writes.
ENDINGS = (".json", ".csv")


@dataclass(frozen=True)
class Merged:
    """What `Notes.merge` did.

    Attributes:
        added: heads that had no note.
        joined: heads whose note has the tags and the text of both now.
        same: heads of which it said nothing new.
    """

    added: tuple[Head, ...]
    joined: tuple[Head, ...]
    same: tuple[Head, ...]


class Notes:
    """Tags and a text for each head of one model, in a file on this machine; `wb.notes` opens them.

    What is read is what is on the disk now, and a change is there at once: several processes may write, and the last
    one to write a head's tags or text has its way with that head alone. Iterating gives a `Note` (head, tags, text,
    changed, link) for each head that has one, in order.

    Attributes:
        folder: the folder of all notes.
        subject: which model they are of: name, weights and operators.

    Examples:
        >>> notes = wb.notes("tiny", folder="notes")
        >>> notes.tag("1.3", ["mover"]).tags
        ('mover',)
        >>> notes.write("1.3", "Attends to the name that is repeated.").head
        Head(layer=1, index=3)
        >>> notes["1.3"].text, len(notes)
        ('Attends to the name that is repeated.', 1)
        >>> notes.table()[["head", "tags"]].to_dict("records")
        [{'head': '1.3', 'tags': 'mover'}]
    """

    def __init__(self, subject: Subject, folder: Path | None = None) -> None:
        self.subject, self._named = subject, folder

    @property
    def folder(self) -> Path:
        """The folder of all notes."""
        return user_folder() / "notes" if self._named is None else self._named

    def __len__(self) -> int:
        return len(self._read())

    def __iter__(self) -> Iterator[Note]:
        notes = self._read()
        return iter([notes[head] for head in sorted(notes)])

    def __contains__(self, head: object) -> bool:
        return self._head(head) in self._read()

    def __getitem__(self, head: Head | str) -> Note:
        """The note of a head, empty where it has none.

        Raises:
            UsageError: a head that the model does not have.
        """
        return self._read().get(head := self._head(head), Note(head))

    @property
    def tags(self) -> tuple[str, ...]:
        """Every tag in use, in order of the alphabet."""
        return tuple(sorted({tag for note in self for tag in note.tags}, key=lambda tag: (tag.casefold(), tag)))

    def tag(self, head: Head | str, tags: str | list[str] | tuple[str, ...], link: str | None = None) -> Note:
        """Give a head a tag, or several, besides those that it has.

        Args:
            tags: 1 to 40 printable characters each, without commas; a head has at most 20.
            link: where the explorer shows what they are about (``/?model=…&head=…``); None leaves the note's link as it
                is, and makes one of model and head for a new note. A call that changes nothing leaves it, too.

        Returns:
            the head's note.

        Raises:
            UsageError: a head that the model does not have, or something that cannot be a tag.
            BadInput: the file is damaged (it is renamed, not lost) or cannot be written.
        """
        new = self._tags(tags)
        return self._change(
            head, lambda note: replace(note, tags=at_most(tuple(dict.fromkeys((*note.tags, *new))))), link
        )

    def untag(self, head: Head | str, tags: str | list[str] | tuple[str, ...]) -> Note:
        """Take tags from a head; those that it does not have are passed over. A note without tags and text is removed.

        Returns:
            the head's note.

        Raises:
            UsageError, BadInput: as for `tag`.
        """
        old = self._tags(tags)
        return self._change(head, lambda note: replace(note, tags=tuple(tag for tag in note.tags if tag not in old)))

    def write(self, head: Head | str, text: str, link: str | None = None, *, seen: Note | None = None) -> Note:
        """Give a head a text in place of the one that it has.

        Args:
            text: plain text of at most 10,000 characters; an empty one removes a note without tags.
            link: as for `tag`.
            seen: the head's note as it was read; where its text is another one by now, nothing is written. None
                writes whatever is there.

        Returns:
            the head's note.

        Raises:
            UsageError: a head that the model does not have, a text that is too long or has control characters.
            ChangedElsewhere: the text is neither that of `seen` nor `text`; the error has the note as it is.
            BadInput: as for `tag`.
        """
        text = check_text(text)
        if seen is not None:
            arguments.instance("seen", seen, Note, "a note, as notes[head] gives it, or None")

        def written(note: Note) -> Note:
            if seen is not None and note.text not in (seen.text, text):
                raise ChangedElsewhere(note)
            return replace(note, text=text)

        return self._change(head, written, link)

    def remove(self, head: Head | str) -> None:
        """Remove the note of a head.

        Raises:
            UsageError: it has none, or the model does not have the head.
            BadInput: as for `tag`.
        """

        def emptied(note: Note) -> Note:
            if not note:
                raise arguments.refusal("head", str(note.head), "a head with a note")
            return Note(note.head)

        self._change(head, emptied)

    def table(self, address: str = "") -> pd.DataFrame:
        """One row for each head with a note, in order: ``head, tags, text, changed, link``; tags are separated by
        commas, `changed` is in UTC.

        Args:
            address: of the explorer that links lead to, such as ``http://127.0.0.1:8501``; without one they are a path
                and a query, which follow its address.

        Raises:
            UsageError: no address of a web page.
        """
        import pandas as pd

        address = check_address(address)
        return pd.DataFrame([note.row(address) for note in self], columns=list(FIELDS), dtype=object)

    def json(self) -> dict[str, Any]:
        """Plain JSON, as `save` writes it: name, weights and operators of the model, and the notes."""
        return document(self.subject, self._read())

    def to_bytes(self, ending: str = ".json", address: str = "") -> bytes:
        """The file that `save` writes."""
        if arguments.one_of("ending", ending, ENDINGS) == ".csv":
            return to_csv(with_places(self.table(address))).encode()
        if check_address(address):
            why = "they lead to the explorer of whoever merges it"
            raise arguments.refusal("address", address, "none for the links of a .json file", because=why)
        return to_bytes(self.subject, self._read())

    def save(self, path: str | os.PathLike[str], address: str = "") -> None:
        """Write the notes to a file: ``.json``, which `merge` reads, or ``.csv``, the table.

        Args:
            address: as for `table`; for a ``.csv`` only, because links of a ``.json`` lead to the explorer of whoever
                merges it.

        Raises:
            UsageError: another ending, an address of a ``.json``, or one of no web page.
            BadInput: it cannot be written.
        """
        target = arguments.file_path("path", path)
        if target.suffix.lower() not in ENDINGS:
            raise arguments.refusal("path", str(target), f"a path that ends in {' or '.join(ENDINGS)}")
        save_atomic(target, self.to_bytes(target.suffix.lower(), address))

    def merge(self, path: str | os.PathLike[str], *, other_weights: bool = False) -> Merged:
        """Take over the notes of a ``.json`` file that `save` wrote, such as a colleague's. Nothing is overwritten: a
        head with two different texts has both, the imported one below with its date.

        Args:
            other_weights: also take notes of a model with other weights, another name or other operators.

        Raises:
            UsageError: they are of another model, or together too long.
            BadInput: no such file, or it is not as `save` writes it.
        """
        arguments.flag("other_weights", other_weights)
        subject, imported = read_document(arguments.file_path("path", path))
        if subject.key != self.subject.key and not other_weights:
            raise UsageError(
                f"{path}: notes of {_described(subject)}, expected those of {_described(self.subject)}. Give "
                "other_weights=True to take them all the same."
            )
        for head in imported:
            self._head(head)
        heads: dict[str, list[Head]] = {"added": [], "joined": [], "same": []}

        def change(notes: dict[Head, Note]) -> None:
            for head, note in imported.items():
                own = notes.get(head)
                result = note if own is None else joined(own, note)
                heads["added" if own is None else "same" if result == own else "joined"].append(head)
                notes[head] = result if own is None or result == own else replace(result, changed=_now())

        self._file().update(change)
        return Merged(*(tuple(sorted(heads[kind])) for kind in ("added", "joined", "same")))

    def others(self) -> list[Notes]:
        """Notes of models of this name with other weights or other operators, on this machine."""
        folder = self.folder / self.subject.folder_name
        if not any(map(_is_notes, folder.glob("*.json"))):
            return []
        own = self._path
        return [notes for path in _files(folder) if path != own and len(notes := _read_at(path, self._named))]

    def set_aside(self) -> list[str]:
        """The names of damaged files of these notes, which were renamed."""
        folder = self.folder / self.subject.folder_name
        if not (names := sorted(path.name for path in folder.glob("*.damaged-*.json"))):
            return []
        return [name for name in names if name.startswith(f"{self.subject.key}.")]

    def _repr_html_(self) -> str:
        from workbench.plotting.notebook import html_table

        rows = [(str(note.head), ", ".join(note.tags), note.text) for note in self]
        return f"<div><b>{escape(self.subject.full_name)}</b>{html_table(('head', 'tags', 'text'), rows)}</div>"

    def _head(self, head: Any) -> Head:
        """A head of the model."""
        parsed = head if isinstance(head, Head) else parse_head("head", head)
        layers, heads = self.subject.n_layers, self.subject.n_heads
        if parsed.layer >= layers or parsed.index >= heads:
            because = f"{self.subject.full_name} has {layers} layers of {heads} heads"
            raise arguments.refusal(
                "head", str(parsed), f"a head from 0.0 to {layers - 1}.{heads - 1}", because=because
            )
        return parsed

    @staticmethod
    def _tags(tags: Any) -> tuple[str, ...]:
        if not (names := check_tags(tags)):
            raise arguments.refusal("tags", tags, "at least one tag")
        return names

    @cached_property
    def _path(self) -> Path:
        return self.folder / self.subject.folder_name / f"{self.subject.key}.json"

    def _file(self) -> NotesFile:
        """The file, for a change.

        Raises:
            UsageError: nothing is written to the user's folder.
        """
        if self._named is None and switched_off_everywhere():
            raise UsageError(
                "WORKBENCH_CACHE=off: notes are in the folder of the cache, to which nothing is written. Unset it, or "
                "give folder='notes'."
            )
        return NotesFile(self._path, self.subject)

    def _read(self) -> dict[Head, Note]:
        """The notes; without any of a model of this name, its weights need not be hashed."""
        folder = self.folder / self.subject.folder_name
        return NotesFile(self._path, self.subject).read() if any(map(_is_notes, folder.glob("*.json"))) else {}

    def _change(self, head: Any, change: Callable[[Note], Note], link: str | None = None) -> Note:
        head, link = self._head(head), None if link is None else check_link(link)
        result = Note(head)

        def apply(notes: dict[Head, Note]) -> None:
            nonlocal result
            before = notes.get(head, Note(head))
            after = change(before)
            if after != before:
                after = replace(after, changed=_now(), link=link or before.link or self.subject.link(head))
            result = notes[head] = after if after else Note(head)

        self._file().update(apply)
        return result


def all_notes(name: str | None = None, folder: Path | None = None) -> list[Notes]:
    """The notes on this machine, of models of a name or of all; no model is loaded.

    Raises:
        BadInput: a damaged file, which is set aside.
    """
    root = user_folder() / "notes" if folder is None else folder
    if name is None:
        folders = sorted(path for path in root.glob("*") if path.is_dir())
    else:
        folders = [root / Subject(name, lambda: ("", ""), {}, 1, 1).folder_name]
    every = [_read_at(path, folder) for one in folders for path in _files(one)]
    return sorted((notes for notes in every if len(notes)), key=lambda notes: repr(notes.subject.json()))


def notes_of_file(path: str | os.PathLike[str], folder: Path | None = None) -> Notes:
    """The notes on this machine of the model that a file of `Notes.save` names; raises as `Notes.merge`."""
    return Notes(read_document(arguments.file_path("path", path))[0], folder)


def _read_at(path: Path, folder: Path | None) -> Notes:
    """The notes of a file, as it names its model itself."""
    try:
        return Notes(read_document(path)[0], folder)
    except BadInput:
        NotesFile(path, None).read()  # sets it aside, and says so
        raise


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.json") if _is_notes(path))


def _is_notes(path: Path) -> bool:
    return NAME.fullmatch(path.name) is not None


def _described(subject: Subject) -> str:
    return f"{subject.full_name} (weights {subject.weights[:8]})"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
