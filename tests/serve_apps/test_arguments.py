import pytest
from pydantic import ValidationError

from serve_apps.arguments import Autoscaling, Replicas, StreamArgs


def test_arguments_come_as_text_from_the_command_line(models):
    args = StreamArgs.model_validate({"preset": "tiny", "slack_s": "0.5", **models})
    assert args.slack_s == 0.5


@pytest.mark.parametrize(
    "wrong",
    [{"preset": "huge"}, {"prest": "tiny"}, {"limits": {"max_sessions": 0}}, {"limits": {"max_images": 4}}],
)
def test_a_wrong_argument_is_refused(wrong):
    with pytest.raises(ValidationError):
        StreamArgs.model_validate(wrong)


def test_paths_become_absolute_and_addresses_stay(models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = StreamArgs(**models, portraits="some/portraits.lance").resolved()
    assert args.portraits == str(tmp_path / "some" / "portraits.lance")
    assert StreamArgs(**models, portraits="s3://bucket/p.lance").resolved().portraits == "s3://bucket/p.lance"


def test_weights_that_do_not_fit_are_named(models, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        StreamArgs(vae="/nowhere/vae.safetensors", generator=models["generator"]).resolved()
    with pytest.raises(ValueError, match=r"vae: .* 'generator'"):
        StreamArgs(vae=models["generator"], generator=models["generator"]).resolved()
    with pytest.raises(ValueError, match="'tiny', whose vae differs from that of 'small'"):
        StreamArgs(preset="small", **models).resolved()
    with pytest.raises(FileNotFoundError, match="'paper' ships no starter weights"):
        StreamArgs(preset="paper").resolved()


def test_replicas_are_fixed_or_scaled():
    fixed = Replicas(replicas=3, num_cpus=0.5).options()
    assert fixed["num_replicas"] == 3
    assert fixed["ray_actor_options"] == {"num_cpus": 0.5, "num_gpus": 0.0}
    scaled = Replicas(autoscaling=Autoscaling(max_replicas=4, target_ongoing_requests=2)).options()
    assert "num_replicas" not in scaled
    assert scaled["autoscaling_config"]["max_replicas"] == 4
