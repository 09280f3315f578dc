import gzip
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import goldens
from kinescribe.errors import WeightsError
from kinescribe.models.tokenizer import Tokenizer

FIXTURES = goldens.folder("text_to_video")
FOLDER = FIXTURES / "diffusers" / "tokenizer"
START, END = 49406, 49407


@pytest.fixture(scope="module")
def expected() -> dict[str, torch.Tensor]:
    return goldens.expected("text_to_video")


@pytest.fixture(scope="module")
def prompts() -> list[str]:
    return json.loads((FIXTURES / "expected.json").read_text(encoding="utf-8"))["full_vocab_prompts"]


@pytest.fixture(scope="module")
def clip() -> Tokenizer:
    return Tokenizer.clip()


def compact(words: str) -> Tokenizer:
    return Tokenizer.clip(context_length=12, keep=sorted(set(Tokenizer.clip().encode(words))))


def test_ids_equal_open_clip(clip: Tokenizer, prompts: list[str], expected: dict[str, torch.Tensor]) -> None:
    assert torch.equal(clip(prompts).ids, expected["text.full_vocab_ids_open_clip"])


def test_strict_ids_equal_the_published_folder(prompts: list[str], expected: dict[str, torch.Tensor]) -> None:
    strict = Tokenizer.clip(exclamation_is_pad=True)
    assert torch.equal(strict(prompts).ids, expected["text.full_vocab_ids_hf"])


def small_tokenizers(tmp_path: Path) -> dict[str, Tokenizer]:
    pair = Tokenizer.from_vocab_merges(FOLDER / "vocab.json", FOLDER / "merges.txt")
    pair.full.write_json(tmp_path / "tokenizer.json")
    return {
        "modelscope": Tokenizer.from_bpe_file(FIXTURES / "modelscope" / "bpe_simple_vocab.txt.gz"),
        "diffusers": pair,
        "written by us": Tokenizer.from_tokenizer_json(tmp_path / "tokenizer.json"),
    }


def test_both_fixture_folders_give_the_reference_ids(
    tmp_path: Path, expected: dict[str, torch.Tensor]
) -> None:
    for name, tokenizer in small_tokenizers(tmp_path).items():
        ids = tokenizer(["A panda eating bamboo on a rock.", ""]).ids
        assert torch.equal(ids[:1], expected["text.token_ids"]), name
        assert torch.equal(ids[1:], expected["text.token_ids_empty"]), name
        assert (tokenizer.vocabulary, tokenizer.start, tokenizer.end) == (640, 638, 639), name


@pytest.mark.slow
def test_tokenizer_json_of_transformers_is_read(tmp_path: Path, expected: dict[str, torch.Tensor]) -> None:
    transformers = pytest.importorskip("transformers")
    transformers.CLIPTokenizer.from_pretrained(FOLDER).save_pretrained(tmp_path)
    ids = Tokenizer.from_tokenizer_json(tmp_path / "tokenizer.json")(["A panda eating bamboo on a rock."]).ids
    assert torch.equal(ids, expected["text.token_ids"])


def test_marks_typed_by_a_user_become_special_ids(clip: Tokenizer) -> None:
    row = clip(["cat <START_of_text> dog <end_of_text>"]).ids[0].tolist()
    assert row[:6] == [START, *clip.encode("cat"), START, *clip.encode("dog"), END, END]
    assert END not in clip.encode("<|endoftext|>")
    assert END not in clip.encode("!<end_of_text>")  # the run of signs is one piece before the mark can begin


def test_entities_are_resolved_and_space_collapses(clip: Tokenizer) -> None:
    assert clip.encode("Tom &amp;amp;  Jerry\r\n") == clip.encode("tom & jerry")


def test_control_characters_vanish(clip: Tokenizer) -> None:
    assert clip.encode("a \x00red\x07 ball") == clip.encode("a red ball")


def test_lone_surrogate_is_encoded_and_not_a_crash(clip: Tokenizer) -> None:
    assert clip.encode("a \ud800 ball")[0] == clip.encode("a")[0]


def test_words_cut_by_the_length_are_named(clip: Tokenizer) -> None:
    words = ["word"] * 73 + ["red", "chocolate-coloured", "balloon"]
    tokens = clip([" ".join(words), "short"])
    assert tokens.ids[0, -1] == END
    assert tokens.dropped == [["chocolate-coloured", "balloon"], []]


@pytest.mark.parametrize(("count", "cut"), [(75, 0), (76, 1), (77, 2)])
def test_context_holds_75_words_and_two_marks(clip: Tokenizer, count: int, cut: int) -> None:
    tokens = clip([" ".join(["word"] * count)])
    assert tokens.ids[0, -1] == END
    assert len(tokens.dropped[0]) == cut


def test_rows_may_be_filled_with_the_mark_of_the_end(clip: Tokenizer) -> None:
    filled = Tokenizer(clip.full, padded_with_end=True)
    (plain,), (row,) = clip(["a boat"]).ids, filled(["a boat"]).ids
    assert plain.tolist()[:4] == row.tolist()[:4] == [clip.start, *clip.encode("a boat"), clip.end]
    assert set(plain.tolist()[4:]) == {0}
    assert set(row.tolist()[4:]) == {clip.end}


def test_compact_ids_follow_the_kept_ones() -> None:
    tokenizer = compact("a red blue ball")
    kept = tokenizer.keep
    assert kept is not None
    ids = tokenizer(["a red ball"]).ids[0].tolist()
    words = [4 + kept.index(full) for full in Tokenizer.clip().encode("a red ball")]
    assert ids == [1, *words, 2, 0, 0, 0, 0, 0, 0, 0]
    assert tokenizer.vocabulary == 4 + len(kept)


def test_words_outside_the_compact_vocabulary_are_left_out_and_named() -> None:
    tokenizer = compact("a red ball")
    tokens = tokenizer(["a red dragon, a ball 😀 dragon!", "a ball"])
    assert tokens.ids[0].tolist() == tokenizer(["a red a ball"]).ids[0].tolist()
    assert tokens.unknown == [["dragon", "😀"], []]


def test_no_prompts_give_no_rows(clip: Tokenizer) -> None:
    assert clip([]).ids.shape == (0, 77)


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.characters(codec="utf-8"), max_size=200))
def test_every_text_gives_a_row_that_starts_ends_and_pads(clip: Tokenizer, text: str) -> None:
    row = clip([text]).ids[0]
    assert row.shape == (77,)
    assert row[0] == START
    assert END in row


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=80))
def test_plain_ascii_needs_no_repair(text: str) -> None:
    ftfy = pytest.importorskip("ftfy")
    repaired = ftfy.fix_text(text)
    assert repaired == text or "&" in text


def test_plain_captions_do_not_import_ftfy() -> None:
    code = (
        "import sys; from kinescribe.models.tokenizer import Tokenizer; "
        "Tokenizer.clip()(['a red ball']); assert 'ftfy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_full_vocabulary_is_built_within_a_second() -> None:
    begin = time.process_time()
    from kinescribe.models.tokenizer import _CLIP_FILE
    from kinescribe.models.vocabulary import read_bpe_file

    assert Tokenizer(read_bpe_file(_CLIP_FILE)).encode("a panda") == [320, 12952]
    assert time.process_time() - begin < 1.0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x1f\x8bnot gzip", "fetch it again"),
        (gzip.compress(b"#version\nth e x\n", mtime=0), "no merge rule"),
        (b"\xff\xfe\xff", "fetch it again"),
    ],
)
def test_damaged_bpe_file_is_an_error(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "bpe.txt.gz"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=words):
        Tokenizer.from_bpe_file(path)


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="absent"):
        Tokenizer.from_bpe_file(tmp_path / "absent.gz")


@pytest.mark.parametrize(
    ("vocab", "words"),
    [("{", "no JSON|not JSON"), ("[]", "not a table"), ('{"a": 0}', "lacks")],
)
def test_damaged_vocab_json_is_an_error(tmp_path: Path, vocab: str, words: str) -> None:
    (tmp_path / "vocab.json").write_text(vocab)
    with pytest.raises(WeightsError, match=words):
        Tokenizer.from_vocab_merges(tmp_path / "vocab.json", FOLDER / "merges.txt")


def test_vocabulary_without_marks_is_an_error(tmp_path: Path) -> None:
    entries = json.loads((FOLDER / "vocab.json").read_text(encoding="utf-8"))
    plain = {word: number for word, number in entries.items() if not word.startswith("<|")}
    (tmp_path / "vocab.json").write_text(json.dumps(plain))
    with pytest.raises(WeightsError, match="no mark"):
        Tokenizer.from_vocab_merges(tmp_path / "vocab.json", FOLDER / "merges.txt")


def test_json_without_a_byte_pair_model_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "Unigram"}}')
    with pytest.raises(WeightsError, match="no byte-pair model"):
        Tokenizer.from_tokenizer_json(tmp_path / "tokenizer.json")
