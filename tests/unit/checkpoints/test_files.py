"""Headers and names are checked before anything is allocated, read or believed."""

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kinescribe.checkpoints.files import (
    inside,
    read_json,
    refuse_strangers,
    safetensors_header,
    safetensors_metadata,
    sha256,
)
from kinescribe.errors import WeightsError


def write(path: Path, header: str | bytes, data: bytes = b"", length: int | None = None) -> Path:
    raw = header.encode() if isinstance(header, str) else header
    path.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + data)
    return path


def entry(start: int, stop: int, shape: list[int], dtype: str = "F32") -> str:
    return json.dumps({"dtype": dtype, "shape": shape, "data_offsets": [start, stop]})


def test_a_good_header_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"x": torch.zeros(2, 3), "n": torch.zeros((), dtype=torch.int64)}, path, metadata={"a": "b"})
    header = safetensors_header(path)
    assert set(header) == {"x", "n"}
    assert header["x"]["shape"] == [2, 3]


@pytest.mark.parametrize("cut", [0, 7, 8, 40, -1])
def test_a_cut_file_tells_its_size(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"x": torch.zeros(64)}, path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(WeightsError, match=r"a\.safetensors: .*(cut off|bytes)"):
        safetensors_header(path)


def test_trailing_bytes_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", f'{{"x": {entry(0, 4, [1])}}}', b"\0" * 9)
    with pytest.raises(WeightsError, match="9 bytes of tensors, its header says 4"):
        safetensors_header(path)


def test_a_huge_header_is_refused_before_it_is_allocated(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", "{}", length=2**62)
    with pytest.raises(WeightsError, match="needs a header of"):
        safetensors_header(path)
    with path.open("wb") as stream:  # a sparse file that is as long as it says
        stream.write(struct.pack("<Q", 200_000_000))
        stream.truncate(200_000_008)
    with pytest.raises(WeightsError, match="over the limit"):
        safetensors_header(path)


def test_a_name_twice_is_refused(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.safetensors", f'{{"x": {entry(0, 4, [1])}, "x": {entry(0, 4, [1])}}}', b"\0" * 4
    )
    with pytest.raises(WeightsError, match="'x' twice"):
        safetensors_header(path)


@pytest.mark.parametrize(
    "header",
    [
        f'{{"x": {entry(0, 4, [1])}, "y": {entry(0, 4, [1])}}}',  # overlap
        f'{{"x": {entry(0, 4, [1])}, "y": {entry(8, 12, [1])}}}',  # hole
        f'{{"x": {entry(0, 4, [2])}}}',  # shape larger than its bytes
        f'{{"x": {entry(0, 4, [2**40, 2**40])}}}',  # a product that overflows 64 bits
        f'{{"x": {entry(0, 4, [-1])}}}',
        f'{{"x": {entry(0, 4, [1], "X9")}}}',
        '{"x": 3}',
        "[]",
        "{",
        "[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_malformed_headers_are_refused(tmp_path: Path, header: str | bytes) -> None:
    with pytest.raises(WeightsError):
        safetensors_header(write(tmp_path / "a.safetensors", header, b"\0" * 12))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer"),
        (b"  <!DOCTYPE html><html></html>", "web page"),
        (b"<html>", "web page"),
        (b"", "0 bytes"),
    ],
)
def test_what_is_no_weight_file_is_called_by_its_name(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=said):
        refuse_strangers(path)


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "/etc/passwd", "a\\b", "..", "", ".hidden", "a..b", "C:x", "a\0", 3, None]
)
def test_names_with_a_path_in_them_are_refused(tmp_path: Path, name: object) -> None:
    with pytest.raises(WeightsError, match="only plain names"):
        inside(tmp_path, name)


def test_plain_names_are_taken(tmp_path: Path) -> None:
    assert inside(tmp_path, "v2-1_512-ema-pruned.ckpt") == tmp_path / "v2-1_512-ema-pruned.ckpt"


@pytest.mark.parametrize("text", ["{", "[1]", "\xff", "[" * 100_000])
def test_broken_json_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(WeightsError) as caught:
        read_json(path)
    assert "\n" not in str(caught.value)
    assert "config.json" in str(caught.value)


def test_sum_of_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    assert sha256(tmp_path / "x").startswith("e3b0c44298fc1c14")


def test_a_writers_notes_are_read_as_text(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "a.safetensors", {"by": "someone"})
    save_file({"a": torch.ones(1)}, tmp_path / "b.safetensors")
    assert safetensors_metadata(tmp_path / "a.safetensors") == {"by": "someone"}
    assert safetensors_metadata(tmp_path / "b.safetensors") == {}
    assert safetensors_metadata(tmp_path / "c.pt") == {}
