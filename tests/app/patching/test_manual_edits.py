"""Manual edits of the page Patching against plain hooks and the library, and the script that repeats them."""

from __future__ import annotations

import io
import json
import re
from contextlib import redirect_stdout
from typing import Any

import pytest
import torch
from streamlit.testing.v1 import AppTest

import workbench as wb
from app.patching import forced_rows, manual_edits
from app.patching.script import python_script
from app.work.stored_pairs import StoredPairs
from tests.app.patching.driving import TEXT, kl_caption, rerun, run_sweep, strongest_cells
from tests.oracle import plain_hooks
from workbench.core import Edit, Head


def test_heads_in_the_url_are_ablated_as_plain_hooks_ablate_them(app: AppTest) -> None:
    app.query_params.update({"set": "0.1:mover,1.2"})
    rerun(app)
    assert app.multiselect(key="heads-picked").value == ["0.1", "1.2"]
    model = wb.load("tiny")
    edited = manual_edits.EditedPrompt(tuple(model.to_tokens(TEXT)[0].tolist()))
    edits = manual_edits.to_edits([Head(0, 1), Head(1, 2)], "zero", False, [])
    change = manual_edits.compute_change("tiny", edited, edits)

    def without(index: int) -> Any:
        def ablate(z: torch.Tensor) -> torch.Tensor:
            z = z.clone()
            z.unflatten(-1, (model.n_heads, -1))[..., index, :] = 0
            return z

        return ablate

    hooks = [(plain_hooks.output_projection(model.hf, "llama", i), "input", without(j)) for i, j in ((0, 1), (1, 2))]
    ids = torch.tensor([edited.ids])
    with torch.no_grad(), plain_hooks.edited(*hooks):  # pyright: ignore[reportArgumentType] - hooks as a list of tuples
        expected = model.hf(ids).logits[0, -1]
    with torch.no_grad():
        before = model.hf(ids).logits[0, -1]
    torch.testing.assert_close(change.logits[0], expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(change.base_logits[0], before, atol=1e-5, rtol=0)
    p, q = before.softmax(-1), expected.softmax(-1)
    assert change.kl().item() == pytest.approx(float((p * (p / q).log()).sum()), abs=1e-4)
    assert f"{change.kl().item():.3g} nats" in kl_caption(app)


@pytest.mark.parametrize("run", ["clean", "corrupt"])
def test_either_run_of_a_pair_is_patched_from_the_other_one(app: AppTest, run: str) -> None:
    app.query_params.update({"on": "2", "kind-by-hand": "patch", "set": "1.0,1.1,1.2,1.3", "run-by-hand": f"{run} run"})
    caption = kl_caption(rerun(app))
    prompts = wb.task("ioi", n=6, seed=0)
    heads = [Head(1, j) for j in range(4)]
    expected = wb.sweep_sets(wb.load("tiny"), prompts, {"set": heads}, edit="patch", base=run, cache=False)
    assert f"{expected.base[1]:.3f} before, {expected.values[0, 1]:.3f} after".replace("-", "−") in caption
    text = wb.task("ioi", n=6, seed=0).examples()[1]
    texts = [caption.value.replace("\\", "") for caption in app.caption]
    assert f"The {run} run is edited: {text.clean if run == 'clean' else text.corrupt}" in texts
    assert (app.selectbox(key="edit").label, app.selectbox(key="on").label) == ("Sweep edit", "Edited prompt")


def test_a_row_is_forced_onto_tokens(app: AppTest) -> None:
    app.query_params["head"] = "1.2"
    rerun(app).multiselect(key="force-to").set_value([1, 3])
    rerun(app).button(key="force-it").click()
    last = len(wb.load("tiny").to_tokens(TEXT)[0]) - 1
    assert rerun(app).query_params["force"] == f"1.2@{last}>1+3"
    rows = forced_rows.parse_rows(app.query_params["force"])
    expected = Edit("pattern", 1, 2, position=last, kind="pattern", attend_to=(1, 3))
    assert [row.edit() for row in rows] == [expected] and kl_caption(app)
    app.multiselect(key="forced-rows").set_value([])
    assert "force" not in rerun(app).query_params


@pytest.mark.parametrize("text", ["9", "1.2@3>9>1", "<script>", "1.2@1>3", "1.2@999>3"])
def test_an_invalid_forced_row_is_left_out_with_a_warning(app: AppTest, text: str) -> None:
    app.query_params["force"] = f"{text},1.0@5>1"
    assert rerun(app).query_params["force"] == "1.0@5>1"
    (warning,) = [warning.value.replace("\\", "") for warning in app.warning]
    assert f"force={text}, which" in warning and not rerun(app).warning


def test_the_script_gives_what_the_page_shows(app: AppTest) -> None:
    app.query_params.update({"set": "0.1,1.2", "force": "1.0@5>1", "on": "1", "kind-by-hand": "mean"})
    run_sweep(app)
    text = app.code[0].value
    names: dict[str, Any] = {}
    with redirect_stdout(io.StringIO()):
        exec(text, names)  # noqa: S102 - the script is what is tested
    assert strongest_cells(app)["cell"].tolist() == [str(head) for head in names["sweep"].top(8)]
    differences = re.search(r"pair: (−?[\d.]+) before, (−?[\d.]+) after", kl_caption(app))
    assert differences is not None
    assert float(differences[2].replace("−", "-")) == pytest.approx(float(names["out"].scores()[0]), abs=1e-3)


def test_the_script_of_own_pairs_and_of_a_prompt() -> None:
    pair = {"clean": "Mary and John", "corrupt": "Mary and Paul", "answer": " Mary", "wrong": " John"}
    name, edited = StoredPairs((pair,), ("line 1",), "my '.csv").save(), manual_edits.EditedPrompt((1, 2))
    edits = [Edit("z", 0, kind="zero")]
    text = python_script("tiny", {"pairs": name}, {"site": "z"}, edited, 'Mary\'s "x"', edits)
    assert "clean=['Mary and John']" in text and "options" not in text
    assert "wb.run(model, 'Mary\\'s \"x\"', edits, mean_over='positions')" in text


def test_the_next_tokens_download_has_its_provenance() -> None:
    model, edits = wb.load("tiny"), (Edit("z", 0, 1, kind="zero"), Edit("z", 1, 2, kind="zero"))
    edited = manual_edits.EditedPrompt(tuple(model.to_tokens(TEXT)[0].tolist()))
    change = manual_edits.compute_change("tiny", edited, edits)
    data = json.loads(manual_edits.change_chart(change, model, edited, edits, "2 heads").json())
    assert data["model"] == "tiny" and data["prompt"] == TEXT
    assert [(edit["layer"], edit["head"], edit["kind"]) for edit in data["edits"]] == [(0, 1, "zero"), (1, 2, "zero")]


def test_a_forced_row_of_a_longer_prompt_is_named_and_does_not_come_back(app: AppTest) -> None:
    app.query_params["force"] = "1.2@10>3,0.1@2>0"
    rerun(app)
    assert not app.warning and len(app.multiselect(key="forced-rows").value) == 2
    app.text_area(key="prompt").set_value("Mary and John")
    rerun(app)
    (warning,) = (warning.value.replace("\\", "") for warning in app.warning)
    assert warning == "This prompt or model does not have the forced row 1.2@10>3. Left out."
    assert app.query_params["force"] == "0.1@2>0"
    app.text_area(key="prompt").set_value(TEXT)
    assert [str(row) for row in rerun(app).multiselect(key="forced-rows").value] == ["0.1@2>0"] and not app.warning


def test_a_forced_row_of_an_edited_head_is_overridden() -> None:
    rows = forced_rows.parse_rows("1.2@5>1,0.1@3>0")
    heads = [Head(1, 2), Head(0, 1)]
    assert forced_rows.overridden_heads(rows, heads, True, 5) == ["0.1", "1.2"]
    assert forced_rows.overridden_heads(rows, heads, False, 5) == ["1.2"]
    assert forced_rows.overridden_heads(rows, [], True, 5) == []
