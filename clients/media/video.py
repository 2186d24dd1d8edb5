"""All that reads and writes videos, from here; loading it loads FFmpeg."""

from __future__ import annotations

from clients.media.network import open_stream
from clients.media.video_head import has_pictures
from clients.media.video_reader import VideoFrame, VideoReader, VideoSecond, read_frames
from clients.media.video_writer import VideoWriter, replace_sound

__all__ = [
    "VideoFrame",
    "VideoReader",
    "VideoSecond",
    "VideoWriter",
    "has_pictures",
    "open_stream",
    "read_frames",
    "replace_sound",
]
