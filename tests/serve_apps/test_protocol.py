import pytest

from serve_apps.errors import ApiError
from serve_apps.protocol import Clear, End, Playhead, Start, parse_client_message


def test_messages_are_told_apart_by_type():
    assert parse_client_message('{"type": "start", "portrait_id": "a", "seed": 3}') == Start(
        portrait_id="a", seed=3
    )
    assert isinstance(parse_client_message('{"type": "end"}'), End)
    assert isinstance(parse_client_message('{"type": "clear"}'), Clear)
    assert parse_client_message('{"type": "playhead", "seconds": 1.5}') == Playhead(seconds=1.5)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("no json", "JSON"),
        ("[]", ""),
        ('{"type": "sing"}', "type"),
        ('{"type": "interrupt"}', "type"),
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
