"""The wheel, alone with its core dependencies and without a network, makes, animates and refines clips."""

import json
import os
import re
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NEVER_LOADED = ("transformers", "diffusers", "open_clip", "torchvision", "cv2")

# Every way out is closed before anything of ours is imported.
PROGRAM = """
import json, socket, sys

def refused(*args, **kwargs):
    raise OSError("the test allows no network")

socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refused
from kinescribe.cli.app import run
codes = [run(line) for line in json.loads(sys.argv[1])]
print(json.dumps({"codes": codes, "loaded": sorted({name.split(".")[0] for name in sys.modules})}))
"""


def requirement_names(package: Distribution) -> set[str]:
    """Names of what a distribution needs here, its extras left out."""
    from packaging.requirements import Requirement

    wanted = map(Requirement, package.requires or [])
    return {need.name for need in wanted if need.marker is None or need.marker.evaluate({"extra": ""})}


def core_dependencies() -> dict[str, Distribution]:
    """Everything that an installation without extras brings, by normalised name."""
    found: dict[str, Distribution] = {}
    waiting = requirement_names(distribution("kinescribe"))
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:  # an accelerator's package that this build of torch does without
            continue
        waiting |= requirement_names(found[name])
    return found


def link(package: Distribution, site: Path) -> None:
    """Make one installed distribution visible in another environment."""
    tops = {Path(file.parts[0]) for file in package.files or [] if file.parts[0] not in ("..", "__pycache__")}
    for top in tops:
        source = Path(str(package.locate_file(top)))
        if source.exists() and not (site / top).exists():
            (site / top).symlink_to(source)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def bare_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds the wheel and its core dependencies, nothing else."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    for package in core_dependencies().values():
        link(package, site)
    return folder / "bin" / "python"


def bare_run(python: Path, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    home = folder.with_name(f"{folder.name}-home")  # verdicts on model files are remembered there
    quiet = {"PATH": os.defpath, "HOME": str(home), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [python, "-I", *arguments], cwd=folder, env=quiet, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_wheel_holds_the_assets_and_notices(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    package = ROOT / "src"
    assets = {path.relative_to(package).as_posix() for path in package.glob("kinescribe/assets/*/*")}
    assert len([name for name in assets if name.endswith(".safetensors")]) >= 9
    assert assets - set(names) == set()
    assert "kinescribe/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert any(name.endswith("tokenizer/NOTICE") and "licenses" in name for name in names)
    assert not [name for name in names if name.startswith(("tests", "docs"))]


@pytest.mark.slow
def test_bare_wheel_makes_clips_without_a_network(bare_python: Path, tmp_path: Path) -> None:
    lines = [
        ["generate", "a red ball bouncing on the grass", "-o", "clip.mp4", "--steps", "2"],
        ["generate", "a red ball on the grass", "-o", "still/", "--steps", "2", "--frames", "1"],
        ["animate", "still/frame-0001.png", "a red ball rising", "-o", "rising.mp4", "--steps", "2"],
        ["refine", "clip.mp4", "a red ball bouncing on the grass", "-o", "large.mp4", "--steps", "1"],
    ]
    done = bare_run(bare_python, "-c", PROGRAM, json.dumps(lines), folder=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["codes"] == [0, 0, 0, 0], done.stderr[-3000:]
    made = {path.name: path.stat().st_size for path in tmp_path.iterdir() if path.is_file()}
    assert set(made) == {"clip.mp4", "rising.mp4", "large.mp4"}, "nothing but the clips is left behind"
    assert min(made.values()) > 1000
    assert set(NEVER_LOADED) & set(report["loaded"]) == set()


@pytest.mark.slow
def test_bare_wheel_has_a_command(bare_python: Path, tmp_path: Path) -> None:
    done = bare_run(bare_python, "-m", "kinescribe", "--version", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "kinescribe" in done.stdout
