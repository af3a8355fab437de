"""What the page asks: a position as destination or source, in one head or all, and the pair."""

from __future__ import annotations

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

import workbench as wb
from app import sidebar
from app.heads.asking import ALL_HEADS, Asking, strongest
from tests.app.heads.rendered import OTHER, grids, opened, patterns, record_of, text, values


def test_the_position_returns_to_the_last_one_with_another_prompt(app: AppTest) -> None:
    opened(app, position="3", **{"with": "1"})
    assert app.number_input(key="position").value == 3 and app.number_input(key="with").value == 1
    app.text_input(key=sidebar.HEAD).set_value("1.1").run()
    assert app.number_input(key="position").value == 3 and text(app)["asking"] == 3 and text(app)["pair"] == 1
    app.text_area(key=sidebar.PROMPT).set_value(OTHER).run()
    assert not app.exception and app.number_input(key="position").value == len(record_of(OTHER)[1]) - 1


@pytest.mark.parametrize("role", ["destination", "source"])
def test_the_text_has_the_row_or_the_column_of_the_open_head(app: AppTest, role: str) -> None:
    opened(app, head="1.2", position="11", role=role, **{"with": "4"})
    pattern = record_of()[1].pattern(wb.Head(1, 2))
    expected = pattern[11] if role == "destination" else pattern[:, 11]
    np.testing.assert_allclose(text(app)["weights"], expected, atol=1e-5)
    question = "What does 11 ·John attend to?" if role == "destination" else "Who attends to 11 ·John?"
    assert (
        text(app)["question"] == question
        and "".join(piece[0] for piece in text(app)["pieces"]) == sidebar.DEFAULT_PROMPT
    )
    assert patterns(app)["pattern"]["asked"] == ([11, 4] if role == "destination" else [4, 11])


def test_all_heads_shade_the_text_and_the_grid_shows_the_pair(app: AppTest) -> None:
    opened(app, head="1.2", position="11", score="sink", **{"with": "4"})
    app.segmented_control(key="scope").set_value(ALL_HEADS).run()
    assert not app.exception and app.query_params["score"] == "pair"
    _, record = record_of()
    by_head = np.stack([record.pattern(wb.Head(i, j)) for i in range(2) for j in range(8)])
    np.testing.assert_allclose(text(app)["weights"], by_head[:, 11].max(0), atol=1e-5)
    np.testing.assert_allclose(values(grids(app)["grid"]), by_head[:, 11, 4].reshape(2, 8), atol=1e-5)
    assert grids(app)["grid"]["title"] == "Attention from 11 ·John to 4 ·John" and grids(app)["grid"]["levels"] == [
        pytest.approx(1 / 12)
    ]
    app.segmented_control(key="over").set_value("mean").run()
    mean = by_head[:, 11].mean(0)
    np.testing.assert_allclose(text(app)["weights"], mean, atol=1e-5)
    np.testing.assert_allclose(text(app)["shares"], mean / mean.max(), atol=1e-4)  # not up to 1, where no mean is
    assert "up to the largest" in text(app)["legend"] and f"{mean.max():.3g}" in text(app)["legend"]
    app.segmented_control(key="role").set_value("source").run()
    np.testing.assert_allclose(text(app)["weights"], by_head[:, :, 11].mean(0), atol=1e-5)
    assert (
        "4 ·John to 11 ·John" in grids(app)["grid"]["title"]
        and "No value: the mask hides" in grids(app)["grid"]["note"]
    )
    assert np.isnan(values(grids(app)["grid"])).all() and text(app)["masked"] == list(range(11))
    assert "ranking" not in grids(app)  # which had zeros
    assert set(np.ravel(grids(app)["grid"]["texts"])) == {text(app)["why"]} == {"masked, no attention is possible"}
    app.segmented_control(key="scope").set_value("this head").run()
    assert not app.exception and app.query_params["score"] == "sink"


def test_another_position_is_paired_with_what_it_attends_to_most(app: AppTest) -> None:
    opened(app, head="1.2", position="9", **{"with": "3"})
    app.number_input(key="position").set_value(12).run()
    row = record_of()[1].pattern(wb.Head(1, 2))[12]
    assert app.number_input(key="with").value == 1 + row[1:12].argmax()


def test_a_position_that_the_prompt_does_not_have_is_named(app: AppTest) -> None:
    opened(app, position="99", **{"with": "4"})
    assert "position=99, which is out of range (0 to 17)" in app.warning[0].value.replace("\\", "")
    assert text(app)["asking"] == 17


def test_the_default_that_stands_in_is_named_as_the_page_names_it(app: AppTest) -> None:
    opened(app, score="inductoin")
    (warning,) = (warning.value.replace("\\", "") for warning in app.warning)
    assert warning == "The URL has score=inductoin, which is not an option. Showing previous token."


def test_a_head_without_a_pattern_says_so_and_all_heads_leave_it_out(app: AppTest) -> None:
    opened(app, operators="0=mlp", head="0.2")
    assert "text" not in grids(app) and any("has no matrix" in caption.value for caption in app.caption)
    app.segmented_control(key="scope").set_value(ALL_HEADS).run()
    assert not app.exception and np.isnan(values(grids(app)["grid"])[0]).all()
    assert np.isfinite(values(grids(app)["grid"])[1]).all() and all(w is not None for w in text(app)["weights"])


def test_the_pair_by_its_role() -> None:
    asking = Asking(5, "destination", "this head", 2)
    assert (asking.dest, asking.src) == (5, 2) and not asking.all_heads
    asking = Asking(5, "source", ALL_HEADS, 8)
    assert (asking.dest, asking.src) == (8, 5) and asking.all_heads


def test_the_strongest_other_position() -> None:
    assert strongest(np.array([0.9, 0.02, 0.05, 0.03]), 3) == 2
    assert strongest(np.array([0.9, 0.0, 0.1]), 2) == 0  # nothing besides the first and itself
    assert strongest(np.full(3, np.nan), 2) == 0


def test_the_page_says_what_the_grid_shows_while_all_heads_are_asked(app: AppTest) -> None:
    def lines() -> list[str]:
        return [caption.value for caption in app.caption if "attention of the pair" in caption.value]

    opened(app, head="1.2", position="11", score="induction", **{"with": "4"})
    assert not lines()
    app.segmented_control(key="scope").set_value(ALL_HEADS).run()
    (line,) = lines()
    assert "in every head" in line and line.endswith("When you ask in *this head* again, they show induction again.")
    grid, rows = grids(app)["grid"], grids(app)["ranking"]["rows"]
    pattern = {f"{i}.{j}": record_of()[1].pattern(wb.Head(i, j))[11, 4] for i in range(2) for j in range(8)}
    assert [row[1] for row in rows] == sorted(pattern, key=lambda head: -pattern[head])  # of the pair, as the grid
    np.testing.assert_allclose(
        [float(row[2].replace("−", "-")) for row in rows], sorted(pattern.values(), reverse=True), rtol=6e-3
    )
    assert grids(app)["ranking"]["label"].startswith("Heads ranked by " + grid["title"])
    app.segmented_control(key="scope").set_value("this head").run()
    assert not lines() and app.query_params["score"] == "induction"
    app.selectbox(key="score").set_value("pair").run()  # selected by hand: nothing comes back by itself
    assert "select one in *Colour heads by*" in lines()[0]
