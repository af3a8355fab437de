"""Every page renders on a machine without runs and on one with a run; a new page needs no other file."""

from __future__ import annotations

import inspect
import re
import shutil
import sys
import textwrap
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import app.pages
from app import Home, models, page
from app.page import PAGES
from app.work import background
from tests.app.circuits import made_runs
from tests.app.pages.driving import MODEL_OF, TIMEOUT, make_run, make_run_not_judged, new_page
from tests.app.work.scripted_queue import ScriptedQueue
from workbench.registry import ROOT

NAMES = PAGES.names()
#: All pages, on the one of that name.
SWITCH = """
import streamlit as st
from app import sidebar, url_state
from app.page import pages, views

by_name = views()
view = st.navigation(list(by_name.values()))
with url_state.update_url():
    sidebar.widgets(["tiny"], {page.title: page for page in pages()}[view.title].uses)
    if not st.session_state.get("switched"):
        st.session_state["switched"] = True
        st.switch_page(by_name["NAME"])
    view.run()
"""


@pytest.fixture(autouse=True)
def tiny_only(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = ScriptedQueue()
    monkeypatch.setattr(models, "available", lambda: ["tiny", *MODEL_OF.values()])
    for module in (background, Home):
        monkeypatch.setattr(module, "job_queue", lambda: queue)


def render(name: str) -> AppTest:
    opened = new_page(name.replace("-", "_"), with_sidebar=True).run()
    assert not opened.exception, opened.exception
    assert not opened.error, [error.value for error in opened.error]
    return opened


@pytest.mark.parametrize("name", NAMES)
def test_every_page_renders_without_runs(name: str) -> None:
    render(name)


def findings_of(name: str) -> list[str]:
    """The findings whose newest run a page shows."""
    source = Path(app.pages.__file__).with_name(f"{name.replace('-', '_')}.py").read_text(encoding="utf-8")
    return re.findall(r'newest_run\("([\w-]+)"\)', source)


@pytest.mark.parametrize("name", NAMES)
def test_every_page_renders_with_runs(name: str) -> None:
    """One of circuit-reuse, which the page Circuits draws, and one of each finding that the page names."""
    made_runs.make_run("circuit-reuse", made_runs.committed("circuit-reuse"))
    for finding in findings_of(name):
        make_run(finding=finding)
    render(name)


@pytest.mark.parametrize("name", NAMES)
def test_every_page_renders_with_runs_that_are_not_judged(name: str) -> None:
    for finding in {"circuit-reuse", *findings_of(name)}:
        make_run_not_judged(finding)
    render(name)


def examples() -> list[str]:
    """A page as the documentation writes it: in the module `app.page`, and in CONTRIBUTING where it has one."""
    lines = inspect.cleandoc(page.__doc__ or "").split("::\n", 1)[1].split("\n\nWidgets come")[0]
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL)
    return [textwrap.dedent(lines), *(block for block in blocks if "page = Page(" in block)]


@pytest.mark.parametrize("source", examples())
@pytest.mark.parametrize("with_run", [False, True])
def test_a_new_page_is_one_file(source: str, with_run: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = shutil.copytree(Path(app.pages.__file__).parent, tmp_path / "pages")
    name = re.findall(r'page = Page\(\s*"([\w-]+)"', source)[0]
    module = name.replace("-", "_")
    (folder / f"{module}.py").write_text(source)
    monkeypatch.delitem(sys.modules, f"app.pages.{module}", raising=False)  # of another example of that name
    monkeypatch.setattr(PAGES, "_folder", folder)
    monkeypatch.setattr(app.pages, "__path__", [*app.pages.__path__, str(folder)])
    if with_run:
        make_run(finding=re.findall(r'newest_run\("([\w-]+)"\)', source)[0])
    opened = AppTest.from_string("from app.Home import main; main()", default_timeout=TIMEOUT).run()
    assert not opened.exception
    opened = AppTest.from_string(SWITCH.replace("NAME", name), default_timeout=TIMEOUT).run()
    assert not opened.exception and not opened.error
    assert len(opened.get("plotly_chart")) == with_run and bool(opened.info) != with_run
