import asyncio
import json

import numpy as np
import pytest
import websockets

from portrait.media.audio import write_wav
from serve_apps.client import stalls_of, stream_file


def test_a_player_that_is_always_fed_never_stalls():
    assert stalls_of([1.0, 1.5, 2.0], [0.52, 0.64, 0.64]) == (0, 0.0)


def test_a_late_block_is_a_stall_of_what_was_missing_and_moves_what_follows():
    # Plays 0.5 … 1.0, runs dry until 1.4, plays until 2.0; the third block came in time for that.
    stalls, stalled = stalls_of([0.5, 1.4, 1.9], [0.5, 0.6, 0.6])
    assert stalls == 1
    assert stalled == pytest.approx(0.4)


def test_a_player_that_waits_before_it_starts_bridges_what_comes_later():
    assert stalls_of([0.5, 1.4, 1.9], [0.5, 0.6, 0.6], 0.4) == (0, 0.0)
    stalls, stalled = stalls_of([0.5, 1.4, 1.9], [0.5, 0.6, 0.6], 0.1)
    assert stalls == 1
    assert stalled == pytest.approx(0.3)


def test_nothing_came():
    assert stalls_of([], []) == (0, 0.0)
    assert stalls_of([], [], 0.3) == (0, 0.0)


async def test_the_client_reads_on_until_the_application_closes(tmp_path):
    """Closing at `ended` would cut the stream off while Serve's proxy is still reading it."""
    write_wav(tmp_path / "speech.wav", np.zeros(8000, np.float32))
    open_after_ended = []

    async def application(socket):
        await socket.recv()
        await socket.send(json.dumps({"type": "started", "fps": 25, "play_after_s": 0.3}))
        while await socket.recv() != '{"type": "end"}':
            pass
        await socket.send(json.dumps({"type": "block", "frames": 13, "latency_ms": 1}))
        await socket.send(b"media")
        await socket.send('{"type": "ended"}')
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(socket.wait_closed(), 0.3)
        open_after_ended.append(True)

    async with websockets.serve(application, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        report = await stream_file(
            f"http://127.0.0.1:{port}", "p", tmp_path / "speech.wav", tmp_path / "out.mp4", pace=float("inf")
        )
    assert open_after_ended == [True]
    assert (report.frames, report.stalls) == (13, 0)
    assert report.total_s < 0.3 + report.block_s[0]
    assert (tmp_path / "out.mp4").read_bytes() == b"media"
