"""Byte-pair vocabularies of CLIP's kind, read from each of the file sets in which they are published.

Entries are 256 bytes, the same 256 bytes as the end of a word (`</w>`), one entry per merge rule, and two
marks that start and end a text (Radford et al. 2021, "Learning Transferable Visual Models From Natural
Language Supervision").
"""

import gzip
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split

from kinescribe.errors import WeightsError

START_WORD, END_WORD = "<start_of_text>", "<end_of_text>"
_WORD_END = "</w>"
# The published file goes on after these rules; the models were trained with this many.
_MERGE_LIMIT = 48_894
# A mark typed in the text is one piece where a piece can begin, as it was when the models were trained.
_MARKS = rf"{START_WORD}|{END_WORD}|"
_PIECES = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"


@dataclass(frozen=True)
class Vocabulary:
    """Ids of all entries, merge rules in order of rank, and the ids of the two marks."""

    entries: dict[str, int]
    merges: list[tuple[str, str]]
    start: int
    end: int

    @property
    def size(self) -> int:
        """Number of rows that a text encoder's embedding table needs."""
        return max(*self.entries.values(), self.start, self.end) + 1

    def engine(self, *, typed_marks: bool) -> Tokenizer:
        """Build what splits clean text into pieces and merges each (0.05 s for CLIP's full vocabulary).

        `typed_marks` says whether a mark written out in the text is one piece.
        """
        engine = Tokenizer(BPE(vocab=self.entries, merges=self.merges, end_of_word_suffix=_WORD_END))
        pattern = Regex("(?i)" + (_MARKS if typed_marks else "") + _PIECES)
        pieces = Split(pattern, behavior="removed", invert=True)
        letters = ByteLevel(add_prefix_space=False, use_regex=False)
        engine.pre_tokenizer = Sequence([pieces, letters])
        return engine

    def write_json(self, path: Path) -> None:
        """Write the parts of a `tokenizer.json` that `read_tokenizer_json` needs."""
        marks = [{"id": self.start, "content": START_WORD}, {"id": self.end, "content": END_WORD}]
        model = {"type": "BPE", "vocab": self.entries, "merges": [" ".join(pair) for pair in self.merges]}
        document = {"added_tokens": marks, "model": model}
        path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")


def read_bpe_file(path: Path) -> Vocabulary:
    """Read the original form: a header line, then one merge rule per line; plain text or gzip."""
    lines = _read_text(path).split("\n")[1 : 1 + _MERGE_LIMIT]
    merges = _merges(path, [line for line in lines if line.strip()])
    letters = _byte_letters()
    words = [*letters, *(letter + _WORD_END for letter in letters), *(a + b for a, b in merges)]
    entries = {word: number for number, word in enumerate([*words, START_WORD, END_WORD])}
    return Vocabulary(entries, merges, entries[START_WORD], entries[END_WORD])


def read_vocab_merges(vocab: Path, merges: Path) -> Vocabulary:
    """Read the pair of files in a diffusers folder: `vocab.json` and `merges.txt`."""
    entries = _read_json(vocab)
    rules = [
        line for line in _read_text(merges).split("\n") if line.strip() and not line.startswith("#version")
    ]
    return _checked(vocab, entries, _merges(merges, rules), entries)


def read_tokenizer_json(path: Path) -> Vocabulary:
    """Read a `tokenizer.json`, the single file that transformers 5 writes."""
    document = _read_json(path)
    model = document.get("model", {})
    if not model.get("vocab") or "merges" not in model:
        raise WeightsError(f"{path} holds no byte-pair model: expected CLIP's tokenizer.json")
    rules = [rule if isinstance(rule, str) else " ".join(rule) for rule in model["merges"]]
    marks = {mark["content"]: mark["id"] for mark in document.get("added_tokens", [])}
    return _checked(path, model["vocab"], _merges(path, rules), model["vocab"] | marks)


def _checked(
    path: Path, entries: dict[str, int], merges: list[tuple[str, str]], marks: dict[str, int]
) -> Vocabulary:
    letters = _byte_letters()
    needed = [*letters, *(letter + _WORD_END for letter in letters), *(a + b for a, b in merges)]
    lost = [word for word in needed if word not in entries]
    if lost:
        raise WeightsError(f"{path} lacks {len(lost)} entries, {lost[0]!r} first: fetch the file again")
    start, end = (
        next((marks[word] for word in words if word in marks), None)
        for words in ((START_WORD, "<|startoftext|>"), (END_WORD, "<|endoftext|>"))
    )
    if start is None or end is None:
        raise WeightsError(f"{path} has no mark for the start or end of a text: is it CLIP's tokenizer?")
    return Vocabulary(entries, merges, start, end)


def _merges(path: Path, lines: list[str]) -> list[tuple[str, str]]:
    pairs = [tuple(line.split()) for line in lines]
    wrong = next((line for line, pair in zip(lines, pairs, strict=True) if len(pair) != 2), None)
    if wrong is not None:
        raise WeightsError(f"{path} has the line {wrong[:40]!r}, no merge rule: fetch the file again")
    return [(pair[0], pair[1]) for pair in pairs]


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise WeightsError(f"{path} is no readable vocabulary ({error}): fetch it again") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise WeightsError(f"{path} is not JSON ({error}): fetch the file again") from error
    if not isinstance(document, dict):
        raise WeightsError(f"{path} holds a {type(document).__name__}, not a table: fetch the file again")
    return document


def _byte_letters() -> list[str]:
    """One visible letter per byte, in the order of the vocabulary: printable bytes stand for themselves."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(byte) for byte in printable] + [chr(0x100 + number) for number in range(256 - len(printable))]
