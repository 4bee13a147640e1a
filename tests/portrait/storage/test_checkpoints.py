import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from portrait import presets
from portrait.generator import Generator
from portrait.storage.checkpoints import load_generator, load_vae, read_header, save_model
from portrait.vae import VideoVAE

TINY = presets.load("tiny")


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(1)
    return VideoVAE(TINY.vae).eval()


@pytest.fixture
def vae_file(tmp_path, vae):
    path = tmp_path / "models" / "vae.safetensors"
    save_model(path, vae, kind="vae", preset=TINY, extra={"steps": 7, "psnr": {"1": 25.5}})
    return path


def test_the_file_alone_gives_the_same_model(vae, vae_file):
    loaded = load_vae(vae_file)
    assert loaded.config == TINY.vae
    assert not loaded.training
    for (name, expected), (other, read) in zip(
        vae.state_dict().items(), loaded.state_dict().items(), strict=True
    ):
        assert name == other
        assert torch.equal(expected, read), name


def test_generator_with_its_statistics(tmp_path):
    generator = Generator(TINY.generator)
    generator.normaliser.mean.fill_(0.1234567)
    path = tmp_path / "generator.safetensors"
    save_model(path, generator, kind="generator", preset=TINY, dtype=torch.float16)
    loaded = load_generator(path, preset=TINY)
    assert torch.equal(loaded.normaliser.mean, generator.normaliser.mean)
    for name, expected in generator.state_dict().items():
        read = loaded.state_dict()[name]
        assert read.dtype == expected.dtype
        assert torch.equal(read, expected.half().float() if expected.ndim >= 2 else expected), name


def test_header_says_what_it_is_and_its_version_follows_the_bytes(vae, vae_file):
    header = read_header(vae_file)
    assert (header.kind, header.preset, header.extra) == ("vae", TINY, {"steps": 7, "psnr": {"1": 25.5}})
    again = save_model(vae_file, vae, kind="vae", preset=TINY, extra=header.extra)
    assert again.version == header.version
    other = save_model(vae_file, vae, kind="vae", preset=TINY, extra={"steps": 8})
    assert len(other.version) == 12
    assert other.version != header.version


def test_half_precision_halves_the_file(tmp_path, vae, vae_file):
    half = tmp_path / "half.safetensors"
    save_model(half, vae, kind="vae", preset=TINY, dtype=torch.float16)
    assert half.stat().st_size < 0.55 * vae_file.stat().st_size


def test_a_failed_write_leaves_the_old_file_and_nothing_else(vae_file, vae):
    before = vae_file.read_bytes()
    with pytest.raises(TypeError):
        save_model(vae_file, vae, kind="vae", preset=TINY, extra={"not": object()})
    assert vae_file.read_bytes() == before
    assert [path.name for path in vae_file.parent.iterdir()] == ["vae.safetensors"]


def test_another_kind_or_preset_is_one_clear_line(vae_file, vae):
    with pytest.raises(ValueError, match="holds a model of kind 'vae', expected 'generator'"):
        load_generator(vae_file)
    with pytest.raises(
        ValueError,
        match="trained with preset 'tiny', whose vae configuration differs from that of preset 'small'",
    ):
        load_vae(vae_file, preset=presets.load("small"))
    # Another name or another training is no other model.
    load_vae(vae_file, preset=replace(TINY, name="mine"))
    with pytest.raises(ValueError, match="kind must be one of vae, generator, got 'student'"):
        save_model(vae_file, vae, kind="student", preset=TINY)


def test_files_that_are_no_models(tmp_path, vae_file):
    with pytest.raises(FileNotFoundError, match="no model file at"):
        read_header(tmp_path / "none.safetensors")
    text = tmp_path / "text.safetensors"
    text.write_text("hello, I am not a model")
    with pytest.raises(ValueError, match=r"text\.safetensors is not a safetensors file"):
        read_header(text)
    bare = tmp_path / "bare.safetensors"
    save_file({"x": torch.zeros(1)}, bare)
    with pytest.raises(ValueError, match="holds weights but no configuration"):
        read_header(bare)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(vae_file.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"cut\.safetensors is not a safetensors file"):
        load_vae(cut)


def test_weights_or_fields_of_another_release(tmp_path, vae):
    config = {"kind": "vae", "preset": {**json.loads(json.dumps(presets_dict())), "colour": 1}, "extra": {}}
    path = tmp_path / "new.safetensors"
    save_file({"x": torch.zeros(1)}, path, metadata={"portrait": json.dumps(config)})
    with pytest.raises(ValueError, match="does not fit this release: unknown field colour"):
        read_header(path)
    config["preset"].pop("colour")
    save_file({"x": torch.zeros(1)}, path, metadata={"portrait": json.dumps(config)})
    with pytest.raises(ValueError, match="its weights do not fit its configuration"):
        load_vae(path)


def presets_dict():
    from portrait.presets.serialization import to_dict

    return to_dict(TINY)
