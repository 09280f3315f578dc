"""Frames out of mp4, mov, webm, mkv and avi files, decoded in this process from our own handle."""

from fractions import Fraction
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from kinescribe.errors import OptionError
from kinescribe.media.frames import Frames
from kinescribe.media.images import AS_STORED, Matrix, on_white, turned
from kinescribe.media.recipe import LARGEST_RECIPE
from kinescribe.media.source import LARGEST_FRAME, Container, check_size, opened
from kinescribe.media.timing import even

EXTRA = 4096
HDR = {16: "PQ", 18: "HLG"}  # transfer functions of ITU-T H.273
WIDEST_PIXEL = 4.0
MISSING = 0.1  # seconds

Image = UInt8[np.ndarray, "h w 3"]


class Decoded(NamedTuple):
    """A clip as it lies in a file: frames at an even rate, the comment, and what reading it changed, in words."""

    frames: Frames
    fps: float
    comment: str
    notes: tuple[str, ...]


def read_container(source: Path, kind: Container) -> Decoded:
    """Decode the best picture track of a whole file.

    Raises OptionError if there is none, if the decoder finds damage, or if it is too large.
    """
    import av

    images: list[Image] = []
    try:
        with opened(source) as file, _demuxer(file, kind) as clip:
            stream = clip.streams.best("video")
            if stream is None:
                raise OptionError(f"{source.name} has no picture, only sound: give a video")
            if stream.codec_context is None:
                raise OptionError(f"{source.name} is coded in a way unknown here: convert it to H.264")
            times, notes = _decode(clip, stream, images)
            if not images:
                raise OptionError(f"{source.name} holds no frame that can be decoded: give another file")
            if len({image.shape for image in images}) != 1:
                raise OptionError(f"{source.name} changes its size on the way: give a clip of one size")
            pace = even(times, float(stream.average_rate or 0))
            told = (*notes, *([pace.note] if pace.note else []))
            return Decoded(_stacked(images, pace.order), pace.fps, container_comment(clip.metadata), told)
    except (av.FFmpegError, ValueError) as error:
        if isinstance(error, OptionError):
            raise
        where = f" after {len(images)} frames" if images else ""
        raise OptionError(f"{source.name} is damaged{where} ({_reason(error)}): give a whole file") from error


def read_tags(source: Path, kind: Container) -> str:
    """The comment of a file, without decoding a frame."""
    import av

    try:
        with opened(source) as file, _demuxer(file, kind) as clip:
            return container_comment(clip.metadata)
    except (av.FFmpegError, ValueError) as error:
        if isinstance(error, OptionError):
            raise
        raise OptionError(f"{source.name} is damaged ({_reason(error)}): give another file") from error


def container_comment(tags: dict[str, str]) -> str:
    """The comment among a container's tags, cut where no recipe could end."""
    comment = next((value for key, value in tags.items() if key.lower() == "comment"), "")
    return comment[: LARGEST_RECIPE + EXTRA]


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split())


def _demuxer(file: IO[bytes], kind: Container) -> Any:
    import av

    # our own handle, the format forced from the bytes, files only: a playlist cannot make us open an address
    return av.open(_Nameless(file), "r", format=kind, options={"protocol_whitelist": "file"})


class _Nameless:
    """A readable handle without a name, for FFmpeg would choose a demuxer by it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


def _decode(clip: Any, stream: Any, images: list[Image]) -> tuple[list[float | None], list[str]]:
    """Fill `images`; the time of each, and what there is to say."""
    codec = stream.codec_context
    check_size(codec.width, codec.height, stream.frames or 1, name="the clip")
    codec.options = {"max_pixels": str(2 * LARGEST_FRAME)}  # which counts padding; frames may grow on the way
    widen = _pixel_width(stream.sample_aspect_ratio)
    times: list[float | None] = []
    corrupt, end = 0, 0.0
    for frame in clip.decode(stream):
        width = max(1, round(frame.width * widen))
        check_size(width, frame.height, len(images) + 1, name="the clip")
        images.append(turned(_pixels(frame, width), _matrix(frame)))
        times.append(frame.time)
        corrupt += frame.is_corrupt
        end = (frame.time or 0.0) + float((frame.duration or 0) * (frame.time_base or 0))
    notes = []
    if clip.streams.audio:
        notes.append("the sound is left out")
    if codec.color_trc in HDR:
        notes.append(f"HDR ({HDR[codec.color_trc]}): its colours are not mapped and look pale")
    if widen != 1:
        notes.append(f"pixels {float(widen):.3g} times as wide as high: made square")
    if corrupt:
        notes.append(f"{corrupt} of {len(images)} frames are damaged")
    promised = (clip.duration or 0) / 1_000_000
    if images and promised - end > max(MISSING, 2 * promised / (len(images) + 1)):
        notes.append(f"the file promises {promised:.2f} s, its pictures end after {end:.2f} s")
    return times, notes


def _pixels(frame: Any, width: int) -> Image:
    clear = any(component.is_alpha for component in frame.format.components)
    pixels = "rgba" if clear else "rgb24"
    if width == frame.width:
        image = frame.to_ndarray(format=pixels)
    else:
        image = frame.reformat(width, frame.height, pixels, interpolation="LANCZOS").to_ndarray()
    return on_white(image) if clear else image


def _pixel_width(ratio: Fraction | None) -> Fraction | int:
    """How much wider than high a pixel is; 1 where the file does not tell, or tells nonsense."""
    return ratio if ratio and 1 / WIDEST_PIXEL <= ratio <= WIDEST_PIXEL else 1


def _matrix(frame: Any) -> Matrix:
    found = frame.side_data.get("DISPLAYMATRIX")
    if found is None:
        return AS_STORED
    a, b, _, c, d = np.frombuffer(bytes(found), np.int32)[:5].tolist()
    return a, b, c, d


def _stacked(images: list[Image], order: list[int]) -> Frames:
    """The frames in one array; the list is emptied on the way, so that memory holds them little more than once."""
    chosen = [images[index] for index in order]
    images.clear()
    frames = np.empty((len(chosen), *chosen[0].shape), np.uint8)
    chosen.reverse()
    for index in range(len(frames)):
        frames[index] = chosen.pop()
    return frames
