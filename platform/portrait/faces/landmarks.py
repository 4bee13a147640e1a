"""Landmarks of a face in a still, by MediaPipe's face landmarker run through OpenCV.

MediaPipe publishes the landmarker (Grishchenko et al., "Attention Mesh", 2020) as one bundle, `face_landmarker.task`: a
zip file of TFLite networks. Only its landmark network is used here, so the `mediapipe` package is not needed; OpenCV
reads the format. Letters: H W of a picture, N = 478 landmarks.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import cv2
import numpy as np

from portrait.faces.detector import Face, FaceDetector, NoFaceError, YuNetDetector

NUM_LANDMARKS = 478
_NETWORK = "face_landmarks_detector.tflite"
_INPUT = 256
_MARGIN = 1.5
"""Side of the square that the network looks at, over the longer side of the landmarks' box."""
_MIN_SCORE = 3.0
"""Least logit of "there is a face": most faces score 9 and more, with sunglasses 4; other content is below 0."""
_RIGHT_EYE, _LEFT_EYE = 33, 263
"""The eyes' outer corners."""
_ROUNDS = 3
"""Passes of the network; after each the square is recentred on the landmarks found."""
_OUTPUTS = ("Identity", "Identity_1")
"""Landmarks and score of the network."""
_BORDER = 0.4
"""Border, as a share of the picture's side, that is added before faces are detected: the detector misses faces that
fill the picture."""


class FaceLandmarker:
    """Finds the 478 landmarks of the largest face in a picture.

    Args:
        path: the bundle, `face_landmarker.task`.
        detector: proposes where the face is; the embedded one if None.

    Raises:
        FileNotFoundError: no file at `path`.
        ValueError: the file is not such a bundle, or this OpenCV cannot read its network.
    """

    def __init__(self, path: str | Path, detector: FaceDetector | None = None) -> None:
        if not Path(path).is_file():
            raise FileNotFoundError(
                f"{path}: no such file (expected MediaPipe's face landmarker bundle, face_landmarker.task)"
            )
        try:
            with zipfile.ZipFile(path) as bundle:
                network = np.frombuffer(bundle.read(_NETWORK), np.uint8)
            self._net = cv2.dnn.readNetFromTFLite(network)
        except (zipfile.BadZipFile, KeyError, cv2.error) as error:
            raise ValueError(
                f"{path}: expected MediaPipe's face landmarker bundle, a zip file with {_NETWORK} ({error})"
            ) from error
        if not set(_OUTPUTS) <= set(self._net.getUnconnectedOutLayersNames()):
            raise ValueError(
                f"{path}: OpenCV {cv2.__version__} reads only one of this network's outputs (5.0 does, 4 does not); "
                "install opencv-python-headless<5"
            )
        self._detector = detector or YuNetDetector()

    def find(self, picture: np.ndarray) -> np.ndarray:
        """Landmarks of the largest face.

        Args:
            picture: RGB uint8 [H, W, 3].

        Returns:
            float64 [478, 3]: x and y in pixels of the picture, z (depth, smaller is nearer) in pixels too.

        Raises:
            NoFaceError: no face was found.
        """
        for centre, side in self._proposals(picture):
            landmarks, score = self._refined(picture, centre, side)
            if score >= _MIN_SCORE:
                return landmarks
        raise NoFaceError("no face found in the picture")

    def _proposals(self, picture: np.ndarray) -> list[tuple[np.ndarray, float]]:
        """Squares (centre, side) to look at: around detected faces, then the middle of the picture."""
        height, width = picture.shape[:2]
        border = round(_BORDER * max(height, width))
        padded = cv2.copyMakeBorder(picture, border, border, border, border, cv2.BORDER_REPLICATE)
        faces = self._detector.detect(padded)
        squares = [(np.array(face.centre) - border, _MARGIN * face.h) for face in faces[:2]]
        middle = Face(x=0, y=0, w=width, h=height, score=0.0).centre
        sides = (share * min(height, width) for share in (0.8, 1.2))
        return [*squares, *((np.array(middle), side) for side in sides)]

    def _refined(self, picture: np.ndarray, centre: np.ndarray, side: float) -> tuple[np.ndarray, float]:
        """Landmarks and score after recentring and rotating the square on the landmarks found."""
        landmarks, score = self._look(picture, centre, side, 0.0)
        for _ in range(_ROUNDS - 1):
            if score < 0:
                break
            flat = landmarks[:, :2]
            across = flat[_LEFT_EYE] - flat[_RIGHT_EYE]
            box = np.ptp(flat, axis=0)
            middle = (flat.min(0) + flat.max(0)) / 2
            landmarks, score = self._look(
                picture, middle, _MARGIN * float(box.max()), np.arctan2(across[1], across[0])
            )
        return landmarks, score

    def _look(
        self, picture: np.ndarray, centre: np.ndarray, side: float, angle: float
    ) -> tuple[np.ndarray, float]:
        """The network's landmarks in a square turned by `angle` (radians), in pixels of the picture, and its score."""
        scale = _INPUT / max(side, 1.0)
        matrix = cv2.getRotationMatrix2D(
            (float(centre[0]), float(centre[1])), float(np.degrees(angle)), scale
        )
        matrix[:, 2] += _INPUT / 2 - centre
        square = cv2.warpAffine(
            picture, matrix, (_INPUT, _INPUT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        self._net.setInput(np.ascontiguousarray((square.astype(np.float32) / 255).transpose(2, 0, 1)[None]))
        points, score = self._net.forward(list(_OUTPUTS))
        points = points.reshape(NUM_LANDMARKS, 3).astype(np.float64)
        back = cv2.invertAffineTransform(matrix)
        flat = points[:, :2] @ back[:, :2].T + back[:, 2]
        return np.column_stack([flat, points[:, 2] / scale]), float(score.ravel()[0])
