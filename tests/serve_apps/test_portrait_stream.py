"""The whole application on a real Ray Serve, driven by the Python client and raw sockets."""

import asyncio
import json
from typing import Any

import pytest
import websockets

from serve_apps.client import StreamError, register_portrait, stream_file

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("slots_free")]


@pytest.fixture(scope="module")
def portrait(application, talk) -> str:
    return register_portrait(application, [talk.picture], name="head")


def socket_url(url: str) -> str:
    return url.replace("http", "ws", 1) + "/v1/stream"


async def test_a_streamed_file_comes_back_as_long_as_it_is(
    application, portrait, talk, tmp_path, check_media
):
    report = await stream_file(
        application, portrait, talk.wav, tmp_path / "out.mp4", seed=1, pace=float("inf")
    )
    assert (report.frames, report.blocks) == (75, 5)
    assert len(report.block_s) == len(report.latency_ms) == 5
    assert report.media_bytes == (tmp_path / "out.mp4").stat().st_size
    check_media(tmp_path / "out.mp4", 3.0)


async def test_two_streams_at_once_share_the_replicas_and_mix_nothing(
    application, portrait, talk, tmp_path, check_media
):
    from portrait.media.audio import write_wav

    write_wav(tmp_path / "short.wav", talk.samples[:20000])
    await asyncio.gather(
        stream_file(application, portrait, talk.wav, tmp_path / "long.mp4", pace=float("inf")),
        stream_file(application, portrait, tmp_path / "short.wav", tmp_path / "short.mp4", pace=float("inf")),
    )
    check_media(tmp_path / "long.mp4", 3.0)
    check_media(tmp_path / "short.mp4", 1.25)


async def test_a_third_stream_is_told_that_all_is_taken(application, portrait):
    start = json.dumps({"type": "start", "portrait_id": portrait, "idle": False})
    async with (
        websockets.connect(socket_url(application)) as one,
        websockets.connect(socket_url(application)) as two,
    ):
        for socket in (one, two):
            await socket.send(start)
            assert json.loads(await socket.recv())["type"] == "started"
        async with websockets.connect(socket_url(application)) as three:
            assert json.loads(await three.recv())["code"] == "full"
            with pytest.raises(websockets.ConnectionClosed):
                await three.recv()
            assert three.close_code == 1013


async def test_a_client_that_leaves_while_blocks_are_made_frees_its_slot(
    application, portrait, talk, sessions_become
):
    async with websockets.connect(socket_url(application)) as socket:
        await socket.send(json.dumps({"type": "start", "portrait_id": portrait}))
        assert json.loads(await socket.recv())["type"] == "started"
        await socket.send(talk.pcm)
        await sessions_become(1)
    await sessions_become(0)


async def test_the_portrait_stays_alive_without_audio(application, portrait):
    async with websockets.connect(socket_url(application)) as socket:
        await socket.send(json.dumps({"type": "start", "portrait_id": portrait}))
        blocks = []
        while len(blocks) < 2:
            message = await socket.recv()
            if isinstance(message, str) and (event := json.loads(message))["type"] == "block":
                blocks.append(event)
        assert [block["frames"] for block in blocks] == [13, 16]
        assert blocks[1]["silence_s"] == pytest.approx(0.64)
        await socket.send('{"type": "clear"}')
        await socket.send('{"type": "end"}')
        kinds = [json.loads(message)["type"] async for message in socket if isinstance(message, str)]
        assert "cleared" in kinds
        assert kinds[-1] == "ended"


async def test_errors_reach_the_python_client_in_words(application, talk, tmp_path):
    with pytest.raises(StreamError, match="no portrait 'ffffffffffffffff'"):
        await stream_file(application, "f" * 16, talk.wav, tmp_path / "out.mp4")
    (tmp_path / "notes.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"notes\.png: not an image file"):
        register_portrait(application, [tmp_path / "notes.png"])
    with pytest.raises(ValueError, match="consent"):
        register_portrait(application, [talk.picture], consent=False)


async def test_a_stream_survives_the_death_of_its_generator(
    application, portrait, talk, tmp_path, check_media
):
    """A replica is killed in mid-stream: the next one continues from the session's state."""
    import ray

    async with websockets.connect(socket_url(application), max_size=None) as socket:
        await socket.send(json.dumps({"type": "start", "portrait_id": portrait, "idle": False}))
        await socket.recv()
        await socket.send(talk.pcm[:64000])
        media, killed = b"", False
        async for message in socket:
            if isinstance(message, bytes):
                media += message
                continue
            event = json.loads(message)
            assert event["type"] in ("block", "ended"), event
            if event["type"] == "block" and not killed:
                killed = True
                actors: list[Any] = await asyncio.to_thread(ray.util.list_named_actors, all_namespaces=True)
                (name,) = [actor["name"] for actor in actors if "#Generator#" in actor["name"]]
                ray.kill(ray.get_actor(name, namespace="serve"))
                await socket.send(talk.pcm[64000:])
                await socket.send('{"type": "end"}')
    assert killed
    (tmp_path / "out.mp4").write_bytes(media)
    check_media(tmp_path / "out.mp4", 3.0)
