"""The README's tree lists the files that exist, and its two languages say the same."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "kinescribe"
PAGES = ("README.md", "README.zh-CN.md")
INDENT = 2


def tree(page: str) -> dict[str, str]:
    """Path -> what is said of it, from the fenced block that begins with `kinescribe/`."""
    text = (ROOT / page).read_text(encoding="utf-8")
    block = re.search(r"^```text\nkinescribe/\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert block, f"{page} has no tree"
    told, folders = {}, []
    for line in block[1].splitlines():
        depth = (len(line) - len(line.lstrip())) // INDENT - 1
        name, _, words = line.strip().partition(" ")
        folders = folders[:depth]
        told["/".join([*folders, name.rstrip("/")])] = words.strip()
        if name.endswith("/"):
            folders.append(name.rstrip("/"))
    return told


def source_files() -> set[str]:
    """Every module; a package's `__init__.py` is told of by its folder's line."""
    files = {path.relative_to(ROOT) for path in PACKAGE.rglob("*.py")}
    return {str(path) for path in files if path.name != "__init__.py" or path.parent.name == "kinescribe"}


@pytest.mark.parametrize("page", PAGES)
def test_tree_lists_every_source_file(page: str) -> None:
    assert source_files() - set(tree(page)) == set()


@pytest.mark.parametrize("page", PAGES)
def test_tree_lists_nothing_that_is_not_there(page: str) -> None:
    assert [path for path in tree(page) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_entry_of_the_tree_is_explained(page: str) -> None:
    assert [path for path, words in tree(page).items() if not words] == []


def commands(page: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```(?:sh|python)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = (line.partition("  #")[0].strip() for block in blocks for line in block.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def test_both_languages_give_the_same_commands() -> None:
    assert commands(PAGES[0]) == commands(PAGES[1])


def test_both_languages_have_the_same_sections() -> None:
    levels = [re.findall(r"^#+ ", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE) for page in PAGES]
    assert levels[0] == levels[1]


def test_the_two_first_commands_are_clip_and_test() -> None:
    assert commands(PAGES[0])[:2] == ["make clip", "make test"]


@pytest.mark.parametrize("page", [*PAGES, *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_links_to_files_lead_somewhere(page: str) -> None:
    path = ROOT / page
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8"))
    lost = [link for link in links if "://" not in link and not (path.parent / link).exists()]
    assert lost == []


def test_the_tour_names_files_that_exist() -> None:
    text = (ROOT / "docs" / "tour.md").read_text(encoding="utf-8")
    names = re.findall(r"`([a-z_/*]+\.py)`", text)
    lost = [name for name in names if not list(PACKAGE.rglob(name)) and not (ROOT / name).exists()]
    assert names and not lost
