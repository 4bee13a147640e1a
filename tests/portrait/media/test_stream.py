"""Tests of portrait.media.stream: blocks that follow each other whoever encoded them, and tracks that stay together."""

from __future__ import annotations

import functools
import http.server
import pickle
import shutil
import subprocess
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from portrait.media.stream import EncodedBlock, FragmentedMP4Muxer, H264BlockEncoder
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


def test_a_block_is_plain_data_and_depends_on_nothing() -> None:
    frames, encoder = _frames(32), H264BlockEncoder(SIZE, SIZE)
    encoder.encode(frames[:16])
    second = encoder.encode(frames[16:])
    assert second == H264BlockEncoder(SIZE, SIZE).encode(frames[16:])
    assert pickle.loads(pickle.dumps(second)) == second
    assert second.num_frames == 16
    nal_types = [[unit & 0x1F for unit in _first_bytes(sample)] for sample in second.samples]
    assert nal_types == [[5]] + [[1]] * 15, "one IDR slice, then P slices, nothing else"


def _first_bytes(sample: bytes) -> list[int]:
    found, position = [], 0
    while position < len(sample):
        length = int.from_bytes(sample[position : position + 4], "big")
        found.append(sample[position + 4])
        position += 4 + length
    assert position == len(sample)
    return found


def test_parameter_sets_do_not_depend_on_instance_or_quality() -> None:
    sets = {H264BlockEncoder(SIZE, SIZE, crf=crf).parameter_sets for crf in (14, 20, 20, 33.5)}
    assert len(sets) == 1


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
    with pytest.raises(ValueError, match="even, positive"):
        H264BlockEncoder(63, 64)
    with pytest.raises(ValueError, match="at least one"):
        H264BlockEncoder(SIZE, SIZE).encode(np.zeros((0, SIZE, SIZE, 3), np.uint8))


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
