"""What may import what, beyond the contracts of `pyproject.toml`."""

from __future__ import annotations

import ast

from tests.project import import_circles
from workbench.registry import ROOT


def test_there_is_no_import_circle(capsys):
    assert import_circles.main() == 0, capsys.readouterr().out


def test_a_circle_through_a_function_is_found_and_one_of_types_is_not(tmp_path, monkeypatch):
    package = tmp_path / "round_about"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "first.py").write_text("from round_about import second\n")
    (package / "second.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from round_about import first\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert list(import_circles.circles(["round_about"])) == []
    (package / "second.py").write_text("def late():\n    from round_about import first\n")
    (circle,) = import_circles.circles(["round_about"])
    assert circle == [
        "round_about.first:1 imports round_about.second",
        "round_about.second:2 imports round_about.first",
    ]


def test_what_draws_results_is_imported_where_it_is_used():
    """A result can be read, saved and compared without plotly and matplotlib."""
    for folder in ("results", "runs", "patching", "head_scores"):
        for path in sorted((ROOT / "workbench" / folder).rglob("*.py")):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                assert not [name for name in names if name.startswith("workbench.plotting")], path


def test_findings_and_probes_reach_other_packages_of_ours_by_their_place():
    """A user's own ``probes.py`` or ``data.py`` beside a script would hide ours from a plain import."""
    packages = ("circuits", "probes", "data")  # their own files they import relatively
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            of_types = [x for x in ast.walk(tree) if isinstance(x, ast.If) and "TYPE_CHECKING" in ast.unparse(x.test)]
            for node in {*ast.walk(tree)} - {x for block in of_types for x in ast.walk(block)}:
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
                names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                absolute = [name for name in names if name.partition(".")[0] in packages]
                assert not absolute, (
                    f"{path}: import {absolute[0]} relatively, or by registry.imported({absolute[0]!r})"
                )
