"""Deployment `Generator`: speech features to latents, for all sessions with a block due in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from ray.serve.handle import DeploymentHandle

from portrait.generator import SamplingConfig
from portrait.storage.checkpoints import load_generator, read_header
from portrait.streaming import GeneratorRequest, GeneratorStage, StageFullError
from serve_apps.arguments import StreamArgs
from serve_apps.deployment import SessionDeployment
from serve_apps.errors import ApiError, errors_as_values
from serve_apps.handles import EncoderHandle
from serve_apps.messages import SessionSettings, StageReply


class GuidedStages:
    """One generator stage for each pair of guidance scales in use: a batch has one pair, and sessions choose their own.

    Plain and blocking; independent of Ray. The stages share one model.
    """

    def __init__(self, args: StreamArgs, device: torch.device) -> None:
        assert args.generator is not None
        header = read_header(args.generator)
        self.versions = {"generator": header.version}
        self._model = load_generator(args.generator).to(device)
        self._sampling = header.preset.sampling
        self._max_sessions = args.generator_replicas.max_sessions
        self._max_references = args.limits.max_images
        self._stages: dict[SamplingConfig, GeneratorStage] = {}
        self._stage_of: dict[str, GeneratorStage] = {}

    def open(
        self,
        session_id: str,
        settings: SessionSettings,
        reference_latents: np.ndarray,
        state: bytes | None,
    ) -> None:
        """Opens a session, or continues one from an exported state.

        Args:
            session_id: names the session.
            settings: its seed and guidance scales.
            reference_latents: float32 [M, C_z, h, w], of its portrait.
            state: what the last reply carried; None at the start of a stream.

        Raises:
            StageFullError: there is no room for it.
            ApiError: the portrait has too many references or latents of another shape.
        """
        if len(self._stage_of) >= self._max_sessions:
            raise StageFullError(f"generator: all {self._max_sessions} sessions are in use; try again later")
        scales = {
            "audio_guidance": settings.audio_guidance,
            "reference_guidance": settings.reference_guidance,
        }
        sampling = replace(
            self._sampling, **{name: scale for name, scale in scales.items() if scale is not None}
        )
        stage = self._stages.get(sampling)
        if stage is None:
            stage = GeneratorStage(
                self._model, sampling, max_sessions=self._max_sessions, max_references=self._max_references
            )
        try:
            # A copy: the array that Ray delivers is read-only, which torch does not accept.
            references = torch.from_numpy(reference_latents.copy())
            stage.open(session_id, references, seed=settings.seed, state=state)
        except ValueError as error:
            raise ApiError("bad_portrait", str(error)) from error
        self._stages[sampling] = self._stage_of[session_id] = stage

    def step(self, requests: Sequence[GeneratorRequest]) -> list[StageReply[np.ndarray]]:
        """The next block of each request's session: latents float32 [C_z, 4, h, w]."""
        replies: dict[str, StageReply[np.ndarray]] = {}
        for stage in self._stages.values():
            batch = [request for request in requests if self._stage_of[request.session_id] is stage]
            for request, latents in zip(batch, stage.step(batch), strict=True):
                replies[request.session_id] = StageReply(
                    value=latents.cpu().numpy(), state=stage.export(request.session_id)
                )
        return [replies[request.session_id] for request in requests]

    def close(self, session_id: str) -> None:
        """Frees a session; does nothing if it is not open."""
        stage = self._stage_of.pop(session_id, None)
        if stage is not None:
            stage.close(session_id)
            self._stages = {key: other for key, other in self._stages.items() if other.sessions}


class Generator(SessionDeployment[GeneratorRequest, np.ndarray]):
    """The deployment around `GuidedStages`; it fetches the references of a session from the encoder itself."""

    def __init__(self, args: StreamArgs, encoder: DeploymentHandle) -> None:
        self._stages = GuidedStages(args, args.torch_device())
        super().__init__("generator", self._stages, args.generator_replicas, args.limits)
        self._encoder = EncoderHandle(encoder, args.limits.stage_timeout_s)

    @errors_as_values
    async def open(self, session_id: str, settings: SessionSettings, state: bytes | None) -> None:
        """Opens a session, or continues one from an exported state; see `GuidedStages.open`."""
        latents = await self._encoder.reference_latents(settings.portrait_id, settings.owner)
        await self._open(session_id, lambda: self._stages.open(session_id, settings, latents, state))

    @errors_as_values
    async def generate(self, session_id: str, features: np.ndarray) -> StageReply[np.ndarray]:
        """Turns the next block's features float32 [13 or 16, F] into latents float32 [C_z, 4, h, w]."""
        # A copy: the array that Ray delivers is read-only, which torch does not accept.
        return await self._advance(GeneratorRequest(session_id=session_id, features=features.copy()))
