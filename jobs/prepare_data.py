"""Raw footage to the `clips` table: `python -m jobs.prepare_data --source FOLDER --clips URI --preset tiny`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from data_prep.cutting import CutSettings
from data_prep.pipeline import Survey, prepare, survey
from data_prep.report import Report
from data_prep.sources import Source, open_source
from data_prep.splits import Splits
from jobs import command_line
from portrait import cluster, presets


@dataclass(frozen=True, kw_only=True)
class PrepareData:
    """Turns videos of people talking into a table of portrait clips (25 frames/s, 16 kHz mono, at most 10 s).

    What cannot be used (damaged, no sound, no face) is left out and listed at the end. Running it again adds only what
    is new; a run that was killed goes on where it stopped.
    """

    source: str
    """Folder of videos, one video file, voxceleb2:FOLDER for VoxCeleb2's own layout (its test identities stay test), or
    synthetic:IDENTITIESxCLIPSxSECONDS[@FIRST] for embedded synthetic heads."""
    preset: str = "tiny"
    """Preset whose picture size and longest clip are used."""
    output: Path | None = None
    """Folder of the run; runs/PRESET where not given."""
    clips: str | None = None
    """The clips table to write, a folder or URI; OUTPUT/clips.lance where not given."""
    identity_pattern: str | None = None
    """Regular expression whose group names the person in a file's path below the folder. Without it the uppermost
    folder names the person, or the file's name where there are no folders."""
    identities: Path | None = None
    """CSV with the columns path (below the folder), identity, and split where it is fixed; other files are left out."""
    licence: str | None = None
    """Licence of the footage, kept with every clip."""
    splits: Splits = field(default_factory=Splits)
    """Shares of the identities held out."""
    min_clip_seconds: float = 1.0
    """Shorter footage is left out."""
    detector: str | None = None
    """ONNX file of a YuNet face detector; the embedded detector where not given."""
    dry_run: bool = False
    """Only says what would be done."""


def main(config: PrepareData) -> Report | Survey:
    """Prepares the data and prints the summary; with --dry-run, what it would do."""
    if not config.dry_run:
        return ingest(config)
    source, uri, settings = _settled(config)
    plan = survey(source, uri, settings, config.splits)
    print(plan.text())
    return plan


def ingest(config: PrepareData) -> Report:
    """Prepares the data and prints the summary."""
    source, uri, settings = _settled(config)
    report = prepare(source, uri, settings, config.splits)
    print(report.text())
    print(f"\nclips table: {uri} (version {report.table_version}, {report.table_rows} clips)")
    return report


def _settled(config: PrepareData) -> tuple[Source, str, CutSettings]:
    """Source, table and settings; Ray is connected."""
    preset = presets.load(config.preset)
    output = config.output or Path("runs") / preset.name
    settings = CutSettings(
        size=preset.video.size,
        max_clip_seconds=preset.video.max_clip_seconds,
        min_clip_seconds=config.min_clip_seconds,
        detector=config.detector,
    )
    source = open_source(
        config.source,
        render_folder=output / "synthetic",
        identity_pattern=config.identity_pattern,
        identities=config.identities,
        licence=config.licence,
    )
    cluster.connect()
    return source, config.clips or str(output / "clips.lance"), settings


if __name__ == "__main__":
    command_line.run(main, PrepareData)
