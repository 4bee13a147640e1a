"""Deployment `Decoder`: latents to frames, and these to H.264, each block a closed group of pictures.

Only compressed media leaves this process. All blocks have the same parameter sets, so that the bytes of a new decoder
continue those of an old one. The H.264 encoder itself is `portrait.media.stream.H264BlockEncoder`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ray.serve.handle import DeploymentHandle

from portrait.media.h264 import EncodedBlock, H264BlockEncoder
from portrait.storage.checkpoints import load_vae, read_header
from portrait.streaming import DecoderRequest, DecoderStage
from portrait.timing import FRAME_RATE
from serve_apps.arguments import StreamArgs
from serve_apps.deployment import SessionDeployment
from serve_apps.errors import errors_as_values
from serve_apps.handles import EncoderHandle
from serve_apps.messages import SessionSettings, StageReply


@dataclass(frozen=True, kw_only=True)
class EncodeRequest:
    """A session's next block."""

    session_id: str
    latents: np.ndarray
    """float32 [C_z, 4, h, w]."""
    frames: int
    """Number of frames to show."""


class CompressedDecoder:
    """The decoder stage with an H.264 encoder for each session. Plain and blocking; independent of Ray."""

    def __init__(self, args: StreamArgs, device: torch.device) -> None:
        assert args.vae is not None
        header = read_header(args.vae)
        self.versions = {"vae": header.version}
        self._size = header.preset.video.size
        self._stage = DecoderStage(
            load_vae(args.vae).to(device), max_sessions=args.decoder_replicas.max_sessions
        )
        self._encoders: dict[str, H264BlockEncoder] = {}

    def open(self, session_id: str, reference_features: np.ndarray, state: bytes | None) -> None:
        """Opens a session, or continues one from an exported state.

        Raises:
            StageFullError: there is no room for it.
        """
        # A copy: the array that Ray delivers is read-only, which torch does not accept.
        self._stage.open(session_id, torch.from_numpy(reference_features.copy()), state=state)
        self._encoders[session_id] = H264BlockEncoder(self._size, self._size, fps=FRAME_RATE)

    def step(self, requests: Sequence[EncodeRequest]) -> list[StageReply[EncodedBlock]]:
        """The next block of each request's session as H.264."""
        decoded = self._stage.step(
            [
                DecoderRequest(session_id=r.session_id, latents=torch.from_numpy(r.latents.copy()))
                for r in requests
            ]
        )
        return [
            StageReply(
                value=self._encoders[request.session_id].encode(frames[: request.frames]),
                state=self._stage.export(request.session_id),
            )
            for request, frames in zip(requests, decoded, strict=True)
        ]

    def close(self, session_id: str) -> None:
        """Frees a session; does nothing if it is not open."""
        self._stage.close(session_id)
        self._encoders.pop(session_id, None)


class Decoder(SessionDeployment[EncodeRequest, EncodedBlock]):
    """The deployment around `CompressedDecoder`; it fetches the references of a session from the encoder itself."""

    def __init__(self, args: StreamArgs, encoder: DeploymentHandle) -> None:
        self._decoder = CompressedDecoder(args, args.torch_device())
        super().__init__("decoder", self._decoder, args.decoder_replicas, args.limits)
        self._encoder = EncoderHandle(encoder, args.limits.stage_timeout_s)

    @errors_as_values
    async def open(self, session_id: str, settings: SessionSettings, state: bytes | None) -> None:
        """Opens a session, or continues one from an exported state; see `CompressedDecoder.open`."""
        features = await self._encoder.reference_features(settings.portrait_id, settings.owner)
        await self._open(session_id, lambda: self._decoder.open(session_id, features, state))

    @errors_as_values
    async def decode(self, session_id: str, latents: np.ndarray, frames: int) -> StageReply[EncodedBlock]:
        """Decodes the next block's latents [C_z, 4, h, w]; returns its first `frames` frames as H.264."""
        return await self._advance(EncodeRequest(session_id=session_id, latents=latents, frames=frames))
