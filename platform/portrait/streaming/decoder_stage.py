"""Third stage of a stream: blocks of latents to frames (paper, "Streaming inference").

The decoder's causal layers carry their past from block to block. They reach back only a few latents, so a session moves
to another machine as the latents of that reach: the new decoder replays them and discards the frames.

Shapes: B sessions, M references, C = C_z, L latents of a block, H W of latents, features or frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from portrait.layers.causal_conv import History
from portrait.media.tensors import tensor_to_frames
from portrait.streaming.state import StageFullError, UnknownSessionError, pack, unpack
from portrait.vae import VideoVAE


@dataclass(frozen=True, kw_only=True)
class DecoderRequest:
    """A session's next latents."""

    session_id: str
    latents: Tensor
    """[C, L, H, W], as the VAE's encoder gives them."""


@dataclass(kw_only=True)
class DecoderSession:
    """All that the stage keeps of a session."""

    reference_features: Tensor
    """[M, C_f, H, W], E1's features of the references."""
    history: History
    """What the causal layers remember, of batch size 1."""
    reach: Tensor
    """[C, n, H, W], the last latents, as many as the decoder reaches back (fewer at the start)."""
    decoded: int
    """Latents decoded so far."""


class DecoderStage:
    """Latents to uint8 frames, sessions that are due together in one batch."""

    def __init__(self, vae: VideoVAE, *, max_sessions: int = 64) -> None:
        self.vae = vae.eval()
        self.max_sessions = max_sessions
        parameter = next(vae.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        self.sessions: dict[str, DecoderSession] = {}

    @torch.no_grad()
    def open(self, session_id: str, reference_features: Tensor, state: bytes | None = None) -> None:
        """Opens a session: a new one, or an exported one, whose last latents are replayed.

        Args:
            session_id: a name of the caller's.
            reference_features: [M, C_f, H, W], `VideoVAE.encode_references` of the portrait's pictures.
            state: what `export` returned.

        Raises:
            ValueError: the session is open already, the features have another shape, or the state is not one of this
                stage.
            StageFullError: the stage has no room for another session.
        """
        if session_id in self.sessions:
            raise ValueError(f"decoder stage: session {session_id!r} is open already")
        if len(self.sessions) >= self.max_sessions:
            raise StageFullError(f"decoder stage: all {self.max_sessions} sessions are in use")
        channels = self.vae.config.feature_channels
        if reference_features.ndim != 4 or reference_features.shape[1] != channels:
            raise ValueError(
                f"reference features must be [M, {channels}, H, W], got {list(reference_features.shape)}"
            )
        session = DecoderSession(
            reference_features=reference_features.to(self.device, self.dtype),
            history=self.vae.decoder.initial_state(),
            reach=torch.zeros(self.vae.config.latent_channels, 0, 0, 0),
            decoded=0,
        )
        if state is not None:
            self._replay(session, state)
        self.sessions[session_id] = session

    @torch.no_grad()
    def step(self, requests: Sequence[DecoderRequest]) -> list[NDArray[np.uint8]]:
        """Decodes each request's latents; a session may appear only once in a step.

        Returns:
            uint8 [4·L, H, W, 3] for each request, 1 + 4(L − 1) frames at a stream's start.

        Raises:
            UnknownSessionError: a session is not open.
            ValueError: latents of another shape, or a session twice.
        """
        sessions = [self._session(request.session_id) for request in requests]
        if len({request.session_id for request in requests}) < len(requests):
            raise ValueError("decoder stage: a session may appear only once in a step")
        for request in requests:
            shape = list(request.latents.shape)
            if len(shape) != 4 or shape[0] != self.vae.config.latent_channels:
                raise ValueError(f"latents must be [{self.vae.config.latent_channels}, L, H, W], got {shape}")
        groups: dict[tuple[object, ...], list[int]] = {}
        for index, (session, request) in enumerate(zip(sessions, requests, strict=True)):
            # A stream's start, or another number of references, is another graph: a batch of its own.
            key = (session.history.at_start, tuple(request.latents.shape), len(session.reference_features))
            groups.setdefault(key, []).append(index)
        frames: dict[int, NDArray[np.uint8]] = {}
        for indices in groups.values():
            videos = self._decode([sessions[i] for i in indices], [requests[i].latents for i in indices])
            frames.update(zip(indices, videos, strict=True))
        return [frames[index] for index in range(len(requests))]

    def close(self, session_id: str) -> None:
        """Frees a session; does nothing if it is not open."""
        self.sessions.pop(session_id, None)

    def export(self, session_id: str) -> bytes:
        """A session's state, for `open` on this or another machine."""
        session = self._session(session_id)
        return pack({"latents": session.reach, "decoded": torch.tensor(session.decoded)})

    def _session(self, session_id: str) -> DecoderSession:
        if session_id not in self.sessions:
            raise UnknownSessionError("decoder stage", session_id)
        return self.sessions[session_id]

    def _replay(self, session: DecoderSession, state: bytes) -> None:
        """Restores an exported session: decodes the latents of the decoder's reach for the history they leave."""
        tensors = unpack(state, {"latents", "decoded"})
        session.reach, session.decoded = tensors["latents"], int(tensors["decoded"])
        # If these are all latents there ever were, the replay begins where the stream began, with a single frame.
        history = self.vae.decoder.initial_state(at_start=session.decoded == session.reach.shape[1])
        if session.reach.shape[1]:
            z_BCLHW = session.reach.to(self.device, self.dtype)[None]
            features = session.reference_features[None]
            _, history = self.vae.decode_block(z_BCLHW, history, reference_features=features)
        session.history = history

    def _decode(self, sessions: list[DecoderSession], latents: list[Tensor]) -> list[NDArray[np.uint8]]:
        first = sessions[0].history
        batch = History(
            first.at_start,
            {name: torch.cat([s.history.past[name] for s in sessions]) for name in first.past},
        )
        z_BCLHW = torch.stack([block.to(self.device, self.dtype) for block in latents])
        features_BMCHW = torch.stack([session.reference_features for session in sessions])
        videos, batch = self.vae.decode_block(z_BCLHW, batch, reference_features=features_BMCHW)
        keep = self.vae.config.decoder_reach
        for row, (session, block) in enumerate(zip(sessions, latents, strict=True)):
            past = {name: value[row : row + 1].clone() for name, value in batch.past.items()}
            session.history = History(batch.at_start, past)
            before = session.reach.to(block) if session.decoded else block[:, :0]
            reach = torch.cat((before, block), dim=1)
            session.reach = reach[:, max(0, reach.shape[1] - keep) :].clone()
            session.decoded += block.shape[1]
        return [tensor_to_frames(video) for video in videos]
