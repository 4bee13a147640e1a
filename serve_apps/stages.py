"""What a session asks of the three stages, and the same over Serve's handles.

Everything that crosses these calls is small: samples, speech features, latents and compressed media, never raw
frames.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, ParamSpec, Protocol, TypeVar

import numpy as np
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from serve_apps.protocol import ApiError, PortraitInfo, Start

logger = logging.getLogger("ray.serve")
Value = TypeVar("Value")
Parameters = ParamSpec("Parameters")

_RETRY_AFTER_S = (0.0, 0.1, 0.5, 2.0)
"""Pauses before a lost session is opened on another replica: the routers learn of a death within a second or two."""


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What the ingress must know of the models; one source, so that stages of different builds are noticed."""

    preset: str
    """Name of the preset."""
    size: int
    """Side of the pictures in pixels."""
    look_ahead_samples: int
    """Samples after a frame's own that its speech features depend on."""
    versions: dict[str, str]
    """Versions of the weights: vae, generator, speech."""


@dataclass(frozen=True, kw_only=True)
class UploadedImage:
    """A picture file as it came."""

    name: str
    """The file's name, for errors."""
    content: bytes
    """The encoded file."""


@dataclass(frozen=True, kw_only=True)
class SpokenBlock:
    """A block's worth of speech."""

    index: int
    """Number of the block in the stream."""
    features: np.ndarray
    """[13 or 16, F]."""
    audio: np.ndarray
    """float32 [640 · frames], the sound of the frames to show."""
    frames: int
    """Frames to show: all of the block's but at the end of speech."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A stage's answer, and what another replica would need to go on from here."""

    value: Any
    """The answer."""
    state: bytes
    """The session's exported state after it; a few hundred kilobytes at most."""


class SessionStages(Protocol):
    """The three stages as an open session sees them. Calls of one session come one after the other per stage."""

    async def speech(self, session_id: str, samples: np.ndarray, end: bool) -> list[SpokenBlock]:
        """Takes samples float32 [S], the last ones with `end`; gives the blocks that are ready now."""
        ...

    async def generate(self, session_id: str, features: np.ndarray) -> np.ndarray:
        """Takes the next block's features [13 or 16, F]; gives its latents [C_z, 4, h, w]."""
        ...

    async def decode(self, session_id: str, latents: np.ndarray, frames: int) -> Any:
        """Takes the next block's latents; gives its first `frames` frames as an H.264 block."""
        ...


class Stages(SessionStages, Protocol):
    """All that the ingress asks of the stages."""

    async def facts(self) -> ModelFacts: ...

    async def open(self, session_id: str, start: Start, seed: int, owner: str) -> None: ...

    async def close(self, session_id: str) -> None: ...

    async def register(
        self, images: list[UploadedImage], name: str, consent: str, owner: str
    ) -> PortraitInfo: ...

    async def portraits(self, owner: str) -> list[PortraitInfo]: ...

    async def delete_portrait(self, portrait_id: str, owner: str) -> bool: ...


@dataclass(kw_only=True)
class _Kept:
    """What the ingress keeps of a session, so that it outlives the replicas it runs on."""

    start: Start
    seed: int
    owner: str
    states: dict[str, bytes] = field(default_factory=dict)


class ServeStages:
    """`Stages` over the handles of the three deployments.

    When a replica is gone, the next one is opened with the session's last state and the call is made again: the caller
    sees a block that came late.
    """

    def __init__(
        self,
        encoder: DeploymentHandle,
        generator: DeploymentHandle,
        decoder: DeploymentHandle,
        timeout_s: float,
    ) -> None:
        self._handles = {"encoder": encoder, "generator": generator, "decoder": decoder}
        self._timeout_s = timeout_s
        self._facts: ModelFacts | None = None
        self._kept: dict[str, _Kept] = {}

    async def facts(self) -> ModelFacts:
        """What the models are like; asked of each stage once.

        Raises:
            ApiError: the encoder and the decoder hold different VAEs, as in the middle of a deployment.
        """
        if self._facts is None:
            encoder, generator, decoder = await asyncio.gather(
                *(self._call(stage, "facts") for stage in self._handles)
            )
            if encoder["versions"]["vae"] != decoder["versions"]["vae"]:
                message = "the encoder and the decoder hold different VAEs: a deployment is in work"
                raise ApiError("starting", message, 503)
            versions = {**encoder["versions"], **generator["versions"]}
            self._facts = ModelFacts(**{**encoder, "versions": versions})
        return self._facts

    async def open(self, session_id: str, start: Start, seed: int, owner: str) -> None:
        """Opens the session in all stages.

        Raises:
            ApiError: no such portrait, or a stage has no room.
        """
        kept = self._kept[session_id] = _Kept(start=start, seed=seed, owner=owner)
        await asyncio.gather(*(self._open(stage, session_id, kept) for stage in self._handles))

    async def speech(self, session_id: str, samples: np.ndarray, end: bool) -> list[SpokenBlock]:
        return await self._step("encoder", "speech", session_id, samples, end)

    async def generate(self, session_id: str, features: np.ndarray) -> np.ndarray:
        return await self._step("generator", "generate", session_id, features)

    async def decode(self, session_id: str, latents: np.ndarray, frames: int) -> Any:
        return await self._step("decoder", "decode", session_id, latents, frames)

    async def close(self, session_id: str) -> None:
        """Frees the session everywhere; a stage that can't be reached has nothing left to free."""
        self._kept.pop(session_id, None)
        calls = (self._call(stage, "close", session_id, session_id=session_id) for stage in self._handles)
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(outcome, ApiError):
                logger.warning("session %s: close: %s", session_id, outcome)
            elif isinstance(outcome, BaseException):
                raise outcome

    async def register(
        self, images: list[UploadedImage], name: str, consent: str, owner: str
    ) -> PortraitInfo:
        """Registers a portrait; see `Encoder.register`."""
        return await self._call("encoder", "register", images, name, consent, owner)

    async def portraits(self, owner: str) -> list[PortraitInfo]:
        """The owner's portraits, oldest first."""
        return await self._call("encoder", "portraits", owner)

    async def delete_portrait(self, portrait_id: str, owner: str) -> bool:
        """Deletes a portrait for good; False where there is none."""
        return await self._call("encoder", "delete_portrait", portrait_id, owner)

    async def _open(self, stage: str, session_id: str, kept: _Kept) -> None:
        state = kept.states.get(stage)
        arguments: tuple[Any, ...] = ()
        if stage != "encoder":
            # The references come from the encoder each time: they are too large to keep for every session.
            arguments = (await self._call("encoder", "portrait", kept.start.portrait_id, kept.owner, stage),)
        if stage == "generator":
            arguments += (kept.seed, (kept.start.audio_guidance, kept.start.reference_guidance))
        await self._call(stage, "open", session_id, state, *arguments, session_id=session_id)

    async def _step(self, stage: str, method: str, session_id: str, *args: Any) -> Any:
        """One call of a session; on another replica, opened with the last state, when its own is gone."""
        kept = self._kept[session_id]
        attempt = 0
        while True:
            try:
                if attempt:
                    await self._open(stage, session_id, kept)
                reply: Reply = await self._call(stage, method, session_id, *args, session_id=session_id)
            except ApiError as error:
                if error.code != "session_lost" or attempt == len(_RETRY_AFTER_S):
                    raise
                logger.warning("session %s: %s; trying again", session_id, error)
                await asyncio.sleep(_RETRY_AFTER_S[attempt])
                attempt += 1
                continue
            kept.states[stage] = reply.state
            return reply.value

    async def _call(self, stage: str, method: str, *args: Any, session_id: str = "") -> Any:
        """One call, its errors told as `ApiError`, cancelled in the replica when the caller is.

        In a task of its own context: calls of one ingress request otherwise share an internal request id, and two
        pending ones at the same deployment then wait for each other for ever.
        """
        handle = self._handles[stage]
        handle = handle.options(session_id=session_id) if session_id else handle
        return await in_own_context(self._guarded(handle, f"{stage}.{method}", method, args))

    async def _guarded(self, handle: DeploymentHandle, label: str, method: str, args: tuple[Any, ...]) -> Any:
        response = getattr(handle, method).remote(*args)
        try:
            value = await asyncio.wait_for(_reply(response), self._timeout_s)
        except TimeoutError:
            response.cancel()
            raise ApiError("too_slow", f"{label} took longer than {self._timeout_s:g} s", 503) from None
        except asyncio.CancelledError:
            response.cancel()
            raise
        except RayTaskError as error:
            logger.exception("%s failed", label)
            raise ApiError("internal", f"{label} failed in its replica; its log says why", 500) from error
        except (RayError, RayServeException) as error:
            raise ApiError(
                "session_lost", f"{label}: the replica that held the session is gone", 503
            ) from error
        if isinstance(value, ApiError):
            raise value
        return value


def errors_as_values(
    method: Callable[Parameters, Coroutine[Any, Any, Value]],
) -> Callable[Parameters, Coroutine[Any, Any, Value | ApiError]]:
    """For a deployment's method: gives an `ApiError` as its value, which `ServeStages` raises again.

    A client's mistake is no failure of the replica: raised, it would fill the log with tracebacks and count as one.
    """

    @functools.wraps(method)
    async def wrapped(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Value | ApiError:
        try:
            return await method(*args, **kwargs)
        except ApiError as error:
            return ApiError(error.code, error.message, error.status)

    return wrapped


async def in_own_context(work: Coroutine[Any, Any, Value]) -> Value:
    """Awaits a coroutine in a task that shares no context variable with the caller; cancelled with it."""
    task = asyncio.get_running_loop().create_task(work, context=contextvars.Context())
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.cancel()
        raise


async def _reply(response: Any) -> Any:
    return await response
