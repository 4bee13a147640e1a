"""The streaming application: `serve run serve_apps.portrait_stream:build_app preset=tiny`.

Ingress → Encoder → Generator → Decoder, four deployments that scale independently. What each may use is in
`StreamArgs` and, on a cluster, in the config file (`platform/deploy/portrait_stream.yaml`), never in a decorator.
"""

# No `from __future__ import annotations` here: Serve reads the builder's annotation to validate the arguments.

from ray import serve
from ray.serve.config import ControllerOptions, HTTPOptions
from ray.serve.schema import LoggingConfig

from serve_apps.arguments import Replicas, StreamArgs
from serve_apps.decoder import Decoder
from serve_apps.encoder import Encoder
from serve_apps.generator import Generator
from serve_apps.ingress import IngressReplica

STICKY = {"request_router_class": "serve_apps.router.StickySessionRouter"}
"""Routes a session's calls to the replica that holds its caches."""
QUIET = LoggingConfig(enable_access_log=False)
"""Three calls per block and session would fill the log."""
PATIENT = {"RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60"}
"""While a small machine starts the replicas, the proxy needs longer than the 5 s after which Serve would kill it."""


def build_app(args: StreamArgs) -> serve.Application:
    """The application with these arguments.

    Raises:
        FileNotFoundError: a file is missing, or none is given and the preset ships no starter weights.
        ValueError: a file holds another kind of model, or one of another preset.
    """
    args = args.resolved()
    ingress = serve.deployment(serve.ingress()(IngressReplica))
    options = {"name": "Ingress", "logging_config": QUIET, **args.ingress_replicas.options()}
    return ingress.options(**options).bind(args, *stage_applications(args))


def stage_applications(
    args: StreamArgs,
) -> tuple[serve.Application, serve.Application, serve.Application]:
    """Encoder, generator and decoder, bound to arguments that are `resolved`; the last two call the encoder."""
    encoder = _deployment(Encoder, args.encoder_replicas).bind(args)
    generator = _deployment(Generator, args.generator_replicas).bind(args, encoder)
    decoder = _deployment(Decoder, args.decoder_replicas).bind(args, encoder)
    return encoder, generator, decoder


def start(args: StreamArgs, *, host: str = "127.0.0.1", port: int = 8000, name: str = "portrait") -> str:
    """Runs the application on the connected Ray and returns its URL once it is ready.

    If Serve is running already, it keeps its host and port.

    Raises:
        RuntimeError: a replica does not start; its log has the reason.
    """
    serve.start(
        http_options=HTTPOptions(host=host, port=port),
        proxy_location="HeadOnly",
        controller_options=ControllerOptions(runtime_env={"env_vars": PATIENT}),
    )
    serve.run(build_app(args), name=name, route_prefix="/")
    return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"  # noqa: S104


def _deployment(replica: type, replicas: Replicas) -> serve.Deployment:
    return serve.deployment(replica).options(
        name=replica.__name__, request_router_config=STICKY, logging_config=QUIET, **replicas.options()
    )
