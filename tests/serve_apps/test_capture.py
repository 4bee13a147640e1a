"""The page's audio worklet, run in Node: what a microphone at any rate becomes at 16 kHz."""

import shutil
import subprocess

import numpy as np
import pytest
from scipy.signal import firwin, lfilter, resample_poly

from serve_apps.http_api import WEB_FOLDER

NODE = shutil.which("node")
WORKLET = """
const fs = require("fs");
const [rate, block, source, target, worklet] = process.argv.slice(2);
const sent = [];
globalThis.sampleRate = Number(rate);
globalThis.AudioWorkletProcessor = class { port = { postMessage: (chunk) => sent.push(Buffer.from(chunk)) }; };
globalThis.registerProcessor = (name, processor) => { globalThis.Processor = processor; };
(0, eval)(fs.readFileSync(worklet, "utf8"));
const capture = new Processor({ processorOptions: { targetRate: 16000 } });
const samples = new Float32Array(new Uint8Array(fs.readFileSync(source)).buffer);
const size = Number(block);
for (let at = 0; at < samples.length; at += size) capture.process([[samples.subarray(at, at + size)]]);
capture.process([[]]); // no microphone is connected any more
fs.writeFileSync(target, Buffer.concat(sent));
if (sent.some((chunk) => chunk.length !== 640)) throw new Error("a chunk is not 20 ms");
"""

pytestmark = pytest.mark.skipif(NODE is None, reason="no node on this machine")


@pytest.fixture
def captured(tmp_path):
    def run(samples: np.ndarray, rate: int, block: int = 128) -> np.ndarray:
        samples.astype("<f4").tofile(tmp_path / "in.f32")
        (tmp_path / "worklet.js").write_text(WORKLET)
        names = [str(tmp_path / "in.f32"), str(tmp_path / "out.i16"), str(WEB_FOLDER / "capture.js")]
        command = [NODE, str(tmp_path / "worklet.js"), str(rate), str(block), *names]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return np.fromfile(tmp_path / "out.i16", "<i2") / 32767

    return run


@pytest.mark.parametrize("rate", [48000, 44100, 96000, 22050, 16000, 8000])
def test_speech_keeps_its_time_and_loudness(captured, rate):
    """Independent of any resampler: the same three sines, computed at 16 kHz."""

    def speech(rate: int, count: int) -> np.ndarray:
        t = np.arange(count) / rate
        return 0.3 * (np.sin(880 * np.pi * t) + np.sin(2000 * np.pi * t + 1) + np.sin(6400 * np.pi * t + 2))

    result = captured(speech(rate, 3 * rate), rate)
    assert 16000 * 3 - 640 <= len(result) <= 16000 * 3
    expected = speech(16000, len(result))
    np.testing.assert_allclose(result[400:-400], expected[400:-400], atol=1e-4)


@pytest.mark.parametrize("rate", [48000, 44100])
def test_noise_becomes_what_scipy_makes_of_it(captured, rate):
    low = firwin(401, 6000, fs=rate)
    noise = lfilter(low, 1, np.random.default_rng(0).normal(size=rate) * 0.2)
    up, down = 16000 // np.gcd(16000, rate), rate // np.gcd(16000, rate)
    expected = resample_poly(noise, up, down, window=("kaiser", 12.0))
    result = captured(noise, rate)
    inner = slice(400, len(result) - 400)
    assert np.abs(result[inner] - expected[: len(result)][inner]).max() < 2e-3
    # What the blocks are cut into changes nothing.
    np.testing.assert_array_equal(captured(noise, rate, block=1000)[: len(result)], result)


@pytest.mark.parametrize("frequency", [8300, 9000, 15000, 21000])
def test_what_lies_above_the_new_band_is_not_folded_into_it(captured, frequency):
    result = captured(np.sin(2 * np.pi * frequency * np.arange(48000) / 48000), 48000)
    assert np.abs(result[400:]).max() < 1e-3


def test_too_loud_a_microphone_is_clipped_not_wrapped(captured):
    result = captured(np.full(4800, 1.5), 48000)
    assert result[400:].min() == 1
