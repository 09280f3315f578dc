"""The generated tables of the pages are those that the code gives now."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tables", DOCS / "tables.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_up_to_date(tables: ModuleType) -> None:
    for name in tables.PAGES:
        page = (DOCS / name).read_text(encoding="utf-8")
        assert tables.filled(page) == page, f"{name} is old: run make docs"


def test_every_table_is_shown_somewhere(tables: ModuleType) -> None:
    text = "".join((DOCS / name).read_text(encoding="utf-8") for name in tables.PAGES)
    assert [name for name in tables.TABLES if f"<!-- table: {name} -->" not in text] == []
