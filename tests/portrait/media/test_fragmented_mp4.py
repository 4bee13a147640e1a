"""Tests of portrait.media.fragmented_mp4: what goes in comes out, at once, at the right times, and in browsers."""

from __future__ import annotations

import functools
import http.server
import io
import shutil
import struct
import subprocess
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from portrait.media.fragmented_mp4 import FragmentedMP4Muxer
from portrait.media.h264 import EncodedBlock, H264BlockEncoder
from portrait.media.tracks import read_tracks
from portrait.media.video import read_video

SIZE = 64


def _frames(count: int, size: int = SIZE) -> np.ndarray:
    small = np.random.default_rng(0).integers(0, 255, (count, 6, 6, 3), np.uint8)
    return np.stack([cv2.resize(picture, (size, size), interpolation=cv2.INTER_CUBIC) for picture in small])


def _speech(samples: int) -> np.ndarray:
    noise = np.random.default_rng(1).normal(size=samples)
    return (0.2 * np.convolve(noise, np.ones(6) / 6, "same")).astype(np.float32)


def _streamed(frames: np.ndarray, audio: np.ndarray, size: int = SIZE) -> list[bytes]:
    """Blocks of 13, 16, 16 … frames, each from an encoder of its own, as after a move to another replica."""
    muxer, chunks, begin = FragmentedMP4Muxer(size, size), [], 0
    while begin < len(frames):
        end = begin + (16 if begin else 13)
        block = H264BlockEncoder(size, size).encode(frames[begin:end])
        chunks.append(muxer.add_block(block, audio[begin * 640 : end * 640]))
        begin = end
    return [*chunks, muxer.close()]


@pytest.mark.parametrize(
    ("num_frames", "num_samples"), [(1, 100), (13, 13 * 640), (50, 50 * 640 - 37), (77, 77 * 640)]
)
def test_tracks_start_together_and_end_together(tmp_path: Path, num_frames: int, num_samples: int) -> None:
    frames, audio = _frames(num_frames), _speech(num_samples)
    path = tmp_path / "portrait.mp4"
    path.write_bytes(b"".join(_streamed(frames, audio)))
    assert read_tracks(path).mismatches(num_samples / 16_000) == []
    clip = read_video(path)
    assert len(clip.frames) == num_frames
    error = clip.frames.astype(float) - frames
    assert 10 * np.log10(255**2 / (error**2).mean()) > 28, "frames in another order, or spoilt"
    assert clip.audio is not None
    if num_frames > 13:
        # The first AAC frame lacks its overlap and fades in.
        assert np.corrcoef(clip.audio[1000:num_samples], audio[1000:])[0, 1] > 0.95


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="needs the ffprobe command")
def test_ffprobe_agrees(tmp_path: Path) -> None:
    path = tmp_path / "portrait.mp4"
    path.write_bytes(b"".join(_streamed(_frames(45), _speech(45 * 640))))
    entries = "stream=codec_name,profile,start_time,duration,avg_frame_rate,sample_rate:format=duration"
    command = ["ffprobe", "-v", "warning", "-show_entries", entries, "-of", "default=nw=1", str(path)]
    said = subprocess.run(command, check=True, capture_output=True, text=True)
    assert said.stderr == ""
    lines = said.stdout.split()
    for line in (
        "codec_name=h264",
        "codec_name=aac",
        "profile=LC",
        "avg_frame_rate=25/1",
        "sample_rate=48000",
    ):
        assert line in lines
    assert lines.count("start_time=0.000000") == 2
    assert lines.count("duration=1.800000") == 3


def test_each_block_leaves_at_once() -> None:
    """After every chunk, all pictures so far can be played, and the sound but for the encoder's look-ahead."""
    frames, audio = _frames(45), _speech(45 * 640)
    chunks = _streamed(frames, audio)
    for count, expected in ((1, 13), (2, 29), (3, 45)):
        clip = read_video(b"".join(chunks[:count]))
        assert len(clip.frames) == expected
        heard = np.asarray(clip.audio)[: (expected - 2) * 640]
        assert np.corrcoef(heard[1000:], audio[1000 : len(heard)])[0, 1] > 0.95


def _packets(mp4: bytes, kind: str) -> list[Any]:
    with av.open(io.BytesIO(mp4)) as container:
        return [packet for packet in container.demux(**{kind: 0}) if packet.size]


def test_packets_come_out_as_they_went_in() -> None:
    frames, audio = _frames(45), _speech(45 * 640)
    samples: list[bytes] = []
    for begin, end in ((0, 13), (13, 29), (29, 45)):
        samples += H264BlockEncoder(SIZE, SIZE).encode(frames[begin:end]).samples
    chunks = _streamed(frames, audio)
    video = _packets(b"".join(chunks), "video")
    assert [bytes(packet) for packet in video] == samples
    assert [packet.pts * packet.time_base for packet in video] == [Fraction(i, 25) for i in range(45)]
    assert all(packet.dts == packet.pts for packet in video)
    assert [i for i, packet in enumerate(video) if packet.is_keyframe] == [0, 13, 29]
    sound = _packets(b"".join(chunks), "audio")
    assert [packet.pts for packet in sound] == list(range(0, 86_400, 1024)), "no gap between blocks"
    assert {packet.duration for packet in sound[:-1]} == {1024}
    assert sound[-1].pts + sound[-1].duration == 86_400, "the sound ends with the video"
    for chunk, kinds in zip(chunks, (["ftyp", "moov"], [], [], []), strict=True):
        assert _boxes(chunk) == [*kinds, "moof", "mdat"]


def _boxes(data: bytes) -> list[str]:
    found, position = [], 0
    while position < len(data):
        size, kind = struct.unpack_from(">I4s", data, position)
        found.append(kind.decode())
        position += size
    assert position == len(data)
    return found


def test_times_are_right_after_many_hours() -> None:
    muxer, block = FragmentedMP4Muxer(SIZE, SIZE), H264BlockEncoder(SIZE, SIZE).encode(_frames(16))
    muxer._frames, muxer._audio_frames = 25 * 360_000, 16_875_000
    chunks = [muxer.header(), *(muxer.add_block(block, _speech(16 * 640)) for _ in range(2))]
    video, sound = (_packets(b"".join(chunks), kind) for kind in ("video", "audio"))
    assert [packet.pts * packet.time_base - 360_000 for packet in video] == [
        Fraction(i, 25) for i in range(32)
    ]
    assert [packet.pts - 17_280_000_000 for packet in sound] == [1024 * i for i in range(len(sound))]


def test_the_header_comes_first_and_once() -> None:
    muxer = FragmentedMP4Muxer(SIZE, SIZE)
    head = muxer.header()
    assert head[4:8] == b"ftyp"
    assert muxer.header() == b""
    first = muxer.add_block(H264BlockEncoder(SIZE, SIZE).encode(_frames(2)), np.zeros(0, np.float32))
    assert first[4:8] == b"moof"
    assert FragmentedMP4Muxer(SIZE, SIZE).close() == head, "an empty stream is a header"


def test_what_does_not_fit_is_refused() -> None:
    muxer, block = FragmentedMP4Muxer(SIZE, SIZE), H264BlockEncoder(SIZE, SIZE).encode(_frames(2))
    with pytest.raises(ValueError, match=r"audio: expected .* at most 1280 samples"):
        muxer.add_block(block, np.zeros(1281, np.float32))
    with pytest.raises(ValueError, match="block: expected 64×64"):
        muxer.add_block(H264BlockEncoder(32, 32).encode(_frames(2, 32)), np.zeros(0, np.float32))
    foreign = EncodedBlock(
        width=SIZE, height=SIZE, fps=25, parameter_sets=(b"g\x42\x00\x1e", b"h"), samples=block.samples
    )
    with pytest.raises(ValueError, match="parameter sets differ"):
        muxer.add_block(foreign, np.zeros(0, np.float32))
    muxer.close()
    assert muxer.close() == b""
    with pytest.raises(ValueError, match="closed"):
        muxer.add_block(block, np.zeros(0, np.float32))


PAGE = """<!doctype html><video id=v muted></video><script>
window.said = {};
(async () => {
  const media = new MediaSource(), video = document.getElementById("v");
  video.src = URL.createObjectURL(media);
  await new Promise(done => media.addEventListener("sourceopen", done, {once: true}));
  const buffer = media.addSourceBuffer('MIME');
  const data = new Uint8Array(await (await fetch("portrait.mp4")).arrayBuffer());
  for (let at = 0; at < data.length; at += 4096) {
    buffer.appendBuffer(data.slice(at, at + 4096));
    await new Promise(done => buffer.addEventListener("updateend", done, {once: true}));
  }
  media.endOfStream();
  video.addEventListener("ended", () => {
    said.shown = video.getVideoPlaybackQuality().totalVideoFrames;
    said.ended = true;
  });
  said.start = video.buffered.start(0); said.end = video.buffered.end(0); said.ranges = video.buffered.length;
  await video.play();
})().catch(error => { said.error = String(error); said.ended = true; });
</script>"""


@pytest.mark.browser
def test_chromium_plays_it_through_media_source_extensions(tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs chromium")
    (tmp_path / "portrait.mp4").write_bytes(b"".join(_streamed(_frames(45, 128), _speech(45 * 640), 128)))
    (tmp_path / "index.html").write_text(PAGE.replace("MIME", FragmentedMP4Muxer(128, 128).mime_type))
    handler = functools.partial(_QuietHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
        flags += ["--disable-background-networking", "--disable-component-update"]
        with playwright.sync_playwright() as api:
            browser = api.chromium.launch(executable_path=chromium, args=flags)
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{server.server_port}/index.html")
            page.wait_for_function("window.said.ended", timeout=60_000)
            said = page.evaluate("window.said")
            browser.close()
        server.shutdown()
    assert "error" not in said, said
    assert said["ranges"] == 1
    assert said["start"] == 0
    assert said["end"] == pytest.approx(45 / 25, abs=0.04)
    assert said["shown"] == 45


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Says nothing: pytest's output is for results."""
