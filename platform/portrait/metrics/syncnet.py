"""SyncNet (Chung and Zisserman 2016, "Out of time: automated lip sync in the wild"): lips and speech in one space.

The network of the published weights `syncnet_v2.model`, with which the field measures lip sync. They do not ship and
are never downloaded: they are loaded from a path. Letters: `B` windows, `T` frames.
"""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor, nn

WINDOW_FRAMES = 5
"""Frames per window, 0.2 s at 25 frames/s."""
FACE_SIZE = 224
"""Side of the faces in pixels."""
STEPS_PER_FRAME = 4
"""Vectors of 13 mel-frequency cepstral coefficients per frame, one every 10 ms."""
EMBEDDING = 1024
_FEATURES = 512
_FRAMES_AT_ONCE = 32
"""Frames whose maps of the first layer are in memory at once, 4.6 MB each."""
_PUBLISHED = {
    "netcnnaud": "speech_features",
    "netfcaud": "speech_head",
    "netcnnlip": "lip_features",
    "netfclip": "lip_head",
}
"""Name of a part in the published file → name here."""
_Size: TypeAlias = tuple[int, ...]


class SyncNet(nn.Module):
    """Two streams of convolutions, each with a head of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.speech_features = nn.Sequential(
            *_block(1, 64, (3, 3), padding=(1, 1)),
            nn.MaxPool2d((1, 1), (1, 1)),
            *_block(64, 192, (3, 3), padding=(1, 1)),
            nn.MaxPool2d((3, 3), (1, 2)),
            *_block(192, 384, (3, 3), padding=(1, 1)),
            *_block(384, 256, (3, 3), padding=(1, 1)),
            *_block(256, 256, (3, 3), padding=(1, 1)),
            nn.MaxPool2d((3, 3), (2, 2)),
            *_block(256, _FEATURES, (5, 4)),
        )
        self.lip_features = nn.Sequential(
            *_block(3, 96, (WINDOW_FRAMES, 7, 7), stride=(1, 2, 2)),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_block(96, 256, (1, 5, 5), stride=(1, 2, 2), padding=(0, 1, 1)),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            *_block(256, 256, (1, 3, 3), padding=(0, 1, 1)),
            *_block(256, 256, (1, 3, 3), padding=(0, 1, 1)),
            *_block(256, 256, (1, 3, 3), padding=(0, 1, 1)),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_block(256, _FEATURES, (1, 6, 6)),
        )
        self.speech_head, self.lip_head = _head(), _head()

    def embed_speech(self, cepstra: Tensor) -> Tensor:
        """Embeddings of windows.

        Args:
            cepstra: float32 [B, 13, 20], from `python_speech_features.mfcc` of 16-bit samples at 16 kHz.

        Returns:
            float32 [B, 1024].
        """
        return self.speech_head(self.speech_features(cepstra[:, None]).flatten(1))

    def embed_lips(self, faces: Tensor) -> Tensor:
        """Embeddings of every five neighbouring frames.

        Only the first layer spans several frames, so all windows of a video are computed in one pass.

        Args:
            faces: uint8 BGR [T, 3, 224, 224], T ≥ 5: the square from the upper edge of the face box down, 1.4 times as
                high as the box, centred horizontally.

        Returns:
            float32 [T - 4, 1024].
        """
        windows = len(faces) - WINDOW_FRAMES + 1
        parts = []
        for start in range(0, windows, _FRAMES_AT_ONCE):
            part = faces[start : start + _FRAMES_AT_ONCE + WINDOW_FRAMES - 1].float()
            features = self.lip_features(part.transpose(0, 1)[None])  # [1, 512, windows, 1, 1]
            parts.append(self.lip_head(features[0, :, :, 0, 0].T))
        return torch.cat(parts)


def load_syncnet(path: str | Path) -> SyncNet:
    """The network with published weights, frozen.

    Args:
        path: `syncnet_v2.model`, a state dict; code in the file is not run.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is not a state dict of this network.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file, expected SyncNet's weights (syncnet_v2.model)")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        renamed = {_own_name(name): value for name, value in state.items()}
    except (pickle.UnpicklingError, RuntimeError, EOFError, AttributeError) as error:
        # PyTorch's own message ends with the advice to run whatever code the file holds.
        raise ValueError(
            f"{path}: not a state dict, expected SyncNet's weights (syncnet_v2.model)"
        ) from error
    network = SyncNet()
    try:
        network.load_state_dict(renamed)
    except RuntimeError as error:
        why = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{path}: weights of another network, expected SyncNet's (syncnet_v2.model): {why} …"
        ) from error
    return network.eval().requires_grad_(False)


def _own_name(published: str) -> str:
    part, _, rest = published.partition(".")
    return f"{_PUBLISHED.get(part, part)}.{rest}"


def checksum(path: str | Path) -> str:
    """SHA-256 of a file of weights."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _block(
    channels: int, out: int, kernel: _Size, *, stride: _Size | None = None, padding: _Size | None = None
) -> list[nn.Module]:
    """A convolution over two or three dimensions, its norm and ReLU."""
    conv, norm = (nn.Conv2d, nn.BatchNorm2d) if len(kernel) == 2 else (nn.Conv3d, nn.BatchNorm3d)
    ones, zeros = (1,) * len(kernel), (0,) * len(kernel)
    layer = conv(channels, out, kernel, stride=stride or ones, padding=padding or zeros)  # type: ignore[arg-type]
    return [layer, norm(out), nn.ReLU(inplace=True)]


def _head() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(_FEATURES, _FEATURES),
        nn.BatchNorm1d(_FEATURES),
        nn.ReLU(inplace=True),
        nn.Linear(_FEATURES, EMBEDDING),
    )
