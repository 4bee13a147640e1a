"""What a run of data preparation did, as a table and a list for the terminal."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from data_prep.ledger import ClipSummary
from data_prep.rejects import Reject
from portrait.storage.clips import SPLITS, ClipTable

SHOWN_REJECTS = 50


@dataclass(frozen=True, kw_only=True)
class Report:
    """Figures of a run."""

    files: int
    """Files of the source."""
    known: int
    """Files that were in the table before, or done by an earlier run that was killed."""
    duplicates: tuple[Reject, ...]
    """Files that repeat another one of the source, byte by byte, and which."""
    clips: tuple[ClipSummary, ...]
    """Clips added."""
    rejects: tuple[Reject, ...]
    """Files, and parts of files, left out."""
    rejects_path: str
    """JSON lines with all of them, and with what is repeated."""
    table_rows: int = 0
    """Clips of the table after the run."""
    table_version: int = 0
    """The table's version after the run."""
    table_splits: tuple[tuple[str, int, int, float], ...] = ()
    """Of each split: name, clips, identities, hours in the table."""

    def with_table(self, table: ClipTable) -> Report:
        """Adds the state of the table."""
        rows = table.rows(("identity", "split", "num_frames", "fps"))
        lines = []
        for split in SPLITS:
            of_split = [row for row in rows if row["split"] == split]
            hours = sum(row["num_frames"] / row["fps"] for row in of_split) / 3600
            lines.append((split, len(of_split), len({row["identity"] for row in of_split}), hours))
        return replace(self, table_rows=len(rows), table_version=table.version, table_splits=tuple(lines))

    def summary(self) -> str:
        """What was added and what the table holds."""
        seconds = sum(clip.seconds for clip in self.clips)
        identities = len({clip.identity for clip in self.clips})
        return "\n".join(
            (
                f"{self.files} files: {self.known} known before, {len(self.duplicates)} repeated, "
                f"{len({reject.path for reject in self.rejects})} left out in whole or part",
                f"added {len(self.clips)} clips of {identities} identities, {seconds / 3600:.3f} h",
                "",
                f"{'split':<8}{'clips':>8}{'identities':>12}{'hours':>9}",
                *(
                    f"{name:<8}{clips:>8}{people:>12}{hours:>9.3f}"
                    for name, clips, people, hours in self.table_splits
                ),
            )
        )

    def text(self) -> str:
        """The summary, then what was left out and why."""
        lines = [self.summary()]
        if self.rejects:
            lines += ["", f"left out ({len(self.rejects)}, all in {self.rejects_path}):"]
            lines += [f"  {reject}" for reject in self.rejects[:SHOWN_REJECTS]]
            if len(self.rejects) > SHOWN_REJECTS:
                reasons = Counter(reject.kind for reject in self.rejects[SHOWN_REJECTS:])
                lines += [f"  … and {count} more: {reason}" for reason, count in reasons.most_common(10)]
        if self.duplicates:
            lines += ["", f"repeated ({len(self.duplicates)}, all in {self.rejects_path}):"]
            lines += [f"  {reject}" for reject in self.duplicates[:SHOWN_REJECTS]]
        return "\n".join(lines)
