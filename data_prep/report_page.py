"""The report of a run as an HTML page: thumbnails, a histogram of each quality column, rejects and their reasons."""

from __future__ import annotations

import base64
import html
import io
from collections import Counter, defaultdict

import numpy as np
from PIL import Image

from data_prep.filters import Filters
from data_prep.report import Report
from portrait.media.random_access import decode_window
from portrait.storage.clips import ClipTable

_THUMBNAILS = 48
_COLUMNS = (
    "face_size",
    "sharpness",
    "motion",
    "brightness",
    "face_found",
    "other_faces",
    "speech_ratio",
    "sync_confidence",
    "sync_offset",
)
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; padding: 0 1rem; color: #20222a }
table { border-collapse: collapse } td, th { padding: .15rem .8rem; text-align: left; border-bottom: 1px solid #ddd }
td.n { text-align: right } figure { display: inline-block; margin: .25rem; width: 7.2rem; font-size: 11px }
figure img { width: 100%; display: block } .plot { width: 100% } code { font-size: 13px }
"""


def page(report: Report, table: ClipTable, filters: Filters) -> str:
    """The page, self-contained.

    Args:
        report: the run.
        table: the table after the run.
        filters: the run's thresholds, drawn into the histograms.
    """
    parts = [
        "<!doctype html><meta charset='utf-8'><title>Data preparation</title>",
        f"<style>{_STYLE}</style><h1>Data preparation</h1>",
        f"<pre>{html.escape(report.summary())}</pre>",
        "<h2>Clips</h2>" + _thumbnails(report, table),
        "<h2>Quality</h2>" + _histograms(table, filters),
        "<h2>Rejected</h2>" + _rejects(report),
    ]
    return "\n".join(parts) + "\n"


def _thumbnails(report: Report, table: ClipTable) -> str:
    """Middle frames of the run's new clips, evenly spread over them."""
    added = {clip.clip_id for clip in report.clips}
    rows = table.rows(("clip_id", "identity", "split", "num_frames"))
    new = [index for index, row in enumerate(rows) if row["clip_id"] in added]
    if not new:
        return "<p>No new clips.</p>"
    chosen = [new[i] for i in np.unique(np.linspace(0, len(new) - 1, min(_THUMBNAILS, len(new))).astype(int))]
    figures = []
    for index, video in zip(chosen, table.read_video(chosen), strict=True):
        frame = decode_window(video, [rows[index]["num_frames"] // 2])[0]
        caption = html.escape(f"{rows[index]['identity']} · {rows[index]['split']}")
        figures.append(f"<figure><img src='{_jpeg(frame)}' alt=''>{caption}</figure>")
    return f"<p>Middle frames of {len(chosen)} of {len(new)} new clips.</p>" + "".join(figures)


def _histograms(table: ClipTable, filters: Filters) -> str:
    """A histogram of each column that was measured, with the thresholds as lines."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = table.rows(_COLUMNS)
    values = {name: [row[name] for row in rows if row[name] is not None] for name in _COLUMNS}
    measured = [name for name in _COLUMNS if values[name]]
    figure = Figure(figsize=(12, 2.6 * -(-len(measured) // 3)), dpi=90, layout="constrained")
    for number, name in enumerate(measured, 1):
        axes = figure.add_subplot(-(-len(measured) // 3), 3, number)
        axes.hist(values[name], bins=30, color="#3a68b0")
        axes.set_title(name)
        for bound in (getattr(filters, f"{end}_{name}", None) for end in ("min", "max")):
            if bound is not None:
                axes.axvline(bound, color="#b03a3a")
    stream = io.BytesIO()
    FigureCanvasAgg(figure).print_png(stream)
    missing = [name for name in _COLUMNS if not values[name]]
    note = f"<p>Not measured: {', '.join(missing)}.</p>" if missing else ""
    plot = base64.b64encode(stream.getvalue()).decode()
    return f"<p>All {len(rows)} clips of the table.</p><img class='plot' src='data:image/png;base64,{plot}'>{note}"


def _rejects(report: Report) -> str:
    """The reasons by frequency, each with a few examples."""
    if not report.rejects:
        return "<p>None.</p>"
    files = defaultdict(list)
    for reject in report.rejects:
        files[reject.kind].append(reject)
    counts = Counter({kind: len(found) for kind, found in files.items()})
    lines = ["<table><tr><th>count</th><th>reason</th><th>examples</th></tr>"]
    for kind, count in counts.most_common():
        some = "<br>".join(f"<code>{html.escape(str(reject))}</code>" for reject in files[kind][:5])
        lines.append(f"<tr><td class='n'>{count}</td><td>{html.escape(kind)}</td><td>{some}</td></tr>")
    return "".join(lines) + f"</table><p>Complete list: <code>{html.escape(report.rejects_path)}</code></p>"


def _jpeg(frame: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(frame).resize((112, 112)).save(stream, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
