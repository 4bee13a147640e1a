"""WebDataset shards of raw footage: tar files, local or behind an address that fsspec reads (http, s3, …).

A sample is what has the same name up to its first point: a video and, if there is one, a `.json` with its `identity`,
and with its `split` and `licence` where known. Shards are not unpacked: their headers are read once, and a video when
its turn comes.
"""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import ray
from webdataset.shardlists import expand_urls

from data_prep.progress import Progress
from data_prep.sources.addresses import open_address
from data_prep.sources.folder import VIDEO_SUFFIXES, compiled_pattern, identity_in_path
from data_prep.sources.footage import Footage
from portrait.storage.clips import SPLITS


@dataclass(frozen=True, kw_only=True)
class WebDatasetSource:
    """Every sample with a video in it."""

    shards: str
    """A folder with .tar files, one of them, or a pattern with braces: `s3://bucket/raw-{000..099}.tar`."""
    identity_pattern: str | None = None
    """See `FolderSource`; searched in a sample's name. A sample's own JSON comes first."""
    licence: str | None = None
    """Licence of the footage where a sample does not say its own."""

    @property
    def name(self) -> str:
        """The folder's or the bucket's."""
        return self._paths()[0].rpartition("/")[0].rpartition("/")[2] or "webdataset"

    def files(self) -> list[Footage]:
        """The samples, in the shards' order.

        Raises:
            FileNotFoundError: no shard there.
            ValueError: a shard is no tar file or compressed, a sample's JSON is malformed, or no sample has a video.
        """
        pattern, name = compiled_pattern(self.identity_pattern), self.name
        found: list[Footage] = []
        index = ray.remote(_index)
        pending = [index.remote(path) for path in self._paths()]
        with Progress("reading shards", total=len(pending), unit="shard") as progress:
            for result in pending:
                samples, error = ray.get(result)
                if error:
                    raise ValueError(error)
                for sample in samples:
                    said = sample.pop("said")
                    identity = said.get("identity") or identity_in_path(
                        PurePosixPath(sample["member"]), pattern
                    )
                    found.append(
                        Footage(
                            **sample,
                            identity=str(identity),
                            source=name,
                            licence=said.get("licence") or self.licence,
                            split=said.get("split"),
                        )
                    )
                progress.advance(1, f"{len(found)} videos")
        if not found:
            raise ValueError(f"{self.shards}: no sample with a video ({', '.join(sorted(VIDEO_SUFFIXES))})")
        return found

    def _paths(self) -> list[str]:
        if "://" in self.shards:
            return expand_urls(self.shards)
        folder = Path(self.shards)
        local = (
            sorted(folder.glob("*.tar")) if folder.is_dir() else [Path(p) for p in expand_urls(self.shards)]
        )
        missing = next((path for path in local if not path.is_file()), None)
        if missing is not None or not local:
            raise FileNotFoundError(f"no shards at {missing or self.shards}: expected .tar files")
        return [str(path.resolve()) for path in local]


def _index(path: str) -> tuple[list[dict[str, Any]], str]:
    """Where the videos of a shard lie in it, with what its JSON says; and what is wrong with the shard."""
    samples: dict[str, dict[str, Any]] = {}
    said: dict[str, dict[str, Any]] = {}
    try:
        with open_address(path) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                key, suffix = _split(member.name)
                if member.isfile() and suffix in VIDEO_SUFFIXES:
                    place = {"member": member.name, "offset": member.offset_data, "size": member.size}
                    samples[key] = {"path": path, **place}
                elif member.isfile() and suffix == ".json":
                    said[key] = _said(tar.extractfile(member), f"{path}: {member.name}")
                elif suffix == ".flac":
                    return [], (
                        f"{path} holds clips that were prepared already, sound apart from pictures: "
                        "python -m jobs.import_shards takes them"
                    )
    except (tarfile.TarError, OSError, ImportError) as error:
        return [], f"{path}: cannot be read as an uncompressed tar file: {error}"
    except ValueError as error:
        return [], str(error)
    return [{**sample, "said": said.get(key, {})} for key, sample in samples.items()], ""


def _split(name: str) -> tuple[str, str]:
    """(key, suffix) of a member as WebDataset means them: all of a file's name from its first point on is suffix."""
    folder, _, file = name.rpartition("/")
    stem, point, rest = file.partition(".")
    return f"{folder}/{stem}", f".{rest.lower()}" if point else ""


def _said(file: Any, label: str) -> dict[str, Any]:
    try:
        said = json.load(file)
    except ValueError as error:
        raise ValueError(f"{label}: no JSON ({error})") from error
    if not isinstance(said, dict):
        raise ValueError(f"{label}: expected an object with identity, split or licence")  # noqa: TRY004 - bad input
    if said.get("split") not in (None, *SPLITS):
        raise ValueError(f"{label}: split {said['split']!r}, expected {', '.join(SPLITS)}")
    return said
