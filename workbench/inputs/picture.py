"""One picture of whatever kind, read as whole numbers ``[row, column, channel]``, with its name and its hash.

Files come from outside: their size, format and number of frames are bounded here, and only Pillow's readers of common
formats see them.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from workbench import arguments
from workbench.errors import BadInput
from workbench.io.files import read_at_most

if TYPE_CHECKING:
    from PIL.Image import Image

#: Bytes that a file may have, and pixels that a picture may have.
MOST_FILE, MOST_PIXELS = 100_000_000, 50_000_000
#: What is read, by the endings of files: no format whose reader runs another program.
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
#: What Pillow raises on files that are damaged.
_DAMAGED = (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, OverflowError, struct.error)

Pixels = UInt8[np.ndarray, "row column channel"]


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture.

    Attributes:
        pixels: 0 to 255, with one channel (grey) or three (red, green, blue).
        name: that of its file, or ``"image 2"``.
        sha256: of the file's bytes; of a picture that comes from no file, of its shape and pixels.
    """

    pixels: Pixels
    name: str
    sha256: str

    @classmethod
    def of(cls, pixels: Pixels, name: str) -> Picture:
        """A picture that comes from no file."""
        pixels = np.ascontiguousarray(pixels)
        pixels.flags.writeable = False
        return cls(pixels, name, hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).hexdigest())

    def image(self) -> Image:
        """As a Pillow image."""
        from PIL import Image

        return Image.fromarray(self.pixels[..., 0] if self.pixels.shape[-1] == 1 else self.pixels)


def read_picture(value: Any, argument: str, name: str) -> Picture:
    """A path, a Pillow image, an array, a tensor or what a `datasets` column holds, as a picture.

    Args:
        argument: where it was given, for refusals: ``"images[2]"``.
        name: what messages call the picture where it comes from no file: ``"image 2"``.

    Raises:
        UsageError: something else, or numbers of another shape or range.
        BadInput: a file that cannot be read as one picture.
    """
    if isinstance(value, dict) and set(value) == {"bytes", "path"}:  # a datasets column that is not decoded
        data, path = value["bytes"], value["path"]
        return _of_file(data, Path(path).name if path else name) if data else read_picture(path, argument, name)
    if isinstance(value, str | os.PathLike):
        return _from_path(arguments.file_path(argument, value, "the path of an image"))
    if hasattr(value, "convert") and hasattr(value, "mode"):
        return Picture.of(_of_image(value, name), name)
    tensor: Any = value
    if hasattr(tensor, "detach"):
        array = tensor.detach().cpu()
        return Picture.of(_of_array((array.float() if array.is_floating_point() else array).numpy(), argument, 0), name)
    if isinstance(value, np.ndarray):
        return Picture.of(_of_array(value, argument, -1), name)
    raise arguments.refusal(argument, value, "a path, a PIL image, or an array [row, column, channel]")


def _from_path(path: Path) -> Picture:
    try:
        with path.open("rb") as file:
            data = read_at_most(file, MOST_FILE + 1)
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file. Check the path; it is taken from {Path.cwd()}.") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}). Give a readable file.") from None
    return _of_file(data, path.name)


def _of_file(data: bytes, name: str) -> Picture:
    from PIL import Image, ImageOps

    if len(data) > MOST_FILE:
        raise BadInput(f"{name}: more than {MOST_FILE // 10**6} MB. Give a smaller image.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata, which changes no pixel
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                if (frames := getattr(image, "n_frames", 1)) > 1:
                    raise BadInput(f"{name}: {frames} frames. Give one of them as an image of its own.")
                _check_size(image.height, image.width, name)
                image.load()
                turned = ImageOps.exif_transpose(image)  # as transformers' load_image does
                pixels = _of_image(turned, name)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadInput(f"{name}: more than {MOST_PIXELS // 10**6} million pixels. Give a smaller image.") from None
    except Image.UnidentifiedImageError:
        raise BadInput(f"{name}: not an image that can be read. Give a file of {', '.join(FORMATS)}.") from None
    except _DAMAGED as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadInput(f"{name}: the file is damaged ({reason:.80}). Give one that opens in an image viewer.") from None
    picture = Picture.of(pixels, name)
    return Picture(picture.pixels, name, hashlib.sha256(data).hexdigest())


def _check_size(rows: int, columns: int, name: str) -> None:
    if rows * columns > MOST_PIXELS:
        raise BadInput(f"{name}: {rows} × {columns} pixels, more than {MOST_PIXELS // 10**6} million. Give fewer.")
    if not rows * columns:
        raise BadInput(f"{name}: {rows} × {columns} pixels. Give an image that has some.")


def _of_image(image: Any, name: str) -> Pixels:
    """The pixels of a Pillow image: grey ones with one channel, palettes and CMYK as RGB."""
    mode = image.mode
    _check_size(image.height, image.width, name)
    if image.has_transparency_data:
        alpha = np.asarray(image.convert("RGBA"))[..., 3]
        if alpha.min() < 255:
            raise BadInput(f"{name}: parts of it are transparent. Put it on a ground of one colour.")
        mode = {"LA": "L", "La": "L"}.get(mode, "RGB")
    if mode in ("I", "F") or mode.startswith("I;"):
        raise BadInput(f"{name}: pixels of mode {mode}, not of 8 bits. Scale them to 0 to 255 and save 8 bits.")
    required = "L" if mode in ("1", "L") else "RGB"
    pixels = np.asarray(image if image.mode == required else image.convert(required))
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _of_array(array: np.ndarray, name: str, channels: int) -> Pixels:
    """The pixels of an array: ``[row, column]``, or with its channels first or last (`channels`, where it may be
    either)."""
    as_typed = array
    if array.ndim == 2:
        array, channels = array[..., None], -1
    places = [axis for axis in (channels, -1 - channels) if array.ndim == 3 and array.shape[axis] in (1, 3)]
    if not places or not array.size:
        expected = "[row, column], [row, column, channel] or [channel, row, column] with 1 or 3 channels"
        raise arguments.refusal(name, as_typed, expected)
    array = np.moveaxis(array, places[0], -1)
    _check_size(array.shape[0], array.shape[1], name)
    if array.dtype == np.uint8:
        return array.copy()
    if array.dtype == bool:
        return array.astype(np.uint8) * np.uint8(255)
    expected = "whole numbers of uint8 from 0 to 255, or floating-point numbers from 0 to 1"
    if array.dtype.kind not in "fiu":
        raise arguments.refusal(name, as_typed, expected, because=f"these are of {array.dtype}")
    low, high = float(array.min()), float(array.max())
    if array.dtype.kind in "iu" and low >= 0 and high <= 255:
        do = "Give array.astype(np.uint8) if 255 is white, or array / its largest possible value."
        raise arguments.refusal(name, as_typed, expected, do, because=f"these are of {array.dtype}")
    if not (np.isfinite(low) and np.isfinite(high)):
        odd = int((~np.isfinite(array)).sum())
        why = f"{odd} of {array.size} {'is' if odd == 1 else 'are'} NaN or infinite"
        raise arguments.refusal(name, as_typed, expected, "Look where they come from.", because=why)
    if not (low >= 0 and high <= 1):
        do = "Divide by the largest possible value."
        if low < 0:  # normalised already, or differences
            do = "Undo the normalisation (x * std + mean), or scale them: (x - x.min()) / (x.max() - x.min())."
        raise arguments.refusal(name, as_typed, expected, do, because=f"these are from {low:g} to {high:g}")
    return np.rint(array * 255).astype(np.uint8)
