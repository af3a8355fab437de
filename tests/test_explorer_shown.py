"""What pages show of things that are easily overlooked: spaces in answers, pictures without an interactive figure."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure
from streamlit.testing.v1 import AppTest

from app.patching import asked
from workbench.findings import Report
from workbench.runs.directory import RunDirectory


def pair(answer: str, wrong: str) -> dict[str, str]:
    return {"clean": "a", "corrupt": "b", "answer": answer, "wrong": wrong}


def test_the_spaces_of_answers_are_shown() -> None:
    said = asked.answers([pair(" Mary", " John"), pair(" a| an", "the")])
    assert "·Mary over ·John, ·a|·an over the, where" in said and "1 of 2 pairs" in said
    assert "pairs have" not in asked.answers([pair(" Mary", " John")]) and asked.answers([]) == ""
    assert "and 3 more" in asked.answers([pair(" Mary", " John")] * (asked.SPELT + 3))


def test_a_run_with_pictures_alone_shows_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    with RunDirectory.create(Path("runs"), "circuit-reuse", {"model": "tiny"}) as run:
        run.add_report(Report("undecided", "Made up.", {}, {}, {"bars": Figure()}))
    script = "from app import link\nfrom app.pages import runs\nwith link.written():\n    runs.page.render()"
    app = AppTest.from_string(script, default_timeout=60).run()
    assert not app.exception and app.selectbox(key="figure").value == "bars"
    assert len(app.get("image")) == 1 and "no figures" not in "".join(each.value for each in app.info)
