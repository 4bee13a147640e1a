"""What a finished MP4 contains, track by track, as `ffprobe` reports it: for checks of what was streamed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av

from portrait.timing import FRAME_RATE


@dataclass(frozen=True, kw_only=True)
class Track:
    """One track, measured on its decoded frames rather than taken from the header."""

    codec: str
    """Name of the codec: `h264`, `aac`."""
    start_s: float
    """Time of the first frame."""
    seconds: float
    """From the first frame's start to the last one's end."""
    frames: int
    """Video frames, or audio samples per channel."""


@dataclass(frozen=True, kw_only=True)
class Tracks:
    """The first video and the first audio track of a file."""

    video: Track
    """The first video track."""
    audio: Track
    """The first audio track."""
    fps: float
    """Frames over seconds of the video track."""

    def mismatches(self, seconds: float, fps: float = FRAME_RATE) -> list[str]:
        """Deviations from what a file for that many seconds of speech should contain, one sentence each.

        Checks the codecs, the frame rate, both lengths to within a frame, and that both tracks start within 40 ms.
        """
        found = []
        if (self.video.codec, self.audio.codec) != ("h264", "aac"):
            found.append(f"codecs: expected h264 and aac, found {self.video.codec} and {self.audio.codec}")
        if abs(self.fps - fps) > 0.01:
            found.append(f"frame rate: expected {fps:g} frames/s, found {self.fps:.2f}")
        for name, track in (("video", self.video), ("audio", self.audio)):
            if abs(track.seconds - seconds) > 1 / fps + 1e-3:
                found.append(
                    f"length: expected {seconds:.3f} s as the speech, found {track.seconds:.3f} s of {name}"
                )
        if abs(self.video.start_s - self.audio.start_s) > 0.040 + 1e-6:
            found.append(
                f"start: the video starts at {self.video.start_s:.3f} s, the audio at {self.audio.start_s:.3f} s"
            )
        return found


def read_tracks(path: str | Path) -> Tracks:
    """Decodes both tracks of a file and measures them.

    Raises:
        ValueError: the video or the audio track is missing or empty.
    """
    with av.open(str(path)) as container:
        if not (container.streams.video and container.streams.audio):
            raise ValueError(f"{path}: expected a video and an audio track")
        streams = (container.streams.video[0], container.streams.audio[0])
        times: list[list[tuple[float, float, int]]] = [[], []]
        for frame in container.decode(*streams):
            if frame.pts is None or frame.time_base is None:
                continue
            start = float(frame.pts * frame.time_base)
            if isinstance(frame, av.AudioFrame):
                times[1].append((start, start + frame.samples / frame.sample_rate, frame.samples))
            else:
                length = float(frame.duration * frame.time_base) if frame.duration else 0.0
                times[0].append((start, start + length, 1))
    if not (times[0] and times[1]):
        raise ValueError(f"{path}: a track is empty")
    video, audio = (
        Track(
            codec=stream.codec_context.name,
            start_s=frames[0][0],
            seconds=max(end for _, end, _ in frames) - frames[0][0],
            frames=sum(count for _, _, count in frames),
        )
        for stream, frames in zip(streams, times, strict=True)
    )
    return Tracks(video=video, audio=audio, fps=video.frames / video.seconds if video.seconds else 0.0)
