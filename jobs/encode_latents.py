"""Encodes a clips table into a latents table: `python -m jobs.encode_latents --clips URI --vae FILE --latents URI`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jobs import command_line
from pipelines.latent_encoding import EncodingReport, encode_latents
from portrait import cluster
from portrait.storage.mixture import EVERY_SOURCE, SourceMix


@dataclass(frozen=True, kw_only=True)
class EncodeLatents:
    """Encodes every clip once, with the VAE and the speech encoder, to train the generator on.

    Clips that are in the latents table already are skipped: a run that was killed continues where it stopped.
    """

    output: Path = Path("runs/tiny")
    """Folder of the run; the paths below are in it by default."""
    clips: str | None = None
    """The clips table, a folder or URI, or a folder of shards; OUTPUT/clips.lance by default."""
    vae: Path | None = None
    """The VAE's file; OUTPUT/vae.safetensors by default."""
    latents: str | None = None
    """The latents table to write, a folder or URI; OUTPUT/latents.lance by default."""
    actors: int = 1
    """Encoders that run at the same time."""
    gpu: bool = False
    """Whether each encoder uses a GPU."""
    sources: SourceMix = EVERY_SOURCE
    """Which sources are encoded: sources of weight 0, or with a maximum size below the VAE's, are skipped."""


def main(config: EncodeLatents) -> EncodingReport:
    """Encodes and prints the result."""
    if config.actors < 1:
        raise ValueError(f"--actors must be at least 1, got {config.actors}")
    cluster.connect(config.actors)
    report = encode_latents(
        absolute(config.clips or str(config.output / "clips.lance")),
        str((config.vae or config.output / "vae.safetensors").absolute()),
        absolute(config.latents or str(config.output / "latents.lance")),
        actors=config.actors,
        gpu=config.gpu,
        threads=cluster.threads_per_worker(config.actors),
        mix=config.sources,
    )
    print(
        f"encoded {report.encoded} clips, skipped {report.skipped} that were in the table already; the table has "
        f"{report.table.num_rows} rows"
    )
    for clip_id, reason in report.failed.items():
        print(f"  failed: {clip_id}: {reason}")
    return report


def absolute(uri: str) -> str:
    """A folder's absolute path; a URI as it is."""
    return uri if "://" in uri else str(Path(uri).absolute())


if __name__ == "__main__":
    command_line.run(main, EncodeLatents)
