"""The blockwise autoregressive rectified-flow transformer G (paper, "Blockwise autoregressive latent generation").

Every latent pixel is a token: its noised latent, concatenated with its latent step's speech embedding. References are
further tokens, and so is one learned token that says whether the window begins with a clip's first frame. AdaLN sees
each token's own timestep: 0 for references, the history's for history, t for the block being denoised.

`forward` is training: a window in one pass. `prefill_references`, `prefill`, `denoise` and `append` are inference with
a KV cache, which gives the same numbers. History and blocks are points of the flow's path, whose clean latents are
normalised (`normalise`); references are latents as the VAE gives them.

Shapes: B batch or rows of a cache, M references, L latents, C = C_z, H W latent pixels, N blocks, S tokens, D width,
E speech embedding channels, F speech feature channels, T frames.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from portrait.generator.config import GeneratorConfig
from portrait.generator.kv_cache import WINDOW_TOKENS, KVCache
from portrait.generator.masks import (
    history_mask_of,
    reference_mask_of,
    teacher_forcing_mask,
    with_absent_keys,
)
from portrait.generator.normaliser import LatentNormaliser
from portrait.generator.positions import angles_of, latent_positions, prefix_positions
from portrait.generator.transformer import OutputLayer, TimestepEmbedding, TransformerLayer
from portrait.speech import SpeechEmbedder
from portrait.timing import LATENTS_PER_BLOCK


class Generator(nn.Module):
    """v(z^t, z_r, a', t): the velocity that carries latents towards noise (ε − z⁰)."""

    def __init__(
        self, config: GeneratorConfig, *, latent_mean: Tensor | None = None, latent_std: Tensor | None = None
    ) -> None:
        """A generator with new weights.

        Args:
            config: its sizes.
            latent_mean: [C], mean of the training latents' channels; weights that are loaded bring their own.
            latent_std: [C], their standard deviation.
        """
        super().__init__()
        self.config = config
        width = config.width
        self.speech_embedder = SpeechEmbedder(config.speech_dim, config.speech_embedding_dim)
        self.latent_in = nn.Linear(config.latent_channels + config.speech_embedding_dim, width)
        self.reference_in = nn.Linear(config.latent_channels, width)
        self.window_tokens = nn.Parameter(torch.empty(WINDOW_TOKENS, width))
        self.null_reference = nn.Parameter(torch.empty(width))
        self.null_speech = nn.Parameter(torch.empty(config.speech_embedding_dim))
        self.timestep_embedding = TimestepEmbedding(width)
        self.layers = nn.ModuleList(
            TransformerLayer(width, config.heads, config.mlp_ratio) for _ in range(config.num_layers)
        )
        self.output = OutputLayer(width, config.latent_channels)
        self.normaliser = LatentNormaliser(config.latent_channels, latent_mean, latent_std)
        self.activation_checkpointing = False
        """Recompute each layer in the backward pass instead of keeping its activations."""
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for parameter in (self.window_tokens, self.null_reference, self.null_speech):
            nn.init.normal_(parameter, std=0.02)
        # AdaLN-Zero: every layer starts as the identity and the velocity as zero.
        for module in self.modules():
            if isinstance(module, TransformerLayer | OutputLayer):
                nn.init.zeros_(module.modulation.weight)
                nn.init.zeros_(module.modulation.bias)
        nn.init.zeros_(self.output.projection.weight)
        nn.init.zeros_(self.output.projection.bias)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights and of the activations."""
        return self.latent_in.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.latent_in.weight.device

    def normalise(self, latents: Tensor) -> Tensor:
        """Latents of the VAE [..., C, L, H, W] to zero mean and unit deviation per channel, in float32."""
        return self.normaliser(latents)

    def denormalise(self, latents: Tensor) -> Tensor:
        """The inverse of `normalise`."""
        return self.normaliser.inverse(latents)

    # ---- training: a window in one pass --------------------------------------------------------------------------

    def forward(
        self,
        history: Tensor,
        noised: Tensor,
        *,
        history_timestep: Tensor,
        timestep: Tensor,
        references: Tensor,
        speech: Tensor,
        is_first: Tensor,
        reference_mask: Tensor | None = None,
        latent_mask: Tensor | None = None,
        drop_speech: Tensor | None = None,
        drop_references: Tensor | None = None,
    ) -> Tensor:
        """Velocities of all blocks of a window, each given the history before it (teacher forcing).

        Args:
            history: [B, C, L, H, W], the window's latents, normalised and lightly noised; L a multiple of k.
            noised: [B, C, L, H, W], the same latents at each block's t.
            history_timestep: [B, N], timestep of the history's blocks, in [0, 1].
            timestep: [B, N], t of the blocks being denoised.
            references: [B, M, C, H, W], M ≥ 1 reference latents of the VAE.
            speech: [B, T, F], speech features of the window's frames (see `SpeechEmbedder`).
            is_first: [B] bool, whether the window begins with its clip's first frame.
            reference_mask: [B, M] bool, True where there is a reference; all by default.
            latent_mask: [B, L] bool, False where a latent is padding; all True by default.
            drop_speech: [B] bool, whose speech is replaced by the null embedding; all False by default.
            drop_references: [B] bool, whose references are replaced by the null embedding; all False by default.

        Returns:
            [B, C, L, H, W], velocities of `noised`.

        Raises:
            ValueError: the latents have another size, or L is not a multiple of k.
        """
        self._check_window(noised)

        # Tokens: the window's and the references', the history's, those being denoised.
        embedding_BLE = self.embed_speech(speech, is_first, drop_speech)
        window_BSD = self.window_tokens[(~is_first).long()][:, None]
        references_BSD, present_BS = self._reference_tokens(references, reference_mask, drop_references)
        history_BSD = self._latent_tokens(history, embedding_BLE)
        noised_BSD = self._latent_tokens(noised, embedding_BLE)

        # What each token sees, where it is, and which timestep it has.
        mask = self._window_mask(noised, present_BS, latent_mask)
        positions, timestep_index = self._window_layout(references.shape[1], noised.shape[2], noised.device)
        timesteps_BN = torch.cat((torch.zeros_like(timestep[:, :1]), history_timestep, timestep), dim=1)

        velocity_BSC = self._transform(
            torch.cat((window_BSD, references_BSD, history_BSD, noised_BSD), dim=1),
            timesteps_BN,
            timestep_index=timestep_index,
            positions=positions,
            mask=mask,
        )
        return self._latents_of_tokens(velocity_BSC[:, -noised_BSD.shape[1] :])

    def _check_window(self, noised: Tensor) -> None:
        size = self.config.latent_size
        if noised.shape[2] % LATENTS_PER_BLOCK or noised.shape[3:] != (size, size):
            raise ValueError(
                f"latents must be [B, C, L, {size}, {size}] with L a multiple of {LATENTS_PER_BLOCK}, "
                f"got {tuple(noised.shape)}"
            )

    def _window_mask(self, noised: Tensor, references_present: Tensor, latent_mask: Tensor | None) -> Tensor:
        """Bool [B, 1, S, S] of a training window, without masked references and padding."""
        batch, latents = noised.shape[0], noised.shape[2]
        window_BS = torch.ones(batch, 1, dtype=torch.bool, device=noised.device)
        if latent_mask is None:
            latent_mask = torch.ones(batch, latents, dtype=torch.bool, device=noised.device)
        latents_BS = latent_mask.repeat_interleave(self.config.latent_tokens, dim=1)
        present_BS = torch.cat((window_BS, references_present, latents_BS, latents_BS), dim=1)
        mask_SS = teacher_forcing_mask(
            references_present.shape[1], latents // LATENTS_PER_BLOCK, self.config.block_tokens, noised.device
        )
        return with_absent_keys(mask_SS, present_BS)

    def _window_layout(self, references: int, latents: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Positions [S, 3] of a training window's tokens, and each one's timestep [S]: 0 for the prefix's, then one per
        block of the history, then one per block being denoised.
        """
        size = self.config.latent_size
        prefix_S3 = prefix_positions(size, 1, references, device)
        video_S3 = latent_positions(size, 0, latents, device)
        numbers = torch.arange(1, 2 * latents // LATENTS_PER_BLOCK + 1, device=device)
        blocks_S = numbers.repeat_interleave(self.config.block_tokens)
        timestep_index = torch.cat((numbers.new_zeros(len(prefix_S3)), blocks_S))
        return torch.cat((prefix_S3, video_S3, video_S3)), timestep_index

    # ---- inference with the KV cache -----------------------------------------------------------------------------

    def embed_speech(self, speech: Tensor, is_first: Tensor | bool, drop: Tensor | None = None) -> Tensor:
        """Speech features [B, T, F] of a window or block → [B, L, E]; the null embedding where `drop` [B] is True."""
        embedding_BLE = self.speech_embedder(speech.to(self.dtype), is_first)
        if drop is None:
            return embedding_BLE
        return torch.where(drop[:, None, None], self.null_speech, embedding_BLE)

    def prefill_references(
        self,
        cache: KVCache,
        references: Tensor,
        reference_mask: Tensor | None = None,
        drop: Tensor | None = None,
    ) -> None:
        """Computes the keys and values of the window tokens and references of all rows; once a session.

        Args:
            cache: its rows are B.
            references: [B, M, C, H, W], latents of the VAE; M at most what the cache was allocated for.
            reference_mask: [B, M] bool, True where there is a reference; all by default.
            drop: [B] bool, rows that get the null reference instead.

        Raises:
            ValueError: there are more references than the cache has room for.
        """
        batch, count = references.shape[:2]
        room = (cache.prefix - WINDOW_TOKENS) // self.config.latent_tokens
        if count > room:
            raise ValueError(f"the KV cache has room for {room} references, got {count}")
        references_BSD, present_BS = self._reference_tokens(references, reference_mask, drop)
        used = WINDOW_TOKENS + references_BSD.shape[1]
        cache.prefix_present[:, WINDOW_TOKENS:] = False
        cache.prefix_present[:, WINDOW_TOKENS:used] = present_BS
        self._transform(
            torch.cat((self.window_tokens.expand(batch, -1, -1), references_BSD), dim=1),
            torch.zeros(batch, 1, device=references_BSD.device),
            positions=prefix_positions(self.config.latent_size, WINDOW_TOKENS, count, references_BSD.device),
            mask=reference_mask_of(cache, references_BSD.shape[1]),
            cache=cache,
        )

    def prefill(self, cache: KVCache, latents: Tensor, embedding: Tensor) -> None:
        """Rebuilds the history of all rows from finished latents, in one pass.

        Args:
            cache: holds the references; its history is replaced.
            latents: [B, C, N·k, H, W], normalised latents from the window's beginning, N < window_blocks.
            embedding: [B, N·k, E], their speech embeddings.

        Raises:
            ValueError: the history is longer than the cache has room for.
        """
        blocks = latents.shape[2] // LATENTS_PER_BLOCK
        if blocks > cache.room:
            raise ValueError(f"the KV cache holds {cache.room} finished blocks of a window, got {blocks}")
        tokens_BSD = self._latent_tokens(latents, embedding)
        self._transform(
            tokens_BSD,
            torch.zeros(cache.rows, 1, device=tokens_BSD.device),
            positions=latent_positions(self.config.latent_size, 0, latents.shape[2], tokens_BSD.device),
            mask=history_mask_of(cache, blocks),
            cache=cache,
            start=cache.prefix,
        )
        cache.lengths[:] = blocks

    def denoise(self, cache: KVCache, noised: Tensor, timestep: Tensor, embedding: Tensor) -> Tensor:
        """Velocity of the next block of every row.

        Args:
            cache: references and history; its current block is overwritten.
            noised: [B, C, k, H, W], the block at t.
            timestep: [B], t.
            embedding: [B, k, E], the block's speech embedding.

        Returns:
            [B, C, k, H, W].
        """
        tokens_BSD = self._latent_tokens(noised, embedding)
        first = cache.lengths * LATENTS_PER_BLOCK
        velocity_BSC = self._transform(
            tokens_BSD,
            timestep[:, None],
            positions=latent_positions(self.config.latent_size, first, LATENTS_PER_BLOCK, tokens_BSD.device),
            mask=cache.present()[:, None, None, :].expand(-1, -1, tokens_BSD.shape[1], -1),
            cache=cache,
            start=cache.current,
        )
        return self._latents_of_tokens(velocity_BSC)

    def append(self, cache: KVCache, latents: Tensor, embedding: Tensor) -> None:
        """Appends a finished, normalised block [B, C, k, H, W] to every row's history: a pass at t = 0 that keeps its
        keys and values.
        """
        self.denoise(cache, latents, torch.zeros(cache.rows, device=latents.device), embedding)
        cache.append()

    def roll(self, cache: KVCache) -> None:
        """Drops every row's oldest block; the others move to the window's beginning, references keep their place.

        Keys are stored rotated by their position, so they are rotated back. What the remaining blocks have learned from
        the dropped one stays in them: only with a single layer is this the same as prefilling them again.
        """
        back = torch.tensor([[-LATENTS_PER_BLOCK, 0, 0]], device=cache.lengths.device)
        cache.drop_oldest(angles_of(back, self.config))

    # ---- tokens and layers ---------------------------------------------------------------------------------------

    def _latent_tokens(self, latents: Tensor, embedding_BLE: Tensor) -> Tensor:
        """[B, C, L, H, W] and [B, L, E] → [B, L·H·W, D]: the embedding is broadcast over space."""
        pixels = rearrange(latents.to(self.dtype), "b c l h w -> b l h w c")
        spread = embedding_BLE.to(self.dtype)[:, :, None, None].expand(*pixels.shape[:-1], -1)
        return self.latent_in(torch.cat((pixels, spread), dim=-1)).flatten(1, 3)

    def _latents_of_tokens(self, tokens_BSC: Tensor) -> Tensor:
        """[B, L·H·W, C] → [B, C, L, H, W]."""
        size = self.config.latent_size
        return rearrange(tokens_BSC, "b (l h w) c -> b c l h w", h=size, w=size)

    def _reference_tokens(
        self, references: Tensor, reference_mask: Tensor | None, drop: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """[B, M, C, H, W] → tokens [B, M·H·W, D] and which are present, bool [B, M·H·W].

        Where references are dropped, the first one becomes the null reference and the others are absent.
        """
        batch, count = references.shape[:2]
        present_BM = torch.ones(batch, count, dtype=torch.bool, device=references.device)
        if reference_mask is not None:
            present_BM = reference_mask
        pixels = rearrange(self.normaliser(references, channel_dim=-3), "b m c h w -> b m h w c")
        tokens_BSD = self.reference_in(pixels.to(self.dtype)).flatten(1, 3)
        if drop is not None:
            tokens_BSD = torch.where(drop[:, None, None], self.null_reference, tokens_BSD)
            null = torch.arange(count, device=references.device) == 0
            present_BM = torch.where(drop[:, None], null, present_BM)
        return tokens_BSD, present_BM.repeat_interleave(self.config.latent_tokens, dim=1)

    def _transform(
        self,
        tokens_BSD: Tensor,
        timesteps_BN: Tensor,
        *,
        positions: Tensor,
        mask: Tensor,
        timestep_index: Tensor | None = None,
        cache: KVCache | None = None,
        start: int = 0,
    ) -> Tensor:
        """All layers: → [B, S, C].

        Args:
            tokens_BSD: the tokens.
            timesteps_BN: the timesteps of the pass.
            positions: [S, 3] or [B, S, 3].
            mask: bool [B, 1, S, K], True where a query may see a key.
            timestep_index: [S], which timestep each token has; None where N is 1.
            cache: receives the tokens' keys and values and is attended to; None: the tokens attend to themselves.
            start: first slot of the tokens in the cache.
        """
        angles = angles_of(positions, self.config)
        if angles.ndim == 3:
            angles = angles[:, None]  # over heads
        condition_BND = self.timestep_embedding(timesteps_BN)
        arguments = {"timestep_index": timestep_index, "angles": angles, "mask": mask}
        recompute = cache is None and self.activation_checkpointing and torch.is_grad_enabled()
        for index, layer in enumerate(self.layers):
            if cache is not None:
                tokens_BSD = layer(
                    tokens_BSD, condition_BND, **arguments, cached=cache.keys_values[index], start=start
                )
            elif recompute:
                tokens_BSD = checkpoint(layer, tokens_BSD, condition_BND, **arguments, use_reentrant=False)
            else:
                tokens_BSD = layer(tokens_BSD, condition_BND, **arguments)
        return self.output(tokens_BSD, condition_BND, timestep_index)
