"""Prompts to token ids, exactly as the ModelScope models were trained (with OpenCLIP's tokenizer)."""

import html
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import groupby
from pathlib import Path

import torch
from jaxtyping import Int
from tokenizers import Tokenizer as Engine
from torch import Tensor

from kinescribe.models.vocabulary import (
    END_WORD,
    START_WORD,
    Vocabulary,
    read_bpe_file,
    read_tokenizer_json,
    read_vocab_merges,
)

CONTEXT_LENGTH = 77
PAD = 0
_CLIP_FILE = Path(__file__).parents[1] / "assets" / "tokenizer" / "bpe_simple_vocab_16e6.txt.gz"
_COMPACT_START, _COMPACT_END, _COMPACT_FIRST = 1, 2, 4  # 3 is kept for a word that is not known
# Text on which ftfy does nothing: no control characters, no entities, ASCII only.
_UNTOUCHED = re.compile(r"[ -%'-~\t\n\r]*")
_FOLDER_MARKS = re.compile(r"(!|<\|startoftext\|>|<\|endoftext\|>)")


@dataclass(frozen=True)
class Tokens:
    """Ids of a batch of prompts, and for each prompt the words that the model will not see."""

    ids: Int[Tensor, "b n"]
    dropped: list[list[str]]
    """Words cut off because the prompt is longer than the context."""
    unknown: list[list[str]]
    """Words that a compact vocabulary lacks; empty lists for a full one. Punctuation is not named."""


@dataclass(frozen=True)
class _Piece:
    """One word, digit or run of signs: its ids and its place in the cleaned text."""

    ids: list[int]
    begin: int
    end: int


class Tokenizer:
    """CLIP's byte-pair tokenizer: `start, ids, end`, cut to the context with the end kept, padded with id 0.

    `exclamation_is_pad` gives the ids of the published diffusers folder instead, which skips the repair of
    text and turns every "!" into the padding id. `padded_with_end` fills rows with the id of the end mark, as
    the published folder of I2VGen-XL has it. `keep` makes the vocabulary compact: 0 pad, 1 start, 2 end,
    3 unknown, then 4 + i for the full id `keep[i]`; words with a part that is not kept are left out and
    reported.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        context_length: int = CONTEXT_LENGTH,
        exclamation_is_pad: bool = False,
        padded_with_end: bool = False,
        keep: Sequence[int] | None = None,
    ) -> None:
        self.full = vocabulary
        self.context_length = context_length
        self.exclamation_is_pad = exclamation_is_pad
        self.padded_with_end = padded_with_end
        self.keep = None if keep is None else tuple(keep)
        self._compact = None if keep is None else {full: _COMPACT_FIRST + i for i, full in enumerate(keep)}

    @classmethod
    def clip(
        cls,
        *,
        context_length: int = CONTEXT_LENGTH,
        exclamation_is_pad: bool = False,
        keep: Sequence[int] | None = None,
    ) -> "Tokenizer":
        """CLIP's full vocabulary of 49,408 entries, which comes with the package."""
        vocabulary = _clip_vocabulary()
        return cls(
            vocabulary, context_length=context_length, exclamation_is_pad=exclamation_is_pad, keep=keep
        )

    @classmethod
    def from_bpe_file(cls, path: Path, *, context_length: int = CONTEXT_LENGTH) -> "Tokenizer":
        """A vocabulary in the form of `bpe_simple_vocab_16e6.txt.gz`, as a ModelScope folder may hold."""
        return cls(read_bpe_file(path), context_length=context_length)

    @classmethod
    def from_vocab_merges(
        cls,
        vocab: Path,
        merges: Path,
        *,
        context_length: int = CONTEXT_LENGTH,
        exclamation_is_pad: bool = False,
    ) -> "Tokenizer":
        """The `vocab.json` and `merges.txt` of a diffusers folder."""
        vocabulary = read_vocab_merges(vocab, merges)
        return cls(vocabulary, context_length=context_length, exclamation_is_pad=exclamation_is_pad)

    @classmethod
    def from_tokenizer_json(
        cls, path: Path, *, context_length: int = CONTEXT_LENGTH, exclamation_is_pad: bool = False
    ) -> "Tokenizer":
        """The `tokenizer.json` of a diffusers folder written by transformers 5."""
        vocabulary = read_tokenizer_json(path)
        return cls(vocabulary, context_length=context_length, exclamation_is_pad=exclamation_is_pad)

    @property
    def vocabulary(self) -> int:
        """Number of ids, the rows of the text encoder's embedding table."""
        return self.full.size if self.keep is None else _COMPACT_FIRST + len(self.keep)

    @property
    def start(self) -> int:
        """Id of the mark that begins every row."""
        return self.full.start if self._compact is None else _COMPACT_START

    @property
    def end(self) -> int:
        """Id of the mark that ends every row."""
        return self.full.end if self._compact is None else _COMPACT_END

    def encode(self, text: str) -> list[int]:
        """Full-vocabulary ids of a text of any length, without marks or padding: the stuff of `keep`."""
        return [number for piece in self._pieces(self._clean(text)) for number in piece.ids]

    def __call__(self, prompts: Sequence[str]) -> Tokens:
        """Ids of shape (prompts, context_length), int64, and the words left out of each row."""
        pad = self.end if self.padded_with_end else PAD
        ids = torch.full((len(prompts), self.context_length), pad, dtype=torch.int64)
        dropped, unknown = [], []
        for row, prompt in zip(ids, prompts, strict=True):
            text = self._clean(prompt)
            pieces, strange = self._known(text, self._pieces(text))
            room = self.context_length - 2
            numbers = [number for piece in pieces for number in piece.ids][:room]
            row[: len(numbers) + 2] = torch.tensor([self.start, *numbers, self.end])
            dropped.append(_words_after(text, pieces, room))
            unknown.append(strange)
        return Tokens(ids, dropped, unknown)

    @cached_property
    def _engine(self) -> Engine:
        return self.full.engine(typed_marks=not self.exclamation_is_pad)

    def _clean(self, text: str) -> str:
        if self.exclamation_is_pad:
            return " ".join(unicodedata.normalize("NFC", text).split()).lower()
        if not _UNTOUCHED.fullmatch(text):
            # imported here: plain captions, such as those of training, need no repair
            import ftfy

            text = html.unescape(html.unescape(ftfy.fix_text(text)))
        return " ".join(text.split()).lower()

    def _pieces(self, text: str) -> list[_Piece]:
        if not self.exclamation_is_pad:
            return self._merged(text, 0)
        marks = {"!": PAD, "<|startoftext|>": self.full.start, "<|endoftext|>": self.full.end}
        pieces, place = [], 0
        for part in _FOLDER_MARKS.split(text):
            if part in marks:
                pieces.append(_Piece([marks[part]], place, place + len(part)))
            else:
                pieces += self._merged(part, place)
            place += len(part)
        return pieces

    def _merged(self, text: str, place: int) -> list[_Piece]:
        encoding = self._engine.encode(text, add_special_tokens=False)
        marks = {} if self.exclamation_is_pad else {START_WORD: self.full.start, END_WORD: self.full.end}
        pieces = []
        tokens = zip(encoding.word_ids, encoding.ids, encoding.offsets, strict=True)
        for _, group in groupby(tokens, key=lambda token: token[0]):
            _, ids, spans = zip(*group, strict=True)
            begin, end = spans[0][0], spans[-1][1]
            mark = marks.get(text[begin:end])
            pieces.append(_Piece(list(ids) if mark is None else [mark], place + begin, place + end))
        return pieces

    def _known(self, text: str, pieces: list[_Piece]) -> tuple[list[_Piece], list[str]]:
        """Pieces in the compact ids, and the words that it has none for, each once."""
        if self._compact is None:
            return pieces, []
        numbers = self._compact | {self.full.start: _COMPACT_START, self.full.end: _COMPACT_END}
        known: list[_Piece] = []
        strange: dict[str, None] = {}
        for piece in pieces:
            word = text[piece.begin : piece.end]
            if all(number in numbers for number in piece.ids):
                known.append(_Piece([numbers[number] for number in piece.ids], piece.begin, piece.end))
            elif not all(unicodedata.category(sign).startswith("P") for sign in word):
                strange[word] = None
        return known, list(strange)


@cache
def _clip_vocabulary() -> Vocabulary:
    return read_bpe_file(_CLIP_FILE)


def _words_after(text: str, pieces: list[_Piece], room: int) -> list[str]:
    """Words of `text` of which not every id finds room."""
    used = 0
    for piece in pieces:
        used += len(piece.ids)
        if used > room:
            return text[text.rfind(" ", 0, piece.begin) + 1 :].split()
    return []
