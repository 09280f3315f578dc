import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from goldens import folder
from kinescribe.catalog import CATALOG
from kinescribe.errors import KinescribeWarning, PromptWarning
from kinescribe.media.read import read_recipe, read_video

SMALL = ("--size", "16x16", "--frames", "2", "--steps", "2")
Cli = Callable[..., Any]


def seeds(folder: Path) -> dict[str, object]:
    """File name -> seed of the clips in a folder."""
    return {file.name: read_recipe(file)["request"]["seed"] for file in sorted(folder.glob("*.mp4"))}  # type: ignore[index]


def test_one_prompt_gives_one_clip_and_one_line(cli: Cli, tmp_path: Path) -> None:
    done = cli("generate", "a red ball", *SMALL, "--seed", "7", "-o", "out/ball.mp4")
    assert done.code == 0
    path, _, facts = done.out.strip().partition("  ")
    assert path == str(tmp_path / "out" / "ball.mp4") and facts.startswith("16x16, 2 frames, seed 7, ")
    assert read_video(path).frames.shape == (2, 16, 16, 3)
    assert "step 2 of 2" in done.err and "\x1b" not in done.err


def test_the_command_generate_may_be_left_out_before_a_quoted_prompt(cli: Cli, pipeline: Any) -> None:
    assert cli("a red ball", *SMALL).code == 0
    assert pipeline.made[0].prompt == "a red ball"


def test_words_without_quotes_are_one_prompt_and_quoted_ones_are_several(cli: Cli, pipeline: Any) -> None:
    cli("generate", "a", "red", "ball", *SMALL)
    cli("generate", "a red ball", "a blue cat", *SMALL)
    assert [request.prompt for request in pipeline.made] == ["a red ball", "a red ball", "a blue cat"]


@pytest.mark.parametrize("name", ["clip.webm", "clip.gif", "clip.webp", "frames/", "a v1.2/"])
def test_the_extension_picks_the_format(cli: Cli, tmp_path: Path, name: str) -> None:
    assert cli("generate", "a ball", *SMALL, "-o", name).code == 0
    assert len(read_video(tmp_path / name).frames) == 2


def test_without_a_name_a_taken_name_gets_a_number(cli: Cli, tmp_path: Path) -> None:
    for _ in range(3):
        assert cli("generate", "a ball", *SMALL).code == 0
    assert sorted(f.name for f in tmp_path.glob("*.mp4")) == ["clip-1.mp4", "clip-2.mp4", "clip.mp4"]


def test_a_given_name_that_is_taken_needs_overwrite_and_nothing_is_made(cli: Cli, pipeline: Any) -> None:
    assert cli("generate", "a ball", *SMALL, "-o", "x.mp4").code == 0
    done = cli("generate", "a cat", *SMALL, "-o", "x.mp4")
    assert done.code == 6 and "--overwrite" in done.err and len(pipeline.made) == 1
    assert cli("generate", "a cat", *SMALL, "-o", "x.mp4", "--overwrite").code == 0


def test_count_makes_clips_of_seed_plus_i(cli: Cli, tmp_path: Path) -> None:
    assert cli("generate", "a ball", *SMALL, "--count", "3", "--seed", "10", "-o", "n/c.mp4").code == 0
    assert seeds(tmp_path / "n") == {"c-1.mp4": 10, "c-2.mp4": 11, "c-3.mp4": 12}


def test_a_drawn_seed_is_printed_and_kept(cli: Cli, tmp_path: Path) -> None:
    done = cli("generate", "a ball", *SMALL)
    seed = read_recipe(tmp_path / "clip.mp4")["request"]["seed"]  # type: ignore[index]
    assert f"seed {seed}," in done.out


def test_json_is_one_object_for_each_clip_on_stdout(cli: Cli) -> None:
    done = cli("generate", "a ball", "a cat", *SMALL, "--json", "--seed", "1")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [row["prompt"] for row in rows] == ["a ball", "a cat"] and rows[1]["seed"] == 2
    assert {"path", "width", "height", "frames", "fps", "seconds", "model", "recipe"} <= set(rows[0])


def test_quiet_leaves_only_the_result(cli: Cli) -> None:
    done = cli("generate", "a ball", *SMALL, "-q")
    assert done.err == "" and done.out.count("\n") == 1


def test_the_sheet_lies_beside_the_clip(cli: Cli, tmp_path: Path) -> None:
    cli("generate", "a ball", *SMALL, "--sheet")
    with Image.open(tmp_path / "clip.png") as sheet:
        assert sheet.size == (2 * 18, 18) and "comment" in sheet.info


def test_no_metadata_leaves_no_recipe_in_clip_or_sheet(cli: Cli, tmp_path: Path) -> None:
    cli("generate", "a zebra", *SMALL, "--no-metadata", "--sheet")
    assert all(b"zebra" not in (tmp_path / name).read_bytes() for name in ("clip.mp4", "clip.png"))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "no prompt"),
        (("",), 2, "empty"),
        (("   ",), 2, "empty"),
        (("a ball", "--frames", "0"), 2, "frames=0"),
        (("a ball", "--frames", "2.5"), 2, "'2.5' is no whole number"),
        (("a ball", "--frames", "-3"), 2, "frames=-3"),
        (("a ball", "--steps", "0"), 2, "steps=0"),
        (("a ball", "--fps", "nan"), 2, "fps"),
        (("a ball", "--fps", "0"), 2, "fps=0"),
        (("a ball", "--seed", "-1"), 2, "seed=-1"),
        (("a ball", "--seed", "9223372036854775808"), 2, "seed="),
        (("a ball", "--size", "65x64"), 2, "64 or 72"),
        (("a ball", "--size", "1e9x1"), 2, "WIDTHxHEIGHT"),
        (("a ball", "--size=-8x8"), 2, "WIDTHxHEIGHT"),
        (("a ball", "--size", "8x8", "--width", "8"), 2, "one of the two"),
        (("a ball", "--sampler", "magic"), 2, "dpmpp_2m"),
        (("a ball", "--fram", "8"), 2, "--frames"),
        (("a ball", "--count", "0"), 2, "--count"),
        (("a ball", "--count", "1.5"), 2, "'1.5' is no whole number"),
        (("a\0ball",), 2, "NUL"),
        (("a ball", "--prompts", "list.txt"), 2, "--prompts"),
        (("--prompts", "missing.txt"), 2, "cannot be read"),
        (("a ball", "--policy", "missing.txt"), 2, "missing.txt"),
        (("a ball", "-o", "x.mov"), 2, ".mp4"),
        (("a ball", "-o", "/proc/x/clip.mp4"), 6, "cannot write"),
        (("a ball", "-o", "x" * 300 + ".mp4"), 6, "too long"),
        (("a ball", "-o", "a\0b.mp4"), 6, "NUL"),
        (("fail now",), 5, "not finite"),
        (("crash now",), 1, "--debug"),
        (("too big",), 4, "--frames"),
    ],
)
def test_each_failure_is_one_line_with_its_exit_code_and_no_file(
    cli: Cli, tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    done = cli("generate", *arguments, "-q")
    assert done.code == code
    assert words in done.err and done.err.count("\n") == 1 and "Traceback" not in done.err
    assert done.out == "" and not list(tmp_path.glob("*.mp4"))


def test_input_is_checked_before_anything_is_loaded(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr("kinescribe.pipelines.load.load", never)
    for arguments in (("a", "--size", "9x9"), ("a", "-o", "/proc/x.mp4"), ("", ""), ("a", "-o", "x.mov")):
        assert cli("generate", *arguments).code in (2, 6)


def test_device_and_dtype_are_told(cli: Cli) -> None:
    assert "papercut on cpu in float32\n" in cli("generate", "a ball", *SMALL).err


def test_the_licence_of_weights_is_shown_once_a_model_and_again_when_it_changes(
    cli: Cli, pipeline: Any
) -> None:
    def said() -> int:
        return cli("generate", "a ball", *SMALL, "--count", "3").err.count("licence of the weights of")

    assert "licence" not in cli("generate", "a ball", *SMALL, "-q").err  # not shown is not seen
    assert [said(), said()] == [1, 0]
    pipeline.spec = replace(pipeline.spec, licence="another one")
    assert [said(), said()] == [1, 0]
    pipeline.spec = replace(pipeline.spec, name="other")
    assert [said(), said()] == [1, 0]


def test_a_home_that_cannot_be_written_shows_the_licence_each_time(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / ".home").write_text("a file where the home should be")
    assert all("licence of the weights" in cli("generate", "a ball", *SMALL).err for _ in range(2))


def test_known_faults_of_a_fetched_model_are_told_when_it_is_loaded(cli: Cli, pipeline: Any) -> None:
    assert "known of" not in cli("generate", "a ball", *SMALL).err
    pipeline.spec = replace(CATALOG["modelscope-1.7b"], defaults=pipeline.spec.defaults)
    assert "known of modelscope-1.7b: may reproduce stock-footage marks" in cli("generate", "a", *SMALL).err


def test_what_a_negative_prompt_keeps_out_is_not_refused(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("zebra\n")
    done = cli("generate", "a horse", "--negative-prompt", "zebra", *SMALL, "--policy", "words.txt")
    assert done.code == 0


def test_strict_prompt_makes_a_doubtful_prompt_exit_2_before_anything_is_loaded(
    cli: Cli, tmp_path: Path, pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("generate", "a ball", *SMALL, "--strict-prompt", "-o", "a.mp4").code == 0
    monkeypatch.setattr("kinescribe.pipelines.load.load", lambda *_, **__: pytest.fail("loaded"))
    for prompt, words in (
        ("a wug", "does not know 'wug'"),
        ("\u4e00\u53ea\u718a\u732b", "Chinese script"),
        ("a red ball " * 30, "longer than 48 tokens"),
    ):
        done = cli("generate", prompt, *SMALL, "--strict-prompt", "-q")
        assert done.code == 2 and words in done.err and done.err.endswith(" (--strict-prompt)\n")
        assert done.err.count("\n") == 1
        assert cli("remake", "a.mp4", "--prompt", prompt, "--strict-prompt").code == 2
    assert not (tmp_path / "clip.mp4").exists() and len(pipeline.made) == 1


def test_a_doubtful_prompt_of_a_list_fails_alone_and_is_not_made(
    cli: Cli, tmp_path: Path, pipeline: Any
) -> None:
    (tmp_path / "list.txt").write_text("a red ball\na wug\na cat\n")
    done = cli("generate", "--prompts", "list.txt", *SMALL, "--strict-prompt")
    assert done.code == 1 and "line 2: papercut-quick does not know 'wug'" in done.err
    assert [request.prompt for request in pipeline.made] == ["a red ball", "a cat"]


def test_a_strict_prompt_is_judged_by_the_tokenizer_of_the_folder(cli: Cli, pipeline: Any) -> None:
    model = str(folder("text_to_video/diffusers"))
    words = "zebra " * 200
    done = cli("generate", words, *SMALL, "--strict-prompt", "--model", model)
    assert done.code == 2 and "longer than" in done.err and not pipeline.made


def test_a_warning_that_only_the_work_finds_is_strict_too(
    cli: Cli, pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = type(pipeline).stream

    def doubtful(self: Any, request: Any) -> Any:
        warnings.warn("some other matter", KinescribeWarning, stacklevel=1)
        if "cat" in request.prompt:
            warnings.warn("a cat is doubtful", PromptWarning, stacklevel=1)
        yield from stream(self, request)

    monkeypatch.setattr(type(pipeline), "stream", doubtful)
    done = cli("generate", "a cat", *SMALL, "--strict-prompt", "-q")
    assert done.code == 2 and done.err == "error: a cat is doubtful (--strict-prompt)\n"
    assert cli("generate", "a ball", *SMALL, "--strict-prompt").code == 0


def test_memory_that_runs_out_fails_one_clip_of_many_with_its_code(cli: Cli) -> None:
    done = cli("generate", "too big", "a ball", *SMALL, "--json")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert (
        done.code == 1 and rows[0]["exit_code"] == 4 and "--frames" in rows[0]["error"] and "path" in rows[1]
    )


def test_a_refused_prompt_is_exit_8_unless_the_check_is_off(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("zebra\n")
    assert cli("generate", "a zebra", *SMALL, "--policy", "words.txt").code == 8
    assert cli("generate", "a zebra", *SMALL, "--policy", "words.txt", "--no-policy").code == 0


def test_control_characters_of_a_prompt_do_not_reach_the_terminal(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("evil\n")
    nasty = "evil \x1b[2J\x07 \u202edlrow\u2066 <script>"
    done = cli("generate", nasty, *SMALL, "--policy", "words.txt")
    assert done.code == 8
    cli("generate", nasty, *SMALL, "-o", "x.mp4")
    shown = cli("inspect", "x.mp4")
    for text in (done.err, shown.out, shown.err):
        assert not {"\x1b", "\x07", "\u202e", "\u2066"} & set(text)
    assert "\\x1b[2J" in shown.out and "<script>" in shown.out


def test_an_interrupt_is_exit_130_and_leaves_no_file(cli: Cli, tmp_path: Path) -> None:
    done = cli("generate", "stop now", *SMALL)
    assert done.code == 130 and "cancelled" in done.err
    assert not [file for file in tmp_path.iterdir() if not file.name.startswith(".home")]


def test_ten_lines_with_a_bad_one_give_nine_clips_and_exit_1(cli: Cli, tmp_path: Path, pipeline: Any) -> None:
    lines = [f"clip number {i}" for i in range(1, 11)]
    lines[3] = "this will fail"
    (tmp_path / "list.txt").write_text("\n".join(lines))
    done = cli("generate", "--prompts", "list.txt", *SMALL, "-o", "night/")
    assert done.code == 1 and "line 4" in done.err and "9 made, 0 done before, 1 failed" in done.err
    assert len(seeds(tmp_path / "night")) == 9
    lines[3] = "now it is well"
    (tmp_path / "list.txt").write_text("\n".join(lines))
    pipeline.made.clear()
    again = cli("generate", "--prompts", "list.txt", *SMALL, "-o", "night/")
    assert again.code == 0 and [request.prompt for request in pipeline.made] == ["now it is well"]
    assert seeds(tmp_path / "night")["004-now-it-is-well.mp4"] == 3


def test_an_unattended_crash_does_not_end_the_night(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("crash here\na ball\n")
    done = cli("generate", "--prompts", "list.txt", *SMALL)
    assert done.code == 1 and "RuntimeError: deep inside" in done.err
    assert list(seeds(tmp_path / "list")) == ["002-a-ball.mp4"]


def test_an_interrupted_list_continues_where_it_stopped(cli: Cli, tmp_path: Path, pipeline: Any) -> None:
    (tmp_path / "list.txt").write_text("first ball\nstop here\nthird ball\n")
    stopped = cli("generate", "--prompts", "list.txt", *SMALL)
    assert stopped.code == 130 and "stopped at line 2: the same command goes on from there" in stopped.err
    (tmp_path / "list.txt").write_text("first ball\nsecond ball\nthird ball\n")
    pipeline.made.clear()
    assert cli("generate", "--prompts", "list.txt", *SMALL).code == 0
    assert [request.prompt for request in pipeline.made] == ["second ball", "third ball"]


def test_other_settings_make_other_clips_beside_the_old_ones(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a ball\n")
    cli("generate", "--prompts", "list.txt", *SMALL)
    cli("generate", "--prompts", "list.txt", *SMALL, "--seed", "5")
    assert seeds(tmp_path / "list") == {"001-a-ball.mp4": 0, "001-a-ball-1.mp4": 5}


def test_jsonl_lines_hold_their_own_options_judged_by_the_same_rules(cli: Cli, tmp_path: Path) -> None:
    lines = [
        '{"prompt": "a ball", "frames": 3, "seed": 9}', '"a plain string"', '{"prompt": "a", "frames": 0}',
        '{"prompt": "a", "out": "/etc/x"}', '{"prompt": 5}', "not json", "[1]", '{"frames": 2}', "", '{"prompt": "z"}',
    ]  # fmt: skip
    (tmp_path / "list.jsonl").write_text("\n".join(lines))
    done = cli("generate", "--prompts", "list.jsonl", *SMALL, "--seed", "100")
    assert done.code == 1 and "3 made, 0 done before, 6 failed" in done.err
    assert seeds(tmp_path / "list") == {"001-a-ball.mp4": 9, "002-a-plain-string.mp4": 101, "010-z.mp4": 109}
    assert len(read_video(tmp_path / "list" / "001-a-ball.mp4").frames) == 3
    for number in (3, 4, 5, 6, 7, 8):
        assert f"error: line {number}: " in done.err


def test_copies_of_lines_have_names_and_seeds_of_their_own(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("\ufeffa ball\r\n# a remark\r\n\r\na cat\r\n")
    assert cli("generate", "--prompts", "list.txt", *SMALL, "--count", "2", "-o", "o/x.mp4").code == 0
    assert seeds(tmp_path / "o") == {
        "001-x-1.mp4": 0, "001-x-2.mp4": 1, "004-x-1.mp4": 3, "004-x-2.mp4": 4,
    }  # fmt: skip


def test_a_refused_line_fails_alone(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("zebra\n")
    (tmp_path / "list.txt").write_text("a zebra\na cat\n")
    done = cli("generate", "--prompts", "list.txt", *SMALL, "--policy", "words.txt")
    assert done.code == 1 and "line 1: the usage policy" in done.err and len(seeds(tmp_path / "list")) == 1


@pytest.mark.parametrize("text", ["", "\n\n# nothing\n"])
def test_a_file_without_prompts_is_an_error(cli: Cli, tmp_path: Path, text: str) -> None:
    (tmp_path / "list.txt").write_text(text)
    assert cli("generate", "--prompts", "list.txt").code == 2
