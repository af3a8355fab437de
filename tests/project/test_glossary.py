"""The glossary: each term once, in order, explained briefly, and its links lead to a term."""

from __future__ import annotations

import re

from tests.docs_pages import DOCS

TEXT = (DOCS / "glossary.md").read_text(encoding="utf-8")
TERMS = re.findall(r"^### (.+)\n\n(.+)$", TEXT, re.M)


def test_each_term_stands_once_in_order_and_is_explained_briefly() -> None:
    names = [name.lower() for name, _ in TERMS]
    assert names == sorted(set(names)) and len(names) == TEXT.count("### ")
    assert [name for name, meaning in TERMS if not meaning.endswith(".") or len(meaning) > 250] == []


#: What nobody can read the other pages without.
NEEDED = """head, site, hook name, task, pair, edit, recording, sweep, cell, effect, circuit, role, light cone, batch,
prefix, depth, stage, gate, finding, verdict, run, edge, path patching, screen, result cache, shard, results version,
split half"""


def test_the_terms_of_the_workbench_are_explained() -> None:
    names = ", ".join(name.lower() for name, _ in TERMS).split(", ")
    assert set(re.split(r",\s+", NEEDED)) <= set(names)
