"""The image tower: full-size count, shapes, the class token, what of a picture it sees."""

import torch

from kinescribe.checkpoints.modelscope import VIT_H
from kinescribe.models.vision import VisionConfig, VisionEncoder

TINY = VisionConfig(width=16, layers=2, heads=2, mlp_width=32, patch=4, size=12, embedding_width=6)


def tiny() -> VisionEncoder:
    torch.manual_seed(0)
    return VisionEncoder(TINY).eval().requires_grad_(False)


def test_full_size_has_the_published_parameters() -> None:
    with torch.device("meta"):
        vision = VisionEncoder(VIT_H)
    assert sum(p.numel() for p in vision.parameters()) == 632_076_800
    assert vision.positions.shape == (257, 1280)
    assert vision.project.weight.shape == (1024, 1280)


def test_every_patch_reaches_the_embedding() -> None:
    vision, picture = tiny(), torch.randn(1, 3, 12, 12)
    embedding = vision(picture)
    assert embedding.shape == (1, 6)
    for y in range(0, 12, 4):
        for x in range(0, 12, 4):
            changed = picture.clone()
            changed[..., y : y + 4, x : x + 4] += 1
            assert not torch.allclose(vision(changed), embedding)


def test_patches_know_their_places() -> None:
    vision, picture = tiny(), torch.randn(1, 3, 12, 12)
    torch.nn.init.normal_(vision.positions)
    assert not torch.allclose(vision(picture.roll(4, -1)), vision(picture))
    torch.nn.init.zeros_(vision.positions)
    torch.testing.assert_close(vision(picture.roll(4, -1)), vision(picture))


def test_pictures_of_a_batch_do_not_see_each_other() -> None:
    vision, pictures = tiny(), torch.randn(3, 3, 12, 12)
    torch.testing.assert_close(vision(pictures)[1:2], vision(pictures[1:2]))


def test_the_embedding_is_the_projected_class_token_with_its_length() -> None:
    vision, picture = tiny(), torch.randn(1, 3, 12, 12)
    before = vision(picture)
    vision.project.weight *= 3
    torch.testing.assert_close(vision(picture), 3 * before)
