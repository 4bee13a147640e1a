"""How well lips and sound agree: SyncNet's offset, confidence (S_C) and distance (S_D).

Computed as in the published evaluation (Chung and Zisserman 2016; their `SyncNetInstance`): the distance of lips and
speech is averaged over the video for every offset from -15 to 15 frames. The offset is where it is smallest, S_D is the
smallest distance, and S_C is the median distance less the smallest. Letters: `T` frames, `N` windows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from python_speech_features import mfcc
from torch import Tensor
from torch.nn import functional

from portrait.faces import CropBox, FaceDetector, NoFaceError, YuNetDetector, apply_crop, track_faces
from portrait.metrics.syncnet import FACE_SIZE, STEPS_PER_FRAME, WINDOW_FRAMES, SyncNet
from portrait.timing import SAMPLE_RATE, SAMPLES_PER_FRAME

MAX_OFFSET = 15
"""Largest offset in frames, in either direction."""
SHORTEST = WINDOW_FRAMES + 1
"""Frames of the shortest video; the cepstra of the last window end a step before its sound does."""
_FACE_SHARE = 1.4
"""Side of the square that SyncNet sees, in face heights."""


@dataclass(frozen=True, kw_only=True)
class Synchrony:
    """SyncNet's measurements of a video."""

    offset: int
    """Frames by which the lips are late; negative if they are early."""
    confidence: float
    """S_C, the median distance over all offsets less the smallest; larger is better."""
    distance: float
    """S_D, the mean distance of lips and speech at this offset; smaller is better."""


def sync_square(box: NDArray[np.float32]) -> CropBox:
    """The square of a frame that SyncNet sees: around the face, reaching well below the chin.

    Args:
        box: (x, y, w, h) of a face in pixels, as in `faces.detector.Face`.
    """
    x, y, w, h = (float(value) for value in box)
    side = _FACE_SHARE * h
    return CropBox(x0=round(x + (w - side) / 2), y0=round(y), size=max(2, round(side)))


def synchrony_of_video(
    network: SyncNet,
    frames: NDArray[np.uint8],
    samples: NDArray[np.float32],
    detector: FaceDetector | None = None,
) -> Synchrony | None:
    """Finds a video's face and measures it; see `measure_synchrony`.

    Args:
        network: with published weights.
        frames: RGB uint8 [T, H, W, 3], 25 per second.
        samples: float32 [S] in [-1, 1], 16 kHz, from the first frame on.
        detector: the embedded one by default.

    Returns:
        None if no face is found, or there are too few frames.
    """
    try:
        track = track_faces(frames, detector or YuNetDetector())
    except NoFaceError:
        return None
    squares = [sync_square(box) for box in track.boxes]
    faces = [
        apply_crop(frame[None], square, FACE_SIZE)[0] for frame, square in zip(frames, squares, strict=True)
    ]
    return measure_synchrony(network, np.stack(faces), samples)


@torch.inference_mode()
def measure_synchrony(
    network: SyncNet, faces: NDArray[np.uint8], samples: NDArray[np.float32]
) -> Synchrony | None:
    """Measures a video.

    Args:
        network: with published weights, on the device to use.
        faces: RGB uint8 [T, 224, 224, 3], 25 per second, cut out by `sync_square`.
        samples: float32 [S] in [-1, 1], 16 kHz, from the first frame on.

    Returns:
        None if there are fewer than six frames with sound.
    """
    num_frames = min(len(faces), len(samples) // SAMPLES_PER_FRAME)
    if num_frames < SHORTEST:
        return None
    device = next(network.parameters()).device
    pcm = np.clip(np.round(samples * 32768), -32768, 32767).astype(np.int16)
    # The network was trained on the cepstra of this package; others have other windows, filters and lifters.
    cepstra = torch.from_numpy(mfcc(pcm, SAMPLE_RATE).astype(np.float32).T.copy())
    # [N, 13, 20]: one window per frame, five frames long.
    windows = cepstra.unfold(1, WINDOW_FRAMES * STEPS_PER_FRAME, STEPS_PER_FRAME).transpose(0, 1)
    count = num_frames - WINDOW_FRAMES
    bgr = torch.from_numpy(np.ascontiguousarray(faces[: num_frames - 1, :, :, ::-1])).permute(0, 3, 1, 2)
    lips = network.embed_lips(bgr.to(device))
    return synchrony(lips, network.embed_speech(windows[:count].contiguous().to(device)))


def synchrony(lips: Tensor, speech: Tensor) -> Synchrony:
    """Offset, confidence and distance of embeddings.

    Args:
        lips: float32 [N, D], one per frame.
        speech: float32 [N, D], at the same times.
    """
    padded = functional.pad(speech, (0, 0, MAX_OFFSET, MAX_OFFSET))
    distances = torch.stack(
        [
            functional.pairwise_distance(lips, padded[shift : shift + len(lips)]).mean()
            for shift in range(2 * MAX_OFFSET + 1)
        ]
    )
    least, at = distances.min(0)
    return Synchrony(
        offset=MAX_OFFSET - int(at),
        confidence=float(distances.median() - least),
        distance=float(least),
    )
