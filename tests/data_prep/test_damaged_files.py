"""Two hundred files, most of them damaged or odd, in one run: what is right gets in, and the rest is named.

The files are made of four short films by a fixed seed. A file is `kept` (then its pictures and sound are compared with
what it was made of), `rejected` with words that say what is wrong, or `either` where the damage decides.
"""

from __future__ import annotations

import io
import json
import os
import re
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest
from PIL import Image

from data_prep.cut_file import cut_file
from data_prep.cut_settings import CutSettings
from data_prep.pipeline import prepare
from data_prep.report import Report
from data_prep.sources.folder import FolderSource
from data_prep.sources.footage import Footage
from data_prep.splits import Splits
from portrait.media.audio import decode_flac, resample, write_wav
from portrait.media.video import read_video
from portrait.storage.clips import ClipTable
from portrait.synthetic import SyntheticClip, render_clip

FILES = 200
SETTINGS = CutSettings(size=64)
HOURS = 10 * 3600
NAMES_THE_DAMAGE = (
    r"^(not a readable video or sound file|damaged[ ,]|cut off|the sound is cut off|the file is empty|"
    r"the sound track is empty|has no video track|no audio track|no frame could be decoded|"
    r"the frame size changes|sound changes|shorter than|no face|a face in only|other_faces)"
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A file and what must become of it."""

    fate: Literal["kept", "rejected", "either"]
    words: str = NAMES_THE_DAMAGE
    """What its reason must match if it is rejected."""
    person: int = 0
    """Number of the film it was made of."""
    size: tuple[int, int] = (128, 128)
    """Height and width of its pictures: the film's own, cut at the right and below."""
    whole: bool = True
    """Whether all of the film is in it; of a truncated one, what it contains must be right."""
    spoilt: bool = False
    """Whether the damage may show: compressed data without a checksum decodes to something."""


Files = dict[str, Case]
"""Cases by file name."""


class Maker:
    """Writes the files into a folder."""

    def __init__(self, folder: Path, films: list[SyntheticClip], write_film: Callable[..., Path]) -> None:
        self._folder, self._films, self._write = folder, films, write_film
        self._rng = np.random.default_rng(7)
        self.cases: Files = {}

    def put(self, name: str | bytes, data: bytes, case: Case) -> None:
        """Writes one file."""
        (self._folder / os.fsdecode(name)).write_bytes(data)
        self._add(os.fsencode(name).decode(errors="replace"), case)

    def _add(self, name: str, case: Case) -> None:
        assert name not in self.cases
        self.cases[name] = case

    def film(
        self, suffix: str, person: int = 0, *, crop: tuple[int, int] = (128, 128), rate: int = 16_000, **how
    ) -> bytes:
        """One of the four films in a container, with codecs and tracks of any kind; the same call, the same bytes."""
        film, (height, width) = self._films[person], crop
        frames = np.rot90(film.frames, -how.get("turn", 0) // 90, axes=(1, 2))[:, :height, :width]
        sound = None if how.pop("silent", False) else resample(film.audio, 16_000, rate)
        if how.get("layout") == "5.1" and sound is not None:
            # Speech is in the centre, which surround sound is mixed from at its own level.
            sound = np.stack([sound if channel == 2 else np.zeros_like(sound) for channel in range(6)])
        begin = how.pop("begin", Fraction(0))
        path = self._folder.parent / f"film{suffix}"
        self._write(path, ((begin + Fraction(i, 25), f) for i, f in enumerate(frames)), sound, rate, **how)
        return path.read_bytes()

    def make(self) -> Files:
        """All files."""
        for kind in (self._odd, self._mislabelled, self._incomplete, self._lying, self._named, self._cut_off):
            kind()
        self._flipped(FILES - len(self.cases))
        return self.cases

    def _odd(self) -> None:
        """Sound files of unusual kinds: nothing is wrong with them."""
        for person, turn in enumerate((90, 180, 270)):
            self.put(
                f"turned {turn}.mp4", self.film(".mp4", person, turn=turn), Case(fate="kept", person=person)
            )
        kinds: dict[str, dict[str, Any]] = {
            "ten bits.mp4": {"pixels": "yuv420p10le"},
            "ten bits.mkv": {"pixels": "yuv422p10le", "sound_codec": "flac"},
            "hevc.mp4": {"codec": "libx265"},
            "hevc ten bits.mov": {"codec": "libx265", "pixels": "yuv420p10le"},
            "mpeg4.avi": {"codec": "mpeg4", "sound_codec": "pcm_s16le"},
            "8 kHz.mp4": {"rate": 8000},
            "8 kHz.mov": {"rate": 8000, "sound_codec": "pcm_s16le"},
            "44 kHz.mp4": {"rate": 44_100},
            "stereo.mp4": {"layout": "stereo"},
            "stereo.mkv": {"layout": "stereo", "sound_codec": "flac"},
            "surround.mp4": {"layout": "5.1"},
            "surround.mkv": {"layout": "5.1", "sound_codec": "ac3", "rate": 48_000},
        }
        for number, (name, how) in enumerate(kinds.items()):
            person = number % len(self._films)
            self.put(name, self.film(Path(name).suffix, person, **how), Case(fate="kept", person=person))
        for person, crop in enumerate(((127, 125), (121, 128), (128, 119), (125, 127))):
            data = self.film(".mkv", person, crop=crop, pixels="yuv444p")
            self.put(f"odd size {person}.mkv", data, Case(fate="kept", person=person, size=crop))

    def _mislabelled(self) -> None:
        """Other things named as videos, and videos named as other videos."""
        picture, archive, wave = io.BytesIO(), io.BytesIO(), self._folder.parent / "sound.wav"
        Image.fromarray(self._films[0].frames[0]).save(picture, "JPEG")
        with zipfile.ZipFile(archive, "w") as zipped:
            zipped.writestr("film.mp4", self.film(".mp4"))
        write_wav(wave, self._films[0].audio)
        unreadable = Case(fate="rejected", words="^not a readable video or sound file")
        things = {
            "photo.mp4": picture.getvalue(),
            "archive.mp4": archive.getvalue(),
            "text.mov": b"Not a video at all.\n" * 200,
            "page.webm": b"<!doctype html><title>404</title>" * 50,
            "list.m4v": b"#EXTM3U\n#EXTINF:1,\nturned 90.mp4\n",
            "paper.avi": b"%PDF-1.7\n" + self._rng.bytes(4000),
            "noise.mkv": self._rng.bytes(20_000),
            "zeros.mp4": bytes(20_000),
            "one byte.mp4": b"\0",
        }
        for name, data in things.items():
            # By its name any text may be an elementary stream, which has no sound.
            self.put(
                name,
                data,
                Case(fate="rejected", words="^no audio track$") if name.endswith(".m4v") else unreadable,
            )
        self.put("sound alone.mp4", wave.read_bytes(), Case(fate="rejected", words="^has no video track"))
        for person, (suffix, name) in enumerate(
            ((".mp4", "mp4.avi"), (".mkv", "mkv.mp4"), (".mov", "mov.mpg"), (".ts", "ts.mp4"))
        ):
            self.put(name, self.film(suffix, person), Case(fate="kept", person=person))

    def _incomplete(self) -> None:
        self.put("empty.mp4", b"", Case(fate="rejected", words="^the file is empty$"))
        for person, suffix in enumerate((".mp4", ".mkv", ".mov", ".avi")):
            silent = self.film(suffix, person, silent=True)
            self.put(f"silent{suffix}", silent, Case(fate="rejected", words="^no audio track$"))

    def _lying(self) -> None:
        """Headers that promise hours, or boxes of nonsense size."""
        for number, box in enumerate(("mvhd", "tkhd", "mdhd", "mvhd tkhd mdhd")):
            for sound_codec, suffix in (("aac", ".mp4"), ("pcm_s16le", ".mov")):
                data = bytearray(self.film(suffix, number, sound_codec=sound_codec))
                for name, place, _ in boxes(data):
                    if name in box.split():
                        set_duration(data, name, place, HOURS)
                self.put(f"hours in {box}{suffix}", bytes(data), Case(fate="kept", person=number))
        # The first entry of an edit list with a media time of -1 is how long its track waits.
        delays: tuple[dict[str, Any], ...] = ({"begin": Fraction(1, 2)}, {"sound_start": Fraction(1, 2)})
        apart = Case(fate="rejected", words="^damaged, the sound begins at [0-9]+ s and the video at")
        for number, late in enumerate(delays):
            data = bytearray(self.film(".mp4", number, **late))
            (waits,) = [
                place
                for name, place, _ in boxes(data)
                if name == "elst" and struct.unpack_from(">i", data, place + 20)[0] == -1
            ]
            struct.pack_into(">I", data, waits + 16, HOURS * 16_000)
            self.put(f"track {number} hours late.mp4", bytes(data), apart)
        for number, name in enumerate(("stts", "stsz", "stco", "ctts", "stsc", "stss", "elst")):
            data = bytearray(self.film(".mp4", number % 4))
            for found, place, size in boxes(data):
                if found == name and size >= 20:
                    struct.pack_into(">I", data, place + size - 4, 0x7FFF_FF00)
            self.put(f"nonsense in {name}.mp4", bytes(data), Case(fate="either", spoilt=True, whole=False))
        stretched = bytearray(self.film(".mp4"))
        # A box that says nothing of importance becomes one that says how wide pixels are.
        place = next(place for name, place, _ in boxes(stretched) if name == "btrt")
        struct.pack_into(">4sII", stretched, place + 4, b"pasp", 5000, 1)
        self.put(
            "stretched.mp4",
            bytes(stretched),
            Case(fate="rejected", words="^damaged, pixels 5e[+]03 times as wide as high"),
        )
        for number in range(20):
            # Another time scale each, so that no two files are the same.
            data = bytearray(self.film(".mp4", number % 4, options={"movie_timescale": str(2000 + number)}))
            places = [place for _, place, _ in boxes(data)]
            nonsense = (0x7FFF_FFFF, 0xFFFF_FFF0, 1, 7)[number % 4]
            struct.pack_into(">I", data, int(self._rng.choice(places)), nonsense)
            self.put(f"box {number}.mp4", bytes(data), Case(fate="either", person=number % 4))

    def _named(self) -> None:
        """Whatever a file is called."""
        names = (
            "with spaces  and more .mp4", "ünï cödé – 北京 🎬.mp4", "100% #1?&*.mp4", "a:b.mp4", "it's \"quoted\".mp4",
            "two\nlines.mp4", "-dash.mp4", f"{'long' * 60}.mp4",
        )  # fmt: skip
        for number, name in enumerate(names):
            data = self.film(".mp4", number % 4, options={"movie_timescale": str(1000 + number)})
            self.put(name, data, Case(fate="kept", person=number % 4))

        unnamed = Case(fate="rejected", words="^the file name is not valid UTF-8; rename the file$")
        self.put(b"not \xff\xfe text.mp4", self.film(".mp4", sound_codec="ac3", rate=48_000), unnamed)
        (self._folder / "dead link.mp4").symlink_to("gone.mp4")
        self._add("dead link.mp4", Case(fate="rejected", words="^cannot be read: No such file"))
        os.mkfifo(self._folder / "pipe.mp4")
        self._add("pipe.mp4", Case(fate="rejected", words="^cannot be read: not a regular file$"))

    def _cut_off(self) -> None:
        forms: tuple[tuple[str, dict[str, Any]], ...] = (
            (".mp4", {}), (".mp4", {"options": {"movflags": "faststart"}}), (".mkv", {}), (".ts", {}),
            (".mp4", {"options": {"movflags": "frag_keyframe+empty_moov"}}), (".avi", {"codec": "mpeg4"}),
        )  # fmt: skip
        for number in range(48):
            suffix, how = forms[number % len(forms)]
            person = number % len(self._films)
            data = self.film(suffix, person, **how)
            case = Case(fate="either", person=person, whole=False)
            self.put(f"cut off {number}{suffix}", data[: int(self._rng.integers(1, len(data)))], case)

    def _flipped(self, files: int) -> None:
        for number in range(files):
            suffix = (".mp4", ".mkv", ".mov", ".ts")[number % 4]
            data = np.frombuffer(self.film(suffix, number % 4), np.uint8).copy()
            places = self._rng.integers(0, len(data), (1, 3, 10, 100)[number // 4 % 4])
            data[places] ^= self._rng.integers(1, 256, len(places), dtype=np.uint8)
            case = Case(fate="either", spoilt=True, whole=False)
            self.put(f"flipped {number}{suffix}", data.tobytes(), case)


def boxes(data: bytes | bytearray, begin: int = 0, end: int | None = None) -> Iterator[tuple[str, int, int]]:
    """(name, offset, size) of an MP4's boxes, those within others as well (ISO/IEC 14496-12)."""
    end = len(data) if end is None else end
    while begin + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, begin)
        yield name.decode("latin-1"), begin, size
        if name in {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts"}:
            yield from boxes(data, begin + 8, begin + size)
        elif name == b"stsd":
            yield from boxes(data, begin + 16, begin + size)
        elif name == b"avc1":
            yield from boxes(data, begin + 86, begin + size)
        begin += max(size, 8)


def set_duration(data: bytearray, name: str, place: int, seconds: int) -> None:
    """Writes another duration into a header of version 0; a track's is in the movie's time scale."""
    scale = struct.unpack_from(">I", data, place + 20)[0] if name != "tkhd" else 16_000
    struct.pack_into(">I", data, place + (28 if name == "tkhd" else 24), seconds * scale % 2**32)


@pytest.fixture(scope="module")
def films() -> list[SyntheticClip]:
    """Four people, 30 frames each, of which 29 are kept."""
    return [render_clip(person, 1.2, size=128) for person in range(4)]


@pytest.fixture(scope="module")
def cases(films, write_film, tmp_path_factory) -> tuple[Path, Files]:
    """The folder of all files, and what must become of each."""
    folder = tmp_path_factory.mktemp("films") / "footage"
    folder.mkdir()
    return folder, Maker(folder, films, write_film).make()


def check_kept(case: Case, row: dict, video: bytes, audio: bytes, film: SyntheticClip) -> None:
    """A row's pictures are the film's, upright, under the crop; its sound is the film's."""
    frames, sound, count = read_video(video).frames, decode_flac(audio), row["num_frames"]
    assert (len(frames), len(sound), count % 4) == (count, count * 640, 1)
    assert count == 29 or not case.whole
    if case.spoilt:
        return
    truth = film.frames[:count, : case.size[0], : case.size[1]]
    x0, y0, side = row["crop_box"]
    places = (np.arange(64, dtype=np.float32) + 0.5) * side / 64 - 0.5
    x, y = np.meshgrid(places + np.float32(x0), places + np.float32(y0))
    inside = (x >= 0) & (x < case.size[1] - 1) & (y >= 0) & (y < case.size[0] - 1)
    assert inside.mean() > 0.5
    for index in range(0, count, 7):
        expected = cv2.remap(truth[index], x, y, cv2.INTER_LINEAR)
        assert np.abs(frames[index][inside].astype(float) - expected[inside]).mean() < 15
    heard, said = smoothed(sound), smoothed(film.audio[: count * 640])
    loudness = np.sqrt((said**2).mean())
    for part in np.array_split(heard - said, 3):
        assert np.sqrt((part**2).mean()) < 0.4 * loudness


def smoothed(sound: np.ndarray) -> np.ndarray:
    """Without what 8 kHz sound cannot hold."""
    return np.convolve(sound, np.hanning(11)[1:-1], "same")


def check_report(cases: Files, films: list[SyntheticClip], report: Report, uri: str) -> None:
    """Every file is where it belongs, in the table or in the list of what was rejected, and only there."""
    table = ClipTable.open(uri)
    rows = table.rows(("clip_id", "num_frames", "crop_box", "provenance"))
    media = table.read_media(range(len(rows)))
    kept: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        kept.setdefault(Path(row["provenance"]["path"]).name, []).append(index)
    whole = {Path(r.path).name: r.reason for r in report.rejects if r.start_s is None}
    parts = {Path(r.path).name: r.reason for r in report.rejects if r.start_s is not None}
    wrong: list[str] = []
    for name, case in cases.items():
        reason = whole.get(name) or parts.get(name)
        try:
            assert not (name in whole and (name in kept or name in parts)), "rejected and kept at once"
            assert name in kept or reason, "neither kept nor rejected"
            assert case.fate in {"either", "kept" if name in kept else "rejected"}
            if name not in kept:
                assert reason
                assert "\n" not in reason
                assert re.search(case.words, reason)
            for index in kept.get(name, ()):
                check_kept(case, rows[index], *media[index], films[case.person])
            assert case.spoilt or len(kept.get(name, ())) <= 1
        except (AssertionError, ValueError) as error:
            wrong.append(f"{name!r}: {case.fate}, {reason}: {str(error).splitlines()[:1]}")
    assert not wrong, "\n".join(wrong)
    assert report.duplicates == ()
    assert len({row["clip_id"] for row in rows}) == len(rows)
    lines = [json.loads(line) for line in Path(report.rejects_path).read_text().splitlines()]
    assert [line["event"] for line in lines] == ["started", *["rejected"] * len(report.rejects), "committed"]


def cut(folder: Path, name: str) -> int:
    """Number of frames that are made of a file."""
    footage = Footage(path=str(folder / name), identity="ann", source="test")
    rows, _ = cut_file(footage, "", "train", SETTINGS)
    return sum(row["num_frames"] for row in rows)


def memory(name: str) -> float:
    """A line of this process's status, in megabytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1]) / 1024


def test_headers_that_lie_take_no_memory_and_make_no_clips(cases):
    folder, files = cases
    cut(folder, "8 kHz.mp4")  # loads what stays loaded
    reset = Path("/proc/self/clear_refs")
    if not os.access(reset, os.W_OK):
        pytest.skip("the peak of memory cannot be set back here")
    reset.write_text("5")
    before = memory("VmRSS")
    for name in files:
        if name.startswith(("hours", "track", "nonsense", "stretched", "box")):
            assert cut(folder, name) <= 33, name
    assert memory("VmHWM") - before < 200


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("ray_session")
def test_two_hundred_files_are_each_ingested_right_or_named(cases, films, tmp_path, monkeypatch):
    # Many cases hold the same packets of a few films on purpose.
    monkeypatch.setattr("data_prep.hashing.merge_copies", lambda hashed, *_: list(hashed))
    folder, files = cases
    assert len(files) == FILES
    uri = str(tmp_path / "clips.lance")
    report = prepare(FolderSource(folder=folder), uri, SETTINGS, Splits())
    assert (report.files, report.known) == (FILES, 0)
    check_report(files, films, report, uri)
