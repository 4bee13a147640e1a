"""HDTF (Zhang et al., 2021): local videos of its collection, cut as its annotation files say.

The annotations are those of the authors' repository: `RD_annotion_time.txt` ("Radio1.mp4 00:20-01:35 …", a time span
for each part of a video) and `RD_crop_wh.txt` ("Radio1_0.mp4 466 535 0 535", part by part where the face is: left,
width, top, height), the same for WDA and WRA. They and the videos, under those names, lie anywhere in one folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data_prep.sources.folder import FolderSource
from data_prep.sources.footage import Footage

SUBSETS = ("RD", "WDA", "WRA")
_TIMES = "annotion_time"  # the authors' spelling
_SPAN = re.compile(r"(?:(\d+):)?(\d+):(\d+)-(?:(\d+):)?(\d+):(\d+)")


@dataclass(frozen=True, kw_only=True)
class HDTFSource:
    """Every annotated part of a video that is there; videos that were not downloaded are passed over.

    A person is the video's name without its number: BenCardin0 and BenCardin1 are one man, and fall into one split.
    """

    folder: Path
    """Annotations and videos."""
    licence: str | None = "videos belong to their authors"
    """Kept in every row's provenance."""

    @property
    def name(self) -> str:
        return "hdtf"

    def files(self) -> list[Footage]:
        """The parts, in the annotations' order.

        Raises:
            FileNotFoundError: there is no such folder, or no annotation in it.
            ValueError: a line is malformed, or none of the annotated videos is there.
        """
        videos = {Path(file.path).stem: file.path for file in FolderSource(folder=self.folder).files()}
        times = [path for path in (self._table(subset, _TIMES) for subset in SUBSETS) if path]
        if not times:
            raise FileNotFoundError(
                f"{self.folder} has no annotations of HDTF: expected {SUBSETS[0]}_{_TIMES}.txt or another subset's"
            )
        regions = {name: region for subset in SUBSETS for name, region in self._regions(subset)}
        found = [
            Footage(
                path=videos[video],
                identity=re.sub(r"[_0-9]+$", "", video) if not video.startswith("Radio") else video,
                source=self.name,
                licence=self.licence,
                start_s=start,
                end_s=end,
                region=regions.get(f"{video}_{number}"),
            )
            for path in times
            for video, spans in _spans(path)
            for number, (start, end) in enumerate(spans)
            if video in videos
        ]
        if not found:
            raise ValueError(
                f"{self.folder}: none of its {len(videos)} videos is named as in HDTF's annotations"
            )
        return found

    def _table(self, subset: str, what: str) -> Path | None:
        """An annotation file, wherever in the folder it is."""
        return next(iter(sorted(self.folder.rglob(f"{subset}_{what}.txt"))), None)

    def _regions(self, subset: str) -> Iterator[tuple[str, tuple[int, int, int, int]]]:
        path = self._table(subset, "crop_wh")
        for line, (name, *numbers) in _lines(path) if path else ():
            if len(numbers) != 4 or not all(number.isdigit() for number in numbers):
                raise ValueError(f"{path} line {line}: expected NAME left width top height, got {numbers}")
            left, width, top, height = map(int, numbers)
            yield name.removesuffix(".mp4"), (left, top, width, height)


def _spans(path: Path) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    for line, (name, *texts) in _lines(path):
        spans = []
        for text in texts:
            match = _SPAN.fullmatch(text)
            if match is None:
                raise ValueError(f"{path} line {line}: expected time spans such as 00:20-01:35, got {text!r}")
            hours, minutes, seconds = (int(part or 0) for part in match.groups()[:3])
            to_hours, to_minutes, to_seconds = (int(part or 0) for part in match.groups()[3:])
            start = 3600 * hours + 60 * minutes + seconds
            end = 3600 * to_hours + 60 * to_minutes + to_seconds
            if end <= start:
                raise ValueError(f"{path} line {line}: the span {text} ends before it begins")
            spans.append((float(start), float(end)))
        yield name.removesuffix(".mp4"), spans


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line's number, its fields) of every line that is not empty."""
    for number, text in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if text.strip():
            yield number, text.split()
