"""The session's arithmetic, with stages that are quick and say what they were given: silence, interruption, the end."""

import asyncio
import io

import av
import numpy as np
import pytest

from portrait.media.h264 import H264BlockEncoder
from portrait.speech import LogMelEncoder
from portrait.streaming import SpeechRequest, SpeechStage
from serve_apps.errors import ApiError
from serve_apps.limits import Limits
from serve_apps.messages import ModelFacts, SpokenBlock
from serve_apps.sessions import StreamSession

SIZE = 64
LOOK_AHEAD = 1280


class QuickStages:
    """Real speech stage and real H.264 of grey pictures; latents are the block's number. `gate` holds the decoder."""

    def __init__(self):
        self.speech_stage = SpeechStage(LogMelEncoder(look_ahead_ms=80))
        self.speech_stage.open("s")
        self.encoder = H264BlockEncoder(SIZE, SIZE)
        self.heard = []
        self.generated = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.generating = asyncio.Event()

    async def speech(self, session_id, samples, end):
        self.heard.append(samples)
        blocks = self.speech_stage.step([SpeechRequest(session_id=session_id, samples=samples, end=end)])[0]
        return [
            SpokenBlock(index=b.index, features=b.features, audio=b.audio, frames=b.num_frames)
            for b in blocks
        ]

    async def generate(self, session_id, features):
        self.generated += 1
        self.generating.set()
        return np.full((1,), self.generated)

    async def decode(self, session_id, latents, frames):
        await self.gate.wait()
        return self.encoder.encode(
            np.full((frames, SIZE, SIZE, 3), 60 + 20 * int(latents[0]) % 180, np.uint8)
        )


class Sink:
    def __init__(self):
        self.media, self.events = b"", []
        self.came = asyncio.Event()

    async def __call__(self, event, media):
        self.media += media
        if event is not None:
            self.events.append(event)
            self.came.set()

    def decoded(self):
        """Mean grey of each frame, and the sound at 48 kHz."""
        with av.open(io.BytesIO(self.media)) as container:
            frames = [frame.to_ndarray(format="gray").mean() for frame in container.decode(video=0)]
        with av.open(io.BytesIO(self.media)) as container:
            sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
        return frames, sound


def make(slack_s=None, **limits):
    stages, sink = QuickStages(), Sink()
    facts = ModelFacts(preset="x", size=SIZE, look_ahead_samples=LOOK_AHEAD, versions={})
    session = StreamSession(
        session_id="s", stages=stages, facts=facts, limits=Limits(**limits), send=sink, slack_s=slack_s
    )
    return session, stages, sink


def tone(samples: int) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(samples) / 16000)).astype(np.float32)


@pytest.mark.parametrize(
    "samples",
    [1, 640, 641, 13 * 640 - 1, 13 * 640, 13 * 640 + LOOK_AHEAD, 29 * 640, 29 * 640 + LOOK_AHEAD, 33333],
)
async def test_the_stream_is_as_long_as_the_speech(samples):
    session, stages, sink = make()
    for piece in np.array_split(tone(samples), 7):
        session.audio.push(piece)
    session.audio.end()
    ended = await session.run()
    frames, sound = sink.decoded()
    assert len(frames) == ended.frames == -(-samples // 640)
    assert (
        0 <= len(sound) - len(frames) * 1920 < 1024
    )  # decoders give whole AAC frames, which the track's length cuts
    assert sum(map(len, stages.heard)) == samples
    assert [event.frames for event in sink.events[:-1]] == [13, 16, 16, 16][: len(sink.events) - 1]
    assert ended.silence_s == ended.dropped_s == 0


async def test_nothing_said_is_nothing_sent():
    session, _, sink = make()
    session.audio.end()
    ended = await session.run()
    assert (ended.frames, sink.media) == (0, b"")


async def test_silence_takes_the_place_of_audio_that_does_not_come():
    session, stages, sink = make(slack_s=0.01)
    session.audio.push(tone(1600))
    running = asyncio.create_task(session.run())
    await sink.came.wait()
    session.audio.end()
    ended = await running
    first = 13 * 640 + LOOK_AHEAD
    np.testing.assert_array_equal(stages.heard[0], np.pad(tone(1600), (0, first - 1600)))
    assert sink.events[0].silence_s == pytest.approx((first - 1600) / 16000)
    assert ended.silence_s >= sink.events[0].silence_s
    # The audio that was there is heard before the silence, not dropped.
    _, sound = sink.decoded()
    assert np.abs(sound[960:4800]).max() > 0.3
    assert np.abs(sound[6000:]).max() < 0.01


async def test_silence_keeps_the_pace_of_the_clock():
    """Block 0 needs 0.6 s of audio; were silence made as fast as possible, many blocks would come meanwhile."""
    session, _, sink = make(slack_s=0.01)
    loop = asyncio.get_running_loop()
    begin = loop.time()
    running = asyncio.create_task(session.run())
    await sink.came.wait()
    assert loop.time() - begin >= (13 * 640 + LOOK_AHEAD) / 16000
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_without_idle_the_session_waits_for_its_audio():
    session, stages, sink = make(slack_s=None)
    running = asyncio.create_task(session.run())
    await asyncio.sleep(0.8)
    assert not stages.heard
    session.audio.fill(tone(6400))
    assert (await running).frames == 10
    assert sink.events[0].silence_s == 0


async def test_an_interruption_drops_what_was_not_sent_and_says_how_much():
    session, stages, sink = make()
    session.audio.push(tone(29 * 640 + LOOK_AHEAD))
    running = asyncio.create_task(session.run())
    while len(sink.events) < 2:
        sink.came.clear()
        await sink.came.wait()
    stages.gate.clear()
    stages.generating.clear()
    session.audio.push(tone(16 * 640 + 5000))
    await stages.generating.wait()
    confirmed = []

    async def confirm(event):
        confirmed.append((event, len(sink.events)))

    await session.clear(confirm)
    stages.gate.set()
    event, sent = confirmed[0]
    # The look-ahead that the second block had heard, a third block in progress, and what waited in the queue.
    assert event.dropped_s == pytest.approx((LOOK_AHEAD + 16 * 640 + 5000) / 16000)
    assert (event.media_s, sent) == (29 / 25, 2)

    session.audio.fill(np.full(6400, 0.25, np.float32))
    ended = await running
    assert ended.dropped_s == event.dropped_s
    frames, sound = sink.decoded()
    assert len(frames) == ended.frames
    # The third block (grey 120) was never sent; the second is followed by the fourth.
    assert 120 not in {round(grey / 20) * 20 for grey in frames}
    # After the cut there is no tone: only silence where look-ahead had been, then the new sound.
    cut = sound[29 * 1920 + 2048 : 29 * 1920 + 3 * 1024]
    assert np.abs(cut).max() < 0.05


async def test_clear_is_confirmed_when_there_is_nothing_to_drop():
    session, _, _ = make()
    confirmed = []

    async def confirm(event):
        confirmed.append(event)

    await session.clear(confirm)
    await session.clear(confirm)
    assert [(event.dropped_s, event.media_s) for event in confirmed] == [(0, 0), (0, 0)]


async def test_a_stage_that_fails_ends_the_session_and_leaves_no_task():
    session, stages, _ = make()

    async def fail(*_):
        raise ApiError("session_lost", "gone", 503)

    stages.decode = fail
    before = asyncio.all_tasks()
    session.audio.push(tone(32000))
    with pytest.raises(ApiError, match="gone"):
        await session.run()
    assert asyncio.all_tasks() == before


async def test_generation_does_not_run_further_ahead_than_the_limit():
    session, stages, sink = make(max_ahead_s=1.0)
    session.pacing.played(0.0)
    session.audio.fill(tone(16000 * 10))
    running = asyncio.create_task(session.run())
    await asyncio.sleep(0.5)
    # 13 + 16 frames are 1.16 s, more than may be ahead; what is in flight may follow.
    assert session.sent.frames <= 13 + 16 * 3
    session.pacing.played(10.0)
    assert (await running).frames == 250
    assert len(sink.events) == stages.generated
