"""Second stage of a stream: blocks of speech features to blocks of latents, window by window (paper, "Streaming
inference").

A window is 32 latents. Its key-value cache holds references and finished blocks; the last block of a full window is
the context of the next, whose positions begin anew. A session moves as its window's latents and speech embeddings:
the cache is rebuilt from them in one pass.

With `sampling.window` "rolling" a full window drops its oldest block instead. Then a moved session goes on from a cache
that has never seen the dropped blocks, close to the one it had but not equal (docs/decisions.md, "A rolling window").

Shapes: `S` sessions of a step, `C` = C_z, `k` latents of a block, `E` speech embedding channels, `M` references.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from portrait.generator.cache import KeyValueCache
from portrait.generator.config import SamplingConfig
from portrait.generator.model import Generator
from portrait.generator.sampler import BlockSampler, block_noise
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
    """[C, n·k, h, w], the window's finished blocks, normalised; later windows begin with their context block."""
    embedding: Tensor
    """[n·k, E], their speech embeddings."""
    cache: KeyValueCache
    """Keys and values, derived from the portrait and the two above."""


class GeneratorStage:
    """Speech features to latents, sessions that are due together in one batch."""

    def __init__(
        self,
        generator: Generator,
        sampling: SamplingConfig,
        *,
        max_sessions: int = 16,
        max_references: int = 3,
    ) -> None:
        """Creates a stage without sessions.

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
        self.device = generator.latent_in.weight.device
        self.sessions: dict[str, GeneratorSession] = {}

    @torch.no_grad()
    def open(
        self, session_id: str, reference_latents: Tensor, *, seed: int = 0, state: bytes | None = None
    ) -> None:
        """Opens a session, or continues an exported one.

        Args:
            session_id: a name chosen by the caller.
            reference_latents: [M, C, h, w] of the portrait (`Portrait.reference_latents`).
            seed: of the session's noise; an exported state has its own.
            state: the result of `export`.

        Raises:
            ValueError: the session is open already, there are too many references or they have another shape, or the
                state is not from this stage.
            StageFullError: there is no room for it.
        """
        if session_id in self.sessions:
            raise ValueError(f"generator stage: session {session_id!r} is open already")
        if len(self.sessions) >= self.max_sessions:
            raise StageFullError(f"generator stage: all {self.max_sessions} sessions are taken")
        references = self._references(reference_latents)
        config, size = self.config, self.config.latent_size
        cache = self.sampler.allocate(1, self.max_references)
        self.sampler.write_references(cache, references)
        session = GeneratorSession(
            seed=seed,
            block=0,
            latents=torch.zeros(config.latent_channels, 0, size, size, device=self.device),
            embedding=torch.zeros(0, config.speech_embedding_dim, device=self.device),
            cache=cache,
        )
        if state is not None:
            self._load(session, state)
        self._rebuild(session)
        self.sessions[session_id] = session

    @torch.no_grad()
    def step(self, requests: Sequence[GeneratorRequest]) -> list[Tensor]:
        """The next block of each request's session; a session may stand in a step only once.

        Returns:
            Latents [C, k, h, w] as the VAE decodes them, in float32, one for each request.

        Raises:
            UnknownSessionError: a session is not open.
            ValueError: features of another shape, not finite, or a session twice; no session has changed then.
        """
        if not requests:
            return []
        sessions = [self._session(request.session_id) for request in requests]
        if len({request.session_id for request in requests}) < len(requests):
            raise ValueError("generator stage: a session may stand in a step only once")
        features = [self._features(s, request) for s, request in zip(sessions, requests, strict=True)]
        for session in sessions:
            self._begin_next_window_if_full(session)

        is_first = torch.tensor([session.block == 0 for session in sessions], device=self.device)
        embedding = self.generator.embed_speech(torch.stack(features), is_first).float()
        noise = torch.stack([block_noise(self.config, session.seed, session.block) for session in sessions])
        caches = [session.cache for session in sessions]
        batch = KeyValueCache.concatenate(caches)
        latents = self.sampler.sample(batch, noise.to(self.device), embedding)
        for session, block, speech in zip(sessions, latents, embedding, strict=True):
            session.latents = torch.cat((session.latents, block), dim=1)
            session.embedding = torch.cat((session.embedding, speech))
            session.block += 1
        self._append(sessions, latents, embedding, batch)
        return list(self.generator.denormalise(latents).float())

    def close(self, session_id: str) -> None:
        """Forgets a session; one that is not open is no error."""
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

    def _references(self, reference_latents: Tensor) -> Tensor:
        """Normalised reference latents [1, M, C, h, w]."""
        latents = reference_latents.to(self.device, torch.float32)
        size = self.config.latent_size
        if latents.ndim != 4 or latents.shape[1:] != (self.config.latent_channels, size, size):
            raise ValueError(
                f"the portrait's latents must be [M, {self.config.latent_channels}, {size}, {size}], "
                f"got {list(latents.shape)}"
            )
        if not 1 <= len(latents) <= self.max_references:
            raise ValueError(f"a portrait may have 1 to {self.max_references} references, got {len(latents)}")
        return self.generator.normalise(latents.transpose(0, 1)).transpose(0, 1)[None]

    def _features(self, session: GeneratorSession, request: GeneratorRequest) -> Tensor:
        """Checked features on the grid of 4k frames [4k, F]: block 0 lacks the three frames before the first."""
        first, after = block_frame_range(session.block)
        expected = (after - first, self.config.speech_dim)
        if request.features.shape != expected:
            raise ValueError(
                f"session {request.session_id!r}: speech features of block {session.block} must be "
                f"{list(expected)}, got {list(request.features.shape)}"
            )
        if not np.isfinite(request.features).all():
            raise ValueError(f"session {request.session_id!r}: speech features hold NaN or infinite values")
        features = torch.from_numpy(np.asarray(request.features, np.float32))
        missing = FRAMES_PER_BLOCK - len(features)
        return torch.nn.functional.pad(features, (0, 0, missing, 0)).to(self.device)

    def _begin_next_window_if_full(self, session: GeneratorSession) -> None:
        """The last block of a full window becomes the context of the next."""
        if session.latents.shape[1] == self.config.window_latents:
            session.latents = session.latents[:, -LATENTS_PER_BLOCK:].clone()
            session.embedding = session.embedding[-LATENTS_PER_BLOCK:].clone()
            self._rebuild(session)

    def _rebuild(self, session: GeneratorSession) -> None:
        """Writes the window's history to the cache, in one pass; a full window's is never looked at again."""
        finished = session.latents.shape[1]
        session.cache.begin_window(first=finished == session.block * LATENTS_PER_BLOCK)
        if 0 < finished < self.config.window_latents:
            self.sampler.write_history(session.cache, session.latents[None], session.embedding[None])

    def _append(
        self, sessions: list[GeneratorSession], latents: Tensor, embedding: Tensor, batch: KeyValueCache
    ) -> None:
        """Adds the new blocks to the caches of the sessions whose window goes on, as a rolling one always does."""
        full = [s for s in sessions if s.latents.shape[1] == self.config.window_latents]
        if self.rolling:
            for session in full:
                session.latents = session.latents[:, LATENTS_PER_BLOCK:].clone()
                session.embedding = session.embedding[LATENTS_PER_BLOCK:].clone()
                self.generator.roll(session.cache)
        rows = [i for i, s in enumerate(sessions) if s.latents.shape[1] < self.config.window_latents]
        if not rows:
            return
        caches = [sessions[i].cache for i in rows]
        if full:
            batch = KeyValueCache.concatenate(caches)
        self.sampler.append(batch, latents[rows], embedding[rows])
        batch.copy_to(caches)

    def _load(self, session: GeneratorSession, state: bytes) -> None:
        tensors = unpack(state, {"latents", "embedding", "counters"})
        latents, embedding = tensors["latents"], tensors["embedding"]
        finished, k = latents.shape[1], LATENTS_PER_BLOCK
        if latents[:, :0].shape != session.latents.shape or embedding[:0].shape != session.embedding.shape:
            raise ValueError("session state: its latents or embeddings are those of another generator")
        if finished % k or finished > self.config.window_latents or len(embedding) != finished:
            raise ValueError(
                f"session state: expected up to {self.config.window_latents} latents in blocks of {k}, got {finished}"
            )
        session.seed, session.block = tensors["counters"].tolist()
        session.latents, session.embedding = latents.to(self.device), embedding.to(self.device)
