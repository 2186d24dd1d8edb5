"""All that reads and writes videos, and cameras and streams, from here; loading it loads FFmpeg."""

from __future__ import annotations

from clients.media.video_reader import VideoFrame, VideoReader, VideoSecond, has_pictures, read_frames

__all__ = ["VideoFrame", "VideoReader", "VideoSecond", "has_pictures", "read_frames"]
