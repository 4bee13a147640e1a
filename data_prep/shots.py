"""Shot boundaries, found while the frames are decoded.

PySceneDetect's adaptive detector reports a frame that changes far more than its neighbours do, so a moving camera or a
gesture is not a cut. Nor is a flash, after which the earlier frame is seen again.
"""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np
from scenedetect import FrameTimecode
from scenedetect.detectors import AdaptiveDetector

LOOKAHEAD = 3
"""A cut is reported this many frames after it."""
WIDTH = 96
"""Frames are examined at about this width: shots differ as a whole, and the search must be cheap."""
_FLASH = 0.5
"""A frame counts as seen again if it differs by less than this share of the change itself."""


class ShotDetector:
    """Finds the first frames of new shots in a stream of frames.

    Args:
        threshold: ratio of a frame's change to its neighbours' above which it is a cut; PySceneDetect's default is 3.
        fps: frames per second.
    """

    def __init__(self, threshold: float, fps: int) -> None:
        self._fps = fps
        # Its minimum scene length would hide cuts in quick succession; here every cut counts.
        self._detector = AdaptiveDetector(adaptive_threshold=threshold, min_scene_len=1)
        self._recent: deque[np.ndarray] = deque(maxlen=2 * LOOKAHEAD + 1)
        self._seen = 0
        self._waiting: deque[int] = deque()
        self._begun = False

    def push(self, frame: np.ndarray) -> int | None:
        """Takes the next frame, RGB uint8 [H, W, 3], of any size; more than `WIDTH` pixels across gain nothing.

        Returns:
            The number of the frame `LOOKAHEAD` before this one if a shot begins there, counted from 0; else None.
        """
        step = max(1, frame.shape[1] // WIDTH)
        small = cv2.cvtColor(np.ascontiguousarray(frame[::step, ::step]), cv2.COLOR_RGB2BGR)
        if not self._begun:
            # Repeat the first frame, so that a cut right after it has neighbours to be compared with.
            self._begun = True
            for _ in range(LOOKAHEAD):
                self._take(small)
        return self._take(small)

    def finish(self) -> list[int]:
        """First frames of shots within the last `LOOKAHEAD` frames; no frame may follow."""
        if not self._begun:
            return []
        cuts = [self._take(self._recent[-1]) for _ in range(LOOKAHEAD)]
        return [cut for cut in cuts if cut is not None]

    def _take(self, small: np.ndarray) -> int | None:
        self._recent.append(small)
        cuts = self._detector.process_frame(FrameTimecode(self._seen, fps=float(self._fps)), small)
        self._waiting.extend(cut.frame_num for cut in cuts)
        at = self._seen - LOOKAHEAD
        self._seen += 1
        if not self._waiting or self._waiting[0] > at:
            return None
        found = self._waiting.popleft() == at and not self._comes_back()
        return at - LOOKAHEAD if found else None  # without the repeated first frame

    def _comes_back(self) -> bool:
        """Whether a frame from before the change in the middle of the recent frames is seen again after it."""
        frames = [frame.astype(np.int16) for frame in self._recent]
        middle = len(frames) - 1 - LOOKAHEAD
        change = np.abs(frames[middle] - frames[middle - 1]).mean()
        nearest = min(
            np.abs(before - after).mean()
            for i, before in enumerate(frames[:middle])
            for j, after in enumerate(frames[middle:], middle)
            if (i, j) != (middle - 1, middle)
        )
        return bool(nearest < _FLASH * change)
