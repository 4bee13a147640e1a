"""How a synthetic head moves while it talks: slow random motion, nods on stressed syllables, blinks, glances, breath.

T frames at 25 per second. Head pose is (yaw, pitch, roll) in radians, positive to the picture's right, down, clockwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from portrait.timing import FRAME_RATE


@dataclass(frozen=True)
class Motion:
    """Tracks of everything that moves but the mouth."""

    pose: np.ndarray
    """[T, 3] yaw, pitch, roll in radians."""
    shift: np.ndarray
    """[T, 2] the head's translation in sides of the renderer's board."""
    blink: np.ndarray
    """[T] 0 open … 1 shut."""
    gaze: np.ndarray
    """[T, 2] in [-1, 1], right and down."""
    brow: np.ndarray
    """[T] lift of the brows in sides of the board."""
    breath: np.ndarray
    """[T] in [-1, 1]."""


def random_motion(
    num_frames: int, energy: np.ndarray, rng: np.random.Generator, amount: float = 1.0
) -> Motion:
    """Draws the motion of one clip.

    Args:
        num_frames: T.
        energy: loudness of the speech per frame, [T] in [0, 1]; nods and brows follow it.
        rng: the only source of chance.
        amount: factor on the head's motion.
    """
    stress = gaussian_filter1d(energy, 2.5)
    stress = stress - gaussian_filter1d(energy, 14)
    slow = np.stack([_wander(rng, num_frames, 20) for _ in range(5)], 1)
    pose = slow[:, :3] * np.array([0.13, 0.06, 0.045]) + rng.normal(0, 1, 3) * np.array([0.06, 0.03, 0.02])
    pose[:, 1] += 0.16 * stress
    pose[:, 2] += 0.03 * gaussian_filter1d(stress, 3) * rng.choice([-1, 1])
    limit = np.array([0.3, 0.16, 0.13])
    pose = limit * np.tanh(pose * amount / limit)
    shift = slow[:, 3:] * np.array([0.012, 0.007]) * amount
    gaze = np.zeros((num_frames, 2))
    blink = np.zeros(num_frames)
    t = int(rng.integers(0, 30))
    target = rng.normal(0, 0.25, 2)
    edges = [0]
    while edges[-1] < num_frames:
        gaze[edges[-1] :] = np.clip(target, -0.9, 0.9) - pose[edges[-1], :2] * 0.5
        target = rng.normal(0, 0.3, 2) * (rng.random() < 0.7)
        edges.append(edges[-1] + int(rng.integers(15, 60)))
    shape = np.array([0.35, 0.9, 1.0, 0.75, 0.4, 0.12])
    while t < num_frames:
        n = min(len(shape), num_frames - t)
        blink[t : t + n] = np.maximum(blink[t : t + n], shape[:n])
        t += int(rng.integers(35, 110))
    gaze = gaussian_filter1d(gaze, 0.7, axis=0)
    brow = np.clip(0.012 * stress + 0.003 * _wander(rng, num_frames, 12), -0.006, 0.012)
    breath = np.sin(2 * np.pi * (np.arange(num_frames) / FRAME_RATE * rng.uniform(0.22, 0.32) + rng.random()))
    return Motion(pose, shift, blink, gaze, brow, breath)


def _wander(rng: np.random.Generator, num_frames: int, sigma: float) -> np.ndarray:
    """Smooth noise of unit variance, without the flattening at the ends that a short clip would show."""
    pad = int(4 * sigma)
    noise = gaussian_filter1d(rng.standard_normal(num_frames + 2 * pad), sigma)[pad : pad + num_frames]
    return noise * np.sqrt(2 * np.sqrt(np.pi) * sigma)
