"""Errors that reach a client: a stable code, one sentence, an HTTP status and a WebSocket close code."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from pydantic import ValidationError

Value = TypeVar("Value")
Parameters = ParamSpec("Parameters")

CLOSE_NORMAL = 1000
CLOSE_POLICY = 1008
CLOSE_INTERNAL = 1011
CLOSE_TRY_AGAIN = 1013
"""WebSocket close codes (RFC 6455, 7.4)."""


class ApiError(Exception):
    """An error that is reported to the client.

    Args:
        code: a stable name that clients may compare with.
        message: one sentence for people; line breaks are removed.
        status: HTTP status.
    """

    def __init__(self, code: str, message: str, status: int = 422) -> None:
        super().__init__(code, message, status)
        self.code = code
        self.message = " ".join(message.split())
        self.status = status

    def __str__(self) -> str:
        return self.message

    @property
    def close_code(self) -> int:
        """The WebSocket close code that corresponds to the HTTP status."""
        if self.status >= 500:
            return CLOSE_TRY_AGAIN if self.status == 503 else CLOSE_INTERNAL
        return CLOSE_POLICY


def describe(error: ValidationError) -> str:
    """A validation error in one line: each wrong field with the reason."""
    parts = []
    for item in error.errors(include_url=False, include_input=False):
        field = ".".join(str(part) for part in item["loc"])
        parts.append(f"{field}: {item['msg']}" if field else item["msg"])
    return "; ".join(parts)


def errors_as_values(
    method: Callable[Parameters, Coroutine[Any, Any, Value]],
) -> Callable[Parameters, Coroutine[Any, Any, Value | ApiError]]:
    """Decorates a deployment's method to return an `ApiError` instead of raising it; handles.py raises it again.

    A client's mistake is not a failure of the replica: if raised, it would fill the log with tracebacks and be counted
    as a failed request.
    """

    @functools.wraps(method)
    async def wrapped(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Value | ApiError:
        try:
            return await method(*args, **kwargs)
        except ApiError as error:
            return ApiError(error.code, error.message, error.status)  # without the traceback and its frames

    return wrapped
