"""Live MP4: encoded blocks and their sound become fragmented MP4 that leaves at once (ISO/IEC 14496-12).

FFmpeg's muxer writes the boxes. Left alone it keeps a fragment until the next key frame arrives, which is a whole block
(0.64 s) of latency, so every fragment gets a muxer of its own that is closed at once. The result plays in Media Source
Extensions, and saved to a file in any player.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.codec.context import Flags
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Stream

from portrait.media.h264 import EncodedBlock, configure_x264, parameter_sets
from portrait.media.mp4 import AAC_RATE
from portrait.timing import FRAME_RATE, SAMPLE_RATE

_AAC_FRAME = 1024
_AAC_BIT_RATE = 96_000
_VIDEO_TICKS = 1000
"""Ticks of the video track's clock per frame."""


class FragmentedMP4Muxer:
    """Turns encoded blocks and their sound into fragmented MP4, one fragment per block, nothing held back.

    The sound of a block trails its frames by the AAC encoder's look-ahead (at most 64 ms) until the next block or
    `close`; after `close` both tracks are equally long.

    Args:
        width: pixels of the blocks to come.
        height: pixels of the blocks to come.
        fps: frames per second.

    Raises:
        ValueError: a frame does not last a whole number of audio samples.
    """

    def __init__(self, width: int, height: int, fps: int = FRAME_RATE) -> None:
        if SAMPLE_RATE % fps:
            raise ValueError(f"fps: expected a divisor of {SAMPLE_RATE}, found {fps}")
        self.width, self.height, self.fps = width, height, fps
        self._init_segment, self._parameter_sets = _init_segment(width, height, fps)
        # The init segment, read back, gives each fragment's muxer all it must know about the two tracks.
        self._tracks: InputContainer = av.open(io.BytesIO(self._init_segment))
        self._aac = _AacEncoder()
        self._header_given = self._closed = False
        self._fragments = self._frames = self._audio_frames = 0

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
        return self._init_segment

    def add_block(self, block: EncodedBlock, audio: np.ndarray) -> bytes:
        """Muxes a block.

        Args:
            block: the frames.
            audio: float32 [S ≤ 640·n], 16 kHz mono, heard during the block; what is missing is silence.

        Returns:
            Bytes to send at once.

        Raises:
            ValueError: a block of another size or encoder, more sound than frames, or a closed muxer.
        """
        self._check(block, audio)
        missing = block.num_frames * SAMPLE_RATE // self.fps - audio.size
        sound = self._aac.push(np.pad(np.asarray(audio, np.float32), (0, missing)))
        return self.header() + self._fragment(block.samples, sound)

    def close(self) -> bytes:
        """Ends the file: the sound's last frames, cut to the length of the video."""
        if self._closed:
            return b""
        self._closed = True
        sound = self._aac.finish() if self._frames else []
        remaining = self._frames * AAC_RATE // self.fps - self._audio_frames * _AAC_FRAME
        durations = [min(_AAC_FRAME, remaining - begin) for begin in range(0, remaining, _AAC_FRAME)]
        sound = sound[: len(durations)]
        tail = self._fragment((), sound, durations[: len(sound)]) if sound else b""
        self._tracks.close()
        return self.header() + tail

    def _fragment(
        self, video: Sequence[bytes], audio: Sequence[bytes], audio_durations: Sequence[int] | None = None
    ) -> bytes:
        """One `moof` with its `mdat`.

        Args:
            video: access units; the first is a key frame and no other is.
            audio: AAC frames.
            audio_durations: samples at 48 kHz that each AAC frame lasts; by default all of them.
        """
        self._fragments += 1
        buffer = io.BytesIO()
        with _open_muxer(buffer, self.fps, fragment=self._fragments) as container:
            streams = [
                container.add_stream_from_template(track, opaque=True)
                for track in (self._tracks.streams.video[0], self._tracks.streams.audio[0])
            ]
            container.start_encoding()
            begin = buffer.tell()  # each muxer writes an init segment, which the player has already
            for index, data in enumerate(video):
                time = (self._frames + index) * _VIDEO_TICKS
                clock = Fraction(1, self.fps * _VIDEO_TICKS)
                container.mux(_packet(streams[0], data, time, _VIDEO_TICKS, clock, key=index == 0))
            durations = audio_durations or [_AAC_FRAME] * len(audio)
            for index, (data, duration) in enumerate(zip(audio, durations, strict=True)):
                time = (self._audio_frames + index) * _AAC_FRAME
                container.mux(_packet(streams[1], data, time, duration, Fraction(1, AAC_RATE), key=True))
        self._frames += len(video)
        self._audio_frames += len(audio)
        return buffer.getvalue()[begin:]

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


def _init_segment(width: int, height: int, fps: int) -> tuple[bytes, tuple[bytes, bytes]]:
    """The `ftyp` and `moov` that come before any fragment, and the SPS and PPS in them."""
    buffer = io.BytesIO()
    with _open_muxer(buffer, fps) as container:
        video = container.add_stream("libx264", rate=fps)
        configure_x264(video.codec_context, width, height, fps)
        container.add_stream("aac", rate=AAC_RATE, layout="mono", bit_rate=_AAC_BIT_RATE)
        container.start_encoding()
        return buffer.getvalue(), parameter_sets(video.codec_context)


def _open_muxer(buffer: io.BytesIO, fps: int, fragment: int | None = None) -> OutputContainer:
    """A muxer for the init segment, or for the fragment of that number (from 1)."""
    # An empty `moov` first, a fragment only when the muxer is closed, times as given, no index of fragments at the end.
    flags = "empty_moov+frag_custom+default_base_moof+skip_trailer"
    options = {
        "movflags": flags if fragment is None else f"{flags}+frag_discont",
        "use_editlist": "0",
        "video_track_timescale": str(fps * _VIDEO_TICKS),
        "avoid_negative_ts": "disabled",
        "fflags": "+bitexact",
    }
    if fragment is not None:
        options["fragment_index"] = str(fragment)
    return av.open(buffer, mode="w", format="mp4", options=options)


def _packet(stream: Stream, data: bytes, time: int, duration: int, clock: Fraction, *, key: bool) -> Packet:
    packet = Packet(data)
    packet.stream, packet.time_base, packet.is_keyframe = stream, clock, key
    packet.pts = packet.dts = time
    packet.duration = duration
    return packet


class _AacEncoder:
    """16 kHz samples in, AAC-LC frames of 1024 samples at 48 kHz out, sample 0 at time 0."""

    def __init__(self) -> None:
        context = av.CodecContext.create("aac", "w")
        assert isinstance(context, av.AudioCodecContext)
        context.sample_rate, context.layout, context.format = AAC_RATE, "mono", "fltp"
        context.bit_rate, context.time_base = _AAC_BIT_RATE, Fraction(1, AAC_RATE)
        context.flags |= Flags.global_header
        context.open()
        self._context = context
        self._resampler = av.AudioResampler(format="fltp", layout="mono", rate=AAC_RATE)
        self._pending = np.zeros(0, np.float32)
        self._samples_in, self._samples_out, self._first = 0, 0, True

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
        """Gives the remaining AAC frames, the last one padded with silence."""
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
        # The first frame is the encoder's priming (1024 samples before time 0). Players disagree about edit lists, but
        # all of them play a track that begins at 0, so it is dropped. The first 21 ms then lack their overlap: a soft
        # fade-in.
        kept = [bytes(packet) for packet in packets]
        if kept and self._first:
            self._first = False
            kept = kept[1:]
        return kept
