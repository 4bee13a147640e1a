"""The clips table as WebDataset shards: `python -m jobs.export_shards --clips URI --output FOLDER`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from jobs import command_line
from portrait.storage.clips import ClipTable
from portrait.storage.shards import export_shards


@dataclass(frozen=True, kw_only=True)
class ExportShards:
    """Writes a clips table as WebDataset shards, for machines without Lance; `import_shards` reads them back."""

    clips: str
    """The clips table, a folder or URI."""
    output: Path
    """A new folder for the shards and their index."""
    shard_megabytes: int = 256
    """Size at which a new shard is started, in MiB."""
    splits: tuple[Literal["train", "val", "test"], ...] | None = None
    """Export only clips of these splits; all by default."""


def main(config: ExportShards) -> int:
    """Exports the clips, and prints and returns how many there are."""
    if config.shard_megabytes < 1:
        raise ValueError(f"--shard-megabytes must be at least 1, got {config.shard_megabytes}")
    table = ClipTable.open(config.clips)
    with tqdm(total=table.num_rows, unit="clip", desc="exporting", file=sys.stderr) as progress:
        count = export_shards(
            table,
            config.output,
            shard_bytes=config.shard_megabytes * 1024**2,
            splits=config.splits,
            progress=lambda done: progress.update(done - progress.n),
        )
    print(f"{config.output}: {count} clips in {len(list(config.output.glob('*.tar')))} shards")
    return count


if __name__ == "__main__":
    command_line.run(main, ExportShards)
