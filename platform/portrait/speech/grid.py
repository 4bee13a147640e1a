"""The time grid on which audio, frames, latents and blocks meet.

25 frames/s and 16 kHz: frame i covers samples [640·i, 640·(i+1)). Latent 0 is frame 0; latent j ≥ 1 is frames
4j−3 … 4j. A block is k = 4 latents: block 0 is frames 0 … 12, block b ≥ 1 is frames 16b−3 … 16b+12.
"""

from __future__ import annotations

SAMPLE_RATE = 16_000
FRAME_RATE = 25
SAMPLES_PER_FRAME = SAMPLE_RATE // FRAME_RATE
FRAMES_PER_LATENT = 4


def frames_of_samples(samples: int) -> int:
    """Frames of a stream of that many samples: the last one may be partly silence."""
    return -(-samples // SAMPLES_PER_FRAME)


def frame_range(first_latent: int, latents: int) -> tuple[int, int]:
    """First frame and the frame after the last one of `latents` ≥ 1 latents from `first_latent` on."""
    first = 0 if first_latent == 0 else FRAMES_PER_LATENT * first_latent - (FRAMES_PER_LATENT - 1)
    return first, FRAMES_PER_LATENT * (first_latent + latents - 1) + 1


def block_frame_range(block: int, block_latents: int = 4) -> tuple[int, int]:
    """First frame and the frame after the last one of a block of the stream."""
    return frame_range(block * block_latents, block_latents)
