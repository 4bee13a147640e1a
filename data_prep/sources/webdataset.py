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

from data_prep.progress import ProgressLine
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

        A shard that breaks off or can't be read is footage with a problem, and so is a sample with a malformed JSON.

        Raises:
            FileNotFoundError: no shard there.
            ValueError: no sample has a video, or the shards hold clips that were prepared already.
        """
        pattern, name = compiled_pattern(self.identity_pattern), self.name
        found: list[Footage] = []
        problems: list[Footage] = []
        index = ray.remote(_index)
        paths = self._paths()
        pending = [index.remote(path) for path in paths]
        with ProgressLine("reading shards", total=len(pending), unit="shard") as progress:
            for path, result in zip(paths, pending, strict=True):
                samples, problem, prepared = ray.get(result)
                if prepared:
                    raise ValueError(
                        f"{path} holds clips that were prepared already, sound apart from pictures: "
                        "python -m jobs.import_shards takes them"
                    )
                if problem:
                    problems.append(Footage(path=path, identity="", source=name, problem=problem))
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
                            problem=said.get("problem"),
                        )
                    )
                progress.advance(1, f"{len(found)} videos")
        if not found:
            why = "; ".join(f"{problem.path}: {problem.problem}" for problem in problems[:5])
            kinds = ", ".join(sorted(VIDEO_SUFFIXES))
            raise ValueError(f"{self.shards}: no sample with a video ({kinds}){'; ' if why else ''}{why}")
        return found + problems

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


def _index(path: str) -> tuple[list[dict[str, Any]], str, bool]:
    """Where the videos of a shard lie in it, with what its JSON says; what is wrong with the shard; and whether it
    holds prepared clips.
    """
    samples: list[dict[str, Any]] = []
    said: dict[str, dict[str, Any]] = {}
    problem = ""
    try:
        with open_address(path) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                key, suffix = _split(member.name)
                if member.isfile() and PurePosixPath(member.name).suffix.lower() in VIDEO_SUFFIXES:
                    samples.append(
                        {
                            "path": path,
                            "member": member.name,
                            "offset": member.offset_data,
                            "size": member.size,
                        }
                    )
                elif member.isfile() and suffix == ".json":
                    said[key] = _said(tar.extractfile(member))
                elif suffix == ".flac":
                    return [], "", True
    except (tarfile.TarError, OSError, ImportError) as error:
        problem = f"cannot be read as an uncompressed tar file from here on: {' '.join(str(error).split())}"
    return [{**sample, "said": _of_sample(sample["member"], said)} for sample in samples], problem, False


def _of_sample(member: str, said: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What is said of a video: under its name, or under its sample's, which ends at the first point."""
    return said.get(member.rpartition(".")[0]) or said.get(_split(member)[0], {})


def _split(name: str) -> tuple[str, str]:
    """(key, suffix) of a member as WebDataset means them: all of a file's name from its first point on is suffix. A
    JSON's key ends at its last point, so that it may be of one of several videos.
    """
    folder, _, file = name.rpartition("/")
    if file.lower().endswith(".json"):
        return f"{folder}/{file[:-5]}" if folder else file[:-5], ".json"
    stem, point, rest = file.partition(".")
    return f"{folder}/{stem}" if folder else stem, f".{rest.lower()}" if point else ""


def _said(file: Any) -> dict[str, Any]:
    """A sample's JSON, or what is wrong with it as its `problem`."""
    try:
        said = json.load(file)
    except ValueError as error:
        return {"problem": f"its JSON is none ({error})"}
    if not isinstance(said, dict):
        return {"problem": "its JSON is no object with identity, split or licence"}
    if said.get("split") not in (None, *SPLITS):
        return {"problem": f"its JSON says split {said['split']!r}, expected {', '.join(SPLITS)}"}
    return {name: said.get(name) for name in ("identity", "split", "licence")}
