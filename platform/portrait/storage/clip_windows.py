"""Training windows of clips for the VAE: a map-style dataset over a clips table or a folder of shards.

Every random choice about an item is a function of (seed, epoch, row), so that a resumed run sees the same data.
Only the frames of the window and its references are decoded.
Letters: N frames of any kind, T frames after the first, K references, C H W of a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from portrait.media.random_access import decode_window
from portrait.storage.clip_collections import open_clips
from portrait.storage.clips import GROUP_OF_PICTURES, SPLITS, Clips
from portrait.storage.epoch_sampler import Draw
from portrait.storage.mixture import EVERY_SOURCE, SourceMix
from portrait.timing import is_whole_latents

REFERENCE_REACH = 4
"""References are drawn from this many first frames of each group of pictures, if the clip has enough of them."""


class ClipWindows(torch.utils.data.Dataset[dict[str, Any]]):
    """Windows of `num_frames` frames with reference pictures from elsewhere in the same clip."""

    def __init__(
        self,
        uri: str | Clips,
        size: int,
        num_frames: int,
        *,
        max_references: int = 3,
        seed: int = 0,
        split: str | None = "train",
        version: int | None = None,
        mix: SourceMix = EVERY_SOURCE,
    ) -> None:
        """Opens the table and selects the rows of the split that are long enough and whose source `mix` allows.

        Args:
            uri: the clips table or folder of shards, or an open collection.
            size: side of the pictures in pixels; clips of another size are resized (by area when shrinking).
            num_frames: frames of a window, 1+T, where T is a multiple of 4.
            max_references: K, references of every item (training masks some of them).
            seed: seed of the random choices.
            split: `train`, `val` or `test`; None for all rows.
            version: version of the table; None for the latest.
            mix: which sources are used at this size, and the weights of their rows.

        Raises:
            FileNotFoundError: there is no table.
            ValueError: a number is out of range, no row of the split is long enough, or a source does not exist.
        """
        if not is_whole_latents(num_frames):
            raise ValueError(f"num_frames must be 1 + a multiple of 4, got {num_frames}")
        if size < 1 or max_references < 0:
            raise ValueError(
                f"size must be positive and max_references not negative, got {size} and {max_references}"
            )
        if split is not None and split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        self.table = open_clips(uri, version) if isinstance(uri, str) else uri
        self.size = size
        self.num_frames = num_frames
        self.max_references = max_references
        self.seed = seed
        rows = self.table.rows(("clip_id", "identity", "split", "num_frames", "source"))
        mix.check([row["source"] for row in rows], str(uri))
        in_split = [
            i
            for i, row in enumerate(rows)
            if (split is None or row["split"] == split) and mix.allows(row["source"], size)
        ]
        indices = [i for i in in_split if rows[i]["num_frames"] >= num_frames]
        if not indices:
            raise ValueError(
                f"{uri}: no clip of split {split or 'any'} has {num_frames} frames "
                f"({len(in_split)} clips in the split, {len(rows)} in the table)"
            )
        self._indices = indices
        self.weights = mix.row_weights([rows[i]["source"] for i in indices])
        """For `EpochSampler`."""
        self._lengths = [int(rows[i]["num_frames"]) for i in indices]
        self.clip_ids: list[str] = [rows[i]["clip_id"] for i in indices]
        self.identities: list[str] = [rows[i]["identity"] for i in indices]

    @property
    def version(self) -> int:
        """Version of the table that is read."""
        return self.table.version

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, draw: int | Draw) -> dict[str, Any]:
        """An item: `video` uint8 [3, 1+T, H, W], `references` uint8 [K, 3, H, W], `clip_id`, `start` (first frame),
        `reference_frames` int64 [K]. A plain index stands for epoch 0.
        """
        draw = draw if isinstance(draw, tuple) else Draw(0, int(draw))
        return self.__getitems__([Draw(*draw)])[0]

    def __getitems__(self, draws: Sequence[Draw]) -> list[dict[str, Any]]:
        """Items of several draws, whose clips are read at once."""
        videos = self.read_videos(draws)
        return [self._item(draw, video) for draw, video in zip(draws, videos, strict=True)]

    def read_videos(self, draws: Sequence[Draw]) -> list[bytes]:
        """The draws' whole clips, as H.264 MP4 bytes."""
        return self.table.read_video([self._indices[draw.row] for draw in draws])

    def choose(self, draw: Draw) -> tuple[int, list[int]]:
        """The first frame of a draw's window, and its K reference frames."""
        rng = np.random.default_rng((self.seed, draw.epoch, draw.row))
        length = self._lengths[draw.row]
        start = int(rng.integers(0, length - self.num_frames + 1))
        outside = np.concatenate([np.arange(start), np.arange(start + self.num_frames, length)])
        # Decoding begins at a key frame, so references shortly after one save most of an item's time; where key frames
        # fall has nothing to do with what the clip shows.
        cheap = outside[outside % GROUP_OF_PICTURES < REFERENCE_REACH]
        for candidates in (cheap, outside):
            if len(candidates) >= self.max_references:
                return start, [int(i) for i in rng.choice(candidates, self.max_references, replace=False)]
        # The clip is too short: one frame from each of K equal parts of it, so that they differ as much as they can.
        edges = np.linspace(0, length, self.max_references + 1)
        return start, [min(length - 1, int(rng.uniform(a, b))) for a, b in pairwise(edges)]

    def _item(self, draw: Draw, video: bytes) -> dict[str, Any]:
        start, references = self.choose(draw)
        wanted = [*range(start, start + self.num_frames), *references]
        frames_NHWC = torch.from_numpy(_resize(decode_window(video, wanted), self.size))
        return {
            "video": frames_NHWC[: self.num_frames].permute(3, 0, 1, 2).contiguous(),
            "references": frames_NHWC[self.num_frames :].permute(0, 3, 1, 2).contiguous(),
            "clip_id": self.clip_ids[draw.row],
            "start": start,
            "reference_frames": torch.tensor(references, dtype=torch.int64),
        }


def _resize(frames_THWC: np.ndarray, size: int) -> np.ndarray:
    if frames_THWC.shape[1:3] == (size, size):
        return frames_THWC
    import cv2

    shrinks = frames_THWC.shape[1] > size
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.stack([cv2.resize(frame, (size, size), interpolation=interpolation) for frame in frames_THWC])
