"""Registered portraits: face crops and their features are computed once, stored with the consent, and found again."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch

from portrait.faces import NoFaceError, YuNetDetector, crop_portrait
from portrait.media.image_file import read_image_file
from portrait.storage.checkpoints import load_vae, read_header
from portrait.streaming import Portrait, prepare_portrait
from serve_apps.arguments import StreamArgs
from serve_apps.errors import ApiError
from serve_apps.messages import UploadedImage
from serve_apps.portrait_store import PortraitStore, StoredPortrait
from serve_apps.protocol import PortraitInfo

_CACHED_PORTRAITS = 16


class PortraitRegistry:
    """Registers portraits and returns their features. Plain and blocking; independent of Ray."""

    def __init__(self, args: StreamArgs, device: torch.device) -> None:
        assert args.vae is not None
        header = read_header(args.vae)
        self.vae_version = header.version
        self._size = header.preset.video.size
        self._limits = args.limits
        self._vae = load_vae(args.vae).to(device)
        self._detector = YuNetDetector()
        self._store = PortraitStore(args.portraits)
        self._cache: OrderedDict[str, Portrait] = OrderedDict()

    def register(self, images: Sequence[UploadedImage], name: str, consent: str, owner: str) -> PortraitInfo:
        """Crops the images to the face, computes their features, and stores both with the consent.

        Raises:
            ApiError: too many or too large files, not an image, or no face in one; names the file.
        """
        if not 1 <= len(images) <= self._limits.max_images:
            raise ApiError(
                "bad_images", f"images: expected 1 to {self._limits.max_images} files, found {len(images)}"
            )
        pictures = [self._crop(image) for image in images]
        portrait = prepare_portrait(self._vae, pictures, vae_version=self.vae_version, size=self._size)
        created = datetime.now(UTC).isoformat(timespec="milliseconds")
        stored = StoredPortrait(
            portrait_id=secrets.token_hex(8),
            owner=owner,
            name=name,
            created=created,
            consent={"statement": consent, "time": created},
            pictures=portrait.pictures,
            vae_version=self.vae_version,
            features=_features(portrait),
        )
        self._store.put(stored)
        return _info({**vars(stored), "size": self._size, "images": len(pictures)})

    def list(self, owner: str) -> list[PortraitInfo]:
        """The owner's portraits, oldest first."""
        return [_info(row) for row in self._store.list(owner)]

    def delete(self, portrait_id: str, owner: str) -> bool:
        """Deletes a portrait; False if the owner has no such portrait."""
        self._cache.pop(portrait_id, None)
        return self._store.delete(portrait_id, owner)

    def get(self, portrait_id: str, owner: str) -> Portrait:
        """A portrait with features of the VAE that is served; features of another version are computed again.

        Raises:
            ApiError: the owner has no such portrait, or it was registered at another size.
        """
        # Another replica may have deleted a portrait that is still in this one's cache.
        if portrait_id in self._cache and self._store.holds(portrait_id, owner):
            self._cache.move_to_end(portrait_id)
            return self._cache[portrait_id]
        stored = self._store.get(portrait_id, owner)
        if stored is None:
            self._cache.pop(portrait_id, None)
            raise ApiError("unknown_portrait", f"portrait_id: there is no portrait {portrait_id!r}", 404)
        portrait = self._restored(stored)
        self._cache[portrait_id] = portrait
        if len(self._cache) > _CACHED_PORTRAITS:
            self._cache.popitem(last=False)
        return portrait

    def _restored(self, stored: StoredPortrait) -> Portrait:
        if stored.vae_version == self.vae_version:
            features = {key: torch.from_numpy(value.copy()) for key, value in stored.features.items()}
            return Portrait(pictures=stored.pictures, vae_version=stored.vae_version, **features)
        side = stored.pictures.shape[1]
        if side != self._size:
            message = f"portrait {stored.portrait_id} was registered at {side}×{side} pixels"
            expected = f"this application serves {self._size}×{self._size}; register the portrait again"
            raise ApiError("wrong_size", f"{message}, {expected}", 409)
        portrait = prepare_portrait(
            self._vae, list(stored.pictures), vae_version=self.vae_version, size=self._size
        )
        fields = {**vars(stored), "vae_version": self.vae_version, "features": _features(portrait)}
        self._store.put(StoredPortrait(**fields))
        return portrait

    def _crop(self, image: UploadedImage) -> np.ndarray:
        limit = self._limits.max_image_bytes
        if len(image.content) > limit:
            message = f"{image.name}: {len(image.content)} bytes, expected at most {limit}"
            raise ApiError("too_large", message, 413)
        try:
            return crop_portrait(read_image_file(image.content, name=image.name), self._size, self._detector)
        except NoFaceError as error:
            raise ApiError("no_face", _named(image.name, error)) from error
        except ValueError as error:
            raise ApiError("bad_image", _named(image.name, error)) from error


def _features(portrait: Portrait) -> dict[str, np.ndarray]:
    return {
        "reference_features": portrait.reference_features.float().cpu().numpy(),
        "reference_latents": portrait.reference_latents.float().cpu().numpy(),
    }


def _info(row: Mapping[str, Any]) -> PortraitInfo:
    consent = row["consent"]
    return PortraitInfo(
        portrait_id=row["portrait_id"],
        name=row["name"],
        images=row["images"],
        size=row["size"],
        created=row["created"],
        consent=f"{consent['statement']} ({consent['time']})",
    )


def _named(name: str, error: ValueError) -> str:
    """The error's message, preceded by the file's name unless it contains the name already."""
    message = str(error)
    return message if name in message else f"{name}: {message}"
