"""The name of a model that lies on this machine, as results have it: never where it lies."""

from __future__ import annotations

from pathlib import Path


def local_name(name: str) -> str:
    """A model's name as results have it: ``./NAME`` for a path that says where it lies on this machine (absolute, from
    the home folder, or out of the current one), else the name itself.

    The ``./`` tells a folder from a model of the catalogue or the hub that has its name: ``gpt2`` in a result is that
    of the hub, and a folder named so is ``./gpt2``. To repeat such a run, put the folder into the one you work in.

    >>> local_name("/home/me/models/my-model"), local_name("gpt2"), local_name("models/mine")
    ('./my-model', 'gpt2', 'models/mine')
    """
    path = Path(name)
    if path.is_absolute() or name.startswith("~") or ".." in path.parts:
        return f"./{path.expanduser().resolve().name}"
    return name
