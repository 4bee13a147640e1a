"""The cluster's config file: Serve's own schema takes it, and so do our arguments."""

import yaml
from ray.serve.schema import ServeDeploySchema

from serve_apps.arguments import StreamArgs


def test_the_cluster_config_fits_serve_and_the_builder(repository):
    config = yaml.safe_load((repository / "platform" / "deploy" / "portrait_stream.yaml").read_text())
    schema = ServeDeploySchema.model_validate(config)
    (application,) = schema.applications
    assert application.import_path == "serve_apps.portrait_stream:build_app"
    args = StreamArgs.model_validate(application.args)
    assert args.ingress.max_ongoing_requests > args.limits.max_sessions
    for replicas in (args.ingress, args.encoder, args.generation, args.decoder):
        assert replicas.options()["autoscaling_config"]["min_replicas"] >= 1
