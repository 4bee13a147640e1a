"""The embedded synthetic heads: rendered to raw video files first, then read like any footage."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import ray

from data_prep.progress import ProgressLine
from data_prep.sources.footage import Footage

RENDER_SIZE = 256
"""Side of the rendered pictures in pixels."""
LICENCE = "Apache-2.0"
_FORM = re.compile(
    r"synthetic:(?P<identities>[0-9]+)x(?P<clips>[0-9]+)x(?P<seconds>[0-9]+(\.[0-9]+)?)(@(?P<first>[0-9]+))?"
)


@dataclass(frozen=True, kw_only=True)
class SyntheticSource:
    """Synthetic talking heads (see `portrait.synthetic`); videos that are rendered already are reused."""

    identities: int
    """Number of people."""
    clips_per_identity: int
    """Videos of each."""
    seconds: float
    """Length of a video."""
    first_identity: int = 0
    """Number of the first person: another range gives different people."""
    folder: Path
    """Folder that the videos are rendered to."""

    @classmethod
    def parse(cls, text: str, folder: Path) -> SyntheticSource:
        """The source of `synthetic:IDENTITIESxCLIPSxSECONDS[@FIRST]`.

        Raises:
            ValueError: the text has another form, or a number is 0.
        """
        match = _FORM.fullmatch(text)
        if match is None:
            raise ValueError(
                f"source {text!r} must read synthetic:IDENTITIESxCLIPSxSECONDS[@FIRST], as in synthetic:8x3x6"
            )
        identities, clips, seconds = int(match["identities"]), int(match["clips"]), float(match["seconds"])
        if not (identities and clips and seconds):
            raise ValueError(f"source {text!r}: identities, clips and seconds must be above 0")
        return cls(
            identities=identities,
            clips_per_identity=clips,
            seconds=seconds,
            first_identity=int(match["first"] or 0),
            folder=folder.absolute() / f"{seconds:g}s",
        )

    @property
    def name(self) -> str:
        return "synthetic"

    def files(self) -> list[Footage]:
        paths = {number: self._paths(number) for number in self._numbers()}
        missing = [number for number, clips in paths.items() if not all(clip.exists() for clip in clips)]
        render = ray.remote(_render_identity)
        pending = [
            render.remote(str(self.folder), number, self.clips_per_identity, self.seconds)
            for number in missing
        ]
        with ProgressLine("rendering heads", total=len(pending), unit="head") as progress:
            while pending:
                done, pending = ray.wait(pending)
                ray.get(done)
                progress.advance(len(done))
        return [
            Footage(path=str(clip), identity=f"synthetic-{number:05d}", source=self.name, licence=LICENCE)
            for number, clips in paths.items()
            for clip in clips
        ]

    def _paths(self, number: int) -> list[Path]:
        """Where `write_dataset` puts the videos of a person."""
        folder = self.folder / f"id{number:05d}"
        return [folder / f"clip{clip:02d}.mp4" for clip in range(self.clips_per_identity)]

    def _numbers(self) -> range:
        return range(self.first_identity, self.first_identity + self.identities)


def _render_identity(folder: str, number: int, clips: int, seconds: float) -> None:
    from portrait.synthetic import write_dataset

    write_dataset(folder, 1, clips, seconds, RENDER_SIZE, first_identity=number, progress=False)
