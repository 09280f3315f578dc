"""What a run shows of itself: the JSON-lines log, the loss curve, and sample sheets."""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from kinescribe.checkpoints.extras import too_old
from kinescribe.errors import KinescribeWarning
from kinescribe.media.sheet import write_sheet

SHEET_COLUMNS = 8


class Log:
    """A JSON-lines file and the console: one object a line, written through at once."""

    def __init__(self, path: Path, *, silent: bool) -> None:
        self.path, self.silent = path, silent

    def write(self, kind: str, **values: object) -> None:
        """Add a line; floats are shortened to six significant digits. Other ranks than the first stay silent."""
        if self.silent:
            return
        line = {"kind": kind} | {name: _short(value) for name, value in values.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(" ".join(f"{name}={value}" for name, value in line.items()), flush=True)  # noqa: T201 - the console log


def read_log(path: Path) -> list[dict[str, object]]:
    """The lines of a log; a line cut short by a kill is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return lines


def draw_curve(log: Path, picture: Path) -> None:
    """The training and validation loss of a log over steps, as a PNG, logarithmic when all values are positive."""
    lines = read_log(log)
    curves = {
        "training": [
            (line["step"], line["loss"]) for line in lines if line["kind"] == "train" and "loss" in line
        ],
        "validation": [
            (line["step"], line["loss"]) for line in lines if line["kind"] == "validation" and "loss" in line
        ],
    }
    points = {name: np.array(curve, dtype=np.float64) for name, curve in curves.items() if curve}
    fault = too_old("train", "matplotlib")
    if fault:
        warnings.warn(f"{fault}: the curve is drawn plainly", KinescribeWarning, stacklevel=2)
        _draw(points, picture)
        return
    try:
        _plot(points, picture)
    except ImportError:
        _draw(points, picture)


def write_samples(clips: UInt8[np.ndarray, "n f h w 3"], path: Path) -> None:
    """A sheet with a row for each of the first eight clips, eight frames of each, first and last among them."""
    columns = min(SHEET_COLUMNS, clips.shape[1])
    chosen = np.linspace(0, clips.shape[1] - 1, columns).round().astype(int)
    frames = clips[:SHEET_COLUMNS, chosen].reshape(-1, *clips.shape[2:])
    write_sheet(frames, path, columns=columns, overwrite=True)


def _short(value: object) -> object:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _plot(points: Mapping[str, np.ndarray], picture: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name, curve in points.items():
        axes.plot(curve[:, 0], curve[:, 1], marker="o" if name == "validation" else None, label=name)
    if points and all((curve[:, 1] > 0).all() for curve in points.values()):
        axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.grid(visible=True, alpha=0.3)
    if points:
        axes.legend()
    figure.savefig(picture, dpi=110)


def _draw(points: Mapping[str, np.ndarray], picture: Path) -> None:
    """The same without matplotlib: plain lines in a frame, and the ends of both axes in figures."""
    from PIL import Image, ImageDraw

    width, height, margin = 800, 450, 40
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((margin, margin, width - margin, height - margin), outline="black")
    if points:
        every = np.concatenate(list(points.values()))
        low, high = every.min(0), every.max(0)
        span = np.where(high > low, high - low, 1.0)
        scale = np.array([width - 2 * margin, 2 * margin - height])
        corner = np.array([margin, height - margin])
        for colour, curve in zip(("steelblue", "darkorange"), points.values(), strict=False):
            path = corner + (curve - low) / span * scale
            draw.line([tuple(point) for point in path], fill=colour, width=2)
        draw.text((margin, height - margin + 6), f"step {low[0]:.0f} to {high[0]:.0f}", fill="black")
        draw.text((margin, margin - 18), f"loss {low[1]:.4g} to {high[1]:.4g}", fill="black")
    image.save(picture, "PNG")
