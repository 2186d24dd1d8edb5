"""How large and how small an input may be; everything beyond is refused from its header, before memory is taken."""

from __future__ import annotations

import stat
from pathlib import Path

from clients.errors import BadInput, printable

# Sound
MIN_SECONDS = 0.1  # ten frames; the voice of less than a phoneme cannot be told apart
MAX_SECONDS = 1_800  # of what is held in memory as a whole
MAX_STREAM_SECONDS = 86_400  # of what is read piece by piece, sound or video
MAX_CHANNELS = 8
MIN_RATE_HZ, MAX_RATE_HZ = 4_000, 192_000
MAX_SAMPLES = 100_000_000  # of what is held in memory, per channel; 400 MB as float32
MIN_BITS_PER_SAMPLE = 0.05  # a FLAC of more than MAX_SECONDS with less is silent but for a few minutes
SILENCE_RMS = 1e-4  # -80 dBFS; the dither of an empty 16-bit recording lies at 2e-5

# Pictures
MIN_SIDE_PIXELS = 16
MAX_SIDE_PIXELS = 16_384
MAX_PIXELS = 50_000_000  # 150 MB as RGB
MAX_PICTURE_BYTES = 100_000_000
MAX_TILES_PER_SIDE = 8
MAX_TILES = 64  # 113 MB of pixels in frames of 1024x576

# Videos
MAX_VIDEO_PIXELS = 9_437_184  # 4096x2304
MIN_FRAME_RATE, MAX_FRAME_RATE = 0.01, 1_000  # per second; less is taken for the least
MAX_TRACKS = 64
MAX_DECODING_S = 30.0  # of work for one picture or block of sound; slow machines need one for a picture


def require_file(path: Path, kind: str) -> None:
    """Refuse what is no ordinary file with something in it.

    Raises:
        BadInput: absent, a folder, a device or pipe, empty, or not readable.
    """
    name = printable(path)
    try:
        status = path.stat()
        if stat.S_ISREG(status.st_mode):
            path.open("rb").close()
    except FileNotFoundError:
        raise BadInput(f"There is no file {name}", kind, "there is nothing to read", "check the path") from None
    except (OSError, ValueError) as error:
        reason = printable(getattr(error, "strerror", None) or str(error))
        raise BadInput(f"{name} cannot be opened: {reason}", kind, "there is nothing to read", "check it") from None
    if not stat.S_ISREG(status.st_mode):
        what = "a folder" if stat.S_ISDIR(status.st_mode) else "a device or a pipe"
        raise BadInput(f"{name} is {what}", kind, "only whole files can be checked before they are read", "name files")
    if status.st_size == 0:
        raise BadInput(f"{name} is empty (0 bytes)", kind, "there is nothing to read", "record or copy it again")


def require_picture_size(name: str, width: int, height: int, largest_pixels: int = MAX_PIXELS) -> None:
    """Refuse a picture whose size cannot be worked with.

    Raises:
        BadInput: a side below 16 or above 16,384 pixels, or too many pixels.
    """
    fits = min(width, height) >= MIN_SIDE_PIXELS and max(width, height) <= MAX_SIDE_PIXELS
    if not fits or width * height > largest_pixels:
        raise BadInput(
            f"{name} is {width}x{height} pixels",
            f"sides of {MIN_SIDE_PIXELS} to {MAX_SIDE_PIXELS} pixels and at most {largest_pixels:,} pixels in all",
            "less shows nothing, and more could fill the memory",
            "give another picture, or resize this one",
        )


def require_sound_size(name: str, *, samples: int, channels: int, rate_hz: int) -> None:
    """Refuse a recording by what its header says, where it is to be held in memory as a whole.

    Args:
        name: how messages call it.
        samples: per channel.
        channels: how many.
        rate_hz: sample rate.

    Raises:
        BadInput: no or too many channels, a rate outside 4 to 192 kHz, too short or too long.
    """
    require_sound_format(name, channels=channels, rate_hz=rate_hz)
    require_duration(name, samples, rate_hz)


def require_sound_format(name: str, *, channels: int, rate_hz: int) -> None:
    """Refuse a recording of any length by its form.

    Raises:
        BadInput: no or too many channels, or a rate outside 4 to 192 kHz.
    """
    if not 1 <= channels <= MAX_CHANNELS:
        raise BadInput(
            f"{name} has {channels} channels",
            f"1 to {MAX_CHANNELS} channels",
            "they are mixed down to one",
            "give a mono or stereo recording",
        )
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise BadInput(
            f"{name} has a sample rate of {rate_hz} Hz",
            f"{MIN_RATE_HZ} to {MAX_RATE_HZ} Hz",
            "the networks hear 16 kHz, and no voice survives such a conversion",
            "check the file's header, or record at 16 to 48 kHz",
        )


def require_duration(name: str, samples: int, rate_hz: int) -> None:
    """Refuse a recording that is too short, or too long to be held in memory.

    Raises:
        BadInput: less than 0.1 s, more than 30 minutes or more than 100 million samples.
    """
    require_not_short(name, samples, rate_hz)
    seconds = samples / rate_hz
    if seconds > MAX_SECONDS or samples > MAX_SAMPLES:
        raise BadInput(
            f"{name} is {seconds:,.1f} s long ({samples:,} samples at {rate_hz} Hz)",
            f"at most {MAX_SECONDS:,} s and {MAX_SAMPLES:,} samples",
            "it is held in memory as a whole",
            "for a voice, go from file to file (separate_file); else cut it into parts",
        )


def require_not_short(name: str, samples: int, rate_hz: int) -> None:
    """Refuse a recording that is too short.

    Raises:
        BadInput: less than 0.1 s.
    """
    seconds = samples / rate_hz
    if seconds < MIN_SECONDS:
        raise BadInput(
            f"{name} is {seconds:.3f} s long ({samples} samples at {rate_hz} Hz)",
            f"at least {MIN_SECONDS} s",
            "nothing can be heard in less",
            "give a longer recording",
        )


def require_stream_duration(name: str, seconds: float) -> None:
    """Refuse a recording or video that is too long even to be read piece by piece.

    Raises:
        BadInput: more than 24 h.
    """
    if seconds > MAX_STREAM_SECONDS:
        raise BadInput(
            f"{name} is {seconds / 3600:,.1f} h long",
            f"at most {MAX_STREAM_SECONDS // 3600} h",
            "a header that promises more is mostly a damaged one",
            "cut it into parts",
        )


def require_frame_rate(name: str, frame_rate: float) -> None:
    """Refuse a video by how many pictures it promises.

    Raises:
        BadInput: more than 1,000 per second.
    """
    if frame_rate > MAX_FRAME_RATE:
        raise BadInput(
            f"{name} has {frame_rate:,.0f} pictures per second",
            f"at most {MAX_FRAME_RATE:,}",
            "no camera gives more, so its header is damaged",
            "convert it at 25 to 60 pictures per second",
        )
