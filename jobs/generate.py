"""Makes a video from portrait pictures and recorded speech: the three stream stages in one process.

python -m jobs.generate --portrait face.png --audio speech.wav --out portrait.mp4
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from jobs.command_line import run
from portrait import presets
from portrait.faces import crop_portrait
from portrait.generator import SamplingConfig
from portrait.media.audio import read_audio
from portrait.media.image_file import read_image_file
from portrait.media.mp4 import write_mp4
from portrait.speech import build_speech_encoder
from portrait.speech.levelling import QUIETEST_SPEECH_DB, loudest_frame_db
from portrait.storage.checkpoints import ModelHeader, load_generator, load_vae, read_header
from portrait.storage.starter_weights import starter_weights
from portrait.streaming import MAX_PICTURES, PortraitPipeline, StreamedBlock, prepare_portrait
from portrait.timing import FRAME_RATE, SAMPLE_RATE, SAMPLES_PER_FRAME, frames_of_samples


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """Makes a talking portrait: one to three image files and speech in, an MP4 (H.264 + AAC, 25 frames/s) out."""

    portrait: tuple[Path, ...]
    """Image files of the person, one to three; cropped to head and shoulders automatically."""
    audio: Path
    """Any file with sound; converted to 16 kHz mono."""
    out: Path = Path("portrait.mp4")
    """The video to write, a name in .mp4; an existing file is replaced."""
    vae: Path | None = None
    """VAE weights (.safetensors); the starter weights by default."""
    generator: Path | None = None
    """Generator weights (.safetensors); the starter weights by default."""
    preset: str = "tiny"
    """Preset whose starter weights to use; ignored if both files are given."""
    seed: int = 0
    """Seed of the noise: the same seed gives the same video."""
    steps: int | None = None
    """Euler steps; the generator's own by default."""
    audio_guidance: float | None = None
    """λ_a, guidance scale of the speech; the generator's own by default."""
    reference_guidance: float | None = None
    """λ_r, guidance scale of the references; the generator's own by default."""
    window: Literal["restart", "rolling"] | None = None
    """After a full window of 32 latents: restart with the last block as context, or drop the oldest block (rolling);
    the generator's own by default."""
    device: str = "auto"
    """cpu, cuda, or auto: cuda if available."""
    max_minutes: float = 60.0
    """Longest recording that is accepted."""


def main(config: GenerateConfig) -> None:
    """Generates the video and prints how fast.

    Raises:
        FileNotFoundError: an image file, the recording or a model is missing.
        ValueError: one of them is invalid, the models do not belong together, or the video cannot be written.
    """
    _check_out(config.out)
    if not 1 <= len(config.portrait) <= MAX_PICTURES:
        raise ValueError(f"--portrait: expected 1 to {MAX_PICTURES} image files, got {len(config.portrait)}")
    audio = _read_speech(config)
    pipeline, vae_header = _load_pipeline(config)
    size = vae_header.preset.video.size
    pictures = [crop_portrait(read_image_file(path), size, name=str(path)) for path in config.portrait]
    vae = pipeline.decoder.vae
    portrait = prepare_portrait(vae, pictures, vae_version=vae_header.version, size=size)

    frames = frames_of_samples(len(audio))
    padded = np.zeros(frames * SAMPLES_PER_FRAME, np.float32)
    padded[: len(audio)] = audio
    config.out.parent.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    blocks = pipeline.stream(portrait, audio, seed=config.seed)
    write_mp4(config.out, _frames(blocks, frames), padded, SAMPLE_RATE)
    elapsed = time.perf_counter() - began
    seconds = frames / FRAME_RATE
    print(
        f"{config.out}: {frames} frames, {seconds:.2f} s of video in {elapsed:.1f} s, "
        f"real-time factor {elapsed / seconds:.2f} ({frames / elapsed:.1f} frames/s)"
    )


def _check_out(out: Path) -> None:
    """Refuses before any work what could not be written after it.

    Raises:
        ValueError: another suffix than .mp4, a folder, or a place that cannot be written to.
    """
    if out.is_dir():
        raise ValueError(f"--out {out}: is a folder, expected a file name in .mp4")
    if out.suffix.lower() != ".mp4":
        raise ValueError(f"--out {out}: expected a name that ends in .mp4, the only format that is written")
    folder = out.absolute().parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        # A file as the writer makes it: permissions alone don't reveal read-only disks and names that are too long.
        with tempfile.NamedTemporaryFile(dir=folder, prefix=f".{out.name}.", suffix=".tmp"):
            pass
    except OSError as error:
        raise ValueError(f"--out {out}: cannot write to {folder} ({error.strerror})") from error


def _read_speech(config: GenerateConfig) -> NDArray[np.float32]:
    audio = read_audio(config.audio)
    minutes = len(audio) / SAMPLE_RATE / 60
    if minutes > config.max_minutes:
        raise ValueError(
            f"{config.audio}: {minutes:.0f} minutes of audio, expected at most {config.max_minutes:g} (--max-minutes)"
        )
    loudest = loudest_frame_db(audio)
    if loudest < QUIETEST_SPEECH_DB:
        print(
            f"warning: {config.audio} is very quiet: its loudest moment is at {loudest:.0f} dB, expected at least "
            f"{QUIETEST_SPEECH_DB:.0f} dB for speech; the mouth may hardly move",
            file=sys.stderr,
        )
    return audio


def _frames(blocks: Iterable[StreamedBlock], total: int) -> Iterator[NDArray[np.uint8]]:
    """The frames one by one, with a progress line, so that a long video is never in memory as a whole."""
    with tqdm(total=total, unit="frame", desc="generating", file=sys.stderr) as progress:
        for block in blocks:
            yield from block.frames
            progress.update(len(block.frames))


def _load_pipeline(config: GenerateConfig) -> tuple[PortraitPipeline, ModelHeader]:
    vae_path, generator_path = _weights(config)
    vae_header, header = read_header(vae_path), read_header(generator_path)
    vae, generator = load_vae(vae_path), load_generator(generator_path)
    if header.preset.vae != vae_header.preset.vae or header.preset.video != vae_header.preset.video:
        raise ValueError(
            f"{generator_path} (preset {header.preset.name!r}) was trained for another VAE than {vae_path} "
            f"(preset {vae_header.preset.name!r})"
        )
    trained_on = header.extra.get("vae_version")
    if trained_on != vae_header.latents_version:
        print(
            f"warning: the generator was trained on latents of VAE {trained_on or '(not recorded)'}, "
            f"but {vae_path} makes those of VAE {vae_header.latents_version}: the video may look wrong",
            file=sys.stderr,
        )
    device = config.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    pipeline = PortraitPipeline(
        build_speech_encoder(header.preset.speech, device=device),
        generator.to(device),
        vae.to(device),
        _sampling(config, header.preset.sampling),
        # At least the streaming application's room: then the same seed gives the same video in both.
    )
    return pipeline, vae_header


def _weights(config: GenerateConfig) -> tuple[Path, Path]:
    """The VAE's and the generator's file: those given, or the starter weights."""
    if config.vae is not None and config.generator is not None:
        return config.vae, config.generator
    presets.load(config.preset)  # an unknown preset is another error than one without starter weights
    starter = starter_weights(config.preset)
    if starter is None:
        raise ValueError(f"preset {config.preset!r} has no starter weights: give --vae and --generator")
    return config.vae or starter.vae, config.generator or starter.generator


def _sampling(config: GenerateConfig, default: SamplingConfig) -> SamplingConfig:
    overrides = {
        name: value
        for name in ("steps", "audio_guidance", "reference_guidance", "window")
        if (value := getattr(config, name)) is not None
    }
    return replace(default, **overrides)


if __name__ == "__main__":
    run(main, GenerateConfig)
