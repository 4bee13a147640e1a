"""Splits a photograph into layers for the renderer: the upright picture, the person's matte, and the background.

Positions are in units of the board's side: the part of the board that a frame shows is 1 × 1. Landmarks are those of
`portrait.faces.landmarks`. Letters: H W of a texture, N landmarks.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

MARGIN = 0.12
"""How far the texture reaches beyond the picture on each side, so that moving the head exposes no edge."""
FACE_WIDTH = 0.42
"""Distance between the cheeks on the board, as `portrait.faces` frames a portrait."""
TIGHTEST = 0.56
"""The same for a tightly cropped still: a larger face is better than a still extended far beyond its edge."""
_BRIDGE_Y, _HIGHEST_BRIDGE_Y = 0.45, 0.36
"""Height of the bridge of the nose, and the least height where the still ends close above it."""
_RIGHT_CHEEK, _LEFT_CHEEK, _BRIDGE, _CHIN = 234, 454, 168, 152
_RIGHT_EYE, _LEFT_EYE = 33, 263
_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150,
    136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
"""The outline of the face."""


@dataclass(frozen=True)
class Board:
    """A photograph placed upright on the board."""

    picture: np.ndarray
    """float32 RGB [H, W, 3] in [0, 1], the margin included."""
    landmarks: np.ndarray
    """float64 [N, 2] in board sides."""
    scale: int
    """Pixels of the texture per board side."""

    @property
    def half_width(self) -> float:
        """Half the distance between the cheeks."""
        return float(np.linalg.norm(self.landmarks[_LEFT_CHEEK] - self.landmarks[_RIGHT_CHEEK])) / 2

    @property
    def centre(self) -> np.ndarray:
        """The middle of the head [2], about between the eyes."""
        cheeks = (self.landmarks[_LEFT_CHEEK] + self.landmarks[_RIGHT_CHEEK]) / 2
        return np.array([cheeks[0], self.landmarks[_BRIDGE, 1]])

    @property
    def chin(self) -> np.ndarray:
        """The tip of the chin [2]."""
        return self.landmarks[_CHIN]

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Texture pixels of points [..., 2]."""
        return (points + MARGIN) * self.scale - 0.5


def place(picture: np.ndarray, landmarks: np.ndarray, scale: int, rng: np.random.Generator) -> Board:
    """Places a still upright on the board, framed as a portrait with a small random variation.

    Where the board extends beyond the still, the edge pixels are repeated and increasingly blurred.

    Args:
        picture: RGB uint8 [H, W, 3].
        landmarks: [N, 3] in its pixels.
        scale: pixels of the texture per board side.
        rng: draws the framing.
    """
    flat = landmarks[:, :2]
    across = flat[_LEFT_EYE] - flat[_RIGHT_EYE]
    angle = np.arctan2(across[1], across[0])
    width = float(np.linalg.norm(flat[_LEFT_CHEEK] - flat[_RIGHT_CHEEK]))
    share = FACE_WIDTH * rng.uniform(0.92, 1.1)
    above = max(1.0, float(flat[_BRIDGE, 1]))  # pixels of the still above the bridge of the nose
    zoom = max(share, min(TIGHTEST, _BRIDGE_Y * width / above)) / width
    cos, sin = np.cos(angle) * zoom, np.sin(angle) * zoom
    turn = np.array([[cos, sin], [-sin, cos]])
    bridge_y = float(np.clip(above * zoom, _HIGHEST_BRIDGE_Y, _BRIDGE_Y))
    anchor = np.array([0.5, bridge_y]) + rng.uniform(-0.03, 0.03, 2)
    offset = anchor - turn @ flat[_BRIDGE]
    side = round((1 + 2 * MARGIN) * scale)
    # Still's pixel centres to the texture's.
    matrix = np.column_stack([turn * scale, (offset + MARGIN) * scale + turn @ [0.5, 0.5] * scale - 0.5])
    shrunk = picture
    if zoom * scale < 0.7:  # bilinear sampling would skip pixels
        shrunk = cv2.GaussianBlur(picture, (0, 0), 0.4 / (zoom * scale))
    warped = cv2.warpAffine(
        shrunk, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    inside = cv2.warpAffine(
        np.full(picture.shape[:2], 255, np.uint8), matrix, (side, side), flags=cv2.INTER_LINEAR
    )
    image = _soften_outside(warped.astype(np.float32) / 255, inside > 127)
    return Board(picture=image, landmarks=(flat + 0.5) @ turn.T + offset - 0.5 * zoom, scale=scale)


def _soften_outside(image: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Blurs repeated edge pixels in proportion to their distance from the still, so that they form no streaks."""
    if inside.all():
        return image
    distance = cv2.distanceTransform((~inside).astype(np.uint8), cv2.DIST_L2, 3)
    side = image.shape[0]
    for sigma in (0.01, 0.025, 0.05):
        blurred = cv2.GaussianBlur(image, (0, 0), sigma * side)
        weight = np.clip(distance / (2 * sigma * side), 0, 1)[..., None]
        image = image * (1 - weight) + blurred * weight
    return image


def matte(board: Board) -> np.ndarray:
    """Coverage of the person, float32 [H, W] in [0, 1], by GrabCut (Rother et al., 2004) from the landmarks."""
    side = board.picture.shape[0]
    small = 160
    picture = cv2.resize(
        (np.clip(board.picture, 0, 1) * 255).astype(np.uint8), (small, small), interpolation=cv2.INTER_AREA
    )
    ratio = small / side
    seeds = _seeds(board, small, ratio)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    cv2.grabCut(picture, seeds, (0, 0, 0, 0), *models, 4, cv2.GC_INIT_WITH_MASK)
    person = np.isin(seeds, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    person = cv2.morphologyEx(person, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    person = _one_piece(person, np.round(board.pixels(board.centre) * ratio).astype(int))
    soft = cv2.GaussianBlur(person.astype(np.float32), (0, 0), 1.1)
    large = cv2.resize(soft, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.clip((large - 0.25) / 0.6, 0, 1).astype(np.float32)


def _seeds(board: Board, small: int, ratio: float) -> np.ndarray:
    """GrabCut's seeds: face and neck are certain foreground, hair and shoulders probable, the upper corners certain
    background.
    """

    def points(places: np.ndarray) -> np.ndarray:
        return np.round(board.pixels(np.asarray(places)) * ratio).astype(np.int32)

    def ellipse(mask: np.ndarray, rx: float, ry: float, value: int) -> None:
        axes = (round(rx * half * board.scale * ratio), round(ry * half * board.scale * ratio))
        cv2.ellipse(mask, points(centre).tolist(), axes, 0, 0, 360, value, -1)

    half, centre, chin = board.half_width, board.centre, board.chin
    bottom = 1 + MARGIN
    mask = np.full((small, small), cv2.GC_BGD, np.uint8)
    ellipse(mask, 2.0, 2.3, cv2.GC_PR_BGD)
    lower = round(float(board.pixels(chin)[1]) * ratio)
    mask[lower:] = cv2.GC_PR_BGD
    ellipse(mask, 1.2, 1.75, cv2.GC_PR_FGD)
    shoulders = [
        (chin[0] - 0.7 * half, chin[1] + 0.3 * half),
        (chin[0] + 0.7 * half, chin[1] + 0.3 * half),
        (chin[0] + 1.9 * half, chin[1] + 1.0 * half),
        (chin[0] + 2.0 * half, bottom),
        (chin[0] - 2.0 * half, bottom),
        (chin[0] - 1.9 * half, chin[1] + 1.0 * half),
    ]
    cv2.fillPoly(mask, [points(np.array(shoulders))], cv2.GC_PR_FGD)
    neck = [
        (chin[0] - 0.5 * half, chin[1] - 0.3 * half),
        (chin[0] + 0.5 * half, chin[1] - 0.3 * half),
        (chin[0] + 0.5 * half, bottom),
        (chin[0] - 0.5 * half, bottom),
    ]
    cv2.fillPoly(mask, [points(np.array(neck))], cv2.GC_FGD)
    cv2.fillPoly(mask, [points(board.landmarks[list(_OVAL)])], cv2.GC_FGD)
    return mask


def _one_piece(person: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The connected component that contains a point (x, y), with its holes filled."""
    _, labels = cv2.connectedComponents(person)
    x, y = np.clip(inside, 0, person.shape[0] - 1)
    piece = (labels == labels[y, x]).astype(np.uint8) if person[y, x] else person
    outlines, _ = cv2.findContours(piece, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.zeros_like(piece), outlines, -1, 1, -1)


def behind(picture: np.ndarray, coverage: np.ndarray) -> np.ndarray:
    """The picture with the person replaced by an estimate of the background, float32 [H, W, 3].

    Averages of the visible background at increasing scales (push–pull, Gortler et al., 1996): pixels near the matte's
    edge are filled from nearby, those in its middle from farther away.
    """
    side = picture.shape[0]
    reach = max(3, round(0.02 * side)) | 1
    covered = cv2.dilate((coverage > 0.02).astype(np.float32), np.ones((reach, reach), np.uint8))
    weight = 1 - covered
    filled = picture * weight[..., None]
    known = weight.copy()
    result, level = np.zeros_like(picture), 0.004
    missing = np.ones_like(weight)
    while level < 0.7:
        sigma = level * side
        total = cv2.GaussianBlur(known, (0, 0), sigma)
        colour = cv2.GaussianBlur(filled, (0, 0), sigma) / np.maximum(total, 1e-6)[..., None]
        trust = np.clip(total / 0.15, 0, 1) * missing
        result += colour * trust[..., None]
        missing = missing - trust
        level *= 2
    mean = filled.sum((0, 1)) / max(1e-6, float(known.sum()))
    result += mean * missing[..., None]
    edge = cv2.GaussianBlur(covered, (0, 0), 0.005 * side)[..., None]
    return (picture * (1 - edge) + result * edge).astype(np.float32)
