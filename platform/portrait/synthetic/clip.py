"""A clip of a synthetic head that talks, with the truth about mouth and head.

T frames at 25 per second; audio of 640 samples per frame at 16 kHz. A clip is a function of (identity_seed,
clip_seed, seconds, size) alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from portrait.synthetic.identity import Identity
from portrait.synthetic.motion import Motion, random_motion
from portrait.synthetic.photo_renderer import PhotoRenderer
from portrait.synthetic.renderer import FrameState, HeadRenderer
from portrait.synthetic.speech import Voice, synthesize
from portrait.timing import SAMPLES_PER_FRAME


@dataclass(frozen=True, kw_only=True)
class SyntheticClip:
    """Frames, sound and truth."""

    frames: np.ndarray
    """uint8 RGB [T, H, W, 3]."""
    audio: np.ndarray
    """float32 [640 T] at 16 kHz in [-1, 1]."""
    mouth_opening: np.ndarray
    """float32 [T], gap between the lips over the gap at full opening."""
    mouth_opening_px: np.ndarray
    """float32 [T], gap between the lips at the mouth's centre in pixels, as seen in the picture."""
    mouth_full_px: float
    """Gap at full opening, head upright, in pixels."""
    head_pose: np.ndarray
    """float32 [T, 3] yaw, pitch, roll in radians; positive to the picture's right, down, clockwise."""
    mouth_centre: np.ndarray
    """float32 [T, 2] x, y in pixels."""


def render_clip(identity_seed: int, seconds: float, *, size: int = 256, clip_seed: int = 0) -> SyntheticClip:
    """Renders a clip of one person who speaks in their own voice.

    Args:
        identity_seed: who (`Identity.random`).
        seconds: length, rounded to whole frames.
        size: picture side in pixels, a multiple of 4.
        clip_seed: draws words, motion, clothes, place and light.

    Raises:
        ValueError: size or seconds out of range.
    """
    person = Identity.random(identity_seed)
    voice = Voice(pitch_hz=person.pitch_hz, formant_scale=person.formant_scale)
    words_seed = int(np.random.default_rng([identity_seed, clip_seed, 12]).integers(2**62))
    spoken = synthesize(seconds, words_seed, voice)
    return render_for_audio(
        identity_seed,
        spoken.audio,
        spoken.opening,
        rounding=spoken.rounding,
        energy=spoken.energy,
        size=size,
        clip_seed=clip_seed,
    )


def render_for_audio(
    identity_seed: int,
    audio: np.ndarray,
    mouth_opening: np.ndarray,
    *,
    rounding: np.ndarray | None = None,
    energy: np.ndarray | None = None,
    size: int = 256,
    clip_seed: int = 0,
    motion: float = 1.0,
) -> SyntheticClip:
    """Renders a person whose mouth opens as given.

    Args:
        identity_seed: who.
        audio: float32 [S] at 16 kHz; padded or cut to 640 T samples.
        mouth_opening: [T] in [0, 1].
        rounding: [T], -1 spread … 1 round; none: 0.
        energy: [T] in [0, 1], what the nods follow; none: the audio's loudness.
        size: picture side in pixels, a multiple of 4.
        clip_seed: draws motion, clothes, place and light.
        motion: factor on the head's motion; 0 holds it still and upright.

    Raises:
        ValueError: an opening outside [0, 1], a track of another length, a bad size.
    """
    opening = np.asarray(mouth_opening, np.float64)
    num_frames = len(opening)
    if opening.ndim != 1 or not num_frames or not ((opening >= 0) & (opening <= 1)).all():
        raise ValueError(f"mouth_opening: found shape {opening.shape}, expected [T] with values in [0, 1]")
    sound = np.zeros(num_frames * SAMPLES_PER_FRAME, np.float32)
    sound[: len(audio)] = audio[: len(sound)]
    rounding = _track("rounding", rounding, np.zeros(num_frames))
    energy = _track("energy", energy, _loudness(sound))
    renderer = HeadRenderer(Identity.random(identity_seed), size, clip_seed)
    moves = random_motion(num_frames, energy, np.random.default_rng([identity_seed, clip_seed, 13]), motion)
    return film(renderer, sound, opening, rounding, moves)


def render_photo(
    picture: np.ndarray,
    landmarks: np.ndarray,
    seconds: float,
    *,
    size: int = 256,
    seed: int = 0,
    clip_seed: int = 0,
) -> SyntheticClip:
    """Renders a clip of the person in a photograph, who speaks in a voice drawn for them.

    Args:
        picture: the photograph, RGB uint8 [H, W, 3].
        landmarks: [478, 3] in its pixels, from `portrait.faces.landmarks`.
        seconds: length, rounded to whole frames.
        size: picture side in pixels, a multiple of 4.
        seed: who; draws the voice.
        clip_seed: draws words, motion, framing, light and place.

    Raises:
        ValueError: size or seconds out of range.
    """
    voice_rng = np.random.default_rng([seed, 14])
    voice = Voice(
        pitch_hz=float(voice_rng.uniform(90, 240)), formant_scale=float(voice_rng.uniform(0.95, 1.2))
    )
    rng = np.random.default_rng([seed, clip_seed, 15])
    spoken = synthesize(seconds, int(rng.integers(2**62)), voice)
    renderer = PhotoRenderer(picture, landmarks, size, rng)
    moves = random_motion(len(spoken.opening), spoken.energy, rng)
    return film(renderer, spoken.audio, spoken.opening, spoken.rounding, moves)


class Renderer(Protocol):
    """What makes frames of a head."""

    size: int
    """Side of the frames in pixels."""

    @property
    def mouth_full_px(self) -> float:
        """Gap between the lips at full opening, head upright, in pixels."""
        ...

    def frame(self, state: FrameState) -> np.ndarray:
        """One frame, uint8 RGB [size, size, 3]."""
        ...

    def mouth_truth(self, state: FrameState) -> tuple[np.ndarray, float]:
        """The mouth's centre in pixels [2] and the gap between the lips at its centre in pixels."""
        ...


def film(
    renderer: Renderer, sound: np.ndarray, opening: np.ndarray, rounding: np.ndarray, moves: Motion
) -> SyntheticClip:
    """Renders a clip frame by frame and notes the truth.

    Args:
        renderer: makes the frames.
        sound: float32 [640 T] at 16 kHz.
        opening: [T] in [0, 1].
        rounding: [T], -1 spread … 1 round.
        moves: everything else that moves.
    """
    num_frames, size = len(opening), renderer.size
    frames = np.empty((num_frames, size, size, 3), np.uint8)
    centre = np.empty((num_frames, 2), np.float32)
    gap = np.empty(num_frames, np.float32)
    for t in range(num_frames):
        state = FrameState(
            opening=float(opening[t]),
            rounding=float(rounding[t]),
            pose=_floats3(moves.pose[t]),
            shift=_floats2(moves.shift[t]),
            blink=float(moves.blink[t]),
            gaze=_floats2(moves.gaze[t]),
            brow=float(moves.brow[t]),
            breath=float(moves.breath[t]),
        )
        frames[t] = renderer.frame(state)
        centre[t], gap[t] = renderer.mouth_truth(state)
    return SyntheticClip(
        frames=frames,
        audio=sound,
        mouth_opening=np.asarray(opening, np.float32),
        mouth_opening_px=gap,
        mouth_full_px=renderer.mouth_full_px,
        head_pose=moves.pose.astype(np.float32),
        mouth_centre=centre,
    )


def _track(name: str, given: np.ndarray | None, default: np.ndarray) -> np.ndarray:
    if given is None:
        return default
    if np.shape(given) != default.shape:
        raise ValueError(
            f"{name}: found shape {np.shape(given)}, expected {default.shape} like mouth_opening"
        )
    return np.asarray(given, np.float64)


def _loudness(sound: np.ndarray) -> np.ndarray:
    """Root mean square of every frame over the loudest frame's, [T] in [0, 1]."""
    power = np.sqrt((sound.reshape(-1, SAMPLES_PER_FRAME) ** 2).mean(1))
    return power / max(1e-6, float(power.max()))


def _floats2(values: np.ndarray) -> tuple[float, float]:
    return float(values[0]), float(values[1])


def _floats3(values: np.ndarray) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])
