"""What the documentation tells a reader to type works: its Python runs on the tiny model, its commands can be given."""

from __future__ import annotations

import ast
import inspect
import re
import runpy
import shlex
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import typer
from typer.exceptions import TyperException

import workbench as wb
from tests.docs_pages import DOCS, PAGES, TINY, blocks, script
from tests.project.test_docs_site import tool
from workbench import cli
from workbench.attention.operator import Status
from workbench.core import EDIT_KINDS, SITES
from workbench.head_scores.result import UNITS
from workbench.models.sources import resolve
from workbench.registry import METRICS, OPERATORS, ROOT

SCRIPTS = [page for page in PAGES if script(page.read_text(encoding="utf-8"))]


def run(page: Path, folder: Path, **names: Any) -> dict[str, Any]:
    """Run a page's Python in a folder; a file, because nnsight reads the source of what it traces."""
    file = folder / f"{page.stem.replace('-', '_')}.py"
    file.write_text(script(page.read_text(encoding="utf-8")), encoding="utf-8")
    return runpy.run_path(str(file), init_globals=names)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def name_of(page: Path) -> str:
    return page.relative_to(DOCS).with_suffix("").as_posix()


#: Pages that begin from nothing, and one that speaks of a session that goes on.
ALONE = [page for page in SCRIPTS if not page.name.startswith("from-") and page.name != "save.md"]


@pytest.mark.parametrize("page", ALONE, ids=name_of)
def test_the_python_of_a_page_runs(page: Path, folder: Path) -> None:
    names = {"wb": wb, "model": wb.load(TINY), "task": wb.task("ioi", n=2)} if page.name == "errors.md" else {}
    run(page, folder, **names)


def test_the_python_that_reads_a_run_runs_after_the_command_that_makes_it(folder: Path) -> None:
    page = DOCS / "howto" / "save.md"
    (command,) = re.findall(r"^workbench (reproduce circuit-reuse --n .*)$", page.read_text(encoding="utf-8"), re.M)
    assert cli.main([*command.split(), "--model", TINY]) in (0, 1)
    names = run(page, folder)
    assert names["run"].facts["config"]["n"] == 4
    assert (folder / "ioi.html").stat().st_size > 100_000


# --- the pages for people who come from elsewhere


@cache
def bridge() -> Any:
    from transformer_lens.model_bridge import TransformerBridge

    loaded = resolve(TINY)
    return TransformerBridge.boot_transformers(TINY, hf_model=loaded.hf_model, tokenizer=loaded.processor)


@cache
def traced() -> Any:
    from nnsight import TransformersModel

    loaded = resolve(TINY)
    return TransformersModel(loaded.hf_model, tokenizer=loaded.processor)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("page", "name"), [("from-transformerlens", "bridge"), ("from-nnsight", "traced")])
def test_both_columns_give_the_same_numbers(page: str, name: str, folder: Path) -> None:
    names = run(DOCS / f"{page}.md", folder, **{name: bridge() if name == "bridge" else traced()})
    counterpart = {"expected": "values", "expected_z": "z", "expected_logits": "logits"}
    assert {name for name in names if name.startswith("expected")} == set(counterpart)
    for expected, value in counterpart.items():
        a, b = (np.asarray(x.detach() if hasattr(x, "detach") else x) for x in (names[expected], names[value]))
        assert a.shape == b.shape, value
        assert np.abs(a - b).max() < 1e-4 < np.abs(a).max(), value


#: Calls in running text: `wb.sweep(model, others, where=screen.confirmed)`.
_CALL = re.compile(r"`[^`]*?((?:wb|model)\.[\w.]+\([^`]*\))[^`]*`")


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_calls_in_the_text_have_the_arguments_that_they_name(page: Path) -> None:
    for text in _CALL.findall(page.read_text(encoding="utf-8")):
        try:
            tree = ast.parse(text.replace("...", "").replace("…", "..."), mode="eval")
        except SyntaxError:
            continue  # several in a row, or one that is cut
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
                function = _looked_up(call.func)
                if function is not None:
                    names = [keyword.arg for keyword in call.keywords if keyword.arg]
                    inspect.signature(function).bind_partial(**dict.fromkeys(names))


def _looked_up(attribute: ast.Attribute) -> Any:
    """``wb.sweep`` or ``model.reset_hooks``; None for what is looked up in anything else."""
    owners: dict[str, tuple[Any, ...]] = {"wb": (wb,), "model": (wb.HookedLM, wb.HookedViT, wb.HookedDiT)}
    functions = [getattr(owner, attribute.attr, None) for owner in owners.get(getattr(attribute.value, "id", ""), ())]
    if functions and not any(functions):
        raise AttributeError(attribute.attr)
    return next(filter(None, functions), None)


def test_the_script_of_the_first_page_is_the_example() -> None:
    example = (ROOT / "examples" / "own_prompts.py").read_text(encoding="utf-8")
    assert f"```python\n{example}```" in (DOCS / "index.md").read_text(encoding="utf-8")


def test_only_blocks_that_need_other_models_are_not_run() -> None:
    skipped = [block.text for page in PAGES for block in blocks(page.read_text(encoding="utf-8")) if not block.run]
    assert len(skipped) == 5
    for text in skipped:
        assert any(name in text for name in ("load(", "boot_transformers(", "TransformersModel(", "pipe("))


# --- commands and names


def commands() -> list[str]:
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    lines = [line for text in texts for block in blocks(text, "sh") for line in block.text.splitlines()]
    return sorted({line.partition("#")[0].partition(">")[0].strip() for line in lines} - {""})


def parsed(arguments: list[str]) -> None:
    """Go through the command line's own parsers and no further."""
    command: Any = typer.main.get_command(cli.app)
    context, name = None, "workbench"
    while True:
        context = command.make_context(name, arguments, parent=context)
        if not hasattr(command, "resolve_command"):
            return
        name, command, arguments = command.resolve_command(context, [*context._protected_args, *context.args])


@pytest.mark.parametrize("command", commands())
def test_a_command_can_be_given(command: str) -> None:
    program, *arguments = shlex.split(command)
    if program == "workbench":
        parsed(arguments)
    elif program == "make":
        for target in arguments:
            assert f"\n{target}:" in (ROOT / "Makefile").read_text(encoding="utf-8")
    else:
        assert command == "source .venv/bin/activate"


def test_a_command_that_cannot_be_given_is_noticed() -> None:
    wrongs: list[str] = ["patch --tsk ioi", "ptach", "cache path --keep 3", "runs show"]
    for wrong in wrongs:
        with pytest.raises(TyperException):
            parsed(wrong.split())


def test_sites_edits_and_metrics_are_all_explained() -> None:
    text = (DOCS / "numbers.md").read_text(encoding="utf-8")
    for name in (*SITES, *EDIT_KINDS):
        assert f"`{name}`" in text, name
    assert "\n<!-- metrics: all -->\n" in text
    table = tool("pages")["rendered"]("metrics", "all", DOCS / "results", "results")
    for name in METRICS.names():
        (row,) = re.findall(rf"^\| `{name}` .*", table, re.M)
        assert row.endswith(f"| {METRICS[name].units} |") and len(row.split("|")[2]) > 15


def test_operators_are_all_explained() -> None:
    text, render = (DOCS / "operators.md").read_text(encoding="utf-8"), tool("pages")["rendered"]
    for part in re.findall(r"^<!-- operators: (\w+) -->$", text, re.M):
        text += "\n" + render("operators", part, DOCS / "results", "results")
    for name in OPERATORS.names():
        (row,) = re.findall(rf"^\| \[{name}\]\(#{name}\) .*", text, re.M)
        assert OPERATORS[name].status in row and OPERATORS.summary(name).replace("|", "\\|") in row
        section = text.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        for words in (OPERATORS[name].source, *OPERATORS[name].choices):
            assert words in section
        for setting in OPERATORS[name].settings.values():
            assert f"| {setting.what} |".replace("|e|", "\\|e\\|") in section
    howto = (DOCS / "howto" / "operators.md").read_text(encoding="utf-8")
    for status in get_args(Status):
        assert f"\n| {status} |" in howto


def test_head_scores_are_all_explained() -> None:
    text = (DOCS / "howto" / "scores.md").read_text(encoding="utf-8")
    for name, units in UNITS.items():
        (row,) = re.findall(rf"^\|[^|]*`{name}`.*$", text, re.M)
        assert row.replace("\\", "").endswith(f"| {units} |"), name
