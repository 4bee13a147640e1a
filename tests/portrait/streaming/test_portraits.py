"""A portrait is what the VAE makes of each picture alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from portrait.streaming import prepare_portrait


def test_latents_and_features_are_those_of_each_picture(vae, portraits):
    portrait = portraits[1]
    for index, picture in enumerate(portrait.pictures):
        x = torch.from_numpy(picture).permute(2, 0, 1).float() / 127.5 - 1
        with torch.no_grad():
            latent = vae.encode(x[None, :, None]).mean[0, :, 0]
            features = vae.encode_references(x[None, None])[0, 0]
        torch.testing.assert_close(portrait.reference_latents[index], latent, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(portrait.reference_features[index], features, atol=1e-4, rtol=1e-4)
    assert portrait.reference_latents.shape == (3, 64, 2, 2)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "at least one picture"),
        ([np.zeros((128, 100, 3), np.uint8)], r"picture 1 must be uint8 \[128, 128, 3\]"),
        ([np.zeros((128, 128, 3), np.uint8), np.zeros((64, 64, 3), np.uint8)], "picture 2"),
        ([np.zeros((128, 128, 3), np.float32)], "got float32"),
    ],
)
def test_other_pictures_are_refused(vae, images, message):
    with pytest.raises(ValueError, match=message):
        prepare_portrait(vae, images)


def test_the_presets_size_is_held(vae):
    with pytest.raises(ValueError, match="128, 128"):
        prepare_portrait(vae, [np.zeros((64, 64, 3), np.uint8)], size=128)
