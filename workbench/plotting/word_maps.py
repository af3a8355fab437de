"""`WordMaps`: what the patches of an image attend to among the words of its prompt, as maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from workbench import arguments
from workbench.errors import UnknownName
from workbench.plotting import style
from workbench.plotting.image_attention import OPACITY

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Picture

#: Maps side by side.
COLUMNS = 5


@dataclass(frozen=True, eq=False, repr=False)
class WordMaps:
    """Attention between the words of a prompt and the patches of an image, see `workbench.words_on_image`.

    Attributes:
        maps: ``[word, head, row, column]``.
        words: their names.
        name: the hook point, with its step.
        model: its name.
        units: what the entries are.

    Examples:
        >>> import numpy as np
        >>> maps = wb.WordMaps(np.full((2, 3, 4, 4), 0.1), ("a", "dog"), "blocks.0.attn.hook_pattern@0", "", "weight")
        >>> maps.of("dog").shape, maps.table().columns.tolist()
        ((4, 4), ['word', 'head_index', 'row', 'column', 'weight'])
    """

    maps: Float[np.ndarray, "word head row column"]
    words: tuple[str, ...]
    name: str
    model: str
    units: str

    def __repr__(self) -> str:
        rows, columns = self.maps.shape[2:]
        return f"<{len(self.words)} words over {rows} × {columns} patches at {self.name}>"

    def of(self, word: str, head: int | None = None) -> Float[np.ndarray, "row column"]:
        """The map of a word in a head, or its mean over all heads.

        Raises:
            UnknownName, UsageError: no such word or head.
        """
        if arguments.text("word", word) not in self.words:
            raise UnknownName("word", word, self.words, argument="word")
        maps = self.maps[self.words.index(word)]
        return maps.mean(0) if head is None else maps[arguments.index("head", head, len(maps), "head")]

    def table(self) -> pd.DataFrame:
        """A row for each word, head and patch: ``word, head_index, row, column, weight``."""
        import pandas as pd

        places = np.indices(self.maps.shape).reshape(4, -1)
        columns: dict[str, Any] = {"word": np.array(self.words, dtype=object)[places[0]]}
        columns |= {name: places[i] for i, name in enumerate(("head_index", "row", "column"), start=1)}
        return pd.DataFrame({**columns, "weight": self.maps.ravel()})

    def picture(self, head: int | None = None, pixels: Any = None) -> Picture:
        """A map for each word, on one scale, of a head or the mean over heads; over the image, where it is there.

        Args:
            pixels: an image, ``[height, width, 3]`` from 0 to 255, or a Pillow image.

        Raises:
            UsageError: no such head, or something else than an image.
        """
        from matplotlib import colormaps
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        maps = [self.of(word, head) for word in self.words]
        if pixels is not None and (np.ndim(image := np.asarray(pixels)) not in (2, 3) or image.dtype != np.uint8):
            raise arguments.refusal("pixels", pixels, "an image of bytes, [height, width, 3], or a Pillow image")
        n_rows = -(-len(maps) // COLUMNS)
        figure = Figure(figsize=(2.1 * min(COLUMNS, len(maps)) + 1, 2.3 * n_rows + 0.6), layout="constrained")
        FigureCanvasAgg(figure)
        every = figure.subplots(n_rows, min(COLUMNS, len(maps)), squeeze=False).ravel()
        rows, columns = self.maps.shape[2:]
        extent = (-0.5, columns - 0.5, rows - 0.5, -0.5)
        options = {"cmap": colormaps[style.SEQUENTIAL], "vmin": 0, "vmax": style.limit(np.stack(maps))}
        for axes in every:
            axes.set_axis_off()
        for axes, word, weights in zip(every, self.words, maps, strict=False):
            if pixels is not None:
                axes.imshow(np.asarray(pixels), extent=extent)
            axes.imshow(
                weights, extent=extent, interpolation="nearest", alpha=None if pixels is None else OPACITY, **options
            )
            axes.set_title(word, fontsize=9, parse_math=False)
        figure.colorbar(every[0].images[-1], ax=list(every), label=self.units, fraction=0.04).outline.set_visible(False)
        whose = "mean over heads" if head is None else f"head {head}"
        figure.suptitle(f"{self.model} · {self.name} · {whose}", fontsize=10)
        return figure
