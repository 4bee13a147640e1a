"""Deployment `Encoder`: speech features while streaming; crops, E1 and E2 when a portrait is registered (design
§6).
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import torch

from portrait.faces import HaarDetector, NoFaceError, crop_portrait_image
from portrait.media.image import read_image
from portrait.speech import build_speech_encoder
from portrait.storage.checkpoints import load_vae, read_header
from portrait.streaming.portraits import Portrait, prepare_portrait
from portrait.streaming.speech_stage import SpeechRequest, SpeechStage
from portrait.streaming.state import StageFullError
from serve_apps.arguments import StreamArgs
from serve_apps.batching import BatchingThread, LastUse
from serve_apps.portrait_store import PortraitStore, StoredPortrait
from serve_apps.protocol import ApiError, PortraitInfo
from serve_apps.stages import ModelFacts, Reply, SpokenBlock, UploadedImage, errors_as_values

_CACHED_PORTRAITS = 16


class PortraitDesk:
    """Registers portraits and hands out their features. Plain and blocking; knows no Ray."""

    def __init__(self, args: StreamArgs, device: torch.device) -> None:
        assert args.vae is not None
        header = read_header(args.vae)
        self.version = header.version
        self.size = header.preset.video.size
        self._limits = args.limits
        self._vae = load_vae(args.vae).to(device)
        self._detector = HaarDetector()
        self._store = PortraitStore(args.portraits)
        self._cache: OrderedDict[str, Portrait] = OrderedDict()

    def register(self, images: Sequence[UploadedImage], name: str, consent: str, owner: str) -> PortraitInfo:
        """Crops the pictures to the face, computes their features, and stores both with the consent.

        Raises:
            ApiError: too many or too large pictures, not a picture, or no face in one; names the file.
        """
        if not 1 <= len(images) <= self._limits.max_images:
            raise ApiError(
                "bad_images", f"images: expected 1 to {self._limits.max_images} files, found {len(images)}"
            )
        pictures = [self._crop(image) for image in images]
        portrait = prepare_portrait(self._vae, pictures, vae_version=self.version, size=self.size)
        created = datetime.now(UTC).isoformat(timespec="milliseconds")
        stored = StoredPortrait(
            portrait_id=secrets.token_hex(8),
            owner=owner,
            name=name,
            created=created,
            consent={"statement": consent, "time": created},
            pictures=portrait.pictures,
            vae_version=self.version,
            features=_features(portrait),
        )
        self._store.put(stored)
        return _info(asdict(stored) | {"size": self.size, "images": len(pictures)})

    def list(self, owner: str) -> list[PortraitInfo]:
        """The owner's portraits, oldest first."""
        return [_info(row) for row in self._store.list(owner)]

    def delete(self, portrait_id: str, owner: str) -> bool:
        """Deletes a portrait; False where the owner has none of that id."""
        self._cache.pop(portrait_id, None)
        return self._store.delete(portrait_id, owner)

    def get(self, portrait_id: str, owner: str) -> Portrait:
        """A portrait with features of the VAE that is served; those of another version are computed anew.

        Raises:
            ApiError: the owner has no such portrait, or it was registered at another size.
        """
        # Another replica may have deleted what this one still remembers.
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
        if stored.vae_version == self.version:
            features = {key: torch.from_numpy(value.copy()) for key, value in stored.features.items()}
            return Portrait(pictures=stored.pictures, vae_version=stored.vae_version, **features)
        side = stored.pictures.shape[1]
        if side != self.size:
            message = f"portrait {stored.portrait_id} was registered at {side}², this application serves {self.size}²"
            raise ApiError("wrong_size", f"{message}: register it again", 409)
        portrait = prepare_portrait(
            self._vae, list(stored.pictures), vae_version=self.version, size=self.size
        )
        fields = {**vars(stored), "vae_version": self.version, "features": _features(portrait)}
        self._store.put(StoredPortrait(**fields))
        return portrait

    def _crop(self, image: UploadedImage) -> np.ndarray:
        limit = self._limits.max_image_bytes
        if len(image.content) > limit:
            message = f"{image.name}: {len(image.content)} bytes, expected at most {limit}"
            raise ApiError("too_large", message, 413)
        try:
            return crop_portrait_image(read_image(image.content, name=image.name), self.size, self._detector)
        except NoFaceError as error:
            raise ApiError("no_face", _named(image.name, error)) from error
        except ValueError as error:
            raise ApiError("bad_image", _named(image.name, error)) from error


class Encoder:
    """The deployment: the speech stage's sessions, and the portrait desk."""

    def __init__(self, args: StreamArgs) -> None:
        assert args.generator is not None
        torch.set_num_threads(args.encoder.threads)
        device = args.torch_device()
        # The features must be those that the generator was trained on.
        preset = read_header(args.generator).preset
        self._desk = PortraitDesk(args, device)
        self._stage = SpeechStage(
            build_speech_encoder(preset.speech, device=str(device)),
            max_sessions=args.encoder.max_sessions,
        )
        self._facts = ModelFacts(
            preset=preset.name,
            size=preset.video.size,
            look_ahead_samples=self._stage.encoder.look_ahead_samples,
            versions={"vae": self._desk.version, "speech": self._stage.encoder.id},
        )
        self._used = LastUse(args.limits.abandoned_after_s)
        self._speech = BatchingThread(self._step, max_batch=args.encoder.max_batch, name="speech")
        # Registration takes long, so it must not hold up the streams: a thread of its own.
        self._portraits: BatchingThread[Any, Any] = BatchingThread(list, max_batch=1, name="portraits")

    async def facts(self) -> dict[str, Any]:
        """What the ingress must know of the models."""
        return asdict(self._facts)

    @errors_as_values
    async def open(self, session_id: str, state: bytes | None) -> None:
        """Begins a session, or goes on with an exported one."""
        for abandoned in [*self._used.abandoned(), session_id]:
            await self.close(abandoned)
        try:
            await self._speech.call(self._stage.open, session_id, state)
        except StageFullError as error:
            raise ApiError("full", str(error), 503) from error
        self._used.touch(session_id)

    @errors_as_values
    async def speech(self, session_id: str, samples: np.ndarray, end: bool) -> Reply:
        """Takes audio; gives the `SpokenBlock`s that are ready now."""
        require_session(self._used, "encoder", session_id)
        return await self._speech.submit(SpeechRequest(session_id=session_id, samples=samples, end=end))

    async def close(self, session_id: str) -> None:
        """Frees the session."""
        self._used.forget(session_id)
        await self._speech.call(self._stage.close, session_id)

    @errors_as_values
    async def portrait(
        self, portrait_id: str, owner: str, stage: Literal["generator", "decoder"]
    ) -> np.ndarray:
        """The references as that stage takes them: latents [M, C_z, h, w] or features [M, C_f, H/f, W/f]."""
        portrait = await self._portraits.call(self._desk.get, portrait_id, owner)
        tensor = portrait.reference_latents if stage == "generator" else portrait.reference_features
        return tensor.float().cpu().numpy()

    @errors_as_values
    async def register(
        self, images: list[UploadedImage], name: str, consent: str, owner: str
    ) -> PortraitInfo:
        """Registers a portrait; see `PortraitDesk.register`."""
        return await self._portraits.call(self._desk.register, images, name, consent, owner)

    async def portraits(self, owner: str) -> list[PortraitInfo]:
        """The owner's portraits."""
        return await self._portraits.call(self._desk.list, owner)

    async def delete_portrait(self, portrait_id: str, owner: str) -> bool:
        """Deletes a portrait; see `PortraitDesk.delete`."""
        return await self._portraits.call(self._desk.delete, portrait_id, owner)

    async def check_health(self) -> None:
        """Called by Serve: raises when the model's thread no longer answers."""
        await asyncio.wait_for(self._speech.call(int), 30)

    def _step(self, requests: Sequence[SpeechRequest]) -> list[Reply]:
        spoken = self._stage.step(requests)
        return [
            Reply(
                value=[
                    SpokenBlock(index=b.index, features=b.features, audio=b.audio, frames=b.num_frames)
                    for b in blocks
                ],
                state=self._stage.export(request.session_id),
            )
            for request, blocks in zip(requests, spoken, strict=True)
        ]


def require_session(used: LastUse, stage: str, session_id: str) -> None:
    """Notes a session's call.

    Raises:
        ApiError: `session_lost`, when the session is not here; the ingress then opens it with its last state.
    """
    if session_id not in used:
        raise ApiError("session_lost", f"{stage}: this replica does not know the session", 503)
    used.touch(session_id)


def _features(portrait: Portrait) -> dict[str, np.ndarray]:
    return {
        "reference_features": portrait.reference_features.float().cpu().numpy(),
        "reference_latents": portrait.reference_latents.float().cpu().numpy(),
    }


def _info(row: dict[str, Any]) -> PortraitInfo:
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
    """The error's message, with the file's name in front where it lacks it."""
    message = str(error)
    return message if name in message else f"{name}: {message}"
