"""Calls to the deployments: contexts, cancellation, and which failure becomes which error."""

import asyncio
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ray.exceptions import ActorDiedError, RayTaskError

from serve_apps.errors import ApiError
from serve_apps.handles import GeneratorHandle, in_own_context


class Deployment:
    """Stands for Serve's handle of a deployment whose every method ends the same way."""

    def __init__(self, outcome):
        self.outcome = outcome
        self.cancelled = []
        self.session_id = None

    def options(self, *, session_id):
        self.session_id = session_id
        return self

    def __getattr__(self, name):
        return SimpleNamespace(
            handle_options=SimpleNamespace(method_name=name), remote=lambda *args: Response(self, args)
        )


class Response:
    def __init__(self, deployment, args):
        self.deployment, self.args = deployment, args

    def cancel(self):
        self.deployment.cancelled.append(self.args)

    def __await__(self):
        return self._result().__await__()

    async def _result(self):
        if isinstance(self.deployment.outcome, Exception) and not isinstance(
            self.deployment.outcome, ApiError
        ):
            raise self.deployment.outcome
        if self.deployment.outcome == "never":
            await asyncio.sleep(60)
        return self.deployment.outcome


def generator(deployment: Any, timeout_s: float) -> GeneratorHandle:
    return GeneratorHandle(deployment, timeout_s)


FEATURES = np.zeros((13, 2), np.float32)


async def test_a_call_is_routed_by_its_session_and_returns_the_reply():
    deployment = Deployment("reply")
    assert await generator(deployment, 5).generate("s", FEATURES) == "reply"
    assert deployment.session_id == "s"


@pytest.mark.parametrize(
    ("outcome", "code", "words"),
    [
        (ApiError("full", "no room", 503), "full", "no room"),
        (ActorDiedError(), "session_lost", r"generator\.generate: the replica is gone"),
        (RayTaskError("generate", "trace", ValueError("no")), "internal", r"generator\.generate failed"),
    ],
)
async def test_every_failure_is_an_error_with_a_code(outcome, code, words):
    with pytest.raises(ApiError, match=words) as caught:
        await generator(Deployment(outcome), 5).generate("s", FEATURES)
    assert caught.value.code == code


async def test_a_call_that_takes_too_long_is_cancelled_in_the_replica():
    deployment = Deployment("never")
    with pytest.raises(ApiError, match=r"longer than 0\.05 s") as caught:
        await generator(deployment, 0.05).close("s")
    assert (caught.value.code, deployment.cancelled) == ("too_slow", [("s",)])


async def test_a_call_is_cancelled_in_the_replica_when_its_caller_is():
    deployment = Deployment("never")
    caller = asyncio.create_task(generator(deployment, 5).close("s"))
    await asyncio.sleep(0.01)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await asyncio.sleep(0.01)
    assert deployment.cancelled == [("s",)]


async def test_a_call_in_its_own_context_is_cancelled_with_its_caller():
    stopped = asyncio.Event()

    async def work():
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    caller = asyncio.create_task(in_own_context(work()))
    await asyncio.sleep(0.01)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await asyncio.wait_for(stopped.wait(), 5)


async def test_encoder_and_decoder_with_different_vaes_are_reported(local_handles, monkeypatch):
    facts = await local_handles.facts()
    assert set(facts.versions) == {"vae", "speech", "generator"}

    async def other():
        return {"vae": "another"}

    monkeypatch.setattr(local_handles.decoder, "versions", other)
    with pytest.raises(ApiError, match="a deployment is in progress") as caught:
        await local_handles.facts()
    assert (caught.value.code, caught.value.status) == ("starting", 503)
