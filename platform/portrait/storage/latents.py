"""The `latents` table, which the generator is trained on instead of video.

A row is a clip, encoded once: posterior mean and variance, K frames each encoded as a picture, speech features per
frame. Latents are stored as the VAE gives them. The statistics that the generator normalises them by are stored as
sums per row and added up over the training rows on request, so that they always match the rows in the table.
Shapes: C channels, L latents, h w of a latent, K references, F frames, D features.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from portrait.storage import fragments
from portrait.timing import frames_of_latents

LATENTS_SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("identity", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("vae_version", pa.string(), nullable=False),
        pa.field("num_frames", pa.int32(), nullable=False),
        pa.field("num_latents", pa.int32(), nullable=False),
        pa.field("latent_shape", pa.list_(pa.int32(), 4), nullable=False),  # C, L, h, w
        pa.field("mean", pa.large_binary(), nullable=False),  # float16 [C, L, h, w]
        pa.field("variance", pa.large_binary(), nullable=False),  # float16 [C, L, h, w]
        pa.field("reference_latents", pa.large_binary(), nullable=False),  # float16 [K, C, h, w]
        pa.field("reference_frames", pa.list_(pa.int32()), nullable=False),  # K frame numbers
        pa.field("speech", pa.large_binary(), nullable=False),  # float16 [F, D]
        pa.field("speech_dim", pa.int32(), nullable=False),  # D
        pa.field("speech_encoder", pa.string(), nullable=False),
        pa.field("look_ahead_samples", pa.int32(), nullable=False),
        pa.field("sum", pa.list_(pa.float64()), nullable=False),  # [C], of the mean over L, h, w
        pa.field("sum_of_squares", pa.list_(pa.float64()), nullable=False),  # [C]
        pa.field("source", pa.string()),  # the clip's collection
    ]
)
LATER_COLUMNS = ("source",)
"""Columns that tables of earlier releases lack."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LatentRow:
    """A clip as the generator is trained on it."""

    clip_id: str
    """The clip's id in the clips table."""
    identity: str
    """The person it shows."""
    split: str
    """`train`, `val` or `test`."""
    vae_version: str
    """Version of the VAE file that encoded it; one for the whole table."""
    num_frames: int
    """Frames of the clip, F = 1 + 4 (L − 1)."""
    mean: torch.Tensor
    """Posterior mean [C, L, h, w], as the VAE gives it (not normalised)."""
    variance: torch.Tensor
    """Posterior variance [C, L, h, w]."""
    reference_latents: torch.Tensor
    """Posterior means of K frames, each encoded as a picture, [K, C, h, w]."""
    reference_frames: tuple[int, ...]
    """The numbers of those frames."""
    speech: torch.Tensor
    """Features per frame [F, D]."""
    speech_encoder: str
    """Id of the encoder that made them; one for the whole table."""
    look_ahead_samples: int
    """Samples after a frame's own that its features may depend on."""
    source: str | None = None
    """The collection that the clip is from."""

    def __post_init__(self) -> None:
        channels, latents, height, width = self.mean.shape
        expected = {
            "variance": (self.variance, (channels, latents, height, width)),
            "reference_latents": (
                self.reference_latents,
                (len(self.reference_frames), channels, height, width),
            ),
            "speech": (self.speech, (self.num_frames, self.speech.shape[-1])),
        }
        for name, (tensor, shape) in expected.items():
            if tuple(tensor.shape) != shape:
                raise ValueError(
                    f"{name} of clip {self.clip_id} must be {list(shape)}, got {list(tensor.shape)}"
                )
        if self.num_frames != frames_of_latents(latents):
            raise ValueError(
                f"clip {self.clip_id}: {latents} latents need "
                f"{frames_of_latents(latents)} frames, got {self.num_frames}"
            )
        for name in ("mean", "variance", "reference_latents", "speech"):
            if not torch.isfinite(getattr(self, name).to(torch.float16)).all():
                raise ValueError(f"{name} of clip {self.clip_id} holds values that are not finite as float16")


@dataclass(frozen=True, kw_only=True, eq=False)
class Statistics:
    """Per-channel moments of the posterior mean over the training rows."""

    mean: torch.Tensor
    """float32 [C]."""
    std: torch.Tensor
    """float32 [C], at least 1e-4."""


class LatentTable:
    """A version of the latents table, open for reading; safe to use from several threads."""

    def __init__(self, dataset: lance.LanceDataset) -> None:
        self.dataset = dataset

    @classmethod
    def open(cls, uri: str, version: int | None = None) -> LatentTable:
        """Opens the table at a folder or URI.

        Raises:
            FileNotFoundError: there is no table, or not in that version.
            ValueError: it is a table of another kind.
        """
        required = (name for name in LATENTS_SCHEMA.names if name not in LATER_COLUMNS)
        return cls(fragments.open_dataset(str(uri), "latents", required, version))

    @staticmethod
    def append(uri: str, rows: Iterable[LatentRow]) -> LatentTable:
        """Adds rows in one commit, and creates the table if it does not exist; clips that it already has are skipped.

        Raises:
            ValueError: a row was encoded with another VAE or speech encoder than the table's, or there is neither a
                row nor a table.
        """
        uri = str(uri)
        known: set[str] = set()
        makers: tuple[str, str, int] | None = None
        if fragments.exists(uri):
            table = LatentTable.open(uri)
            known, makers = table.clip_ids(), table.makers()

        def new_batches() -> Iterable[pa.RecordBatch]:
            nonlocal makers
            for row in rows:
                made_by = (row.vae_version, row.speech_encoder, row.look_ahead_samples)
                makers = makers or made_by
                if made_by != makers:
                    raise ValueError(
                        f"{uri} was encoded with (VAE, speech encoder, look-ahead) {makers}, clip {row.clip_id} with "
                        f"{made_by}: write to another table"
                    )
                if row.clip_id not in known:
                    known.add(row.clip_id)
                    yield _to_batch(row)

        # Computed here and not inside Lance's reader, so that an error keeps its type.
        pending = list(new_batches())
        if pending:
            if fragments.exists(uri):
                fragments.add_missing_columns(uri, LATENTS_SCHEMA)
            written = fragments.write_fragments(uri, LATENTS_SCHEMA, pending)
            return LatentTable(fragments.commit(uri, LATENTS_SCHEMA, written))
        if not fragments.exists(uri):
            raise ValueError(f"no latents to write to {uri}")
        return LatentTable.open(uri)

    @property
    def num_rows(self) -> int:
        return self.dataset.count_rows()

    @property
    def version(self) -> int:
        return self.dataset.version

    def clip_ids(self) -> set[str]:
        """Ids of the clips in the table, which a resumed encoding skips."""
        return set(self.dataset.to_table(columns=["clip_id"])["clip_id"].to_pylist())

    def makers(self) -> tuple[str, str, int]:
        """(VAE version, speech encoder id, look-ahead in samples) of the table's rows.

        Raises:
            ValueError: the table is empty.
        """
        head = self.dataset.head(1).to_pylist()
        if not head:
            raise ValueError(f"the latents table at {self.dataset.uri} is empty")
        return head[0]["vae_version"], head[0]["speech_encoder"], head[0]["look_ahead_samples"]

    def rows(
        self, columns: Sequence[str] = ("clip_id", "identity", "split", "num_frames", "num_latents")
    ) -> list[dict[str, Any]]:
        """Columns of all rows in the table's order (the position in the list is the index `read` takes)."""
        return fragments.read_columns(self.dataset, columns)

    @cached_property
    def statistics(self) -> Statistics:
        """Per-channel mean and deviation of the posterior mean over the training rows.

        Raises:
            ValueError: the table has no training row.
        """
        columns = ["latent_shape", "sum", "sum_of_squares"]
        table = self.dataset.to_table(columns=columns, filter="split = 'train'")
        if not table.num_rows:
            raise ValueError(f"{self.dataset.uri}: no training row to take normalisation statistics from")
        shapes = np.array(table["latent_shape"].to_pylist(), dtype=np.int64)
        count = float(shapes[:, 1:].prod(axis=1).sum())
        total, squares = (
            pc.list_flatten(table[name]).to_numpy().reshape(table.num_rows, -1).sum(axis=0) / count
            for name in ("sum", "sum_of_squares")
        )
        variance = np.maximum(squares - total**2, 1e-8)
        return Statistics(
            mean=torch.tensor(total, dtype=torch.float32),
            std=torch.tensor(np.sqrt(variance), dtype=torch.float32),
        )

    def read(self, indices: Sequence[int]) -> list[LatentRow]:
        """Rows by position, tensors in float32."""
        return [_from_values(values) for values in self.dataset.take([int(i) for i in indices]).to_pylist()]


def _half_bytes(tensor: torch.Tensor) -> bytes:
    return tensor.detach().to("cpu", torch.float16).contiguous().numpy().tobytes()


def _from_bytes(data: bytes, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(data, dtype=np.float16).reshape(shape).astype(np.float32))


def _to_batch(row: LatentRow) -> pa.RecordBatch:
    mean = row.mean.detach().to("cpu", torch.float64)
    values: dict[str, Any] = {
        "clip_id": row.clip_id,
        "identity": row.identity,
        "split": row.split,
        "vae_version": row.vae_version,
        "num_frames": row.num_frames,
        "num_latents": row.mean.shape[1],
        "latent_shape": list(row.mean.shape),
        "mean": _half_bytes(row.mean),
        "variance": _half_bytes(row.variance),
        "reference_latents": _half_bytes(row.reference_latents),
        "reference_frames": list(row.reference_frames),
        "speech": _half_bytes(row.speech),
        "speech_dim": row.speech.shape[1],
        "speech_encoder": row.speech_encoder,
        "look_ahead_samples": row.look_ahead_samples,
        "sum": mean.sum(dim=(1, 2, 3)).tolist(),
        "sum_of_squares": mean.square().sum(dim=(1, 2, 3)).tolist(),
        "source": row.source,
    }
    arrays = [pa.array([values[field.name]], field.type) for field in LATENTS_SCHEMA]
    return pa.RecordBatch.from_arrays(arrays, schema=LATENTS_SCHEMA)


def _from_values(values: dict[str, Any]) -> LatentRow:
    channels, latents, height, width = values["latent_shape"]
    references = len(values["reference_frames"])
    return LatentRow(
        clip_id=values["clip_id"],
        identity=values["identity"],
        split=values["split"],
        vae_version=values["vae_version"],
        num_frames=values["num_frames"],
        mean=_from_bytes(values["mean"], channels, latents, height, width),
        variance=_from_bytes(values["variance"], channels, latents, height, width),
        reference_latents=_from_bytes(values["reference_latents"], references, channels, height, width),
        reference_frames=tuple(values["reference_frames"]),
        speech=_from_bytes(values["speech"], values["num_frames"], values["speech_dim"]),
        speech_encoder=values["speech_encoder"],
        look_ahead_samples=values["look_ahead_samples"],
        source=values.get("source"),
    )
