"""Shot boundaries: where footage cuts to another picture, found while the frames go by.

PySceneDetect's adaptive detector says where a frame changes far more than its neighbours do, so that a moving camera or
a gesture is no cut; a flash (a photographer's, for instance) comes back to the picture before it and is none either.
"""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np
from scenedetect import FrameTimecode
from scenedetect.detectors import AdaptiveDetector

LOOKAHEAD = 3
"""A cut is known this many frames after it."""
WIDTH = 96
"""Pictures are looked at about this wide: shots differ as a whole, and the search must cost little."""
_FLASH = 0.5
"""A picture comes back if it differs by less than this share of the change itself."""


class ShotDetector:
    """Finds the first frames of new shots in a stream of frames.

    Args:
        threshold: how many times its neighbours' change a frame's change must be; 3 is PySceneDetect's own value.
        fps: frames per second.
    """

    def __init__(self, threshold: float, fps: int) -> None:
        self._fps = fps
        # Its own least length would swallow cuts that follow each other quickly: here every one counts.
        self._detector = AdaptiveDetector(adaptive_threshold=threshold, min_scene_len=1)
        self._recent: deque[np.ndarray] = deque(maxlen=2 * LOOKAHEAD + 1)
        self._seen = 0
        self._waiting: deque[int] = deque()
        self._begun = False

    def push(self, frame: np.ndarray) -> int | None:
        """Takes the next frame, RGB uint8 [H, W, 3], of any size: `WIDTH` pixels across say as much as more.

        Returns:
            The number of the frame `LOOKAHEAD` before this one if a shot begins there, counted from 0; else None.
        """
        step = max(1, frame.shape[1] // WIDTH)
        small = cv2.cvtColor(np.ascontiguousarray(frame[::step, ::step]), cv2.COLOR_RGB2BGR)
        if not self._begun:
            # As if the first picture had stood before: a cut right behind it has neighbours to be compared with.
            self._begun = True
            for _ in range(LOOKAHEAD):
                self._take(small)
        return self._take(small)

    def finish(self) -> list[int]:
        """Shots that begin in the last `LOOKAHEAD` frames, as if the last picture stood on; no frame may follow."""
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
        return at - LOOKAHEAD if found else None  # counted without the pictures before the first

    def _comes_back(self) -> bool:
        """Whether a picture from before the change in the middle of what is remembered is seen again after it."""
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
