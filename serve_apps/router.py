"""Sticky sessions: a request router that pins a session to a replica at its first call.

A session's caches live on one replica. The pin moves only when that replica is gone, never because another was added;
consistent hashing would move a quarter of the sessions then. Every handle has a router of its own, so each ingress
replica pins its own sessions. `FIFOMixin` is not used: with it, a call may reach the replica that was chosen for
another session.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

Replica = TypeVar("Replica", bound=Hashable)

CLOSING_METHOD = "close"
"""Name of the deployment method after which a session is over."""


class Pins(Generic[Replica]):
    """Which session lives on which replica."""

    def __init__(self) -> None:
        self._replica_of: dict[str, Replica] = {}

    def choose(self, session_id: str, candidates: Iterable[Replica]) -> Replica:
        """The session's replica; at first, or when that one is gone, the candidate with the fewest pinned sessions."""
        candidates = list(candidates)
        pinned = self._replica_of.get(session_id)
        if pinned is None or pinned not in candidates:
            load = Counter(self._replica_of.values())
            pinned = min(candidates, key=lambda replica: load[replica])
            self._replica_of[session_id] = pinned
        return pinned

    def forget(self, session_id: str) -> None:
        """Removes a session's pin."""
        self._replica_of.pop(session_id, None)


class StickySessionRouter(RequestRouter):
    """Routes calls with a `session_id` to the session's replica, others to the least busy one."""

    def initialize_state(self) -> None:
        """Called by Serve once, before the first request."""
        self._pins: Pins = Pins()

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Ranked groups of replicas, the best first; Serve waits and asks again if there are none."""
        if pending_request is None or not candidate_replicas:
            return [candidate_replicas]
        # A busy replica is asked again with growing pauses instead of in a tight loop.
        pending_request.routing_context.should_backoff = True
        session_id = pending_request.metadata.session_id
        if not session_id:
            return [candidate_replicas]
        replicas = {replica.replica_id: replica for replica in candidate_replicas}
        chosen = self._pins.choose(session_id, replicas)
        if pending_request.metadata.call_method == CLOSING_METHOD:
            self._pins.forget(session_id)
        return [[replicas[chosen]]]
