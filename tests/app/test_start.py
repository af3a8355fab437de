"""The explorer's start: the frame before any heavy import, steps that say what is done, the worker after the page."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

import workbench as wb
from app import Home, models, preparing, sidebar
from app.page import PAGES, pages
from app.preparing import Preparation, Tell
from app.work import background
from tests.app.work.scripted_queue import ScriptedQueue
from workbench import registry
from workbench.errors import NotAvailable

FIRST_SIGHT = """
import json, sys
import streamlit as st
from streamlit.testing.v1 import AppTest
from app import preparing
from app.work import jobs

HEAVY = ("torch", "transformers", "transformer_lens", "scipy", "matplotlib", "app.pages.heads")
seen, started = [], []
jobs.JobQueue._start_process = lambda self: started.append(1)

def stop_here(pages, page):
    seen.extend(name for name in HEAVY if name in sys.modules)
    st.stop()

preparing.wait_for_imports = stop_here
page = AppTest.from_string("from app.Home import main; main()", default_timeout=250).run()
frame = [page.sidebar.selectbox[0].label, page.sidebar.text_area[0].label]
print(json.dumps({"seen": seen, "frame": frame, "workers": len(started)}))
"""
MAIN = "from app.Home import main; main()"


def test_the_frame_is_drawn_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    environment = registry.environment() | {"WORKBENCH_CACHE_DIR": str(tmp_path), models.STARTED: '["tiny"]'}
    done = subprocess.run(
        [sys.executable, "-c", FIRST_SIGHT], env=environment, capture_output=True, text=True, check=True, cwd=tmp_path
    )
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer == {"seen": [], "frame": ["Model", "Prompt"], "workers": 0}


def test_pages_are_listed_without_being_imported_as_they_are() -> None:
    listed = "print([name for name in PAGES.names() if PAGES.is_imported(name)])"
    code = f"import app.Home; from app.page import PAGES, pages; pages(); {listed}"
    done = subprocess.run(
        [sys.executable, "-c", code], env=registry.environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
    for page in pages():
        written, imported = (
            {name: value for name, value in vars(x).items() if name not in ("render", "help", "parts")}
            for x in (page, PAGES[page.name])
        )
        assert written == imported


def test_a_page_that_has_to_be_imported_to_be_known_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import app.pages

    (tmp_path / "made.py").write_text('from app.page import Page\npage = Page("made", "Ma" + "de", "x", 7, print)\n')
    monkeypatch.setattr(PAGES, "_folder", tmp_path)
    monkeypatch.setattr(app.pages, "__path__", [str(tmp_path)])
    assert [(page.title, page.render) for page in pages()] == [("Made", print)]


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the page Heads and its worker do, in order."""
    done: list[str] = []

    class Queue(ScriptedQueue):
        def warm(self, model: str) -> None:
            done.append(f"worker loads {model}")

    from app.heads import score_grid

    real, queue = score_grid.selected_score, Queue()

    def selected_score(*arguments: Any, **named: Any) -> Any:
        score = real(*arguments, **named)
        done.append("grid")
        return score

    monkeypatch.setattr(score_grid, "selected_score", selected_score)
    monkeypatch.setattr(models, "available", lambda: ["tiny"])
    for module in (background, Home):
        monkeypatch.setattr(module, "job_queue", lambda: queue)
    return done


def test_the_worker_starts_after_the_first_grid(events: list[str]) -> None:
    page = AppTest.from_string(MAIN, default_timeout=250).run()
    assert not page.exception
    assert events == ["grid"] * (len(events) - 1) + ["worker loads tiny"] and len(events) > 1


def test_the_worker_does_not_start_for_a_page_that_shows_an_error(events: list[str]) -> None:
    page = AppTest.from_string(MAIN, default_timeout=250)
    page.query_params["prompt"] = ""
    page.run()
    page.text_area(key=sidebar.PROMPT).set_value("").run()
    assert page.error and events[-1:] != ["worker loads tiny"]


def labels_of(monkeypatch: pytest.MonkeyPatch, steps: list[str]) -> list[str]:
    """The labels of the line above a page that waits for these steps, each of which ends when it has been seen."""
    labels: list[str] = []
    seen = {step: threading.Event() for step in steps}

    def escape(text: str) -> str:
        labels.append(text)
        for step in steps:
            if text.lower().startswith(step):
                seen[step].set()
        return text

    def work(tell: Tell) -> None:
        for step in steps:
            tell(0, 0, step)
            assert seen[step].wait(200)

    monkeypatch.setattr(preparing, "escape_markdown", escape)
    monkeypatch.setattr(preparing, "INTERVAL", 0.01)
    monkeypatch.setattr(preparing, "made_up", Preparation(work), raising=False)
    page = AppTest.from_string("from app import preparing; preparing.made_up.show()", default_timeout=250).run()
    assert not page.exception and not page.get("status") and not page.get("expander")  # the line is gone
    return list(dict.fromkeys(labels))


def test_a_page_says_what_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert labels_of(monkeypatch, ["importing torch", "proving runs"]) == ["Importing torch", "Proving runs"]


def test_the_page_keeps_its_place_when_there_is_nothing_to_wait_for_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()
    monkeypatch.setattr(preparing, "INTERVAL", 0.01)
    monkeypatch.setattr(preparing, "escape_markdown", lambda text: done.set() or text)
    monkeypatch.setattr(preparing, "made_up", Preparation(lambda _: done.wait()), raising=False)
    script = "import streamlit as st; from app import preparing; preparing.place_line(); preparing.made_up.show()"
    page = AppTest.from_string(f"{script}; st.text('the page')", default_timeout=250).run()
    assert done.is_set()  # the first run has waited

    def place() -> list[int]:
        return [i for i, element in page.main.children.items() if getattr(element, "value", "") == "the page"]

    first = place()
    page.run()
    assert place() == first and len(first) == 1


def test_progress_of_a_step_is_a_percentage() -> None:
    preparation = Preparation(lambda tell: tell(3, 12, "fetching"))
    preparation.result()
    assert preparation.doing == "fetching (25 %)"


def test_a_model_is_loaded_once_for_all_and_again_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    models._load.clear()
    models._LOADED.clear()
    calls: list[str] = []
    load = wb.load

    def failing(name: str, progress: Any = None) -> Any:
        calls.append(name)
        if len(calls) == 1:
            raise NotAvailable("no room")
        return load(name)

    monkeypatch.setattr(models, "available", lambda: ["tiny"])
    monkeypatch.setattr(wb, "load", failing)
    with pytest.raises(NotAvailable, match="no room"):
        models.load("tiny")
    loaded = models.load("tiny")
    assert models.load("tiny") is loaded and calls == ["tiny", "tiny"] and not models._LOADING
