import json

import numpy as np
import pytest
from pydantic import ValidationError

from kinescribe.errors import OptionError
from kinescribe.media.recipe import Recipe, SourceInput, parse_recipe, recipe_hash
from kinescribe.options import ImageToVideo, TextToVideo, VideoToVideo


@pytest.fixture
def source(ball: np.ndarray) -> SourceInput:
    return SourceInput.of("ball.mp4", ball, 12.5)


@pytest.fixture
def refined(recipe: Recipe, source: SourceInput) -> Recipe:
    """The recipe of the second of two stages."""
    request = VideoToVideo(prompt="sharp", strength=0.6, window=16, overlap=4, seed=3)
    update = {"kind": "video-to-video", "request": request, "source": source, "before": recipe}
    return recipe.model_copy(update=update)


def test_a_recipe_survives_json(recipe: Recipe) -> None:
    assert Recipe.model_validate(parse_recipe(json.dumps(recipe.as_dict()))) == recipe


def test_recipes_of_all_kinds_survive_json(recipe: Recipe, refined: Recipe, source: SourceInput) -> None:
    picture = source.model_copy(update={"fps": None, "frames": 1})
    request = ImageToVideo(condition_fps=4, fit="pad", seed=1)
    update = {"kind": "image-to-video", "request": request, "source": picture}
    for made in (recipe.model_copy(update=update), refined):
        again = Recipe.model_validate(parse_recipe(json.dumps(made.as_dict())))
        assert again == made
        assert type(again.request) is type(made.request)


def test_a_recipe_without_a_kind_is_one_of_text_to_video(recipe: Recipe) -> None:
    old = {name: value for name, value in recipe.as_dict().items() if name != "kind"}
    assert parse_recipe(json.dumps(old)) == recipe.as_dict()


def test_a_request_must_be_of_the_recipes_kind(recipe: Recipe) -> None:
    told = {**recipe.as_dict(), "kind": "image-to-video"}
    told["request"] = {"prompt": "a", "strength": 0.5}
    with pytest.raises(OptionError, match=r"request: strength: Extra inputs"):
        parse_recipe(json.dumps(told))
    with pytest.raises(ValidationError, match="a TextToVideo is no VideoToVideo"):
        Recipe(**{**dict(recipe), "kind": "video-to-video"})


@pytest.mark.parametrize(
    "change", [{"name": "a/b.mp4"}, {"name": ""}, {"sha256": "ab" * 8}, {"width": 0}, {"fps": 0}, {"more": 1}]
)
def test_what_was_put_in_is_checked_like_the_rest(refined: Recipe, change: dict[str, object]) -> None:
    told = refined.as_dict()
    told["source"] = {**told["source"], **change}  # type: ignore[dict-item]
    with pytest.raises(OptionError, match="not a recipe"):
        parse_recipe(json.dumps(told))


def test_what_was_put_in_is_known_by_its_pixels_not_its_name(ball: np.ndarray) -> None:
    first = SourceInput.of("ball.mp4", ball, 8.0)
    assert (first.width, first.height, first.frames, first.fps) == (96, 64, 8, 8.0)
    assert SourceInput.of("other.mp4", np.asfortranarray(ball)).sha256 == first.sha256
    assert SourceInput.of("ball.mp4", 255 - ball).sha256 != first.sha256
    assert SourceInput.of("", ball).name == "memory"
    assert SourceInput.of("a\x07\u202eb" + "x" * 200, ball).name == "a__b" + "x" * 96


def test_the_hash_knows_request_and_weights_but_no_versions(recipe: Recipe) -> None:
    other_version = recipe.model_copy(update={"torch": "9.9", "kinescribe": "7"})
    other_seed = recipe.model_copy(update={"request": recipe.request.model_copy(update={"seed": 4})})
    other_weights = recipe.model_copy(update={"model_hash": "cd" * 32})
    assert recipe.hash() == other_version.hash()
    assert len({recipe.hash(), other_seed.hash(), other_weights.hash()}) == 3


def test_the_hash_of_a_text_to_video_recipe_stays_what_it_was() -> None:
    request = TextToVideo(prompt="a boat", frames=16, width=256, height=256, fps=8.0, seed=3)
    was = "f6c543d9dff4b5377e2e3f52e5bca6cb2d3b33ee6c358b2504da29c22867b429"
    assert recipe_hash(request, "ab" * 8) == was


def test_the_hash_knows_the_pixels_put_in_or_how_they_were_made(refined: Recipe, source: SourceInput) -> None:
    alone = refined.model_copy(update={"before": None})
    renamed = alone.model_copy(update={"source": source.model_copy(update={"name": "x.mp4"})})
    other = alone.model_copy(update={"source": source.model_copy(update={"sha256": "cd" * 32})})
    assert alone.hash() == renamed.hash()
    assert len({alone.hash(), other.hash(), refined.hash()}) == 3
    assert refined.hash() == recipe_hash(refined.request, refined.model_hash, before=refined.before)


def test_a_recipe_says_that_the_clip_is_generated(recipe: Recipe) -> None:
    assert recipe.as_dict()["note"] == "AI-generated"


def test_the_size_is_limited() -> None:
    with pytest.raises(OptionError, match="65536"):
        parse_recipe(" " * 70_000)


def test_a_chain_without_an_end_is_refused(recipe: Recipe) -> None:
    inner = json.dumps(recipe.as_dict())
    deep = inner[:-1] + ', "before": ' + '{"before": ' * 3000 + "1" + "}" * 3001
    with pytest.raises(OptionError, match="not a recipe"):
        parse_recipe(deep)
