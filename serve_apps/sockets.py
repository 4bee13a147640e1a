"""`WS /v1/stream`: the conversation over one WebSocket (protocol.py says what is said).

One task reads all the time, so that a client's leaving, `clear` and new audio are noticed while a block is in work;
the session's own tasks make and send media. Whichever ends first ends the conversation.
"""

from __future__ import annotations

import asyncio
import logging

import numpy as np
from fastapi import WebSocket
from pydantic import BaseModel
from starlette.websockets import WebSocketDisconnect, WebSocketState

from serve_apps.protocol import (
    CLOSE_NORMAL,
    ApiError,
    BlockEvent,
    Clear,
    End,
    ErrorEvent,
    Playhead,
    Start,
    parse_client_message,
)
from serve_apps.service import PortraitService
from serve_apps.sessions import StreamSession

logger = logging.getLogger("ray.serve")


class StreamSocket:
    """One client's WebSocket."""

    def __init__(self, socket: WebSocket, service: PortraitService) -> None:
        self._socket = socket
        self._service = service
        self._writing = asyncio.Lock()

    async def serve(self) -> None:
        """The whole conversation. The socket is accepted first: a refused handshake tells a browser nothing."""
        await self._socket.accept()
        try:
            with self._service.slot():
                await self._converse()
            await self._close(CLOSE_NORMAL)
        except ApiError as error:
            await self._say(ErrorEvent(code=error.code, message=error.message))
            await self._close(error.close_code)
        except WebSocketDisconnect:
            pass
        except Exception:
            # A defect of ours: the client is told that much and no more, the log has the rest.
            logger.exception("a stream failed")
            error = ApiError("internal", "the stream failed; the server's log says why", 500)
            await self._say(ErrorEvent(code=error.code, message=error.message))
            await self._close(error.close_code)

    async def _converse(self) -> None:
        start = await self._first_message()
        owner = self._service.authorise(
            start.api_key or api_key_of(self._socket.headers.get("authorization"))
        )
        async with self._service.session(start, owner, self._send_media) as (session, started):
            await self._say(started)
            reading = asyncio.create_task(self._read(session))
            running = asyncio.create_task(session.run())
            try:
                await asyncio.wait((reading, running), return_when=asyncio.FIRST_COMPLETED)
                if not running.done():
                    reading.result()  # the client left, or said something wrong
                await self._say(await running)
            finally:
                for task in (reading, running):
                    task.cancel()
                await asyncio.gather(reading, running, return_exceptions=True)

    async def _first_message(self) -> Start:
        timeout = self._service.limits.start_timeout_s
        try:
            first = await asyncio.wait_for(self._receive(), timeout)
        except TimeoutError:
            raise ApiError("no_start", f"no 'start' came within {timeout:g} s", 408) from None
        message = parse_client_message(first) if isinstance(first, str) else None
        if not isinstance(message, Start):
            raise ApiError("no_start", "the first message must be 'start'")
        return message

    async def _read(self, session: StreamSession) -> None:
        """Takes what the client sends until it leaves; that, or something wrong, is raised."""
        while True:
            received = await self._receive()
            if isinstance(received, bytes):
                session.audio.push(pcm_to_float(received))
                continue
            match parse_client_message(received):
                case End():
                    session.audio.end()
                case Clear():
                    await session.clear(self._say)
                case Playhead(seconds=seconds):
                    session.playhead(seconds)
                case Start():
                    raise ApiError("started_already", "'start' came twice", 409)

    async def _receive(self) -> str | bytes:
        """The next frame.

        Raises:
            WebSocketDisconnect: the client left.
            ApiError: the frame is too large.
        """
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        text, data = message.get("text"), message.get("bytes")
        frame = text if text is not None else data or b""
        limit = self._service.limits.max_message_bytes
        if len(frame) > limit:
            raise ApiError(
                "too_large", f"a message of {len(frame)} bytes came, expected at most {limit}", 413
            )
        return frame

    async def _send_media(self, event: BlockEvent | None, media: bytes) -> None:
        async with self._writing:
            if event is not None:
                await self._socket.send_text(event.model_dump_json())
            if media:
                await self._socket.send_bytes(media)

    async def _say(self, message: BaseModel) -> None:
        if self._socket.application_state is not WebSocketState.CONNECTED:
            return
        async with self._writing:
            try:
                await self._socket.send_text(message.model_dump_json())
            except (RuntimeError, WebSocketDisconnect):
                logger.debug("the client left before %r", message)

    async def _close(self, code: int) -> None:
        if self._socket.application_state is not WebSocketState.CONNECTED:
            return
        try:
            await self._socket.close(code)
        except (RuntimeError, WebSocketDisconnect):
            logger.debug("the client closed first")


def pcm_to_float(data: bytes) -> np.ndarray:
    """16-bit little-endian PCM to float32 in [-1, 1).

    Raises:
        ApiError: half a sample.
    """
    if len(data) % 2:
        raise ApiError("bad_audio", f"audio must be 16-bit samples, found {len(data)} bytes, an odd number")
    return np.frombuffer(data, "<i2").astype(np.float32) / 32768


def api_key_of(authorization: str | None) -> str | None:
    """The key in an `Authorization: Bearer …` header."""
    scheme, _, key = (authorization or "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None
