"""Identity similarity: the cosine of face embeddings (Deng et al. 2019, "ArcFace").

The weights do not ship. They are an ONNX file of MobileFaceNet, which takes faces of 112×112 aligned by five points and
normalised by ImageNet's statistics, and one of YuNet, which finds the points.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

_SIDE = 112
_DETECTOR_INPUT = 640
_POINTS = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]],
    np.float32,
)
"""Eyes, tip of the nose and corners of the mouth in a face of 112×112 (InsightFace's `arcface_dst`)."""
_MEAN, _DEVIATION = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], np.float32)
"""ImageNet's statistics, by which MobileFaceNet's inputs are normalised."""


class FaceEmbedder:
    """Embeds the largest face of a picture."""

    def __init__(self, weights: str | Path, detector: str | Path) -> None:
        """Loads both networks.

        Args:
            weights: ONNX file of the recognition network.
            detector: ONNX file of YuNet, the export with a fixed 640×640 input.

        Raises:
            FileNotFoundError: a file does not exist.
            ValueError: OpenCV cannot read a file, or it is another kind of network.
        """
        for path in (weights, detector):
            if not Path(path).is_file():
                raise FileNotFoundError(f"{path}: no such file")
        try:
            self._net = cv2.dnn.readNetFromONNX(str(weights))
            self._detector = cv2.FaceDetectorYN.create(str(detector), "", (_DETECTOR_INPUT, _DETECTOR_INPUT))
            self._net.setInput(np.zeros((1, 3, _SIDE, _SIDE), np.float32))
            self._net.forward()
        except cv2.error as error:
            raise ValueError(
                f"{weights}, {detector}: OpenCV cannot read them as networks ({error.err})"
            ) from error
        self.id = f"{Path(weights).name} {hashlib.sha256(Path(weights).read_bytes()).hexdigest()[:12]}"

    def embed(self, picture: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """Unit vector [D] of an RGB picture [H, W, 3]; None if no face is found."""
        scale = _DETECTOR_INPUT / max(picture.shape[:2])
        enlarged = cv2.resize(picture, None, fx=scale, fy=scale)[:_DETECTOR_INPUT, :_DETECTOR_INPUT]
        square = np.zeros((_DETECTOR_INPUT, _DETECTOR_INPUT, 3), np.uint8)
        square[: enlarged.shape[0], : enlarged.shape[1]] = enlarged
        faces = self._detector.detect(square[:, :, ::-1].copy())[1]
        if faces is None:
            return None
        largest = max(faces, key=lambda face: face[2] * face[3])
        turn, _ = cv2.estimateAffinePartial2D(largest[4:14].reshape(5, 2), _POINTS, method=cv2.LMEDS)
        if turn is None:
            return None
        face = cv2.warpAffine(square, turn, (_SIDE, _SIDE)).astype(np.float32) / 255
        self._net.setInput(((face - _MEAN) / _DEVIATION).transpose(2, 0, 1)[None])
        vector = self._net.forward()[0]
        return vector / np.linalg.norm(vector)


def embedder_of(weights: Path | None, detector: Path | None) -> FaceEmbedder | None:
    """The embedder of two optional files; None if neither is given.

    Raises:
        ValueError: only one is given, or as `FaceEmbedder`.
    """
    if (weights is None) != (detector is None):
        raise ValueError("identity weights and a face detector are needed together: give both or neither")
    return FaceEmbedder(weights, detector) if weights is not None and detector is not None else None


def identity_similarity(
    embedder: FaceEmbedder, frames: NDArray[np.uint8], references: NDArray[np.uint8]
) -> float | None:
    """Mean cosine of the frames' embeddings with the mean embedding of the references; None if either shows no face.

    Args:
        embedder: the network.
        frames: RGB [T, H, W, 3].
        references: RGB [M, H, W, 3].
    """
    known = [vector for picture in references if (vector := embedder.embed(picture)) is not None]
    seen = [vector for picture in frames if (vector := embedder.embed(picture)) is not None]
    if not known or not seen:
        return None
    person = np.mean(known, axis=0)
    return float(np.mean(seen, axis=0) @ person / np.linalg.norm(person))
