"""SyncNet's scores against their definition, written out; its network against one window at a time."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
import torch

from portrait.metrics.synchrony import measure_synchrony, sync_square, synchrony
from portrait.metrics.syncnet import SyncNet, load_syncnet

PUBLISHED_SHAPES = {
    # Of the published file: convolutions and linear layers, each but the last followed by its norm.
    "netcnnaud": {
        0: (64, 1, 3, 3),
        4: (192, 64, 3, 3),
        8: (384, 192, 3, 3),
        11: (256, 384, 3, 3),
        14: (256, 256, 3, 3),
        18: (512, 256, 5, 4),
    },
    "netcnnlip": {
        0: (96, 3, 5, 7, 7),
        4: (256, 96, 1, 5, 5),
        8: (256, 256, 1, 3, 3),
        11: (256, 256, 1, 3, 3),
        14: (256, 256, 1, 3, 3),
        18: (512, 256, 1, 6, 6),
    },
    "netfcaud": {0: (512, 512), 3: (1024, 512)},
    "netfclip": {0: (512, 512), 3: (1024, 512)},
}


def published(seed: int = 0) -> dict[str, torch.Tensor]:
    """A state dict laid out as the published one, with random weights."""
    torch.manual_seed(seed)
    state = {}
    for part, layers in PUBLISHED_SHAPES.items():
        for index, shape in layers.items():
            state[f"{part}.{index}.weight"] = torch.randn(shape) / np.sqrt(np.prod(shape[1:]))
            state[f"{part}.{index}.bias"] = 0.1 * torch.randn(shape[0])
            if shape[0] == 1024:
                continue
            state[f"{part}.{index + 1}.weight"] = torch.rand(shape[0]) + 0.5
            state[f"{part}.{index + 1}.bias"] = 0.1 * torch.randn(shape[0])
            state[f"{part}.{index + 1}.running_mean"] = 0.1 * torch.randn(shape[0])
            state[f"{part}.{index + 1}.running_var"] = torch.rand(shape[0]) + 0.5
            state[f"{part}.{index + 1}.num_batches_tracked"] = torch.tensor(7)
    return state


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("syncnet") / "syncnet_v2.model"
    torch.save(published(), path)
    return path


@pytest.fixture(scope="module")
def network(weights) -> SyncNet:
    return load_syncnet(weights)


def test_a_file_of_an_old_pytorch_is_read(tmp_path, network):
    state = {name: value for name, value in published().items() if not name.endswith("num_batches_tracked")}
    torch.save(OrderedDict(state), tmp_path / "old.model", _use_new_zipfile_serialization=False)
    old = load_syncnet(tmp_path / "old.model")
    cepstra = torch.randn(2, 13, 20)
    torch.testing.assert_close(old.embed_speech(cepstra), network.embed_speech(cepstra))


def by_definition(lips: np.ndarray, speech: np.ndarray) -> tuple[int, float, float]:
    """Offset, confidence and distance, sum by sum; outside of the sound lies an embedding of zeros."""
    means = {}
    for shift in range(-15, 16):
        distances = []
        for i, lip in enumerate(lips):
            heard = speech[i + shift] if 0 <= i + shift < len(speech) else np.zeros(lips.shape[1])
            distances.append(np.sqrt(((lip - heard + 1e-6) ** 2).sum()))  # PyTorch's own epsilon
        means[shift] = np.mean(distances)
    best = min(means, key=lambda shift: means[shift])
    return -best, float(np.median(list(means.values())) - means[best]), float(means[best])


@pytest.mark.parametrize("late", [-7, 0, 4, 15])
def test_offset_confidence_and_distance_are_as_defined(late):
    rng = np.random.default_rng(late + 20)
    lips = rng.normal(size=(60, 8))
    # What the lips show at a time was heard `late` frames before.
    speech = np.roll(lips, -late, axis=0) + 0.3 * rng.normal(size=lips.shape)
    measured = synchrony(torch.from_numpy(lips), torch.from_numpy(speech))
    offset, confidence, distance = by_definition(lips, speech)
    assert measured.offset == offset == late
    assert measured.confidence == pytest.approx(confidence)
    assert measured.distance == pytest.approx(distance)


def test_all_windows_in_one_pass_are_each_of_them_alone(network):
    faces = torch.randint(0, 256, (38, 3, 224, 224), dtype=torch.uint8)
    with torch.inference_mode():
        together = network.embed_lips(faces)
        alone = {i: network.embed_lips(faces[i : i + 5])[0] for i in (0, 1, 31, 32, 33)}
    assert together.shape == (34, 1024)
    for i, embedding in alone.items():
        torch.testing.assert_close(together[i], embedding, rtol=1e-4, atol=1e-4)


def test_the_published_names_reach_the_layers_that_they_mean(weights, network):
    state = torch.load(weights, weights_only=True)
    cepstra = torch.randn(3, 13, 20)
    x = cepstra[:, None]
    for index, padding in zip(PUBLISHED_SHAPES["netcnnaud"], (1, 1, 1, 1, 1, 0), strict=True):
        x = _layer(state, "netcnnaud", index, x, padding)
        if index in (4, 14):  # behind the second and the fifth
            x = torch.nn.functional.max_pool2d(x, 3, (1, 2) if index == 4 else 2)
    x = x.flatten(1)
    for index in (0, 3):
        weight, bias = (state[f"netfcaud.{index}.{name}"] for name in ("weight", "bias"))
        x = x @ weight.T + bias
        if index == 0:
            x = torch.relu(_normed(state, "netfcaud.1", x))
    torch.testing.assert_close(network.embed_speech(cepstra), x, rtol=1e-3, atol=1e-4)


def _layer(state, part, index, x, padding):
    weight, bias = (state[f"{part}.{index}.{name}"] for name in ("weight", "bias"))
    return torch.relu(
        _normed(state, f"{part}.{index + 1}", torch.nn.functional.conv2d(x, weight, bias, padding=padding))
    )


def _normed(state, name, x):
    shape = (1, -1) + (1,) * (x.ndim - 2)
    mean, variance, scale, shift = (
        state[f"{name}.{kind}"].reshape(shape) for kind in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(variance + 1e-5) * scale + shift


def test_a_video_of_a_few_frames_is_not_measured(network):
    faces = np.zeros((6, 224, 224, 3), np.uint8)
    assert measure_synchrony(network, faces, np.zeros(5 * 640, np.float32)) is None
    assert measure_synchrony(network, faces, np.zeros(6 * 640, np.float32)) is not None


def test_the_square_reaches_from_the_brow_to_below_the_chin():
    square = sync_square(np.array([100, 60, 80, 110], np.float32))
    # 1.4 times the height, as high as the face begins, the face in the middle across.
    assert (square.x0, square.y0, square.size) == (63, 60, 154)


def test_other_files_are_refused_by_name(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file, expected SyncNet's weights"):
        load_syncnet(tmp_path / "syncnet_v2.model")
    other = tmp_path / "other.model"
    torch.save({"fc.weight": torch.zeros(3)}, other)
    with pytest.raises(ValueError, match=r"other\.model: weights of another network, expected SyncNet's"):
        load_syncnet(other)
    for what in ([1, 2], SyncNet()):  # a whole module would run code as it is read
        torch.save(what, other)
        with pytest.raises(ValueError, match=r"other\.model: not a state dict, expected SyncNet's weights"):
            load_syncnet(other)
    for content in (b"PK\x03\x04 not a file of weights", b"neither", b""):
        other.write_bytes(content)
        with pytest.raises(ValueError, match="not a state dict"):
            load_syncnet(other)
