"""The embedder's alignment: latent 0 is frame 0, latent j is frames 4j−3 … 4j."""

from __future__ import annotations

import pytest
import torch

from portrait.speech import SpeechEmbedder


def frames_that_matter(embedder, frames, latent, is_first):
    features = torch.randn(1, frames, 8, requires_grad=True)
    embedder(features, is_first)[0, latent].square().sum().backward()
    assert features.grad is not None
    return features.grad[0].abs().sum(dim=1).nonzero().flatten().tolist()


def test_in_a_first_window():
    embedder = SpeechEmbedder(8, 6)
    assert frames_that_matter(embedder, 13, 0, True) == [0]
    for latent in (1, 2, 3):
        assert frames_that_matter(embedder, 13, latent, True) == list(range(4 * latent - 3, 4 * latent + 1))


def test_in_a_later_window():
    embedder = SpeechEmbedder(8, 6)
    for latent in range(4):
        assert frames_that_matter(embedder, 16, latent, False) == list(range(4 * latent, 4 * latent + 4))


def test_both_forms_of_a_first_window_are_the_same():
    embedder, features = SpeechEmbedder(8, 6), torch.randn(2, 13, 8)
    padded = torch.cat((torch.randn(2, 3, 8), features), dim=1)
    torch.testing.assert_close(embedder(padded, True), embedder(features, True))


def test_windows_of_both_kinds_in_one_batch():
    embedder, features = SpeechEmbedder(8, 6), torch.randn(2, 16, 8)
    both = embedder(features, torch.tensor([True, False]))
    torch.testing.assert_close(both[:1], embedder(features[:1], True))
    torch.testing.assert_close(both[1:], embedder(features[1:], False))
    assert (both[1, 0] - embedder(features[1:], True)[0, 0]).abs().max() > 1e-3


@pytest.mark.parametrize("frames", [0, 2, 15])
def test_frames_off_the_grid_are_refused(frames):
    with pytest.raises(ValueError, match="frames"):
        SpeechEmbedder(8, 6)(torch.zeros(1, frames, 8))


def test_other_features_are_refused():
    with pytest.raises(ValueError, match="8 channels, got 9"):
        SpeechEmbedder(8, 6)(torch.zeros(1, 13, 9))
