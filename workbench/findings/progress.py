"""What a finding reports while it runs: how far it is, and which tables and figures are ready."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Picture
    from plotly.graph_objects import Figure


class Progress(Protocol):
    """Receives the steps of a running finding, and results that are ready before its report."""

    def __call__(self, done: int, total: int, what: str) -> None:
        """`done` of `total` steps of `what` are finished."""
        ...

    def publish(
        self,
        name: str,
        *,
        table: pd.DataFrame | None = None,
        figure: Figure | None = None,
        picture: Picture | None = None,
    ) -> None:
        """A table or figure that is ready before the report; the report may replace it under the same name."""
        ...


@dataclass(frozen=True)
class Quiet:
    """A `Progress` that drops early results, and passes steps on to `tell`, if any."""

    tell: Callable[[int, int, str], None] | None = None

    def __call__(self, done: int, total: int, what: str) -> None:
        if self.tell is not None:
            self.tell(done, total, what)

    def publish(self, name: str, *, table: Any = None, figure: Any = None, picture: Any = None) -> None:
        pass
