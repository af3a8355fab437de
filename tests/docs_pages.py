"""The pages of the documentation and the blocks of code in them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from workbench.registry import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if path.parent.name != "decisions")
#: The model that pages load, and the one that tests load in its place.
MODEL, TINY = "smollm2-135m-instruct-q4", "tiny"
EXAMPLES = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "examples").glob("*.py"))]
_BLOCK = re.compile(r"^(<!-- not run: [^\n]+ -->\n)?```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and whether the page says that it is not run."""

    language: str
    text: str
    run: bool


def blocks(text: str, *languages: str) -> list[Block]:
    """The blocks of a page in some languages (all by default), in their order."""
    parsed = [Block(language, code, not skipped) for skipped, language, code in _BLOCK.findall(text)]
    return [block for block in parsed if not languages or block.language in languages]


def script(text: str) -> str:
    """All Python of a page that is to be run, as one script on the tiny model; the examples are run by tests of their
    own, on a model that knows their words."""
    run = [block.text for block in blocks(text, "python") if block.run and block.text not in EXAMPLES]
    return "\n".join(run).replace(MODEL, TINY)
