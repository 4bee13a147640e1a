"""Deployment `Ingress`: holds the sockets, muxes, and serves the browser client. It imports neither torch
nor lance, so that it starts at once and stays small.
"""

from __future__ import annotations

from fastapi import FastAPI
from ray.serve.handle import DeploymentHandle

from serve_apps.arguments import StreamArgs
from serve_apps.auth import ApiKeys
from serve_apps.handles import StageHandles
from serve_apps.http_api import create_api
from serve_apps.service import PortraitService


class IngressReplica:
    """A `PortraitService` over the handles of the model deployments."""

    def __init__(
        self,
        args: StreamArgs,
        encoder: DeploymentHandle,
        generator: DeploymentHandle,
        decoder: DeploymentHandle,
    ) -> None:
        self.service = PortraitService(
            StageHandles.over(encoder, generator, decoder, timeout_s=args.limits.stage_timeout_s),
            args.limits,
            api_keys=ApiKeys.configured(args.api_keys),
            slack_s=args.slack_s,
        )

    def __serve_build_asgi_app__(self) -> FastAPI:  # Serve's own hook: called once, in the replica
        return create_api(self.service)
