"""Raw footage to the `clips` table: `python -m jobs.prepare_data --source FOLDER --clips URI --preset tiny`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from data_prep.cut_settings import CutSettings
from data_prep.filters import Filters
from data_prep.pipeline import prepare
from data_prep.plan import Plan, make_plan
from data_prep.report import Report
from data_prep.report_page import page
from data_prep.sources import open_source
from data_prep.sources.footage import Source
from data_prep.sources.photos import PhotoSettings
from data_prep.splits import Splits
from data_prep.target import GROWN, open_filesystem, write_text, writing
from jobs import command_line
from portrait import cluster, presets, tracking
from portrait.storage.clips import ClipTable


@dataclass(frozen=True, kw_only=True)
class PrepareData:
    """Turns videos of people talking into a table of portrait clips (25 frames/s, 16 kHz mono, at most 10 s).

    Footage that cannot be used (damaged, no sound, no face) is rejected and listed at the end. Running it again adds
    only new footage; a run that was killed is resumed where it stopped.
    """

    source: str
    """Folder of videos, one video file, voxceleb2:FOLDER for VoxCeleb2's own layout (its test identities stay test),
    hdtf:FOLDER for HDTF's annotations and videos, webdataset:SHARDS for tar files (a folder, a file, or paths and
    addresses with braces), synthetic:IDENTITIESxCLIPSxSECONDS[@FIRST] for embedded synthetic heads, or photos:FOLDER
    for talking heads made of the photographs in a folder."""
    preset: str = "tiny"
    """Preset that sets the frame size and the length of the longest clip."""
    output: Path | None = None
    """Folder of the run; defaults to runs/PRESET."""
    clips: str | None = None
    """The clips table to write, a folder or URI; defaults to OUTPUT/clips.lance."""
    identity_pattern: str | None = None
    """Regular expression with a group that captures the identity from a file's path below the folder, or from its name
    in a shard. By default the identity is the top-level folder, or the file name if there are no folders."""
    identities: Path | None = None
    """CSV with the columns path (relative to the folder), identity and optionally split; other files are skipped."""
    licence: str | None = None
    """Licence of the footage, stored with every clip."""
    photos: PhotoSettings = field(default_factory=PhotoSettings)
    """How photographs become talking heads."""
    splits: Splits = field(default_factory=Splits)
    """Shares of the identities that are held out."""
    min_clip_seconds: float = 1.0
    """Shorter footage is rejected."""
    framing: Literal["portrait", "head"] = "portrait"
    """What clips show: head and shoulders, or the head only."""
    shot_threshold: float | None = 3.0
    """A shot starts at a frame that changes this many times as much as the frames around it; None disables shot
    detection."""
    detector: str | None = None
    """ONNX file of a YuNet face detector; the embedded detector by default."""
    syncnet: str | None = None
    """SyncNet weights (syncnet_v2.model) to measure the sync confidence and offset of every clip. Without them both are
    known only for VoxCeleb2 with its face tracks."""
    align_sound: bool = False
    """Whether to shift the sound by the measured offset so that it matches the lips; requires
    --filters.min-sync-confidence (3 is usual) and --filters.max-sync-offset (6 is usual)."""
    filters: Filters = field(default_factory=Filters)
    """Quality thresholds for clips."""
    dry_run: bool = False
    """Print what would be done, and write nothing."""


def main(config: PrepareData) -> Report | Plan:
    """Prepares the data and prints a summary; with --dry-run it only prints the plan."""
    if not config.dry_run:
        return ingest(config)
    source, uri, settings = _resolve(config)
    plan = make_plan(source, uri, settings, config.splits)
    print(plan.text())
    return plan


def ingest(config: PrepareData) -> Report:
    """Prepares the data, prints a summary and publishes the report."""
    source, uri, settings = _resolve(config)
    report = prepare(source, uri, settings, config.splits)
    print(report.text())
    print(f"\nclips table: {uri} (version {report.table_version}, {report.table_rows} clips)")
    publish(config, uri, settings, report)
    return report


def publish(config: PrepareData, uri: str, settings: CutSettings, report: Report) -> None:
    """Writes the report page beside the table, and logs it and the run's counts to MLflow."""
    path = f"{uri.rstrip('/')}.report.html"
    text = page(report, ClipTable.open(uri), settings.filters)
    filesystem, place = open_filesystem(path)
    with writing(path, GROWN):
        write_text(filesystem, place, text)
    params = {"source": config.source, "clips": uri, "cut_settings": settings.stored()}
    run = tracking.start_run("portrait", "prepare_data", params, output=_output(config))
    counts = {
        "files": report.files,
        "known": report.known,
        "duplicates": len(report.duplicates),
        "rejects": len(report.rejects),
        "clips_added": len(report.clips),
        "table_clips": report.table_rows,
    }
    run.log_metrics({f"data/{name}": float(value) for name, value in counts.items()}, report.table_version)
    run.log_text(text, "report.html")
    run.finish()
    print(f"report: {path}")


def _output(config: PrepareData) -> Path:
    return config.output or Path("runs") / config.preset


def _resolve(config: PrepareData) -> tuple[Source, str, CutSettings]:
    """The source, the URI of the table and the cut settings; also connects to Ray."""
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
