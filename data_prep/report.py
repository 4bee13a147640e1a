"""Summary of a run of data preparation, for the terminal."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from data_prep.rejects import Reject
from data_prep.runs import ClipSummary
from portrait.storage.clips import SPLITS, ClipTable

SHOWN_REJECTS = 50


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a run did."""

    files: int
    """Number of files in the source."""
    known: int
    """Files that needed no cutting: in the table, rejected before, or cut by an earlier run that did not finish."""
    duplicates: tuple[Reject, ...]
    """Files with the same content as another one of the source."""
    clips: tuple[ClipSummary, ...]
    """Clips added."""
    rejects: tuple[Reject, ...]
    """Files, and parts of files, that were rejected."""
    rejects_path: str
    """The run's record (JSON lines), which lists rejects and duplicates; see `data_prep.runs`."""
    table_rows: int = 0
    """Number of clips in the table after the run."""
    table_version: int = 0
    """Version of the table after the run."""
    table_splits: tuple[tuple[str, int, int, float], ...] = ()
    """Per split of the table: name, clips, identities, hours."""

    def with_table(self, table: ClipTable) -> Report:
        """This report with the state of the table."""
        rows = table.rows(("identity", "split", "num_frames", "fps"))
        lines = []
        for split in SPLITS:
            of_split = [row for row in rows if row["split"] == split]
            hours = sum(row["num_frames"] / row["fps"] for row in of_split) / 3600
            lines.append((split, len(of_split), len({row["identity"] for row in of_split}), hours))
        return replace(self, table_rows=len(rows), table_version=table.version, table_splits=tuple(lines))

    def summary(self) -> str:
        """What was added, and what the table holds."""
        seconds = sum(clip.seconds for clip in self.clips)
        identities = len({clip.identity for clip in self.clips})
        return "\n".join(
            (
                f"{self.files} files: {self.known} already known, {len(self.duplicates)} duplicates, "
                f"{len({reject.path for reject in self.rejects})} rejected in whole or in part",
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
        """The summary, followed by the rejects and the reasons."""
        lines = [self.summary()]
        if self.rejects:
            lines += ["", f"rejected ({len(self.rejects)}, all listed in {self.rejects_path}):"]
            lines += [f"  {reject}" for reject in self.rejects[:SHOWN_REJECTS]]
            if len(self.rejects) > SHOWN_REJECTS:
                reasons = Counter(reject.kind for reject in self.rejects[SHOWN_REJECTS:])
                lines += [f"  … and {count} more: {reason}" for reason, count in reasons.most_common(10)]
        if self.duplicates:
            lines += ["", f"duplicates ({len(self.duplicates)}, all listed in {self.rejects_path}):"]
            lines += [f"  {reject}" for reject in self.duplicates[:SHOWN_REJECTS]]
        return "\n".join(lines)
