"""The rules that keep the code easy to live in: layers, imports that do nothing, sizes, names, doors."""

import ast
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "kinescribe"
# Lowest first: a file imports only from what stands before it, or from its own package.
LAYERS = ("errors", "options", "media", "ops", "models", "diffusion", "catalog", "components", "checkpoints")
LAYERS += ("perf", "pipelines", "world", "data", "train", "evaluate", "compat", "cli")
EXTRAS = ("diffusers", "transformers", "accelerate", "huggingface_hub", "modelscope", "modelscope_hub")
EXTRAS += ("matplotlib", "open_clip", "torchvision", "cv2", "xformers", "imageio")
BANNED_FILES = {"utils", "util", "helpers", "helper", "common", "misc", "base", "core", "manager"}
# Words of the two other libraries: they occur only where foreign names are translated.
FOREIGN_WORDS = re.compile(
    r"\b(num_inference_steps|guide_scale|guidance_scale|ddim_timesteps|out_height|out_width|num_frames|sigmas?)\b"
)
TRANSLATORS = ("checkpoints", "compat")
# There a flag may be named for what a user types, such as --no-metadata.
TYPED = (*TRANSLATORS, "cli")
NEGATIVE_FLAGS = re.compile(r"(use|no|disable)_")
SHELLS = {"subprocess", "marshal", "shelve", "pty", "commands"}
SOURCES = sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer(name: str) -> str | None:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and not parts[1].startswith("__") else None


def imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def run_at_import(tree: ast.Module) -> Iterator[ast.AST]:
    """Nodes outside functions and outside `if TYPE_CHECKING`."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        waiting.extend(ast.iter_child_nodes(node))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}
MODULES = {module_name(path): path for path in SOURCES}
# Files of GPU kernels: imported only where their compiler is, and called with a pointer for each tensor.
KERNELS = "_triton"
IMPORTABLE = [name for name in MODULES if not name.endswith(("__main__", KERNELS))]


def test_every_part_has_its_layer() -> None:
    parts = {layer(name) for name in MODULES} - {None}
    assert parts <= set(LAYERS)


def test_no_file_imports_from_a_higher_layer() -> None:
    wrong = []
    for path, tree in TREES.items():
        own = layer(module_name(path))
        for name in chain.from_iterable(map(imported, ast.walk(tree))):
            other = layer(name) if name.startswith("kinescribe.") and own else None
            if other in LAYERS and LAYERS.index(other) > LAYERS.index(str(own)):
                wrong.append(f"{module_name(path)} imports {name}")
    assert not wrong


def test_no_import_cycles() -> None:
    graph = {
        name: {
            target
            for target in chain.from_iterable(map(imported, run_at_import(TREES[path])))
            if target in MODULES and target != name
        }
        for name, path in MODULES.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


def test_diffusion_knows_no_model() -> None:
    for path, tree in TREES.items():
        if layer(module_name(path)) == "diffusion":
            names = set(chain.from_iterable(map(imported, ast.walk(tree))))
            assert not {name for name in names if name.startswith("kinescribe.models")}, path.name


def test_heavy_packages_are_imported_inside_functions() -> None:
    for path, tree in TREES.items():
        names = {name.split(".")[0] for name in chain.from_iterable(map(imported, run_at_import(tree)))}
        assert not names & set(EXTRAS), path


# Runs in a process of its own: imports all modules with the extras hidden and reports what else happened.
PROBE = """
import importlib, json, random, sys
extras, names, package = json.loads(sys.argv[1])

sys.modules.update(dict.fromkeys(extras))  # None: not installed, for who imports and for who asks
import numpy, torch, tokenizers, pydantic, einops, jaxtyping, safetensors, PIL.Image, av, rich.progress, cyclopts
seen = []

def watch(event, args):
    if event == "open" and isinstance(args[0], str):
        path, mode = args[0], args[1] or ""
        code = path.endswith((".py", ".pyc", ".so")) or "__pycache__" in path
        if any(sign in mode for sign in "wax+") and not code:
            seen.append(f"writes {path}")
        elif path.startswith(package) and not code:
            seen.append(f"reads {path}")
    elif event.startswith(("socket.", "os.mkdir", "os.putenv", "subprocess.", "os.system", "os.remove")):
        if not (event == "os.mkdir" and "__pycache__" in str(args[0])):
            seen.append(f"{event} {args}")

before = (random.getstate(), torch.get_rng_state().tolist(), numpy.random.get_state()[1].tolist())
settings = (torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads())
sys.addaudithook(watch)
for name in names:
    importlib.import_module(name)
after = (random.getstate(), torch.get_rng_state().tolist(), numpy.random.get_state()[1].tolist())
if before != after:
    seen.append("global random state changed")
if settings != (torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()):
    seen.append("torch's global settings changed")
if torch.cuda.is_initialized():
    seen.append("the GPU was started")
sys.stderr.write(json.dumps(seen))
"""


def test_importing_every_module_does_nothing_in_a_bare_install() -> None:
    given = json.dumps([(*EXTRAS, "triton"), IMPORTABLE, str(PACKAGE)])
    done = subprocess.run([sys.executable, "-c", PROBE, given], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == ""
    assert json.loads(done.stderr.splitlines()[-1]) == []  # torch itself may say before that it lacks Triton


@pytest.mark.parametrize("part", ["options", "errors", "media", "catalog", "cli"])
def test_the_front_is_free_of_torch(part: str) -> None:
    names = [name for name in MODULES if layer(name) == part]
    code = f"import sys\nfor name in {names}: __import__(name)\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]


def test_files_and_functions_stay_small() -> None:
    wrong = []
    for path, tree in TREES.items():
        lines = path.read_text(encoding="utf-8").count("\n")
        if lines > 400:
            wrong.append(f"{path.name}: {lines} lines, at most 400")
        for function in functions(tree):
            begin = function.body[0].end_lineno if ast.get_docstring(function) else function.lineno
            length = int(function.end_lineno or 0) - int(begin or 0)
            if length > 60:
                wrong.append(f"{path.name}: {function.name} has {length} lines, at most 60")
            if layer(module_name(path)) == "compat" or path.stem.endswith(KERNELS):  # signatures are given
                continue
            places = len(function.args.posonlyargs) + len(function.args.args)
            if places - (bool(function.args.args) and function.args.args[0].arg in ("self", "cls")) > 6:
                wrong.append(f"{path.name}: {function.name} takes {places} arguments by place, at most 6")
    assert not wrong


def test_half_of_the_files_fit_a_sitting() -> None:
    lengths = sorted(path.read_text(encoding="utf-8").count("\n") for path in SOURCES if path.stat().st_size)
    assert lengths[len(lengths) // 2] <= 130


def test_names_say_what_a_file_holds() -> None:
    own = [path for path in SOURCES if layer(module_name(path)) != "compat"]  # which keeps the others' names
    assert not [path for path in own if path.stem in BANNED_FILES or path.parent.name in BANNED_FILES]


def test_foreign_words_stay_where_they_are_translated() -> None:
    wrong = []
    for path, tree in TREES.items():
        if layer(module_name(path)) in TRANSLATORS:
            continue
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        names |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
        wrong += [f"{path.name}: {name}" for name in names if FOREIGN_WORDS.fullmatch(name)]
    assert not wrong


def test_flags_say_what_is_true() -> None:
    wrong = []
    for path, tree in TREES.items():
        if layer(module_name(path)) not in TYPED:
            names = (node.arg for node in ast.walk(tree) if isinstance(node, ast.arg))
            wrong += [f"{path.name}: {name}" for name in names if NEGATIVE_FLAGS.match(name)]
    assert not wrong


def calls(tree: ast.AST) -> Iterator[str]:
    return (ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call))


def test_only_one_file_reads_pickles() -> None:
    door = PACKAGE / "checkpoints" / "read.py"
    assert [path for path, tree in TREES.items() if path != door and "torch.load" in calls(tree)] == []


def test_no_shell_and_no_pickle() -> None:
    for path, tree in TREES.items():
        names = {name.split(".")[0] for name in chain.from_iterable(map(imported, ast.walk(tree)))}
        assert not names & SHELLS, path
        called = set(calls(tree))
        assert not called & {"os.system", "os.popen", "eval", "exec"}, path
        assert not [name for name in called if name.startswith("pickle.")], path


def test_the_environment_is_touched_in_four_files() -> None:
    doors = (
        PACKAGE / "__main__.py",  # tells OpenMP how to wait, before torch is imported
        PACKAGE / "checkpoints" / "store.py",
        PACKAGE / "pipelines" / "heap.py",  # a user's own settings of the heap stand
        PACKAGE / "train" / "ranks.py",  # torchrun speaks through it
    )
    words = ("os.environ", "os.getenv", "os.putenv")
    told = [path for path in SOURCES if any(word in path.read_text(encoding="utf-8") for word in words)]
    assert set(told) <= set(doors)


def test_annotations_are_real() -> None:
    assert [path for path in SOURCES if "from __future__ import annotations" in path.read_text()] == []


def test_nothing_tells_of_the_machine_it_was_made_on() -> None:
    told = re.compile(r"(/home/|/root/|/work/|/opt/)\w|\b\d{1,3}(\.\d{1,3}){3}:\d+")
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "Makefile", ROOT / "pyproject.toml"]
    assert [path for path in [*SOURCES, *pages] if told.search(path.read_text(encoding="utf-8"))] == []


def test_unit_tests_mirror_the_source() -> None:
    units = ROOT / "tests" / "unit"
    wrong = []
    for test in units.rglob("test_*.py"):
        folder, name = PACKAGE / test.parent.relative_to(units), test.stem.removeprefix("test_")
        if (
            name != folder.name
            and not (folder / name).is_dir()
            and not any((folder / f"{name.rsplit('_', cut)[0]}.py").exists() for cut in range(3))
        ):
            wrong.append(str(test.relative_to(units)))
    assert not wrong


@pytest.mark.parametrize("name", IMPORTABLE)
def test_annotations_can_be_checked(name: str) -> None:
    importlib.import_module(name)  # under the run-time checker of this test run
