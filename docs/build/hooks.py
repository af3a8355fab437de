"""Hooks of mkdocs: pages generated from the project's own files, and findings with their results."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

import pages
import reference
from mkdocs.structure.files import File

from workbench.registry import FINDINGS, ROOT

#: Files of the project's root that are pages too.
FROM_ROOT = {name: f"{name.lower()}.md" for name in ("CONTRIBUTING", "SECURITY", "CHANGELOG")}
#: A page that stands beside the code it explains.
ENGINE = ("workbench/patching/README.md", "engine.md")
_ROOT_LINK = re.compile(rf"\]\(((?:\.\./)*)({'|'.join(FROM_ROOT)})\.md")
_MARKER = re.compile(r"^<!-- ([\w-]+): ([\w-]+) -->$", re.MULTILINE)


def on_config(config: Any) -> Any:
    """Fill the lists of the navigation that are folders."""
    findings = [{"Overview": "findings/index.md"}, *_findings()]
    api = [{reference.title(module): f"reference/{module}.md"} for module in reference.public_names()]
    _fill(config.nav, {"findings/": findings, "decisions/": _pages(config, "decisions"), "reference/": api})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that have no file of their own under docs."""
    root = Path(config.config_file_path).parent
    for name, page in FROM_ROOT.items():
        text = (root / f"{name}.md").read_text(encoding="utf-8").replace("](docs/", "](")
        files.append(File.generated(config, page, content=text))
    source, page = ENGINE
    text = (ROOT / source).read_text(encoding="utf-8").replace("](../../docs/", "](")
    files.append(File.generated(config, page, content=text))
    for page in _findings():
        if files.get_file_from_path(page) is None:
            files.append(File.generated(config, page, content=pages.plain_page(posixpath.basename(page)[:-3])))
    for module, names in reference.public_names().items():
        files.append(File.generated(config, f"reference/{module}.md", content=reference.page(module, names)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Point links to the project's root files at their pages, and replace the markers of findings."""
    markdown = _ROOT_LINK.sub(lambda link: f"]({link[1].removeprefix('../')}{link[2].lower()}.md", markdown)
    results = Path(config.docs_dir) / "results"
    up = posixpath.relpath("results", posixpath.dirname(page.file.src_uri) or ".")
    return _MARKER.sub(lambda marker: pages.rendered(marker[1], marker[2], results, up), markdown)


def _findings() -> list[str]:
    return [f"findings/{name}.md" for name in FINDINGS.names()]


def _pages(config: Any, folder: str) -> list[str]:
    return sorted(path.relative_to(config.docs_dir).as_posix() for path in Path(config.docs_dir, folder).glob("*.md"))


def _fill(items: list[Any], folders: dict[str, list[Any]]) -> None:
    for item in items:
        for title, inside in item.items() if isinstance(item, dict) else ():
            if isinstance(inside, list):
                _fill(inside, folders)
            elif inside in folders:
                item[title] = folders[inside]
