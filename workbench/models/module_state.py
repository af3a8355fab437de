"""What modules keep from one forward to the next beside their parameters.

Dynamic rope takes its frequencies from the longest input that it has seen since the last short one, so that what it
gives for an input depends on what was run before. Runs of the workbench leave every module as they found it: they
depend on their input alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn


def modules_with_state(model: nn.Module) -> list[nn.Module]:
    """Those that have buffers."""
    return [module for module in model.modules() if module._buffers]


@contextmanager
def state_put_back(modules: Sequence[nn.Module]) -> Iterator[None]:
    """While it lasts, modules may enter other buffers and numbers; then they have again what they had before."""
    before = [(dict(module._buffers), _attributes(module)) for module in modules]
    try:
        yield
    finally:
        for module, (buffers, attributes) in zip(modules, before, strict=True):
            module._buffers.update(buffers)
            vars(module).update(attributes)


def _attributes(module: nn.Module) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if not name.startswith("_")}
