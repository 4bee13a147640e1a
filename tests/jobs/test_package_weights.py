import numpy as np
import pytest
import torch

from jobs.package_weights import PackageWeights, main
from portrait import presets
from portrait.generator import Generator
from portrait.storage.checkpoints import load_generator, load_vae, read_header, save_model
from portrait.vae import VideoVAE

TINY = presets.load("tiny")


@pytest.fixture
def trained(tmp_path):
    """A VAE and a generator as training leaves them, in float32."""
    torch.manual_seed(0)
    vae = save_model(
        tmp_path / "vae.safetensors", VideoVAE(TINY.vae), kind="vae", preset=TINY, extra={"step": 9}
    )
    generator = Generator(TINY.generator)
    generator.normaliser.std.fill_(0.1234567)
    save_model(
        tmp_path / "generator.safetensors",
        generator,
        kind="generator",
        preset=TINY,
        extra={"vae_version": vae.version, "step": 5},
    )
    return tmp_path


def _config(folder, **changes):
    paths = {"vae": folder / "vae.safetensors", "generator": folder / "generator.safetensors"}
    return PackageWeights(**{**paths, **changes}, output=folder / "packed")


def test_the_pair_is_half_as_large_and_still_belongs_together(trained):
    packed = main(_config(trained))
    for path in (packed.vae, packed.generator):
        assert path.stat().st_size < 0.55 * (trained / path.name).stat().st_size
    header = read_header(packed.generator)
    assert header.extra == {"vae_version": read_header(packed.vae).version, "step": 5}
    assert read_header(packed.vae).extra == {"step": 9}
    assert float(load_generator(packed.generator).normaliser.std[0]) == pytest.approx(0.1234567, abs=1e-7)


def test_the_packed_vae_makes_nearly_the_same_pictures(trained):
    packed = main(_config(trained))
    video = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (1, 3, 5, 64, 64)).astype(np.float32))
    with torch.no_grad():
        made = [
            vae.decode(vae.encode(video).mean)
            for vae in map(load_vae, (trained / "vae.safetensors", packed.vae))
        ]
    assert (made[0] - made[1]).abs().max() < 0.01 * made[0].abs().max()


def test_strangers_are_not_packed(trained):
    other = save_model(trained / "other.safetensors", VideoVAE(TINY.vae), kind="vae", preset=TINY)
    with pytest.raises(ValueError, match=f"other.safetensors makes those of VAE {other.version}"):
        main(_config(trained, vae=trained / "other.safetensors"))
    assert not (trained / "packed").exists()


def test_a_vae_whose_decoder_was_trained_further_is_packed_with_the_same_generator(trained):
    before = read_header(trained / "vae.safetensors").version
    extra = {"latents_version": before}
    further = save_model(
        trained / "further.safetensors", VideoVAE(TINY.vae), kind="vae", preset=TINY, extra=extra
    )
    assert further.version != before
    packed = main(_config(trained, vae=trained / "further.safetensors"))
    assert read_header(packed.vae).latents_version == before
    assert read_header(packed.generator).extra["vae_version"] == before


def test_a_weight_beyond_half_precision_is_named(trained):
    vae = load_vae(trained / "vae.safetensors")
    with torch.no_grad():
        vae.decoder.d2.head.conv.weight[0, 0, 0, 0] = 1e6
    written = save_model(trained / "vae.safetensors", vae, kind="vae", preset=TINY)
    generator = load_generator(trained / "generator.safetensors")
    extra = {"vae_version": written.version}
    save_model(trained / "generator.safetensors", generator, kind="generator", preset=TINY, extra=extra)
    with pytest.raises(ValueError, match=r"decoder\.d2\.head\.conv\.weight has NaN or values beyond"):
        main(_config(trained))
