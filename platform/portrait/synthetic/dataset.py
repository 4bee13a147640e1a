"""A folder of synthetic clips as files: MP4 with sound, and the ground truth next to it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from tqdm import tqdm

from portrait.media.mp4 import write_mp4
from portrait.synthetic.clip import SyntheticClip, render_clip


def write_dataset(
    folder: str | Path,
    identities: int,
    clips_per_identity: int,
    seconds: float,
    size: int,
    *,
    first_identity: int = 0,
    progress: bool = True,
) -> list[Path]:
    """Renders clips into `folder/idNNNNN/clipNN.mp4` with `clipNN.npz` (the ground truth) next to it.

    Complete clips are kept as they are: a run that was killed continues where it stopped. Both files appear
    under their names only when whole.

    Args:
        folder: created if missing.
        identities: how many people.
        clips_per_identity: clips of each.
        seconds: length of a clip.
        size: picture side in pixels, a multiple of 4.
        first_identity: seed of the first person; the others follow.
        progress: show a bar.

    Returns:
        Paths of the MP4 files, in order.

    Raises:
        ValueError: a count that is not positive, a bad size or length.
    """
    for name, value in (("identities", identities), ("clips_per_identity", clips_per_identity)):
        if value < 1:
            raise ValueError(f"{name}: found {value}, expected at least 1")
    jobs = [
        (i, c) for i in range(first_identity, first_identity + identities) for c in range(clips_per_identity)
    ]
    paths = []
    for identity, number in tqdm(jobs, desc="synthetic clips", unit="clip", disable=not progress):
        path = Path(folder) / f"id{identity:05d}" / f"clip{number:02d}.mp4"
        paths.append(path)
        if path.exists() and path.with_suffix(".npz").exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        write_clip(path, render_clip(identity, seconds, size=size, clip_seed=number), identity=identity)
    return paths


def write_clip(path: Path, clip: SyntheticClip, *, identity: int | str) -> None:
    """Writes one clip and its truth; the MP4 gets its name last, so that it marks the pair as complete."""
    sheet, film = (path.with_name(f".{path.stem}.{os.getpid()}{ending}") for ending in (".npz", ".mp4"))
    try:
        with sheet.open("wb") as file:
            np.savez_compressed(
                file, identity=identity, mouth_opening=clip.mouth_opening, mouth_opening_px=clip.mouth_opening_px,
                mouth_full_px=clip.mouth_full_px, mouth_centre=clip.mouth_centre, head_pose=clip.head_pose,
            )  # fmt: skip
        write_mp4(film, clip.frames, clip.audio, crf=16)  # fine enough to keep the texture
        sheet.replace(path.with_suffix(".npz"))
        film.replace(path)
    finally:
        sheet.unlink(missing_ok=True)
        film.unlink(missing_ok=True)
