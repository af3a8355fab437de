"""The reference pages, generated from ``workbench/__init__.pyi``: a page for each module, with its public names."""

from __future__ import annotations

import ast

from workbench.registry import ROOT

#: Headings of the pages; a module that is not listed is headed by its name.
TITLES = {
    "core": "Heads and edits",
    "inputs": "Tasks and pairs",
    "patching": "Patching and recording",
    "plotting": "Attention patterns",
    "testing": "Checks for your own tasks, findings and models",
}


def public_names() -> dict[str, list[str]]:
    """The public names of the workbench by the folder or file of ``workbench`` that they come from."""
    tree = ast.parse((ROOT / "workbench" / "__init__.pyi").read_text(encoding="utf-8"))
    names: dict[str, list[str]] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                module = node.module.split(".")[0] if node.module else alias.name
                names.setdefault(module, []).append(alias.name)
    return dict(sorted(names.items()))


def title(module: str) -> str:
    """The heading of a module's page."""
    return TITLES.get(module, module.replace("_", " ").capitalize())


def page(module: str, names: list[str]) -> str:
    """The Markdown of a module's page: the docstring of each name."""
    return "\n\n".join([f"# {title(module)}", *(f"::: workbench.{name}" for name in names)]) + "\n"
