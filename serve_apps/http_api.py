"""The HTTP part of protocol `/v1`, and the browser client at `/`.

Errors are JSON: `{"error": {"code": …, "message": …}}`.
"""

# No `from __future__ import annotations` here: FastAPI reads the handlers' annotations, some of which are local names.

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Depends, FastAPI, File, Form, Request, Response, UploadFile, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from portrait.media.audio import read_audio
from portrait.timing import SAMPLE_RATE
from serve_apps.auth import bearer_key
from serve_apps.errors import ApiError
from serve_apps.limits import Limits
from serve_apps.messages import UploadedImage
from serve_apps.protocol import BlockEvent, PortraitInfo, PortraitList, ServiceInfo, Start
from serve_apps.service import PortraitService
from serve_apps.sockets import StreamSocket

WEB_FOLDER = Path(__file__).parent / "web"
CONSENT = "The person in these images agreed to a talking portrait being made of them."
"""The statement that is stored for `consent=true`, unless the caller sends another."""
_TRUE = {"true", "1", "yes", "on"}


def create_api(service: PortraitService) -> FastAPI:
    """The web application of one ingress replica."""
    api = FastAPI(title="Talking portraits", version="1", docs_url="/docs", redoc_url=None)
    api.add_exception_handler(ApiError, _api_error)
    api.add_exception_handler(RequestValidationError, _validation_error)
    api.add_exception_handler(HTTPException, _http_error)
    api.add_middleware(_SizeLimit, limits=service.limits)
    api.include_router(_portrait_routes(service))
    api.include_router(_stream_routes(service))
    api.mount("/", StaticFiles(directory=WEB_FOLDER, html=True), name="web")
    return api


def _caller_of(service: PortraitService) -> Callable[[Request], str]:
    """A FastAPI dependency: checks a request's API key and returns its owner."""

    def caller(request: Request) -> str:
        return service.api_keys.owner_of(bearer_key(request.headers.get("authorization")))

    return caller


def _portrait_routes(service: PortraitService) -> APIRouter:
    routes, caller = APIRouter(prefix="/v1"), _caller_of(service)

    @routes.post("/portraits", status_code=201)
    async def register(
        owner: Annotated[str, Depends(caller)],
        images: Annotated[list[UploadFile], File()],
        consent: Annotated[str, Form()] = "",
        consent_statement: Annotated[str, Form(max_length=2000)] = CONSENT,
        name: Annotated[str, Form(max_length=200)] = "",
    ) -> PortraitInfo:
        if consent.strip().lower() not in _TRUE:
            raise ApiError(
                "no_consent", "consent: must be 'true', which confirms that the person in the images agreed"
            )
        if len(images) > service.limits.max_images:
            message = f"images: expected at most {service.limits.max_images} files, found {len(images)}"
            raise ApiError("bad_images", message)
        uploads = [
            UploadedImage(name=image.filename or f"image {number}", content=await image.read())
            for number, image in enumerate(images, 1)
        ]
        return await service.portraits.register(uploads, name, consent_statement, owner)

    @routes.get("/portraits")
    async def portraits(owner: Annotated[str, Depends(caller)]) -> PortraitList:
        return PortraitList(portraits=await service.portraits.portraits(owner))

    @routes.delete("/portraits/{portrait_id}", status_code=204)
    async def delete(owner: Annotated[str, Depends(caller)], portrait_id: str) -> Response:
        if not await service.portraits.delete_portrait(portrait_id, owner):
            raise ApiError("unknown_portrait", f"portrait_id: there is no portrait {portrait_id!r}", 404)
        return Response(status_code=204)

    return routes


def _stream_routes(service: PortraitService) -> APIRouter:
    routes, caller = APIRouter(prefix="/v1"), _caller_of(service)

    @routes.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @routes.get("/info")
    async def info() -> ServiceInfo:
        return await service.info()

    @routes.post("/videos")
    async def videos(
        *,
        request: Request,
        owner: Annotated[str, Depends(caller)],
        portrait_id: Annotated[str, Form()],
        audio: UploadFile,
        seed: Annotated[int | None, Form(ge=0, lt=2**63)] = None,
        audio_guidance: Annotated[float | None, Form(ge=0, le=20)] = None,
        reference_guidance: Annotated[float | None, Form(ge=0, le=20)] = None,
    ) -> StreamingResponse:
        start = Start(
            portrait_id=portrait_id,
            seed=seed,
            audio_guidance=audio_guidance,
            reference_guidance=reference_guidance,
            idle=False,
        )
        samples = await _decoded(audio, service)
        pieces = _video(service, start, owner, samples, request)
        # The first piece is awaited before the status is sent, so that an error can still set the status.
        first = await anext(pieces)
        return StreamingResponse(_chained(first, pieces), media_type="video/mp4")

    @routes.websocket("/stream")
    async def stream(socket: WebSocket) -> None:
        await StreamSocket(socket, service).serve()

    return routes


async def _decoded(audio: UploadFile, service: PortraitService) -> np.ndarray:
    """The file's sound, 16 kHz mono, within the limits."""
    name = audio.filename or "audio"
    content = await audio.read()
    if len(content) > service.limits.max_audio_bytes:
        message = f"{name}: {len(content)} bytes, expected at most {service.limits.max_audio_bytes}"
        raise ApiError("too_large", message, 413)
    try:
        samples = await asyncio.to_thread(read_audio, content, name=name)
    except ValueError as error:
        raise ApiError("bad_audio", str(error)) from error
    seconds = len(samples) / SAMPLE_RATE
    if seconds > service.limits.max_audio_s:
        raise ApiError(
            "too_long", f"{name}: {seconds:.0f} s, expected at most {service.limits.max_audio_s:g} s", 413
        )
    return samples


async def _video(
    service: PortraitService, start: Start, owner: str, samples: np.ndarray, request: Request
) -> AsyncGenerator[bytes]:
    """The pieces of the video as they are made; stops when the client disconnects or no longer reads."""
    ready: asyncio.Queue[bytes] = asyncio.Queue(2)

    async def send(_event: BlockEvent | None, media: bytes) -> None:
        await ready.put(media)

    with service.slot():
        async with service.session(start, owner, send) as (session, _started):
            session.audio.fill(samples)
            running = asyncio.create_task(session.run())
            disconnect = asyncio.create_task(_disconnected(request))
            try:
                while not (running.done() and ready.empty()):
                    piece = asyncio.create_task(ready.get())
                    await asyncio.wait((piece, running, disconnect), return_when=asyncio.FIRST_COMPLETED)
                    if disconnect.done():
                        piece.cancel()
                        return
                    if piece.done():
                        yield piece.result()
                    else:
                        piece.cancel()
                await running
            finally:
                for task in (running, disconnect):
                    task.cancel()
                await asyncio.gather(running, disconnect, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    """Returns when the client has disconnected."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _chained(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with contextlib.aclosing(rest):
        yield first
        async for piece in rest:
            yield piece


class _SizeLimit:
    """ASGI middleware: refuses uploads whose declared length exceeds the limits, before they are read."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        # A multipart body is a little larger than the files in it.
        self._most = max(limits.max_audio_bytes, limits.max_images * limits.max_image_bytes) + 2**16

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        length = Headers(scope=scope).get("content-length", "0") if scope["type"] == "http" else "0"
        if length.isdecimal() and int(length) > self._most:
            message = f"the request has {length} bytes, expected at most {self._most}"
            response = await _api_error(Request(scope), ApiError("too_large", message, 413))
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)


async def _api_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    headers = {"Retry-After": "5"} if error.status == 503 else None
    return JSONResponse({"error": {"code": error.code, "message": error.message}}, error.status, headers)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}"
    return await _api_error(request, ApiError("http", message, error.status_code))


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    parts = [f"{'.'.join(str(part) for part in item['loc'][1:])}: {item['msg']}" for item in error.errors()]
    return await _api_error(request, ApiError("bad_request", "; ".join(parts)))
