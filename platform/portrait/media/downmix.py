"""Any number of channels to one, so that speech keeps its level.

Stereo is averaged. Surround sound is mixed by Recommendation ITU-R BS.775 (Annex 4, 3/2 to mono): the centre, where
speech is, keeps its level. Where channels cancel each other, as with a cable of reversed polarity, one is taken alone.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import av
import numpy as np
from av.audio.frame import AudioFrame

_LOG = logging.getLogger(__name__)
_FRONT = frozenset(("FL", "FR", "FLC", "FRC", "WL", "WR"))
_SURROUND = frozenset(("BL", "BR", "BC", "SL", "SR", "SDL", "SDR"))
_GUESSED = {6: "5.1", 8: "7.1"}
"""Layouts assumed for files that don't name their channels, by number of channels: FFmpeg's guess."""
_BLOCK_SECONDS = 0.5
_CANCELLED = 0.3
"""A mix with less than this share of the power that independent channels would have. Two channels of equal level have
it at a correlation below -0.7; recordings of one voice by two microphones lie around or above 0."""
_CANCELLED_SHARE = 0.1
"""Least share of the blocks with sound; music may have an effect that cancels for a moment."""
_AS_LOUD = 0.8
"""The first channel with this share of the loudest one's power is as good: reversed wires are usually the second's."""
_QUIET = 1e-3
"""Blocks with less than this share of the loudest block's power don't count."""
_SILENT = 1e-8
"""Power of blocks that never count: -80 dB."""


@dataclass
class _Block:
    """A stretch of sound, powers summed over its samples."""

    samples: int
    mix: float
    channels: np.ndarray
    """[C], each weighted as in the mix."""


class Downmix:
    """Mixes the decoded frames of one track, and remembers where their channels cancel.

    Args:
        channel: take this channel alone, counted from 0; None mixes.
    """

    def __init__(self, channel: int | None = None) -> None:
        self._channel = channel
        self._blocks: list[_Block] = []

    def __call__(self, frame: AudioFrame, label: str) -> np.ndarray:
        """One channel, float32 [samples], in [-1, 1] (surround sound at full scale in every channel may exceed it).

        Raises:
            ValueError: a sample format that isn't supported.
        """
        values_CS = _values(frame, label)
        if self._channel is not None and self._channel < len(values_CS):
            return values_CS[self._channel].astype(np.float32)
        weights = _weights(frame)
        if weights is None:
            mix = values_CS.mean(axis=0, dtype=np.float64)
            weights = np.full(len(values_CS), 1 / len(values_CS))
        else:
            mix = weights @ values_CS.astype(np.float64)
        if len(weights) > 1:
            self._measure(values_CS, weights, mix, frame.sample_rate)
        return mix.astype(np.float32)

    def cancelled(self) -> int | None:
        """The channel that must be taken alone because the mix loses what is in it; None if the mix is right."""
        powers = np.array([block.channels.sum() / max(1, block.samples) for block in self._blocks])
        if not powers.size:
            return None
        heard = powers > max(_QUIET * powers.max(), _SILENT)
        lost = [
            block
            for block, counts in zip(self._blocks, heard, strict=True)
            if counts and block.mix < _CANCELLED * block.channels.sum()
        ]
        if not lost or len(lost) < _CANCELLED_SHARE * heard.sum():
            return None
        power = np.sum([block.channels for block in lost], axis=0)
        return int(np.argmax(power >= _AS_LOUD * power.max()))

    def _measure(self, values_CS: np.ndarray, weights: np.ndarray, mix: np.ndarray, rate: int) -> None:
        last = self._blocks[-1] if self._blocks else None
        if last is None or last.samples >= _BLOCK_SECONDS * rate or len(last.channels) != len(weights):
            last = _Block(0, 0.0, np.zeros(len(weights)))
            self._blocks.append(last)
        last.samples += mix.size
        last.mix += float(mix @ mix)
        last.channels += weights**2 * np.einsum("cs,cs->c", values_CS, values_CS, dtype=np.float64)


def without_cancellation(decode: Callable[[Downmix], np.ndarray], label: str) -> np.ndarray:
    """Decodes a track to one channel, and once more with a channel alone where the mix turns out to cancel.

    Args:
        decode: decodes the whole track with a mix.
        label: the file's name for the log.

    Returns:
        What `decode` returns.
    """
    downmix = Downmix()
    audio = decode(downmix)
    channel = downmix.cancelled()
    if channel is None:
        return audio
    _LOG.warning(
        "%s: its channels cancel each other (reversed polarity), took channel %d alone", label, channel + 1
    )
    return decode(Downmix(channel))


def _values(frame: AudioFrame, label: str) -> np.ndarray:
    """[C, samples], floats."""
    try:
        values = frame.to_ndarray()
    except (ValueError, KeyError) as error:
        raise ValueError(f"{label}: sound format {frame.format.name} is not supported") from error
    if not frame.format.is_planar:
        values = values.reshape(-1, len(frame.layout.channels)).T
    if values.dtype == np.uint8:
        return (values.astype(np.float32) - 128.0) / 128.0
    if np.issubdtype(values.dtype, np.integer):
        return values.astype(np.float64) / float(1 << (8 * values.dtype.itemsize - 1))
    return values


def _weights(frame: AudioFrame) -> np.ndarray | None:
    """Weight of each channel, [C]; None for the average: stereo, and channels that say nothing of their places."""
    channels = frame.layout.channels
    if len(channels) <= 2:
        return None
    names = [channel.name for channel in channels]
    if "NONE" in names:
        if len(names) not in _GUESSED:
            return None
        names = [channel.name for channel in av.AudioLayout(_GUESSED[len(names)]).channels]
    if not {"FL", "FR"} <= set(names) or set(names) - _FRONT - _SURROUND - {"FC", "LFE"}:
        return None
    # Without a centre, speech is in both front channels alike, which together must keep its level.
    front = math.sqrt(0.5) if "FC" in names else 0.5
    surround = front * math.sqrt(0.5)
    places = {"FC": 1.0, "LFE": 0.0, **dict.fromkeys(_FRONT, front), **dict.fromkeys(_SURROUND, surround)}
    return np.array([places[name] for name in names])
