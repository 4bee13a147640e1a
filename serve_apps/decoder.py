"""Deployment `Decoder`: latents to pictures, and these to H.264, each block a closed group of pictures (design
§6).

Only compressed media leaves this process. All blocks have the same parameter sets, so that the bytes of a new decoder
follow those of an old one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from portrait.media.stream import H264BlockEncoder
from portrait.storage.checkpoints import load_vae, read_header
from portrait.streaming.decoder_stage import DecoderRequest, DecoderStage
from portrait.streaming.state import StageFullError
from portrait.timing import FRAME_RATE
from serve_apps.arguments import StreamArgs
from serve_apps.batching import BatchingThread, LastUse
from serve_apps.encoder import require_session
from serve_apps.generator import portrait_of
from serve_apps.protocol import ApiError
from serve_apps.stages import Reply, errors_as_values


@dataclass(frozen=True, kw_only=True)
class EncodeRequest:
    """A session's next latents, and how many of their frames to show."""

    session_id: str
    latents: np.ndarray
    frames: int


class CompressedDecoder:
    """The decoder stage with an H.264 encoder for each session. Plain and blocking; knows no Ray."""

    def __init__(self, args: StreamArgs, device: torch.device) -> None:
        assert args.vae is not None
        header = read_header(args.vae)
        self.version = header.version
        self._size = header.preset.video.size
        self._stage = DecoderStage(load_vae(args.vae).to(device), max_sessions=args.decoder.max_sessions)
        self._encoders: dict[str, H264BlockEncoder] = {}

    def open(self, session_id: str, state: bytes | None, reference_features: np.ndarray) -> None:
        """Begins a session, or goes on with an exported one.

        Raises:
            ApiError: there is no room for it.
        """
        try:
            self._stage.open(session_id, portrait_of(features=reference_features), state)
        except StageFullError as error:
            raise ApiError("full", str(error), 503) from error
        self._encoders[session_id] = H264BlockEncoder(self._size, self._size, fps=FRAME_RATE)

    def step(self, requests: Sequence[EncodeRequest]) -> list[Reply]:
        """The next block of each request's session, as compressed pictures."""
        decoded = self._stage.step(
            [
                DecoderRequest(session_id=r.session_id, latents=torch.from_numpy(r.latents.copy()))
                for r in requests
            ]
        )
        return [
            Reply(
                value=self._encoders[request.session_id].encode(frames[: request.frames]),
                state=self._stage.export(request.session_id),
            )
            for request, frames in zip(requests, decoded, strict=True)
        ]

    def close(self, session_id: str) -> None:
        """Frees the session; one that is not open is no error."""
        self._stage.close(session_id)
        self._encoders.pop(session_id, None)


class Decoder:
    """The deployment around `CompressedDecoder`."""

    def __init__(self, args: StreamArgs) -> None:
        torch.set_num_threads(args.decoder.threads)
        self._decoder = CompressedDecoder(args, args.torch_device())
        self._used = LastUse(args.limits.abandoned_after_s)
        self._thread = BatchingThread(self._decoder.step, max_batch=args.decoder.max_batch, name="decoder")

    async def facts(self) -> dict[str, Any]:
        """Version of the weights."""
        return {"versions": {"vae": self._decoder.version}}

    @errors_as_values
    async def open(self, session_id: str, state: bytes | None, reference_features: np.ndarray) -> None:
        """Begins a session, or goes on with an exported one; see `CompressedDecoder.open`."""
        for abandoned in [*self._used.abandoned(), session_id]:
            await self.close(abandoned)
        await self._thread.call(self._decoder.open, session_id, state, reference_features)
        self._used.touch(session_id)

    @errors_as_values
    async def decode(self, session_id: str, latents: np.ndarray, frames: int) -> Reply:
        """Takes the next block's latents; gives its first `frames` frames as an `EncodedBlock`."""
        require_session(self._used, "decoder", session_id)
        return await self._thread.submit(EncodeRequest(session_id=session_id, latents=latents, frames=frames))

    async def close(self, session_id: str) -> None:
        """Frees the session."""
        self._used.forget(session_id)
        await self._thread.call(self._decoder.close, session_id)

    async def check_health(self) -> None:
        """Called by Serve: raises when the model's thread no longer answers."""
        await asyncio.wait_for(self._thread.call(int), 30)
