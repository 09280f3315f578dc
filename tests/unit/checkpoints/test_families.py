"""Whose weights a file holds is told by its names, in both directions."""

from pathlib import Path

import pytest

from kinescribe.catalog import CATALOG
from kinescribe.checkpoints.families import Family, family_of, looks_like, require_family
from kinescribe.errors import WeightsError

PLAIN = ["time_embed.0.weight", "input_blocks.0.0.weight"]
FIRST_STAGE = [*PLAIN, "fps_embedding.0.weight", "context_embedding.0.weight"]
XL = [*FIRST_STAGE, "local_image_concat.0.weight"]
XL_DIFFUSERS = [*FIRST_STAGE, "image_latents_proj_in.0.weight"]


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("modelscope-1.7b", "text-to-video"),
        ("modelscope-image-to-video", "image-to-video"),
        ("i2vgen-xl", "i2vgen-xl"),
        ("modelscope-video-to-video", "video-to-video"),
        ("vgen-sr600", "video-to-video"),
    ],
)
def test_every_row_has_a_family(name: str, family: str) -> None:
    assert family_of(CATALOG[name]) == family


@pytest.mark.parametrize(
    ("names", "wanted", "said"),
    [
        (XL, "text-to-video", "I2VGen-XL (image-to-video), not a text-to-video model"),
        (XL_DIFFUSERS, "text-to-video", "I2VGen-XL"),
        (XL, "image-to-video", "I2VGen-XL (image-to-video), not ModelScope Image-to-Video"),
        (FIRST_STAGE, "i2vgen-xl", "ModelScope Image-to-Video, not I2VGen-XL"),
        (FIRST_STAGE, "video-to-video", "ModelScope Image-to-Video, not a video-to-video model"),
        (PLAIN, "image-to-video", "a text-to-video or video-to-video UNet, not ModelScope Image-to-Video"),
        (PLAIN, "i2vgen-xl", "a text-to-video or video-to-video UNet, not I2VGen-XL"),
        ([*PLAIN, "fps_embedding.0.weight"], "text-to-video", "fps-conditioned"),
        ([*XL, "depth_embedding.0.weight"], "i2vgen-xl", "VideoComposer"),
    ],
)
def test_the_weights_of_another_model_are_called_what_they_are(
    names: list[str], wanted: Family, said: str
) -> None:
    told = looks_like(names, wanted)
    assert told is not None and said in told


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (PLAIN, "text-to-video"),
        (PLAIN, "video-to-video"),
        (FIRST_STAGE, "image-to-video"),
        (XL, "i2vgen-xl"),
        (XL_DIFFUSERS, "i2vgen-xl"),
    ],
)
def test_weights_of_the_wanted_model_are_not_taken_for_another(names: list[str], wanted: Family) -> None:
    assert looks_like(names, wanted) is None


def test_a_row_of_another_kind_is_refused_with_both_names() -> None:
    require_family(Path("m"), "video-to-video", CATALOG["vgen-sr600"])
    with pytest.raises(
        WeightsError, match="m: ModelScope Image-to-Video, but potat1 is a text-to-video model"
    ):
        require_family(Path("m"), "image-to-video", CATALOG["potat1"])
