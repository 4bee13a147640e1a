"""Image files in: any format that Pillow reads becomes a picture, upright, in sRGB, 8-bit RGB."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

MAX_PIXELS = 64_000_000
"""Larger pictures are refused before they are decoded: a small file may unpack to gigabytes."""
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")


def read_image_file(source: str | Path | bytes, *, name: str | None = None) -> np.ndarray:
    """Reads an image file, applies its EXIF orientation and colour profile, and lays transparent parts over white.

    HEIC, the format of iPhones, needs the optional package `pi-heif`.

    Args:
        source: a path, or the file's content.
        name: what to call the file in errors; by default its path.

    Returns:
        uint8 RGB [H, W, 3], sRGB.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not an image file, damaged, or larger than `MAX_PIXELS`.
    """
    label = name or ("image" if isinstance(source, bytes) else str(source))
    if not isinstance(source, bytes) and not Path(source).is_file():
        raise FileNotFoundError(f"{label}: no such file")
    content = source if isinstance(source, bytes) else Path(source).read_bytes()
    if _is_heic(content):
        _register_heic(label)
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(
                    f"{label}: the picture is {image.width}×{image.height}, expected at most {MAX_PIXELS} pixels"
                )
            return _to_rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as error:
        if _is_heic(content):
            raise ValueError(f"{label}: damaged HEIC file") from error
        raise ValueError(f"{label}: not an image file, or of an unknown format") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"{label}: the picture is too large ({error})") from error
    except (OSError, SyntaxError, EOFError) as error:  # Pillow and its plugins report damage in these
        raise ValueError(f"{label}: damaged image file ({error})") from error


def _is_heic(content: bytes) -> bool:
    """Whether the file's brand (ISO/IEC 23008-12) is one of HEIC's."""
    return content[4:8] == b"ftyp" and content[8:12] in _HEIC_BRANDS


def _register_heic(label: str) -> None:
    """Adds HEIC to the formats that Pillow reads.

    Raises:
        ValueError: the package that reads it is not installed.
    """
    try:
        from pi_heif import register_heif_opener  # pyright: ignore[reportMissingImports] - optional
    except ImportError as error:
        raise ValueError(f"{label}: HEIC is not supported here, export the picture as JPEG or PNG") from error
    register_heif_opener()


def _to_rgb(image: Image.Image) -> np.ndarray:
    """Converts any Pillow mode to uint8 sRGB [H, W, 3]."""
    if image.mode.startswith("I;16") or image.mode == "I":
        # Pillow clips 16-bit grey at 255 when it converts; scale instead.
        grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    profile = image.info.get("icc_profile")
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        colours = _to_srgb(layered.convert("RGB"), profile)
        colours.putalpha(layered.getchannel("A"))
        white = Image.new("RGBA", layered.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, colours)
    else:
        image = _to_srgb(image.convert("RGB") if image.mode == "P" else image, profile)
    return np.ascontiguousarray(np.asarray(image.convert("RGB")))


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Applies an ICC profile; a damaged one, or one for other channels than the picture's, is ignored."""
    if not profile:
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(
            image,
            source,
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image
    return image if converted is None else converted
