"""Typed client side of the model deployments' handles: one class per deployment, one method per call.

Every failure is raised as an `ApiError`. A replica that died, or that does not know the session, is reported with the
code `session_lost`; recovery.py then continues the session on another replica.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from portrait.media.h264 import EncodedBlock
from serve_apps.errors import ApiError
from serve_apps.messages import ModelFacts, SessionSettings, SpokenBlock, StageReply, UploadedImage
from serve_apps.protocol import PortraitInfo

logger = logging.getLogger("ray.serve")
Value = TypeVar("Value")


class StageHandle:
    """The calls that all three deployments accept (deployment.py).

    Args:
        deployment: Serve's handle.
        timeout_s: how long a call may take.
    """

    stage: ClassVar[str]
    """Name of the stream stage, for error messages."""

    def __init__(self, deployment: DeploymentHandle, timeout_s: float) -> None:
        self._deployment = deployment
        self._timeout_s = timeout_s

    async def versions(self) -> dict[str, str]:
        """Versions of the weights, by model."""
        return await self._call(self._deployment.versions)

    async def open(self, session_id: str, settings: SessionSettings, state: bytes | None) -> None:
        """Opens a session, or continues one from an exported state.

        Raises:
            ApiError: there is no room for the session, or no such portrait.
        """
        await self._call(self._replica_of(session_id).open, session_id, settings, state)

    async def close(self, session_id: str) -> None:
        """Frees a session; does nothing if it is not open."""
        await self._call(self._replica_of(session_id).close, session_id)

    def _replica_of(self, session_id: str) -> DeploymentHandle:
        """The deployment's handle, routed to the replica that holds the session (router.py)."""
        return self._deployment.options(session_id=session_id)

    async def _call(self, method: DeploymentHandle, *args: Any) -> Any:
        """Calls a deployment's method; cancelled in the replica when the caller is cancelled.

        The call runs in a context of its own: calls within one ingress request otherwise share an internal request id,
        and two of them that are pending at the same deployment wait for each other forever.
        """
        return await in_own_context(self._checked(method, args))

    async def _checked(self, method: DeploymentHandle, args: tuple[Any, ...]) -> Any:
        name = f"{self.stage}.{method.handle_options.method_name}"
        response: Any = method.remote(*args)
        try:
            value = await asyncio.wait_for(_result(response), self._timeout_s)
        except TimeoutError:
            response.cancel()
            raise ApiError("too_slow", f"{name} took longer than {self._timeout_s:g} s", 503) from None
        except asyncio.CancelledError:
            response.cancel()
            raise
        except RayTaskError as error:
            logger.exception("%s failed", name)
            raise ApiError(
                "internal", f"{name} failed; the log of its replica has the reason", 500
            ) from error
        except (RayError, RayServeException) as error:
            raise ApiError("session_lost", f"{name}: the replica is gone", 503) from error
        if isinstance(value, ApiError):  # see `errors_as_values`
            raise value
        return value


class EncoderHandle(StageHandle):
    """Calls to the deployment `Encoder`."""

    stage = "encoder"

    async def facts(self) -> ModelFacts:
        """The models' facts, as far as the encoder knows them: without the generator's version."""
        return await self._call(self._deployment.facts)

    async def speech(self, session_id: str, samples: np.ndarray, end: bool) -> StageReply[list[SpokenBlock]]:
        """Passes on samples float32 [S], the last ones with `end`; returns the blocks that are ready now."""
        return await self._call(self._replica_of(session_id).speech, session_id, samples, end)

    async def reference_latents(self, portrait_id: str, owner: str) -> np.ndarray:
        """A portrait's latents float32 [M, C_z, h, w], for the generator."""
        return await self._call(self._deployment.reference_latents, portrait_id, owner)

    async def reference_features(self, portrait_id: str, owner: str) -> np.ndarray:
        """A portrait's E1 features float32 [M, C_f, h_f, w_f], for the decoder."""
        return await self._call(self._deployment.reference_features, portrait_id, owner)

    async def register(
        self, images: Sequence[UploadedImage], name: str, consent: str, owner: str
    ) -> PortraitInfo:
        """Registers a portrait; see `PortraitRegistry.register`."""
        return await self._call(self._deployment.register, images, name, consent, owner)

    async def portraits(self, owner: str) -> list[PortraitInfo]:
        """The owner's portraits, oldest first."""
        return await self._call(self._deployment.portraits, owner)

    async def delete_portrait(self, portrait_id: str, owner: str) -> bool:
        """Deletes a portrait for good; False if the owner has no such portrait."""
        return await self._call(self._deployment.delete_portrait, portrait_id, owner)


class GeneratorHandle(StageHandle):
    """Calls to the deployment `Generator`."""

    stage = "generator"

    async def generate(self, session_id: str, features: np.ndarray) -> StageReply[np.ndarray]:
        """Turns the next block's features float32 [13 or 16, F] into latents float32 [C_z, 4, h, w]."""
        return await self._call(self._replica_of(session_id).generate, session_id, features)


class DecoderHandle(StageHandle):
    """Calls to the deployment `Decoder`."""

    stage = "decoder"

    async def decode(self, session_id: str, latents: np.ndarray, frames: int) -> StageReply[EncodedBlock]:
        """Decodes the next block's latents [C_z, 4, h, w]; returns its first `frames` frames as H.264."""
        return await self._call(self._replica_of(session_id).decode, session_id, latents, frames)


@dataclass(frozen=True, kw_only=True)
class StageHandles:
    """The handles of all three deployments."""

    encoder: EncoderHandle
    generator: GeneratorHandle
    decoder: DecoderHandle

    @classmethod
    def over(
        cls,
        encoder: DeploymentHandle,
        generator: DeploymentHandle,
        decoder: DeploymentHandle,
        *,
        timeout_s: float,
    ) -> StageHandles:
        """Typed handles over Serve's handles; `timeout_s` limits each call."""
        return cls(
            encoder=EncoderHandle(encoder, timeout_s),
            generator=GeneratorHandle(generator, timeout_s),
            decoder=DecoderHandle(decoder, timeout_s),
        )

    async def facts(self) -> ModelFacts:
        """The models' facts, from all deployments.

        Raises:
            ApiError: the encoder and the decoder hold different VAEs, as happens during a rolling deployment.
        """
        facts, generator, decoder = await asyncio.gather(
            self.encoder.facts(), self.generator.versions(), self.decoder.versions()
        )
        if facts.versions["vae"] != decoder["vae"]:
            message = "the encoder and the decoder hold different VAEs: a deployment is in progress"
            raise ApiError("starting", message, 503)
        return ModelFacts(**{**vars(facts), "versions": {**facts.versions, **generator}})


async def in_own_context(work: Coroutine[Any, Any, Value]) -> Value:
    """Awaits a coroutine in a task that shares no context variables with the caller and is cancelled with it."""
    task = asyncio.get_running_loop().create_task(work, context=contextvars.Context())
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.cancel()
        raise


async def _result(response: Awaitable[Any]) -> Any:
    return await response
