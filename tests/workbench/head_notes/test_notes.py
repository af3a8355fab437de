"""Notes of one model: what they may be, whose they are, and files as json and pandas read them."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import pytest
import torch

import workbench as wb
from workbench.cache import folder as cache_folder
from workbench.errors import UsageError
from workbench.head_notes.note import MAX_TAG, MAX_TAGS, MAX_TEXT, ChangedElsewhere
from workbench.head_notes.subject import Subject, short_name

HOSTILE = '<img src=x onerror=alert(1)> **b** [l](javascript:x) =1+1, "q"\n\tsecond line\u2028 安 🙂'


@pytest.fixture(scope="module")
def model() -> Any:
    return wb.load("tiny")


@pytest.fixture
def notes(model: Any, tmp_path: Path) -> wb.Notes:
    return wb.notes(model, folder=tmp_path)


def test_a_note_is_written_changed_and_removed(notes: wb.Notes, model: Any, tmp_path: Path) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    assert not notes["1.3"] and not len(notes) and wb.Head(1, 3) not in notes
    notes.tag("1.3", ["mover", "name", "mover"])
    notes.tag(wb.Head(1, 3), "late")
    note = notes.write("1.3", HOSTILE)
    assert note == notes["1.3"] and note.tags == ("mover", "name", "late") and note.text == HOSTILE
    assert before <= datetime.fromisoformat(note.changed) <= datetime.now(UTC)
    assert notes.untag("1.3", ["name", "not there"]).tags == ("mover", "late")
    notes.write("0.2", "b")
    assert [str(note.head) for note in wb.notes(model, folder=tmp_path)] == ["0.2", "1.3"]
    assert notes.tags == ("late", "mover")
    notes.remove("1.3")
    notes.write("0.2", " ")  # nothing is left of it
    assert list(notes) == [] and "1.3" not in notes
    with pytest.raises(UsageError, match=r"^head='1\.3': expected a head with a note"):
        notes.remove("1.3")


def test_what_changes_nothing_leaves_the_note_as_it_is(notes: wb.Notes) -> None:
    first = notes.write("0.1", "text", link="/?model=tiny&head=0.1&prompt=Mary")
    assert notes.write("0.1", "text \r\n", link="/?model=tiny&head=0.1&prompt=other") == first
    assert notes.tag("0.1", "mover").link == first.link
    assert notes.write("0.1", "new", link="/?model=tiny&head=0.1&prompt=other").link.endswith("other")


def test_a_text_that_changed_since_it_was_read_is_not_overwritten(notes: wb.Notes, model: Any, tmp_path: Path) -> None:
    other = wb.notes(model, folder=tmp_path)
    seen = notes.write("1.3", "read by both")
    newer = other.write("1.3", "theirs", seen=seen)
    with pytest.raises(ChangedElsewhere, match=r"^The text of head 1\.3 is not .*: it was changed at 2") as e:
        notes.write("1.3", "mine", seen=seen)
    assert e.value.note == newer == notes["1.3"] and e.value.exit_code == 2
    assert notes.write("1.3", "theirs", seen=seen) == newer  # the same text is no other one
    assert notes.write("1.3", "mine", seen=e.value.note).text == "mine"
    other.tag("1.3", "late")  # tags are added and taken, and leave the text
    assert notes.write("1.3", "mine, longer", seen=notes["1.3"]).tags == ("late",)
    seen = notes["1.3"]
    other.remove("1.3")
    with pytest.raises(ChangedElsewhere, match="it was removed"):
        notes.write("1.3", "mine", seen=seen)
    assert "1.3" not in notes
    with pytest.raises(ChangedElsewhere):  # of a head that had none
        empty = notes["0.1"]
        other.write("0.1", "theirs")
        notes.write("0.1", "mine", seen=empty)
    with pytest.raises(UsageError, match=r"^seen='mine': expected a note"):
        notes.write("0.1", "a", seen="mine")  # pyright: ignore[reportArgumentType] - refused


@pytest.mark.parametrize("head", ["2.0", "0.8", "1.30"])
def test_a_head_that_the_model_does_not_have_is_refused(notes: wb.Notes, head: str) -> None:
    for call in (lambda: notes.write(head, "a"), lambda: notes.tag(head, "a"), lambda: notes[head]):
        with pytest.raises(
            UsageError, match=r"expected a head from 0\.0 to 1\.7, because tiny has 2 layers of 8 heads"
        ):
            call()
    assert len(notes) == 0


@pytest.mark.parametrize("tag", ["", " ", "a,b", "a\nb", "a\0b", "x" * (MAX_TAG + 1), "\u202eabc", "\ud800"])
def test_what_cannot_be_a_tag(notes: wb.Notes, tag: str) -> None:
    with pytest.raises(UsageError, match=r"^tags="):
        notes.tag("0.0", [tag])
    assert "0.0" not in notes


def test_limits(notes: wb.Notes) -> None:
    notes.tag("0.0", [f"tag {i}" for i in range(MAX_TAGS)])
    with pytest.raises(UsageError, match=f"at most {MAX_TAGS} tags"):
        notes.tag("0.0", "one more")
    notes.write("0.0", "x" * MAX_TEXT)
    with pytest.raises(UsageError, match=f"text: {MAX_TEXT + 1:,} characters"):
        notes.write("0.0", "x" * (MAX_TEXT + 1))
    for wrong in ("a\0b", "\x1b[31m", "\ud800"):
        with pytest.raises(UsageError, match="control character U"):
            notes.write("0.0", wrong)
    for link in ("https://example.org/", "//example.org/?head=0.0", "javascript:alert(1)", "/?a=<b>", "/?a=b c"):
        with pytest.raises(UsageError, match=r"^link="):
            notes.write("0.0", "a", link=link)
    assert notes["0.0"].text == "x" * MAX_TEXT and len(notes["0.0"].tags) == MAX_TAGS


def test_the_table_and_the_files_as_others_read_them(notes: wb.Notes, tmp_path: Path) -> None:
    notes.tag("0.1", ["mover", "name"])
    notes.write("0.1", HOSTILE, link="/?model=tiny&head=0.1&prompt=Mary+and")
    notes.write("1.0", "b")
    table = notes.table()
    assert list(table.columns) == ["head", "tags", "text", "changed", "link"]
    assert table["head"].tolist() == ["0.1", "1.0"] and table["tags"].tolist() == ["mover, name", ""]
    notes.save(tmp_path / "notes.csv")
    frame = pd.read_csv(tmp_path / "notes.csv", dtype=str, keep_default_na=False)
    places = zip(frame.pop("layer"), frame.pop("head_index"), strict=True)
    assert list(places) == [("0", "1"), ("1", "0")] and frame["head"].tolist() == ["L0H1", "L1H0"]
    frame["head"] = table["head"]
    pd.testing.assert_frame_equal(frame.astype(object), table.astype(object), check_dtype=False)
    with (tmp_path / "notes.csv").open(newline="", encoding="utf-8") as file:
        assert next(iter(csv.DictReader(file)))["text"] == HOSTILE
    notes.save(tmp_path / "notes.json")
    data = json.loads((tmp_path / "notes.json").read_text(encoding="utf-8"))
    assert data == notes.json() and data["model"] == "tiny" and (data["n_layers"], data["n_heads"]) == (2, 8)
    assert data["notes"][0] == {
        "head": "0.1", "tags": ["mover", "name"], "text": HOSTILE, "changed": table["changed"][0],
        "link": "/?model=tiny&head=0.1&prompt=Mary+and",
    }  # fmt: skip
    with pytest.raises(UsageError, match=r"expected a path that ends in \.json or \.csv"):
        notes.save(tmp_path / "notes.txt")
    page = notes._repr_html_()
    assert "<img" not in page and "&lt;img" in page


@pytest.mark.parametrize("address", ["http://127.0.0.1:8501", "https://lab.example/explorer/", "http://[::1]:80"])
def test_links_of_the_table_are_whole_with_an_address(notes: wb.Notes, tmp_path: Path, address: str) -> None:
    notes.write("0.1", "a", link="/?model=tiny&head=0.1&prompt=Mary+and")
    notes.save(tmp_path / "notes.csv", address)
    (link,) = pd.read_csv(tmp_path / "notes.csv")["link"]
    assert link == notes.table(address)["link"][0] and urlsplit(link).netloc == urlsplit(address).netloc
    assert link.startswith(address) and urlsplit(link).path == (urlsplit(address).path or "/")
    assert parse_qs(urlsplit(link).query)["prompt"] == ["Mary and"]
    assert notes.table()["link"].tolist() == ["/?model=tiny&head=0.1&prompt=Mary+and"]
    with pytest.raises(UsageError, match=r"expected none for the links of a \.json file, because they lead to"):
        notes.save(tmp_path / "notes.json", address)


@pytest.mark.parametrize(
    "address", ["127.0.0.1:8501", "javascript:alert(1)//", "http://a b", "http://a/?x=1", "http://"]
)
def test_what_is_no_address(notes: wb.Notes, address: str) -> None:
    with pytest.raises(UsageError, match=r"^address=.*: expected the address of an explorer"):
        notes.table(address)


def test_without_a_link_it_leads_to_model_and_head(model: Any, tmp_path: Path) -> None:
    swapped = wb.swap(model, {0: "sliding-window(window=4)"})
    link = urlsplit(wb.notes(swapped, folder=tmp_path).write("1.3", "a").link)
    expected = {"model": ["tiny"], "operators": ["0=sliding-window(window=4)"], "head": ["1.3"]}
    assert link.path == "/" and parse_qs(link.query) == expected


def changed(model: Any) -> Any:
    """A copy of the model in which one head writes nothing."""
    other = wb.load("tiny")
    projection = other.part(0, "self_attn.o_proj")
    with torch.no_grad():
        projection.get_parameter("weight")[:, : other.d_head] = 0
    return other


def test_notes_of_other_weights_and_operators_are_other_notes(model: Any, tmp_path: Path) -> None:
    notes = wb.notes(model, folder=tmp_path)
    edited, swapped = changed(model), wb.swap(model, {0: "sliding-window(window=4)"})
    wb.notes(edited, folder=tmp_path).write("0.0", "of the edited one")
    wb.notes(swapped, folder=tmp_path).write("0.1", "of the swapped one")
    assert len(notes) == 0
    assert {(other.subject.full_name, len(other)) for other in notes.others()} == {
        ("tiny", 1), ("tiny with 0=sliding-window(window=4)", 1),
    }  # fmt: skip
    notes.write("1.1", "own")
    assert [str(note.head) for note in wb.notes(wb.load("tiny"), folder=tmp_path)] == ["1.1"]
    assert [str(note.head) for note in wb.notes(edited, folder=tmp_path)] == ["0.0"]
    assert len(notes.others()) == 2


def test_the_hash_of_weights_is_that_of_their_numbers() -> None:
    rounded = wb.load("tiny")
    before = Subject.of_model(rounded).weights
    own = Subject.of_model(rounded.to(torch.bfloat16)).weights
    assert own != before
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float64):
        rounded.hf.to(dtype)
        assert Subject.of_model(rounded).weights == own, dtype
    with torch.no_grad():
        next(iter(rounded.hf.parameters())).view(-1)[-1] += 1e-9  # float32 does not hold that
    assert Subject.of_model(rounded).weights != own


def test_weights_are_not_hashed_before_there_are_notes(notes: wb.Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("workbench.head_notes.subject.hash_weights", lambda model: pytest.fail("hashed"))
        assert list(notes) == [] and notes.tags == () and notes.others() == [] and not notes["1.3"]
    assert notes.write("1.3", "a") and len(notes) == 1


def test_names_of_models_hold_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for name in (
        "models/mine",
        "./models/mine",
        str(tmp_path / "models" / "mine"),
        "/gone/mine",
        "models/../models/mine",
    ):
        assert short_name(name) == "mine"
    for name in ("tiny", "owner/name", "owner/name@main", "in memory"):
        assert short_name(name) == name


def test_where_notes_are(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("WORKBENCH_CACHE", "on")
    wb.notes(model).write("0.0", "a")
    assert cache_folder.user_folder() == tmp_path and len(list((tmp_path / "notes").rglob("*.json"))) == 1
    monkeypatch.setenv("WORKBENCH_CACHE", "off")
    assert wb.notes(model)["0.0"].text == "a"
    with pytest.raises(UsageError, match="WORKBENCH_CACHE=off"):
        wb.notes(model).write("0.0", "b")
    with pytest.raises(UsageError, match=r"^model=5: expected a model"):
        wb.notes(5)


def test_the_operators_own_weights_count(model: Any, tmp_path: Path) -> None:
    swapped = wb.swap(model, {0: "delta"})
    own = [x for name, x in swapped.hf.named_parameters() if "workbench_operator" in name]
    assert own and Subject.of_model(swapped).weights == Subject.of_model(model).weights
    notes = wb.notes(swapped, folder=tmp_path)
    notes.write("0.0", "a")
    with torch.no_grad():
        own[0].add_(1)
    assert len(wb.notes(swapped, folder=tmp_path)) == 0 and len(notes) == 1
