"""The blockwise autoregressive rectified-flow transformer G (paper, "Blockwise autoregressive latent generation").

Every latent pixel is a token: its noised latent, concatenated with its latent step's speech embedding. References are
tokens of their own at one time position apart from the video's, and so is one learned token that says whether the
window begins with a clip's first frame. AdaLN sees each token's own noise level: 0 for references, the history's for
history, t for the block being denoised. Latents in here are normalised by `latent_mean` and `latent_std`.

`forward` is training: a window in one pass. `write_references`, `write_history`, `denoise` and `write_block` are
inference, with a key-value cache that gives the same numbers.

Shapes: `B` batch, `M` references, `L` latents of a window, `C` = C_z, `h w` latent pixels, `n` blocks, `N` tokens,
`W` width, `E` speech embedding channels, `F` speech feature channels, `T` frames.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from portrait.generator.cache import WINDOW_TOKENS, KeyValueCache
from portrait.generator.config import GeneratorConfig
from portrait.generator.masks import teacher_forcing_mask, with_absent_keys
from portrait.generator.transformer import LevelEmbedding, OutputLayer, TransformerBlock
from portrait.layers.rotary import rotary_angles
from portrait.speech.embedder import SpeechEmbedder
from portrait.timing import LATENTS_PER_BLOCK


class Generator(nn.Module):
    """v(z^t, z_r, a', t): the velocity that carries noised latents towards noise (ε − z⁰)."""

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.speech_embedder = SpeechEmbedder(config.speech_dim, config.speech_embedding_dim)
        self.latent_in = nn.Linear(config.latent_channels + config.speech_embedding_dim, width)
        self.reference_in = nn.Linear(config.latent_channels, width)
        self.window_tokens = nn.Parameter(torch.empty(WINDOW_TOKENS, width))
        self.null_reference = nn.Parameter(torch.empty(width))
        self.null_speech = nn.Parameter(torch.empty(config.speech_embedding_dim))
        self.level_embedding = LevelEmbedding(width)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, config.heads, config.mlp_ratio) for _ in range(config.blocks)
        )
        self.output = OutputLayer(width, config.latent_channels)
        self.register_buffer("latent_mean", torch.zeros(config.latent_channels))
        self.register_buffer("latent_std", torch.ones(config.latent_channels))
        self.activation_checkpointing = False
        """Recompute each block in the backward pass instead of keeping its activations."""
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for parameter in (self.window_tokens, self.null_reference, self.null_speech):
            nn.init.normal_(parameter, std=0.02)
        # AdaLN-Zero: every block starts as the identity and the velocity as zero.
        for module in self.modules():
            if isinstance(module, TransformerBlock | OutputLayer):
                nn.init.zeros_(module.modulation.weight)
                nn.init.zeros_(module.modulation.bias)
        nn.init.zeros_(self.output.projection.weight)
        nn.init.zeros_(self.output.projection.bias)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights, in which the activations are computed."""
        return self.latent_in.weight.dtype

    # ---- training: a window in one pass --------------------------------------------------------------------------

    def forward(
        self,
        history: Tensor,
        noised: Tensor,
        *,
        history_level: Tensor,
        level: Tensor,
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
            history: [B, C, L, h, w], the window's latents, lightly noised; L a multiple of k.
            noised: [B, C, L, h, w], the same latents noised to each block's t.
            history_level: [B, n], noise level of the history's blocks, in [0, 1].
            level: [B, n], t of the blocks being denoised.
            references: [B, M, C, h, w], M ≥ 1 reference latents.
            speech: [B, T, F], speech features of the window's frames (see `SpeechEmbedder`).
            is_first: [B] bool, whether the window begins with its clip's first frame.
            reference_mask: [B, M] bool, True where a reference is there; all by default.
            latent_mask: [B, L] bool, True where a latent is no padding; all by default.
            drop_speech: [B] bool, whose speech becomes the null embedding; none by default.
            drop_references: [B] bool, whose references become the null embedding; none by default.

        Returns:
            [B, C, L, h, w], velocities of `noised`.
        """
        batch, _, latents, height, width = noised.shape
        blocks = latents // LATENTS_PER_BLOCK
        if latents % LATENTS_PER_BLOCK or height != width or height != self.config.latent_size:
            raise ValueError(
                f"latents must be [B, C, L, {self.config.latent_size}, {self.config.latent_size}] with L a multiple of "
                f"{LATENTS_PER_BLOCK}, got {tuple(noised.shape)}"
            )
        embedding = self.embed_speech(speech, is_first, drop_speech)
        reference_tokens, references_present = self._reference_tokens(
            references, reference_mask, drop_references
        )
        window_token = self.window_tokens[(~is_first).long()][:, None]
        history_tokens = self._latent_tokens(history, embedding)
        tokens = torch.cat(
            (window_token, reference_tokens, history_tokens, self._latent_tokens(noised, embedding)), 1
        )

        prefix = 1 + reference_tokens.shape[1]
        device = noised.device
        mask = teacher_forcing_mask(prefix - 1, blocks, self.config.block_tokens, device)
        latent_present = torch.ones(batch, latents, dtype=torch.bool, device=device)
        if latent_mask is not None:
            latent_present = latent_mask
        latent_present = latent_present.repeat_interleave(self.config.latent_size**2, dim=1)
        window_present = torch.ones(batch, 1, dtype=torch.bool, device=device)
        present = torch.cat((window_present, references_present, latent_present, latent_present), dim=1)
        mask = with_absent_keys(mask, present)

        levels = torch.cat((torch.zeros_like(level[:, :1]), history_level, level), dim=1)
        level_index = torch.cat(
            (
                torch.zeros(prefix, dtype=torch.long, device=device),
                torch.arange(1, 2 * blocks + 1, device=device).repeat_interleave(self.config.block_tokens),
            )
        )
        latent_positions = self._latent_positions(0, latents, device)
        positions = torch.cat(
            (self._prefix_positions(1, references.shape[1], device), *[latent_positions] * 2)
        )
        velocity = self._transform(tokens, levels, level_index=level_index, positions=positions, mask=mask)
        return self._latents_of_tokens(velocity[:, prefix + history_tokens.shape[1] :])

    # ---- inference with the cache --------------------------------------------------------------------------------

    def embed_speech(self, speech: Tensor, is_first: Tensor | bool, drop: Tensor | None = None) -> Tensor:
        """Speech features [B, T, F] of a window or block → [B, L, E]; the null embedding where `drop` [B] is True."""
        embedding = self.speech_embedder(speech.to(self.dtype), is_first)
        if drop is None:
            return embedding
        return torch.where(drop[:, None, None], self.null_speech, embedding)

    def write_references(
        self,
        cache: KeyValueCache,
        references: Tensor,
        reference_mask: Tensor | None = None,
        drop: Tensor | None = None,
    ) -> None:
        """Computes the keys and values of the window tokens and references of all rows; once a session.

        Args:
            cache: its rows are B.
            references: [B, M, C, h, w], normalised, M at most what the cache was allocated for.
            reference_mask: [B, M] bool, True where a reference is there; all by default.
            drop: [B] bool, rows that get the null reference instead.

        Raises:
            ValueError: there are more references than the cache has room for.
        """
        batch, count = references.shape[:2]
        room = (cache.prefix - WINDOW_TOKENS) // self.config.latent_size**2
        if count > room:
            raise ValueError(f"the cache has room for {room} references, got {count}")
        tokens, tokens_present = self._reference_tokens(references, reference_mask, drop)
        tokens = torch.cat((self.window_tokens.expand(batch, -1, -1), tokens), dim=1)
        used = tokens.shape[1]
        cache.prefix_present[:, WINDOW_TOKENS:] = False
        cache.prefix_present[:, WINDOW_TOKENS:used] = tokens_present

        sees = torch.zeros(used, cache.capacity, dtype=torch.bool, device=tokens.device)
        sees[:, WINDOW_TOKENS:used] = True
        present = torch.zeros(batch, cache.capacity, dtype=torch.bool, device=tokens.device)
        present[:, WINDOW_TOKENS:used] = tokens_present
        itself = torch.eye(used, cache.capacity, dtype=torch.bool, device=tokens.device)
        mask = ((sees & present[:, None]) | itself)[:, None]
        positions = self._prefix_positions(WINDOW_TOKENS, count, tokens.device)
        level = torch.zeros(batch, 1, device=tokens.device)
        self._transform(tokens, level, positions=positions, mask=mask, cache=cache)

    def write_history(self, cache: KeyValueCache, latents: Tensor, embedding: Tensor) -> None:
        """Rebuilds the history of all rows from finished latents, in one pass.

        Args:
            cache: its references are written; what history it had is replaced.
            latents: [B, C, n·k, h, w], normalised latents from the window's beginning, n < window_blocks.
            embedding: [B, n·k, E], their speech embeddings.

        Raises:
            ValueError: the window is longer than the cache.
        """
        count = latents.shape[2] // LATENTS_PER_BLOCK
        room = self.config.window_blocks - 1
        if count > room:
            raise ValueError(f"the cache holds {room} finished blocks of a window, got {count}")
        tokens = self._latent_tokens(latents, embedding)
        device = tokens.device
        block = torch.arange(count, device=device).repeat_interleave(self.config.block_tokens)
        sees = torch.zeros(tokens.shape[1], cache.capacity, dtype=torch.bool, device=device)
        sees[:, cache.prefix : cache.prefix + len(block)] = block[:, None] >= block[None, :]
        mask = sees.expand(cache.rows, -1, -1).clone()
        mask[:, :, : cache.prefix] = cache.prefix_present[:, None]
        positions = self._latent_positions(0, latents.shape[2], device)
        level = torch.zeros(cache.rows, 1, device=device)
        self._transform(
            tokens, level, positions=positions, mask=mask[:, None], cache=cache, start=cache.prefix
        )
        cache.lengths[:] = count

    def denoise(self, cache: KeyValueCache, noised: Tensor, level: Tensor, embedding: Tensor) -> Tensor:
        """Velocity of the next block of every row.

        Args:
            cache: references and history; its current block is overwritten.
            noised: [B, C, k, h, w], the block at noise level t.
            level: [B], t.
            embedding: [B, k, E], the block's speech embedding.

        Returns:
            [B, C, k, h, w].
        """
        tokens = self._latent_tokens(noised, embedding)
        first = cache.lengths * LATENTS_PER_BLOCK
        positions = self._latent_positions(first, LATENTS_PER_BLOCK, tokens.device)
        mask = cache.present()[:, None, None, :].expand(-1, -1, tokens.shape[1], -1)
        velocity = self._transform(
            tokens, level[:, None], positions=positions, mask=mask, cache=cache, start=cache.current
        )
        return self._latents_of_tokens(velocity)

    def write_block(self, cache: KeyValueCache, latents: Tensor, embedding: Tensor) -> None:
        """Appends a finished block [B, C, k, h, w] to every row's history: a pass at level 0 that keeps its keys."""
        self.denoise(cache, latents, torch.zeros(cache.rows, device=latents.device), embedding)
        cache.commit()

    def roll(self, cache: KeyValueCache) -> None:
        """Drops every row's oldest block; the others move to the window's beginning, references keep their place.

        Keys carry their position as a turn, so they are turned back. What the blocks that stay had learnt from the
        one that goes stays in them: only with a single transformer block is this the same as writing them anew.
        """
        back = torch.tensor([[-LATENTS_PER_BLOCK, 0, 0]], device=cache.lengths.device)
        cache.drop_oldest(self._angles(back))

    def normalise(self, latents: Tensor) -> Tensor:
        """VAE latents [..., C, L, h, w] → zero mean and unit deviation per channel."""
        shape = (-1, 1, 1, 1)
        return (latents - self.latent_mean.view(shape)) / self.latent_std.view(shape)

    def denormalise(self, latents: Tensor) -> Tensor:
        """The inverse of `normalise`."""
        shape = (-1, 1, 1, 1)
        return latents * self.latent_std.view(shape) + self.latent_mean.view(shape)

    # ---- tokens and positions ------------------------------------------------------------------------------------

    def _latent_tokens(self, latents: Tensor, embedding: Tensor) -> Tensor:
        """[B, C, L, h, w] and [B, L, E] → [B, L·h·w, W]: the embedding is broadcast over space."""
        pixels = latents.to(self.dtype).permute(0, 2, 3, 4, 1)
        spread = embedding.to(self.dtype)[:, :, None, None].expand(*pixels.shape[:-1], -1)
        return self.latent_in(torch.cat((pixels, spread), dim=-1)).flatten(1, 3)

    def _latents_of_tokens(self, tokens: Tensor) -> Tensor:
        """[B, L·h·w, C] → [B, C, L, h, w]."""
        size = self.config.latent_size
        return tokens.unflatten(1, (-1, size, size)).permute(0, 4, 1, 2, 3)

    def _reference_tokens(
        self, references: Tensor, reference_mask: Tensor | None, drop: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """[B, M, C, h, w] → tokens [B, M·h·w, W] and which are there, [B, M·h·w].

        Where references are dropped, the first one becomes the null reference and the others are absent.
        """
        batch, count = references.shape[:2]
        present = torch.ones(batch, count, dtype=torch.bool, device=references.device)
        if reference_mask is not None:
            present = reference_mask
        tokens = self.reference_in(references.to(self.dtype).permute(0, 1, 3, 4, 2)).flatten(1, 3)
        if drop is not None:
            tokens = torch.where(drop[:, None, None], self.null_reference, tokens)
            null = torch.arange(count, device=references.device) == 0
            present = torch.where(drop[:, None], null, present)
        return tokens, present.repeat_interleave(self.config.latent_size**2, dim=1)

    def _latent_positions(self, first: Tensor | int, latents: int, device: torch.device) -> Tensor:
        """(time, row, column) of the tokens of `latents` steps from `first` ([B] or one for all) on: [(B,) N, 3]."""
        size = self.config.latent_size
        axes = [torch.arange(extent, device=device) for extent in (latents, size, size)]
        positions = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 2)
        if isinstance(first, int):
            first = torch.tensor(first, device=device)
        offset = torch.stack((first, torch.zeros_like(first), torch.zeros_like(first)), dim=-1)
        return positions + offset[..., None, :]

    def _prefix_positions(self, window_tokens: int, references: int, device: torch.device) -> Tensor:
        """Positions of the window tokens and references: all share one time, a block's length before the window."""
        positions = self._latent_positions(0, 1, device).repeat(references, 1)
        positions = torch.cat(
            (torch.zeros(window_tokens, 3, dtype=positions.dtype, device=device), positions)
        )
        positions[:, 0] = -LATENTS_PER_BLOCK
        return positions

    def _angles(self, positions: Tensor) -> Tensor:
        """Rotary angles; a third of a head's channels turns with the row, a third with the column, the rest in time."""
        space = 2 * (self.config.head_dim // 6)
        dims = (self.config.head_dim - 2 * space, space, space)
        return rotary_angles(positions, dims, self.config.rope_base)

    def _transform(
        self,
        tokens: Tensor,
        levels: Tensor,
        *,
        positions: Tensor,
        mask: Tensor,
        level_index: Tensor | None = None,
        cache: KeyValueCache | None = None,
        start: int = 0,
    ) -> Tensor:
        """Tokens [B, N, W], noise levels [B, S] and positions [(B,) N, 3] → [B, N, C]; `start`: first cache slot."""
        angles = self._angles(positions)
        if angles.ndim == 3:
            angles = angles[:, None]  # over heads
        condition = self.level_embedding(levels)
        for index, block in enumerate(self.blocks):
            arguments = {"level_index": level_index, "angles": angles, "mask": mask}
            if cache is not None:
                tokens = block(tokens, condition, **arguments, memory=cache.keys_values[index], start=start)
            elif self.activation_checkpointing and torch.is_grad_enabled():
                tokens = checkpoint(block, tokens, condition, **arguments, use_reentrant=False)
            else:
                tokens = block(tokens, condition, **arguments)
        return self.output(tokens, condition, level_index)
