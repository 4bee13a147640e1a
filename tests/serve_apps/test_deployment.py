"""The base of the model deployments, around a stage that only counts."""

from dataclasses import dataclass

import pytest

from portrait.streaming import StageFullError
from serve_apps.arguments import Replicas
from serve_apps.deployment import LastUse, SessionDeployment
from serve_apps.errors import ApiError
from serve_apps.limits import Limits
from serve_apps.messages import StageReply


@dataclass
class Request:
    session_id: str


class CountingStage:
    def __init__(self, room=2):
        self.versions = {"counter": "1"}
        self.room = room
        self.counts = {}

    def open(self, session_id, count):
        if len(self.counts) >= self.room:
            raise StageFullError("no room")
        self.counts[session_id] = count

    def step(self, requests):
        for request in requests:
            self.counts[request.session_id] += 1
        return [
            StageReply(value=self.counts[request.session_id], state=bytes([self.counts[request.session_id]]))
            for request in requests
        ]

    def close(self, session_id):
        self.counts.pop(session_id, None)


@pytest.fixture
def stage():
    return CountingStage()


@pytest.fixture
def deployment(stage):
    class Counter(SessionDeployment):
        async def open(self, session_id, count=0):
            await self._open(session_id, lambda: stage.open(session_id, count))

        async def advance(self, session_id):
            return await self._advance(Request(session_id))

    return Counter("counter", stage, Replicas(), Limits(abandoned_after_s=10))


async def test_a_session_advances_and_carries_its_state(deployment):
    await deployment.open("a", 5)
    await deployment.check_health()
    assert await deployment.advance("a") == StageReply(value=6, state=b"\x06")
    assert await deployment.versions() == {"counter": "1"}


async def test_a_session_that_is_not_open_here_is_lost(deployment):
    await deployment.open("a")
    await deployment.close("a")
    await deployment.close("a")
    with pytest.raises(ApiError, match="counter: this replica does not know the session") as caught:
        await deployment.advance("a")
    assert caught.value.code == "session_lost"


async def test_opening_again_replaces_the_session(deployment, stage):
    await deployment.open("a", 5)
    await deployment.open("a", 7)
    assert stage.counts == {"a": 7}


async def test_without_room_the_stage_is_full_and_the_session_unknown(deployment):
    await deployment.open("a")
    await deployment.open("b")
    with pytest.raises(ApiError, match="no room") as caught:
        await deployment.open("c")
    assert (caught.value.code, caught.value.status) == ("full", 503)
    with pytest.raises(ApiError, match="does not know"):
        await deployment.advance("c")


async def test_opening_frees_sessions_that_nobody_calls(deployment, stage):
    now = 0.0
    deployment._last_use = LastUse(10, clock=lambda: now)
    await deployment.open("old")
    now = 8.0
    await deployment.open("young")
    now = 11.0
    await deployment.open("new")
    assert set(stage.counts) == {"young", "new"}


def test_sessions_without_a_call_are_abandoned():
    now = 0.0
    used = LastUse(10, clock=lambda: now)
    used.touch("old")
    now = 8.0
    used.touch("young")
    now = 11.0
    assert used.abandoned() == ["old"]
    used.forget("old")
    assert used.abandoned() == []
    assert "young" in used
