"""Write a clip: H.264 in mp4, VP9 in webm, animated GIF or WebP, or PNG frames; encoded in this process.

What was written is opened again and compared (frames, size, codec) before it gets its final name.
"""

import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

from kinescribe.errors import OptionError, WriteError
from kinescribe.media.frames import Frames, as_frames
from kinescribe.media.output import (
    ENCODERS,
    cannot_write,
    check_output,
    output_format,
    whole_file,
    whole_folder,
)
from kinescribe.media.pictures import write_animation, write_png_frames

# one thread: the bytes then do not depend on the number of cores
SETTINGS: dict[str, dict[str, str]] = {
    # Without mbtree: with it some builds of x264 give other bytes now and then, and one recipe must give one file.
    "mp4": {"crf": "16", "preset": "medium", "threads": "1", "mbtree": "0"},
    "webm": {"crf": "22", "b": "0", "deadline": "good", "cpu-used": "2", "threads": "1"},
}
TAGS = {"mp4": "avc1", "webm": "vp9"}
BT709 = 1
LIMITED = 1


def write_video(
    frames: Any,
    fps: int | float,  # beartype keeps the two apart
    path: str | Path,
    *,
    recipe: Mapping[str, object] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write `frames` (anything `as_frames` takes) at `fps` frames a second; the absolute path back.

    The extension picks the format: .mp4 .webm .gif .webp, or a folder for PNG frames. `recipe` goes into the
    file as JSON: container tag `comment` (mp4, webm), comment block (GIF), EXIF (WebP), text chunk (PNG).
    Raises OptionError for frames or fps that cannot be written, WriteError if the file cannot be.
    """
    clip = as_frames(frames)
    fps = float(fps)
    if not 0 < fps <= 1000:
        raise OptionError(f"fps={fps}: expected a number above 0, up to 1000")
    final = check_output(path, overwrite)
    kind = output_format(path)
    check_pixels(kind, clip.shape[2], clip.shape[1])
    comment = None if recipe is None else json.dumps(recipe)
    if kind == "png":
        with whole_folder(final, overwrite=overwrite) as folder:
            write_png_frames(clip, fps, folder, comment)
        return final
    with whole_file(final, overwrite=overwrite) as temporary:
        if kind in ("gif", "webp"):
            write_animation(clip, fps, temporary, kind, comment)
        else:
            _write_container(clip, fps, temporary, final, kind, comment)
    return final


def check_pixels(kind: str, width: int, height: int) -> None:
    """OptionError if a format cannot hold this size exactly: yuv420p stores colour for 2 x 2 pixels at once."""
    if kind in ENCODERS and (width % 2 or height % 2):
        up = f"{width + width % 2}x{height + height % 2}"
        raise OptionError(
            f"size {width}x{height}: .{kind} needs even sides; use {up}, or .gif, .webp, folder/"
        )


def _write_container(
    clip: Frames, fps: float, path: Path, final: Path, kind: str, comment: str | None
) -> None:
    import av

    try:
        _encode(clip, fps, path, kind, comment)
        _verify(clip, path, kind)
    except av.FFmpegError as error:
        raise cannot_write(final, error) from error


def _encode(clip: Frames, fps: float, path: Path, kind: str, comment: str | None) -> None:
    import av

    _, height, width, _ = clip.shape
    rate = Fraction(fps).limit_denominator(100_000)
    # "file:" keeps names with a colon from being read as a network address
    with av.open(
        f"file:{path}", "w", format=kind, options={"movflags": "+faststart"} if kind == "mp4" else {}
    ) as out:
        if comment is not None:
            out.metadata["comment"] = comment
        stream = cast(av.VideoStream, out.add_stream(ENCODERS[kind], rate=rate, options=SETTINGS[kind]))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        codec = stream.codec_context
        codec.color_primaries = codec.color_trc = codec.colorspace = BT709
        codec.color_range = LIMITED
        for index, image in enumerate(clip):
            rgb = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame = rgb.reformat(
                format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG", interpolation="LANCZOS"
            )
            frame.pts, frame.time_base = index, 1 / rate
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def _verify(clip: Frames, path: Path, kind: str) -> None:
    import av

    with av.open(f"file:{path}", "r", format=kind, options={"protocol_whitelist": "file"}) as back:
        stream = back.streams.video[0]
        codec = stream.codec_context
        tag = codec.codec_tag if kind == "mp4" else codec.name.removeprefix("lib")
        sizes = [(frame.height, frame.width) for frame in back.decode(stream)]
        seen = (len(sizes), set(sizes), tag, codec.pix_fmt)
    wanted = (len(clip), {clip.shape[1:3]}, TAGS[kind], "yuv420p")
    if seen != wanted:
        raise WriteError(
            f"the written .{kind} reads back as {seen}, not {wanted}: try another format with -o"
        )
