import numpy as np
import pytest

from serve_apps.protocol import ApiError, Clear, End, Playhead, Start, parse_client_message
from serve_apps.sockets import api_key_of, pcm_to_float


def test_messages_are_told_apart_by_type():
    assert parse_client_message('{"type": "start", "portrait_id": "a", "seed": 3}') == Start(
        portrait_id="a", seed=3
    )
    assert isinstance(parse_client_message('{"type": "end"}'), End)
    assert isinstance(parse_client_message('{"type": "clear"}'), Clear)
    assert isinstance(parse_client_message('{"type": "interrupt"}'), Clear)
    assert parse_client_message('{"type": "playhead", "seconds": 1.5}') == Playhead(seconds=1.5)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("no json", "JSON"),
        ("[]", ""),
        ('{"type": "sing"}', "type"),
        ('{"type": "start"}', "portrait_id"),
        ('{"type": "start", "portrait_id": "a", "seed": -1}', "seed"),
        ('{"type": "start", "portrait_id": "a", "audio_guidance": 99}', "audio_guidance"),
        ('{"type": "start", "portrait_id": "a", "sed": 1}', "sed"),
        ('{"type": "playhead", "seconds": -1}', "seconds"),
    ],
)
def test_a_wrong_message_is_one_line_that_names_the_field(text, named):
    with pytest.raises(ApiError) as caught:
        parse_client_message(text)
    assert named in caught.value.message
    assert "\n" not in caught.value.message


def test_pcm_is_little_endian_and_scaled():
    samples = pcm_to_float(b"\x00\x00\x00\x40\x00\x80\xff\x7f")
    np.testing.assert_allclose(samples, [0, 0.5, -1, 1], atol=1e-4)
    with pytest.raises(ApiError, match="odd"):
        pcm_to_float(b"\x00\x00\x00")


def test_the_key_is_taken_from_a_bearer_header_only():
    assert api_key_of("Bearer abc") == "abc"
    assert api_key_of("bearer  abc ") == "abc"
    assert api_key_of("Basic abc") is None
    assert api_key_of(None) is None
