"""Several images on one, to look at them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

#: Images side by side, the pixels that a small one is enlarged to at least, and the pixels between two.
COLUMNS, AT_LEAST, GAP = 8, 112, 4


def contact_sheet(rows: Sequence[Sequence[Image]]) -> Image:
    """Images in rows and columns on one, small ones enlarged without smoothing."""
    from PIL import Image

    every = [image for row in rows for image in row]
    factor = max(1, -(-AT_LEAST // max(max(image.size) for image in every)))
    width, height = (max(image.size[axis] for image in every) * factor for axis in (0, 1))
    columns = max(map(len, rows))
    sheet = Image.new("RGB", (columns * (width + GAP) - GAP, len(rows) * (height + GAP) - GAP), "white")
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            large = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
            sheet.paste(large.convert("RGB"), (j * (width + GAP), i * (height + GAP)))
    return sheet


def png(image: Image) -> bytes:
    """As the bytes of a PNG file."""
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()
