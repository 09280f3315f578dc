"""No command opens a socket: nothing is reported, looked up or fetched unless `models pull` is asked to."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from goldens import folder
from kinescribe.cli.app import COMMANDS

# In a process of its own: an audit hook sees every socket of every library, and cannot be taken off again.
PROGRAM = """
import json, sys
seen, at = [], [""]
sys.addaudithook(lambda event, args: event.startswith("socket.") and seen.append(f"{at[0]}: {event}"))
from kinescribe.cli.app import run
codes = {}
for line in json.loads(sys.argv[1]):
    at[0] = " ".join(line)
    codes[at[0]] = run(line)
at[0] = "a control"
import socket
socket.socket(socket.AF_UNIX).close()
print(json.dumps([codes, seen]))
"""
RECIPE = Path(__file__).parents[3] / "recipes" / "papercut_vae.toml"
TINY = {
    "run.folder": "run", "run.steps": 2, "run.log_steps": 1, "run.device": '"cpu"', "run.compiled": "false", "batch": 4,
    "vae.width": 8, "vae.groups": 4, "vae.multipliers": "[1, 1, 1, 1]", "cache.chunk": 16, "cache.slots": 2,
    "cache.first_slots": 1, "cache.size": 16, "cache.frames": 2, "cache.workers": 0, "optimizer.warmup_steps": 1,
}  # fmt: skip
PLACES = {
    "MODEL": folder("text_to_video/diffusers"),
    "XL": folder("image_and_video_to_video/i2vgen-xl"),
    "V2V": folder("image_and_video_to_video/v2v"),
    "PICTURE": folder("image_and_video_to_video/i2v") / "test_a.png",
}
TWO = ("--size", "64x64", "--steps", "1", "--frames", "2", "--refine-model", "V2V", "--refine-steps", "1")
LINES = [
    ["generate", "a red ball", "--steps", "1", "-o", "c.mp4"],
    ["plan", "a red ball", "--json"],
    ["bench", "--steps", "1", "--frames", "2", "--runs", "1"],
    ["generate", "a red ball", "a cat", "--steps", "1", "--frames", "2", "-o", "c.gif", "--sheet"],
    ["inspect", "c.mp4"],
    ["remake", "c.mp4", "--steps", "1", "-o", "d.mp4"],
    ["animate", "PICTURE", "a boat", "--model", "XL", *TWO, "-o", "e.mp4"],
    ["animate", "PICTURE", "a boat", "--steps", "1", "--frames", "2", "--refine", "-o", "f.mp4"],
    ["refine", "c.mp4", "--model", "papercut", "--steps", "2", "--strength", "0.5"],
    ["refine", "c.mp4", "--steps", "1", "-o", "g.mp4"],
    ["doctor", "--self-test"],
    ["models", "list"],
    ["models", "show", "modelscope-1.7b"],
    ["models", "check", "MODEL"],
    ["models", "convert", "MODEL", "here"],
    ["models", "verify", "here"],
    ["models", "pull", "modelscope-1.7b", "--dry-run"],
    ["train", "--config", str(RECIPE), *(word for key in TINY for word in ("--set", f"{key}={TINY[key]}"))],
    ["--help"],
    ["--version"],
]


def sockets(lines: list[list[str]], place: Path) -> tuple[dict[str, int], list[str]]:
    """The exit code of each command line, and the socket calls that it made."""
    given = [[str(PLACES.get(word, word)) for word in line] for line in lines]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(given)],
        cwd=place,
        env={**os.environ, "KINESCRIBE_HOME": str(place / ".home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    codes, seen = json.loads(done.stdout.splitlines()[-1])
    assert seen.pop() == "a control: socket.__new__"
    return codes, seen


@pytest.mark.slow
def test_no_command_opens_a_socket(tmp_path: Path) -> None:
    codes, seen = sockets(LINES, tmp_path)
    assert seen == []
    assert {line: code for line, code in codes.items() if code != 0} == {}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_among_them(command: str) -> None:
    assert command in {line[0] for line in LINES}
