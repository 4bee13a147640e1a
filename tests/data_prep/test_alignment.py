"""Sound and pictures stay together over the whole chain: footage → rows → table → what training reads.

A film has flashes and chirps at known times. The flash brightens the whole picture of a synthetic head, whose face is
found by the embedded detector as in any footage. A chirp is band-limited and its place is found by a matched filter
between the samples, so that what a lossy codec does to it cannot be taken for a shift.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from data_prep.cut_file import cut_file
from data_prep.cut_settings import CutSettings
from data_prep.sources.footage import Footage
from portrait.media.audio import decode_flac
from portrait.storage.clip_windows import ClipWindows
from portrait.storage.clips import ClipTable, commit_clips, write_clips
from portrait.storage.epoch_sampler import Draw
from portrait.synthetic import render_clip
from portrait.timing import FRAME_RATE, SAMPLE_RATE

SETTINGS = CutSettings(size=64, max_clip_seconds=1.2)
CLIP_STARTS = (Fraction(0), Fraction(30, FRAME_RATE))
SECONDS = Fraction(5, 2)
NEAR = (Fraction(1, 2), Fraction(9, 5))
"""About when the two events are: one in each clip, and neither where a clip ends."""
FLASH_SECONDS = Fraction(3, 50)
HALF_CHIRP = 0.02
ONE_SAMPLE = 1 / SAMPLE_RATE
ONE_FRAME = 1 / FRAME_RATE


@dataclass(frozen=True, kw_only=True)
class Event:
    """A flash and a chirp."""

    heard_s: float
    """The chirp's middle, which is when the film's first bright picture is shown."""
    seen_s: float
    """From when on a bright picture is the nearest in time, or half a frame before it where others are far."""


def constant(rate: Fraction | int) -> list[Fraction]:
    return [Fraction(i) / rate for i in range(int(SECONDS * rate))]


def variable() -> list[Fraction]:
    """Pictures at 15 to 60 a second, as a telephone takes them."""
    rates = np.random.default_rng(4).choice([60, 30, 24, 15], 200)
    times = [Fraction(0)]
    for rate in rates:
        times.append(times[-1] + Fraction(1, int(rate)))
    return [time for time in times if time < SECONDS]


PICTURE_TIMES = {
    "25": constant(25),
    "29.97": constant(Fraction(30_000, 1001)),
    "30": constant(30),
    "50": constant(50),
    "variable": variable(),
}
STARTS = {
    "together": (Fraction(0), Fraction(0)),
    "sound late": (Fraction(0), Fraction(8, 25)),
    "pictures late": (Fraction(1, 5), Fraction(0)),
    # What the container makes of a time before 0 is its own: it moves both tracks, or cuts by an edit list.
    "sound before 0": (Fraction(0), Fraction(-1, 5)),
}
"""When the pictures start and when the sound does, in seconds."""


def chirp(times: np.ndarray) -> np.ndarray:
    """A sweep over 0.5 … 5.5 kHz about time 0: nothing that 16 kHz sound cannot hold."""
    envelope = np.cos(np.pi / 2 * np.clip(times / HALF_CHIRP, -1, 1)) ** 2
    return 0.6 * envelope * np.sin(2 * np.pi * (3000 * times + 62_500 * times**2))


def when_heard(sound: np.ndarray, about_s: float) -> float:
    """The chirp's time in 16 kHz sound: where it matches best, to a sixteenth of a sample."""
    reach = round(HALF_CHIRP * SAMPLE_RATE)
    first = max(0, round((about_s - 0.15) * SAMPLE_RATE))
    piece = np.pad(sound, reach)[first : first + round(0.3 * SAMPLE_RATE)].astype(np.float64)
    around = np.arange(-reach, reach + 1) / SAMPLE_RATE
    best = int(np.correlate(piece, chirp(around)).argmax())
    piece = piece[best : best + 2 * reach + 1]
    shifts = np.arange(-32, 33) / (16 * SAMPLE_RATE)
    matches = [float(piece @ chirp(around - shift)) for shift in shifts]
    return (first + best) / SAMPLE_RATE + float(shifts[int(np.argmax(matches))])


def when_seen(frames: np.ndarray) -> float:
    """The time of the first bright frame of uint8 [T, ...], at 25 frames/s."""
    levels = frames.reshape(len(frames), -1).mean(axis=1)
    bright = levels > np.median(levels) + 30
    assert bright.any()
    return int(bright.argmax()) / FRAME_RATE


@pytest.fixture(scope="module")
def head() -> np.ndarray:
    """Pictures of a head that talks, dim enough to be brightened."""
    return render_clip(0, float(SECONDS), size=128).frames // 2


@pytest.fixture(scope="module")
def flashes_and_chirps(head, write_film):
    """Writes a film; gives when its events are on the clock of its pictures."""

    def write(path: Path, times: list[Fraction], rate: int, sound_codec: str, start: str) -> list[Event]:
        late, sound_start = STARTS[start]
        # An event begins with a picture, so that the film itself says exactly when its flash is seen.
        events = [min(time for time in times if time >= near) for near in NEAR]

        def pictures():
            for time in times:
                picture = head[min(int(time * FRAME_RATE), len(head) - 1)]
                flashes = any(0 <= time - event < FLASH_SECONDS for event in events)
                yield time + late, picture + np.uint8(90 if flashes else 0)

        length = round((SECONDS + late - sound_start) * rate)
        sound_times = float(sound_start) + np.arange(length) / rate
        sound = sum(chirp(sound_times - float(event + late)) for event in events)
        noise = np.random.default_rng(0).normal(scale=1e-3, size=length)
        write_film(
            path,
            pictures(),
            (sound + noise).astype(np.float32),
            rate,
            sound_start=sound_start,
            sound_codec=sound_codec,
        )
        before = [max(time for time in times if time < event) for event in events]
        return [
            Event(
                heard_s=float(event),
                seen_s=float(max((event + earlier) / 2, event - Fraction(1, 2 * FRAME_RATE))),
            )
            for event, earlier in zip(events, before, strict=True)
        ]

    return write


def check_chain(path: Path, events: list[Event], uri: str) -> None:
    """Cuts a film, keeps it in a table, reads windows as training does, and compares their events' times."""
    footage = Footage(path=str(path), identity="ann", source="test")
    rows, rejects = cut_file(footage, footage.content_hash(), "train", SETTINGS)
    assert rejects == []
    starts = {row["clip_id"]: row["provenance"]["start_s"] for row in rows}
    commit_clips(uri, write_clips(uri, rows))
    table = ClipTable.open(uri)
    ids, stored = [row["clip_id"] for row in table.rows()], table.read_audio(range(table.num_rows))
    sounds = {clip_id: decode_flac(audio) for clip_id, audio in zip(ids, stored, strict=True)}
    for num_frames in (17, 29):
        windows = ClipWindows(uri, 64, num_frames, max_references=0)
        draws = [Draw(epoch, row) for epoch in range(2) for row in range(len(rows))]
        for draw, item in zip(draws, windows.__getitems__(draws), strict=True):
            clip_start = starts[windows.clip_ids[draw.row]]
            sound = sounds[item["clip_id"]][640 * item["start"] : 640 * (item["start"] + num_frames)]
            begin = clip_start + item["start"] / FRAME_RATE
            (event,) = (event for event in events if 0 <= event.heard_s - clip_start < 29 / FRAME_RATE)
            assert len(sound) == 640 * num_frames
            # The first frame from then on; containers may round by a millisecond.
            seen = begin + when_seen(np.moveaxis(item["video"].numpy(), 0, -1))
            assert -0.002 < seen - event.seen_s < ONE_FRAME + 0.002
            assert abs(seen - event.heard_s) < ONE_FRAME
            heard = begin + when_heard(sound, event.heard_s - begin)
            assert abs(heard - event.heard_s) <= ONE_SAMPLE


@pytest.mark.parametrize("times", PICTURE_TIMES)
@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
@pytest.mark.parametrize(("name", "sound_codec"), [("film.mp4", "aac"), ("film.mov", "pcm_s16le")])
def test_whatever_the_rates(flashes_and_chirps, tmp_path, *, times, rate, name, sound_codec):
    events = flashes_and_chirps(tmp_path / name, PICTURE_TIMES[times], rate, sound_codec, "together")
    check_chain(tmp_path / name, events, str(tmp_path / "clips.lance"))


@pytest.mark.parametrize("start", [name for name in STARTS if name != "together"])
@pytest.mark.parametrize(
    ("name", "sound_codec", "rate"),
    [
        ("film.mp4", "aac", 44_100),
        ("film.mov", "pcm_s16le", 48_000),
        ("film.mkv", "flac", 48_000),
        ("film.mkv", "aac", 44_100),
        ("film.ts", "aac", 48_000),
    ],
)
def test_whichever_track_starts_first(flashes_and_chirps, tmp_path, *, start, name, sound_codec, rate):
    events = flashes_and_chirps(tmp_path / name, PICTURE_TIMES["29.97"], rate, sound_codec, start)
    check_chain(tmp_path / name, events, str(tmp_path / "clips.lance"))
