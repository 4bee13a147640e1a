import io
from itertools import islice

import av
import numpy as np
import pytest
import torch

from portrait.media.mp4 import encode_video
from portrait.storage.batches import batches
from portrait.storage.clip_windows import ClipWindows
from portrait.storage.clips import commit_clips, write_clips
from portrait.storage.epoch_sampler import Draw, EpochSampler
from portrait.storage.mixture import SourceMix

LENGTHS = {"a": 61, "b": 37, "short": 9}


@pytest.fixture(scope="module")
def videos():
    """Smooth pictures whose every frame differs: a slope that turns with time."""
    made = {}
    y, x = np.mgrid[0:48, 0:48] / 48
    for phase, (name, length) in enumerate(LENGTHS.items()):
        t = np.arange(length)[:, None, None] * 0.2 + phase
        frames = np.stack([np.sin(t + 3 * x), np.cos(1.3 * t + 2 * y), np.sin(0.7 * t + x + y)], axis=-1)
        made[name] = encode_video((127.5 + 120 * frames).astype(np.uint8), gop=16)
    return made


@pytest.fixture
def uri(tmp_path, videos, clip_row):
    rows = [
        clip_row(
            name,
            video=video,
            num_frames=LENGTHS[name],
            identity=name,
            split="val" if name == "b" else "train",
        )
        for name, video in videos.items()
    ]
    uri = str(tmp_path / "clips.lance")
    commit_clips(uri, write_clips(uri, rows))
    return uri


def decode_all(mp4: bytes) -> np.ndarray:
    """Every frame in order, by PyAV alone and converted by PyAV's defaults."""
    with av.open(io.BytesIO(mp4)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_items_hold_the_frames_they_say(uri, videos):
    windows = ClipWindows(uri, size=48, num_frames=5, seed=7, split=None)
    assert len(windows) == 3
    for epoch in range(6):
        for row in range(3):
            item = windows[Draw(epoch, row)]
            whole = decode_all(videos[item["clip_id"]]).astype(np.float32)
            assert item["video"].dtype == item["references"].dtype == torch.uint8
            claimed = [*range(item["start"], item["start"] + 5), *item["reference_frames"].tolist()]
            pictures = [
                *item["video"].permute(1, 2, 3, 0).numpy(),
                *item["references"].permute(0, 2, 3, 1).numpy(),
            ]
            for frame, picture in zip(claimed, pictures, strict=True):
                difference = np.abs(whole - picture).mean(axis=(1, 2, 3))
                # Two conversions from 4:2:0 to RGB differ by a few levels, neighbouring frames by about ten.
                assert difference.argmin() == frame
                assert difference[frame] < 4


def test_references_lie_outside_the_window_and_differ(uri):
    windows = ClipWindows(uri, size=48, num_frames=17, seed=1, split="val")
    seen = set()
    for epoch in range(200):
        start, references = windows.choose(Draw(epoch, 0))
        assert 0 <= start <= 37 - 17
        assert len(set(references)) == 3
        assert all(0 <= frame < start or start + 17 <= frame < 37 for frame in references)
        seen.add(start)
    assert len(seen) > 15


def test_a_clip_as_short_as_its_window_still_gives_spread_references(uri):
    windows = ClipWindows(uri, size=48, num_frames=9, seed=1)
    row = windows.clip_ids.index("short")
    start, references = windows.choose(Draw(0, row))
    assert start == 0
    assert [frame // 3 for frame in references] == [0, 1, 2]


def test_an_item_is_a_function_of_seed_epoch_and_row(uri):
    def read(seed, epoch):
        item = ClipWindows(uri, size=48, num_frames=5, seed=seed, split="val")[Draw(epoch, 0)]
        return item["start"], item["reference_frames"].tolist(), item["video"]

    again, once = read(3, 4), read(3, 4)
    assert again[:2] == once[:2]
    assert torch.equal(again[2], once[2])
    assert len({(read(seed, epoch)[0], *read(seed, epoch)[1]) for seed in (3, 4) for epoch in (4, 5)}) > 1


def test_shrinking_averages_areas(uri):
    full = ClipWindows(uri, size=48, num_frames=5, seed=2)[0]
    half = ClipWindows(uri, size=24, num_frames=5, seed=2)[0]
    means = full["video"].float().unflatten(3, (24, 2)).unflatten(2, (24, 2)).mean(dim=(3, 5))
    assert half["video"].shape == (3, 5, 24, 24)
    assert (half["video"].float() - means).abs().max() <= 0.5


def test_batches_go_on_after_a_resume_with_the_same_data(uri):
    windows = ClipWindows(uri, size=48, num_frames=5, seed=9, split=None)

    def take(start_step, steps):
        stream = batches(windows, EpochSampler(len(windows), seed=9, batch_size=2, start_step=start_step))
        taken = [next(stream) for _ in range(steps)]
        stream.close()
        return taken

    for before, after in zip(take(0, 6)[3:], take(3, 3), strict=True):
        assert before["clip_id"] == after["clip_id"]
        assert torch.equal(before["video"], after["video"])
        assert torch.equal(before["references"], after["references"])


def test_several_readers_give_the_same_batches(uri):
    def first(readers):
        windows = ClipWindows(uri, 32, 5, seed=9)
        stream = batches(windows, EpochSampler(len(windows), seed=9, batch_size=2), readers=readers)
        found = list(islice(stream, 12))
        stream.close()
        return found

    for one, several in zip(first(1), first(4), strict=True):
        assert one["clip_id"] == several["clip_id"]
        assert torch.equal(one["video"], several["video"])
        assert torch.equal(one["references"], several["references"])


def test_split_and_length_choose_the_rows(uri):
    assert ClipWindows(uri, size=48, num_frames=17).clip_ids == ["a"]
    assert ClipWindows(uri, size=48, num_frames=5).clip_ids == ["a", "short"]
    assert ClipWindows(uri, size=48, num_frames=5, split="val").identities == ["b"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_frames": 4}, "num_frames must be 1 [+] a multiple of 4, got 4"),
        ({"split": "dev"}, "split must be one of train, val, test, got 'dev'"),
        ({"split": "test"}, r"no clip of split test has 5 frames \(0 clips in the split, 3 in the table\)"),
        ({"num_frames": 249}, "no clip of split train has 249 frames"),
    ],
)
def test_what_cannot_be_read_is_said(uri, options, message):
    with pytest.raises(ValueError, match=message):
        ClipWindows(uri, **{"size": 48, "num_frames": 5, **options})


def test_a_source_is_used_up_to_its_size_and_as_often_as_its_weight_says(tmp_path, videos, clip_row):
    uri = str(tmp_path / "mixed.lance")
    sources = {"a": "studio", "b": "web", "short": "web"}
    rows = [
        clip_row(name, video=videos[name], num_frames=LENGTHS[name], source=source)
        for name, source in sources.items()
    ]
    commit_clips(uri, write_clips(uri, rows))
    mix = SourceMix(weights={"studio": 3.0}, max_size={"web": 32})
    small = ClipWindows(uri, size=32, num_frames=5, mix=mix)
    assert small.clip_ids == ["a", "b", "short"]
    assert small.weights == [3.0, 1.0, 1.0]
    large = ClipWindows(uri, size=48, num_frames=5, mix=mix)
    assert (large.clip_ids, large.weights) == (["a"], None)
    without = ClipWindows(uri, size=48, num_frames=5, mix=SourceMix(weights={"studio": 0.0}))
    assert (without.clip_ids, without.weights) == (["b", "short"], None)
    with pytest.raises(ValueError, match=r"no clip of source 'vox'; its sources: studio, web"):
        ClipWindows(uri, size=32, num_frames=5, mix=SourceMix(weights={"vox": 2.0}))


@pytest.mark.parametrize(("weights", "sizes"), [({"a": -1.0}, {}), ({"a": float("nan")}, {}), ({}, {"a": 0})])
def test_weights_and_sizes_that_mean_nothing(weights, sizes):
    with pytest.raises(ValueError, match="of source 'a' must be"):
        SourceMix(weights=weights, max_size=sizes)
