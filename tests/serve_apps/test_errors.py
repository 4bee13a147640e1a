import pickle

import pytest

from serve_apps.errors import ApiError, errors_as_values


@pytest.mark.parametrize(("status", "close"), [(422, 1008), (404, 1008), (500, 1011), (503, 1013)])
def test_the_close_code_follows_the_status_and_survives_pickling(status, close):
    error = pickle.loads(pickle.dumps(ApiError("code", "two\nlines", status)))
    assert (error.code, error.message, error.status, error.close_code) == ("code", "two lines", status, close)


async def test_a_deployment_returns_a_clients_mistake_and_raises_a_defect():
    @errors_as_values
    async def answer(what):
        if isinstance(what, Exception):
            raise what
        return what

    assert await answer(3) == 3
    mistake = await answer(ApiError("full", "no room", 503))
    assert isinstance(mistake, ApiError)
    assert mistake.__traceback__ is None
    with pytest.raises(ValueError, match="defect"):
        await answer(ValueError("defect"))
