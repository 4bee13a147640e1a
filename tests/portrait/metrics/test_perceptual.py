"""LPIPS: refuses to guess without weights; with weights it equals the package's own value (about 3 s)."""

import hashlib
import socket
from pathlib import Path

import pytest
import torch
from torchvision.models import alexnet

from portrait.metrics.perceptual import LPIPS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a state dict of AlexNet's shape: enough to test the plumbing, never called a measurement."""
    torch.manual_seed(0)
    torch.save(alexnet(weights=None).state_dict(), tmp_path / "alexnet-test.pth")
    return tmp_path


def test_says_what_it_needs_without_weights(tmp_path: Path) -> None:
    for where in (None, tmp_path):
        metric = LPIPS(where)
        assert not metric.available
        assert metric.reason is not None
        assert metric.reason.startswith("not measured: needs ")
        with pytest.raises(RuntimeError, match="not measured: needs"):
            metric(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64))


def test_never_opens_a_connection(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert not LPIPS(None).available
    assert LPIPS(folder).available


def test_uses_the_given_backbone_and_the_packages_heads(folder: Path) -> None:
    import lpips

    state = torch.load(folder / "alexnet-test.pth", weights_only=True)
    reference = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    convolutions = {0: (reference.net.slice1, "0"), 3: (reference.net.slice2, "3"), 6: (reference.net.slice3, "6"),
                    8: (reference.net.slice4, "8"), 10: (reference.net.slice5, "10")}  # fmt: skip
    for index, (part, name) in convolutions.items():
        part[
            int(name)
            - sum(
                len(p)
                for p in (
                    reference.net.slice1,
                    reference.net.slice2,
                    reference.net.slice3,
                    reference.net.slice4,
                    reference.net.slice5,
                )[: list(convolutions).index(index)]
            )
        ].load_state_dict(
            {"weight": state[f"features.{index}.weight"], "bias": state[f"features.{index}.bias"]}
        )
    a, b = torch.rand(2, 3, 64, 64) * 2 - 1, torch.rand(2, 3, 64, 64) * 2 - 1
    metric = LPIPS(folder)
    assert metric(a, b).tolist() == pytest.approx(reference(a, b).flatten().tolist(), rel=1e-5)
    assert metric(a, a).tolist() == [0, 0]


def test_a_clips_distance_is_the_mean_of_its_frames(folder: Path) -> None:
    metric = LPIPS(folder)
    a, b = torch.rand(2, 3, 2, 64, 64) * 2 - 1, torch.rand(2, 3, 2, 64, 64) * 2 - 1
    frames = torch.stack([metric(a[:, :, t], b[:, :, t]) for t in range(2)])
    assert metric(a, b).tolist() == pytest.approx(frames.mean(0).tolist(), rel=1e-5)


def test_is_a_loss_whose_own_weights_are_frozen(folder: Path) -> None:
    metric = LPIPS(folder)
    a = torch.rand(1, 3, 64, 64, requires_grad=True)
    metric(a, torch.rand(1, 3, 64, 64)).sum().backward()
    assert a.grad is not None
    assert a.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in metric.parameters())


def test_checksum_and_content_are_checked(folder: Path) -> None:
    file = folder / "alexnet-test.pth"
    assert LPIPS(folder, sha256=hashlib.sha256(file.read_bytes()).hexdigest()).available
    with pytest.raises(ValueError, match="sha256"):
        LPIPS(folder, sha256="0" * 64)
    file.rename(folder / "alexnet-owt-7be5be79.pth")
    with pytest.raises(ValueError, match="7be5be79"):
        LPIPS(folder)
    (folder / "alexnet-owt-7be5be79.pth").unlink()
    torch.save({"features.0.weight": torch.zeros(1)}, file)
    with pytest.raises(ValueError, match="AlexNet"):
        LPIPS(folder)
