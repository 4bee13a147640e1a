"""Second stage of a stream: blocks of speech features to blocks of latents, window by window (paper, "Streaming
inference").

A window is 32 latents. Its KV cache holds references and finished blocks; the last block of a full window is the
context of the next, whose positions start again at 0. A session moves to another machine as its window's latents and
speech embeddings: the cache is prefilled from them in one pass.

With `sampling.window` "rolling" a full window drops its oldest block instead. Then a session that moved continues with
a cache that has never seen the dropped blocks, close to the one it had but not equal (docs/decisions.md, "The rolling
window").

Shapes: B sessions of a step, M references, C = C_z, H W latent pixels, L latents of a window, k latents of a block,
E speech embedding channels, F speech feature channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from portrait.generator import Generator, KVCache, SamplingConfig
from portrait.generator.sampler import BlockSampler, block_noise
from portrait.streaming.portraits import MAX_PICTURES
from portrait.streaming.state import StageFullError, UnknownSessionError, pack, unpack
from portrait.timing import FRAMES_PER_BLOCK, LATENTS_PER_BLOCK, block_frame_range


@dataclass(frozen=True, kw_only=True)
class GeneratorRequest:
    """The speech of a session's next block."""

    session_id: str
    features: NDArray[np.float32]
    """[13, F] for block 0, [16, F] later."""


@dataclass(kw_only=True)
class GeneratorSession:
    """All that the stage keeps of a session."""

    seed: int
    """With the block's number, all that its noise depends on."""
    block: int
    """Number of the next block."""
    latents: Tensor
    """[C, L, H, W], the window's finished blocks, normalised; later windows begin with their context block."""
    embedding: Tensor
    """[L, E], their speech embeddings."""
    cache: KVCache
    """Keys and values, derived from the references and the two above."""

    def keep(self, latents: slice) -> None:
        """Removes all other latents and their speech embeddings from the window."""
        self.latents = self.latents[:, latents].clone()
        self.embedding = self.embedding[latents].clone()


class GeneratorStage:
    """Speech features to latents, sessions that are due together in one batch."""

    def __init__(
        self,
        generator: Generator,
        sampling: SamplingConfig,
        *,
        max_sessions: int = 16,
        max_references: int = MAX_PICTURES,
    ) -> None:
        """A stage without sessions.

        Args:
            generator: the model.
            sampling: steps, shift, guidance and what follows a full window.
            max_sessions: most sessions that may be open.
            max_references: most references a session may have. All caches have room for that many, so that sessions
                with different numbers of references run in one batch.
        """
        self.generator = generator.eval()
        self.config = generator.config
        self.sampler = BlockSampler(generator, sampling)
        self.rolling = sampling.window == "rolling"
        self.max_sessions = max_sessions
        self.max_references = max_references
        self.device = generator.device
        self.sessions: dict[str, GeneratorSession] = {}

    @torch.no_grad()
    def open(
        self, session_id: str, reference_latents: Tensor, *, seed: int = 0, state: bytes | None = None
    ) -> None:
        """Opens a session: a new one, or one that continues from an exported state.

        Args:
            session_id: a name of the caller's.
            reference_latents: [M, C, H, W], each reference picture's latent, as the VAE gives it.
            seed: of the session's noise; an exported state has its own.
            state: what `export` returned.

        Raises:
            ValueError: the session is open already, there are too many references or they have another shape, or the
                state is not one of this stage.
            StageFullError: the stage has no room for another session.
        """
        if session_id in self.sessions:
            raise ValueError(f"generator stage: session {session_id!r} is open already")
        if len(self.sessions) >= self.max_sessions:
            raise StageFullError(f"generator stage: all {self.max_sessions} sessions are in use")
        references = self._checked_references(reference_latents)
        config, size = self.config, self.config.latent_size
        cache = self.sampler.allocate(1, self.max_references)
        self.sampler.prefill_references(cache, references[None])
        session = GeneratorSession(
            seed=seed,
            block=0,
            latents=torch.zeros(config.latent_channels, 0, size, size, device=self.device),
            embedding=torch.zeros(0, config.speech_embedding_dim, device=self.device),
            cache=cache,
        )
        if state is not None:
            self._load(session, state)
        self._prefill(session)
        self.sessions[session_id] = session

    @torch.no_grad()
    def step(self, requests: Sequence[GeneratorRequest]) -> list[Tensor]:
        """The next block of each request's session; a session may appear only once in a step.

        Returns:
            Latents [C, k, H, W] as the VAE decodes them, in float32, one for each request.

        Raises:
            UnknownSessionError: a session is not open.
            ValueError: features of another shape, not finite, or a session twice; no session has changed then.
        """
        if not requests:
            return []
        sessions = [self._session(request.session_id) for request in requests]
        if len({request.session_id for request in requests}) < len(requests):
            raise ValueError("generator stage: a session may appear only once in a step")
        features = [self._checked_features(s, request) for s, request in zip(sessions, requests, strict=True)]
        for session in sessions:
            self._begin_next_window_if_full(session)

        is_first_B = torch.tensor([session.block == 0 for session in sessions], device=self.device)
        embedding_BLE = self.generator.embed_speech(torch.stack(features), is_first_B).float()
        noise = torch.stack([block_noise(self.config, session.seed, session.block) for session in sessions])
        batch = KVCache.concatenate([session.cache for session in sessions])
        z_BCLHW = self.sampler.sample(batch, noise.to(self.device), embedding_BLE)
        for session, block, speech in zip(sessions, z_BCLHW, embedding_BLE, strict=True):
            session.latents = torch.cat((session.latents, block), dim=1)
            session.embedding = torch.cat((session.embedding, speech))
            session.block += 1
        self._append(sessions, z_BCLHW, embedding_BLE, batch)
        return list(self.generator.denormalise(z_BCLHW))

    def close(self, session_id: str) -> None:
        """Frees a session; does nothing if it is not open."""
        self.sessions.pop(session_id, None)

    def export(self, session_id: str) -> bytes:
        """A session's state, for `open` on this or another machine; a few hundred kilobytes at most."""
        session = self._session(session_id)
        counters = torch.tensor([session.seed, session.block])
        return pack({"latents": session.latents, "embedding": session.embedding, "counters": counters})

    def _session(self, session_id: str) -> GeneratorSession:
        if session_id not in self.sessions:
            raise UnknownSessionError("generator stage", session_id)
        return self.sessions[session_id]

    def _checked_references(self, reference_latents: Tensor) -> Tensor:
        latents_MCHW = reference_latents.to(self.device, torch.float32)
        size = self.config.latent_size
        if latents_MCHW.ndim != 4 or latents_MCHW.shape[1:] != (self.config.latent_channels, size, size):
            raise ValueError(
                f"reference latents must be [M, {self.config.latent_channels}, {size}, {size}], "
                f"got {list(latents_MCHW.shape)}"
            )
        if not 1 <= len(latents_MCHW) <= self.max_references:
            raise ValueError(
                f"a portrait may have 1 to {self.max_references} references, got {len(latents_MCHW)}"
            )
        return latents_MCHW

    def _checked_features(self, session: GeneratorSession, request: GeneratorRequest) -> Tensor:
        """Features on the grid of 4k frames, [4k, F]: block 0 lacks the three frames before the first."""
        first, after = block_frame_range(session.block)
        expected = (after - first, self.config.speech_dim)
        if request.features.shape != expected:
            raise ValueError(
                f"session {request.session_id!r}: speech features of block {session.block} must be "
                f"{list(expected)}, got {list(request.features.shape)}"
            )
        if not np.isfinite(request.features).all():
            raise ValueError(
                f"session {request.session_id!r}: speech features contain NaN or infinite values"
            )
        features = torch.from_numpy(np.asarray(request.features, np.float32))
        missing = FRAMES_PER_BLOCK - len(features)
        return torch.nn.functional.pad(features, (0, 0, missing, 0)).to(self.device)

    def _begin_next_window_if_full(self, session: GeneratorSession) -> None:
        """The last block of a full window becomes the context of the next."""
        if session.latents.shape[1] == self.config.window_latents:
            session.keep(slice(-LATENTS_PER_BLOCK, None))
            self._prefill(session)

    def _prefill(self, session: GeneratorSession) -> None:
        """Computes the cache's history from the window's latents, in one pass; a full window needs none."""
        finished = session.latents.shape[1]
        session.cache.begin_window(first=finished == session.block * LATENTS_PER_BLOCK)
        if 0 < finished < self.config.window_latents:
            self.sampler.prefill(session.cache, session.latents[None], session.embedding[None])

    def _append(
        self, sessions: list[GeneratorSession], z_BCLHW: Tensor, embedding_BLE: Tensor, batch: KVCache
    ) -> None:
        """Adds the new blocks to the caches of the sessions whose window continues, as a rolling one always does."""
        full = [s for s in sessions if s.latents.shape[1] == self.config.window_latents]
        if self.rolling:
            for session in full:
                session.keep(slice(LATENTS_PER_BLOCK, None))
                self.generator.roll(session.cache)
        rows = [i for i, s in enumerate(sessions) if s.latents.shape[1] < self.config.window_latents]
        if not rows:
            return
        caches = [sessions[i].cache for i in rows]
        if full:
            batch = KVCache.concatenate(caches)
        self.sampler.append(batch, z_BCLHW[rows], embedding_BLE[rows])
        batch.copy_to(caches)

    def _load(self, session: GeneratorSession, state: bytes) -> None:
        tensors = unpack(state, {"latents", "embedding", "counters"})
        latents, embedding = tensors["latents"], tensors["embedding"]
        finished = latents.shape[1]
        if latents[:, :0].shape != session.latents.shape or embedding[:0].shape != session.embedding.shape:
            raise ValueError("session state: its latents or speech embeddings belong to another generator")
        whole = finished % LATENTS_PER_BLOCK == 0 and len(embedding) == finished
        if not whole or finished > self.config.window_latents:
            raise ValueError(
                f"session state: expected up to {self.config.window_latents} latents in blocks of "
                f"{LATENTS_PER_BLOCK}, got {finished}"
            )
        session.seed, session.block = tensors["counters"].tolist()
        session.latents, session.embedding = latents.to(self.device), embedding.to(self.device)
