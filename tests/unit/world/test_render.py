from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from kinescribe.world.clip import (
    CAMERAS,
    COLOURS,
    MOTIONS,
    SCENES,
    SUBJECTS,
    Clip,
    Clips,
    Sprite,
    sample_clips,
)
from kinescribe.world.render import render, render_at, render_stills, subject_masks

STILL = Clip(
    subject=SUBJECTS.index("balloon"), colour=0, scene=1, time=0, motion=MOTIONS.index("still"),
    size=1, camera=0, second=None, seed=5,
)  # fmt: skip

MEAN_COLOURS = [
    [40, 71, 114],
    [64, 77, 113],
    [155, 133, 111],
    [155, 168, 183],
    [59, 75, 113],
    [151, 123, 107],
    [62, 73, 110],
    [72, 67, 110],
]


def moving(name: str, **changes: object) -> Clip:
    return replace(STILL, motion=MOTIONS.index(name), **changes)  # type: ignore[arg-type]


def masks(*clips: Clip, frames: int = 16) -> Tensor:
    return subject_masks(Clips.of(clips), size=64, frames=frames)


def centroids(cover: Tensor) -> tuple[Tensor, Tensor]:
    """x and y of the covered area in half frame widths."""
    axis = (torch.arange(cover.shape[-1]) + 0.5) / cover.shape[-1] * 2 - 1
    weight = cover.sum((-1, -2))
    return (cover.sum(-2) * axis).sum(-1) / weight, (cover.sum(-1) * axis).sum(-1) / weight


def gap(a: Tensor, b: Tensor) -> int:
    return int((a.int() - b.int()).abs().max())


def test_pictures_have_the_promised_shape() -> None:
    video = render(sample_clips(3, 1), size=32, frames=4)
    assert video.shape == (3, 4, 32, 32, 3)
    assert video.dtype == torch.uint8


def test_a_clip_renders_alike_again() -> None:
    clips = sample_clips(4, 2)
    assert torch.equal(render(clips, size=48, frames=3), render(clips, size=48, frames=3))


def test_a_clip_renders_alike_alone_and_in_a_batch() -> None:
    clips = sample_clips(24, 3, pairs=0.4)
    together = render(clips, size=48, frames=3)
    for i in range(0, 24, 5):
        # Vector and scalar kernels may differ in the last bit, so in one of 255 steps.
        assert gap(render(clips[i : i + 1], size=48, frames=3)[0], together[i]) <= 1


def test_another_seed_is_another_picture() -> None:
    one, other = render_stills(Clips.of([STILL, replace(STILL, seed=6)]), size=48)
    assert gap(one, other) > 30


@pytest.mark.parametrize("scene", range(len(SCENES)))
def test_a_larger_size_is_the_same_picture(scene: int) -> None:
    clips = Clips.of([replace(STILL, scene=scene, time=scene % 3, subject=2 * scene, size=2)])
    small = render_stills(clips, size=128)[0].permute(2, 0, 1).float()
    large = render_stills(clips, size=256)[0].permute(2, 0, 1).float()
    error = (avg_pool2d(large, 2) - small).pow(2).mean()
    assert 10 * torch.log10(255**2 / error) > 32


def test_a_still_equals_the_frame_at_its_time() -> None:
    clips = sample_clips(6, 4)
    assert gap(render_stills(clips, 1.0, size=48), render(clips, size=48, frames=5)[:, -1]) <= 1


def test_each_clip_can_have_its_own_times() -> None:
    clips = sample_clips(2, 5)
    whole = render(clips, size=48, frames=3)
    picked = render_at(clips, torch.tensor([[0.0], [1.0]]), size=48)
    assert gap(picked[0, 0], whole[0, 0]) <= 1
    assert gap(picked[1, 0], whole[1, 2]) <= 1


@pytest.mark.parametrize(("name", "sign"), [("left", -1), ("right", 1)])
@pytest.mark.parametrize("camera", range(len(CAMERAS)))
def test_sideways_motion_goes_its_way_under_every_camera(name: str, sign: int, camera: int) -> None:
    x, _ = centroids(masks(moving(name, camera=camera), replace(STILL, camera=camera)))
    way = (x[0] - x[1])[[0, -1]]  # against a resting subject under the same camera
    assert sign * (way[1] - way[0]) * 64 > 25


@pytest.mark.parametrize(("name", "sign"), [("rising", -1), ("falling", 1)])
def test_vertical_motion_goes_its_way(name: str, sign: int) -> None:
    x, y = centroids(masks(moving(name)))
    assert sign * (y[0, -1] - y[0, 0]) * 64 > 25
    assert (x[0].max() - x[0].min()) * 64 < 2


@pytest.mark.parametrize(("name", "grows"), [("growing", True), ("shrinking", False)])
def test_growth_is_nearly_twofold(name: str, grows: bool) -> None:
    area = masks(moving(name, subject=SUBJECTS.index("ball")))[0].sum((-1, -2)).sqrt()
    ratio = area[-1] / area[0] if grows else area[0] / area[-1]
    assert 1.75 < ratio < 2.2


def test_bouncing_touches_the_floor_twice_and_more() -> None:
    _, y = centroids(masks(moving("bouncing"), frames=64))
    low = y[0] > y[0].max() - 0.1
    landings = (low[1:] & ~low[:-1]).sum() + int(low[0])
    assert landings >= 2
    assert (y[0].max() - y[0].min()) * 64 > 25


def test_circling_keeps_its_distance_from_a_middle() -> None:
    x, y = centroids(masks(moving("circling", subject=SUBJECTS.index("ball"))))
    cx, cy = (x.max() + x.min()) / 2, (y.max() + y.min()) / 2
    radius = torch.hypot(x[0] - cx, y[0] - cy) * 64
    assert radius.min() > 14
    assert radius.max() - radius.min() < 4


def test_swaying_turns_back_at_least_twice() -> None:
    x, _ = centroids(masks(moving("swaying"), frames=64))
    steps = x[0].diff().sign()
    assert (steps[1:] != steps[:-1]).sum() >= 2
    assert (x[0].max() - x[0].min()) * 64 > 25


def test_spinning_turns_three_quarters_at_least_and_stays() -> None:
    cover = masks(moving("spinning", subject=SUBJECTS.index("moon")))[0]
    x, y = centroids(cover[None])
    axis = (torch.arange(64) + 0.5) / 32 - 1
    outer = torch.stack([(cover * axis).sum((-1, -2)), (cover * axis[:, None]).sum((-1, -2))])
    middle = torch.stack([(x.max() + x.min()) / 2, (y.max() + y.min()) / 2])
    heading = outer / cover.sum((-1, -2)) - middle[:, None]
    angle = torch.atan2(heading[1], heading[0])
    turned = torch.remainder(angle.diff() + torch.pi, 2 * torch.pi) - torch.pi
    assert turned.sum().abs() > 0.75 * 2 * torch.pi - 0.1


def test_a_still_subject_stays() -> None:
    x, y = centroids(masks(STILL))
    assert max(x.max() - x.min(), y.max() - y.min()) * 64 < 0.5


def test_subjects_never_leave_the_frame() -> None:
    clips = sample_clips(150, 6, pairs=0.3)
    for rank in (0, 1):
        there = clips if rank == 0 else clips[clips.second_subject >= 0]
        cover = subject_masks(there, size=32, frames=5, rank=rank)
        most = cover.sum((-1, -2)).max(1, keepdim=True).values
        resting = there.motion < MOTIONS.index("growing")
        assert (cover.sum((-1, -2)) / most)[torch.from_numpy(resting)].min() > 0.35


def test_a_second_subject_is_drawn_beside_the_first() -> None:
    pair = replace(STILL, second=Sprite(SUBJECTS.index("ball"), 5))
    first, second = (subject_masks(Clips.of([pair]), size=64, frames=2, rank=r) for r in (0, 1))
    apart = centroids(first)[0] - centroids(second)[0]
    assert (apart.abs() * 64 > 40).all()
    assert (first * second).sum() < 0.05 * second.sum()


def test_a_missing_second_subject_covers_nothing() -> None:
    assert subject_masks(Clips.of([STILL]), size=32, frames=2, rank=1).sum() == 0


@pytest.mark.parametrize("time", [0, 1, 2])
def test_a_subjects_main_colour_is_nearest_to_its_name(time: int) -> None:
    from kinescribe.world.palette import BODY, SUBJECT_LIGHT

    clips = Clips.of(
        replace(STILL, subject=s, colour=c, time=time, size=2, scene=(s + c) % 8)
        for s in range(16)
        for c in range(10)
    )
    pictures, cover = (
        render_stills(clips, size=64).float() / 255,
        subject_masks(clips, size=64, frames=2)[:, 0],
    )
    seen = torch.stack([p[m > 0.9].median(0).values for p, m in zip(pictures, cover, strict=True)])
    named = torch.tensor(BODY) * torch.tensor(SUBJECT_LIGHT[time])
    guess = torch.cdist(seen, named).argmin(1)
    wrong = [
        (SUBJECTS[i // 10], COLOURS[i % 10], COLOURS[int(guess[i])]) for i in range(160) if guess[i] != i % 10
    ]
    assert wrong == []


def test_pictures_are_smooth() -> None:
    """Neighbouring pixels differ little: a small autoencoder has to be able to say the picture."""
    pictures = render_stills(sample_clips(48, 8), size=128).float()
    step = (pictures[:, :, 1:] - pictures[:, :, :-1]).abs().mean()
    assert step < 5.0


def test_the_pixels_are_frozen() -> None:
    """Published weights know these very pictures: a change of the world asks for new weights."""
    clips = sample_clips(8, 2026, held_out=None, pairs=0.5)
    means = render_stills(clips, 0.25, size=64).float().mean((1, 2))
    assert (means - torch.tensor(MEAN_COLOURS)).abs().max() < 1.0
