"""Convolution that is causal in time, over a whole clip or piece by piece.

Shapes: B batch, C channels, T frames, H × W pixels. Activations are [B, C, T, H, W] in `channels_last_3d` memory, where
a convolution without temporal extent is a 2-D one over B·T pictures, without a copy.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


@dataclass
class History:
    """The state of streaming encoding or decoding: what the causal layers of one network remember of a stream.

    A whole clip is processed with a new history or without one; a stream passes the same one with every piece.
    """

    at_start: bool = True
    """Whether the next piece begins with the clip's first frame, which no temporal resampling touches."""
    past: dict[str, Tensor] = field(default_factory=dict)
    """Last inputs of each convolution with temporal extent, [B, C, kernel − 1, H, W], by the layer's name."""

    def copy(self) -> History:
        """An independent copy (tensors are shared, since they are never modified in place)."""
        return History(self.at_start, dict(self.past))

    def to(self, device: torch.device | str) -> History:
        """The same history on another device."""
        return History(self.at_start, {name: past.to(device) for name, past in self.past.items()})

    @property
    def num_bytes(self) -> int:
        """Memory of the remembered inputs."""
        return sum(past.numel() * past.element_size() for past in self.past.values())


def fold_time(x_BCTHW: Tensor) -> Tensor:
    """[B, C, T, H, W] → [B·T, C, H, W]; a view in `channels_last_3d` memory."""
    return x_BCTHW.transpose(1, 2).flatten(0, 1)


def unfold_time(x_NCHW: Tensor, batch: int) -> Tensor:
    """[B·T, C, H, W] → [B, C, T, H, W]; undoes `fold_time`."""
    return x_NCHW.unflatten(0, (batch, -1)).transpose(1, 2)


class CausalConv3d(nn.Module):
    """kernel_time × 3 × 3 convolution whose output at a frame sees that frame and the `kernel_time − 1` before it.

    The first frame is preceded by copies of itself, so that a picture is treated like a video at rest.
    """

    def __init__(self, in_channels: int, out_channels: int, *, kernel_time: int) -> None:
        super().__init__()
        self.kernel_time = kernel_time
        self.key = ""  # the layer's name inside its network, set by `name_layers`
        self.conv: nn.Conv2d | nn.Conv3d
        if kernel_time == 1:
            self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        else:
            self.conv = nn.Conv3d(in_channels, out_channels, (kernel_time, 3, 3), padding=(0, 1, 1))

    def forward(self, x_BCTHW: Tensor, history: History | None = None) -> Tensor:
        if self.kernel_time == 1:
            return unfold_time(self.conv(fold_time(x_BCTHW)), x_BCTHW.shape[0])
        past = None if history is None else history.past.get(self.key)
        if past is None:
            past = x_BCTHW[:, :, :1].expand(-1, -1, self.kernel_time - 1, -1, -1)
        x_BCTHW = torch.cat([past.to(x_BCTHW.dtype), x_BCTHW], dim=2)
        if history is not None:
            history.past[self.key] = x_BCTHW[:, :, 1 - self.kernel_time :].detach().clone()
        return self.conv(x_BCTHW)


@torch.no_grad()
def delta_orthogonal_(layer: CausalConv3d, gain: float) -> None:
    """Initialises a convolution without temporal extent as an orthogonal map of each pixel's channels.

    Delta-orthogonal initialisation (Xiao et al. 2018, arXiv 1806.05393), times `gain`. The linear part of an
    auto-encoder then starts well conditioned: detail passes from the first steps on, where random kernels need
    thousands of steps to let more than a blur through.
    """
    kernel = layer.conv.weight
    matrix = nn.init.orthogonal_(torch.empty(kernel.shape[:2], device=kernel.device), gain)
    kernel.zero_()
    kernel[:, :, 1, 1] = matrix
    nn.init.zeros_(layer.conv.bias)  # type: ignore[arg-type]


def name_layers(network: nn.Module) -> None:
    """Gives every causal convolution of a network the name under which a `History` stores its past inputs."""
    for name, layer in network.named_modules():
        if isinstance(layer, CausalConv3d):
            layer.key = name


class ChannelRMSNorm(nn.Module):
    """RMSNorm over the channels of each pixel: no statistic over time, so causality holds (paper, section "Method")."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        x_BTHWC = x_BCTHW.permute(0, 2, 3, 4, 1)
        return F.rms_norm(x_BTHWC, (x_BTHWC.shape[-1],), self.weight, eps=1e-6).permute(0, 4, 1, 2, 3)


class ResidualBlock(nn.Module):
    """Pre-norm residual block: a causal convolution with temporal extent, then a spatial one."""

    def __init__(self, channels: int, *, kernel_time: int) -> None:
        super().__init__()
        self.norm1 = ChannelRMSNorm(channels)
        self.conv1 = CausalConv3d(channels, channels, kernel_time=kernel_time)
        self.norm2 = ChannelRMSNorm(channels)
        self.conv2 = CausalConv3d(channels, channels, kernel_time=1)
        self.activation_checkpointing = False
        with torch.no_grad():
            # A block starts close to the identity, so that a deep stack starts as its shortcuts.
            self.conv2.conv.weight.mul_(0.1)

    def forward(self, x_BCTHW: Tensor, history: History | None = None) -> Tensor:
        # With a history, the recomputation would start where the first pass ended.
        if self.activation_checkpointing and history is None and torch.is_grad_enabled():
            return checkpoint(self._forward, x_BCTHW, None, use_reentrant=False)
        return self._forward(x_BCTHW, history)

    def _forward(self, x_BCTHW: Tensor, history: History | None) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x_BCTHW)), history)
        return x_BCTHW + self.conv2(F.silu(self.norm2(h)))
