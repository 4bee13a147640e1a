"""The streaming application: `serve run serve_apps.portrait_stream:build_app preset=tiny`.

Ingress → Encoder → Generator → Decoder, four deployments that scale apart from each other (design §6). What each may
use is in `StreamArgs` and, on a cluster, in the config file (`platform/deploy/portrait_stream.yaml`), never in a
decorator.
"""

# No `from __future__ import annotations` here: Serve reads the builder's annotation to validate the arguments.

from ray import serve
from ray.serve.config import ControllerOptions, HTTPOptions
from ray.serve.schema import LoggingConfig

from serve_apps.arguments import StreamArgs
from serve_apps.decoder import Decoder
from serve_apps.encoder import Encoder
from serve_apps.generator import Generator
from serve_apps.ingress import IngressReplica

STICKY = {"request_router_class": "serve_apps.router.StickySessionRouter"}
"""A session's calls go to the replica that holds its caches."""
QUIET = LoggingConfig(enable_access_log=False)
"""Three calls a block and session would fill the log."""
PATIENT = {"RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60"}
"""On a laptop that is busy starting replicas, the proxy takes longer than the 5 s after which Serve would kill it."""


def build_app(args: StreamArgs) -> serve.Application:
    """The application with these arguments.

    Raises:
        FileNotFoundError: weights are not given and the preset ships none, or a file is missing.
        ValueError: a file holds another kind of model, or one of another preset.
    """
    args = args.resolved()
    ingress = serve.deployment(serve.ingress()(IngressReplica))
    options = {"name": "Ingress", "logging_config": QUIET, **args.ingress.options()}
    return ingress.options(**options).bind(args, *stage_applications(args))


def stage_applications(args: StreamArgs) -> list[serve.Application]:
    """Encoder, generator and decoder, each bound to arguments that are `resolved`."""
    stages = {
        "Encoder": (Encoder, args.encoder),
        "Generator": (Generator, args.generation),
        "Decoder": (Decoder, args.decoder),
    }
    return [
        serve.deployment(replica)
        .options(name=name, request_router_config=STICKY, logging_config=QUIET, **size.options())
        .bind(args)
        for name, (replica, size) in stages.items()
    ]


def start(args: StreamArgs, *, host: str = "127.0.0.1", port: int = 8000, name: str = "portrait") -> str:
    """Runs the application on the connected Ray and returns its address once it is ready.

    A Serve that is running already keeps its own host and port.

    Raises:
        RuntimeError: a replica does not start; its log says why.
    """
    serve.start(
        http_options=HTTPOptions(host=host, port=port),
        proxy_location="HeadOnly",
        controller_options=ControllerOptions(runtime_env={"env_vars": PATIENT}),
    )
    serve.run(build_app(args), name=name, route_prefix="/")
    return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"  # noqa: S104
