"""No file of ours imports another in a circle, imports inside functions included; those for type checking are not.

``python -m tests.project.import_circles`` lists what it finds; `make lint` runs it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

import grimp
import networkx as nx

PACKAGES = ("workbench", "circuits", "probes", "data", "app")


def circles(packages: Iterable[str] = PACKAGES) -> Iterator[list[str]]:
    """Each set of files in which every file reaches every other, as lines ``importer:line imports file``."""
    imports = grimp.build_graph(*packages, exclude_type_checking_imports=True, cache_dir=None)
    graph = nx.DiGraph(
        (importer, imported)
        for importer in imports.modules
        for imported in imports.find_modules_directly_imported_by(importer)
    )
    for files in nx.strongly_connected_components(graph):
        if len(files) > 1:
            yield sorted(
                f"{importer}:{imports.get_import_details(importer=importer, imported=imported)[0]['line_number']} "
                f"imports {imported}"
                for importer, imported in graph.subgraph(files).edges
            )


def main() -> int:
    failed = False
    for circle in circles():
        failed = True
        print("An import circle:", *circle, sep="\n  ")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
