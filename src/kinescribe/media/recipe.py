"""The recipe of a clip: everything needed to make its frames again, carried inside the file as JSON."""

import hashlib
import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from kinescribe.errors import OptionError
from kinescribe.options import TextToVideo

LARGEST_RECIPE = 1 << 16  # characters of JSON

Name = Annotated[str, StringConstraints(pattern=r"^[^/\\\x00-\x1f\x7f]{1,100}$")]
Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8,64}$")]
Version = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+_-]{0,39}$")]


class Recipe(BaseModel):
    """A request with every field resolved, and what it was carried out with.

    `model` is a name, never a path; `model_hash` says which weights that name meant.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    note: Literal["AI-generated"] = "AI-generated"
    request: TextToVideo
    model: Name
    model_hash: Hash
    kinescribe: Version
    torch: Version

    def as_dict(self) -> dict[str, object]:
        """Plain JSON values; fields of the request that do not apply to the model are left out."""
        return self.model_dump(mode="json", exclude_none=True)

    def hash(self) -> str:
        """64 hex digits of the request and the weights; versions do not count."""
        return recipe_hash(self.request, self.model_hash)


def recipe_hash(request: TextToVideo, model_hash: str) -> str:
    """What `Recipe.hash` gives for a resolved request and these weights."""
    parts = {"request": request.model_dump(mode="json", exclude_none=True), "weights": model_hash}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def parse_recipe(text: str) -> dict[str, object]:
    """The recipe in a clip's comment, as `Recipe.as_dict` gives it.

    The text may come from anyone: it is limited to 64 KiB and to the fields and ranges of `Recipe`.
    Raises OptionError naming the first field that breaks a rule.
    """
    if len(text) > LARGEST_RECIPE:
        raise OptionError(f"a recipe of more than {LARGEST_RECIPE} characters is refused: give another clip")
    try:
        return Recipe.model_validate_json(text).as_dict()
    except (ValidationError, RecursionError) as error:
        reason = first_reason(error) if isinstance(error, ValidationError) else "nested too deeply"
        raise OptionError(f"not a recipe of Kinescribe ({reason}): give another clip") from error


def first_reason(error: ValidationError) -> str:
    """`field: what is wrong` of the first problem, on one line and of bounded length."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part)[:40] for part in first["loc"][:4])
    text = f"{where}: {first['msg']}" if where else first["msg"]
    return " ".join(text.split())[:200]
