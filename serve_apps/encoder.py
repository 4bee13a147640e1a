"""Deployment `Encoder`: speech features of running streams, and everything about registered portraits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from portrait.speech import build_speech_encoder
from portrait.storage.checkpoints import read_header
from portrait.streaming import SpeechRequest, SpeechStage
from serve_apps.arguments import StreamArgs
from serve_apps.batching import BatchingThread
from serve_apps.deployment import SessionDeployment
from serve_apps.errors import errors_as_values
from serve_apps.messages import ModelFacts, SessionSettings, SpokenBlock, StageReply, UploadedImage
from serve_apps.portrait_registry import PortraitRegistry
from serve_apps.protocol import PortraitInfo


class SpeechSessions:
    """The speech stage, with the encoder that the generator was trained on. Plain and blocking; independent of Ray."""

    def __init__(self, args: StreamArgs, device: torch.device) -> None:
        assert args.generator is not None
        self.preset = read_header(args.generator).preset
        encoder = build_speech_encoder(self.preset.speech, device=str(device))
        self.look_ahead_samples = encoder.look_ahead_samples
        self.versions = {"speech": encoder.id}
        self._stage = SpeechStage(encoder, max_sessions=args.encoder_replicas.max_sessions)

    def open(self, session_id: str, state: bytes | None) -> None:
        """Opens a session, or continues one from an exported state.

        Raises:
            StageFullError: there is no room for it.
        """
        self._stage.open(session_id, state)

    def step(self, requests: Sequence[SpeechRequest]) -> list[StageReply[list[SpokenBlock]]]:
        """Takes each request's audio; returns the blocks that are ready now."""
        return [
            StageReply(
                value=[
                    SpokenBlock(index=b.index, features=b.features, audio=b.audio, frames=b.num_frames)
                    for b in blocks
                ],
                state=self._stage.export(request.session_id),
            )
            for request, blocks in zip(requests, self._stage.step(requests), strict=True)
        ]

    def close(self, session_id: str) -> None:
        """Frees a session; does nothing if it is not open."""
        self._stage.close(session_id)


class Encoder(SessionDeployment[SpeechRequest, list[SpokenBlock]]):
    """The deployment around `SpeechSessions` and `PortraitRegistry`."""

    def __init__(self, args: StreamArgs) -> None:
        device = args.torch_device()
        self._speech = SpeechSessions(args, device)
        super().__init__("encoder", self._speech, args.encoder_replicas, args.limits)
        self._registry = PortraitRegistry(args, device)
        # Registration takes long and must not hold up the streams: it has a thread of its own.
        self._registry_thread: BatchingThread[Any, Any] = BatchingThread(list, max_batch=1, name="portraits")

    async def facts(self) -> ModelFacts:
        """What the ingress needs to know about the models."""
        return ModelFacts(
            preset=self._speech.preset.name,
            size=self._speech.preset.video.size,
            look_ahead_samples=self._speech.look_ahead_samples,
            versions={"vae": self._registry.vae_version, **self._speech.versions},
        )

    @errors_as_values
    async def open(self, session_id: str, settings: SessionSettings, state: bytes | None) -> None:  # noqa: ARG002  # all deployments open alike
        """Opens a session, or continues one from an exported state."""
        await self._open(session_id, lambda: self._speech.open(session_id, state))

    @errors_as_values
    async def speech(self, session_id: str, samples: np.ndarray, end: bool) -> StageReply[list[SpokenBlock]]:
        """Takes samples float32 [S], the last ones with `end`; returns the blocks that are ready now."""
        return await self._advance(SpeechRequest(session_id=session_id, samples=samples, end=end))

    @errors_as_values
    async def reference_latents(self, portrait_id: str, owner: str) -> np.ndarray:
        """A portrait's latents float32 [M, C_z, h, w], for the generator."""
        portrait = await self._registry_thread.call(self._registry.get, portrait_id, owner)
        return portrait.reference_latents.float().cpu().numpy()

    @errors_as_values
    async def reference_features(self, portrait_id: str, owner: str) -> np.ndarray:
        """A portrait's E1 features float32 [M, C_f, h_f, w_f], for the decoder."""
        portrait = await self._registry_thread.call(self._registry.get, portrait_id, owner)
        return portrait.reference_features.float().cpu().numpy()

    @errors_as_values
    async def register(
        self, images: Sequence[UploadedImage], name: str, consent: str, owner: str
    ) -> PortraitInfo:
        """Registers a portrait; see `PortraitRegistry.register`."""
        return await self._registry_thread.call(self._registry.register, images, name, consent, owner)

    async def portraits(self, owner: str) -> list[PortraitInfo]:
        """The owner's portraits, oldest first."""
        return await self._registry_thread.call(self._registry.list, owner)

    async def delete_portrait(self, portrait_id: str, owner: str) -> bool:
        """Deletes a portrait; see `PortraitRegistry.delete`."""
        return await self._registry_thread.call(self._registry.delete, portrait_id, owner)
