import pytest

from data_prep.filters import Filters

ROW = {
    "face_size": 80.0,
    "sharpness": 40.0,
    "motion": 1.5,
    "brightness": 120.0,
    "other_faces": 0.1,
    "speech_ratio": 0.6,
    "sync_confidence": None,
    "sync_offset": -4.0,
}


def test_nothing_is_rejected_unless_a_threshold_is_set_but_for_a_second_face():
    assert Filters().reason(ROW) is None
    assert Filters().reason(dict.fromkeys(ROW, 0.0)) is None
    assert Filters().reason({**ROW, "other_faces": 0.21}) == "other_faces 0.21, expected at most 0.2"


@pytest.mark.parametrize(
    ("name", "passes", "fails", "words"),
    [
        ("min_face_size", 80.0, 80.1, "face_size 80, expected at least 80.1"),
        ("min_sharpness", 39.0, 50.0, "sharpness 40, expected at least 50"),
        ("min_motion", 1.5, 2.0, "motion 1.5, expected at least 2"),
        ("max_motion", 1.5, 1.0, "motion 1.5, expected at most 1"),
        ("min_brightness", 120.0, 121.0, "brightness 120, expected at least 121"),
        ("max_brightness", 120.0, 119.0, "brightness 120, expected at most 119"),
        ("min_speech_ratio", 0.6, 0.7, "speech_ratio 0.6, expected at least 0.7"),
        ("max_sync_offset", 4.0, 3.0, "sync_offset -4, expected at most 3"),
    ],
)
def test_a_threshold_is_the_last_value_that_passes(name, passes, fails, words):
    assert Filters(**{name: passes}).reason(ROW) is None
    assert Filters(**{name: fails}).reason(ROW) == words


def test_what_was_not_measured_can_not_pass():
    assert (
        Filters(min_sync_confidence=2.0).reason(ROW)
        == "sync_confidence was not measured (min_sync_confidence 2)"
    )


def test_bounds_that_no_clip_can_meet_are_refused():
    with pytest.raises(ValueError, match="min_motion must be at most max_motion"):
        Filters(min_motion=3.0, max_motion=1.0)


def test_a_threshold_is_a_number():
    with pytest.raises(ValueError, match="min_sharpness must be a number, got nan"):
        Filters(min_sharpness=float("nan"))
