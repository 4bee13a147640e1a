"""A portrait: everything that a stream needs of a person's pictures, computed once.

Shapes: M pictures, C_f channels of E1's features, C = C_z channels of latents, H W of pictures, features or latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from portrait.media.tensors import frames_to_tensor
from portrait.vae import VideoVAE

MAX_PICTURES = 3
"""Most pictures of a person; models are trained with no more."""


@dataclass(frozen=True, kw_only=True)
class Portrait:
    """One to `MAX_PICTURES` pictures of a person, with their features and latents."""

    pictures: NDArray[np.uint8]
    """[M, H, W, 3] RGB, cropped to the preset's size."""
    reference_features: Tensor
    """[M, C_f, H, W], E1's features, for the decoder."""
    reference_latents: Tensor
    """[M, C, H, W], each picture's latent (posterior mean), for the generator."""
    vae_version: str
    """Version of the VAE that computed them: for another version they must be computed again."""

    def to(self, device: torch.device | str) -> Portrait:
        """The same portrait with its tensors on another device."""
        return Portrait(
            pictures=self.pictures,
            reference_features=self.reference_features.to(device),
            reference_latents=self.reference_latents.to(device),
            vae_version=self.vae_version,
        )


@torch.no_grad()
def prepare_portrait(
    vae: VideoVAE, images: Sequence[NDArray[np.uint8]], *, vae_version: str = "", size: int | None = None
) -> Portrait:
    """Computes a portrait from pictures that are already cropped (`faces.crop_portrait`).

    Args:
        vae: the VAE that will decode the stream.
        images: one or more uint8 [H, W, 3] RGB pictures of one size, a multiple of the VAE's spatial factor.
        vae_version: version of the VAE's weights.
        size: the side that all pictures must have, the preset's; by default the first picture's.

    Raises:
        ValueError: there is no picture, or one has another type, shape or size.
    """
    if not images:
        raise ValueError("a portrait needs at least one picture, got none")
    for index, image in enumerate(images):
        side = images[0].shape[0] if size is None else size
        if image.dtype != np.uint8 or image.shape != (side, side, 3):
            raise ValueError(
                f"portrait picture {index + 1} must be uint8 [{side}, {side}, 3], got {image.dtype} {list(image.shape)}"
            )
    pictures = np.stack(list(images))
    parameter = next(vae.parameters())
    video = frames_to_tensor(pictures).to(parameter.device, parameter.dtype).transpose(0, 1)
    return Portrait(
        pictures=pictures,
        reference_features=vae.encode_references(video[None])[0],
        reference_latents=vae.encode(video[:, :, None]).mean[:, :, 0].float(),
        vae_version=vae_version,
    )
