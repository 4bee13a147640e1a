"""Deployment `Generator`: speech features to latents, sessions that are due together in one batch (design §6)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from portrait.generator.config import SamplingConfig
from portrait.storage.checkpoints import load_generator, read_header
from portrait.streaming.generator_stage import GeneratorRequest, GeneratorStage
from portrait.streaming.portraits import Portrait
from portrait.streaming.state import StageFullError
from serve_apps.arguments import StreamArgs
from serve_apps.batching import BatchingThread, LastUse
from serve_apps.encoder import require_session
from serve_apps.protocol import ApiError
from serve_apps.stages import Reply, errors_as_values


class GuidedStages:
    """One generator stage for every pair of guidance scales in use: scales are a batch's, sessions choose their own.

    Plain and blocking; knows no Ray. The stages share one model.
    """

    def __init__(self, args: StreamArgs, device: torch.device) -> None:
        assert args.generator is not None
        header = read_header(args.generator)
        self.version = header.version
        self._model = load_generator(args.generator).to(device)
        self._sampling = header.preset.sampling
        self._max_sessions = args.generation.max_sessions
        self._max_references = args.limits.max_images
        self._stages: dict[SamplingConfig, GeneratorStage] = {}
        self._stage_of: dict[str, GeneratorStage] = {}

    def open(
        self,
        session_id: str,
        state: bytes | None,
        reference_latents: np.ndarray,
        seed: int,
        guidance: tuple[float | None, float | None],
    ) -> None:
        """Begins a session, or goes on with an exported one.

        Raises:
            ApiError: there is no room for it, or the portrait has too many references.
        """
        if len(self._stage_of) >= self._max_sessions:
            raise ApiError(
                "full", f"generator: all {self._max_sessions} sessions are taken; try again later", 503
            )
        given = {"audio_guidance": guidance[0], "reference_guidance": guidance[1]}
        sampling = replace(
            self._sampling, **{name: scale for name, scale in given.items() if scale is not None}
        )
        stage = self._stages.get(sampling)
        if stage is None:
            stage = GeneratorStage(
                self._model, sampling, max_sessions=self._max_sessions, max_references=self._max_references
            )
        try:
            stage.open(session_id, portrait_of(latents=reference_latents), seed=seed, state=state)
        except StageFullError as error:
            raise ApiError("full", str(error), 503) from error
        except ValueError as error:
            raise ApiError("bad_portrait", str(error)) from error
        self._stages[sampling] = self._stage_of[session_id] = stage

    def step(self, requests: Sequence[GeneratorRequest]) -> list[Reply]:
        """The next block of each request's session: latents float32 [C_z, 4, h, w]."""
        replies: dict[str, Reply] = {}
        for stage in self._stages.values():
            batch = [request for request in requests if self._stage_of[request.session_id] is stage]
            for request, latents in zip(batch, stage.step(batch), strict=True):
                value = latents.cpu().numpy()
                replies[request.session_id] = Reply(value=value, state=stage.export(request.session_id))
        return [replies[request.session_id] for request in requests]

    def close(self, session_id: str) -> None:
        """Frees the session; one that is not open is no error."""
        stage = self._stage_of.pop(session_id, None)
        if stage is not None:
            stage.close(session_id)
            self._stages = {key: other for key, other in self._stages.items() if other.sessions}


class Generator:
    """The deployment around `GuidedStages`."""

    def __init__(self, args: StreamArgs) -> None:
        torch.set_num_threads(args.generation.threads)
        self._stages = GuidedStages(args, args.torch_device())
        self._used = LastUse(args.limits.abandoned_after_s)
        self._thread = BatchingThread(
            self._stages.step, max_batch=args.generation.max_batch, name="generator"
        )

    async def facts(self) -> dict[str, Any]:
        """Version of the weights."""
        return {"versions": {"generator": self._stages.version}}

    @errors_as_values
    async def open(
        self,
        session_id: str,
        state: bytes | None,
        reference_latents: np.ndarray,
        seed: int,
        guidance: tuple[float | None, float | None],
    ) -> None:
        """Begins a session, or goes on with an exported one; see `GuidedStages.open`."""
        for abandoned in [*self._used.abandoned(), session_id]:
            await self.close(abandoned)
        await self._thread.call(self._stages.open, session_id, state, reference_latents, seed, guidance)
        self._used.touch(session_id)

    @errors_as_values
    async def generate(self, session_id: str, features: np.ndarray) -> Reply:
        """Takes the next block's features [13 or 16, F]; gives its latents [C_z, 4, h, w]."""
        require_session(self._used, "generator", session_id)
        # A copy: what Ray hands over is read-only, which torch does not take.
        return await self._thread.submit(GeneratorRequest(session_id=session_id, features=features.copy()))

    async def close(self, session_id: str) -> None:
        """Frees the session."""
        self._used.forget(session_id)
        await self._thread.call(self._stages.close, session_id)

    async def check_health(self) -> None:
        """Called by Serve: raises when the model's thread no longer answers."""
        await asyncio.wait_for(self._thread.call(int), 30)


def portrait_of(*, latents: np.ndarray | None = None, features: np.ndarray | None = None) -> Portrait:
    """A portrait with only what one stage needs of it."""
    nothing = torch.zeros(0)
    return Portrait(
        pictures=np.zeros((0, 0, 0, 3), np.uint8),
        reference_latents=nothing if latents is None else torch.from_numpy(latents.copy()),
        reference_features=nothing if features is None else torch.from_numpy(features.copy()),
        vae_version="",
    )
