"""The properties that streaming and training require of the VAE, with random weights in float32."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from portrait import presets
from portrait.layers.resampling import Downsample, Upsample
from portrait.vae import VAEConfig, VideoVAE

TINY = presets.load("tiny").vae
SMALL = presets.load("small").vae
LEVELS = ("encoder1", "encoder2", "decoder1", "decoder2")


def deep_kernels() -> VAEConfig:
    """The tiny VAE with temporal extent in every level: the properties must not rest on kernels of 1×3×3."""
    changed = {
        name: tuple(dataclasses.replace(level, kernel_time=3) for level in getattr(TINY, name))
        for name in LEVELS
    }
    return dataclasses.replace(TINY, **changed)


CONFIGS = {"tiny": TINY, "small": SMALL, "tiny, deep kernels": deep_kernels()}


@pytest.fixture(scope="module", params=CONFIGS)
def vae(request: pytest.FixtureRequest) -> VideoVAE:
    torch.manual_seed(0)
    model = VideoVAE(CONFIGS[request.param])
    with torch.no_grad():  # tokens that start at zero would hide what depends on them
        for parameter in model.parameters():
            if parameter.abs().max() == 0:
                parameter.normal_(std=0.5)
    return model.eval().requires_grad_(False)


def clip(frames: int, size: int = 64, *, batch: int = 1, seed: int = 1) -> Tensor:
    return torch.rand(batch, 3, frames, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def pictures(count: int, *, batch: int = 1, seed: int = 2) -> Tensor:
    return clip(count, batch=batch, seed=seed).transpose(1, 2)


def assert_equal(got: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """Within `tolerance` of the values' scale."""
    assert got.shape == expected.shape
    assert float((got - expected).abs().max()) <= tolerance * max(1.0, float(expected.abs().max()))


def test_shapes_of_latents_and_video(vae: VideoVAE) -> None:
    posterior = vae.encode(clip(9))
    assert posterior.mean.shape == posterior.log_variance.shape == (1, 64, 3, 1, 1)
    assert vae.decode(posterior.mean).shape == (1, 3, 9, 64, 64)
    assert vae.encode(clip(1)).mean.shape == (1, 64, 1, 1, 1)
    wide = torch.zeros(1, 3, 5, 64, 128)
    assert vae.decode(vae.encode(wide).mean, torch.zeros(1, 1, 3, 64, 128)).shape == wide.shape


def test_changing_a_frame_changes_no_earlier_latent(vae: VideoVAE) -> None:
    video = clip(17)
    before = vae.encode(video).mean
    for frame in (5, 8, 9, 16):
        changed = video.clone()
        changed[:, :, frame] *= -1
        after = vae.encode(changed).mean
        own = (frame + 3) // 4
        assert_equal(after[:, :, :own], before[:, :, :own], 1e-6)
        assert float((after[:, :, own] - before[:, :, own]).abs().max()) > 1e-4


def test_changing_a_latent_changes_no_frame_before_its_own_four(vae: VideoVAE) -> None:
    z = torch.randn(1, 64, 5, 1, 1, generator=torch.Generator().manual_seed(3))
    references = pictures(2)
    before = vae.decode(z, references)
    for latent in (1, 3, 4):
        changed = z.clone()
        changed[:, :, latent] += 1
        after = vae.decode(changed, references)
        first = 4 * latent - 3
        assert_equal(after[:, :, :first], before[:, :, :first], 1e-6)
        assert (
            float(
                (after[:, :, first : first + 4] - before[:, :, first : first + 4])
                .abs()
                .amax(dim=(0, 1, 3, 4))
                .min()
            )
            > 1e-4
        )


def test_first_frame_encodes_as_the_picture_alone(vae: VideoVAE) -> None:
    video = clip(9)
    assert_equal(vae.encode(video).mean[:, :, :1], vae.encode(video[:, :, :1]).mean)


@settings(max_examples=8, deadline=None)
@given(cuts=st.sets(st.integers(1, 8), max_size=8))
def test_decoding_in_pieces_equals_the_whole(vae: VideoVAE, cuts: set[int]) -> None:
    z = torch.randn(1, 64, 9, 1, 1, generator=torch.Generator().manual_seed(4))
    features = vae.encode_references(pictures(1))
    whole = vae.decode(z, reference_features=features)
    state, edges, frames = vae.decoder.initial_state(), [0, *sorted(cuts), 9], []
    for start, end in itertools.pairwise(edges):
        piece, state = vae.decode_block(z[:, :, start:end], state, reference_features=features)
        frames.append(piece)
    assert_equal(torch.cat(frames, dim=2), whole)


@settings(max_examples=6, deadline=None)
@given(cuts=st.sets(st.integers(0, 4), max_size=5))
def test_encoding_in_pieces_equals_the_whole(vae: VideoVAE, cuts: set[int]) -> None:
    video = clip(21)
    state = None
    edges, means = [0, *(1 + 4 * cut for cut in sorted(cuts)), 21], []
    for start, end in itertools.pairwise(edges):
        posterior, state = vae.encode_block(video[:, :, start:end], state or vae.decoder.initial_state())
        means.append(posterior.mean)
    assert_equal(torch.cat(means, dim=2), vae.encode(video).mean)


def test_replaying_the_reach_equals_the_carried_state(vae: VideoVAE) -> None:
    reach = vae.config.decoder_reach
    assert reach <= 16
    z = torch.randn(1, 64, reach + 6, 1, 1, generator=torch.Generator().manual_seed(5))
    features = vae.encode_references(pictures(1))
    whole = vae.decode(z, reference_features=features)
    _, state = vae.decode_block(
        z[:, :, 2:-4], vae.decoder.initial_state(at_start=False), reference_features=features
    )
    resumed, _ = vae.decode_block(z[:, :, -4:], state, reference_features=features)
    assert_equal(resumed, whole[:, :, -16:])


def test_state_does_not_grow(vae: VideoVAE) -> None:
    z = torch.randn(1, 64, 4, 1, 1)
    state = vae.decoder.initial_state()
    sizes = []
    for _ in range(4):
        _, state = vae.decode_block(z, state)
        sizes.append(state.num_bytes)
    assert sizes[0] > 0
    assert len(set(sizes)) == 1


def test_order_of_references_does_not_matter(vae: VideoVAE) -> None:
    z, references = torch.randn(1, 64, 2, 1, 1), pictures(3)
    assert_equal(vae.decode(z, references[:, [2, 0, 1]]), vae.decode(z, references))


def test_an_empty_row_of_references_is_none(vae: VideoVAE) -> None:
    z = torch.randn(2, 64, 2, 1, 1)
    torch.testing.assert_close(vae.decode(z, torch.zeros(2, 0, 3, 64, 64)), vae.decode(z), rtol=0, atol=0)


def test_a_masked_reference_equals_an_absent_one(vae: VideoVAE) -> None:
    z, references = torch.randn(1, 64, 2, 1, 1), pictures(3)
    mask = torch.tensor([[True, False, True]])
    assert_equal(vae.decode(z, references, mask), vae.decode(z, references[:, [0, 2]]))
    assert_equal(vae.decode(z, references, torch.zeros(1, 3, dtype=torch.bool)), vae.decode(z))


def test_references_matter_and_only_their_own_clip_sees_them(vae: VideoVAE) -> None:
    z, references = torch.randn(2, 64, 2, 1, 1), pictures(1, batch=2)
    both = vae.decode(z, references)
    changed = references.clone()
    changed[1] *= -1
    after = vae.decode(z, changed)
    assert_equal(after[0], both[0], 1e-6)
    assert float((after[1] - both[1]).abs().max()) > 1e-3
    for row in range(2):
        assert_equal(vae.decode(z[row : row + 1], references[row : row + 1]), both[row : row + 1], 1e-4)


def test_gradient_reaches_every_parameter() -> None:
    torch.manual_seed(0)
    model = VideoVAE(TINY)
    video, references = clip(5), pictures(2)
    for step_references in (references, None):  # the null token matters most where it is alone
        posterior = model.encode(video)
        (model.decode(posterior.sample(), step_references).square().mean() + posterior.kl().mean()).backward()
    # The null token's value starts at zero, so its key has no effect until that has moved.
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert [name for name in without if not name.endswith(("null_key", "place_q"))] == []


def test_checkpointing_saves_memory_and_changes_no_gradient() -> None:
    config = presets.load("tiny").vae
    gradients, saved = [], []
    for enabled in (False, True):
        torch.manual_seed(0)
        vae = VideoVAE(config)
        vae.use_activation_checkpointing(enabled)
        video, references = torch.rand(1, 3, 5, 64, 64) * 2 - 1, torch.rand(1, 2, 3, 64, 64) * 2 - 1
        kept: list[int] = []

        def keep(tensor: torch.Tensor, kept: list[int] = kept) -> torch.Tensor:
            kept.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = (vae.decode(vae.encode(video).mean, references) - video).square().mean()
            saved.append(sum(kept))
        loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in vae.parameters() if p.grad is not None]))
    torch.testing.assert_close(gradients[1], gradients[0])
    assert saved[1] < 0.6 * saved[0]


def test_switch_removes_the_shortcuts_and_nothing_else() -> None:
    plain = VideoVAE(dataclasses.replace(TINY, residual_resampling=False))
    full = VideoVAE(TINY)
    assert {n: p.shape for n, p in plain.named_parameters()} == {
        n: p.shape for n, p in full.named_parameters()
    }
    for module in plain.modules():
        if isinstance(module, Downsample | Upsample):
            assert not module.residual


@pytest.mark.parametrize("name", presets.names())
def test_parameter_counts(name: str) -> None:
    preset = presets.load(name)
    with torch.device("meta"):
        model = VideoVAE(preset.vae)
    assert preset.vae.compression == 768
    if name == "paper":
        encoder, decoder, fusion = (
            sum(p.numel() for p in module.parameters()) / 1e6
            for module in (model.encoder, model.decoder, model.decoder.d_ref)
        )
        assert encoder == pytest.approx(497, rel=0.03)
        assert decoder == pytest.approx(406, rel=0.03)
        assert fusion == pytest.approx(100, rel=0.05)
        assert preset.vae.feature_channels == 1024
        assert preset.vae.feature_space_factor == 16


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 5, 64, 64), r"video must be \[B, 3, 1\+T, H, W\]"),
        ((1, 4, 5, 64, 64), r"video must be"),
        ((1, 3, 6, 64, 64), "multiple of 4, got 6"),
        ((1, 3, 5, 60, 64), "multiples of 64, got 60×64"),
    ],
)
def test_wrong_videos_are_refused(vae: VideoVAE, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        vae.encode(torch.zeros(shape))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: (x + 1) * 127.5, r"must lie in \[−1, 1\], got values from .* to 25\d"),
        (lambda x: x * float("nan"), r"must lie in \[−1, 1\]"),
        (lambda x: x.to(torch.uint8), r"must be floating point in \[−1, 1\], got torch.uint8"),
    ],
)
def test_values_out_of_range_are_refused(
    vae: VideoVAE, change: Callable[[Tensor], Tensor], message: str
) -> None:
    with pytest.raises(ValueError, match=f"video {message}"):
        vae.encode(change(clip(5)))
    with pytest.raises(ValueError, match=f"references {message}"):
        vae.encode_references(change(pictures(1)))
    with pytest.raises(ValueError, match=f"video {message}"):
        vae.encode_block(change(clip(5)), vae.decoder.initial_state())


def test_wrong_references_and_latents_are_refused(vae: VideoVAE) -> None:
    z = torch.zeros(1, 64, 2, 1, 1)
    with pytest.raises(ValueError, match="picture size"):
        vae.decode(z, torch.zeros(1, 1, 3, 128, 128))
    with pytest.raises(ValueError, match="bool"):
        vae.decode(z, torch.zeros(1, 1, 3, 64, 64), torch.ones(1, 1))
    with pytest.raises(ValueError, match=r"latents must be \[B, 64"):
        vae.decode(torch.zeros(1, 32, 2, 1, 1))
