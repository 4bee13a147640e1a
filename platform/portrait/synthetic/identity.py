"""Who a synthetic head is: face, hair, voice; a pure function of one number.

Lengths are in sides of the board that the layers are painted on (`canvas.py`); colours are sRGB in [0, 1].
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

SKIN = [
    (240, 206, 184),
    (236, 196, 168),
    (236, 188, 152),
    (222, 168, 128),
    (198, 140, 100),
    (176, 120, 84),
    (148, 98, 68),
    (122, 80, 58),
]
HAIR = [
    (38, 28, 24),
    (62, 42, 30),
    (96, 62, 38),
    (136, 90, 50),
    (190, 146, 84),
    (222, 190, 130),
    (150, 66, 34),
    (168, 162, 158),
    (90, 88, 92),
    (226, 222, 216),
    (120, 40, 60),
    (58, 70, 110),
]
IRIS = [(86, 54, 30), (60, 38, 24), (70, 110, 150), (96, 140, 110), (120, 120, 90), (90, 96, 110)]
HAIR_STYLES = (
    "crop",
    "side_part",
    "bob",
    "long",
    "curly",
    "bun",
    "fringe",
    "receding",
    "beanie",
    "headscarf",
)


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A person: everything that stays the same in all of their clips but clothes, place and light."""

    seed: int
    """The number the person was drawn from."""
    skin: tuple[float, float, float]
    """Colour of lit skin."""
    lips: tuple[float, float, float]
    """Colour of the lips."""
    hair: tuple[float, float, float]
    """Colour of hair, brows and beard."""
    iris: tuple[float, float, float]
    """Colour of the eyes."""
    hair_style: str
    """One of `HAIR_STYLES`."""
    face_width: float
    """Half the width at the cheekbones."""
    chin: float
    """Height (y) of the chin."""
    jaw: float
    """Exponent of the jaw's outline: 2 round … 3 square."""
    taper: float
    """How much the face narrows toward the chin."""
    eye_y: float
    """Height of the eyes."""
    eye_gap: float
    """Half the distance between the eyes' centres."""
    eye_width: float
    """Half the width of an eye."""
    eye_openness: float
    """Height of an open eye over its width."""
    eye_tilt: float
    """Slant of the eyes in radians, outer corner up."""
    brow_thickness: float
    """Thickness of the brows."""
    brow_arch: float
    """Height of the brows' arch."""
    brow_lift: float
    """Distance of the brows above the eyes."""
    nose_width: float
    """Half the width of the nostrils."""
    nose_y: float
    """Height of the nose's tip."""
    mouth_y: float
    """Height of the line between closed lips."""
    mouth_width: float
    """Half the width of the relaxed mouth."""
    lip_upper: float
    """Thickness of the upper lip."""
    lip_lower: float
    """Thickness of the lower lip."""
    mouth_full: float
    """Gap between the lips at full opening (`mouth_opening` 1)."""
    ear: float
    """Size of the ears."""
    neck_width: float
    """Half the width of the neck."""
    glasses: str
    """"none", "round", "square" or "half"."""
    beard: str
    """"none", "stubble", "full", "goatee" or "moustache"."""
    freckles: float
    """How freckled, 0 … 1."""
    wrinkles: float
    """How lined, 0 … 1."""
    earrings: bool
    """Whether earrings are worn."""
    lipstick: bool
    """Whether the lips are painted."""
    pitch_hz: float
    """Mean fundamental of the voice."""
    formant_scale: float
    """Factor on all formants: about 1 for a long vocal tract, 1.2 for a short one."""

    @classmethod
    def random(cls, seed: int) -> Identity:
        """The person with this number; independent of any global random state."""
        rng = np.random.default_rng([seed, 1])
        feminine = rng.random() < 0.5
        tone = int(rng.integers(len(SKIN)))
        skin = np.clip(np.array(SKIN[tone]) / 255 * rng.uniform(0.96, 1.03, 3), 0, 1)
        hair_choice = rng.integers(4) if tone > 4 and rng.random() < 0.8 else rng.integers(len(HAIR))
        hair = np.clip(np.array(HAIR[int(hair_choice)]) / 255 * rng.uniform(0.85, 1.12, 3), 0, 1)
        styles = (
            HAIR_STYLES
            if feminine
            else ("crop", "side_part", "curly", "fringe", "receding", "beanie", "crop", "side_part", "long")
        )
        lipstick = bool(feminine and rng.random() < 0.45)
        beard = (
            "none"
            if feminine
            else str(rng.choice(["none", "none", "stubble", "full", "goatee", "moustache"]))
        )
        iris = np.array(IRIS[int(rng.integers(2 if tone > 4 else len(IRIS)))]) / 255
        return cls(
            seed=seed,
            skin=_rgb(skin),
            lips=_rgb(_lip_colour(rng, skin, lipstick)),
            hair=_rgb(hair),
            iris=_rgb(np.clip(iris * rng.uniform(0.85, 1.2), 0, 1)),
            hair_style="receding" if not feminine and rng.random() < 0.08 else str(rng.choice(styles)),
            face_width=rng.uniform(0.178, 0.205),
            chin=rng.uniform(0.715, 0.745) - 0.008 * feminine,
            jaw=rng.uniform(2.0, 2.35) if feminine else rng.uniform(2.15, 2.9),
            taper=rng.uniform(0.06, 0.2) if feminine else rng.uniform(0.0, 0.13),
            eye_y=rng.uniform(0.438, 0.458),
            eye_gap=rng.uniform(0.078, 0.09),
            eye_width=rng.uniform(0.034, 0.042),
            eye_openness=rng.uniform(0.42, 0.6),
            eye_tilt=rng.uniform(-0.05, 0.14),
            brow_thickness=rng.uniform(0.008, 0.013) if feminine else rng.uniform(0.011, 0.018),
            brow_arch=rng.uniform(0.005, 0.02),
            brow_lift=rng.uniform(0.042, 0.056),
            nose_width=rng.uniform(0.028, 0.042),
            nose_y=rng.uniform(0.55, 0.568),
            mouth_y=rng.uniform(0.628, 0.64),
            mouth_width=rng.uniform(0.058, 0.072),
            lip_upper=rng.uniform(0.010, 0.017),
            lip_lower=rng.uniform(0.014, 0.023),
            mouth_full=rng.uniform(0.06, 0.074),
            ear=rng.uniform(0.85, 1.2),
            neck_width=rng.uniform(0.085, 0.1) if feminine else rng.uniform(0.1, 0.125),
            glasses=str(rng.choice(["none", "none", "none", "round", "square", "half"])),
            beard=beard,
            freckles=float(rng.random() * (rng.random() < 0.35) * (tone < 4)),
            wrinkles=float(rng.random() ** 2),
            earrings=bool(feminine and rng.random() < 0.5),
            lipstick=lipstick,
            pitch_hz=rng.uniform(165, 240) if feminine else rng.uniform(90, 145),
            formant_scale=rng.uniform(1.08, 1.22) if feminine else rng.uniform(0.94, 1.06),
        )


def _rgb(values: np.ndarray) -> tuple[float, float, float]:
    r, g, b = (float(v) for v in values)
    return r, g, b


def _lip_colour(rng: np.random.Generator, skin: np.ndarray, lipstick: bool) -> np.ndarray:
    """Skin turned redder and darker; painted lips are more saturated."""
    hue, saturation, value = colorsys.rgb_to_hsv(*skin)
    hue = (0.985 + rng.uniform(-0.02, 0.02)) % 1.0
    if lipstick:
        return np.array(
            colorsys.hsv_to_rgb(
                hue, rng.uniform(0.6, 0.8), min(1.0, max(0.5, value * rng.uniform(0.72, 0.85)))
            )
        )
    return np.array(
        colorsys.hsv_to_rgb(
            hue, min(0.62, saturation + rng.uniform(0.14, 0.22)), value * rng.uniform(0.78, 0.86)
        )
    )
