"""What decoding costs, counted by PyTorch's flop counter and not by us."""

from __future__ import annotations

import re

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from portrait import presets
from portrait.presets import paper
from portrait.vae import VideoVAE


def test_a_block_of_the_paper_preset_takes_what_its_docstring_says() -> None:
    config = presets.load("paper").vae
    with torch.device("meta"):
        vae = VideoVAE(config).eval().requires_grad_(False)
        z = torch.empty(1, config.latent_channels, 4, 8, 8)
        features = torch.empty(1, 1, config.feature_channels, 32, 32)
        state = vae.decoder.initial_state(at_start=False)
        with FlopCounterMode(display=False) as counter:
            video, _ = vae.decode_block(z, state, reference_features=features)
    assert video.shape == (1, 3, 16, 512, 512)
    tera = counter.get_total_flops() / 1e12
    said = re.search(r"with one reference takes ([0-9.]+) TFLOP", paper.__doc__ or "")
    assert said is not None
    assert tera == pytest.approx(float(said[1]), abs=0.05)
    assert tera < 6
