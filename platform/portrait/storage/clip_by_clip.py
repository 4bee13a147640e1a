"""Reading media of collections whose clips lie apart from each other: several are read one after another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence


class ClipByClip(ABC):
    """The reading half of `Clips`, out of one read of one clip."""

    @abstractmethod
    def _read(self, column: str, index: int) -> bytes:
        """`video` or `audio` of a clip."""

    def read_video(self, indices: Sequence[int]) -> list[bytes]:
        """H.264 MP4 bytes of clips, in the order of the indices."""
        return [self._read("video", int(index)) for index in indices]

    def read_audio(self, indices: Sequence[int]) -> list[bytes]:
        """FLAC bytes of clips, in the order of the indices."""
        return [self._read("audio", int(index)) for index in indices]

    def read_media(self, indices: Sequence[int]) -> list[tuple[bytes, bytes]]:
        """(video, audio) bytes of clips, in the order of the indices."""
        return list(zip(self.read_video(indices), self.read_audio(indices), strict=True))
