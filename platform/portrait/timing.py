"""The time grid that the whole platform shares: audio samples, video frames, latents and blocks of latents.

Audio has 16,000 samples/s and video 25 frames/s, so frame i is heard with samples [640·i, 640·(i + 1)). The causal VAE
maps frame 0 to latent 0 and frames 4j−3 … 4j to latent j ≥ 1. The generator produces k = 4 latents at a time: block 0
is frames 0 … 12 and block b ≥ 1 is frames 16b−3 … 16b+12. None of these numbers is a setting: the models' structure and
the stored tables rest on them.

This module imports nothing, so that processes without torch (the ingress, data preparation) can use it.
"""

from __future__ import annotations

SAMPLE_RATE = 16_000
"""Audio samples per second, mono."""
FRAME_RATE = 25
"""Video frames per second."""
SAMPLES_PER_FRAME = SAMPLE_RATE // FRAME_RATE
FRAMES_PER_LATENT = 4
"""Frames of every latent but the first, which is a single frame."""
LATENTS_PER_BLOCK = 4
"""k, the latents that the generator denoises together (paper: 4)."""
FRAMES_PER_BLOCK = FRAMES_PER_LATENT * LATENTS_PER_BLOCK
"""Frames of every block but the first."""
FIRST_BLOCK_FRAMES = 1 + FRAMES_PER_LATENT * (LATENTS_PER_BLOCK - 1)
"""Frames of a stream's first block."""


def frames_of_samples(samples: int) -> int:
    """Frames of a stream of that many samples; the last frame may be partly silent."""
    return -(-samples // SAMPLES_PER_FRAME)


def frames_of_latents(latents: int) -> int:
    """Frames of a clip of `latents` ≥ 1 latents, 1 + 4·(latents − 1)."""
    return 1 + FRAMES_PER_LATENT * (latents - 1)


def is_whole_latents(frames: int) -> bool:
    """Whether a clip of that many frames can be encoded: 1 + a multiple of 4."""
    return frames >= 1 and (frames - 1) % FRAMES_PER_LATENT == 0


def whole_latent_frames(frames: int) -> int:
    """The most frames, at most `frames` ≥ 1, that make up whole latents from a clip's first frame on."""
    return frames - (frames - 1) % FRAMES_PER_LATENT


def frame_range(first_latent: int, latents: int) -> tuple[int, int]:
    """First frame, and the frame after the last one, of `latents` ≥ 1 latents starting at `first_latent`."""
    first = frames_of_latents(first_latent) if first_latent else 0
    return first, frames_of_latents(first_latent + latents)


def block_of_frame(frame: int) -> int:
    """Number of the block that contains a frame."""
    return (frame + FRAMES_PER_BLOCK - FIRST_BLOCK_FRAMES) // FRAMES_PER_BLOCK


def block_frame_range(block: int) -> tuple[int, int]:
    """First frame, and the frame after the last one, of a block of the stream."""
    return frame_range(block * LATENTS_PER_BLOCK, LATENTS_PER_BLOCK)
