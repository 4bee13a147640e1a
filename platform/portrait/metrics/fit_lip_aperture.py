"""Fits the network of `lip_aperture.py` to rendered heads: `python -m portrait.metrics.fit_lip_aperture`.

The identities have seeds from 500,000 on, which neither training data nor tests use. Letters: `N` crops, `H W` of one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from portrait.metrics.lip_aperture import CROP, PICTURE, WEIGHTS, ApertureNet
from portrait.synthetic.identity import Identity
from portrait.synthetic.motion import random_motion
from portrait.synthetic.renderer import FrameState, HeadRenderer

FIRST_IDENTITY = 500_000
_PAD = 6  # room for shifts and scales
_WIDE = (slice(CROP[0].start - _PAD, CROP[0].stop + _PAD), slice(CROP[1].start - _PAD, CROP[1].stop + _PAD))


def render_examples(identities: int, frames: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Crops with a margin, uint8 [N, H, W, 3], and the gaps as fractions of the frame's height, [N]."""
    crops, gaps = [], []
    for i in tqdm(range(identities), desc="render"):
        rng = np.random.default_rng([seed, i])
        size = 256 if rng.random() < 0.3 else PICTURE
        renderer = HeadRenderer(Identity.random(FIRST_IDENTITY + i), size, clip_seed=i)
        moves = random_motion(frames * 12, rng.random(frames * 12), rng, amount=1.2)
        for k in range(frames):
            t = k * 12
            opening = 0.0 if rng.random() < 0.2 else float(rng.random() ** 1.2)
            state = FrameState(
                opening=opening,
                rounding=float(rng.uniform(-1, 1)),
                pose=tuple(moves.pose[t].tolist()),
                shift=tuple(moves.shift[t].tolist()),
                blink=float(rng.random() < 0.1),
                brow=float(moves.brow[t]),
                breath=float(moves.breath[t]),
            )
            image = renderer.frame(state)
            if size != PICTURE:
                image = cv2.resize(image, (PICTURE, PICTURE), interpolation=cv2.INTER_AREA)
            crops.append(image[_WIDE])
            gaps.append(renderer.mouth_truth(state)[1] / size)
    return np.stack(crops), np.array(gaps, np.float32)


def augment(crops: Tensor, gaps: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Blur, noise, colour, mirroring, shift and scale: [N, 3, H+12, W+12] in [0, 1] → [N, 3, H, W] and scaled gaps."""
    n, _, height, width = crops.shape

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(n, *shape).uniform_(low, high, generator=rng)

    scale, flip = uniform(0.88, 1.12), torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = (
        flip / scale * (width - 2 * _PAD) / width,
        1 / scale * (height - 2 * _PAD) / height,
    )
    theta[:, 0, 2], theta[:, 1, 2] = uniform(-6, 6) / width, uniform(-6, 6) / height
    grid = F.affine_grid(theta, [n, 3, height - 2 * _PAD, width - 2 * _PAD], align_corners=False)
    crops = F.grid_sample(crops, grid, mode="bilinear", padding_mode="border", align_corners=False)
    # One blur per batch, from none to that of a poor VAE.
    sigma = float(torch.rand(1, generator=rng)) * 2.0 - 0.6
    if sigma > 0.2:
        taps = torch.exp(-0.5 * (torch.arange(-5, 6) / sigma) ** 2)
        taps = (taps / taps.sum()).expand(3, 1, -1)
        crops = F.conv2d(F.pad(crops, (5, 5, 5, 5), mode="replicate"), taps[..., None, :], groups=3)
        crops = F.conv2d(crops, taps[..., None], groups=3)
    crops = crops * uniform(0.8, 1.2, 3, 1, 1) + uniform(-0.06, 0.06, 1, 1, 1)
    grey = (uniform(0, 1, 1, 1, 1) < 0.1).float()
    crops = crops * (1 - grey) + crops.mean(1, keepdim=True) * grey
    crops = crops + uniform(0, 0.025, 1, 1, 1) * torch.randn(crops.shape, generator=rng)
    return crops.clamp(0, 1), gaps * scale


def fit(crops: np.ndarray, gaps: np.ndarray, epochs: int, seed: int, batch_size: int = 64) -> ApertureNet:
    """AdamW on the Huber loss with a one-cycle learning rate."""
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    network = ApertureNet()
    images, targets = torch.from_numpy(crops).permute(0, 3, 1, 2), torch.from_numpy(gaps)
    steps = epochs * (len(images) // batch_size)
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps, pct_start=0.1)
    bar = tqdm(range(steps), desc="fit")
    for step in bar:
        chosen = torch.randint(len(images), (batch_size,), generator=rng)
        picture, gap = augment(images[chosen].float() / 255, targets[chosen], rng)
        loss = F.huber_loss(network(picture) * 100, gap * 100, delta=0.5)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 50 == 0:
            bar.set_postfix(loss=f"{loss.item():.4f}")
    return network


def main() -> None:
    """Renders the examples, fits, writes the weights."""
    parser = argparse.ArgumentParser(description="Fit the lip aperture network on rendered heads.")
    parser.add_argument("--identities", type=int, default=300, help="people to render")
    parser.add_argument("--frames", type=int, default=40, help="frames of each")
    parser.add_argument("--epochs", type=int, default=16, help="passes over the examples")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random")
    parser.add_argument("--examples", type=Path, help=".npz that keeps the rendered examples for another fit")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="file of weights to write")
    options = parser.parse_args()
    if options.examples and options.examples.exists():
        stored = np.load(options.examples)
        crops, gaps = stored["crops"], stored["gaps"]
    else:
        crops, gaps = render_examples(options.identities, options.frames, options.seed)
        if options.examples:
            np.savez(options.examples, crops=crops, gaps=gaps)
    network = fit(crops, gaps, options.epochs, options.seed)
    save_file({name: value.half().contiguous() for name, value in network.state_dict().items()}, options.out)
    print(f"{options.out}: {options.out.stat().st_size / 1000:.0f} kB from {len(crops)} crops")


if __name__ == "__main__":
    main()
