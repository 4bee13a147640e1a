"""Held-out clips and their reconstruction by the VAE with 0 … 3 references (paper, ablation of the VAE).

References follow the paper's protocol: M = 1 is the clip's first frame, M = 2 adds the last, M = 3 the middle one.
Shapes: B clips, 1+T frames, L = 1+T/4 latents, M references, H × W pixels (h × w in latents).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from portrait.layers.causal_conv import History
from portrait.media.random_access import decode_window
from portrait.media.tensors import frames_to_tensor
from portrait.storage.clip_collections import open_clips
from portrait.storage.clips import SPLITS, Clips
from portrait.timing import FRAMES_PER_BLOCK, LATENTS_PER_BLOCK, whole_latent_frames
from portrait.vae import Posterior, VideoVAE


@dataclass(frozen=True, kw_only=True)
class HeldOutClip:
    """A clip to reconstruct and its three references in the order of the protocol."""

    clip_id: str
    frames: np.ndarray
    """uint8 [1+T, H, W, 3], T a multiple of 4."""
    references: np.ndarray
    """uint8 [3, H, W, 3]: the clip's first, last and middle frame."""


def held_out_split(
    table: Clips, preferred: Sequence[str] = ("test", "val"), *, source: str | None = None
) -> str:
    """The split to evaluate on: the first preferred one with clips (of `source`, if given), otherwise `train`.

    Metrics on `train` say little about other people.

    Raises:
        ValueError: the table has no clips of the source.
    """
    rows = table.rows(("split", "source"))
    present = {row["split"] for row in rows if source in (None, row["source"])}
    if source is not None and not present:
        known = ", ".join(sorted({row["source"] for row in rows})) or "none"
        raise ValueError(f"no clips of source {source!r}; sources in the table: {known}")
    return next((split for split in (*preferred, *SPLITS) if split in present), "train")


def read_clips(
    table: Clips, *, split: str, size: int, count: int, num_frames: int | None = None
) -> list[HeldOutClip]:
    """Reads clips of a split, spread evenly over its identities. The choice is the same at every call.

    Args:
        table: the clips table.
        split: the split to read from.
        size: frames are resized to `size` × `size`.
        count: maximum number of clips.
        num_frames: length 1+T of the excerpt, which starts after the first eighth of the clip, so that it contains none
            of the references if the clip is long enough. None reads the whole clip, as the paper does.
    """
    return list(iter_clips(table, split=split, size=size, count=count, num_frames=num_frames))


def iter_clips(
    table: Clips,
    *,
    split: str,
    size: int,
    count: int,
    num_frames: int | None = None,
    source: str | None = None,
) -> Iterator[HeldOutClip]:
    """Like `read_clips`, but one clip at a time for clips that don't fit into memory together.

    If `source` is given, only its clips are read.
    """
    rows = table.rows(("clip_id", "num_frames"))
    for index in chosen_rows(table, split=split, count=count, source=source):
        (video,) = table.read_video([index])
        yield read_clip(rows[index], video, size, num_frames)


def chosen_rows(table: Clips, *, split: str, count: int, source: str | None = None) -> list[int]:
    """Indices of at most `count` rows of a split, spread evenly over its identities; the same at every call."""
    rows = table.rows(("clip_id", "identity", "split", "source"))
    ordered = sorted(
        (row["identity"], row["clip_id"], i)
        for i, row in enumerate(rows)
        if row["split"] == split and source in (None, row["source"])
    )
    by_identity: dict[str, list[int]] = {}
    for identity, _, index in ordered:
        by_identity.setdefault(identity, []).append(index)
    turns = (
        clips[turn] for turn in range(len(ordered)) for clips in by_identity.values() if turn < len(clips)
    )
    return list(itertools.islice(turns, count))


@dataclass(frozen=True, kw_only=True)
class HeldOutClips:
    """The held-out clips of a table that an evaluation runs on."""

    name: str
    """How reports refer to it: table, version, number of clips and split."""
    table: Clips
    split: str
    count: int
    """Number of clips."""
    source: str | None
    """The source all clips come from; None for any source."""

    @classmethod
    def of(cls, uri: str, count: int, source: str | None = None) -> HeldOutClips:
        """Selects at most `count` clips of the table's held-out split, of one source or of all.

        Raises:
            FileNotFoundError: the table does not exist.
            ValueError: the table has no clips of the source.
        """
        table = open_clips(uri)
        split = held_out_split(table, source=source)
        found = sum(
            row["split"] == split and source in (None, row["source"])
            for row in table.rows(("split", "source"))
        )
        whose = "" if source is None else f" of {source}"
        name = f"{uri} version {table.version}: {min(count, found)} clips{whose} of split {split}"
        return cls(name=name, table=table, split=split, count=min(count, found), source=source)

    def clips(self, size: int) -> Iterator[HeldOutClip]:
        """Reads the whole clips, one at a time, resized to `size` × `size`."""
        return iter_clips(self.table, split=self.split, size=size, count=self.count, source=self.source)


def read_clip(row: Mapping[str, Any], video: bytes, size: int, num_frames: int | None = None) -> HeldOutClip:
    """Decodes a clip from its row (`clip_id` and `num_frames`) and its H.264 bytes; arguments as for `read_clips`."""
    length = int(row["num_frames"])
    wanted = whole_latent_frames(min(num_frames or length, length))
    start = 0 if num_frames is None else min(1 + length // 8, length - wanted)
    references = [0, length - 1, length // 2]
    numbers = [*range(start, start + wanted), *references]
    unique = sorted(set(numbers))
    decoded = dict(zip(unique, decode_window(video, unique), strict=True))
    frames = np.stack([picture_at(decoded[number], size) for number in numbers])
    return HeldOutClip(clip_id=row["clip_id"], frames=frames[:wanted], references=frames[wanted:])


def picture_at(frame: np.ndarray, size: int) -> np.ndarray:
    """Resizes a square picture uint8 [H, H, 3] to `size` × `size`."""
    if frame.shape[:2] == (size, size):
        return frame
    how = cv2.INTER_AREA if frame.shape[0] > size else cv2.INTER_CUBIC
    return cv2.resize(frame, (size, size), interpolation=how)


@torch.no_grad()
def reconstruct(
    vae: VideoVAE, clip: HeldOutClip, references: Sequence[int] = (0, 1, 2, 3)
) -> dict[int, Tensor]:
    """Reconstructs a clip with each number of references in `references`.

    The clip is encoded and decoded block by block with carried state, so memory does not grow with its length.

    Returns:
        Number of references M → reconstruction [3, 1+T, H, W] on the CPU, clamped to [−1, 1].
    """
    device = next(vae.parameters()).device
    video = frames_to_tensor(clip.frames).unsqueeze(0).to(device)
    pictures = frames_to_tensor(clip.references).transpose(0, 1).unsqueeze(0).to(device)
    z = encode_in_blocks(vae, video).mean
    features = vae.encode_references(pictures)
    return {
        count: decode_in_blocks(vae, z, features[:, :count])[0].clamp(-1, 1).cpu() for count in references
    }


@torch.no_grad()
def encode_in_blocks(vae: VideoVAE, video: Tensor, block_frames: int = FRAMES_PER_BLOCK) -> Posterior:
    """Encodes a clip [B, 3, 1+T, H, W] block by block; the posterior [B, C, L, h, w] equals that of the whole clip."""
    state = History()
    parts, start = [], 0
    while start < video.shape[2]:
        stop = min(video.shape[2], start + block_frames + (start == 0))
        posterior, state = vae.encode_block(video[:, :, start:stop], state)
        parts.append(posterior)
        start = stop
    return Posterior(
        mean=torch.cat([part.mean for part in parts], dim=2),
        log_variance=torch.cat([part.log_variance for part in parts], dim=2),
    )


@torch.no_grad()
def decode_in_blocks(vae: VideoVAE, z: Tensor, features: Tensor | None) -> Tensor:
    """Decodes latents [B, C, L, h, w] block by block; equals decoding them at once: [B, 3, 1+4(L−1), H, W]."""
    state = vae.decoder.initial_state()
    frames = []
    for start in range(0, z.shape[2], LATENTS_PER_BLOCK):
        block = z[:, :, start : start + LATENTS_PER_BLOCK]
        decoded, state = vae.decode_block(block, state, reference_features=features)
        frames.append(decoded)
    return torch.cat(frames, dim=2)
