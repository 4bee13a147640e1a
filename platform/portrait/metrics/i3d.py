"""I3D (Carreira and Zisserman 2017, "Quo vadis, action recognition?"), the network behind FVD.

The weights, trained on Kinetics-400, do not ship and are never downloaded: they are loaded from a path, in either of
the two exports in use. A TorchScript file contains its network; a state dict (with the tensor names of `pytorch-i3d`)
is loaded into the one below. FVD takes the 400 class scores as features (Unterthiner et al. 2019).

Letters: `B` clips, `T` frames, `H W` pixels.
"""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

INPUT_SIZE = 224
"""Side of the frames that the network sees, in pixels."""
CLASSES = 400
_Features: TypeAlias = Callable[[Tensor], Tensor]
_MIXED = {
    "Mixed_3b": (192, (64, 96, 128, 16, 32, 32)),
    "Mixed_3c": (256, (128, 128, 192, 32, 96, 64)),
    "Mixed_4b": (480, (192, 96, 208, 16, 48, 64)),
    "Mixed_4c": (512, (160, 112, 224, 24, 64, 64)),
    "Mixed_4d": (512, (128, 128, 256, 24, 64, 64)),
    "Mixed_4e": (512, (112, 144, 288, 32, 64, 64)),
    "Mixed_4f": (528, (256, 160, 320, 32, 128, 128)),
    "Mixed_5b": (832, (256, 160, 320, 32, 128, 128)),
    "Mixed_5c": (832, (384, 192, 384, 48, 128, 128)),
}
"""Input channels, and output channels of the branches, of each inception module."""


class I3D(nn.Module):
    """Inception-v1 inflated to three dimensions; tensor names are those of the published state dict."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = _Unit(3, 64, (7, 7, 7), stride=(2, 2, 2))
        self.Conv3d_2b_1x1 = _Unit(64, 64, (1, 1, 1))
        self.Conv3d_2c_3x3 = _Unit(64, 192, (3, 3, 3))
        for name, (channels, out) in _MIXED.items():
            self.add_module(name, _Inception(channels, out))
        self.logits = _Unit(1024, CLASSES, (1, 1, 1), plain=True)

    def forward(self, video: Tensor) -> Tensor:
        """Class scores [B, 400] of video [B, 3, T, 224, 224] in [−1, 1], T ≥ 9, averaged over time."""
        x = _pool(self.Conv3d_1a_7x7(video), (1, 3, 3), (1, 2, 2))
        x = _pool(self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x)), (1, 3, 3), (1, 2, 2))
        for name in _MIXED:
            if name == "Mixed_4b":
                x = _pool(x, (3, 3, 3), (2, 2, 2))
            if name == "Mixed_5b":
                x = _pool(x, (2, 2, 2), (2, 2, 2))
            x = self.get_submodule(name)(x)
        x = F.avg_pool3d(x, (2, 7, 7), stride=1)
        return self.logits(x).flatten(2).mean(dim=2)


class _Unit(nn.Module):
    """A convolution with "same" padding, its norm and ReLU; `plain` has neither and a bias instead."""

    def __init__(
        self,
        channels: int,
        out: int,
        kernel: tuple[int, int, int],
        *,
        stride: tuple[int, int, int] = (1, 1, 1),
        plain: bool = False,
    ) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(channels, out, kernel, stride=stride, bias=plain)
        self.bn = None if plain else nn.BatchNorm3d(out, eps=1e-3, momentum=0.01)
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv3d(_pad_same(x, self.kernel, self.stride))
        return x if self.bn is None else F.relu(self.bn(x))


class _Inception(nn.Module):
    """Four branches side by side: 1×1×1, two 3×3×3 behind a bottleneck, and pooling."""

    def __init__(self, channels: int, out: tuple[int, ...]) -> None:
        super().__init__()
        self.b0 = _Unit(channels, out[0], (1, 1, 1))
        self.b1a = _Unit(channels, out[1], (1, 1, 1))
        self.b1b = _Unit(out[1], out[2], (3, 3, 3))
        self.b2a = _Unit(channels, out[3], (1, 1, 1))
        self.b2b = _Unit(out[3], out[4], (3, 3, 3))
        self.b3b = _Unit(channels, out[5], (1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        pooled = _pool(x, (3, 3, 3), (1, 1, 1))
        branches = (self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled))
        return torch.cat(branches, dim=1)


def _pad_same(x: Tensor, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> Tensor:
    """Pads like TensorFlow's "SAME", an odd pixel at the end, as the weights were trained."""
    sides: list[int] = []
    for size, k, s in reversed(list(zip(x.shape[2:], kernel, stride, strict=True))):
        missing = max(0, (-(-size // s) - 1) * s + k - size)
        sides += [missing // 2, missing - missing // 2]
    return F.pad(x, sides)


def _pool(x: Tensor, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> Tensor:
    return F.max_pool3d(_pad_same(x, kernel, stride), kernel, stride)


class I3DFeatures:
    """The features that FVD compares, whichever export the weights are in."""

    def __init__(self, path: str | Path, *, sha256: str | None = None, device: str = "cpu") -> None:
        """Loads the weights.

        Args:
            path: TorchScript (`i3d_torchscript.pt`) or a state dict (`rgb_imagenet.pt`, `i3d_pretrained_400.pt`).
            sha256: expected checksum, whole or a prefix of at least 8 digits.
            device: where to compute.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the checksum differs, or the file is neither of the two exports of I3D.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(
                f"{path}: no such file, expected I3D's weights (TorchScript or a state dict)"
            )
        digest = _checked_digest(path, sha256)
        self.id = f"{path.name} {digest[:12]}"
        """File name and the beginning of its SHA-256, for reports."""
        self.device = device
        self._features = _torchscript(path, device) if _is_torchscript(path) else _state_dict(path, device)

    @torch.no_grad()
    def __call__(self, video: Tensor) -> Tensor:
        """Features float32 [B, 400] of video [B, 3, T, H, W] in [−1, 1], resized to 224² bilinearly."""
        frames = video.to(self.device, torch.float32).transpose(1, 2)  # [B, T, 3, H, W]
        size = (INPUT_SIZE, INPUT_SIZE)
        resized = F.interpolate(frames.flatten(0, 1), size=size, mode="bilinear", align_corners=False)
        return self._features(resized.unflatten(0, frames.shape[:2]).transpose(1, 2)).float().cpu()


def _checked_digest(path: Path, sha256: str | None) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 is not None and (len(sha256) < 8 or not digest.startswith(sha256.lower())):
        raise ValueError(f"{path}: found sha256 {digest}, expected {sha256}")
    return digest


def _is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive, which holds code; a state dict is one without, or a bare pickle."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def _torchscript(path: Path, device: str) -> _Features:
    network = torch.jit.load(str(path), map_location=device).eval()

    def features(video: Tensor) -> Tensor:
        found = network(video, rescale=False, resize=False, return_features=True)
        if found.ndim != 2 or len(found) != len(video):
            raise ValueError(f"{path}: gave features of shape {list(found.shape)}, expected [B, D]")
        return found

    return features


def _state_dict(path: Path, device: str) -> _Features:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        own = {_own_name(name): value for name, value in state.items()}
    except (pickle.UnpicklingError, RuntimeError, EOFError, AttributeError) as error:
        raise ValueError(f"{path}: neither TorchScript nor a state dict, expected I3D's weights") from error
    network = I3D()
    try:
        network.load_state_dict(own)
    except RuntimeError as error:
        why = " ".join(str(error).split())[:300]
        raise ValueError(f"{path}: weights of another network, expected I3D's: {why} …") from error
    return network.eval().requires_grad_(False).to(device)


def _own_name(published: str) -> str:
    """The published name without the prefix of `DataParallel`."""
    return published.removeprefix("module.")
