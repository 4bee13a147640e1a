"""The end of a run: one commit makes all clips visible at once; before it, everything that may fail is done."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import lance
from pyarrow import fs

from data_prep.cut_settings import CutSettings
from data_prep.plan import SETTINGS_KEY, Plan
from data_prep.rejects import Reject
from data_prep.report import Report
from data_prep.run_lock import RunInProgress
from data_prep.runs import CutFile, Task, rejected_line
from data_prep.target import GROWN, open_filesystem, writing
from portrait.storage import fragments
from portrait.storage.clips import CLIPS_SCHEMA, ClipTable


def commit_run(plan: Plan, settings: CutSettings, run: RunInProgress) -> Report:
    """Adds to the table what this run has cut and what earlier ones left uncommitted.

    Raises:
        ValueError: there is no clip and the table is empty or does not exist; nothing remains of the run then. Or the
            table cannot be written; it is unchanged then, or the message says otherwise.
    """
    # Only this run's own tasks beside those of the plan: workers of a killed run may live on for a moment and cut what
    # this run has cut again.
    tasks = [*plan.uncommitted, *run.runs.tasks(run.id)]
    rejects = _by_place([*((reject, None) for reject in plan.unreadable), *_rejects(tasks)])
    report = Report(
        files=plan.files,
        known=plan.known,
        duplicates=plan.duplicates,
        clips=tuple(clip for task in tasks for clip in task.clips),
        rejects=tuple(reject for reject, _ in rejects),
        rejects_path=run.runs.finished_path(run.id),
    )
    if not report.clips and (not fragments.exists(plan.uri) or not ClipTable.open(plan.uri).num_rows):
        _remove_all(plan.uri, run)
        raise ValueError(_nothing(report))
    with writing(report.rejects_path):
        _write_record(run, tasks, report, rejects)
    if report.clips:
        with writing(plan.uri):
            _commit(plan.uri, settings, tasks)
    with writing(plan.uri, GROWN):
        if tasks:  # written by workers that crashed or were killed
            fragments.remove_unreferenced(lance.dataset(plan.uri))
        _keep_someone_for_training(plan.uri, (*plan.unfinished, *tasks))
    run.finish()
    return report.with_table(ClipTable.open(plan.uri))


def _rejects(tasks: Iterable[Task]) -> list[tuple[Reject, CutFile | None]]:
    return [(reject, file) for task in tasks for file in task.files for reject in file.rejects]


def _by_place(
    rejects: Iterable[tuple[Reject, CutFile | None]],
) -> list[tuple[Reject, CutFile | None]]:
    return sorted(rejects, key=lambda pair: (pair[0].path, pair[0].start_s or 0.0))


def _write_record(
    run: RunInProgress,
    tasks: Sequence[Task],
    report: Report,
    rejects: Sequence[tuple[Reject, CutFile | None]],
) -> None:
    """Before the commit, so that a full disk cannot leave a table that has grown without a list of its rejects."""
    committed = {"files": report.files, "known": report.known, "clips": len(report.clips)}
    lines = [
        *(rejected_line(reject, file) for reject, file in rejects),
        *(rejected_line(duplicate) for duplicate in report.duplicates),
        *({"event": "crashed", "content": content} for task in tasks for content in task.crashes),
        {"event": "committed", **committed},
    ]
    run.runs.write_finished(run.started, lines)


def _commit(uri: str, settings: CutSettings, tasks: Sequence[Task]) -> None:
    schema = CLIPS_SCHEMA.with_metadata({SETTINGS_KEY: json.dumps(settings.stored())})
    fragments.commit(uri, schema, [fragment for task in tasks for fragment in task.fragments])


def _keep_someone_for_training(uri: str, tasks: Iterable[Task]) -> None:
    """Moves an identity to `train` if it is empty: splits are assigned before it is known whose footage gives clips.

    Only someone who is new with this run or an unfinished one, and whose split was drawn: everyone else keeps their
    split, and the test set of a collection may be a table of its own.
    """
    dataset = lance.dataset(uri)
    if dataset.count_rows("split = 'train'"):
        return
    written = {clip.clip_id: clip for task in tasks for clip in task.clips}
    rows = ClipTable.open(uri).rows(("clip_id", "identity"))
    settled = {row["identity"] for row in rows if row["clip_id"] not in written}
    settled |= {clip.identity for clip in written.values() if clip.fixed}
    present = [row["identity"] for row in rows if row["identity"] not in settled]
    if not present:
        return
    chosen = max(set(present), key=lambda identity: (present.count(identity), identity)).replace("'", "''")
    dataset.update({"split": "'train'"}, where=f"identity = '{chosen}'")


def _remove_all(uri: str, run: RunInProgress) -> None:
    run.runs.discard_unfinished()
    filesystem, path = open_filesystem(uri)
    if filesystem.get_file_info(path).type == fs.FileType.Directory and not fragments.exists(uri):
        filesystem.delete_dir(path)


def _nothing(report: Report) -> str:
    reasons = "; ".join(str(reject) for reject in report.rejects[:5])
    more = f"; and {len(report.rejects) - 5} more" if len(report.rejects) > 5 else ""
    return f"none of the {report.files} files gave a clip: {reasons}{more}"
