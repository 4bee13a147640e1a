"""Clips to the `latents` table: every clip is encoded once, by Ray Data actors.

Of a clip's latents only the first encodes a single frame. So K frames spread over the clip are also encoded as
pictures: the generator's references. Clips that are in the table already are skipped, so that a killed run can
be continued.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray.data
import torch
from tqdm import tqdm

from pipelines.reconstruction import encode_in_blocks, picture_at
from portrait.media.audio import decode_flac
from portrait.media.random_access import decode_window
from portrait.media.tensors import frames_to_tensor
from portrait.presets import Preset
from portrait.speech import build_speech_encoder
from portrait.storage import checkpoints, fragments
from portrait.storage.clip_collections import open_clips
from portrait.storage.latents import LatentRow, LatentTable
from portrait.storage.mixture import EVERY_SOURCE, SourceMix
from portrait.timing import whole_latent_frames

REFERENCE_PICTURES = 8
"""K, frames of a clip that are also encoded as pictures."""
_ROWS_PER_COMMIT = 128


@dataclass(frozen=True, kw_only=True)
class EncodingReport:
    """Result of an encoding run."""

    encoded: int
    """Number of clips added to the table."""
    skipped: int
    """Number of clips that were in the table already."""
    failed: dict[str, str]
    """Ids of clips that could not be encoded, and why."""
    table: LatentTable
    """The table after the run."""


@dataclass(frozen=True, kw_only=True)
class EncoderSettings:
    """Settings of an encoding actor."""

    clips: str
    """URI of the clips table."""
    clips_version: int
    """Version of the clips table."""
    vae_file: str
    """Path of the VAE's file."""
    preset: Preset
    """The VAE file's preset: picture size and speech encoder."""
    device: str
    """`cpu` or `cuda`."""
    threads: int
    """Compute threads on the CPU."""


class EncodeClips:
    """Ray Data actor: row indices of the clips table to pickled `LatentRow`s."""

    def __init__(self, settings: EncoderSettings) -> None:
        if settings.device == "cpu":
            torch.set_num_threads(settings.threads)
        self.table = open_clips(settings.clips, settings.clips_version)
        self.rows = self.table.rows(("clip_id", "identity", "split", "num_frames", "source"))
        self.size = settings.preset.video.size
        self.vae = checkpoints.load_vae(settings.vae_file, preset=settings.preset).to(settings.device)
        self.vae_version = checkpoints.read_header(settings.vae_file).latents_version
        self.speech = build_speech_encoder(settings.preset.speech, device=settings.device)
        self.device = settings.device

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        encoded: dict[str, list[Any]] = {"clip_id": [], "row": [], "error": []}
        for index in batch["item"]:
            clip_id = self.rows[int(index)]["clip_id"]
            row, error = b"", ""
            try:
                row = pickle.dumps(self.encode(int(index)))
            except (ValueError, OSError) as problem:  # a damaged clip does not stop the others
                error = " ".join(str(problem).split()) or type(problem).__name__
            for name, value in (("clip_id", clip_id), ("row", row), ("error", error)):
                encoded[name].append(value)
        return encoded

    @torch.no_grad()
    def encode(self, index: int) -> LatentRow:
        """Encodes one clip of the table."""
        row = self.rows[index]
        video, audio = self.table.read_media([index])[0]
        length = whole_latent_frames(int(row["num_frames"]))
        frames = decode_window(video, range(length))
        frames = np.stack([picture_at(frame, self.size) for frame in frames])
        video_1CTHW = frames_to_tensor(frames).unsqueeze(0).to(self.device)
        posterior = encode_in_blocks(self.vae, video_1CTHW)
        numbers = sorted({int(i) for i in np.linspace(0, length - 1, REFERENCE_PICTURES).round()})
        pictures = self.vae.encode(video_1CTHW[0, :, numbers].transpose(0, 1).unsqueeze(2))
        return LatentRow(
            clip_id=row["clip_id"],
            identity=row["identity"],
            split=row["split"],
            vae_version=self.vae_version,
            num_frames=length,
            mean=posterior.mean[0].float().cpu(),
            variance=posterior.log_variance[0].float().exp().cpu(),
            reference_latents=pictures.mean[:, :, 0].float().cpu(),
            reference_frames=tuple(numbers),
            speech=torch.from_numpy(self.speech.features(decode_flac(audio), length)),
            speech_encoder=self.speech.id,
            look_ahead_samples=self.speech.look_ahead_samples,
            source=row["source"],
        )


def encode_latents(
    clips: str,
    vae_file: str,
    latents: str,
    *,
    actors: int = 1,
    gpu: bool = False,
    threads: int = 1,
    mix: SourceMix = EVERY_SOURCE,
) -> EncodingReport:
    """Encodes the clips of a table that are not in the latents table yet.

    Args:
        clips: URI of the clips table.
        vae_file: the VAE, whose preset also gives the speech encoder and the picture size.
        latents: URI of the latents table, created if missing.
        actors: number of encoders that run at the same time.
        gpu: whether each uses a GPU.
        threads: compute threads of each on the CPU.
        mix: which sources may be used at the VAE's picture size.

    Raises:
        FileNotFoundError: the clips table or the VAE is missing.
        ValueError: the latents table is of another VAE or speech encoder, or no clip could be encoded.
    """
    header = checkpoints.read_header(vae_file)
    if header.kind != "vae":
        raise ValueError(f"{vae_file} holds a model of kind {header.kind!r}, expected 'vae'")
    table = open_clips(clips)
    done = _clips_done(latents, vae_file, header)
    rows = table.rows(("clip_id", "source"))
    mix.check([row["source"] for row in rows], clips)
    todo = [
        index
        for index, row in enumerate(rows)
        if row["clip_id"] not in done and mix.allows(row["source"], header.preset.video.size)
    ]
    settings = EncoderSettings(
        clips=clips,
        clips_version=table.version,
        vae_file=vae_file,
        preset=header.preset,
        device="cuda" if gpu else "cpu",
        threads=threads,
    )
    failed: dict[str, str] = {}
    encoded = 0
    for portion in _encoded(todo, settings, actors, failed):
        LatentTable.append(latents, portion)
        encoded += len(portion)
    if not encoded and not done:
        reasons = "; ".join(f"{clip}: {reason}" for clip, reason in list(failed.items())[:3])
        raise ValueError(f"{clips}: no clip could be encoded ({reasons or 'the table is empty'})")
    return EncodingReport(encoded=encoded, skipped=len(done), failed=failed, table=LatentTable.open(latents))


def _clips_done(latents: str, vae_file: str, header: checkpoints.ModelHeader) -> set[str]:
    """Ids of the clips that the latents table has; refuses a table of another VAE or kind of speech features."""
    if not fragments.exists(latents):
        return set()
    table = LatentTable.open(latents)
    encoded_by, speech, _ = table.makers()
    if encoded_by != header.latents_version:
        raise ValueError(
            f"{latents} holds latents of VAE {encoded_by}, but {vae_file} makes those of {header.latents_version}: "
            "write to another table"
        )
    levelled = header.preset.speech.levelled
    if speech.endswith("/levelled") != levelled:
        raise ValueError(
            f"{latents} holds speech features of {speech}, but speech.levelled is {levelled} in {vae_file}: "
            "write to another table"
        )
    return table.clip_ids()


def _encoded(
    todo: list[int], settings: EncoderSettings, actors: int, failed: dict[str, str]
) -> Iterator[list[LatentRow]]:
    """Yields encoded rows in batches of one commit each; adds clips that fail to `failed`."""
    if not todo:
        return
    ray.data.DataContext.get_current().enable_progress_bars = False  # they count Ray Data's blocks
    dataset = ray.data.from_items(todo, override_num_blocks=max(1, min(len(todo), 4 * actors))).map_batches(
        EncodeClips,
        fn_constructor_args=(settings,),
        batch_size=4,
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_gpus=1 if settings.device == "cuda" else None,
    )
    portion: list[LatentRow] = []
    for entry in tqdm(dataset.iter_rows(), "encoding clips", len(todo), unit="clip", mininterval=2.0):
        if entry["error"]:
            failed[entry["clip_id"]] = entry["error"]
            continue
        portion.append(pickle.loads(entry["row"]))  # noqa: S301 - pickled by our own actors
        if len(portion) == _ROWS_PER_COMMIT:
            yield portion
            portion = []
    if portion:
        yield portion
