"""Live video: blocks of frames become H.264 that any decoder can pick up at the start of a block.

Every block is a closed group of pictures with the same parameter sets, whichever encoder made it. The bytes of a new
replica can therefore follow those of an old one in the same stream. Compressed blocks travel between processes instead
of frames; `fragmented_mp4` puts them into a container.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.codec.context import Flags
from av.video.reformatter import VideoReformatter

from portrait.media.mp4 import check_frames, tag_colours, yuv_frame
from portrait.timing import FRAME_RATE

_NAL_SPS, _NAL_PPS, _NAL_SEI, _NAL_DELIMITER = 7, 8, 6, 9


@dataclass(frozen=True, kw_only=True)
class EncodedBlock:
    """A block of frames as H.264: plain bytes, so it pickles and travels cheaply."""

    width: int
    """Pixels."""
    height: int
    """Pixels."""
    fps: int
    """Frames per second; every frame lasts 1/fps."""
    parameter_sets: tuple[bytes, bytes]
    """SPS and PPS, NAL units without start codes; the same for every block of this size."""
    samples: tuple[bytes, ...]
    """One access unit per frame, NAL units with four-byte lengths. The first is an IDR frame; no frame refers to
    another block."""

    @property
    def num_frames(self) -> int:
        """Frames in the block."""
        return len(self.samples)

    @property
    def num_bytes(self) -> int:
        """Size of the compressed frames."""
        return sum(map(len, self.samples))


class H264BlockEncoder:
    """Encodes blocks independently of each other: the same frames give the same bytes in any process.

    Args:
        width: pixels, even.
        height: pixels, even.
        fps: frames per second.
        crf: x264's constant quality; smaller is better.

    Raises:
        ValueError: odd or non-positive size.
    """

    def __init__(self, width: int, height: int, fps: int = FRAME_RATE, *, crf: float = 20) -> None:
        if width <= 0 or height <= 0 or width % 2 or height % 2:
            raise ValueError(
                f"size: H.264 4:2:0 needs an even, positive height and width, found {height}×{width}"
            )
        self.width, self.height, self.fps, self.crf = width, height, fps, crf
        self._convert = VideoReformatter()
        self.parameter_sets = parameter_sets(self._open())

    def _open(self) -> av.VideoCodecContext:
        """A fresh x264: what it remembers of earlier frames must not reach the next block."""
        context = av.CodecContext.create("libx264", "w")
        assert isinstance(context, av.VideoCodecContext)
        configure_x264(context, self.width, self.height, self.fps, self.crf)
        context.open()
        return context

    def encode(self, frames: np.ndarray) -> EncodedBlock:
        """Encodes a block.

        Args:
            frames: RGB uint8 [n, H, W, 3], n ≥ 1.

        Raises:
            ValueError: no frames, or frames of another size or type.
        """
        check_frames(frames, self.height, self.width)
        if not len(frames):
            raise ValueError("frames: expected at least one, found none")
        context = self._open()
        packets = []
        for index, rgb in enumerate(frames):
            frame = yuv_frame(rgb, self._convert)
            frame.pts, frame.time_base = index, Fraction(1, self.fps)
            packets += context.encode(frame)
        packets += context.encode(None)
        assert len(packets) == len(frames), "x264 with zero latency gives one packet per frame"
        return EncodedBlock(
            width=self.width,
            height=self.height,
            fps=self.fps,
            parameter_sets=self.parameter_sets,
            samples=tuple(_length_prefixed(bytes(packet)) for packet in packets),
        )


def configure_x264(context: av.VideoCodecContext, width: int, height: int, fps: int, crf: float = 20) -> None:
    """Sets up an x264 encoder that has not been opened yet, so that all encoders agree on the parameter sets.

    Args:
        context: the encoder.
        width: pixels.
        height: pixels.
        fps: frames per second.
        crf: x264's constant quality.
    """
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.time_base, context.framerate = Fraction(1, fps), Fraction(fps)
    context.flags |= Flags.global_header
    # Only the first frame is a key frame, however long the block. "stitchable" keeps the quality out of the parameter
    # sets. The preset shows in them, so there is one for all.
    context.options = {
        "crf": str(crf),
        "preset": "veryfast",
        "tune": "zerolatency",
        "profile": "baseline",
        "x264-params": "keyint=infinite:scenecut=0:threads=1:open-gop=0:ref=1:stitchable=1",
    }
    tag_colours(context)


def parameter_sets(context: av.VideoCodecContext) -> tuple[bytes, bytes]:
    """SPS and PPS of an opened encoder, NAL units without start codes."""
    units = _nal_units(context.extradata or b"")
    sps = [unit for unit in units if unit[0] & 0x1F == _NAL_SPS]
    pps = [unit for unit in units if unit[0] & 0x1F == _NAL_PPS]
    assert len(sps) == len(pps) == 1, "x264 writes one SPS and one PPS"
    return sps[0], pps[0]


def _nal_units(annex_b: bytes) -> list[bytes]:
    """Splits a byte stream with start codes (ISO/IEC 14496-10, annex B) into NAL units."""
    units = annex_b.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")[1:]
    return [unit.rstrip(b"\0") for unit in units]


def _length_prefixed(annex_b: bytes) -> bytes:
    """Slices only, each behind its length: the parameter sets are in the init segment, x264's banner is dropped."""
    dropped = (_NAL_SPS, _NAL_PPS, _NAL_SEI, _NAL_DELIMITER)
    units = [unit for unit in _nal_units(annex_b) if unit[0] & 0x1F not in dropped]
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)
