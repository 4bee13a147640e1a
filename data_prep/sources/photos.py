"""Talking heads made of photographs: videos of every still in a folder, rendered first, then read like any footage.

Each photograph counts as a different person. `portrait.faces.landmarks` finds the landmarks,
`portrait.synthetic.photo_renderer` renders the frames.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import ray

from data_prep.progress import ProgressLine
from data_prep.sources.footage import Footage
from data_prep.sources.synthetic import RENDER_SIZE

PICTURE_SUFFIXES = frozenset((".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"))
LANDMARKER_SETTING = "--photos.landmarker"


@dataclass(frozen=True, kw_only=True)
class PhotoSettings:
    """How photographs become talking heads."""

    landmarker: Path | None = None
    """MediaPipe's face landmarker bundle (face_landmarker.task); required for photos:FOLDER."""
    clips: int = 2
    """Videos rendered of each photograph."""
    seconds: float = 3.0
    """Length of a video."""

    def __post_init__(self) -> None:
        if self.clips < 1 or not self.seconds > 0:
            raise ValueError(
                f"photos.clips and photos.seconds must be positive, got {self.clips} and {self.seconds}"
            )


DEFAULT_PHOTOS = PhotoSettings()


@dataclass(frozen=True, kw_only=True)
class PhotoSource:
    """Talking heads made of the photographs below a folder; videos that were rendered before are reused."""

    photos: Path
    """The folder of photographs."""
    landmarker: Path
    """MediaPipe's face landmarker bundle."""
    clips_per_photo: int
    """Videos of each."""
    seconds: float
    """Length of a video."""
    folder: Path
    """Where the videos are rendered to."""
    licence: str | None = None
    """Licence of the photographs."""

    @classmethod
    def configured(
        cls, photos: Path, settings: PhotoSettings, folder: Path, licence: str | None = None
    ) -> PhotoSource:
        """The source of `photos:FOLDER`.

        Raises:
            ValueError: no landmarker is given.
        """
        if settings.landmarker is None:
            raise ValueError(
                f"photos:{photos} needs {LANDMARKER_SETTING}: the path of MediaPipe's face landmarker bundle, "
                "face_landmarker.task"
            )
        return cls(
            photos=photos,
            landmarker=settings.landmarker.absolute(),
            clips_per_photo=settings.clips,
            seconds=settings.seconds,
            folder=folder.absolute() / f"{settings.seconds:g}s",
            licence=licence,
        )

    @property
    def name(self) -> str:
        return "photos"

    def files(self) -> list[Footage]:
        """One `Footage` per video; a photograph without a usable face becomes one with a `problem`.

        Raises:
            FileNotFoundError: the folder or the landmarker does not exist.
            ValueError: the folder holds no picture, or the landmarker is not MediaPipe's bundle.
        """
        from portrait.faces.landmarks import FaceLandmarker

        pictures = self._pictures()
        FaceLandmarker(self.landmarker)  # fails here rather than blaming a photograph for a wrong file
        render = ray.remote(_render_photo)
        unique = list({digest: path for path, digest in reversed(pictures)}.items())
        problems: dict[str, str] = {}
        waiting = {
            render.remote(
                str(path),
                digest,
                [str(clip) for clip in self._clips(digest)],
                self.seconds,
                str(self.landmarker),
            ): digest
            for digest, path in unique
            if not all(clip.exists() for clip in self._clips(digest))
        }
        with ProgressLine("rendering photographs", total=len(waiting), unit="photograph") as progress:
            pending = list(waiting)
            while pending:
                done, pending = ray.wait(pending)
                for reference in done:
                    problem = ray.get(reference)
                    if problem:
                        problems[waiting[reference]] = problem
                progress.advance(len(done))
        return [
            file for path, digest in pictures for file in self._footage(path, digest, problems.get(digest))
        ]

    def _pictures(self) -> list[tuple[Path, str]]:
        """Every image file below the folder with the hash of its content, in a fixed order."""
        if not self.photos.is_dir():
            raise FileNotFoundError(f"photos:{self.photos}: no such folder")
        found = sorted(
            path
            for path in self.photos.rglob("*")
            if path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".") and path.is_file()
        )
        if not found:
            known = ", ".join(sorted(PICTURE_SUFFIXES))
            raise ValueError(f"photos:{self.photos} holds no picture ({known})")
        return [(path, hashlib.sha256(path.read_bytes()).hexdigest()[:16]) for path in found]

    def _clips(self, digest: str) -> list[Path]:
        return [self.folder / digest / f"clip{number:02d}.mp4" for number in range(self.clips_per_photo)]

    def _footage(self, path: Path, digest: str, problem: str | None) -> list[Footage]:
        identity = f"photo-{digest}"
        if problem is not None:
            return [
                Footage(
                    path=str(path.absolute()),
                    identity=identity,
                    source=self.name,
                    licence=self.licence,
                    problem=problem,
                )
            ]
        return [
            Footage(path=str(clip), identity=identity, source=self.name, licence=self.licence)
            for clip in self._clips(digest)
        ]


def _render_photo(path: str, digest: str, clips: list[str], seconds: float, landmarker: str) -> str | None:
    """Renders a photograph's videos. Returns what is wrong with the photograph, or None."""
    import cv2

    from portrait.faces import NoFaceError
    from portrait.faces.landmarks import FaceLandmarker
    from portrait.media.image_file import read_image_file
    from portrait.synthetic import render_photo, write_clip

    cv2.setNumThreads(1)
    try:
        picture = read_image_file(path)
        landmarks = FaceLandmarker(landmarker).find(picture)
    except (NoFaceError, ValueError, OSError) as error:
        return str(error).removeprefix(f"{path}: ")
    seed = int(digest, 16)
    for number, clip in enumerate(clips):
        target = Path(clip)
        if target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        rendered = render_photo(picture, landmarks, seconds, size=RENDER_SIZE, seed=seed, clip_seed=number)
        write_clip(target, rendered, identity=digest)
    return None
