"""HDTF (Zhang et al., 2021): local videos of the collection, cut by its annotation files.

The annotations are those of the authors' repository: `RD_annotion_time.txt` ("Radio1.mp4 00:20-01:35 …", a time span
for each part of a video) and `RD_crop_wh.txt` ("Radio1_0.mp4 466 535 0 535", the face of each part: left, width, top,
height), likewise for WDA and WRA. They and the videos, with those names, are anywhere in one folder.
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
    """Every annotated part of the videos that exist; videos that were not downloaded are skipped.

    The identity is the video's name without its number: BenCardin0 and BenCardin1 are the same man.
    """

    folder: Path
    """Folder with the annotations and the videos."""
    licence: str | None = "videos belong to their authors"
    """Licence of the footage, stored with every clip."""

    @property
    def name(self) -> str:
        return "hdtf"

    def files(self) -> list[Footage]:
        """The parts, in the order of the annotations.

        Raises:
            FileNotFoundError: the folder does not exist or contains no annotations.
            ValueError: a line is malformed, or none of the annotated videos exists.
        """
        videos = {Path(file.path).stem: file.path for file in FolderSource(folder=self.folder).files()}
        times = [path for path in (self._table(subset, _TIMES) for subset in SUBSETS) if path]
        if not times:
            raise FileNotFoundError(
                f"{self.folder} contains no HDTF annotations; expected {SUBSETS[0]}_{_TIMES}.txt or another subset's"
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
                f"{self.folder}: none of the {len(videos)} videos has a name from HDTF's annotations"
            )
        return found

    def _table(self, subset: str, what: str) -> Path | None:
        """An annotation file, anywhere in the folder."""
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
                raise ValueError(f"{path} line {line}: the span {text} ends before it starts")
            spans.append((float(start), float(end)))
        yield name.removesuffix(".mp4"), spans


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yields (line number, fields) for every line that is not empty."""
    for number, text in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if text.strip():
            yield number, text.split()
