"""The reference-guided causal video VAE (paper, "Reference-guided deep video compression").

Shapes: B batch, M references, T+1 frames of H × W pixels (the first is encoded like a picture), L = 1 + T/4 latent
steps of C_z channels and h × w pixels, C_f channels of E1's features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from portrait.layers.causal_conv import History, ResidualBlock
from portrait.vae.config import VAEConfig
from portrait.vae.decoder import Decoder
from portrait.vae.encoder import Encoder
from portrait.vae.fusion import ReferenceFusion
from portrait.vae.posterior import Posterior

RANGE_TOLERANCE = 1.001
"""Largest accepted magnitude of a picture's values: 1, plus rounding in half precision."""


class VideoVAE(nn.Module):
    """Encoder (E1, E2) and decoder (D1, D_ref, D2). `decode` takes any number of references, also 0."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def use_activation_checkpointing(self, enabled: bool = True) -> None:
        """Sets whether training recomputes activations in the backward pass: less memory, about a third more time."""
        for module in self.modules():
            if isinstance(module, (ResidualBlock, ReferenceFusion)):
                module.activation_checkpointing = enabled

    def encode(self, video: Tensor) -> Posterior:
        """The posterior of a whole clip.

        Args:
            video: [B, 3, 1+T, H, W] in [−1, 1]; T a multiple of 4 (also 0), H and W of the spatial factor.

        Raises:
            ValueError: the video has another shape or type, or values out of range.
        """
        self._check_video(video, at_start=True)
        return Posterior.from_moments(self.encoder(video))

    def encode_block(self, video: Tensor, state: History) -> tuple[Posterior, History]:
        """The posterior of a stream's next frames (1+T at the start, a multiple of 4 later) and the new state."""
        self._check_video(video, at_start=state.at_start)
        state = state.copy()
        return Posterior.from_moments(self.encoder(video, state)), state

    def encode_references(self, references: Tensor) -> Tensor:
        """E1's features of each reference picture: [B, M, 3, H, W] → [B, M, C_f, H/f, W/f].

        They depend on nothing else: compute them once per portrait and pass them to every `decode_block`.
        """
        self._check_references(references)
        batch, count = references.shape[:2]
        if count == 0:
            return self._no_features(references, references.shape[-2], references.shape[-1])
        features = self.encoder.e1(references.flatten(0, 1).unsqueeze(2)).squeeze(2)
        return features.unflatten(0, (batch, count))

    def decode(
        self,
        z: Tensor,
        references: Tensor | None = None,
        reference_mask: Tensor | None = None,
        *,
        reference_features: Tensor | None = None,
    ) -> Tensor:
        """Decodes a whole clip.

        Args:
            z: latents [B, C_z, L, h, w].
            references: pictures [B, M, 3, H, W] in [−1, 1]; None for no references.
            reference_mask: [B, M], True where there is a reference; all by default.
            reference_features: `encode_references(references)`, instead of `references`.

        Returns:
            Video [B, 3, 1+4(L−1), H, W], about [−1, 1], not clamped.
        """
        features = self._features(z, references, reference_mask, reference_features)
        return self.decoder(z, features, reference_mask)

    def decode_block(
        self,
        z: Tensor,
        state: History,
        *,
        references: Tensor | None = None,
        reference_mask: Tensor | None = None,
        reference_features: Tensor | None = None,
    ) -> tuple[Tensor, History]:
        """Decodes a stream's next latents [B, C_z, l, h, w]; returns the frames and the new state."""
        features = self._features(z, references, reference_mask, reference_features)
        state = state.copy()
        return self.decoder(z, features, reference_mask, state), state

    def _features(
        self, z: Tensor, references: Tensor | None, mask: Tensor | None, features: Tensor | None
    ) -> Tensor:
        """The references' features, computed or given, or empty ones; checks all arguments."""
        self._check_latents(z)
        if references is not None and features is not None:
            raise ValueError("decode takes either references or reference_features, got both")
        if references is not None:
            features = self.encode_references(references)
        if features is None:
            factor = self.config.space_factor
            features = self._no_features(z, z.shape[-2] * factor, z.shape[-1] * factor)
        self._check_features(z, features, mask)
        return features

    def _no_features(self, like: Tensor, height: int, width: int) -> Tensor:
        """Features [B, 0, C_f, H/f, W/f] of no references, with `like`'s batch, type and device."""
        factor = self.config.feature_space_factor
        shape = (like.shape[0], 0, self.config.feature_channels, height // factor, width // factor)
        return like.new_zeros(shape)

    def _check_video(self, video: Tensor, *, at_start: bool) -> None:
        config = self.config
        factor, expected = config.space_factor, "1+T" if at_start else "T"
        shape = tuple(video.shape)
        if video.ndim != 5 or shape[1] != config.image_channels:
            raise ValueError(f"video must be [B, {config.image_channels}, {expected}, H, W], got {shape}")
        if shape[2] < 1 or (shape[2] - int(at_start)) % config.time_factor:
            raise ValueError(
                f"video must have {expected} frames, T a multiple of {config.time_factor}, got {shape[2]}"
            )
        if shape[3] % factor or shape[4] % factor or not shape[3] or not shape[4]:
            raise ValueError(
                f"video's height and width must be multiples of {factor}, got {shape[3]}×{shape[4]}"
            )
        _check_range(video, "video")

    def _check_references(self, references: Tensor) -> None:
        config, shape = self.config, tuple(references.shape)
        if references.ndim != 5 or shape[2] != config.image_channels:
            raise ValueError(f"references must be [B, M, {config.image_channels}, H, W], got {shape}")
        if shape[3] % config.space_factor or shape[4] % config.space_factor:
            raise ValueError(
                f"references' height and width must be multiples of {config.space_factor}, got {shape[3]}×{shape[4]}"
            )
        _check_range(references, "references")

    def _check_latents(self, z: Tensor) -> None:
        if z.ndim != 5 or z.shape[1] != self.config.latent_channels or z.shape[2] < 1:
            raise ValueError(
                f"latents must be [B, {self.config.latent_channels}, L, h, w], got {tuple(z.shape)}"
            )

    def _check_features(self, z: Tensor, features: Tensor, mask: Tensor | None) -> None:
        config = self.config
        scale = config.space_factor // config.feature_space_factor
        expected = (z.shape[0], config.feature_channels, z.shape[3] * scale, z.shape[4] * scale)
        if features.ndim != 5 or (features.shape[0], *features.shape[2:]) != expected:
            batch, channels, height, width = expected
            raise ValueError(
                f"the references must match the latents' batch and picture size: their features should be "
                f"[{batch}, M, {channels}, {height}, {width}], got {tuple(features.shape)}"
            )
        if mask is not None and (mask.shape != features.shape[:2] or mask.dtype != torch.bool):
            raise ValueError(
                f"reference_mask must be bool {tuple(features.shape[:2])}, got {mask.dtype} {tuple(mask.shape)}"
            )


def _check_range(pictures: Tensor, name: str) -> None:
    """Refuses pictures of 0 … 255 and NaN, of which the encoder would make plausible but meaningless latents.

    It costs one reduction and, on a GPU, one synchronisation; it is skipped while a CUDA graph is captured.
    """
    if not pictures.is_floating_point():
        raise ValueError(f"{name} must be floating point in [−1, 1], got {pictures.dtype}")
    captured = pictures.is_cuda and torch.cuda.is_current_stream_capturing()
    if pictures.numel() == 0 or captured or torch.compiler.is_compiling():
        return
    low, high = torch.stack(torch.aminmax(pictures.detach())).tolist()
    if not (low >= -RANGE_TOLERANCE and high <= RANGE_TOLERANCE):  # NaN compares false
        raise ValueError(f"{name} must lie in [−1, 1], got values from {low:g} to {high:g}")
