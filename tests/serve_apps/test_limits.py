import pydantic
import pytest

from portrait.streaming import MAX_PICTURES
from serve_apps.limits import Limits


def test_a_portrait_has_as_many_images_as_the_model_takes():
    assert Limits().max_images == MAX_PICTURES
    with pytest.raises(pydantic.ValidationError, match="less than or equal to"):
        Limits(max_images=MAX_PICTURES + 1)
