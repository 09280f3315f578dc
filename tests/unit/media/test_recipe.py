import json

import pytest

from kinescribe.errors import OptionError
from kinescribe.media.recipe import Recipe, parse_recipe


def test_a_recipe_survives_json(recipe: Recipe) -> None:
    assert Recipe.model_validate(parse_recipe(json.dumps(recipe.as_dict()))) == recipe


def test_the_hash_knows_request_and_weights_but_no_versions(recipe: Recipe) -> None:
    other_version = recipe.model_copy(update={"torch": "9.9", "kinescribe": "7"})
    other_seed = recipe.model_copy(update={"request": recipe.request.model_copy(update={"seed": 4})})
    other_weights = recipe.model_copy(update={"model_hash": "cd" * 32})
    assert recipe.hash() == other_version.hash()
    assert len({recipe.hash(), other_seed.hash(), other_weights.hash()}) == 3


def test_a_recipe_says_that_the_clip_is_generated(recipe: Recipe) -> None:
    assert recipe.as_dict()["note"] == "AI-generated"


def test_the_size_is_limited() -> None:
    with pytest.raises(OptionError, match="65536"):
        parse_recipe(" " * 70_000)
