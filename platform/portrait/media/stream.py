"""Live media: blocks of frames become H.264, sound joins them as AAC, and fragmented MP4 leaves at once.

The decoder replica encodes (`H264BlockEncoder`), the ingress muxes (`FragmentedMP4Muxer`): compressed media travels
between processes, not frames. Each block is a closed group of pictures with the same parameter sets whichever encoder
made it, so the bytes of a new replica follow an old one's. Playable by Media Source Extensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.codec.context import Flags
from av.video.reformatter import VideoReformatter

from portrait.media import fmp4
from portrait.media.mp4 import AAC_RATE, check_pictures, tag_colours, yuv_frame
from portrait.timing import FRAME_RATE, SAMPLE_RATE

_AAC_FRAME = 1024
_VIDEO_TICKS = 1000
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
    """One access unit a frame, NAL units with four-byte lengths; the first is an IDR, none refers to another block."""

    @property
    def num_frames(self) -> int:
        """Frames in the block."""
        return len(self.samples)

    @property
    def num_bytes(self) -> int:
        """Size of the compressed pictures."""
        return sum(map(len, self.samples))


class H264BlockEncoder:
    """Encodes blocks independently of each other: the same frames give the same bytes in any process.

    Args:
        width: pixels, even.
        height: pixels, even.
        fps: frames per second.
        crf: x264's constant quality, smaller is better.

    Raises:
        ValueError: odd or non-positive size.
    """

    def __init__(self, width: int, height: int, fps: int = FRAME_RATE, *, crf: float = 20) -> None:
        if width <= 0 or height <= 0 or width % 2 or height % 2:
            raise ValueError(
                f"size: H.264 4:2:0 needs an even, positive height and width, found {height}×{width}"
            )
        self.width, self.height, self.fps = width, height, fps
        # One preset for all: it shows in the parameter sets, and the blocks of a stream must agree on them.
        self._options = {"crf": str(crf), "preset": "veryfast", "tune": "zerolatency", "profile": "baseline"}
        self._convert = VideoReformatter()
        self.parameter_sets = _parameter_sets(self._open())

    def _open(self) -> av.VideoCodecContext:
        """A fresh x264: what it remembers of earlier frames must not reach the next block."""
        context = av.CodecContext.create("libx264", "w")
        assert isinstance(context, av.VideoCodecContext)
        context.width, context.height, context.pix_fmt = self.width, self.height, "yuv420p"
        context.time_base, context.framerate = Fraction(1, self.fps), Fraction(self.fps)
        context.flags |= Flags.global_header
        # Only the first frame is a key frame, however long the block. "stitchable" keeps the quality out of the
        # parameter sets.
        params = "keyint=infinite:scenecut=0:threads=1:open-gop=0:ref=1:stitchable=1"
        context.options = self._options | {"x264-params": params}
        tag_colours(context)
        context.open()
        return context

    def encode(self, frames: np.ndarray) -> EncodedBlock:
        """Encodes a block.

        Args:
            frames: RGB uint8 [n, H, W, 3], n ≥ 1.

        Raises:
            ValueError: no frames, or of another size or type.
        """
        check_pictures(frames, self.height, self.width)
        if not len(frames):
            raise ValueError("frames: expected at least one, found none")
        context = self._open()
        packets = []
        for index, picture in enumerate(frames):
            frame = yuv_frame(picture, self._convert)
            frame.pts, frame.time_base = index, Fraction(1, self.fps)
            packets += context.encode(frame)
        packets += context.encode(None)
        assert len(packets) == len(frames), "x264 with zero latency gives one packet a frame"
        return EncodedBlock(
            width=self.width,
            height=self.height,
            fps=self.fps,
            parameter_sets=self.parameter_sets,
            samples=tuple(_length_prefixed(bytes(packet)) for packet in packets),
        )


def _nal_units(annex_b: bytes) -> list[bytes]:
    """Splits a byte stream with start codes (ISO/IEC 14496-10, annex B) into NAL units."""
    units = annex_b.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")[1:]
    return [unit.rstrip(b"\0") for unit in units]


def _parameter_sets(context: av.VideoCodecContext) -> tuple[bytes, bytes]:
    units = _nal_units(context.extradata or b"")
    sps = [unit for unit in units if unit[0] & 0x1F == _NAL_SPS]
    pps = [unit for unit in units if unit[0] & 0x1F == _NAL_PPS]
    assert len(sps) == len(pps) == 1, "x264 writes one SPS and one PPS"
    return sps[0], pps[0]


def _length_prefixed(annex_b: bytes) -> bytes:
    """Slices only, each behind its length: parameter sets are in the init segment, x264's banner is dropped."""
    dropped = (_NAL_SPS, _NAL_PPS, _NAL_SEI, _NAL_DELIMITER)
    units = [unit for unit in _nal_units(annex_b) if unit[0] & 0x1F not in dropped]
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)


class _AacEncoder:
    """16 kHz samples in, AAC-LC frames of 1024 samples at 48 kHz out, sample 0 at time 0."""

    BIT_RATE = 96_000

    def __init__(self) -> None:
        context = av.CodecContext.create("aac", "w")
        assert isinstance(context, av.AudioCodecContext)
        context.sample_rate, context.layout, context.format = AAC_RATE, "mono", "fltp"
        context.bit_rate, context.time_base = self.BIT_RATE, Fraction(1, AAC_RATE)
        context.flags |= Flags.global_header
        context.open()
        self._context = context
        self._resampler = av.AudioResampler(format="fltp", layout="mono", rate=AAC_RATE)
        self._pending = np.zeros(0, np.float32)
        self._samples_in, self._samples_out, self._first = 0, 0, True
        self.specific_config = bytes(context.extradata or b"")

    def push(self, audio: np.ndarray) -> list[bytes]:
        """Takes samples float32 [S] at 16 kHz; gives the AAC frames that are complete."""
        frame = AudioFrame.from_ndarray(
            np.ascontiguousarray(audio, np.float32)[None], format="fltp", layout="mono"
        )
        frame.sample_rate, frame.pts = SAMPLE_RATE, self._samples_in
        frame.time_base = Fraction(1, SAMPLE_RATE)
        self._samples_in += audio.size
        return self._encode(self._resampler.resample(frame))

    def finish(self) -> list[bytes]:
        """Gives the rest."""
        packets = self._encode(self._resampler.resample(None))
        if self._pending.size:
            packets += self._send(np.pad(self._pending, (0, _AAC_FRAME - self._pending.size)))
        return packets + self._keep(self._context.encode(None))

    def _encode(self, resampled: list[AudioFrame]) -> list[bytes]:
        self._pending = np.concatenate([self._pending, *(frame.to_ndarray()[0] for frame in resampled)])
        packets: list[bytes] = []
        while self._pending.size >= _AAC_FRAME:
            packets += self._send(self._pending[:_AAC_FRAME])
            self._pending = self._pending[_AAC_FRAME:]
        return packets

    def _send(self, samples: np.ndarray) -> list[bytes]:
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples)[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = AAC_RATE, self._samples_out, Fraction(1, AAC_RATE)
        self._samples_out += _AAC_FRAME
        return self._keep(self._context.encode(frame))

    def _keep(self, packets: list[av.Packet]) -> list[bytes]:
        # The first frame is the encoder's priming (1024 samples before time 0). Players disagree about edit lists,
        # all of them play a track that begins at 0: leave it out. The first 21 ms then lack their overlap, a soft
        # fade-in.
        kept = [bytes(packet) for packet in packets]
        if kept and self._first:
            self._first = False
            kept = kept[1:]
        return kept


class FragmentedMP4Muxer:
    """Turns encoded blocks and their sound into fragmented MP4, one fragment a block, nothing held back.

    The sound of a block trails its pictures by the AAC encoder's look-ahead (at most 64 ms) until the next block or
    `close`; after `close` both tracks are equally long.

    Args:
        width: pixels of the blocks to come.
        height: pixels of the blocks to come.
        fps: frames per second.
    """

    def __init__(self, width: int, height: int, fps: int = FRAME_RATE) -> None:
        self.width, self.height, self.fps = width, height, fps
        if SAMPLE_RATE % fps:
            raise ValueError(f"fps: expected a divisor of {SAMPLE_RATE}, found {fps}")
        self._parameter_sets = H264BlockEncoder(width, height, fps).parameter_sets
        self._aac = _AacEncoder()
        self._header_given = self._closed = False
        self._sequence = self._frames = self._audio_frames = self._bytes = 0
        self._fragments: list[tuple[int, int]] = []

    @property
    def mime_type(self) -> str:
        """For `MediaSource.addSourceBuffer`."""
        return f'video/mp4; codecs="avc1.{self._parameter_sets[0][1:4].hex().upper()}, mp4a.40.2"'

    @property
    def num_frames(self) -> int:
        """Video frames muxed so far."""
        return self._frames

    def header(self) -> bytes:
        """The init segment, once: here if asked for early, else before the first fragment; later calls give b""."""
        if self._header_given:
            return b""
        self._header_given = True
        sps, pps = self._parameter_sets
        video = fmp4.VideoTrack(
            width=self.width, height=self.height, timescale=self.fps * _VIDEO_TICKS, sps=sps, pps=pps
        )
        audio = fmp4.AudioTrack(
            sample_rate=AAC_RATE, specific_config=self._aac.specific_config, bit_rate=self._aac.BIT_RATE
        )
        return self._count(fmp4.init_segment(video, audio))

    def add_block(self, block: EncodedBlock, audio: np.ndarray) -> bytes:
        """Muxes a block.

        Args:
            block: the pictures.
            audio: float32 [S ≤ 640·n], 16 kHz mono, heard during the block; what is missing is silence.

        Returns:
            Bytes to send at once.

        Raises:
            ValueError: a block of another size or encoder, more sound than pictures, or a closed muxer.
        """
        self._check(block, audio)
        missing = block.num_frames * SAMPLE_RATE // self.fps - audio.size
        sound = self._aac.push(np.pad(np.asarray(audio, np.float32), (0, missing)))
        video = fmp4.Run(
            track=fmp4.VIDEO_TRACK,
            decode_time=self._frames * _VIDEO_TICKS,
            samples=block.samples,
            durations=[_VIDEO_TICKS] * block.num_frames,
        )
        head = self.header()
        self._fragments.append((video.decode_time, self._bytes))
        self._frames += block.num_frames
        return head + self._fragment([video, self._sound_run(sound)])

    def close(self) -> bytes:
        """Ends the file: the sound's last frames, cut to the length of the pictures, and the index of fragments."""
        if self._closed:
            return b""
        self._closed = True
        head = self.header()
        if not self._frames:
            return head
        length = self._frames * AAC_RATE // self.fps
        run = self._sound_run(self._aac.finish(), length)
        tail = self._fragment([run]) if run.samples else b""
        return head + tail + fmp4.random_access(self._fragments)

    def _sound_run(self, packets: list[bytes], length: int | None = None) -> fmp4.Run:
        """AAC frames with their times; with a length (samples at 48 kHz) the track ends exactly there."""
        start = self._audio_frames * _AAC_FRAME
        durations = [_AAC_FRAME] * len(packets)
        if length is not None:
            durations = [min(_AAC_FRAME, length - start - i * _AAC_FRAME) for i in range(len(packets))]
            packets = [packet for packet, duration in zip(packets, durations, strict=True) if duration > 0]
            durations = durations[: len(packets)]
        self._audio_frames += len(packets)
        return fmp4.Run(track=fmp4.AUDIO_TRACK, decode_time=start, samples=packets, durations=durations)

    def _fragment(self, runs: list[fmp4.Run]) -> bytes:
        self._sequence += 1
        return self._count(fmp4.fragment(self._sequence, runs))

    def _count(self, data: bytes) -> bytes:
        self._bytes += len(data)
        return data

    def _check(self, block: EncodedBlock, audio: np.ndarray) -> None:
        if self._closed:
            raise ValueError("muxer: closed, no block can follow")
        found = (block.width, block.height, block.fps)
        if found != (self.width, self.height, self.fps):
            raise ValueError(
                f"block: expected {self.width}×{self.height} at {self.fps} frames/s, found {found}"
            )
        if block.parameter_sets != self._parameter_sets:
            raise ValueError(
                "block: H.264 parameter sets differ from the stream's (another encoder or settings)"
            )
        most = block.num_frames * SAMPLE_RATE // self.fps
        if audio.ndim != 1 or audio.size > most:
            raise ValueError(f"audio: expected [S] with at most {most} samples, found {list(audio.shape)}")
