"""Lips against sound over the whole chain, by a SyncNet made by hand: how blue a face is against how loud it is.

The published weights can't be had here. These lie in the same layers and the same file format, and know one thing: of
the face the blue channel's brightest places, averaged over a window, and of the sound its energy. A film of a head that
turns blue at irregular times, with noise at the same times or a little later, has an offset that they must find.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from data_prep.cut_file import cut_file
from data_prep.cut_settings import CutSettings
from data_prep.filters import Filters
from data_prep.sources.footage import Footage
from portrait.media.audio import decode_flac
from portrait.metrics.syncnet import SyncNet
from portrait.synthetic import render_clip
from portrait.timing import FRAME_RATE, SAMPLE_RATE

SETTINGS = CutSettings(size=64, shot_threshold=None)  # turning blue is no cut
SECONDS = 4
BEATS = (8, 22, 29, 47, 61, 66, 84)
"""Frames at which the face turns blue, for five frames each."""
PARTS = {
    "speech_features": "netcnnaud",
    "speech_head": "netfcaud",
    "lip_features": "netcnnlip",
    "lip_head": "netfclip",
}
"""The published names."""


def _through(network: torch.nn.Sequential, **centres: tuple[int, ...]) -> None:
    """Makes a stream of convolutions hand the first channel on: by one weight each, at the kernel's middle if nothing
    else is said (`at4` for layer 4)."""
    for index, layer in enumerate(network):
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Conv3d):
            middle = tuple(size // 2 for size in layer.kernel_size)
            layer.weight[(0, 0, *centres.get(f"at{index}", middle))] = 1


def _weight(part: torch.nn.Sequential, index: int, name: str = "weight") -> torch.Tensor:
    return part[index].get_parameter(name)


@torch.no_grad()
def hand_made() -> SyncNet:
    network = SyncNet()
    for parameter in network.parameters():
        parameter.zero_()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d | torch.nn.BatchNorm3d):
            module.reset_parameters()  # hands on what comes in
    _through(network.lip_features)
    first = _weight(network.lip_features, 0).zero_()
    first[0, 0, :, 3, 3] = 1 / 5  # blue, averaged over the window
    # Energy is the uppermost of the 13 cepstra. Moved down by two before each pooling over three, with nothing above
    # it, it alone is in the uppermost of what comes out.
    down, still = (0, 1), (1, 1)
    _through(network.speech_features, at0=down, at4=down, at8=down, at11=down, at14=still)
    last = _weight(network.speech_features, 18).zero_()
    last[0, 0, 0, :] = 1 / 4
    for head, threshold, scale in ((network.lip_head, 40, 1 / 110), (network.speech_head, 14, 1 / 9)):
        _weight(head, 0)[0, 0] = scale
        _weight(head, 0, "bias")[0] = -threshold * scale
        _weight(head, 3)[0, 0] = 1
    return network


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("syncnet") / "hand_made.model"
    state = hand_made().state_dict()
    torch.save(
        {f"{PARTS[name.split('.')[0]]}.{name.split('.', 1)[1]}": value for name, value in state.items()}, path
    )
    return str(path)


@pytest.fixture(scope="module")
def film(tmp_path_factory, write_film):
    """A film whose sound comes so many frames after its pictures."""
    head = render_clip(0, SECONDS, size=128).frames // 2

    def make(sound_late: int) -> Path:
        path = tmp_path_factory.mktemp("film") / "film.mov"

        def pictures():
            for i, picture in enumerate(head):
                blue = np.uint8(120 if any(beat <= i < beat + 5 for beat in BEATS) else 0)
                yield Fraction(i, FRAME_RATE), picture + np.array([0, 0, 1], np.uint8) * blue

        write_film(path, pictures(), beats(sound_late), SAMPLE_RATE, sound_codec="pcm_s16le")
        return path

    return make


def beats(late: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    sound = rng.normal(scale=1e-3, size=SECONDS * SAMPLE_RATE)
    for beat in BEATS:
        first = (beat + late) * 640
        sound[first : first + 5 * 640] += rng.normal(scale=0.2, size=5 * 640)
    return sound.astype(np.float32)


def cut(path: Path, settings: CutSettings, **known):
    footage = Footage(path=str(path), identity="ann", source="test", **known)
    return cut_file(footage, footage.content_hash(), "train", settings)


@pytest.mark.parametrize("sound_late", [-5, 0, 3])
def test_offset_and_confidence_become_columns(film, weights, sound_late):
    path = film(sound_late)
    (row,), rejects = cut(path, replace(SETTINGS, syncnet=weights), sync_offset=9, sync_confidence=9.0)
    assert rejects == []
    # The lips are as many frames early as the sound is late, whatever the collection says.
    assert row["sync_offset"] == -sound_late
    assert row["sync_confidence"] > 0.1


def test_without_a_syncnet_the_collection_is_believed(film):
    (row,), _ = cut(film(0), SETTINGS, sync_offset=9, sync_confidence=9.0)
    assert (row["sync_offset"], row["sync_confidence"]) == (9, 9.0)


@pytest.mark.parametrize("sound_late", [-5, 3])
def test_the_sound_is_moved_to_the_lips(film, weights, sound_late):
    sure = Filters(min_sync_confidence=0.05, max_sync_offset=6)
    settings = replace(SETTINGS, syncnet=weights, align_sound=True, filters=sure)
    (row,), _ = cut(film(sound_late), settings)
    assert row["sync_offset"] == -sound_late  # as it was in the footage
    sound = decode_flac(row["audio"])
    assert len(sound) == row["num_frames"] * 640
    loud = np.abs(sound.reshape(-1, 640)).mean(1) > 0.05
    blue = [any(beat <= i < beat + 5 for beat in BEATS) for i in range(row["num_frames"])]
    assert loud.tolist() == blue


def test_what_is_out_of_sync_or_not_sure_is_rejected(film, weights):
    path = film(3)
    settings = replace(SETTINGS, syncnet=weights)
    rows, (reject,) = cut(path, replace(settings, filters=Filters(max_sync_offset=2)))
    assert rows == []
    assert reject.reason == "sync_offset -3, expected at most 2"
    rows, (reject,) = cut(path, replace(settings, filters=Filters(min_sync_confidence=3)))
    assert rows == []
    assert reject.reason.startswith("sync_confidence 0.")


def test_the_end_of_a_part_has_the_sound_that_lies_behind_it(film, weights):
    sure = Filters(min_sync_confidence=0.05, max_sync_offset=6)
    settings = replace(SETTINGS, syncnet=weights, align_sound=True, filters=sure)
    (row,), _ = cut(film(5), settings, end_s=2.0)
    loud = np.abs(decode_flac(row["audio"]).reshape(-1, 640)).mean(1) > 0.05
    assert loud.tolist() == [any(beat <= i < beat + 5 for beat in BEATS) for i in range(row["num_frames"])]


@pytest.mark.parametrize(
    "filters",
    [
        Filters(),
        Filters(min_sync_confidence=3),
        Filters(min_sync_confidence=0, max_sync_offset=6),
        Filters(min_sync_confidence=3, max_sync_offset=15),
    ],
)
def test_no_sound_is_moved_by_an_uncertain_offset(filters):
    with pytest.raises(ValueError, match=r"align_sound needs filters\.min_sync_confidence"):
        replace(SETTINGS, align_sound=True, filters=filters)


def test_weights_that_are_not_there_are_no_fault_of_the_film(film, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"syncnet_v2\.model: no such file"):
        cut(film(0), replace(SETTINGS, syncnet=str(tmp_path / "syncnet_v2.model")))
