"""API keys: which ones are accepted, where a request carries its key, and whose portraits a key gives access to."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable

from serve_apps.errors import ApiError

API_KEYS_VARIABLE = "PORTRAIT_API_KEYS"
"""Environment variable with accepted API keys, separated by commas."""


class ApiKeys:
    """The accepted API keys. Without any, every caller is admitted and all share their portraits."""

    def __init__(self, accepted: Iterable[str] = ()) -> None:
        self._accepted = tuple(dict.fromkeys(accepted))

    @classmethod
    def configured(cls, keys: Iterable[str]) -> ApiKeys:
        """The given keys and those of the environment variable `PORTRAIT_API_KEYS`."""
        from_environment = (key.strip() for key in os.environ.get(API_KEYS_VARIABLE, "").split(","))
        return cls((*keys, *(key for key in from_environment if key)))

    @property
    def required(self) -> bool:
        """Whether callers need a key."""
        return bool(self._accepted)

    def owner_of(self, api_key: str | None) -> str:
        """Checks a caller's key.

        Returns:
            The owner under which the caller's portraits are stored: a digest of the key, or "" when no key is required.

        Raises:
            ApiError: `unauthorised`, when a key is required and this one is missing or wrong.
        """
        if not self._accepted:
            return ""
        given = (api_key or "").encode()
        # Every key is compared, each in constant time, so that the response time reveals nothing about the keys.
        if not sum(hmac.compare_digest(given, key.encode()) for key in self._accepted):
            raise ApiError(
                "unauthorised", "a valid API key is required (header 'Authorization: Bearer …')", 401
            )
        return hashlib.sha256(given).hexdigest()[:16]


def bearer_key(authorization: str | None) -> str | None:
    """The key in an `Authorization: Bearer …` header; None if there is none."""
    scheme, _, key = (authorization or "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None
