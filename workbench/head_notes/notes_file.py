"""The file of one model's notes: read as untrusted input, changed under a lock, and set aside where it is damaged."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock

from workbench.core import Head
from workbench.errors import BadInput, NotAvailable
from workbench.head_notes.note import Note, by_head
from workbench.head_notes.subject import FIELDS, Subject
from workbench.io.files import JSON_BYTES, parse_json, read_file, write_atomic

FORMAT = "workbench.notes/1"
#: Names of such files in the folder of a model's name; a damaged one is renamed.
NAME = re.compile(r"[0-9a-f]{16}\.json")
#: Seconds that a writer waits for another one: each holds the lock for milliseconds.
PATIENCE = 20.0


class OtherVersion(BadInput):
    """A file that another version of the workbench wrote (exit code 3)."""


def document(subject: Subject, notes: Mapping[Head, Note]) -> dict[str, Any]:
    """What a file holds, in order of the heads."""
    return {"format": FORMAT, **subject.json(), "notes": [notes[head].json() for head in sorted(notes)]}


def to_bytes(subject: Subject, notes: Mapping[Head, Note]) -> bytes:
    """A file's content."""
    return (json.dumps(document(subject, notes), ensure_ascii=False, indent=1) + "\n").encode()


def read_document(path: Path) -> tuple[Subject, dict[Head, Note]]:
    """What a file holds, checked.

    Raises:
        BadInput: with the path and what is wrong.
        OtherVersion: of another format.
    """
    what = str(path)
    data = parse_json(read_file(path, JSON_BYTES), what)
    format_name = data.get("format") if isinstance(data, dict) else None
    if format_name != FORMAT:
        other = isinstance(format_name, str) and format_name.startswith(FORMAT.partition("/")[0] + "/")
        kind = OtherVersion if other else BadInput
        raise kind(f"{what}: the format is {str(format_name)[:40]!r}, and this version reads {FORMAT!r}.")
    if set(data) != {"format", "notes", *FIELDS} or not isinstance(data["notes"], list):
        raise BadInput(f"{what}: expected the fields format, {', '.join(FIELDS)} and notes, which is a list.")
    subject = Subject.from_json(data, what)
    notes = [Note.from_json(note, what) for note in data["notes"]]
    return subject, by_head(notes, what, subject.n_layers, subject.n_heads)


class NotesFile:
    """The notes of one model on this machine.

    Args:
        subject: the model; None for whichever the file names, to read it.
    """

    def __init__(self, path: Path, subject: Subject | None) -> None:
        self.path, self.subject = path, subject

    def read(self) -> dict[Head, Note]:
        """The notes by head.

        Raises:
            BadInput: the file is damaged; it is set aside, and there are no notes until some are written or merged.
        """
        if not self.path.is_file():
            return {}
        try:
            return self._read()
        except OtherVersion:
            raise
        except BadInput:
            with self._locked():
                return self._read_or_set_aside()

    def update(self, change: Callable[[dict[Head, Note]], None]) -> None:
        """Change the notes; other processes and threads that change them wait.

        Raises:
            BadInput: the file is damaged (it is set aside, and the change is not made), would be too large, or cannot
                be written.
            NotAvailable: another process does not release the lock.
        """
        assert self.subject is not None
        with self._locked():
            before = self._read_or_set_aside()
            notes = dict(before)
            change(notes)
            notes = {head: note for head, note in notes.items() if note}
            if notes == before:
                return
            data = to_bytes(self.subject, notes)
            if len(data) > JSON_BYTES:
                raise BadInput(
                    f"The notes of {self.subject.full_name} would take {len(data):,} bytes, and the limit is "
                    f"{JSON_BYTES:,}. Shorten some."
                )
            try:
                write_atomic(self.path, data)
            except OSError as error:
                raise BadInput(f"{self.path} cannot be written: {error.strerror or error}.") from None

    def _read(self) -> dict[Head, Note]:
        try:
            subject, notes = read_document(self.path)
        except OSError as error:  # no damage
            raise NotAvailable(f"{self.path} cannot be read: {error.strerror or error}.") from None
        if self.subject is not None and subject.json() != self.subject.json():
            raise BadInput(f"{self.path}: these are notes of {subject.full_name}, not of {self.subject.full_name}.")
        return notes

    def _read_or_set_aside(self) -> dict[Head, Note]:
        if not self.path.is_file():
            return {}
        try:
            return self._read()
        except OtherVersion:
            raise
        except BadInput as error:
            aside = self._set_aside()
            raise BadInput(f"{error} The file is damaged, and is now called {aside.name}: nothing is lost.") from None

    def _set_aside(self) -> Path:
        number = 1
        while (aside := self.path.with_name(f"{self.path.stem}.damaged-{number}.json")).exists():
            number += 1
        os.rename(self.path, aside)
        return aside

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock of the models of this name, which the kernel releases when its holder dies."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self.path.with_name(".lock"), timeout=PATIENCE)
            lock.acquire()
        except filelock.Timeout:
            raise NotAvailable(f"Another process holds the notes in {self.path.parent}. End it, or wait.") from None
        except OSError as error:
            raise BadInput(
                f"Notes cannot be written to {self.path.parent}: {error.strerror or error}. Set WORKBENCH_CACHE_DIR "
                "to a folder that can."
            ) from None
        try:
            yield
        finally:
            lock.release()
