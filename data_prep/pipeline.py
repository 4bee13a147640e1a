"""Data preparation from footage to the `clips` table: plan, cut, commit.

Every file's content is hashed; what the table or the record of runs knows already is skipped; the rest is cut over the
cluster, and one commit adds all of it. Nothing is visible before the commit, and the next run resumes one that was
killed. A clip's id is a hash of content and settings, so no clip is ever in the table twice.
"""

from __future__ import annotations

from data_prep.commit import commit_run
from data_prep.cut import cut_files
from data_prep.cut_file import load_networks
from data_prep.cut_settings import CutSettings
from data_prep.plan import make_plan
from data_prep.report import Report
from data_prep.run_lock import exclusive
from data_prep.runs import Runs
from data_prep.sources.footage import Source
from data_prep.splits import Splits
from data_prep.target import check_writable, writing
from portrait.storage import fragments
from portrait.storage.clips import upgrade_columns


def prepare(source: Source, uri: str, settings: CutSettings, splits: Splits) -> Report:
    """Adds a source's footage to a clips table, which is created if it does not exist. Ray must be connected.

    Raises:
        FileNotFoundError: as `make_plan`.
        ValueError: as `make_plan`; or no file gave a clip and the table is empty; or another run is writing the table;
            or the table cannot be written. It is unchanged then, and running again continues from what was done.
    """
    check_writable(uri)
    load_networks(settings)  # before they are hashed into the settings' digest
    with exclusive(Runs(uri, settings.digest())) as run:
        plan = make_plan(source, uri, settings, splits)
        if plan.todo and fragments.exists(uri):
            with writing(uri):
                upgrade_columns(uri)
        cut_files(plan, settings, run.id)
        return commit_run(plan, settings, run)
