"""The page Runs on made-up runs: reports, tables, figures, and comparisons."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from app.run_figure import newest_run
from tests.app.pages.driving import make_run, new_page
from workbench.errors import UnknownName
from workbench.findings import Report
from workbench.runs.directory import RunDirectory


def test_without_runs_the_page_says_how_to_make_one() -> None:
    app = new_page("runs").run()
    assert not app.exception and "workbench reproduce" in app.info[0].value


def test_a_run_shows_report_tables_and_provenance() -> None:
    name = make_run(1.0)
    app = new_page("runs").run()
    assert not app.exception and app.selectbox(key="run").value == name
    assert "Made up." in app.code[0].value
    assert "circuit-reuse · tiny · undecided" in app.caption[0].value.replace("\\", "")
    app.segmented_control(key="part").set_value("Tables").run()
    assert not app.exception and app.dataframe[0].value["value"].tolist() == [1.0, 2.0]
    app.segmented_control(key="part").set_value("Provenance").run()
    assert not app.exception and "config" in app.json[0].value


def test_two_runs_are_compared_and_the_url_restores_it() -> None:
    make_run(0.0)
    first, second = make_run(1.0), make_run(1.5)
    app = new_page("runs").run()
    app.selectbox(key="run").set_value(first)
    app.segmented_control(key="part").set_value("Compare").run()
    app.selectbox(key="run-with").set_value(second).run()
    again = new_page("runs")
    again.query_params = app.query_params
    for opened in (app, again.run()):
        assert not opened.exception and not opened.warning
        assert (
            opened.segmented_control(key="part").value == "Compare" and opened.selectbox(key="run-with").value == second
        )
        differences = opened.dataframe[-2].value
        assert differences["largest difference"].tolist() == [0.5] and "1 numbers" in differences["result"][0]


@pytest.mark.parametrize("key", ["run", "run-with"])
def test_a_url_cannot_name_a_folder(key: str) -> None:
    for value in (1.0, 1.5):
        make_run(value)
    app = new_page("runs")
    app.query_params.update({"part": "Compare", key: "../../etc"})
    app.run()
    assert not app.exception and "not an option" in app.warning[0].value and len(app.warning) == 1


def test_an_altered_run_is_refused() -> None:
    name = make_run(1.0)
    path = Path("runs") / name / "summary.txt"
    path.write_text("Better.")
    app = new_page("runs").run()
    assert "was altered" in str(app.exception[0].value) and not app.code


def test_a_figure_has_its_downloads() -> None:
    make_run()
    app = new_page("runs")
    app.query_params["part"] = "Figures"
    app.run()
    assert not app.exception and app.selectbox(key="figure").value == "bars" and len(app.get("plotly_chart")) == 1
    assert [button.proto.label for button in app.get("download_button")] == ["CSV", "JSON"]


def test_a_figure_that_is_an_image_alone_is_shown() -> None:
    with RunDirectory.create(Path("runs"), "circuit-reuse", {"model": "tiny"}) as run:
        run.add_report(Report("undecided", "Made up.", {}, {}, {"bars": Figure()}))
    app = new_page("runs")
    app.query_params["part"] = "Figures"
    app.run()
    assert not app.exception and app.selectbox(key="figure").value == "bars" and len(app.get("image")) == 1
    assert [button.proto.label for button in app.get("download_button")] == ["PNG"]


def test_a_run_without_figures_says_so() -> None:
    with RunDirectory.create(Path("runs"), "circuit-reuse", {"model": "tiny"}) as run:
        run.add_report(Report("undecided", "Made up.", {}))
    app = new_page("runs")
    app.query_params["part"] = "Figures"
    assert "no figures" in app.run().info[0].value


def test_the_newest_run_of_an_unknown_finding_is_refused() -> None:
    with pytest.raises(UnknownName, match=r"finding='head-ablatoin': .* Did you mean 'head-ablation'"):
        newest_run("head-ablatoin")


def test_the_newest_run_of_a_finding_is_the_one_that_can_be_read() -> None:
    older, newer = make_run(1.0), make_run(2.0)
    run = newest_run("circuit-reuse")
    assert run is not None and run.path.name == newer and newest_run("faithfulness") is None
    (Path("runs") / newer / "run.json").write_text("{}")
    run = newest_run("circuit-reuse")
    assert run is not None and run.path.name == older
