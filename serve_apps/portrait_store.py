"""Table `portraits`: references, their features with the VAE's version, and the consent.

One row per portrait, in Lance, so that all encoder replicas see the same table. Only the crops are kept, never the
uploaded files. A row belongs to the API key it was registered with (`owner`, a digest); no other key can list, use or
delete it.
"""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
from PIL import Image
from safetensors.numpy import load, save

from portrait.media.image_file import read_image_file

PORTRAITS_SCHEMA = pa.schema(
    [
        pa.field("portrait_id", pa.string(), nullable=False),
        pa.field("owner", pa.string(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("created", pa.string(), nullable=False),
        pa.field("consent", pa.string(), nullable=False),
        pa.field("size", pa.int32(), nullable=False),
        pa.field("pictures", pa.list_(pa.large_binary()), nullable=False),
        pa.field("vae_version", pa.string(), nullable=False),
        pa.field("features", pa.large_binary(), nullable=False),
    ]
)
_SUMMARY = ["portrait_id", "owner", "name", "created", "consent", "size", "vae_version"]
_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, kw_only=True)
class StoredPortrait:
    """A row of the table."""

    portrait_id: str
    """16 hexadecimal digits, drawn at random."""
    owner: str
    """Digest of the API key, "" if no key is required."""
    name: str
    """The name that the user gave it."""
    created: str
    """ISO 8601, UTC."""
    consent: dict[str, str]
    """`statement` and `time` of the consent."""
    pictures: np.ndarray
    """Crops, uint8 RGB [M, size, size, 3]."""
    vae_version: str
    """Version of the VAE that made `features`."""
    features: dict[str, np.ndarray]
    """The VAE encoder's outputs for the pictures, by name."""


class PortraitStore:
    """The table at a folder or URI."""

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def put(self, portrait: StoredPortrait) -> None:
        """Adds a portrait, or replaces the row of the same id."""
        row = {
            "portrait_id": portrait.portrait_id,
            "owner": portrait.owner,
            "name": portrait.name,
            "created": portrait.created,
            "consent": json.dumps(portrait.consent),
            "size": portrait.pictures.shape[1],
            "pictures": [_png(picture) for picture in portrait.pictures],
            "vae_version": portrait.vae_version,
            "features": save({key: np.ascontiguousarray(value) for key, value in portrait.features.items()}),
        }
        table = pa.Table.from_pylist([row], schema=PORTRAITS_SCHEMA)
        dataset = self._open()
        if dataset is None:
            if "://" not in self._uri:
                Path(self._uri).parent.mkdir(parents=True, exist_ok=True)
            try:
                lance.write_dataset(table, self._uri, mode="create")
                return
            except OSError:
                # Another replica created the table in the meantime.
                dataset = lance.dataset(self._uri)
        dataset.merge_insert("portrait_id").when_matched_update_all().when_not_matched_insert_all().execute(
            table
        )

    def get(self, portrait_id: str, owner: str) -> StoredPortrait | None:
        """The portrait with that id; None unless it exists and belongs to `owner`."""
        rows = self._rows(portrait_id, owner, columns=PORTRAITS_SCHEMA.names)
        if not rows:
            return None
        row = rows[0]
        return StoredPortrait(
            portrait_id=row["portrait_id"],
            owner=row["owner"],
            name=row["name"],
            created=row["created"],
            consent=json.loads(row["consent"]),
            pictures=np.stack([read_image_file(picture, name=portrait_id) for picture in row["pictures"]]),
            vae_version=row["vae_version"],
            features=load(row["features"]),
        )

    def holds(self, portrait_id: str, owner: str) -> bool:
        """Whether `get` would find the portrait."""
        return bool(self._rows(portrait_id, owner, columns=["portrait_id"]))

    def list(self, owner: str) -> list[dict]:
        """The owner's portraits, oldest first: each row without its pictures, but with their number as `images`."""
        dataset = self._open()
        if dataset is None:
            return []
        columns = {name: name for name in _SUMMARY} | {"images": "array_length(pictures)"}
        rows = dataset.to_table(columns=columns, filter=f"owner = '{owner}'").to_pylist()
        for row in rows:
            row["consent"] = json.loads(row["consent"])
        return sorted(rows, key=lambda row: row["created"])

    def delete(self, portrait_id: str, owner: str) -> bool:
        """Deletes a portrait for good, also from old versions of the table; False if there is no such portrait."""
        if not self.holds(portrait_id, owner):
            return False
        dataset = lance.dataset(self._uri)
        dataset.delete(f"portrait_id = '{portrait_id}' AND owner = '{owner}'")
        # Deleted rows stay in their files until these are rewritten and the versions that refer to them are removed.
        dataset = lance.dataset(self._uri)
        dataset.optimize.compact_files(materialize_deletions_threshold=0.0)
        dataset.cleanup_old_versions(older_than=timedelta(0), delete_unverified=False)
        return True

    def _open(self) -> lance.LanceDataset | None:
        try:
            return lance.dataset(self._uri)
        except (FileNotFoundError, ValueError):
            return None

    def _rows(self, portrait_id: str, owner: str, columns: list[str]) -> list[dict]:
        # The id comes from a client and goes into a filter: only ids of the form that `register` draws may pass.
        dataset = self._open() if _ID.fullmatch(portrait_id) else None
        if dataset is None:
            return []
        condition = f"portrait_id = '{portrait_id}' AND owner = '{owner}'"
        return dataset.to_table(columns=columns, filter=condition).to_pylist()


def _png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="png")
    return buffer.getvalue()
