"""Files of notes: several writers, damage, and those of colleagues."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.workbench.head_notes.writer import some_notes, write
from workbench import registry
from workbench.errors import BadInput, NotAvailable, UsageError
from workbench.head_notes import notes_file
from workbench.head_notes.note import MAX_TEXT
from workbench.head_notes.notes import Notes, all_notes
from workbench.head_notes.subject import Subject


def path_of(notes: Notes) -> Path:
    (path,) = notes.folder.rglob("*.json")
    return path


def test_two_processes_and_two_threads_lose_no_head(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.workbench.head_notes.writer", str(tmp_path)]
    processes = [subprocess.Popen([*command, str(layer)], cwd=registry.ROOT) for layer in (0, 1)]
    threads = [threading.Thread(target=write, args=(tmp_path, layer)) for layer in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait() for process in processes] == [0, 0]
    notes = some_notes(tmp_path)
    assert [str(note.head) for note in notes] == [f"{i}.{j}" for i in range(4) for j in range(8)] + ["7.6", "7.7"]
    for layer in range(4):
        for j in range(8):
            assert set(notes[f"{layer}.{j}"].tags) == {f"tag {i}" for i in range(40) if i % 8 == j}
    assert set(notes["7.6"].tags) == {f"of {layer}" for layer in range(4)}  # nor a tag
    assert notes["7.7"].text in {f"{layer} 39" for layer in range(4)}  # the last one to write


GOOD = {
    "format": "workbench.notes/1", "model": "m", "weights": "0" * 40, "operators": {}, "operator_weights": "",
    "n_layers": 8, "n_heads": 8,
    "notes": [{"head": "0.1", "tags": ["a"], "text": "b", "changed": "2026-01-02T03:04:05+00:00", "link": ""}],
}  # fmt: skip


def with_note(**fields: Any) -> dict[str, Any]:
    return {**GOOD, "notes": [{**GOOD["notes"][0], **fields}]}


DAMAGED = {
    "empty": b"",
    "cut": json.dumps(GOOD).encode()[:-9],
    "bytes": b"\xff\xfe\x00",
    "a list": b"[]",
    "another format": json.dumps({**GOOD, "format": "workbench.circuit/2"}).encode(),
    "another field": json.dumps({**GOOD, "more": 1}).encode(),
    "no weights": json.dumps({**GOOD, "weights": "../../x"}).encode(),
    "other weights": json.dumps({**GOOD, "weights": "1" * 40}).encode(),
    "no sizes": json.dumps({**GOOD, "n_heads": True}).encode(),
    "no head of the model": json.dumps(with_note(head="8.0")).encode(),
    "no head": json.dumps(with_note(head="a")).encode(),
    "a number": json.dumps(with_note(head=0.1)).encode(),
    "two notes": json.dumps({**GOOD, "notes": GOOD["notes"] * 2}).encode(),
    "a tag": json.dumps(with_note(tags=["a,b"])).encode(),
    "tags": json.dumps(with_note(tags="a")).encode(),
    "a text": json.dumps(with_note(text=["a"])).encode(),
    "a long text": json.dumps(with_note(text="a" * (MAX_TEXT + 1))).encode(),
    "a link": json.dumps(with_note(link="javascript:alert(1)")).encode(),
    "a time": json.dumps(with_note(changed="yesterday")).encode(),
    "nothing": json.dumps(with_note(tags=[], text="")).encode(),
    "deep": b"[" * 10_000,
}


#: Every way to meet each of them; a file of other weights is as it should be where it is listed by what it names.
WAYS = [(by, name) for by in ("read", "write", "list") for name in DAMAGED if (by, name) != ("list", "other weights")]


@pytest.mark.parametrize(("by", "name"), WAYS)
def test_a_damaged_file_is_set_aside_with_one_line(by: str, name: str, tmp_path: Path) -> None:
    notes = some_notes(tmp_path)
    notes.write("0.1", "b")
    (path := path_of(notes)).write_bytes(DAMAGED[name])
    actions = {
        "read": lambda: list(notes),
        "write": lambda: notes.write("0.2", "c"),
        "list": lambda: all_notes("m", tmp_path),
    }
    with pytest.raises(BadInput, match=r"^\S.*is now called \w+\.damaged-1\.json: nothing is lost\.$") as error:
        actions[by]()
    assert "\n" not in str(error.value)
    assert path.with_name(f"{path.stem}.damaged-1.json").read_bytes() == DAMAGED[name]
    assert notes.set_aside() == [f"{path.stem}.damaged-1.json"]
    assert list(notes) == [] and notes.write("0.3", "d") and [str(note.head) for note in notes] == ["0.3"]
    path.write_bytes(DAMAGED[name])
    with pytest.raises(BadInput, match="damaged-2"):
        list(notes)


def test_a_file_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    notes = some_notes(tmp_path)
    notes.write("0.1", "b")
    path_of(notes).write_text(json.dumps({**GOOD, "format": "workbench.notes/2"}))
    for action in (lambda: list(notes), lambda: notes.write("0.2", "c")):
        with pytest.raises(BadInput, match=r"this version reads 'workbench\.notes/1'"):
            action()
    assert json.loads(path_of(notes).read_text())["format"] == "workbench.notes/2"


def test_a_lock_that_is_not_released_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = some_notes(tmp_path)
    notes.write("0.1", "b")
    code = "import filelock, sys; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print('held', flush=True)"
    command = [sys.executable, "-c", f"{code}; input()", str(path_of(notes).with_name(".lock"))]
    with subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        monkeypatch.setattr(notes_file, "PATIENCE", 0.05)
        with pytest.raises(NotAvailable, match="Another process holds the notes"):
            notes.write("0.1", "c")
        assert notes["0.1"].text == "b"  # reading needs no lock
        holder.kill()
    notes.write("0.1", "c")


# --- files of colleagues


def exported(path: Path, **texts: str) -> Path:
    """A file of notes: head ``h0_1`` → text, with the tag *theirs*."""
    notes = some_notes(path.parent / f"of {path.stem}")
    for head, text in texts.items():
        notes.write(head[1:].replace("_", "."), text)
        notes.tag(head[1:].replace("_", "."), "theirs")
    notes.save(path)
    return path


def test_a_colleagues_notes_are_taken_over_and_nothing_is_overwritten(tmp_path: Path) -> None:
    path = exported(tmp_path / "theirs.json", h0_1="same", h0_2="their text", h0_3="new")
    notes = some_notes(tmp_path / "own")
    notes.write("0.1", "same")
    notes.tag("0.1", ["theirs", "own"])
    notes.write("0.2", "own text")
    notes.tag("0.4", "own")
    first = notes.merge(path)
    assert [tuple(map(str, heads)) for heads in (first.added, first.joined, first.same)] == [
        ("0.3",),
        ("0.2",),
        ("0.1",),
    ]
    changed = json.loads(path.read_text())["notes"][1]["changed"]
    assert notes["0.2"].text == f"own text\n\n[imported, of {changed}]\ntheir text"
    assert notes["0.2"].tags == ("theirs",) and notes["0.1"].tags == ("theirs", "own")
    again = notes.merge(path)
    assert not again.added and not again.joined and len(again.same) == 3  # nothing twice
    assert [str(note.head) for note in notes] == ["0.1", "0.2", "0.3", "0.4"]


def test_a_merge_that_is_too_long_changes_nothing(tmp_path: Path) -> None:
    path = exported(tmp_path / "theirs.json", h0_0="new", h0_1="a" * MAX_TEXT)
    notes = some_notes(tmp_path / "own")
    notes.write("0.1", "own")
    with pytest.raises(UsageError, match="characters"):
        notes.merge(path)
    assert [str(note.head) for note in notes] == ["0.1"] and notes["0.1"].text == "own"


def test_notes_of_another_model_are_taken_only_where_that_is_said(tmp_path: Path) -> None:
    path = exported(tmp_path / "theirs.json", h0_0="a", h7_7="b")
    other = some_notes(tmp_path / "own", weights="1" * 40)
    with pytest.raises(UsageError, match=r"notes of m \(weights 00000000\), expected those of m \(weights 11111111\)"):
        other.merge(path)
    assert len(other.merge(path, other_weights=True).added) == 2
    smaller = Notes(Subject("s", lambda: ("2" * 40, ""), {}, 4, 8), tmp_path / "smaller")
    with pytest.raises(UsageError, match=r"head='7\.7'.*s has 4 layers"):
        smaller.merge(path, other_weights=True)
    assert len(smaller) == 0
    for data in DAMAGED.values():
        if data != DAMAGED["other weights"]:
            (tmp_path / "hostile.json").write_bytes(data)
            with pytest.raises(BadInput, match=r"hostile\.json"):
                other.merge(tmp_path / "hostile.json", other_weights=True)
    assert len(other) == 2 and (tmp_path / "hostile.json").exists()  # a file of one's own is never renamed


def test_notes_are_listed_without_their_models(tmp_path: Path) -> None:
    some_notes(tmp_path).write("0.0", "a")
    some_notes(tmp_path, weights="1" * 40).write("0.1", "b")
    some_notes(tmp_path, name="Other/M").write("0.2", "c")
    some_notes(tmp_path, name="emptied").write("0.2", "c")
    some_notes(tmp_path, name="emptied").remove("0.2")
    assert sorted((notes.subject.name, len(notes)) for notes in all_notes(None, tmp_path)) == [
        ("Other/M", 1), ("m", 1), ("m", 1),
    ]  # fmt: skip
    assert len(all_notes("m", tmp_path)) == 2 and all_notes("M", tmp_path) == []
