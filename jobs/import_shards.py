"""WebDataset shards to the clips table: `python -m jobs.import_shards --shards FOLDER_OR_URL --clips URI`."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from tqdm import tqdm

from data_prep.run_lock import exclusive
from data_prep.runs import Runs
from data_prep.target import check_writable
from jobs import command_line
from portrait.storage.shards import Imported, import_shards


@dataclass(frozen=True, kw_only=True)
class ImportShards:
    """Adds the clips of shards written by `export_shards` to a clips table; clips that it already has are skipped."""

    shards: str
    """Folder with the shards, or a file or URL, with braces for several: https://host/clips-{000000..000041}.tar."""
    clips: str
    """The clips table, a folder or URI; created if it does not exist."""


def main(config: ImportShards) -> Imported:
    """Imports the clips and prints how many are new."""
    check_writable(config.clips)
    with exclusive(Runs(config.clips)), tqdm(unit="clip", desc="importing", file=sys.stderr) as progress:
        done = import_shards(
            config.shards, config.clips, progress=lambda count: progress.update(count - progress.n)
        )
    print(
        f"{config.clips} (version {done.table.version}, {done.table.num_rows} clips): added {done.added}, "
        f"skipped {done.known} that were in the table already"
    )
    return done


if __name__ == "__main__":
    command_line.run(main, ImportShards)
