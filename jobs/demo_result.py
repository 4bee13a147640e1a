"""Checks, measurements and the contact sheet of the video that the demo streamed. Shapes: T frames of H × W pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jobs.demo_material import Material
from pipelines.reconstruction import reconstruct
from portrait.media.contact_sheet import SheetRow, contact_sheet, save_png
from portrait.media.tensors import tensor_to_frames
from portrait.media.tracks import read_tracks
from portrait.media.video import read_video
from portrait.metrics.correlation import correlation
from portrait.metrics.lip_aperture import lip_aperture
from portrait.timing import FRAME_RATE
from portrait.vae import VideoVAE

COLUMNS = 10
"""Frames per row of the contact sheet."""


@dataclass(frozen=True, kw_only=True)
class Mouth:
    """How well the generated mouth follows the speech."""

    right: float
    """Correlation of the measured opening with the one that belongs to the speech."""
    wrong: float
    """Correlation of the measured opening with that of other speech."""


def follow(frames: np.ndarray, material: Material) -> Mouth:
    """Measures the mouth opening in frames uint8 [T, H, W, 3] and correlates it with both openings of the material."""
    aperture = lip_aperture(frames)

    def against(track: np.ndarray) -> float:
        length = min(len(aperture), len(track))
        return correlation(aperture[:length], track[:length])

    return Mouth(right=against(material.opening), wrong=against(material.other_opening))


def check_video(path: Path, seconds: float) -> str:
    """Describes the streamed file in one line.

    Raises:
        ValueError: the file is not H.264 + AAC at 25 frames/s, or one of the tracks is not as long as the speech.
    """
    tracks = read_tracks(path)
    mismatches = tracks.mismatches(seconds)
    if mismatches:
        raise ValueError(f"{path}: {'; '.join(mismatches)}")
    return (
        f"{tracks.video.codec} + {tracks.audio.codec}, {tracks.fps:.0f} frames/s, "
        f"video {tracks.video.seconds:.2f} s, audio {tracks.audio.seconds:.2f} s, speech {seconds:.2f} s, "
        f"starts {abs(tracks.video.start_s - tracks.audio.start_s) * 1000:.0f} ms apart"
    )


def draw_sheet(path: Path, video: Path, material: Material, vae: VideoVAE, title: str) -> np.ndarray:
    """Draws references, reconstruction and generated frames with the speech's waveform.

    Args:
        path: the PNG file to write.
        video: the streamed file.
        material: what was streamed.
        vae: reconstructs the clip of the material.
        title: heading of the sheet.

    Returns:
        All frames of the streamed file, uint8 [T, H, W, 3].
    """
    frames = read_video(video).frames
    clip = material.clip
    rebuilt = tensor_to_frames(reconstruct(vae, clip, (3,))[3])
    shown = np.linspace(0, len(clip.frames) - 1, COLUMNS).round().astype(int)
    generated = np.linspace(0, len(frames) - 1, COLUMNS).round().astype(int)
    times = (generated + 0.5) / FRAME_RATE
    seen = "in the training data" if material.split == "train" else "never trained on"
    rows = [
        SheetRow(label="references", frames=list(clip.references), captions=("first", "last", "middle")),
        SheetRow(label=f"original\n({seen})", frames=list(clip.frames[shown])),
        SheetRow(label="reconstruction\nM = 3", frames=list(rebuilt[shown])),
        SheetRow(
            label="generated\nfrom speech",
            frames=list(frames[generated]),
            captions=tuple(f"{time:.2f} s" for time in times),
            timed=True,
        ),
    ]
    sheet = contact_sheet(rows, material.audio, times, title=title, cell=128)
    save_png(path, sheet)
    return frames
