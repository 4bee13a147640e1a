"""Training windows of the latents table: 32 latents with references and the speech of exactly their frames.

Time grid: latent 0 is frame 0, latent j ≥ 1 is frames 4j−3 … 4j. A window begins at latent 0 or at the first latent of
a block (a multiple of 4). Shapes: C h w of a latent, W latents of a window, D speech features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from portrait.storage.clips import SPLITS
from portrait.storage.epoch_sampler import Draw
from portrait.storage.latents import LatentRow, LatentTable
from portrait.storage.mixture import EVERY_SOURCE, SourceMix
from portrait.timing import FRAMES_PER_LATENT, LATENTS_PER_BLOCK

FIRST_WINDOW_SHARE = 0.25
"""Least share of the windows that begin at a clip's first frame, as every stream does."""
NUM_REFERENCES = 3


class LatentWindows(torch.utils.data.Dataset[dict[str, Any]]):
    """Random windows of latents as the VAE gives them; a function of (seed, epoch, row)."""

    def __init__(
        self,
        uri: str,
        window: int = 32,
        *,
        seed: int = 0,
        split: str | None = "train",
        version: int | None = None,
        sample_posterior: bool = True,
        mix: SourceMix = EVERY_SOURCE,
    ) -> None:
        """Opens the table and finds the rows of the split and sources.

        Args:
            uri: the latents table.
            window: W, latents of a window; shorter clips are padded and masked.
            seed: of the random choices.
            split: `train`, `val` or `test`; None for all rows.
            version: version of the table; None for the latest.
            sample_posterior: draws latents from the posterior; False gives its mean.
            mix: weights of the sources, for the sampler; their sizes were checked when the table was encoded.

        Raises:
            FileNotFoundError: there is no table.
            ValueError: a number is out of range, the split is empty, or the table lacks a source.
        """
        if window < LATENTS_PER_BLOCK or window % LATENTS_PER_BLOCK:
            raise ValueError(f"window must be a positive multiple of {LATENTS_PER_BLOCK}, got {window}")
        if split is not None and split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        self.table = LatentTable.open(uri, version)
        self.window = window
        self.seed = seed
        self.sample_posterior = sample_posterior
        rows = self.table.rows(("clip_id", "split", "source"))
        sources = [row["source"] or "" for row in rows]
        mix.check(sources, uri)
        self._indices = [
            i
            for i, row in enumerate(rows)
            if (split is None or row["split"] == split) and mix.allows(sources[i])
        ]
        if not self._indices:
            raise ValueError(f"{uri}: no clip of split {split or 'any'} ({len(rows)} clips in the table)")
        self.clip_ids: list[str] = [rows[i]["clip_id"] for i in self._indices]
        self.weights = mix.row_weights([sources[i] for i in self._indices])
        """For `EpochSampler`."""

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, draw: int | Draw) -> dict[str, Any]:
        """An item; a plain index means epoch 0.

        `latents` float32 [C, W, h, w], zero where padded; `latent_mask` bool [W], True where there is one;
        `reference_latents` float32 [3, C, h, w]; `speech` float32 [4W, D], whose row 4j + i is the i-th
        frame of the window's latent j, zero for missing frames (`is_first`: rows 0 … 2, since latent 0 is one frame, in
        row 3, so that `speech[3:]` is [1 + 4 (W − 1), D]); `is_first` whether the window is its
        clip's first; `start` its first latent; `clip_id`.
        """
        draw = draw if isinstance(draw, tuple) else Draw(0, int(draw))
        return self.__getitems__([Draw(*draw)])[0]

    def __getitems__(self, draws: Sequence[Draw]) -> list[dict[str, Any]]:
        """Items of several draws, whose rows are read together."""
        # Lance's `take` returns each row once, so a row drawn twice in a batch is looked up by position.
        unique = sorted({self._indices[draw.row] for draw in draws})
        rows = dict(zip(unique, self.table.read(unique), strict=True))
        return [self._item(draw, rows[self._indices[draw.row]]) for draw in draws]

    def _item(self, draw: Draw, row: LatentRow) -> dict[str, Any]:
        rng = np.random.default_rng((self.seed, draw.epoch, draw.row))
        channels, total, height, width = row.mean.shape
        start = self._start(rng, total)
        stop = min(total, start + self.window)
        z = row.mean[:, start:stop]
        if self.sample_posterior:
            noise = rng.standard_normal(z.shape, dtype=np.float32)
            z = z + row.variance[:, start:stop].sqrt() * torch.from_numpy(noise)
        latents = torch.zeros(channels, self.window, height, width)
        latents[:, : stop - start] = z
        references = self._references(rng, row.reference_frames, start, stop)
        return {
            "latents": latents,
            "latent_mask": torch.arange(self.window) < stop - start,
            "reference_latents": row.reference_latents[references],
            "speech": self._speech(row.speech, start),
            "is_first": start == 0,
            "start": start,
            "clip_id": row.clip_id,
        }

    def _start(self, rng: np.random.Generator, total: int) -> int:
        """First latent of a window: a multiple of 4, at most the first from which it reaches the clip's last latent."""
        last_block = max(0, -(-(total - self.window) // LATENTS_PER_BLOCK))
        if rng.random() < FIRST_WINDOW_SHARE:
            return 0
        return LATENTS_PER_BLOCK * int(rng.integers(0, last_block + 1))

    def _speech(self, features: torch.Tensor, start: int) -> torch.Tensor:
        speech = torch.zeros(FRAMES_PER_LATENT * self.window, features.shape[1])
        first_frame = FRAMES_PER_LATENT * (start - 1) + 1  # −3 for the first window
        pad = max(0, -first_frame)
        there = features[first_frame + pad : first_frame + len(speech)]
        speech[pad : pad + len(there)] = there
        return speech

    @staticmethod
    def _references(rng: np.random.Generator, frames: Sequence[int], start: int, stop: int) -> list[int]:
        """Three of the K stored references, those outside the window first; repeated where K is smaller."""
        first, last = FRAMES_PER_LATENT * (start - 1) + 1, FRAMES_PER_LATENT * (stop - 1)
        order = [int(i) for i in rng.permutation(len(frames))]
        order.sort(key=lambda i: first <= frames[i] <= last)
        return [order[i % len(order)] for i in range(NUM_REFERENCES)]
