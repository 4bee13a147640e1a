"""Raw footage to the `clips` table: `python -m jobs.prepare_data --source FOLDER --clips URI --preset tiny`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from data_prep.cut_settings import CutSettings
from data_prep.filters import Filters
from data_prep.ledger import open_filesystem, write_text
from data_prep.pipeline import Survey, prepare, survey
from data_prep.report import Report
from data_prep.report_page import page
from data_prep.sources import PhotoSettings, Source, open_source
from data_prep.splits import Splits
from data_prep.target import GROWN, writing
from jobs import command_line
from portrait import cluster, presets, tracking
from portrait.storage.clips import ClipTable


@dataclass(frozen=True, kw_only=True)
class PrepareData:
    """Turns videos of people talking into a table of portrait clips (25 frames/s, 16 kHz mono, at most 10 s).

    What cannot be used (damaged, no sound, no face) is left out and listed at the end. Running it again adds only what
    is new; a run that was killed goes on where it stopped.
    """

    source: str
    """Folder of videos, one video file, voxceleb2:FOLDER for VoxCeleb2's own layout (its test identities stay test),
    hdtf:FOLDER for HDTF's annotations and videos, webdataset:SHARDS for tar files (a folder, a file, or paths and
    addresses with braces), synthetic:IDENTITIESxCLIPSxSECONDS[@FIRST] for embedded synthetic heads, or photos:FOLDER
    for talking heads made of the photographs in a folder."""
    preset: str = "tiny"
    """Preset whose picture size and longest clip are used."""
    output: Path | None = None
    """Folder of the run; runs/PRESET where not given."""
    clips: str | None = None
    """The clips table to write, a folder or URI; OUTPUT/clips.lance where not given."""
    identity_pattern: str | None = None
    """Regular expression whose group names the person in a file's path below the folder, or in its name in a shard.
    Without it the uppermost folder names the person, or the file's name where there are no folders."""
    identities: Path | None = None
    """CSV with the columns path (below the folder), identity, and split where it is fixed; other files are left out."""
    licence: str | None = None
    """Licence of the footage, kept with every clip."""
    photos: PhotoSettings = field(default_factory=PhotoSettings)
    """How photographs become talking heads."""
    splits: Splits = field(default_factory=Splits)
    """Shares of the identities held out."""
    min_clip_seconds: float = 1.0
    """Shorter footage is left out."""
    framing: Literal["portrait", "head"] = "portrait"
    """What clips show: head and shoulders, or the head alone."""
    shot_threshold: float | None = 3.0
    """A shot begins where a frame changes so many times as much as those around it; None looks for none."""
    detector: str | None = None
    """ONNX file of a YuNet face detector; the embedded detector where not given."""
    syncnet: str | None = None
    """SyncNet's weights (syncnet_v2.model), which measure every clip's sync confidence and offset. Without them only
    what VoxCeleb2's face tracks say is known."""
    align_sound: bool = False
    """Whether the sound is moved by the offset of the lips; needs --filters.min-sync-confidence (3 is usual) and
    --filters.max-sync-offset (6 is usual)."""
    filters: Filters = field(default_factory=Filters)
    """Which clips are good enough."""
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
    publish(config, uri, settings, report)
    return report


def publish(config: PrepareData, uri: str, settings: CutSettings, report: Report) -> None:
    """The page beside the table and in MLflow, with the figures."""
    path = f"{uri.rstrip('/')}.report.html"
    text = page(report, ClipTable.open(uri), settings.filters)
    filesystem, place = open_filesystem(path)
    with writing(path, GROWN):
        write_text(filesystem, place, text)
    params = {"source": config.source, "clips": uri, "cut_settings": settings.stored()}
    run = tracking.start_run("portrait", "prepare_data", params, output=_output(config))
    figures = {
        "files": report.files,
        "known": report.known,
        "duplicates": len(report.duplicates),
        "left_out": len(report.rejects),
        "clips_added": len(report.clips),
        "table_clips": report.table_rows,
    }
    run.log_metrics({f"data/{name}": float(value) for name, value in figures.items()}, report.table_version)
    run.log_text(text, "report.html")
    run.finish()
    print(f"report: {path}")


def _output(config: PrepareData) -> Path:
    return config.output or Path("runs") / config.preset


def _settled(config: PrepareData) -> tuple[Source, str, CutSettings]:
    """Source, table and settings; Ray is connected."""
    preset = presets.load(config.preset)
    settings = CutSettings(
        size=preset.video.size,
        max_clip_seconds=preset.video.max_clip_seconds,
        min_clip_seconds=config.min_clip_seconds,
        framing=config.framing,
        shot_threshold=config.shot_threshold,
        detector=config.detector,
        syncnet=config.syncnet,
        align_sound=config.align_sound,
        filters=config.filters,
    )
    source = open_source(
        config.source,
        render_folder=_output(config) / "synthetic",
        identity_pattern=config.identity_pattern,
        identities=config.identities,
        licence=config.licence,
        photos=config.photos,
    )
    cluster.connect()
    return source, config.clips or str(_output(config) / "clips.lance"), settings


if __name__ == "__main__":
    command_line.run(main, PrepareData)
