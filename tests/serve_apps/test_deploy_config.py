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
    assert args.ingress_replicas.max_ongoing_requests > args.limits.max_sessions
    for replicas in (
        args.ingress_replicas,
        args.encoder_replicas,
        args.generator_replicas,
        args.decoder_replicas,
    ):
        assert replicas.options()["autoscaling_config"]["min_replicas"] >= 1


def test_serve_can_read_the_builders_arguments(models, tmp_path):
    """`serve run module:build_app preset=tiny` validates the text it is given against this annotation."""
    from ray import serve
    from ray.serve._private.api import call_user_app_builder_with_args_if_necessary as call_builder

    from serve_apps.portrait_stream import build_app

    text = {"preset": "tiny", "portraits": str(tmp_path / "p.lance"), "slack_s": "0.5", **models}
    assert isinstance(call_builder(build_app, text), serve.Application)
