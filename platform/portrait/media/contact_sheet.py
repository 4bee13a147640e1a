"""Contact sheets: rows of labelled frames, and a waveform whose time axis follows the columns.

Drawn with Pillow and its own font, so that a sheet looks the same on every machine. Letters: N frames of a row, H W
pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from portrait.timing import SAMPLE_RATE

_PAPER, _INK, _FAINT, _WAVE = (250, 250, 248), (32, 34, 40), (150, 153, 160), (58, 104, 176)
_GAP, _MARGIN, _STRIP, _LABEL_WIDTH = 6, 18, 92, 150


@dataclass(frozen=True, kw_only=True)
class SheetRow:
    """One row of frames."""

    label: str
    """Shown left of the row; may hold line breaks."""
    frames: Sequence[np.ndarray] | np.ndarray
    """N frames, uint8 RGB [H, W, 3] each, any size."""
    captions: Sequence[str] = field(default=())
    """A caption under each frame: N of them, or empty."""
    timed: bool = False
    """Whether the frames are those at the sheet's `frame_times`; the waveform stands above the first such row."""


def contact_sheet(
    rows: Sequence[SheetRow],
    audio: np.ndarray | None = None,
    frame_times: Sequence[float] | np.ndarray | None = None,
    *,
    sample_rate: int = SAMPLE_RATE,
    cell: int = 160,
    title: str = "",
) -> np.ndarray:
    """Lays out rows of frames on one sheet.

    Args:
        rows: top to bottom.
        audio: float32 [S]; drawn above the first timed row (the top, when none is timed).
        frame_times: seconds of the columns, rising; the waveform's time axis runs through the columns'
            middles at these times.
        sample_rate: of the audio, in Hz.
        cell: side of a frame on the sheet in pixels.
        title: a line at the top.

    Returns:
        uint8 RGB [H, W, 3].

    Raises:
        ValueError: no rows, a row without frames, captions or times that don't match, audio without times.
    """
    _check(rows, audio, frame_times)
    columns = max(len(row.frames) for row in rows)
    font, small = ImageFont.load_default(15), ImageFont.load_default(12)
    strip_row = next((i for i, row in enumerate(rows) if row.timed), 0) if audio is not None else -1
    heights = [cell + (18 if row.captions else 0) for row in rows]
    top = _MARGIN + (30 if title else 0)
    height = (
        top + sum(heights) + _GAP * len(rows) + (_STRIP + 24 if audio is not None else 0) + _MARGIN - _GAP
    )
    width = _MARGIN + _LABEL_WIDTH + columns * (cell + _GAP) - _GAP + _MARGIN
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    if title:
        draw.text((_MARGIN, _MARGIN - 4), title, _INK, ImageFont.load_default(18))
    left, y = _MARGIN + _LABEL_WIDTH, top
    for i, row in enumerate(rows):
        if i == strip_row and audio is not None and frame_times is not None:
            middles = left + (np.arange(len(frame_times)) * (cell + _GAP)) + cell / 2
            _draw_strip(draw, audio, sample_rate, _TimeAxis(np.asarray(frame_times, float), middles, cell), y)
            y += _STRIP + 24
        draw.multiline_text((_MARGIN, y + cell / 2), row.label, _INK, font, anchor="lm", spacing=5)
        for k, frame in enumerate(row.frames):
            x = left + k * (cell + _GAP)
            sheet.paste(Image.fromarray(_fit(frame, cell)), (x, y))
            if row.captions:
                draw.text((x + cell / 2, y + cell + 3), row.captions[k], _INK, small, anchor="mt")
        y += heights[i] + _GAP
    return np.asarray(sheet)


def error_map(frame: np.ndarray, truth: np.ndarray, full_scale: float = 0.25) -> np.ndarray:
    """Absolute error between uint8 RGB [H, W, 3] frames as a heat map of that shape; `full_scale` is the brightest."""
    if frame.shape != truth.shape:
        raise ValueError(f"frame and truth: expected the same shape, found {frame.shape} and {truth.shape}")
    error = np.abs(frame.astype(np.float32) - truth.astype(np.float32)).mean(2) / (255 * full_scale)
    heat = cv2.applyColorMap((np.clip(error, 0, 1) * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    return cv2.cvtColor(heat, cv2.COLOR_BGR2RGB)


def save_png(path: str | Path, image: np.ndarray) -> None:
    """Writes a uint8 RGB picture [H, W, 3] as PNG; creates the folder if it is missing."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, format="PNG", optimize=True)


def _check(
    rows: Sequence[SheetRow], audio: np.ndarray | None, times: Sequence[float] | np.ndarray | None
) -> None:
    if not rows:
        raise ValueError("rows: expected at least one, found none")
    for row in rows:
        if len(row.frames) == 0:
            raise ValueError(f"rows: {row.label!r} has no frames")
        if row.captions and len(row.captions) != len(row.frames):
            raise ValueError(
                f"rows: {row.label!r} expected {len(row.frames)} captions, found {len(row.captions)}"
            )
        if row.timed and (times is None or len(times) != len(row.frames)):
            raise ValueError(
                f"rows: {row.label!r} is timed and has {len(row.frames)} frames, expected as many frame_times"
            )
    if audio is not None and (times is None or len(times) == 0 or (np.diff(np.asarray(times)) <= 0).any()):
        raise ValueError(
            f"frame_times: expected rising seconds, one per column, to place the audio; found {times}"
        )


def _fit(frame: np.ndarray, cell: int) -> np.ndarray:
    """The frame in a square of `cell` pixels, its aspect ratio kept."""
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError(f"frames: expected uint8 [H, W, 3], found {frame.dtype} {list(frame.shape)}")
    height, width = frame.shape[:2]
    scale = cell / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    resized = cv2.resize(frame, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    square = np.full((cell, cell, 3), _PAPER, np.uint8)
    y, x = (cell - size[1]) // 2, (cell - size[0]) // 2
    square[y : y + size[1], x : x + size[0]] = resized
    return square


@dataclass(frozen=True)
class _TimeAxis:
    """Seconds to sheet pixels: linear between neighbouring columns' middles, half a column further at the ends."""

    times: np.ndarray
    middles: np.ndarray
    cell: int

    def knots(self) -> tuple[np.ndarray, np.ndarray]:
        """Pixels and the seconds there, both rising."""
        t, x = self.times, self.middles
        half = (float(np.diff(t).mean()) if len(t) > 1 else 1.0) / 2
        pixels = np.concatenate([[x[0] - self.cell / 2], x, [x[-1] + self.cell / 2]])
        return pixels, np.concatenate([[t[0] - half], t, [t[-1] + half]])


def _draw_strip(draw: ImageDraw.ImageDraw, audio: np.ndarray, rate: int, axis: _TimeAxis, y: int) -> None:
    """Draws the waveform with a tick at every column's time."""
    pixels, seconds = axis.knots()
    x0, x1, centre = int(pixels[0]), int(pixels[-1]), y + _STRIP / 2
    draw.rectangle((x0, y, x1, y + _STRIP), fill=(240, 241, 243))
    bounds = np.round(np.interp(np.arange(x0, x1 + 1), pixels, seconds) * rate).astype(int)
    peak = max(1e-4, float(np.abs(audio).max(initial=0.0)))
    for k in range(len(bounds) - 1):
        piece = audio[max(0, bounds[k]) : max(0, bounds[k + 1])]
        if len(piece):
            low, high = float(piece.min()) / peak, float(piece.max()) / peak
            draw.line(
                (x0 + k, centre - high * _STRIP * 0.46, x0 + k, centre - low * _STRIP * 0.46), fill=_WAVE
            )
    font = ImageFont.load_default(12)
    for x, t in zip(axis.middles, axis.times, strict=True):
        draw.line((x, y + 2, x, y + _STRIP + 4), fill=_FAINT)
        draw.text((x, y + _STRIP + 6), f"{t:.2f} s", _INK, font, anchor="mt")
