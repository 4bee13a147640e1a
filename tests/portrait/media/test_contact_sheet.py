"""Contact sheets: pictures where they belong, the waveform's time under the columns."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from portrait.media.contact_sheet import SheetRow, contact_sheet, error_map, save_png

RED = np.full((40, 40, 3), (200, 10, 10), np.uint8)
GREEN = np.full((40, 40, 3), (10, 180, 20), np.uint8)


def columns_of(sheet: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.nonzero((np.abs(sheet.astype(int) - colour).max(2) < 3).sum(0) > 20)[0]


def test_pictures_stand_in_rows_and_columns() -> None:
    sheet = contact_sheet(
        [SheetRow(label="first", frames=[RED, GREEN]), SheetRow(label="second", frames=[GREEN, RED])], cell=64
    )
    assert sheet.dtype == np.uint8
    assert sheet.ndim == 3
    red, green = ((np.abs(sheet.astype(int) - c).max(2) < 3) for c in ((200, 10, 10), (10, 180, 20)))
    assert red.sum() == green.sum() == 2 * 64 * 64
    top, left = np.argwhere(red).min(0)
    assert red[top + 10, left + 10]
    assert green[top + 10, left + 80]
    assert green[top + 80, left + 10]


def test_labels_are_drawn() -> None:
    plain = contact_sheet([SheetRow(label="", frames=[RED])])
    named = contact_sheet([SheetRow(label="reference", frames=[RED])])
    assert plain.shape == named.shape
    assert (plain != named).sum() > 200


def test_the_waveform_is_loud_above_the_column_of_its_time() -> None:
    rate, times = 16000, np.arange(6) * 0.4 + 0.2
    audio = np.zeros(int(2.4 * rate), np.float32)
    audio[int(0.95 * rate) : int(1.05 * rate)] = np.random.default_rng(0).uniform(-1, 1, int(0.1 * rate))
    row = SheetRow(label="generated", frames=[RED, RED, GREEN, RED, RED, RED], timed=True)
    sheet = contact_sheet(
        [SheetRow(label="reference", frames=[RED]), row], audio=audio, frame_times=times, cell=64
    )
    blue = np.nonzero((np.abs(sheet.astype(int) - (58, 104, 176)).max(2) < 3).sum(0) > 15)[0]
    assert len(blue) > 5
    assert blue.mean() == pytest.approx(columns_of(sheet, (10, 180, 20)).mean(), abs=3)


def test_pictures_of_any_shape_fit(tmp_path: Path) -> None:
    wide = np.full((30, 90, 3), (200, 10, 10), np.uint8)
    sheet = contact_sheet(
        [SheetRow(label="wide", frames=[wide], captions=["12.3 dB"])], cell=90, title="A title"
    )
    assert (np.abs(sheet.astype(int) - (200, 10, 10)).max(2) < 3).sum() == 30 * 90
    save_png(tmp_path / "new" / "sheet.png", sheet)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "new" / "sheet.png")), sheet)


def test_error_maps_are_dark_where_pictures_agree() -> None:
    other = RED.copy()
    other[:, 20:] = 255
    heat = error_map(RED, other)
    assert heat.shape == RED.shape
    assert heat[:, :20].max() < 10
    assert heat[:, 20:].min(axis=(0, 1)).max() > 200


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="rows"):
        contact_sheet([])
    with pytest.raises(ValueError, match="'empty' has no frames"):
        contact_sheet([SheetRow(label="empty", frames=[])])
    with pytest.raises(ValueError, match="captions"):
        contact_sheet([SheetRow(label="x", frames=[RED], captions=["a", "b"])])
    with pytest.raises(ValueError, match="frame_times"):
        contact_sheet([SheetRow(label="x", frames=[RED])], audio=np.zeros(100, np.float32))
    with pytest.raises(ValueError, match=r"uint8 \[H, W, 3\]"):
        contact_sheet([SheetRow(label="x", frames=[RED.astype(np.float32)])])
