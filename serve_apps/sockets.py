"""`WS /v1/stream`: the exchange of messages over one WebSocket (protocol.py lists them).

One task reads continuously, so that a disconnect, `clear` and new audio are noticed while a block is being made; the
session's own tasks make and send media. The stream ends when either of them ends.
"""

from __future__ import annotations

import asyncio
import logging

import numpy as np
from fastapi import WebSocket
from pydantic import BaseModel
from starlette.websockets import WebSocketDisconnect, WebSocketState

from serve_apps.auth import bearer_key
from serve_apps.errors import CLOSE_NORMAL, ApiError
from serve_apps.protocol import BlockEvent, Clear, End, ErrorEvent, Playhead, Start, parse_client_message
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
        """Runs the stream. The socket is always accepted: a browser cannot see why a handshake was refused."""
        await self._socket.accept()
        try:
            with self._service.slot():
                await self._stream()
            await self._close(CLOSE_NORMAL)
        except ApiError as error:
            await self._say(ErrorEvent(code=error.code, message=error.message))
            await self._close(error.close_code)
        except WebSocketDisconnect:
            pass
        except Exception:
            # A defect: the client learns no more than that, the log has the details.
            logger.exception("a stream failed")
            error = ApiError("internal", "the stream failed; the server's log has the reason", 500)
            await self._say(ErrorEvent(code=error.code, message=error.message))
            await self._close(error.close_code)

    async def _stream(self) -> None:
        start = await self._first_message()
        api_key = start.api_key or bearer_key(self._socket.headers.get("authorization"))
        owner = self._service.api_keys.owner_of(api_key)
        async with self._service.session(start, owner, self._send_media) as (session, started):
            await self._say(started)
            reading = asyncio.create_task(self._read(session))
            running = asyncio.create_task(session.run())
            try:
                await asyncio.wait((reading, running), return_when=asyncio.FIRST_COMPLETED)
                if not running.done():
                    reading.result()  # raises: the client disconnected or sent something wrong
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
            raise ApiError("no_start", f"no 'start' message came within {timeout:g} s", 408) from None
        message = parse_client_message(first) if isinstance(first, str) else None
        if not isinstance(message, Start):
            raise ApiError("no_start", "the first message must be 'start'")
        return message

    async def _read(self, session: StreamSession) -> None:
        """Handles what the client sends; ends by raising, when the client disconnects or sends something wrong."""
        pcm = PcmReader()
        while True:
            received = await self._receive()
            if isinstance(received, bytes):
                session.audio.push(pcm.read(received))
                continue
            match parse_client_message(received):
                case End():
                    session.audio.end()
                case Clear():
                    await session.clear(self._say)
                case Playhead(seconds=seconds):
                    session.pacing.played(seconds)
                case Start():
                    raise ApiError("started_already", "'start' was sent twice; a stream has only one", 409)

    async def _receive(self) -> str | bytes:
        """The next message.

        Raises:
            WebSocketDisconnect: the client disconnected.
            ApiError: the message is too large.
        """
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        text, data = message.get("text"), message.get("bytes")
        content = text if text is not None else data or b""
        limit = self._service.limits.max_message_bytes
        if len(content) > limit:
            raise ApiError("too_large", f"a message has {len(content)} bytes, expected at most {limit}", 413)
        return content

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
                logger.debug("the client disconnected before %r was sent", message)

    async def _close(self, code: int) -> None:
        if self._socket.application_state is not WebSocketState.CONNECTED:
            return
        try:
            await self._socket.close(code)
        except (RuntimeError, WebSocketDisconnect):
            logger.debug("the client closed first")


class PcmReader:
    """Reads samples from a stream of 16-bit little-endian PCM, wherever the client cuts it into messages.

    The first byte of a sample whose second has not come yet waits for the next message, also across `clear`: dropping
    it would shift every later sample by a byte.
    """

    def __init__(self) -> None:
        self._rest = b""

    def read(self, data: bytes) -> np.ndarray:
        """The samples that `data` completes: float32 [S] in [-1, 1)."""
        data = self._rest + data
        whole = len(data) - len(data) % 2
        self._rest = data[whole:]
        return np.frombuffer(data[:whole], "<i2").astype(np.float32) / 32768
