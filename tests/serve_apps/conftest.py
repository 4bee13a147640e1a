"""The application's parts at the tiny size with random weights: in one process, and on a real Serve."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image

from portrait import presets
from portrait.generator import Generator, SamplingConfig
from portrait.media.audio import write_wav
from portrait.storage.checkpoints import save_model
from portrait.synthetic import render_clip
from portrait.vae import VideoVAE
from serve_apps.arguments import StreamArgs
from serve_apps.handles import StageHandles
from serve_apps.http_api import create_api
from serve_apps.limits import Limits
from serve_apps.service import PortraitService


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> dict[str, str]:
    """Files of a tiny VAE and generator with random weights."""
    folder = tmp_path_factory.mktemp("models")
    # Two steps instead of twelve: what the noise becomes is not tested here.
    preset = replace(presets.load("tiny"), sampling=SamplingConfig(steps=2))
    torch.manual_seed(0)
    save_model(folder / "vae.safetensors", VideoVAE(preset.vae), kind="vae", preset=preset)
    save_model(folder / "generator.safetensors", Generator(preset.generator), kind="generator", preset=preset)
    return {kind: str(folder / f"{kind}.safetensors") for kind in ("vae", "generator")}


@pytest.fixture(scope="session")
def talk(tmp_path_factory):
    """A synthetic head's picture and 3 s of its speech: `.picture`, `.wav`, `.pcm` (16-bit bytes), `.samples`."""

    class Talk:
        folder = tmp_path_factory.mktemp("talk")
        clip = render_clip(3, 3.0, size=256)
        picture = folder / "head.png"
        wav = folder / "speech.wav"
        samples = clip.audio
        pcm = (np.clip(clip.audio, -1, 1) * 32767).astype("<i2").tobytes()

    Image.fromarray(Talk.clip.frames[0]).save(Talk.picture)
    write_wav(Talk.wav, Talk.samples)
    return Talk


@pytest.fixture(scope="session")
def local_handles(models, tmp_path_factory) -> StageHandles:
    """Handles of the three deployments, which run in this process, without a cluster."""
    from ray import serve

    from serve_apps.portrait_stream import stage_applications

    given = []

    class Receiver:
        def __init__(self, *handles):
            given.extend(handles)

    table = str(tmp_path_factory.mktemp("portraits") / "portraits.lance")
    args = StreamArgs(**models, portraits=table, limits=Limits(max_images=3)).resolved()
    application = serve.deployment(Receiver).bind(*stage_applications(args))
    serve.run(application, name="local", _local_testing_mode=True)
    return StageHandles.over(*given, timeout_s=60)


@pytest.fixture
def service(local_handles) -> PortraitService:
    """A service of two slots over the local deployments."""
    return PortraitService(
        local_handles, Limits(max_sessions=2, max_images=3, max_audio_s=20, start_timeout_s=2)
    )


@pytest.fixture
def http(service) -> Iterator[TestClient]:
    """A client of the API; all its requests run in one event loop, as in a replica."""
    with TestClient(create_api(service)) as client:
        yield client


@pytest.fixture
def portrait_id(http, talk) -> str:
    """A registered portrait."""
    answer = http.post("/v1/portraits", data={"consent": "true"}, files={"images": talk.picture.open("rb")})
    assert answer.status_code == 201, answer.text
    return answer.json()["portrait_id"]


@pytest.fixture(scope="session")
def application(ray_session, models, tmp_path_factory) -> Iterator[str]:
    """The address of the real application on the session's Ray."""
    from ray import serve

    from serve_apps.portrait_stream import start

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    table = str(tmp_path_factory.mktemp("served") / "portraits.lance")
    args = StreamArgs(**models, portraits=table, limits=Limits(max_sessions=2))
    yield start(args, port=port)
    serve.shutdown()


@pytest.fixture
def sessions_become(application) -> Callable[[int], Awaitable[None]]:
    """Waits until the application has that many sessions."""

    async def wait(expected: int) -> None:
        async with httpx.AsyncClient(base_url=application) as client:
            for _ in range(400):
                found = (await client.get("/v1/info")).json()["sessions"]
                if found == expected:
                    return
                await asyncio.sleep(0.05)
        pytest.fail(f"{found} sessions are open, expected {expected}")

    return wait


@pytest.fixture
async def slots_free(sessions_become) -> AsyncIterator[None]:
    """Waits after a test until no session is left, so that the next one finds both slots."""
    yield
    await sessions_become(0)


@pytest.fixture(scope="session")
def probe() -> Callable[[Path], dict]:
    """ffprobe's view of a file, independent of our own muxer: streams by codec type, frames counted."""

    def run(path: Path) -> dict:
        entries = "stream=codec_type,codec_name,r_frame_rate,start_time,duration,nb_read_frames"
        command = [
            "ffprobe",
            "-v",
            "error",
            "-count_frames",
            "-of",
            "json",
            "-show_entries",
            entries,
            str(path),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert not done.stderr, done.stderr
        return {stream["codec_type"]: stream for stream in json.loads(done.stdout)["streams"]}

    return run


@pytest.fixture(scope="session")
def check_media(probe) -> Callable[[Path, float], None]:
    """Asserts that a stream's file has the right codecs, frame rate and length, and that both tracks start together."""

    def check(path: Path, seconds: float) -> None:
        streams = probe(path)
        video, audio = streams["video"], streams["audio"]
        assert (video["codec_name"], audio["codec_name"]) == ("h264", "aac")
        assert video["r_frame_rate"] == "25/1"
        assert int(video["nb_read_frames"]) == -(-round(seconds * 16000) // 640)
        assert float(video["duration"]) == pytest.approx(seconds, abs=0.04)
        assert float(audio["duration"]) == pytest.approx(seconds, abs=0.04)
        assert abs(float(video["start_time"]) - float(audio["start_time"])) <= 0.04

    return check
