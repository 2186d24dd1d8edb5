"""How large and how small an input may be; everything beyond is refused from its header, before memory is taken."""

from __future__ import annotations

import stat
from pathlib import Path

from clients.errors import BadInput, printable

# Sound
MIN_SECONDS = 0.1  # ten frames; the voice of less than a phoneme cannot be told apart
MAX_SECONDS = 1_800
MAX_CHANNELS = 8
MIN_RATE_HZ, MAX_RATE_HZ = 4_000, 192_000
MAX_SAMPLES = 100_000_000  # per channel; 400 MB as float32
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
    """Refuse a recording by what its header says.

    Args:
        name: how messages call it.
        samples: per channel.
        channels: how many.
        rate_hz: sample rate.

    Raises:
        BadInput: no or too many channels, a rate outside 4 to 192 kHz, too short or too long.
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
    require_duration(name, samples, rate_hz)


def require_duration(name: str, samples: int, rate_hz: int) -> None:
    """Refuse a recording that is too short or too long.

    Raises:
        BadInput: less than 0.1 s, more than 30 minutes or more than 100 million samples.
    """
    seconds = samples / rate_hz
    if seconds < MIN_SECONDS:
        raise BadInput(
            f"{name} is {seconds:.3f} s long ({samples} samples at {rate_hz} Hz)",
            f"at least {MIN_SECONDS} s",
            "nothing can be heard in less",
            "give a longer recording",
        )
    if seconds > MAX_SECONDS or samples > MAX_SAMPLES:
        raise BadInput(
            f"{name} is {seconds:,.1f} s long ({samples:,} samples at {rate_hz} Hz)",
            f"at most {MAX_SECONDS:,} s and {MAX_SAMPLES:,} samples",
            "it is held in memory as a whole",
            "cut it into parts",
        )
