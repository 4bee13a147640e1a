"""Tests of portrait.media.image_file: orientation, transparency, depth, and what is no picture."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from portrait.media.image_file import read_image_file


def _encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    stored = np.zeros((20, 40, 3), np.uint8)
    stored[:, :20] = 255  # left half white
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned a quarter clockwise: the left side becomes the top
    path = tmp_path / "turned.jpg"
    Image.fromarray(stored).save(path, exif=exif, quality=95)
    shown = read_image_file(path)
    assert shown.shape == (40, 20, 3)
    assert shown[:18].min() > 200
    assert shown[22:].max() < 50


def test_transparent_parts_are_white() -> None:
    picture = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert (read_image_file(_encoded(picture)) == 255).all()


def test_sixteen_bit_grey_keeps_its_levels() -> None:
    levels = np.array([[0, 128 * 256, 255 * 256]], np.uint16)
    assert read_image_file(_encoded(Image.fromarray(levels)))[0, :, 0].tolist() == [0, 128, 255]


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    path = tmp_path / "portrait.png"
    path.write_text("not a picture")
    with pytest.raises(ValueError, match=r"portrait\.png: not an image file"):
        read_image_file(path)
    with pytest.raises(FileNotFoundError, match="missing"):
        read_image_file(tmp_path / "missing.png")


def test_truncated_picture_is_damaged() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    with pytest.raises(ValueError, match="face: damaged"):
        read_image_file(_encoded(Image.fromarray(noise))[:2000], name="face")
