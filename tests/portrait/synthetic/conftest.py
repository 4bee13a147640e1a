"""A still with known landmarks: a plain red face on a blue ground, drawn where the landmarks say."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from portrait.synthetic import photo_features, photo_layers

SIDE = 400
CENTRE, RADII = np.array([200.0, 190.0]), np.array([70.0, 95.0])
LIPS_Y, EYES_Y = 240.0, 180.0
FACE, GROUND = (200, 90, 80), (40, 60, 160)


@pytest.fixture(scope="session")
def still_landmarks() -> np.ndarray:
    """Landmarks [478, 3] of the still, in its pixels; those that nothing reads lie at the face's centre."""
    points = np.zeros((478, 3))
    points[:, :2] = CENTRE
    oval = photo_layers._OVAL
    angle = np.arange(len(oval)) / len(oval) * 2 * np.pi - np.pi / 2
    points[list(oval), :2] = CENTRE + np.stack([np.cos(angle), np.sin(angle)], 1) * RADII
    points[[234, 454], :2] = CENTRE + np.array([[-RADII[0], 0], [RADII[0], 0]])
    points[[10, 152], :2] = CENTRE + np.array([[0, -RADII[1]], [0, RADII[1]]])
    points[168, :2] = CENTRE[0], EYES_Y - 5
    points[4, :2] = CENTRE[0], 212
    across = np.linspace(-1, 1, 11)
    for edge in (photo_features._INNER_UPPER, photo_features._INNER_LOWER):
        points[list(edge), 0], points[list(edge), 1] = CENTRE[0] + 25 * across, LIPS_Y
    for (upper, lower), x in zip(photo_features._LIDS, (170, 230), strict=True):
        across = np.linspace(-1, 1, 9)
        for edge, side in ((upper, -1), (lower, 1)):
            points[list(edge), 0] = x + 14 * across
            points[list(edge), 1] = EYES_Y + side * 6 * (1 - across**2)
    return points


@pytest.fixture(scope="session")
def still() -> np.ndarray:
    """The still, uint8 RGB [400, 400, 3]: white eyes, a green nose's tip, dark red shoulders."""
    picture = np.full((SIDE, SIDE, 3), GROUND, np.uint8)
    cv2.ellipse(picture, (200, 420), (150, 120), 0, 0, 360, (90, 20, 20), -1)
    cv2.rectangle(picture, (175, 250), (225, 330), FACE, -1)
    cv2.ellipse(picture, (200, 190), (70, 95), 0, 0, 360, FACE, -1)
    for x in (170, 230):
        cv2.ellipse(picture, (x, 180), (14, 6), 0, 0, 360, (255, 255, 255), -1)
    cv2.circle(picture, (200, 212), 4, (20, 255, 20), -1)
    noise = np.random.default_rng(0).integers(-6, 7, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)
