"""The pipeline: footage → Ray Data tasks that cut and write fragments → one commit to the `clips` table.

Order of work: hash every file; leave out what the table or an unfinished run has; cut the rest in shards, each of
which writes its fragments and then its record to the ledger; commit all records at once. Nothing is visible before
that, and a run that was killed goes on from its ledger. A clip's id is a hash of content and settings, so no clip is
there twice.
"""

from __future__ import annotations

import hashlib
import json
import logging
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import lance
import ray
import ray.data
from pyarrow import fs

from data_prep.cut_settings import CutSettings
from data_prep.cutting import cut_file, load_networks
from data_prep.deaths import MAX_DEATHS, Watch
from data_prep.hashing import footage_of, hash_files
from data_prep.ledger import ClipSummary, Ledger, Record, open_filesystem, write_text
from data_prep.left_out import LeftOut
from data_prep.progress import ProgressLine
from data_prep.rejects import Reject
from data_prep.report import SHOWN_REJECTS, Report
from data_prep.sources import Footage, Source
from data_prep.splits import Splits, assign
from data_prep.table_lock import exclusive
from data_prep.target import GROWN, cannot_write, check_place, writing
from portrait.storage import fragments
from portrait.storage.clips import CLIPS_SCHEMA, SPLITS, ClipTable, upgrade_columns, write_clips

SETTINGS_KEY = "cut_settings"
"""Key of the table's schema metadata that holds the settings its clips were cut with."""
FILES_PER_SHARD = 64
"""Most files of one task: what a killed run may have to do again per worker."""


@dataclass(frozen=True, kw_only=True)
class _Known:
    """What is there before the run."""

    contents: dict[str, str]
    """Content hashes in the table and their paths."""
    splits: dict[str, str]
    """Split of each identity."""


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What a run would do."""

    uri: str
    """The table."""
    files: int
    """Files of the source."""
    known: int
    """Those that the table or a killed run has already."""
    duplicates: tuple[Reject, ...]
    """Those that repeat another one of the source, and which."""
    unreadable: tuple[Reject, ...]
    """Those that cannot be read."""
    todo: tuple[tuple[Footage, str], ...]
    """Those to be cut, with their content's hash."""
    splits: dict[str, str]
    """Split of each identity."""
    new: frozenset[str]
    """New people."""
    earlier: tuple[Record, ...]
    """What a killed run has done."""

    def text(self) -> str:
        """For the terminal."""
        people = Counter(self.splits[identity] for identity in self.new)
        size = sum(file.bytes_on_disk() for file, _ in self.todo)
        waiting = sum(len(record.clips) for record in self.earlier)
        lines = [
            f"{self.files} files: {self.known} known before, {len(self.duplicates)} repeated, "
            f"{len(self.unreadable)} unreadable, {len(self.todo)} to be cut ({size / 1e9:.2f} GB)",
            "new people: "
            + (", ".join(f"{people[split]} in {split}" for split in SPLITS if people[split]) or "none"),
        ]
        if waiting:
            lines.append(f"{waiting} clips of a run that was killed would be added as they are")
        lines += [f"  {reject}" for reject in (*self.unreadable, *self.duplicates)[:SHOWN_REJECTS]]
        return "\n".join([*lines, f"nothing was written; the table would be {self.uri}"])


def survey(source: Source, uri: str, settings: CutSettings, splits: Splits) -> Survey:
    """Looks at a source and a table, and writes nothing (footage that is rendered is rendered). Ray must be connected.

    Raises:
        FileNotFoundError: the source is not there, or a network that the settings name.
        ValueError: the source is empty or malformed, or puts someone into another split than the table, or the table's
            clips were cut with other settings, or a network is none.
    """
    load_networks(settings)
    fragments.check_target(uri)
    _quieten_ray_data()
    known = _read_table(uri, settings)
    # A record whose clips are in the table is left from a run that was killed between its commit and its end.
    records = Ledger(uri, settings.digest()).records()
    earlier = [record for record in records if not known.contents.keys() & _ingested(record)]
    files = source.files()
    hashed, rejects = hash_files(files, known.contents.keys())
    done = known.contents.keys() | {content for record in earlier for content in record.done}
    done |= LeftOut(uri, settings.digest()).contents()
    todo, duplicates = _unseen(hashed, done)
    in_ledger = {clip.identity: clip.split for record in earlier for clip in record.clips}
    fixed = _fixed_splits(files)
    before = {**in_ledger, **known.splits}
    _check_splits(fixed, before)
    people = {file.identity for file, _ in todo}
    never_test = {file.identity for file in files if not file.may_test}
    assigned = assign(people, splits, {**fixed, **before}, never_test)
    return Survey(
        uri=uri,
        files=len(files),
        known=len(hashed) - len(todo) - len(duplicates),
        duplicates=tuple(duplicates),
        unreadable=tuple(rejects),
        todo=tuple(todo),
        splits=assigned,
        new=frozenset(people - before.keys()),
        earlier=tuple(earlier),
    )


def _fixed_splits(files: Sequence[Footage]) -> dict[str, str]:
    """Splits that the source puts people into."""
    fixed: dict[str, str] = {}
    for file in files:
        if file.split is not None and fixed.setdefault(file.identity, file.split) != file.split:
            raise ValueError(
                f"{file.identity} is in splits {fixed[file.identity]} and {file.split} of the source: a person "
                "belongs into one"
            )
    return fixed


def _check_splits(fixed: dict[str, str], before: dict[str, str]) -> None:
    for identity in sorted(fixed.keys() & before.keys()):
        if fixed[identity] != before[identity]:
            raise ValueError(
                f"{identity} is in split {before[identity]} of the table, the source says {fixed[identity]}: who was "
                "trained on can't become a test; give another table"
            )


def prepare(source: Source, uri: str, settings: CutSettings, splits: Splits) -> Report:
    """Adds a source's footage to a clips table, which is made where it is missing. Ray must be connected.

    Raises:
        FileNotFoundError: as `survey`.
        ValueError: as `survey`, or nothing could be ingested and nothing was there before, or the table cannot be
            written. It is then as it was before, and another run goes on from what was done. Or another run is writing
            the table.
    """
    check_place(uri)
    with exclusive(uri):
        return _prepare(source, uri, settings, splits)


def _prepare(source: Source, uri: str, settings: CutSettings, splits: Splits) -> Report:
    plan = survey(source, uri, settings, splits)
    run = uuid.uuid4().hex
    ledger = Ledger(uri, settings.digest())
    with writing(uri):
        if plan.todo and fragments.exists(uri):
            upgrade_columns(uri)
        unfinished = ledger.begin()
    _cut(plan.todo, plan.splits, partial(_cut_shard, uri=uri, settings=settings, ledger=ledger, run=run))
    # Not whatever else is there: tasks of a killed run may live on for a moment and write what this run did again.
    records = list(plan.earlier) + [record for record in ledger.records() if record.run == run]
    rejects = list(plan.unreadable) + [reject for record in records for reject in record.rejects]
    report = Report(
        files=plan.files,
        known=plan.known,
        duplicates=plan.duplicates,
        clips=tuple(clip for record in records for clip in record.clips),
        rejects=tuple(sorted(rejects, key=lambda reject: (reject.path, reject.start_s or 0.0))),
        rejects_path=f"{uri.rstrip('/')}.rejects.jsonl",
    )
    if not report.clips and (not fragments.exists(uri) or not ClipTable.open(uri).num_rows):
        _remove_uncommitted(uri, ledger)
        raise ValueError(_nothing(report))
    # Before the commit: a disk that is too full for the list must not leave a table that has grown without one.
    with writing(report.rejects_path):
        _write_rejects(report)
    if report.clips:
        with writing(uri):
            _commit(uri, settings, records)
    with writing(uri, GROWN):
        if unfinished or any(record.died for record in records):
            fragments.remove_unreferenced(lance.dataset(uri))
        _keep_someone_for_training(uri, ledger)
        with_clips = _read_table(uri, settings).contents.keys()
        gave_none = {content for record in records for content in record.done} - with_clips
        LeftOut(uri, settings.digest()).add(gave_none)
        ledger.clear()
    return report.with_table(ClipTable.open(uri))


def _quieten_ray_data() -> None:
    """Leaves the line of progress to `ProgressLine`: Ray Data's own counts blocks, and fills logs."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)


def _ingested(record: Record) -> set[str]:
    return set(record.contents) if record.clips else set()


def _read_table(uri: str, settings: CutSettings) -> _Known:
    if not fragments.exists(uri):
        return _Known(contents={}, splits={})
    table = ClipTable.open(uri)
    stored = (table.dataset.schema.metadata or {}).get(SETTINGS_KEY.encode())
    # Settings that a table knows nothing of were not there yet: it grows with what is their default now.
    other = _merged(CutSettings(size=settings.size).stored(), json.loads(stored or "{}"))
    own = settings.stored()
    if stored is not None and other != own:
        name = next(field for field in {**own, **other} if other.get(field) != own.get(field))
        raise ValueError(
            f"{uri} holds clips cut with {name}={other.get(name)!r}, this run has {name}={own.get(name)!r}: "
            "give another table"
        )
    rows = table.rows(("identity", "split", "provenance"))
    return _Known(
        contents={row["provenance"]["content"]: row["provenance"]["path"] for row in rows},
        splits={row["identity"]: row["split"] for row in rows},
    )


def _merged(defaults: dict[str, Any], stored: dict[str, Any]) -> dict[str, Any]:
    return {
        **defaults,
        **{k: _merged(defaults.get(k) or {}, v) if isinstance(v, dict) else v for k, v in stored.items()},
    }


def _unseen(
    hashed: Sequence[tuple[Footage, str]], done: set[str]
) -> tuple[list[tuple[Footage, str]], list[Reject]]:
    """Files that are new, and those of the rest that only repeat another file of this run."""
    todo: dict[str, tuple[Footage, str]] = {}
    duplicates: list[Reject] = []
    for file, content in hashed:
        if content in done:
            continue
        if content in todo:
            duplicates.append(Reject(path=file.label, reason=f"repeats {todo[content][0].label}"))
        todo.setdefault(content, (file, content))
    return list(todo.values()), duplicates


def _cut(
    todo: Sequence[tuple[Footage, str]],
    assigned: dict[str, str],
    cut_shard: Callable[..., dict[str, list[Any]]],
) -> None:
    """Cuts files in shards over the cluster; each shard ends up in the ledger."""
    if not todo:
        return
    # Several shards a core even the load out; a shard is one fragment, so that large runs don't make tiny files.
    cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
    shards = max(min(len(todo), 4 * cores), -(-len(todo) // FILES_PER_SHARD))
    items = [
        {
            **asdict(file),
            "content": content,
            "split": assigned[file.identity],
            "fixed": file.split is not None,
        }
        for file, content in todo
    ]
    dataset = ray.data.from_items(items, override_num_blocks=shards)
    shard = dataset.map_batches(cut_shard, batch_size=None, batch_format="pyarrow", zero_copy_batch=True)
    clips = rejects = 0
    with ProgressLine("cutting clips", total=len(todo), unit="file") as progress:
        for row in shard.iter_rows():
            if row["error"]:
                raise ValueError(row["error"])
            clips, rejects = clips + row["clips"], rejects + row["rejects"]
            progress.advance(row["files"], f"{clips} clips, {rejects} rejects")


def _cut_shard(
    batch: Any, *, uri: str, settings: CutSettings, ledger: Ledger, run: str
) -> dict[str, list[Any]]:
    """Cuts the files of a block, writes their clips as fragments, then the record that makes them count."""
    files = batch.to_pylist()
    if not files:
        return _outcome()
    contents: list[str] = []
    again: list[str] = []
    clips: list[ClipSummary] = []
    rejects: list[Reject] = []
    unexpected: list[Exception] = []
    names = " ".join([run, *(file["content"] for file in files)])
    watch = Watch(ledger.watch_folder, hashlib.sha256(names.encode()).hexdigest()[:32])

    def rows() -> Iterator[dict[str, Any]]:
        try:
            for file in files:
                content, split, fixed = file.pop("content"), file.pop("split"), file.pop("fixed")
                contents.append(content)
                footage = footage_of(file)
                if watch.begin(content):
                    cut, left_out = cut_file(footage, content, split, settings)
                else:
                    reason = f"whoever cut it died, {MAX_DEATHS} times: it crashes a decoder, or wants too much memory"
                    cut, left_out = [], [Reject(path=footage.label, reason=reason, again=True)]
                rejects.extend(left_out)
                if any(reject.again for reject in left_out):
                    again.append(content)
                for row in cut:
                    seconds = row["num_frames"] / row["fps"]
                    clips.append(
                        ClipSummary(
                            clip_id=row["clip_id"],
                            identity=row["identity"],
                            split=row["split"],
                            seconds=seconds,
                            fixed=fixed,
                        )
                    )
                    yield row
        except Exception as error:
            unexpected.append(error)
            raise

    try:
        written = write_clips(uri, rows())
        died = watch.end()
        ledger.add(
            Record(
                run=run,
                fragments=tuple(written),
                contents=tuple(contents),
                clips=tuple(clips),
                rejects=tuple(rejects),
                again=tuple(again),
                died=died,
            )
        )
    except OSError as error:
        watch.end()
        # Lance turns an error of the rows' iterator into one of its own: the first cause is the one to tell.
        if unexpected:
            raise unexpected[0] from None
        # Told as a value: an error raised in a Ray Data task reaches the driver without its type.
        return _outcome(error=cannot_write(uri, error))
    return _outcome(files=len(files), clips=len(clips), rejects=len(rejects))


def _outcome(files: int = 0, clips: int = 0, rejects: int = 0, error: str = "") -> dict[str, list[Any]]:
    return {"files": [files], "clips": [clips], "rejects": [rejects], "error": [error]}


def _commit(uri: str, settings: CutSettings, records: Sequence[Record]) -> None:
    schema = CLIPS_SCHEMA.with_metadata({SETTINGS_KEY: json.dumps(settings.stored())})
    fragments.commit(uri, schema, [fragment for record in records for fragment in record.fragments])


def _keep_someone_for_training(uri: str, ledger: Ledger) -> None:
    """Splits are given before faces are looked for; if all of `train` was left out, someone else takes its place.

    Only someone who is new with this run, or with a killed one, and whose split was drawn: test people of a collection
    may make a table of their own.
    """
    dataset = lance.dataset(uri)
    if dataset.count_rows("split = 'train'"):
        return
    written = {clip.clip_id: clip for record in ledger.records() for clip in record.clips}
    rows = ClipTable.open(uri).rows(("clip_id", "identity"))
    settled = {row["identity"] for row in rows if row["clip_id"] not in written}
    settled |= {clip.identity for clip in written.values() if clip.fixed}
    present = [row["identity"] for row in rows if row["identity"] not in settled]
    if not present:
        return
    chosen = max(set(present), key=lambda identity: (present.count(identity), identity)).replace("'", "''")
    dataset.update({"split": "'train'"}, where=f"identity = '{chosen}'")


def _write_rejects(report: Report) -> None:
    filesystem, path = open_filesystem(report.rejects_path)
    left_out = (*report.rejects, *report.duplicates)
    lines = [json.dumps(asdict(reject), ensure_ascii=False) for reject in left_out]
    write_text(filesystem, path, "".join(f"{line}\n" for line in lines))


def _remove_uncommitted(uri: str, ledger: Ledger) -> None:
    ledger.clear()
    filesystem, path = open_filesystem(uri)
    if filesystem.get_file_info(path).type == fs.FileType.Directory and not fragments.exists(uri):
        filesystem.delete_dir(path)


def _nothing(report: Report) -> str:
    reasons = "; ".join(str(reject) for reject in report.rejects[:5])
    more = f"; and {len(report.rejects) - 5} more" if len(report.rejects) > 5 else ""
    return f"nothing could be ingested of {report.files} files: {reasons}{more}"
