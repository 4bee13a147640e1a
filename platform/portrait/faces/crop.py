"""The portrait crop: one square with head and shoulders for the whole clip; the same rule applies to a user's picture.

The paper's videos are square portraits. The face is about 0.44 of the crop's width and its centre slightly above the
middle, as in the public portrait footage this was measured on. Letters: `T` frames, `H W`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from portrait.faces.detector import Face, FaceDetector, NoFaceError, YuNetDetector
from portrait.faces.track import FaceTrack, median_face, overlap


@dataclass(frozen=True, kw_only=True)
class Framing:
    """How a face sits in its square crop."""

    face_width: float
    """Face width (cheek to cheek) as a share of the crop's side."""
    tightest: float
    """A tighter crop, up to this share, is preferred to one that reaches out of the picture."""
    centre_y: float
    """Height of the face's centre in the crop, from the top."""


PORTRAIT = Framing(face_width=0.44, tightest=0.52, centre_y=0.47)
"""Head and shoulders."""
HEAD = Framing(face_width=0.62, tightest=0.68, centre_y=0.5)
"""The head alone, as in the paper's supplementary setting: hair and chin reach to the edges."""
MIN_FACE_WIDTH = 32
"""Pixels of width of the smallest face that a portrait is cut from."""
_OTHER_WIDTH = 0.6
"""Another person counts if their face is at least this share of the main face's width."""
_SURE = 0.8
"""Score from which a detection is certainly a face."""
_CLEARLY = 0.06
"""By how much a turned picture must score above the unturned one."""
_CLOSE_VIEWS = (0.28, 0.34, 0.4, 0.46)
"""Widths of the face, as shares of the view's side, at which it is measured in a picture."""
_CLOSE_SIZE = 256
_MAX_SHIFT = 0.10
_NEARLY_WHOLE = 0.80


@dataclass(frozen=True, kw_only=True)
class CropBox:
    """A square in pixels of the picture; it may reach out of it."""

    x0: int
    """Left edge."""
    y0: int
    """Top edge."""
    size: int
    """Side."""

    def even(self) -> CropBox:
        """The square on even pixels, where 4:2:0 video has its chroma."""
        return CropBox(x0=self.x0 // 2 * 2, y0=self.y0 // 2 * 2, size=max(2, (self.size + 1) // 2 * 2))


def portrait_crop(
    track: FaceTrack | np.ndarray, picture_size: tuple[int, int], framing: Framing = PORTRAIT
) -> CropBox:
    """Chooses a clip's crop from where its face is.

    The square stays in place for the whole clip and is wide enough for the face's motion. It is made a little
    tighter, then moved a little, rather than reach out of the picture; a square picture that it nearly fills is
    taken whole, so that cropping a crop changes nothing.

    Args:
        track: a face track or its boxes [T, 4] as (x, y, w, h).
        picture_size: (H, W) of the frames.
        framing: how much of the person it shows.

    Returns:
        The crop.

    Raises:
        NoFaceError: no boxes.
    """
    boxes = np.asarray(track.boxes if isinstance(track, FaceTrack) else track, np.float64).reshape(-1, 4)
    if not len(boxes):
        raise NoFaceError("portrait crop: no face boxes")
    height, width = picture_size
    centre_x, centre_y = boxes[:, 0] + boxes[:, 2] / 2, boxes[:, 1] + boxes[:, 3] / 2
    left, right = np.percentile(centre_x, [5, 95])
    top, bottom = np.percentile(centre_y, [5, 95])
    face = float(np.median(boxes[:, 2]))
    # The centre of the face's motion, and room for any motion beyond what a portrait's margins allow.
    room = max(right - left, bottom - top)
    ideal = face / framing.face_width + max(0.0, room - 0.5 * face)
    side = min(ideal, max(min(height, width), face / framing.tightest))
    x0 = _stay_inside((left + right) / 2 - side / 2, side, width)
    y0 = _stay_inside((top + bottom) / 2 - framing.centre_y * side, side, height)
    crop = CropBox(x0=round(x0), y0=round(y0), size=max(2, round(side)))
    if _covers(crop, height, width):
        whole = max(height, width)
        return CropBox(x0=(width - whole) // 2, y0=(height - whole) // 2, size=whole)
    return crop


def _stay_inside(start: float, side: float, limit: int) -> float:
    """Moves an interval towards [0, limit], by at most `_MAX_SHIFT` of its length."""
    inside = (limit - side) / 2 if side > limit else min(max(start, 0.0), limit - side)
    return start + float(np.clip(inside - start, -_MAX_SHIFT * side, _MAX_SHIFT * side))


def _covers(crop: CropBox, height: int, width: int) -> bool:
    """Whether the picture is square within 2 % and shares nearly all of its area with the crop."""
    if max(height, width) > 1.02 * min(height, width):
        return False
    shared_x = min(crop.x0 + crop.size, width) - max(crop.x0, 0)
    shared_y = min(crop.y0 + crop.size, height) - max(crop.y0, 0)
    shared = max(shared_x, 0) * max(shared_y, 0)
    return shared / (crop.size**2 + height * width - shared) >= _NEARLY_WHOLE


def apply_crop(frames: np.ndarray | Iterable[np.ndarray], crop: CropBox, size: int) -> np.ndarray:
    """Cuts the square out of every frame and resizes it.

    Args:
        frames: RGB uint8 [T, H, W, 3] or an iterable of [H, W, 3].
        crop: the square; what lies outside the picture repeats its edge.
        size: side of the result in pixels.

    Returns:
        uint8 [T, size, size, 3].
    """
    cut = [_crop_one(frame, crop, size) for frame in frames]
    if not cut:
        raise ValueError("frames: expected at least one, found none")
    return np.stack(cut)


def _crop_one(frame: np.ndarray, crop: CropBox, size: int) -> np.ndarray:
    height, width = frame.shape[:2]
    x0, y0, x1, y1 = crop.x0, crop.y0, crop.x0 + crop.size, crop.y0 + crop.size
    inside = frame[max(y0, 0) : min(y1, height), max(x0, 0) : min(x1, width)]
    if inside.size == 0:
        raise ValueError(f"crop {crop} lies outside the {height}×{width} picture")
    edges = (max(-y0, 0), max(y1 - height, 0), max(-x0, 0), max(x1 - width, 0))
    if any(edges):
        inside = cv2.copyMakeBorder(inside, *edges, borderType=cv2.BORDER_REPLICATE)
    if crop.size == size:
        return np.ascontiguousarray(inside)
    # Area averaging does not alias when shrinking; cubic is sharper when enlarging.
    how = cv2.INTER_AREA if crop.size > size else cv2.INTER_CUBIC
    return cv2.resize(inside, (size, size), interpolation=how)


def crop_portrait(
    picture: np.ndarray, size: int, detector: FaceDetector | None = None, *, name: str = "picture"
) -> np.ndarray:
    """Cuts the portrait of the one person in a picture; a picture that lies on its side is turned upright.

    Args:
        picture: RGB uint8 [H, W, 3].
        size: side of the result in pixels.
        detector: by default the embedded one.
        name: what to call the picture in errors.

    Returns:
        uint8 [size, size, 3].

    Raises:
        NoFaceError: no face found.
        ValueError: a face that is too small, several people, or another shape or dtype.
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ValueError(f"{name}: expected uint8 [H, W, 3], found {picture.dtype} {list(picture.shape)}")
    detector = detector or YuNetDetector()
    picture = np.ascontiguousarray(np.rot90(picture, _turns_to_upright(picture, detector)))
    face = find_portrait_face(picture, detector, name=name)
    if face.w < MIN_FACE_WIDTH:
        raise ValueError(
            f"{name}: the face is {face.w:.0f} pixels wide, expected at least {MIN_FACE_WIDTH}: "
            "use a larger picture, or one taken from nearer"
        )
    crop = portrait_crop(np.array([[face.x, face.y, face.w, face.h]]), (picture.shape[0], picture.shape[1]))
    return apply_crop(picture[None], crop, size)[0]


def find_portrait_face(picture: np.ndarray, detector: FaceDetector, *, name: str = "picture") -> Face:
    """The face of the one person in a picture.

    A face that fills the picture has no margin to be found in, so borders are added.

    Raises:
        NoFaceError: no face found.
        ValueError: several people, the second at least 60 % as wide in the picture.
    """
    people: list[list[Face]] = []
    for border in (0.0, 0.13, 0.3):
        if border > 0.2 and people:
            break
        for face in _detect_with_border(picture, detector, border):
            same = next((faces for faces in people if overlap(faces[0], face) > 0.4), None)
            if same is None:
                people.append([face])
            else:
                same.append(face)
    if not people:
        raise NoFaceError(
            f"{name}: no face found, expected one that looks towards the camera and is at least {MIN_FACE_WIDTH} "
            "pixels wide"
        )
    main = max(people, key=lambda faces: sum(face.w * face.score for face in faces))
    chosen = median_face(main)
    others = [median_face(faces) for faces in people if faces is not main and len(faces) > 1]
    if any(other.w >= _OTHER_WIDTH * chosen.w and other.score >= _SURE for other in others):
        raise ValueError(f"{name}: several people, expected one: crop the picture to the person you mean")
    return _refined(picture, chosen, detector)


def _refined(picture: np.ndarray, face: Face, detector: FaceDetector) -> Face:
    """The median over closer views of a face, in all of which it has about the same size.

    A single detection varies by about 5 %, and with the size of the face in the picture; a picture has no neighbouring
    frames over which its box could be smoothed.
    """
    views: list[Face] = []
    for width in _CLOSE_VIEWS:
        side = round(face.w / width)
        x0, y0 = round(face.centre[0] - side / 2), round(face.centre[1] - side / 2)
        view = apply_crop(picture[None], CropBox(x0=x0, y0=y0, size=max(side, 2)), _CLOSE_SIZE)[0]
        scale = max(side, 2) / _CLOSE_SIZE
        found = [
            Face(x=x0 + f.x * scale, y=y0 + f.y * scale, w=f.w * scale, h=f.h * scale, score=f.score)
            for f in detector.detect(view)
        ]
        views += [f for f in found if overlap(f, face) > 0.4][:1]
    return median_face(views) if views else face


def _detect_with_border(picture: np.ndarray, detector: FaceDetector, border: float) -> list[Face]:
    """Faces in a picture with a border as a share of its sides; positions are those in the picture."""
    pad_y, pad_x = round(picture.shape[0] * border), round(picture.shape[1] * border)
    view = cv2.copyMakeBorder(picture, pad_y, pad_y, pad_x, pad_x, borderType=cv2.BORDER_REPLICATE)
    return [
        Face(x=face.x - pad_x, y=face.y - pad_y, w=face.w, h=face.h, score=face.score)
        for face in detector.detect(view)
    ]


def _turns_to_upright(picture: np.ndarray, detector: FaceDetector) -> int:
    """Quarter turns counterclockwise after which the face is upright; 0 in case of doubt.

    A face is found in any orientation, but with more confidence upright: on 77 portraits of every kind the upright one
    scored 0.91 to 0.95, and no other turn within 0.04 of it.
    """
    scores = [
        max((face.score for face in _detect_with_border(turned, detector, 0.13)), default=0.0)
        for turned in (np.ascontiguousarray(np.rot90(picture, turns)) for turns in range(4))
    ]
    best = int(np.argmax(scores))
    return best if scores[best] >= _SURE and scores[best] > scores[0] + _CLEARLY else 0
