"""Tests of portrait.media.image_file: orientation, transparency, depth, and what is no picture."""

from __future__ import annotations

import io
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

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


def _profile_with_red_and_blue_swapped() -> bytes:
    """The sRGB profile, the primaries of red and blue exchanged in its table of tags."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    table = (
        profile[128:].replace(b"rXYZ", b"????", 1).replace(b"bXYZ", b"rXYZ", 1).replace(b"????", b"bXYZ", 1)
    )
    return profile[:128] + table


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_the_colour_profile_is_applied(mode: str) -> None:
    picture = Image.new("RGB", (4, 4), (255, 0, 0)).convert(mode)
    data = _encoded(picture, icc_profile=_profile_with_red_and_blue_swapped())
    np.testing.assert_allclose(read_image_file(data)[0, 0], (0, 0, 255), atol=2)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    np.testing.assert_allclose(
        read_image_file(_encoded(picture, icc_profile=srgb))[0, 0], (255, 0, 0), atol=1
    )


def test_a_damaged_colour_profile_is_ignored() -> None:
    picture = Image.new("RGB", (4, 4), (200, 30, 10))
    assert read_image_file(_encoded(picture, icc_profile=b"not a profile"))[0, 0].tolist() == [200, 30, 10]


def test_heic_without_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    content = struct.pack(">I4s4s", 24, b"ftyp", b"heic") + bytes(100)
    with pytest.raises(ValueError, match=r"me\.heic: HEIC .* export the picture as JPEG or PNG"):
        read_image_file(content, name="me.heic")
