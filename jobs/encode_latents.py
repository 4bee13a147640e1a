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
    """Encodes every clip once, with the VAE and the speech encoder, for the generator to be trained on.

    Clips that are in the latents table already are skipped: a run that was killed goes on where it stopped.
    """

    output: Path = Path("runs/tiny")
    """Folder of the run, where the paths below are looked for by default."""
    clips: str | None = None
    """The clips table, a folder or URI, or a folder of shards; OUTPUT/clips.lance where not given."""
    vae: Path | None = None
    """The VAE's file; OUTPUT/vae.safetensors where not given."""
    latents: str | None = None
    """The latents table to write, a folder or URI; OUTPUT/latents.lance where not given."""
    actors: int = 1
    """Encoders that work at the same time."""
    gpu: bool = False
    """Whether each encoder takes a GPU."""
    sources: SourceMix = EVERY_SOURCE
    """Which sources are encoded: those of weight 0, or of a smaller largest size than the VAE's, are left out."""


def main(config: EncodeLatents) -> EncodingReport:
    """Encodes and prints what came of it."""
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
        f"encoded {report.encoded} clips, {report.skipped} were there; {report.table.num_rows} rows in the table"
    )
    for clip_id, reason in report.failed.items():
        print(f"  left out {clip_id}: {reason}")
    return report


def absolute(uri: str) -> str:
    """A folder's absolute path; a URI as it is."""
    return uri if "://" in uri else str(Path(uri).absolute())


if __name__ == "__main__":
    command_line.run(main, EncodeLatents)
