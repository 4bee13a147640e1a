"""A client in Python: registers a portrait, streams a sound file at the pace of speech, and measures the stream.

`stream_file` sends 20 ms of sound every 20 ms, as a microphone would, and writes the media it receives to a file.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import mimetypes
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import websockets
from websockets.asyncio.client import ClientConnection

from portrait.media.audio import read_audio
from portrait.timing import SAMPLE_RATE
from serve_apps.protocol import Start

CHUNK = SAMPLE_RATE // 50
"""Samples per message, 20 ms."""
_TIMEOUT_S = 120.0
_CLOSE_S = 5.0


class StreamError(RuntimeError):
    """The application ended the stream with an error, whose message this is."""


@dataclass(frozen=True, kw_only=True)
class StreamReport:
    """Measurements of a stream. Times are measured by the client, from the first sample sent."""

    audio_s: float
    """Length of the speech that was sent."""
    frames: int
    """Frames that came back."""
    blocks: int
    """Blocks that came back."""
    media_bytes: int
    """Bytes of media that were written."""
    started_s: float
    """From connecting to `started`."""
    first_media_s: float
    """From the first sample sent to the first block of media."""
    total_s: float
    """From the first sample sent to `ended`."""
    latency_ms: tuple[float, ...]
    """Of each block, measured by the application: from the arrival of its last sample until its media was ready."""
    block_s: tuple[float, ...]
    """When each block arrived."""
    stalls: int
    """How often a player would have stalled that starts `play_after_s` (of `started`) after the first block."""
    stalled_s: float
    """How long it would have stalled in total."""
    events: tuple[dict[str, Any], ...] = field(repr=False, default=())
    """All events, in order."""

    @property
    def median_latency_ms(self) -> float:
        """Median of the blocks' latencies; NaN without blocks."""
        return float(np.median(self.latency_ms)) if self.latency_ms else float("nan")


def register_portrait(
    url: str,
    image_paths: Sequence[str | Path],
    *,
    name: str = "",
    api_key: str | None = None,
    consent: bool = True,
) -> str:
    """Registers a portrait and returns its id.

    Args:
        url: of the application, such as `http://localhost:8000`.
        image_paths: image files of one person, one or more.
        name: of the portrait.
        api_key: needed if the application requires one.
        consent: whether the person in the pictures agreed; the application refuses a portrait without consent.

    Raises:
        FileNotFoundError: an image file is missing.
        ValueError: the application refused; the message says which file and why.
    """
    boundary = uuid.uuid4().hex
    body = b""
    for key, value in (("consent", "true" if consent else "false"), ("name", name)):
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
    for path in map(Path, image_paths):
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        file_name = path.name.replace('"', "%22")
        head = (
            f'Content-Disposition: form-data; name="images"; filename="{file_name}"\r\nContent-Type: {kind}'
        )
        body += f"--{boundary}\r\n{head}\r\n\r\n".encode() + path.read_bytes() + b"\r\n"
    body += f"--{boundary}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", **_authorisation(api_key)}
    request = urllib.request.Request(f"{url.rstrip('/')}/v1/portraits", body, headers)  # noqa: S310  # the caller's own URL
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310
            return json.load(response)["portrait_id"]
    except urllib.error.HTTPError as error:
        raise ValueError(_message(error)) from error


async def stream_file(
    url: str,
    portrait_id: str,
    wav_path: str | Path,
    out_path: str | Path,
    *,
    seed: int | None = None,
    pace: float = 1.0,
    api_key: str | None = None,
) -> StreamReport:
    """Streams a sound file and writes the video that is returned.

    Args:
        url: of the application, such as `http://localhost:8000`.
        portrait_id: a registered portrait.
        wav_path: any sound file; it is converted to 16 kHz mono.
        out_path: the MP4 to write.
        seed: of the noise.
        pace: seconds of sound to send per second; 1 is real time, `float("inf")` sends everything at once.
        api_key: needed if the application requires one.

    Raises:
        ValueError: the sound file cannot be read.
        StreamError: the application ended the stream with an error.
    """
    audio = read_audio(Path(wav_path))
    # Not `idle`: the sound of a file is complete, so silence must not be inserted if this client sends late.
    start = Start(portrait_id=portrait_id, seed=seed, idle=False)
    target = Path(out_path)
    target.parent.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    async with websockets.connect(
        _socket_url(url), additional_headers=_authorisation(api_key), max_size=None, open_timeout=_TIMEOUT_S
    ) as socket:
        await socket.send(start.model_dump_json())
        started = _event(await asyncio.wait_for(socket.recv(), _TIMEOUT_S))
        started_s = time.perf_counter() - begin
        receiver = _Receiver(play_after_s=started["play_after_s"])
        sending = asyncio.create_task(_send_at_pace(socket, audio, pace))
        try:
            media = await receiver.run(socket)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
    await asyncio.to_thread(target.write_bytes, media)
    return receiver.report(started_s, len(audio) / SAMPLE_RATE, int(started["fps"]))


async def _send_at_pace(socket: ClientConnection, audio: np.ndarray, pace: float) -> None:
    pcm = (np.clip(audio, -1, 1) * 32767).round().astype("<i2")
    begin = time.perf_counter()
    for index in range(0, len(pcm), CHUNK):
        # By the clock: with equal pauses, the time that sending takes would add up.
        due = begin + index / SAMPLE_RATE / pace
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        await socket.send(pcm[index : index + CHUNK].tobytes())
    await socket.send('{"type": "end"}')


class _Receiver:
    """Collects media and events with their times of arrival."""

    def __init__(self, play_after_s: float) -> None:
        self._play_after_s = play_after_s
        self._begin = time.perf_counter()
        self._end = float("nan")
        self._events: list[dict[str, Any]] = []
        self._arrivals: list[float] = []
        self._bytes = 0

    async def run(self, socket: ClientConnection) -> bytes:
        """Receives until the application closes the connection after `ended`; returns the media.

        The application closes first: a client that closes as soon as it has `ended` cuts the stream off while Serve's
        proxy is still reading it, which the proxy logs as an error.
        """
        media = bytearray()
        waiting_for_media = False
        async for message in socket:
            if isinstance(message, bytes):
                media += message
                if waiting_for_media:
                    self._arrivals.append(time.perf_counter() - self._begin)
                waiting_for_media = False
                continue
            event = _event(message)
            self._events.append(event)
            waiting_for_media = event["type"] == "block"
            if event["type"] == "ended":
                self._bytes = len(media)
                self._end = time.perf_counter()
                await _read_until_closed(socket)
                return bytes(media)
        raise StreamError("the connection closed before the stream ended")

    def report(self, started_s: float, audio_s: float, fps: int) -> StreamReport:
        """The measurements."""
        blocks = [event for event in self._events if event["type"] == "block"]
        stalls, stalled_s = stalls_of(
            self._arrivals, [block["frames"] / fps for block in blocks], self._play_after_s
        )
        return StreamReport(
            audio_s=audio_s,
            frames=sum(block["frames"] for block in blocks),
            blocks=len(blocks),
            media_bytes=self._bytes,
            started_s=started_s,
            first_media_s=self._arrivals[0] if self._arrivals else float("nan"),
            total_s=self._end - self._begin,
            latency_ms=tuple(block["latency_ms"] for block in blocks),
            block_s=tuple(self._arrivals),
            stalls=stalls,
            stalled_s=stalled_s,
            events=tuple(self._events),
        )


def stalls_of(
    arrivals: Sequence[float], seconds: Sequence[float], play_after_s: float = 0.0
) -> tuple[int, float]:
    """How often, and how long in total, a player stalls.

    Args:
        arrivals: when each block arrived, in seconds.
        seconds: how long each block plays.
        play_after_s: how long after the first block the player starts.
    """
    stalls, stalled_s = 0, 0.0
    empty_at = arrivals[0] + play_after_s if arrivals else 0.0
    for arrival, length in zip(arrivals, seconds, strict=True):
        if arrival > empty_at:
            stalls += 1
            stalled_s += arrival - empty_at
        empty_at = max(empty_at, arrival) + length
    return stalls, stalled_s


async def _read_until_closed(socket: ClientConnection) -> None:
    """Reads on until the application closes, or for `_CLOSE_S`; what it still says is of no use."""
    with contextlib.suppress(TimeoutError, websockets.ConnectionClosed):
        async with asyncio.timeout(_CLOSE_S):
            while True:
                await socket.recv()


def _event(message: str | bytes) -> dict[str, Any]:
    """Parses a JSON event.

    Raises:
        StreamError: the event reports an error.
    """
    event = json.loads(message)
    if event["type"] == "error":
        raise StreamError(event["message"])
    return event


def _socket_url(url: str) -> str:
    return f"{url.rstrip('/').replace('http', 'ws', 1)}/v1/stream"


def _authorisation(api_key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def _message(error: urllib.error.HTTPError) -> str:
    try:
        return json.load(error)["error"]["message"]
    except (ValueError, KeyError):
        return f"{error.code} {error.reason}"
