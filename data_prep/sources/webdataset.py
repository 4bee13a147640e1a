"""WebDataset shards of raw footage: tar files, local or at a URL that fsspec reads (http, s3, …).

A sample consists of the files with the same name up to the first dot: a video and, optionally, a `.json` file with its
`identity`, `split` and `licence`. Shards are not unpacked: their headers are read once, and each video when it is cut.
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
    """Every sample that has a video."""

    shards: str
    """A folder with .tar files, a single one, or a pattern with braces: `s3://bucket/raw-{000..099}.tar`."""
    identity_pattern: str | None = None
    """See `FolderSource`; searched in the names of samples whose JSON does not state an identity."""
    licence: str | None = None
    """Licence of samples whose JSON does not state one."""

    @property
    def name(self) -> str:
        """Name of the folder or bucket that contains the shards."""
        return self._paths()[0].rpartition("/")[0].rpartition("/")[2] or "webdataset"

    def files(self) -> list[Footage]:
        """The samples, in the order of the shards.

        A shard that is truncated or cannot be read yields footage with a `problem`, as does a sample with invalid JSON.

        Raises:
            FileNotFoundError: there are no shards.
            ValueError: no sample has a video, or the shards contain clips that are prepared already.
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
                        f"{path} contains prepared clips (video and sound in separate files); import them with "
                        "python -m jobs.import_shards"
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
            raise FileNotFoundError(f"no shards at {missing or self.shards}; expected .tar files")
        return [str(path.resolve()) for path in local]


def _index(path: str) -> tuple[list[dict[str, Any]], str, bool]:
    """Reads the headers of a shard.

    Returns:
        Its videos with their positions and what their JSON says; what is wrong with the shard, or an empty string; and
        whether it contains prepared clips.
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
        problem = f"cannot be read any further, damaged or not an uncompressed tar file: {' '.join(str(error).split())}"
    return [{**sample, "said": _of_sample(sample["member"], said)} for sample in samples], problem, False


def _of_sample(member: str, said: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The JSON of a video: the one with its name, or the one of its sample."""
    return said.get(member.rpartition(".")[0]) or said.get(_split(member)[0], {})


def _split(name: str) -> tuple[str, str]:
    """(key, suffix) of a member; the suffix starts at the first dot of the file name, as in WebDataset.

    The key of a JSON file ends at its last dot, so that it may belong to one of several videos.
    """
    folder, _, file = name.rpartition("/")
    if file.lower().endswith(".json"):
        return f"{folder}/{file[:-5]}" if folder else file[:-5], ".json"
    stem, point, rest = file.partition(".")
    return f"{folder}/{stem}" if folder else stem, f".{rest.lower()}" if point else ""


def _said(file: Any) -> dict[str, Any]:
    """The JSON of a sample, or its `problem` if it is malformed."""
    try:
        said = json.load(file)
    except ValueError as error:
        return {"problem": f"invalid JSON ({error})"}
    if not isinstance(said, dict):
        return {"problem": "the JSON is not an object with identity, split or licence"}
    if said.get("split") not in (None, *SPLITS):
        return {"problem": f"the JSON has split {said['split']!r}, expected {', '.join(SPLITS)}"}
    return {name: said.get(name) for name in ("identity", "split", "licence")}
