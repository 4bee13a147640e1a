"""Splits by identity: drawn by a hash of the name, and never changed once assigned, so that tables can grow."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Splits:
    """Shares of the identities that are held out."""

    val: float = 0.1
    """Share of the identities for validation, 0…1."""
    test: float = 0.1
    """Share of the identities for the final test, 0…1."""

    def __post_init__(self) -> None:
        for name in ("val", "test"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"splits.{name} must be in [0, 1), got {getattr(self, name)}")
        if self.val + self.test >= 1:
            raise ValueError(f"splits.val + splits.test must be below 1, got {self.val + self.test}")


def position(identity: str) -> float:
    """Position of an identity in [0, 1): below `val` it is in validation, below `val + test` in test, else in train."""
    return int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8], "big") / 2**64


def assign(
    identities: Iterable[str], splits: Splits, known: Mapping[str, str], never_test: Collection[str] = ()
) -> dict[str, str]:
    """Assigns a split to every identity.

    With few identities the hash alone may leave a split empty. New identities with the nearest positions are moved
    then, so that training is never empty, nor, with three or more identities, a held-out split with a share above 0.

    Args:
        identities: the identities in the footage.
        splits: the shares.
        known: splits that are assigned already and stay as they are.
        never_test: identities that must not be in test; those that the hash puts there are in train.
    """
    everyone = sorted(set(identities) | set(known))
    assigned = {name: known.get(name) or _by_hash(name, splits) for name in everyone}
    assigned |= {name: "train" for name in never_test if name not in known and assigned.get(name) == "test"}
    movable = sorted((name for name in everyone if name not in known), key=position)
    wanted = ["train"]
    if len(everyone) >= 3:
        wanted += [split for split, share in (("val", splits.val), ("test", splits.test)) if share > 0]
    for split in wanted:
        if split in assigned.values():
            continue
        # From the upper end for training, from the lower end for the others; never the last of another wanted split.
        for name in reversed(movable) if split == "train" else movable:
            others = [s for other, s in assigned.items() if other != name]
            if split == "test" and name in never_test:
                continue
            if split == "train" or assigned[name] in others:
                assigned[name] = split
                break
    return assigned


def _by_hash(identity: str, splits: Splits) -> str:
    place = position(identity)
    if place < splits.val:
        return "val"
    return "test" if place < splits.val + splits.test else "train"
