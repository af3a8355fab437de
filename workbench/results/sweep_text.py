"""How a sweep's edit is said in a line: where it is made, and of which run."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.results.sweep import Sweep


def at_positions(sweep: Sweep) -> str:
    """``" at S2, end"`` where only some positions are edited, all of them at once; empty for every position, and where
    positions are an axis."""
    positions = sweep.info.get("positions")
    if positions is None or positions == "all" or "position" in sweep.axes:
        return ""
    return f" at {', '.join(map(str, positions)) if isinstance(positions, list | tuple) else positions}"


def base_or_direction(sweep: Sweep) -> str:
    """``"denoise"`` or ``"noise"`` where the values come from the other run; else the run that is edited, ``"clean
    run"``, since other edits have no direction. Empty where it is not known."""
    direction = str(sweep.info.get("direction") or "")
    if sweep.source is not None or not direction:
        return direction
    return "clean run" if direction == "noise" else "corrupt run"
