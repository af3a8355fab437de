"""`ImageAttention`: the patterns of a layer's heads on an image, as maps over its patches."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8

from workbench import arguments
from workbench.core import Head
from workbench.errors import UnknownName
from workbench.io.tables import printed
from workbench.plotting import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Picture

#: How much of a colour lies over the picture.
OPACITY = 0.7


@dataclass(frozen=True, eq=False, repr=False)
class ImageAttention:
    """The attention of every head of a layer on one image, see `workbench.attention_on_image`.

    Attributes:
        pattern: ``[head, dest, src]``.
        grid: rows and columns of patches.
        added: the names of the positions before the patches, such as ``("cls",)``.
        pixels: the picture that the model sees, 0 to 255, cut to the patches that it reads.
        layer: which layer.
        model, image: their names.
        is_shares: whether each row is shares of attention; else its entries are those of the operator's matrix.
        patch_labels: the names of the patches, where they are others than ``"row,column"``.

    Examples:
        >>> import numpy as np
        >>> image = wb.images([np.arange(64, dtype=np.uint8).reshape(8, 8)])
        >>> seen = wb.attention_on_image(wb.load("digits-vit"), image, layer=0)
        >>> seen.labels[:3], seen.table(head=0, position="2,3").columns.tolist()
        (('cls', '0,0', '0,1'), ['position', 'row', 'column', 'weight'])
    """

    pattern: Float[np.ndarray, "head dest src"]
    grid: tuple[int, int]
    added: tuple[str, ...]
    pixels: UInt8[np.ndarray, "height width channel"]
    layer: int
    model: str = ""
    image: str = ""
    is_shares: bool = True
    patch_labels: tuple[str, ...] = ()

    def __repr__(self) -> str:
        n, positions = self.pattern.shape[:2]
        model = f" of {self.model}" if self.model else ""
        return f"<attention of {n} heads of layer {self.layer}{model} on {self.image}, {positions} positions>"

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """A name for each position: those of `added`, then ``"row,column"`` of each patch."""
        rows, columns = self.grid
        places = self.patch_labels or [f"{row},{column}" for row in range(rows) for column in range(columns)]
        return (*self.added, *places)

    @property
    def units(self) -> str:
        """What the entries of `pattern` are."""
        return "attention weight" if self.is_shares else "entry of the operator's matrix"

    def index(self, position: str | int) -> int:
        """The index of a position, given by its label or index.

        Raises:
            UnknownName: no position has this label; the nearest are suggested.
            UsageError: no such index.
        """
        if not isinstance(position, str):
            return arguments.index("position", position, len(self.labels), "position")
        if position not in self.labels:
            raise UnknownName("position", position, self.labels, argument="position")
        return self.labels.index(position)

    def weights(self, head: int, position: str | int) -> Float[np.ndarray, " src"]:
        """What a head attends to from a position: that row of its pattern.

        Raises:
            UnknownName, UsageError: no such head or position.
        """
        head = arguments.index("head", head, len(self.pattern), "head")
        return self.pattern[head, self.index(position)]

    def patches(self, head: int, position: str | int) -> Float[np.ndarray, "row column"]:
        """`weights` of the patches, in rows and columns.

        Raises:
            UnknownName, UsageError: no such head or position.
        """
        return self.weights(head, position)[len(self.added) :].reshape(self.grid)

    def table(self, head: int, position: str | int) -> pd.DataFrame:
        """`weights` with the label, row and column of each position, in the model's order; positions that are no
        patches have neither row nor column.

        Raises:
            UnknownName, UsageError: no such head or position.
        """
        import pandas as pd

        weights, (rows, columns) = self.weights(head, position), self.grid
        none = [None] * len(self.added)
        places = {"row": np.repeat(np.arange(rows), columns), "column": np.tile(np.arange(columns), rows)}
        numbers = {name: pd.array([*none, *place.tolist()], dtype="Int64") for name, place in places.items()}
        return pd.DataFrame({"position": self.labels, **numbers, "weight": weights})

    def picture(self, head: int, position: str | int) -> Picture:
        """The image with its patches, and the map of `patches` over it; the weights of other positions are written
        above.

        Raises:
            UnknownName, UsageError: no such head or position.
        """
        from matplotlib import colormaps
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.patches import Rectangle

        weights, at = self.patches(head, position), self.index(position)
        (rows, columns), signed = self.grid, bool((weights < 0).any())
        figure = Figure(figsize=(8.4, 4.4), layout="constrained")
        FigureCanvasAgg(figure)
        plain, mapped = figure.subplots(1, 2)
        extent = (-0.5, columns - 0.5, rows - 0.5, -0.5)
        colour = np.broadcast_to(self.pixels, (*self.pixels.shape[:2], 3))
        for axes in (plain, mapped):
            axes.imshow(colour, extent=extent, interpolation="nearest")
            axes.set_xlabel("column of patches")
            axes.set_ylabel("row of patches")
            axes.set_xticks(*style.sparse_ticks([str(i) for i in range(columns)], 16))
            axes.set_yticks(*style.sparse_ticks([str(i) for i in range(rows)], 16))
            if at >= len(self.added):
                row, column = divmod(at - len(self.added), columns)
                frame = {"fill": False, "edgecolor": style.MARK, "linewidth": 2}
                axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, **frame))
        limit = style.limit(weights)
        colours = mapped.imshow(
            weights,
            cmap=colormaps[style.DIVERGING if signed else style.SEQUENTIAL].with_extremes(bad=style.BLANK),
            vmin=-limit if signed else 0,
            vmax=limit,
            alpha=OPACITY,
            extent=extent,
            interpolation="nearest",
        )
        figure.colorbar(colours, ax=mapped, label=self.units, fraction=0.05, pad=0.03).outline.set_visible(False)
        title = " · ".join(filter(None, (self.model, self.title(head, position))))
        figure.suptitle(textwrap.fill(title, 90), fontsize=11, parse_math=False)
        if self.added:
            to = self.weights(head, position)
            others = ", ".join(f"{name} {printed(float(to[i]))}" for i, name in enumerate(self.added))
            mapped.set_title(f"not patches: {others}", fontsize=8)
        return figure

    def title(self, head: int, position: str | int) -> str:
        """What a picture or map shows.

        Raises:
            UnknownName, UsageError: no such head or position.
        """
        head = arguments.index("head", head, len(self.pattern), "head")
        return f"Head {Head(self.layer, head)} on {self.image}, from {self.labels[self.index(position)]}"
