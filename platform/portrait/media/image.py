"""Still pictures in: any format Pillow reads, upright and as 8-bit RGB."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_PIXELS = 64_000_000
"""Larger pictures are refused before they are decoded: a small file may unpack to gigabytes."""


def read_image(source: str | Path | bytes, *, name: str | None = None) -> np.ndarray:
    """Reads a picture, applies its EXIF orientation, and lays transparent parts over white.

    Args:
        source: a path, or the encoded file's bytes.
        name: what to call the picture in errors; by default its path.

    Returns:
        uint8 RGB [H, W, 3].

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a picture, damaged, or larger than `MAX_PIXELS`.
    """
    label = name or ("image" if isinstance(source, bytes) else str(source))
    if not isinstance(source, bytes) and not Path(source).is_file():
        raise FileNotFoundError(f"{label}: no such file")
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(
                    f"{label}: the picture is {image.width}×{image.height}, expected at most {MAX_PIXELS} pixels"
                )
            return _to_rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as error:
        raise ValueError(f"{label}: not a picture (no known image format)") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"{label}: the picture is too large ({error})") from error
    except (OSError, SyntaxError) as error:  # Pillow reports damage in both
        raise ValueError(f"{label}: damaged picture ({error})") from error


def _to_rgb(image: Image.Image) -> np.ndarray:
    """Converts any Pillow mode to uint8 RGB [H, W, 3]."""
    if image.mode.startswith("I;16") or image.mode == "I":
        # Pillow clips 16-bit grey at 255 when it converts; scale instead.
        grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        white = Image.new("RGBA", layered.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, layered)
    return np.ascontiguousarray(np.asarray(image.convert("RGB")))
