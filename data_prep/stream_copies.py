"""Stream copies: the same coded pictures and sound in another container, so that the files have different hashes.

One of them in training and the other in the test split would invalidate evaluations, so files are also compared by
their packets. Nothing is decoded for that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence

import av.error
from av.stream import Disposition

from data_prep.sources.footage import Footage
from portrait.media.container import open_media


def payload_hash(footage: Footage) -> str:
    """Hash of the packets of a file's first video and sound track, whatever container they are in.

    Containers of broadcasts (MPEG-TS) write H.264 in another form than MP4, Matroska and QuickTime: they differ.

    Returns:
        An empty string for parts of files, files in archives, and files that can't be read to their end.
    """
    if not footage.is_file or footage.start_s or footage.end_s is not None or footage.region is not None:
        return ""
    try:
        with open_media(footage.path, name=footage.label) as container:
            video = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
            tracks = [*video[:1], *container.streams.audio[:1]]
            if not video:
                return ""
            digests = {track.index: hashlib.sha256() for track in tracks}
            for packet in container.demux(*tracks):
                digests[packet.stream_index].update(packet)
    # PyAV raises IndexError for a packet of a track that appears in mid-file, as in a damaged transport stream.
    except (ValueError, OSError, IndexError, av.error.FFmpegError):
        return ""  # cutting the file reports what is wrong with it
    return " ".join(digest.hexdigest() for digest in digests.values())


def merge_copies(
    hashed: Sequence[tuple[Footage, str]], payloads: Sequence[str], known: Collection[str] = ()
) -> list[tuple[Footage, str]]:
    """Gives files with the same packets the same content hash, so that all but one of them are duplicates.

    Args:
        hashed: files with the hashes of their contents.
        payloads: what `payload_hash` says of each.
        known: content hashes that need not be cut again; such a file is kept rather than a new one.

    Returns:
        The files in their order; the hash of a group is that of the known one in it, else of the first.
    """
    kept: dict[str, str] = {}
    for index in sorted(range(len(hashed)), key=lambda i: (hashed[i][1] not in known, i)):
        content = hashed[index][1]
        kept.setdefault(payloads[index] or content, content)
    return [
        (file, kept[payload or content]) for (file, content), payload in zip(hashed, payloads, strict=True)
    ]
