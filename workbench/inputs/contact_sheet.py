"""Several images on one, to look at them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

#: Images side by side, the pixels that a small one is enlarged to at least, and the pixels between two.
COLUMNS, AT_LEAST, GAP = 8, 112, 4
#: Pixels of a line below.
CAPTION = 20


def contact_sheet(rows: Sequence[Sequence[Image]], caption: str = "") -> Image:
    """Images in rows and columns on one, small ones enlarged without smoothing; a caption is written below them."""
    from PIL import Image, ImageDraw

    every = [image for row in rows for image in row]
    factor = _factor(max(max(image.size) for image in every), AT_LEAST)
    width, height = (max(image.size[axis] for image in every) * factor for axis in (0, 1))
    columns = max(map(len, rows))
    sheet = Image.new("RGB", (columns * (width + GAP) - GAP, len(rows) * (height + GAP) - GAP), "white")
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            large = _times(image, factor)
            sheet.paste(large.convert("RGB"), (j * (width + GAP), i * (height + GAP)))
    if caption:
        rows_end = sheet.height
        sheet = sheet.crop((0, 0, sheet.width, rows_end + CAPTION))
        ImageDraw.Draw(sheet).rectangle((0, rows_end, sheet.width, rows_end + CAPTION), fill="white")
        ImageDraw.Draw(sheet).text((GAP, rows_end + GAP), caption, fill="black")
    return sheet


def in_lines(rows: Sequence[Sequence[Image]], columns: int) -> list[Sequence[Image]]:
    """Rows of equal length with so many images side by side: the first of every row, the next ones below them."""
    return [row[start : start + columns] for start in range(0, len(rows[0]), columns) for row in rows]


def first_of(k: int, n: int, what: str) -> str:
    """The caption where only some are shown: ``"the first 8 of 20 pairs"``; empty where all are."""
    return f"the first {k} of {n} {what}" if k < n else ""


def enlarged(image: Image, at_least: int = AT_LEAST) -> Image:
    """An image whose longer side has so many pixels at least, enlarged by a whole number without smoothing."""
    return _times(image, _factor(max(image.size), at_least))


def _factor(pixels: int, at_least: int) -> int:
    return max(1, -(-at_least // pixels))


def _times(image: Image, factor: int) -> Image:
    from PIL import Image as pillow

    return image.resize((image.width * factor, image.height * factor), pillow.Resampling.NEAREST)


def png(image: Image) -> bytes:
    """As the bytes of a PNG file."""
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()
