"""Faces: detection, tracking over a clip, and the steady portrait crop.

The same for data preparation and for a user's picture.
"""

from portrait.faces.crop import (
    HEAD,
    PORTRAIT,
    CropBox,
    Framing,
    apply_crop,
    crop_portrait,
    portrait_crop,
)
from portrait.faces.detector import Face, FaceDetector, NoFaceError, YuNetDetector
from portrait.faces.track import FaceTrack, track_faces

__all__ = [
    "HEAD",
    "PORTRAIT",
    "CropBox",
    "Face",
    "FaceDetector",
    "FaceTrack",
    "Framing",
    "NoFaceError",
    "YuNetDetector",
    "apply_crop",
    "crop_portrait",
    "portrait_crop",
    "track_faces",
]
