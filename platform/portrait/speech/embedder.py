"""The trainable temporal embedder (paper, "Blockwise autoregressive latent generation"): speech features at the frame
rate to one vector per latent step.

One MLP for the clip's first frame (latent 0), one for every group of four frames 4j−3 … 4j (latent j ≥ 1).
Shapes: `B` batch, `T` frames, `L` latents, `F` speech feature channels, `E` embedding channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from portrait.timing import FRAMES_PER_LATENT


def _mlp(width_in: int, hidden: int, width_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width_in, hidden), nn.SiLU(), nn.Linear(hidden, width_out))


class SpeechEmbedder(nn.Module):
    """Per-frame speech features to one embedding for every latent."""

    def __init__(self, feature_dim: int, embedding_dim: int) -> None:
        super().__init__()
        self.feature_dim = feature_dim
        self.first_frame = _mlp(feature_dim, 4 * embedding_dim, embedding_dim)
        self.group = _mlp(FRAMES_PER_LATENT * feature_dim, 4 * embedding_dim, embedding_dim)

    def forward(self, features: Tensor, is_first: Tensor | bool = True) -> Tensor:
        """Embeds a window.

        Args:
            features: [B, T, F] with T = 4L, where in windows that begin with the clip's first frame that frame is at
                index 3 and what precedes it is ignored; or T = 1 + 4(L−1). A window in mid-clip needs 4L frames; given
                1 + 4(L−1), its first group repeats its only known frame.
            is_first: [B] bool (or one bool for all), whether latent 0 of the window is the clip's first frame.

        Returns:
            [B, L, E].

        Raises:
            ValueError: T fits neither form, or F is not the embedder's.
        """
        batch, frames, channels = features.shape
        if channels != self.feature_dim:
            raise ValueError(f"speech features must have {self.feature_dim} channels, got {channels}")
        if frames % FRAMES_PER_LATENT == 1:
            missing = features[:, :1].expand(-1, FRAMES_PER_LATENT - 1, -1)
            features = torch.cat((missing, features), dim=1)
        elif frames == 0 or frames % FRAMES_PER_LATENT:
            raise ValueError(f"speech features must cover 1 + 4(L-1) or 4L frames, got {frames}")
        embeddings = self.group(features.unflatten(1, (-1, FRAMES_PER_LATENT)).flatten(2))
        first = self.first_frame(features[:, FRAMES_PER_LATENT - 1])
        chosen = torch.as_tensor(is_first, device=features.device).expand(batch)
        head = torch.where(chosen[:, None], first, embeddings[:, 0])
        return torch.cat((head[:, None], embeddings[:, 1:]), dim=1)
