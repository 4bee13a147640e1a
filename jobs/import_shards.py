"""WebDataset shards to the clips table: `python -m jobs.import_shards --shards FOLDER_OR_URL --clips URI`."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from tqdm import tqdm

from data_prep.table_lock import exclusive
from data_prep.target import check_place
from jobs import command_line
from portrait.storage.shards import Imported, import_shards


@dataclass(frozen=True, kw_only=True)
class ImportShards:
    """Adds the clips of shards that `export_shards` wrote to a clips table; those it has already are passed over."""

    shards: str
    """Their folder, or files or URLs with braces for many: https://host/clips-{000000..000041}.tar."""
    clips: str
    """The clips table, a folder or URI; made where it is missing."""


def main(config: ImportShards) -> Imported:
    """Imports and says how many clips are new."""
    check_place(config.clips)
    with exclusive(config.clips), tqdm(unit="clip", desc="importing", file=sys.stderr) as progress:
        done = import_shards(
            config.shards, config.clips, progress=lambda count: progress.update(count - progress.n)
        )
    print(
        f"{config.clips} (version {done.table.version}, {done.table.num_rows} clips): added {done.added}, "
        f"{done.known} were there"
    )
    return done


if __name__ == "__main__":
    command_line.run(main, ImportShards)
