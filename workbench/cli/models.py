"""``workbench models list`` and ``workbench models fetch NAME``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from workbench.cli import progress
from workbench.cli.answer import Answer, AsJson, table
from workbench.cli.choices import check_name
from workbench.models import catalog

verbs = typer.Typer(help="List and fetch models: models list, models fetch NAME.", rich_markup_mode=None)


@verbs.command("list")
def list_models(as_json: AsJson = False) -> Answer:
    """List the catalogue: names, sizes, licences and sources."""
    from workbench.models import sources

    rows = [{**_row(entry), "status": sources.status(entry.name)} for entry in catalog.entries().values()]

    def show(console: Any) -> None:
        columns = ("name", "status", "parameters", "file", "licence", "source")
        cells = [
            (r["name"], r["status"], _count(r["parameters"]), _size(r["size"]), _licence(r), _origin(r)) for r in rows
        ]
        console.print(table(columns, cells, right=("parameters", "file")))
        console.print(
            f"The default is {catalog.DEFAULT}. In place of a name, a directory, a .gguf file or a hub id works too."
        )

    return Answer({"default": catalog.DEFAULT, "models": rows}, show)


@verbs.command("fetch")
def fetch_model(
    name: Annotated[str, typer.Argument(help="The name of a model in the catalogue.")],
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="You have read the licence and accept its terms.")
    ] = False,
    as_json: AsJson = False,
) -> Answer:
    """Fetch a model, check its SHA-256 hash and save it."""
    check_name("model", name, catalog.entries())
    from workbench.models import sources

    with progress.on_stderr() as display:
        folder = sources.fetch(name, accept_licence=accept_licence, progress=display)
    document = {**_row(catalog.get(name)), "path": str(folder)}
    return Answer(document, lambda console: console.print(f"{name} is verified and saved in {folder}"))


def _row(entry: catalog.Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "modality": entry.modality,
        "parameters": entry.parameters,
        "size": entry.size,
        "licence": entry.licence,
        "licence_url": entry.licence_url,
        "acceptance_needed": bool(entry.terms),
        "family": entry.family,
        "origin": entry.origin,
        "sha256": entry.sha256,
        "note": entry.note,
    }


def _licence(row: dict[str, Any]) -> str:
    return f"{row['licence']} (must be accepted)" if row["acceptance_needed"] else row["licence"]


def _origin(row: dict[str, Any]) -> str:
    wheels = row["origin"].count(" + ") + 1
    return row["origin"] if wheels == 1 else f"{wheels} wheels, joined"


def _count(parameters: int | None) -> str:
    return "–" if parameters is None else f"{parameters / 1e6:.{0 if parameters >= 10e6 else 2}f} M"


def _size(size: int | None) -> str:
    return "–" if size is None else f"{size / 1e6:.0f} MB"
