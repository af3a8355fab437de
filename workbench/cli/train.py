"""``workbench train NAME``: train one of the workbench's own models again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from workbench import registry
from workbench.cli import progress
from workbench.cli.answer import Answer, AsJson, table
from workbench.cli.choices import check_name
from workbench.registry import RECIPES


def train(
    name: Annotated[str | None, typer.Argument(help="The model; without it, the models are listed.")] = None,
    into: Annotated[
        Path | None, typer.Option("--into", metavar="FOLDER", help="Where it is written (default: ./NAME).")
    ] = None,
    as_json: AsJson = False,
) -> Answer:
    """Train one of the workbench's own small models; interrupted, it continues where it was."""
    if name is None:
        return _list()
    check_name("model", name, RECIPES.names())
    folder = (into or Path(name)).resolve()
    train_into = registry.imported("data.training.kit.command").train_into
    with progress.on_stderr() as display:
        document: dict[str, Any] = train_into(RECIPES[name], folder, display)
    shipped = registry.imported("data.training.kit.card").shipped(name)
    document |= {"shipped_sha256": shipped, "is_shipped": document["sha256"] == shipped}
    rows = [(m["measure"], m["value"], "–" if m["at_least"] is None else m["at_least"]) for m in document["measured"]]

    def show(console: Any) -> None:
        console.print(table(("measure", "value", "at least"), rows, right=("value", "at least")))
        same = "the same bits as the shipped one" if document["is_shipped"] else "not the same bits as the shipped one"
        console.print(f"{name} is in {document['folder']}: {same} (SHA-256 {document['sha256']})")

    return Answer(document, show)


def _list() -> Answer:
    rows = [{"name": name, "what": RECIPES.summary(name)} for name in RECIPES.names()]

    def show(console: Any) -> None:
        console.print(table(("name", "what"), [(row["name"], row["what"]) for row in rows]))
        console.print("Train one:  workbench train digits-vit")

    return Answer({"recipes": rows}, show)
