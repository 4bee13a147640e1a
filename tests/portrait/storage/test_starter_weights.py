from portrait import presets
from portrait.storage.checkpoints import read_header
from portrait.storage.starter_weights import starter_weights


def test_both_files_or_none(tmp_path):
    folder = tmp_path / "tiny"
    folder.mkdir()
    assert starter_weights("tiny", tmp_path) is None
    (folder / "vae.safetensors").touch()
    assert starter_weights("tiny", tmp_path) is None
    (folder / "generator.safetensors").touch()
    found = starter_weights("tiny", tmp_path)
    assert found is not None
    assert (found.vae, found.generator) == (folder / "vae.safetensors", folder / "generator.safetensors")


def test_what_ships_fits_its_preset_and_is_small():
    for name in presets.names():
        weights = starter_weights(name)
        if weights is None:
            continue
        for kind, path in (("vae", weights.vae), ("generator", weights.generator)):
            header = read_header(path)
            assert header.kind == kind
            assert getattr(header.preset, kind) == getattr(presets.load(name), kind)
        assert weights.vae.stat().st_size + weights.generator.stat().st_size <= 20 * 1024**2
