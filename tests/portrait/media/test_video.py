"""Tests of portrait.media.video: one clock for pictures and sound, upright RGB, and clear words about bad files."""

from __future__ import annotations

import gc
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

from portrait.media.audio import write_wav
from portrait.media.mp4 import encode_video, write_mp4
from portrait.media.soundtrack import read_soundtrack
from portrait.media.video import Clip, iter_frames, iter_planar_frames, probe, read_video

EVENTS = (0.6, 1.4)
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the ffmpeg command")


def _times(rate: Fraction, seconds: float = 2.0) -> list[Fraction]:
    return [i / rate for i in range(int(seconds * rate))]


def _variable() -> list[Fraction]:
    rates = np.random.default_rng(4).choice([30, 20, 15], 45)
    steps = [Fraction(1, int(rate)) for rate in rates]
    return [sum(steps[:i], Fraction(0)) for i in range(45)]


def _flashes(clip: Clip) -> list[float]:
    bright = clip.frames.mean(axis=(1, 2, 3)) > 128
    return [i / 25 for i in range(1, len(bright)) if bright[i] and not bright[i - 1]]


def _clicks(clip: Clip, expected: list[float]) -> list[float]:
    """Where the click is the loudest near each expected time (AAC spreads it evenly around its place)."""
    assert clip.audio is not None
    found = []
    for time in expected:
        centre, reach = round(time * 16_000), 1600
        piece = np.abs(clip.audio[centre - reach : centre + reach])
        found.append((centre - reach + int(piece.argmax())) / 16_000)
    return found


@pytest.mark.parametrize(
    "times",
    [
        pytest.param(_times(Fraction(25)), id="25"),
        pytest.param(_times(Fraction(30_000, 1001)), id="29.97"),
        pytest.param(_times(Fraction(30)), id="30"),
        pytest.param(_times(Fraction(50)), id="50"),
        pytest.param(_variable(), id="variable"),
    ],
)
@pytest.mark.parametrize("audio_start", [0.0, 0.32])
@pytest.mark.parametrize("name", ["film.mp4", "film.mkv"])
def test_flash_and_click_stay_together(
    flash_film, times: list[Fraction], audio_start: float, name: str
) -> None:
    clip = read_video(flash_film(times, EVENTS, audio_start=audio_start, name=name))
    assert clip.audio is not None
    assert len(clip.audio) == 640 * len(clip.frames)
    # The source shows the flash with its first picture at or after the event; ours comes less than a frame from that.
    shown = [float(min(t for t in times if t >= event)) for event in EVENTS]
    np.testing.assert_allclose(_flashes(clip), shown, atol=0.0399)
    # Matroska keeps time in milliseconds, MP4 to the sample.
    tolerance = 2e-3 if name.endswith("mkv") else 1.01 / 16_000
    np.testing.assert_allclose(_clicks(clip, list(EVENTS)), EVENTS, atol=tolerance)


@pytest.mark.parametrize(
    "rate", [Fraction(25), Fraction(30_000, 1001), Fraction(30), Fraction(50), Fraction(60)]
)
def test_every_output_frame_shows_the_nearest_picture(tmp_path: Path, rate: Fraction) -> None:
    """Each source picture has its own grey level, so that the output says which one it shows."""
    levels = np.arange(40, dtype=np.uint8) * 6
    pictures = levels[:, None, None, None].repeat(32, 1).repeat(32, 2).repeat(3, 3)
    data = encode_video(pictures, fps=rate, crf=5)  # any rate: frame i at i/rate
    shown = np.rint(read_video(data).frames.mean(axis=(1, 2, 3)) / 6).astype(int)
    for index, source in enumerate(shown):
        distances = [abs(Fraction(index, 25) - i / rate) for i in range(40)]
        assert distances[source] <= min(distances) + Fraction(1, 2000), f"output {index} shows {source}"


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "film.ts", "film.mpg", "film.avi"])
@pytest.mark.parametrize("start", [0.4, 2.04, 3.96])
def test_beginning_anywhere_shows_what_reading_all_shows_there(
    tmp_path: Path, name: str, start: float
) -> None:
    # A brightness of its own for every picture; key frames two seconds apart and B-frames between them.
    path = tmp_path / name
    codec = "mpeg2video" if name.endswith("mpg") else "libx264"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 64, 64, "yuv420p", 50
        for number in range(120):
            picture = np.full((64, 64, 3), 2 * number, np.uint8)
            container.mux(stream.encode(VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    whole = list(iter_frames(path))
    part = list(iter_frames(path, start_s=start, max_seconds=0.6))
    first = round(start * 25)
    expected = whole[first : first + 15]
    assert [int(frame.mean()) for frame in part] == [int(frame.mean()) for frame in expected]
    assert len(list(iter_frames(path, start_s=start))) == len(whole) - first
    with pytest.raises(ValueError, match=r"no frame at 9\.00 s"):
        list(iter_frames(path, start_s=9.0))


def test_pictures_that_start_late_cut_the_sound_before_them(flash_film) -> None:
    late = Fraction(1, 5)
    path = flash_film([late + t for t in _times(Fraction(25))], [0.8], name="late.mp4")
    info = probe(path)
    assert info.video_start_s - info.audio_start_s == pytest.approx(0.2, abs=0.03)
    clip = read_video(path)
    np.testing.assert_allclose(_flashes(clip), [0.6], atol=1e-3)
    np.testing.assert_allclose(_clicks(clip, [0.6]), [0.6], atol=1.01 / 16_000)


def test_number_of_frames_is_the_duration_at_25(flash_film) -> None:
    assert len(read_video(flash_film(_times(Fraction(30)), [0.5])).frames) == 50
    assert len(list(iter_frames(flash_film(_times(Fraction(50)), [0.5]), max_seconds=1.0))) == 25


def test_a_picture_that_stands_is_held_until_the_next(flash_film) -> None:
    times = [Fraction(0), Fraction(1, 25), Fraction(2), Fraction(2) + Fraction(1, 25)]
    clip = read_video(flash_film(times, [2.0]))
    assert _flashes(clip) == [2.0]


def test_colours_come_back(tmp_path: Path) -> None:
    colours = np.array([[200, 40, 40], [40, 180, 60], [50, 60, 220], [128, 128, 128]], np.uint8)
    picture = colours.repeat(16, axis=0)[:, None].repeat(64, axis=1)
    frames = read_video(encode_video(np.stack([picture] * 20), crf=5)).frames
    inner = frames[:, 8::16, 8:56]
    assert np.abs(inner.astype(int) - colours[None, :, None]).mean() < 1.5
    assert abs((inner.astype(int) - colours[None, :, None]).mean()) < 0.5, (
        "a conversion that truncates darkens"
    )


@needs_ffmpeg
@pytest.mark.parametrize("turn", [90, 180, 270])
def test_rotation_is_applied_as_ffmpeg_does(tmp_path: Path, turn: int) -> None:
    corner = np.zeros((48, 80, 3), np.uint8)
    corner[:24, :40] = 255
    turned = tmp_path / "turned.mp4"
    with av.open(str(turned), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 80, 48, "yuv420p"
        stream.set_display_rotation(turn)
        for _ in range(5):
            container.mux(stream.encode(VideoFrame.from_ndarray(corner, format="rgb24")))
        container.mux(stream.encode(None))
    raw = [
        "ffmpeg",
        "-v",
        "error",
        "-i",
        turned,
        "-frames:v",
        "1",
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-",
    ]
    shown = np.frombuffer(subprocess.run(raw, check=True, capture_output=True).stdout, np.uint8)
    frame = read_video(turned).frames[0]
    assert frame.shape == ((48, 80, 3) if turn == 180 else (80, 48, 3))
    assert (probe(turned).height, probe(turned).width) == frame.shape[:2]
    np.testing.assert_allclose(frame.reshape(-1).astype(int), shown.astype(int), atol=30)


_SIGNS = [(-1, -1), (-1, 1), (1, -1), (1, 1)]


@pytest.mark.parametrize("matrix", [(a, 0, 0, d) for a, d in _SIGNS] + [(0, b, c, 0) for b, c in _SIGNS])
def test_the_whole_display_matrix_is_applied(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Turned and mirrored film, as front cameras record it: x' = a·x + c·y, y' = b·x + d·y, moved to the origin."""
    a, b, c, d = matrix
    stored = np.zeros((48, 80, 3), np.uint8)
    stored[:24, :40], stored[:24, 40:] = (220, 40, 40), (40, 180, 60)
    path = tmp_path / "selfie.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = 80, 48, "yuv420p"
        one = 1 << 16
        stream.set_display_matrix([a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30])
        for _ in range(3):
            container.mux(stream.encode(VideoFrame.from_ndarray(stored, format="rgb24")))
        container.mux(stream.encode(None))
    y, x = np.mgrid[:48, :80]
    across, down = a * x + c * y, b * x + d * y
    across, down = across - across.min(), down - down.min()
    expected = np.zeros((down.max() + 1, across.max() + 1, 3), np.uint8)
    expected[down, across] = stored
    frame = read_video(path).frames[0]
    assert frame.shape == expected.shape
    assert np.abs(frame.astype(int) - expected).mean() < 6
    assert (probe(path).height, probe(path).width) == expected.shape[:2]


@needs_ffmpeg
@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none"], "hevc.mp4"),
        (
            [
                "-c:v",
                "libx265",
                "-preset",
                "ultrafast",
                "-pix_fmt",
                "yuv420p10le",
                "-x265-params",
                "log-level=none",
            ],
            "ten bits ü.mp4",
        ),
        (["-c:v", "libx264", "-pix_fmt", "yuv444p", "-vf", "crop=63:61:exact=1"], "odd.mkv"),
        (["-c:v", "mpeg4", "-ar", "8000"], "telephone.mov"),
    ],
)
def test_other_codecs_depths_and_sizes(flash_film, tmp_path: Path, options: list[str], name: str) -> None:
    source, target = flash_film(_times(Fraction(25)), EVENTS), tmp_path / name
    subprocess.run(["ffmpeg", "-v", "error", "-i", source, *options, target], check=True)
    clip = read_video(target)
    np.testing.assert_allclose(_flashes(clip), EVENTS, atol=1e-3)
    np.testing.assert_allclose(_clicks(clip, list(EVENTS)), EVENTS, atol=0.01)
    if name == "odd.mkv":
        assert clip.frames.shape[1:] == (61, 63, 3)


@needs_ffmpeg
def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    write_mp4(tmp_path / "a.mp4", np.zeros((5, 48, 40, 3), np.uint8))
    target = tmp_path / "anamorphic.mp4"
    subprocess.run(["ffmpeg", "-v", "error", "-i", tmp_path / "a.mp4", "-vf", "setsar=2", target], check=True)
    assert read_video(target).frames.shape[1:3] == (48, 80)


def test_frames_are_freed_without_the_collector_of_cycles(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(encode_video(np.zeros((60, 48, 64, 3), np.uint8)))
    gc.collect()
    gc.disable()
    try:
        assert sum(1 for _ in iter_planar_frames(path)) == 60
        alive = [found for found in gc.get_objects() if isinstance(found, VideoFrame)]
    finally:
        gc.enable()
    # A single one of the decoder's frames would keep the memory of all of them.
    assert not [frame for frame in alive if frame.width == 64]


def test_without_sound(tmp_path: Path) -> None:
    path = tmp_path / "silent.mp4"
    write_mp4(path, np.zeros((10, 32, 32, 3), np.uint8))
    assert read_video(path).audio is None
    assert read_soundtrack(path) is None
    assert not probe(path).has_audio


def test_sound_without_pictures(tmp_path: Path) -> None:
    write_wav(tmp_path / "sound.wav", np.zeros(16_000, np.float32))
    with pytest.raises(ValueError, match=r"sound\.wav: has no video track"):
        read_video(tmp_path / "sound.wav")


def test_text_named_mp4_and_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "notes.mp4"
    path.write_text("Not a video at all.\n" * 50)
    with pytest.raises(ValueError, match=r"notes\.mp4: not a readable video") as error:
        read_video(path)
    assert "\n" not in str(error.value)
    with pytest.raises(FileNotFoundError, match=r"none\.mp4"):
        probe(tmp_path / "none.mp4")


def test_a_playlist_can_not_reach_other_files(tmp_path: Path) -> None:
    (tmp_path / "secret.mp4").write_bytes(encode_video(np.zeros((5, 32, 32, 3), np.uint8)))
    playlist = tmp_path / "list.mp4"
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n")
    with pytest.raises(ValueError, match=r"list\.mp4: not a readable video"):
        read_video(playlist)


def _noise_film(tmp_path: Path, *, faststart: bool) -> Path:
    frames = np.random.default_rng(2).integers(0, 255, (100, 64, 64, 3), np.uint8)
    path = tmp_path / "noise.mp4"
    if faststart:
        write_mp4(path, frames, np.zeros(64_000, np.float32))  # its index stands in front
    else:
        path.write_bytes(encode_video(frames))  # its index stands at the end
    return path


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("faststart", [True, False])
def test_a_truncated_file_is_refused_with_the_place(tmp_path: Path, share: float, faststart: bool) -> None:
    path = _noise_film(tmp_path, faststart=faststart)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ValueError, match=r"noise\.mp4: (damaged|cut off|not a readable)") as error:
        read_video(path)
    assert "\n" not in str(error.value)


def _black_film(container, num_frames: int, audio_codec: str):
    """Writes the video of a film and returns the stream for its sound, 16 kHz mono, which is still empty."""
    video = container.add_stream("libx264", rate=25)
    video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
    audio = container.add_stream(audio_codec, rate=16_000, layout="mono")
    for picture in np.zeros((num_frames, 64, 64, 3), np.uint8):
        container.mux(video.encode(VideoFrame.from_ndarray(picture, format="rgb24")))
    container.mux(video.encode(None))
    return audio


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_sound_that_breaks_off_is_refused_not_padded(tmp_path: Path, share: float) -> None:
    """An index in front promises two seconds of uncompressed sound, which decodes as far as it goes without error."""
    path = tmp_path / "film.mov"
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        audio = _black_film(container, 50, "pcm_s16le")
        for _ in range(50):
            frame = AudioFrame.from_ndarray(np.ones((1, 640), np.int16), format="s16", layout="mono")
            frame.sample_rate = 16_000
            container.mux(audio.encode(frame))
    assert read_soundtrack(path) is not None
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ValueError, match=r"film\.mov: the sound is cut off at .* promises 2\.00 s"):
        read_soundtrack(path)


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv"])
def test_sound_may_be_longer_than_the_pictures(tmp_path: Path, name: str) -> None:
    """Matroska's header knows the longer of the two: the pictures are whole all the same."""
    film = tmp_path / name
    with av.open(str(film), "w") as container:
        audio = _black_film(container, 25, "flac")
        frame = AudioFrame.from_ndarray(np.ones((1, 48_000), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16_000, 0, Fraction(1, 16_000)
        container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    clip = read_video(film)
    assert len(clip.frames) == 25


def test_damage_inside_is_refused_or_hardly_visible(tmp_path: Path) -> None:
    """Overwritten bytes. H.264 has no checksums: random data may decode, but then spoils a corner of a few frames."""
    whole = _noise_film(tmp_path, faststart=False).read_bytes()
    expected = read_video(whole).frames
    rng = np.random.default_rng(3)
    refusals = []
    for _ in range(20):
        data = bytearray(whole)
        start = int(rng.integers(2000, len(data) - 6000))
        data[start : start + 400] = rng.bytes(400)
        try:
            frames = read_video(bytes(data), name="flipped.mp4").frames
        except ValueError as error:
            refusals.append(str(error))
        else:
            assert (frames != expected).mean() < 0.02
    assert len(refusals) >= 10
    assert all(words.startswith("flipped.mp4: damaged at") for words in refusals)


def test_real_clips_open(real_material: Path) -> None:
    for path in sorted((real_material / "clips").iterdir()):
        info = probe(path)
        frames = list(iter_frames(path, max_seconds=0.4))
        assert len(frames) == 10, path.name
        assert frames[0].shape == (info.height, info.width, 3), path.name
        assert info.has_audio, path.name


@needs_ffmpeg
def test_files_joined_end_to_end_are_not_cut_short_in_silence(tmp_path: Path) -> None:
    """As video discs are often copied: the second file's clock begins again, and nothing of it would be seen."""
    for name, source in (("a", "testsrc"), ("b", "mandelbrot")):
        made = f"{source}=size=64x64:rate=25"
        sound = ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"]
        coded = ["-c:v", "mpeg2video", "-c:a", "mp2", "-t", "3", str(tmp_path / f"{name}.mpg")]
        subprocess.run(
            ["ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", made, *sound, *coded], check=True
        )
    joined = tmp_path / "c.mpg"
    joined.write_bytes((tmp_path / "a.mpg").read_bytes() + (tmp_path / "b.mpg").read_bytes())
    assert len(list(iter_frames(tmp_path / "a.mpg"))) == 75
    with pytest.raises(ValueError, match=r"c\.mpg: damaged at .* s, the clock goes back by 3 s"):
        list(iter_frames(joined))
    with pytest.raises(ValueError, match=r"c\.mpg: damaged sound at .* s, the clock goes back by 3 s"):
        read_soundtrack(joined)
