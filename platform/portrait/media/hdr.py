"""High dynamic range footage (HLG of phones and broadcasts, PQ) becomes BT.709 like all other footage.

As ITU-R BT.2408 places them: the light that an HLG display of 1000 cd/m² or a PQ display shows, with reference white at
203 cd/m² as the white of BT.709 on a display of BT.1886. What is brighter than a knee below white is compressed. FFmpeg
applies all of that as one table of three dimensions. Letters: `N` table points per axis.
"""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path

import av.error
import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame

from portrait.media.container import reason_of
from portrait.media.mp4 import BT709, LIMITED_RANGE

HLG, PQ = 18, 16
"""FFmpeg's numbers for the transfer functions of ITU-R BT.2100."""
_BT2020, _P3 = 9, 12
"""FFmpeg's numbers for primaries."""
_POINTS = 49
_WHITE = 203.0
"""Reference white in cd/m² (BT.2408, table 1)."""
_HLG_PEAK, _PQ_PEAK = 1000.0, 10_000.0
_KNEE = 0.8
"""Light relative to white from which on highlights are compressed."""
_XYZ = {
    BT709: ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505)),
    _BT2020: ((0.6370, 0.1446, 0.1689), (0.2627, 0.6780, 0.0593), (0.0000, 0.0281, 1.0610)),
    _P3: ((0.4866, 0.2657, 0.1982), (0.2290, 0.6917, 0.0793), (0.0000, 0.0451, 1.0439)),
}
"""Linear RGB to CIE XYZ by primaries, white D65."""


class ToneMapper:
    """Converts a track's frames one by one; those that aren't of high dynamic range are returned as they are.

    Args:
        label: the file's name for errors.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._kind: tuple | None = None
        self._graph: Graph | None = None

    def __call__(self, frame: VideoFrame) -> VideoFrame:
        """The frame in BT.709, 8 bits, limited range.

        Raises:
            ValueError: a format that FFmpeg can't convert.
        """
        if frame.color_trc not in (HLG, PQ):
            return frame
        kind = (frame.width, frame.height, frame.format.name, frame.color_trc, frame.color_primaries)
        try:
            if self._graph is None or kind != self._kind:
                self._graph, self._kind = _graph(frame), kind
            self._graph.vpush(frame)
            made = self._graph.vpull()
        except av.error.FFmpegError as error:
            name = "HLG" if frame.color_trc == HLG else "PQ"
            raise ValueError(
                f"{self._label}: HDR ({name}) of {frame.format.name} can't be converted ({reason_of(error)})"
            ) from error
        made.pts, made.time_base = frame.pts, frame.time_base
        made.colorspace, made.color_range = BT709, LIMITED_RANGE
        made.color_trc, made.color_primaries = BT709, BT709
        return made


def to_sdr(signal_RGB: np.ndarray, transfer: int, primaries: int) -> np.ndarray:
    """The signal of BT.709 for one of BT.2100.

    Args:
        signal_RGB: [..., 3], in 0 … 1.
        transfer: `HLG` or `PQ`.
        primaries: FFmpeg's number for the primaries; unknown ones are those of BT.2020.

    Returns:
        [..., 3], in 0 … 1, for a display of gamma 2.4.
    """
    to_xyz = np.array(_XYZ.get(primaries, _XYZ[_BT2020]))
    light = _hlg_light(signal_RGB, to_xyz[1]) if transfer == HLG else _pq_light(signal_RGB)
    relative = light / _WHITE @ (np.linalg.inv(_XYZ[BT709]) @ to_xyz).T
    brightest = np.maximum(relative.max(-1, keepdims=True), 1e-9)
    over = np.maximum(brightest - _KNEE, 0) / (1 - _KNEE)
    compressed = np.minimum(brightest, _KNEE) + (1 - _KNEE) * (1 - np.exp(-over))
    return np.clip(relative * compressed / brightest, 0, 1) ** (1 / 2.4)


def _hlg_light(signal_RGB: np.ndarray, luminance: np.ndarray) -> np.ndarray:
    """Displayed light in cd/m²: the inverse OETF and the OOTF of a display of 1000 cd/m² (BT.2100, table 5)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal_RGB <= 0.5, signal_RGB**2 / 3, (np.exp((signal_RGB - c) / a) + b) / 12)
    return _HLG_PEAK * scene * (scene @ luminance)[..., None] ** 0.2


def _pq_light(signal_RGB: np.ndarray) -> np.ndarray:
    """Displayed light in cd/m²: the EOTF (BT.2100, table 4)."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    root = signal_RGB ** (1 / m2)
    return _PQ_PEAK * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)


@lru_cache(maxsize=4)
def _cube(transfer: int, primaries: int) -> str:
    """The table as the text of a .cube file, red running fastest."""
    axis = np.linspace(0, 1, _POINTS)
    blue_NNN, green_NNN, red_NNN = np.meshgrid(axis, axis, axis, indexing="ij")
    table = to_sdr(np.stack([red_NNN, green_NNN, blue_NNN], -1), transfer, primaries).reshape(-1, 3)
    lines = [f"LUT_3D_SIZE {_POINTS}", *("{:.6f} {:.6f} {:.6f}".format(*entry) for entry in table)]
    return "\n".join(lines) + "\n"


def _graph(frame: VideoFrame) -> Graph:
    exact = "flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
    with tempfile.TemporaryDirectory(prefix="tone-map") as folder:
        path = Path(folder) / "sdr.cube"
        path.write_text(_cube(frame.color_trc, frame.color_primaries))
        graph = Graph()
        graph.threads = 1
        last = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
        )
        for name, arguments in (
            ("scale", f"in_color_matrix=bt2020:{exact}"),
            ("format", "gbrp12le"),
            ("lut3d", f"file={path}:interp=tetrahedral"),
            ("scale", f"out_color_matrix=bt709:out_range=tv:{exact}"),
            ("format", "yuv420p"),
            ("buffersink", ""),
        ):
            following = graph.add(name, arguments)
            last.link_to(following)
            last = following
        graph.configure()  # reads the table
    return graph
