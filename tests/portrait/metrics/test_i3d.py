"""I3D: the published tensors' names and shapes, TensorFlow's padding, and both exports."""

import hashlib

import pytest
import torch
from torch import nn

from portrait.metrics.i3d import I3D, I3DFeatures, _pad_same


class _Scripted(nn.Module):
    """Stands for the TorchScript export, whose call takes these three flags."""

    def forward(
        self, video: torch.Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False
    ) -> torch.Tensor:
        assert return_features
        assert not rescale
        assert not resize
        return video.mean(dim=(2, 3, 4))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return I3D().eval()


@pytest.fixture(scope="module")
def state_dict_file(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("i3d") / "rgb_imagenet.pt"
    torch.save(network.state_dict(), path)
    return path


def test_names_and_shapes_are_those_of_the_published_state_dict(network):
    # A sample of each kind, and the number of weights of the published file (Kinetics-400, RGB).
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert shapes["Conv3d_1a_7x7.conv3d.weight"] == (64, 3, 7, 7, 7)
    assert shapes["Conv3d_1a_7x7.bn.running_mean"] == (64,)
    assert shapes["Mixed_4f.b1b.conv3d.weight"] == (320, 160, 3, 3, 3)
    assert shapes["Mixed_5c.b3b.bn.weight"] == (128,)
    assert shapes["logits.conv3d.bias"] == (400,)
    assert "Conv3d_1a_7x7.conv3d.bias" not in shapes
    assert sum(p.numel() for p in network.parameters()) == 12_697_264


@pytest.mark.parametrize("size", [7, 8, 25])
@pytest.mark.parametrize(("kernel", "stride"), [(7, 2), (3, 2), (3, 1), (2, 2), (1, 1)])
def test_same_padding_gives_as_many_outputs_as_strides_begin(size, kernel, stride):
    x = torch.ones(1, 1, size, 8, 8)
    padded = _pad_same(x, (kernel, 1, 1), (stride, 1, 1))
    assert (padded.shape[2] - kernel) // stride + 1 == -(-size // stride)
    front = int((padded[0, 0, :, 0, 0] != 0).nonzero()[0])
    assert padded.shape[2] - size - front in (front, front + 1)  # the odd one behind


def test_a_state_dict_gives_the_networks_scores(network, state_dict_file):
    video = torch.rand(1, 3, 9, 224, 224) * 2 - 1
    with torch.no_grad():
        expected = network(video)
    found = I3DFeatures(state_dict_file)(video)
    assert found.shape == (1, 400)
    torch.testing.assert_close(found, expected)


def test_the_prefix_of_a_wrapper_does_not_matter(network, tmp_path):
    torch.save({f"module.{name}": value for name, value in network.state_dict().items()}, tmp_path / "w.pt")
    video = torch.zeros(1, 3, 9, 32, 32)
    assert I3DFeatures(tmp_path / "w.pt")(video).shape == (1, 400)


def test_torchscript_brings_its_own_network(tmp_path):
    torch.jit.script(_Scripted()).save(str(tmp_path / "i3d_torchscript.pt"))
    features = I3DFeatures(tmp_path / "i3d_torchscript.pt")
    video = torch.stack([torch.full((3, 25, 40, 40), 0.25), torch.full((3, 25, 40, 40), -0.5)])
    torch.testing.assert_close(features(video), torch.tensor([[0.25] * 3, [-0.5] * 3]))


def test_the_checksum_is_compared(state_dict_file):
    digest = hashlib.sha256(state_dict_file.read_bytes()).hexdigest()
    assert I3DFeatures(state_dict_file, sha256=digest[:16]).id == f"rgb_imagenet.pt {digest[:12]}"
    with pytest.raises(ValueError, match=f"found sha256 {digest}, expected 00000000"):
        I3DFeatures(state_dict_file, sha256="00000000")


def test_what_is_not_i3d_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.pt: no such file"):
        I3DFeatures(tmp_path / "no.pt")
    (tmp_path / "text.pt").write_text("not weights")
    with pytest.raises(ValueError, match="neither TorchScript nor a state dict"):
        I3DFeatures(tmp_path / "text.pt")
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "linear.pt")
    with pytest.raises(ValueError, match="weights of another network"):
        I3DFeatures(tmp_path / "linear.pt")
