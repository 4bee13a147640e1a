"""Sharpness and colour of a stream's frames, which drift if errors accumulate.

Letters: `T` frames of H × W pixels, `M` reference pictures.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_CELLS = 8
"""Colours are compared in 8×8 cells: fine enough for a tinted border or a stain, too coarse for moving lips."""


def sharpness(frames: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian of the grey frame in [0, 1], averaged over frames (Pech-Pacheco et al. 2000).

    Args:
        frames: RGB [T, H, W, 3].
    """
    _check(frames, "frames")
    grey = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255 for frame in frames)
    return float(np.mean([cv2.Laplacian(picture, cv2.CV_32F).var() for picture in grey]))


def colour_distance(frames: NDArray[np.uint8], references: NDArray[np.uint8]) -> float:
    """ΔE*ab (CIE 1976, the distance in L*a*b*) of the mean of the frames from that of the references, averaged over
    8×8 cells.

    About 2 is just visible. With cells, opposite changes in different places do not cancel as in one mean colour.

    Args:
        frames: RGB [T, H, W, 3].
        references: RGB [M, H, W, 3]; their size may differ from the frames'.
    """
    apart = _mean_cells(frames, "frames") - _mean_cells(references, "references")
    return float(np.linalg.norm(apart, axis=-1).mean())


def _mean_cells(frames: NDArray[np.uint8], name: str) -> NDArray[np.float32]:
    """L*a*b* [8, 8, 3], averaged over frames and over each cell's pixels."""
    _check(frames, name)
    cells = [
        cv2.resize(
            cv2.cvtColor(frame.astype(np.float32) / 255, cv2.COLOR_RGB2LAB),
            (_CELLS, _CELLS),
            interpolation=cv2.INTER_AREA,
        )
        for frame in frames
    ]
    return np.mean(cells, axis=0)


def _check(frames: NDArray[np.uint8], name: str) -> None:
    if frames.ndim != 4 or frames.shape[-1] != 3 or len(frames) == 0 or frames.dtype != np.uint8:
        raise ValueError(
            f"{name} must be uint8 [T, H, W, 3] with T ≥ 1, got {frames.dtype} {list(frames.shape)}"
        )
