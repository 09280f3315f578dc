"""What the pages tell people to type works: Python blocks run, command lines run or at least parse."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# A block after this remark needs weights, a GPU or time that a test does not have: it is only checked.
NOT_RUN = re.compile(r"<!-- not run: .+ -->\n$")
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    runs: bool

    def command_lines(self) -> list[list[str]]:
        """The lines that call `kinescribe`, split as a shell would."""
        lines = self.text.replace("\\\n", " ").splitlines()
        words = [shlex.split(line, comments=True) for line in lines]
        return [line for line in words if line and line[0] == "kinescribe"]


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(match[1], match[2], not NOT_RUN.search(text[: match.start()])) for match in BLOCK.finditer(text)
    ]


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def run(arguments: list[str], folder: Path) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{arguments}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=named)
def test_blocks_of_a_page_run_in_order(page: Path, tmp_path: Path) -> None:
    python = ""
    for block in filter(lambda block: block.runs, blocks(page)):
        if block.language == "python":
            python += block.text + "\n"
        for line in block.command_lines():
            run(["-m", *line], tmp_path)
    if python:  # in one process: a page is one story
        run(["-c", python], tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_python_block_is_python(page: Path) -> None:
    for block in blocks(page):
        if block.language == "python":
            compile(block.text, named(page), "exec")


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_command_line_is_one_the_program_takes(page: Path) -> None:
    from kinescribe.cli.app import build

    app = build()
    for block in blocks(page):
        for line in block.command_lines():
            app.parse_args(line[1:], exit_on_error=False, print_error=False)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_make_target_exists(page: Path) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    told = re.findall(r"\bmake ([a-z][a-z-]*)\b", "".join(block.text for block in blocks(page)))
    assert set(told) <= set(targets)
