"""`jobs.generate`: pictures and speech of any kind to an MP4, and one clear line for what doesn't fit.

Random weights: what is checked is the chain, its lengths and its errors, not what the video shows.
"""

from __future__ import annotations

import errno
import wave
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from jobs import generate
from jobs.generate import GenerateConfig
from portrait import presets
from portrait.generator import Generator
from portrait.media.audio import write_wav
from portrait.media.video import probe, read_video
from portrait.storage.checkpoints import read_header, save_model
from portrait.synthetic.clip import render_clip
from portrait.vae import VideoVAE

TINY = presets.load("tiny")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    vae = save_model(folder / "vae.safetensors", VideoVAE(TINY.vae), kind="vae", preset=TINY)
    extra = {"vae_version": vae.version}
    model = Generator(TINY.generator)
    save_model(folder / "generator.safetensors", model, kind="generator", preset=TINY, extra=extra)
    return folder


@pytest.fixture(scope="module")
def portrait(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "person.png"
    Image.fromarray(render_clip(3, 0.2, size=192).frames[0]).save(path)
    return path


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """0.85 s at 44.1 kHz in stereo: 21.25 frames."""
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    tone = np.sin(np.arange(round(0.85 * 44_100)) * 2 * np.pi * 200 / 44_100)
    samples = np.repeat((8_000 * tone).astype("<i2")[:, None], 2, axis=1)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(44_100)
        file.writeframes(samples.tobytes())
    return path


@pytest.fixture
def config(models, portrait, speech, tmp_path):
    return GenerateConfig(
        portrait=(portrait,),
        audio=speech,
        out=tmp_path / "new" / "out.mp4",
        vae=models / "vae.safetensors",
        generator=models / "generator.safetensors",
        steps=1,
        device="cpu",
    )


def test_video_is_as_long_as_the_speech_and_has_its_sound(config, capsys):
    generate.main(config)
    info = probe(config.out)
    assert (info.width, info.height, info.fps, info.num_frames) == (128, 128, 25, 22)
    assert info.codec == "h264"
    clip = read_video(config.out)
    assert clip.audio is not None
    assert len(clip.audio) == pytest.approx(22 * 640, abs=640)
    loud = np.sqrt(np.mean(clip.audio[3_200:9_600] ** 2))
    assert loud == pytest.approx(8_000 / 32_768 / np.sqrt(2), rel=0.1)
    output = capsys.readouterr()
    assert "22 frames" in output.out
    assert "real-time factor" in output.out
    assert "warning" not in output.err


def test_a_generator_of_another_vae_is_warned_about(config, models, tmp_path, capsys):
    other = tmp_path / "generator.safetensors"
    extra = {"vae_version": "0123456789ab"}
    save_model(other, Generator(TINY.generator), kind="generator", preset=TINY, extra=extra)
    generate.main(replace(config, generator=other))
    version = read_header(models / "vae.safetensors").version
    assert (
        "warning: the generator was trained on latents of VAE 0123456789ab, "
        f"but {config.vae} makes those of VAE {version}" in (capsys.readouterr().err)
    )


def test_models_of_different_presets_are_refused(config, tmp_path):
    other = tmp_path / "generator.safetensors"
    wider = replace(TINY, vae=replace(TINY.vae, residual_resampling=False))
    save_model(other, Generator(TINY.generator), kind="generator", preset=wider)
    with pytest.raises(ValueError, match="was trained for another VAE"):
        generate.main(replace(config, generator=other))
    assert not config.out.exists()


def test_a_model_of_the_other_kind_is_refused(config):
    with pytest.raises(ValueError, match="kind 'generator', expected 'vae'"):
        generate.main(replace(config, vae=config.generator))


@pytest.mark.parametrize("kind", ["text", "no face", "absent"])
def test_a_portrait_that_is_none_is_named(config, tmp_path, kind):
    path = tmp_path / "portrait.png"
    if kind == "text":
        path.write_text("no picture")
    elif kind == "no face":
        Image.fromarray(np.full((200, 200, 3), 128, np.uint8)).save(path)
    expected = FileNotFoundError if kind == "absent" else ValueError
    with pytest.raises(expected, match=r"portrait\.png"):
        generate.main(replace(config, portrait=(path,)))
    assert not config.out.exists()


def test_a_recording_that_is_too_long_is_refused(config):
    with pytest.raises(ValueError, match=r"speech\.wav.*at most 0.01 \(--max-minutes\)"):
        generate.main(replace(config, max_minutes=0.01))


@pytest.mark.parametrize(("level", "warned"), [(-55, True), (-40, False)])
def test_speech_too_quiet_to_be_levelled_is_warned_about(config, tmp_path, capsys, level, warned):
    path = tmp_path / "quiet.wav"
    tone = np.sin(np.arange(8_000) * 2 * np.pi * 200 / 16_000) * np.sqrt(2) * 10 ** (level / 20)
    write_wav(path, tone.astype(np.float32))
    generate.main(replace(config, audio=path))
    error = capsys.readouterr().err
    assert (f"quiet.wav is very quiet: its loudest moment is at {level} dB" in error) == warned


@pytest.mark.parametrize("kind", ["folder", "suffix", "under a file", "long name", "no permission"])
def test_a_video_that_cannot_be_written_is_refused_before_anything_runs(config, tmp_path, monkeypatch, kind):
    outs = {
        "folder": (tmp_path, "is a folder"),
        "suffix": (tmp_path / "out.webm", r"out\.webm: expected a name that ends in \.mp4"),
        "under a file": (config.audio / "out.mp4", "cannot write to .*speech.wav"),
        "long name": (tmp_path / f"{'x' * 251}.mp4", "cannot write to .*name too long"),
        "no permission": (tmp_path / "new" / "out.mp4", "cannot write to .*ermission denied"),
    }
    out, message = outs[kind]
    if kind == "no permission":  # tests may run as root, whom no permission stops

        def denied(*_args: object, **_how: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(generate.tempfile, "NamedTemporaryFile", denied)
    before = list(tmp_path.iterdir())
    with pytest.raises(ValueError, match=rf"(?i)--out .*{message}"):
        generate.main(replace(config, out=out, audio=tmp_path / "never read.wav"))
    assert list(tmp_path.iterdir()) == before


@pytest.mark.parametrize("count", [0, 4])
def test_another_number_of_images_is_refused(config, portrait, count):
    with pytest.raises(ValueError, match=f"--portrait: expected 1 to 3 image files, got {count}"):
        generate.main(replace(config, portrait=(portrait,) * count))


def test_an_empty_recording_is_refused(config, tmp_path):
    path = tmp_path / "empty.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
    with pytest.raises(ValueError, match=r"empty\.wav"):
        generate.main(replace(config, audio=path))


def test_an_unknown_preset_is_refused(config):
    with pytest.raises(ValueError, match="unknown preset 'huge'"):
        generate.main(replace(config, vae=None, generator=None, preset="huge"))
