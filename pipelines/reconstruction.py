"""Reconstruction by the VAE against the number of references (paper, table of the ablation).

References by the paper's protocol: M=1 the clip's first frame, M=2 adds its last, M=3 its middle one. Shapes: T frames
of H × W pixels, M references.
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
from portrait.storage.clip_collections import Clips, open_clips
from portrait.storage.clips import SPLITS
from portrait.timing import FRAMES_PER_BLOCK, LATENTS_PER_BLOCK, whole_latent_frames
from portrait.vae import VideoVAE
from portrait.vae.posterior import Posterior


@dataclass(frozen=True, kw_only=True)
class HeldOutClip:
    """Frames of a clip to reconstruct and its three references in the protocol's order."""

    clip_id: str
    frames: np.ndarray
    """uint8 [1+T, H, W, 3], T a multiple of 4."""
    references: np.ndarray
    """uint8 [3, H, W, 3]: the clip's first, last and middle frame."""


def held_out_split(
    table: Clips, preferred: Sequence[str] = ("test", "val"), *, source: str | None = None
) -> str:
    """The first of the preferred splits that has clips (of a source, if one is given), else `train`, whose numbers say
    little.

    Raises:
        ValueError: there is no clip of the source.
    """
    rows = table.rows(("split", "source"))
    present = {row["split"] for row in rows if source in (None, row["source"])}
    if source is not None and not present:
        known = ", ".join(sorted({row["source"] for row in rows})) or "none"
        raise ValueError(f"no clip of source {source!r}; sources of the table: {known}")
    return next((split for split in (*preferred, *SPLITS) if split in present), "train")


def read_clips(
    table: Clips, *, split: str, size: int, count: int, num_frames: int | None = None
) -> list[HeldOutClip]:
    """Clips of a split, evenly spread over its identities, the same at every call.

    Args:
        table: the clips table.
        split: which clips.
        size: side of the pictures.
        count: how many at most.
        num_frames: 1+T frames from the clip's second quarter, so that no reference lies among them where the clip is
            long enough; None for the whole clip, as the paper does.
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
    """The clips of `read_clips` one after another, for when they do not fit into memory together; of `source` alone,
    where one is given.
    """
    rows = table.rows(("clip_id", "num_frames"))
    for index in chosen_rows(table, split=split, count=count, source=source):
        (video,) = table.read_video([index])
        yield read_clip(rows[index], video, size, num_frames)


def chosen_rows(table: Clips, *, split: str, count: int, source: str | None = None) -> list[int]:
    """At most `count` rows of a split, evenly spread over its identities, the same at every call."""
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
    """A benchmark: held-out clips of a table."""

    name: str
    """What results call it."""
    table: Clips
    split: str
    count: int
    """How many there are."""
    source: str | None
    """The source that they are all of; None for any."""

    @classmethod
    def of(cls, uri: str, count: int, source: str | None = None) -> HeldOutClips:
        """At most `count` clips of a table's held-out split, of one source or of all.

        Raises:
            FileNotFoundError: there is no table.
            ValueError: there is no clip of the source.
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
        """The clips, whole, one after another."""
        return iter_clips(self.table, split=self.split, size=size, count=self.count, source=self.source)


def read_clip(row: Mapping[str, Any], video: bytes, size: int, num_frames: int | None = None) -> HeldOutClip:
    """A clip out of its row (`clip_id` and `num_frames`) and its H.264 bytes; arguments as for `read_clips`."""
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
    """A square picture uint8 [H, H, 3] at another size."""
    if frame.shape[:2] == (size, size):
        return frame
    how = cv2.INTER_AREA if frame.shape[0] > size else cv2.INTER_CUBIC
    return cv2.resize(frame, (size, size), interpolation=how)


@torch.no_grad()
def reconstruct(
    vae: VideoVAE, clip: HeldOutClip, references: Sequence[int] = (0, 1, 2, 3)
) -> dict[int, Tensor]:
    """Reconstructions of a clip for each number of references: M → [3, 1+T, H, W], clamped to [−1, 1].

    The clip is encoded and decoded in blocks with carried state, so that memory does not grow with its length.
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
    """The posterior [B, C, L, h, w] of a clip [B, 3, 1+T, H, W], equal to encoding it whole."""
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
    """Video [B, 3, 1+4(L−1), H, W] of latents, equal to decoding them whole."""
    state = vae.decoder.initial_state()
    frames = []
    for start in range(0, z.shape[2], LATENTS_PER_BLOCK):
        block = z[:, :, start : start + LATENTS_PER_BLOCK]
        decoded, state = vae.decode_block(block, state, reference_features=features)
        frames.append(decoded)
    return torch.cat(frames, dim=2)
