"""LPIPS (Zhang et al. 2018, version 0.1 with AlexNet), only with trained backbone weights.

The linear heads come with the package `lpips`. The AlexNet trained on ImageNet is read from a folder and never
downloaded; without it the metric reports that it was not measured. An untrained backbone would give numbers that only
look like LPIPS.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import torch
from torch import Tensor, nn

_PATTERN = "alexnet*.pth"


class LPIPS(nn.Module):
    """Learned perceptual distance; differentiable in its inputs, its own parameters frozen.

    Args:
        weights_folder: folder with torchvision's AlexNet state dict (`alexnet-owt-7be5be79.pth`), or None.
        sha256: expected checksum of that file, whole or a prefix of at least 8 digits. Without it the digits
            in torchvision's file name are checked.

    Raises:
        ValueError: the checksum differs, or the file is not an AlexNet state dict.
    """

    def __init__(self, weights_folder: str | Path | None = None, *, sha256: str | None = None) -> None:
        super().__init__()
        self.network: nn.Module | None = None
        self.reason: str | None = None
        """Why it cannot be measured; None if it can."""
        file = find_backbone(weights_folder)
        if file is None:
            where = (
                "a folder with them" if weights_folder is None else f"{weights_folder} holds no {_PATTERN}"
            )
            self.reason = (
                f"not measured: needs LPIPS backbone weights, torchvision's AlexNet state dict ({where})"
            )
            return
        self.network = _load(file, sha256)

    @property
    def available(self) -> bool:
        """Whether the weights were found."""
        return self.network is not None

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Distance of each pair, float32 [B].

        Args:
            a, b: pictures [B, 3, H, W] or clips [B, 3, T, H, W] in [-1, 1]; a clip's distance is the mean of
                its frames'.

        Raises:
            RuntimeError: not `available`; the message is `reason`.
            ValueError: shapes differ or are something else.
        """
        if self.network is None:
            raise RuntimeError(self.reason)
        if a.shape != b.shape or a.ndim not in (4, 5) or a.shape[1] != 3:
            raise ValueError(
                f"a and b: found shapes {tuple(a.shape)} and {tuple(b.shape)}, expected the same [B, 3, (T,) H, W]"
            )
        count = a.shape[0]
        if a.ndim == 5:
            a, b = (x.transpose(1, 2).flatten(0, 1) for x in (a, b))
        return self.network(a.float(), b.float()).reshape(count, -1).mean(1)


def find_backbone(weights_folder: str | Path | None) -> Path | None:
    """The AlexNet state dict in a folder, or None."""
    if weights_folder is None:
        return None
    return next(iter(sorted(Path(weights_folder).glob(_PATTERN))), None)


def _load(file: Path, sha256: str | None) -> nn.Module:
    import lpips  # slow to import, and only needed here

    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    named = re.search(r"-([0-9a-f]{8})\.pth$", file.name)
    expected = sha256 or (named.group(1) if named else None)
    if expected and not digest.startswith(expected.lower()):
        raise ValueError(f"{file}: found sha256 {digest}, expected {expected}")
    state = torch.load(file, map_location="cpu", weights_only=True)
    # pnet_rand only keeps the package from downloading weights: every parameter of the trunk is replaced below, or
    # it is an error.
    network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    trunk = {}
    for name, value in network.net.state_dict().items():
        key = "features." + name.split(".", 1)[1]
        if key not in state or state[key].shape != value.shape:
            raise ValueError(
                f"{file}: {key} is missing or has another shape, expected torchvision's AlexNet state dict"
            )
        trunk[name] = state[key]
    network.net.load_state_dict(trunk, strict=True)
    return network.eval().requires_grad_(False)
