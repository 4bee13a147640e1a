"""`WS /v1/stream`, over deployments that run in this process (Serve's local testing mode)."""

import itertools
import json
import time

import numpy as np
import pytest
from starlette.websockets import WebSocketDisconnect

from serve_apps.sockets import PcmReader


def start(**fields) -> str:
    return json.dumps({"type": "start", "seed": 1, "idle": False} | fields)


def until(socket, kind: str) -> tuple[list[dict], bytes]:
    """Events up to one of that type, and the media that came with them."""
    events, media = [], b""
    while True:
        message = socket.receive()
        if message["type"] == "websocket.close":
            raise AssertionError(f"closed with {message} before {kind!r}; events: {events}")
        if message.get("bytes") is not None:
            media += message["bytes"]
            continue
        events.append(json.loads(message["text"]))
        if events[-1]["type"] == kind:
            return events, media


def closed_with(socket) -> int:
    with pytest.raises(WebSocketDisconnect) as caught:
        socket.receive_text()
    return caught.value.code


def free(service) -> bool:
    for _ in range(100):
        if service.sessions == 0:
            return True
        time.sleep(0.05)
    return False


def test_a_stream_from_start_to_end(http, portrait_id, talk, tmp_path, check_media):
    with http.websocket_connect("/v1/stream") as socket:
        socket.send_text(start(portrait_id=portrait_id))
        started = json.loads(socket.receive_text())
        assert started["type"] == "started"
        assert (started["width"], started["fps"], started["seed"]) == (128, 25, 1)
        assert started["play_after_s"] > (16 - 13) / 25
        for at in range(0, len(talk.pcm), 640):
            socket.send_bytes(talk.pcm[at : at + 640])
        socket.send_text('{"type": "end"}')
        events, media = until(socket, "ended")
        assert closed_with(socket) == 1000
    blocks = [event for event in events if event["type"] == "block"]
    assert [block["frames"] for block in blocks] == [13, 16, 16, 16, 14]
    assert [block["start_s"] for block in blocks] == pytest.approx([0, 0.52, 1.16, 1.8, 2.44])
    assert sum(block["bytes"] for block in blocks) <= len(media)
    assert events[-1] | {"frames": 75, "seconds": 3.0, "blocks": 5, "dropped_s": 0.0} == events[-1]
    (tmp_path / "stream.mp4").write_bytes(media)
    check_media(tmp_path / "stream.mp4", 3.0)


@pytest.mark.parametrize(
    ("first", "code", "close"),
    [
        ('{"type": "end"}', "no_start", 1008),
        ("hello", "bad_message", 1008),
        ('{"type": "start", "portrait_id": "0000000000000000"}', "unknown_portrait", 1008),
        ('{"type": "start", "portrait_id": "0000000000000000", "loud": true}', "bad_message", 1008),
    ],
)
def test_a_wrong_first_message_is_told_and_closed(http, service, first, code, close):
    with http.websocket_connect("/v1/stream") as socket:
        socket.send_text(first)
        error = json.loads(socket.receive_text())
        assert (error["type"], error["code"]) == ("error", code)
        assert closed_with(socket) == close
    assert free(service)


def test_silence_on_the_socket_is_not_waited_for_for_ever(http):
    with http.websocket_connect("/v1/stream") as socket:
        assert json.loads(socket.receive_text())["code"] == "no_start"


def test_when_all_slots_are_taken_the_socket_is_accepted_and_closed_with_1013(http, service):
    with service.slot(), service.slot(), http.websocket_connect("/v1/stream") as socket:
        error = json.loads(socket.receive_text())
        assert (error["code"], "2 sessions" in error["message"]) == ("full", True)
        assert closed_with(socket) == 1013


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"x" * (2**20 + 2), "too_large"),
        ('{"type": "start", "portrait_id": "a"}', "started_already"),
    ],
)
def test_a_wrong_frame_in_a_stream_is_told_and_closed(http, service, portrait_id, frame, code):
    with http.websocket_connect("/v1/stream") as socket:
        socket.send_text(start(portrait_id=portrait_id))
        until(socket, "started")
        (socket.send_bytes if isinstance(frame, bytes) else socket.send_text)(frame)
        assert until(socket, "error")[0][-1]["code"] == code
        assert closed_with(socket) == 1008
    assert free(service)


def test_messages_of_odd_length_stream_the_same_media(http, portrait_id, talk):
    def streamed(length: int) -> bytes:
        with http.websocket_connect("/v1/stream") as socket:
            socket.send_text(start(portrait_id=portrait_id))
            for at in range(0, 32000, length):
                socket.send_bytes(talk.pcm[at : min(at + length, 32000)])
            socket.send_text('{"type": "end"}')
            return until(socket, "ended")[1]

    assert streamed(641) == streamed(640)


def test_clear_is_confirmed_and_the_stream_goes_on(http, portrait_id, talk, tmp_path, check_media):
    with http.websocket_connect("/v1/stream") as socket:
        socket.send_text(start(portrait_id=portrait_id))
        until(socket, "started")
        socket.send_bytes(talk.pcm)
        socket.send_text('{"type": "clear"}')
        events, media = until(socket, "cleared")
        cleared = events[-1]
        sent = sum(event["frames"] for event in events if event["type"] == "block")
        assert cleared["media_s"] == pytest.approx(sent / 25)
        assert cleared["dropped_s"] == pytest.approx(3.0 - sent / 25, abs=0.001)
        socket.send_bytes(talk.pcm[:32000])
        socket.send_text('{"type": "end"}')
        events, rest = until(socket, "ended")
    assert events[-1]["dropped_s"] == pytest.approx(cleared["dropped_s"], abs=0.001)
    # One second follows; what had been cut within a block was filled by it.
    assert 0 < events[-1]["frames"] - sent <= 25 + 16
    (tmp_path / "cut.mp4").write_bytes(media + rest)
    check_media(tmp_path / "cut.mp4", events[-1]["frames"] / 25)


def test_a_client_that_leaves_frees_its_session_in_all_stages(http, service, portrait_id, talk):
    closed = []
    close = service._stages.close

    async def noted(session_id):
        await close(session_id)
        closed.append(session_id)

    service._stages.close = noted
    with http.websocket_connect("/v1/stream") as socket:
        socket.send_text(start(portrait_id=portrait_id))
        session_id = until(socket, "started")[0][-1]["session_id"]
        socket.send_bytes(talk.pcm)
        assert service.sessions == 1
    assert free(service)
    for _ in range(100):
        if closed:
            break
        time.sleep(0.05)
    assert closed == [session_id]
    assert not service._stages._sessions


def test_two_streams_at_once_are_what_each_is_alone(http, portrait_id, talk):
    """Same seed, other audio: what one session hears must not show in the other."""
    halves = (talk.pcm[:44800], talk.pcm[44800:])

    def alone(pcm):
        with http.websocket_connect("/v1/stream") as socket:
            socket.send_text(start(portrait_id=portrait_id))
            socket.send_bytes(pcm)
            socket.send_text('{"type": "end"}')
            return until(socket, "ended")[1]

    expected = [alone(pcm) for pcm in halves]
    assert expected[0] != expected[1]
    with http.websocket_connect("/v1/stream") as one, http.websocket_connect("/v1/stream") as two:
        for socket in (one, two):
            socket.send_text(start(portrait_id=portrait_id))
        for socket, pcm in zip((one, two), halves, strict=True):
            socket.send_bytes(pcm)
            socket.send_text('{"type": "end"}')
        together = [until(socket, "ended")[1] for socket in (one, two)]
    # Batches of two add up in another order, so pictures may differ in their last bits.
    assert [len(media) for media in together] == pytest.approx([len(media) for media in expected], rel=0.02)


def test_pcm_is_little_endian_and_scaled():
    samples = PcmReader().read(b"\x00\x00\x00\x40\x00\x80\xff\x7f")
    np.testing.assert_allclose(samples, [0, 0.5, -1, 1], atol=1e-4)


def test_pcm_may_be_cut_within_a_sample(talk):
    whole, pcm, cuts = (
        PcmReader().read(talk.pcm),
        PcmReader(),
        [0, 1, 2, 5, 6, 1007, 1008, 1009, len(talk.pcm)],
    )
    pieces = [pcm.read(talk.pcm[begin:end]) for begin, end in itertools.pairwise(cuts)]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    assert len(pcm.read(b"")) == len(pcm.read(b"\x01")) == 0
    np.testing.assert_array_equal(pcm.read(b"\x40"), np.frombuffer(b"\x01\x40", "<i2") / 32768)
