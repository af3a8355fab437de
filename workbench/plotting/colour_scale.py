"""From values to colours: linear, by the square root, or by the logarithm of the magnitude, in a stated range."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from workbench.io.tables import printed

LINEAR, ROOT, LOG = COLOURS = ("linear", "square root", "log")
#: The log scale ends at ``limit · 10^-DECADES``: smaller values have the colour of 0.
DECADES = 4
#: Ticks, as shares of the limit.
_TICKS = {
    LINEAR: (0.0, 0.25, 0.5, 0.75, 1.0),
    ROOT: (0.0, 0.01, 0.1, 0.25, 0.5, 1.0),
    LOG: tuple(10.0**-k for k in range(DECADES, -1, -1)),
}


@dataclass(frozen=True)
class ColourScale:
    """How values are coloured.

    Attributes:
        kind: one of `COLOURS`.
        limit: the value of the last colour.
        diverging: whether the scale goes from −limit to limit, by the magnitude on both sides; else from 0 to limit.
    """

    kind: str = LINEAR
    limit: float = 1.0
    diverging: bool = False

    def shares(self, values: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """Where each value is on the scale: 0 to 1, −1 to 1 of a diverging one; NaN stays NaN.

        Linear ``x``, square root ``√x``, log ``1 + log₁₀(x) / DECADES`` and at least 0, of ``x = |value| / limit``.
        """
        x = np.minimum(np.abs(values) / self.limit, 1.0)
        if self.kind == ROOT:
            x = np.sqrt(x)
        elif self.kind == LOG:
            x = np.maximum(1 + np.log10(np.maximum(x, 10.0 ** -(DECADES + 1))) / DECADES, 0.0)
        return np.sign(values) * x if self.diverging else np.where(values < 0, 0.0, x)

    def ticks(self) -> list[tuple[float, float, str]]:
        """Marks of a colour bar, upwards: value, share, and the value as text."""
        upper = self.limit * np.array(_TICKS[self.kind])
        values = np.concatenate([-upper[:0:-1] if upper[0] == 0 else -upper[::-1], upper]) if self.diverging else upper
        floor = upper[0] if self.kind == LOG else -1.0
        shares = self.shares(values)
        return [
            (float(value), float(share), f"≤ {printed(value)}" if abs(value) == floor else printed(value))
            for value, share in zip(values, shares, strict=True)
            if not (self.diverging and value == -floor)  # ±floor are one colour
        ]

    @property
    def name(self) -> str:
        """The scale in words, for a colour bar; empty for a linear one."""
        return {LINEAR: "", ROOT: "square-root colours", LOG: f"log colours down to {printed(self.floor)}"}[self.kind]

    @property
    def floor(self) -> float:
        """The magnitude below which all values have one colour."""
        return self.limit * 10.0**-DECADES if self.kind == LOG else 0.0
