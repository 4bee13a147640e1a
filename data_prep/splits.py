"""Train, validation and test by identity: by hash, so that growth moves no one, and kept once assigned."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Splits:
    """Shares of the identities that are held out."""

    val: float = 0.1
    """Share of the identities for validation."""
    test: float = 0.1
    """Share of the identities for the final test."""

    def __post_init__(self) -> None:
        for name in ("val", "test"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"splits.{name} must be in [0, 1), got {getattr(self, name)}")
        if self.val + self.test >= 1:
            raise ValueError(f"splits.val + splits.test must be below 1, got {self.val + self.test}")


def position(identity: str) -> float:
    """An identity's fixed place in [0, 1): below `val` it is validation, then test, then training."""
    return int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8], "big") / 2**64


def assign(
    identities: Iterable[str], splits: Splits, known: Mapping[str, str], never_test: Collection[str] = ()
) -> dict[str, str]:
    """A split for every identity.

    With few identities the hash alone may leave a split without anyone. Then those who are new and whose places lie
    nearest are moved, so that training is never empty and, from three identities on, neither are
    wanted held-out splits.

    Args:
        identities: everyone in the footage.
        splits: the shares.
        known: splits that the table holds already; they stay as they are.
        never_test: those who are not to be tested on; they train where the hash would have them tested.
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
        # From the upper end for training, from the lower for the others; never the last one of another wanted split.
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
