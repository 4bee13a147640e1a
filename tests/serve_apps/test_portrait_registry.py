"""Portraits that another VAE made: computed again if the size fits, refused if not."""

from dataclasses import replace

import pytest
import torch

from portrait import presets
from portrait.storage.checkpoints import save_model
from portrait.vae import VideoVAE
from serve_apps.arguments import StreamArgs
from serve_apps.errors import ApiError
from serve_apps.messages import UploadedImage
from serve_apps.portrait_registry import PortraitRegistry


@pytest.fixture
def open_registry(models, tmp_path):
    """Opens the one table with the shared VAE, or with one of other weights or another frame size."""

    def build(*, seed=None, size=None) -> PortraitRegistry:
        args = StreamArgs(**models, portraits=str(tmp_path / "portraits.lance"))
        if seed is not None:
            preset = presets.load("tiny")
            if size is not None:
                generator = replace(preset.generator, latent_size=size // preset.vae.space_factor)
                preset = replace(preset, video=replace(preset.video, size=size), generator=generator)
            torch.manual_seed(seed)
            file = tmp_path / f"vae{seed}.safetensors"
            save_model(file, VideoVAE(preset.vae), kind="vae", preset=preset)
            args = args.model_copy(update={"vae": str(file)})
        return PortraitRegistry(args, torch.device("cpu"))

    return build


@pytest.fixture
def registered(open_registry, talk):
    registry = open_registry()
    images = [UploadedImage(name="head.png", content=talk.picture.read_bytes())]
    return registry, registry.register(images, "Ada", "yes", "alice").portrait_id


def test_a_stored_portrait_is_returned_with_its_features(registered, open_registry):
    registry, portrait_id = registered
    first, again = registry.get(portrait_id, "alice"), open_registry().get(portrait_id, "alice")
    assert torch.equal(first.reference_latents, again.reference_latents)
    assert registry.get(portrait_id, "alice") is first
    with pytest.raises(ApiError, match="no portrait"):
        registry.get(portrait_id, "bob")


def test_features_of_another_vae_are_computed_again_and_stored(registered, open_registry):
    registry, portrait_id = registered
    old, other = registry.get(portrait_id, "alice"), open_registry(seed=7)
    portrait = other.get(portrait_id, "alice")
    assert portrait.vae_version == other.vae_version != registry.vae_version
    assert not torch.allclose(portrait.reference_latents, old.reference_latents)
    assert other._store.get(portrait_id, "alice").vae_version == other.vae_version
    assert [info.name for info in other.list("alice")] == ["Ada"]


def test_a_portrait_of_another_size_is_refused(registered, open_registry):
    _, portrait_id = registered
    with pytest.raises(ApiError, match=r"registered at 128×128 pixels.*serves 64×64") as caught:
        open_registry(seed=8, size=64).get(portrait_id, "alice")
    assert (caught.value.code, caught.value.status) == ("wrong_size", 409)
