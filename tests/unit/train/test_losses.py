import dataclasses

import pytest
import torch
from torch import Generator

from kinescribe.diffusion.denoiser import clean_from
from kinescribe.diffusion.schedule import Prediction, Schedule, ScheduleConfig
from kinescribe.models.vae import DiagonalGaussian
from kinescribe.train.config import VAELossConfig
from kinescribe.train.losses import (
    cell_weights,
    clean_share,
    clip_weights,
    diffusion_loss,
    divergence,
    draw_times,
    pseudo_huber,
    rebuilding_losses,
)

COSINE = ScheduleConfig(
    kind="cosine", beta_start=0.0, beta_end=0.0, train_steps=1000, prediction="velocity",
    zero_terminal_snr=True, offset=0, final="clean", spacing="trailing",
)  # fmt: skip


def test_every_clip_pulls_alike_however_far_off_it_is() -> None:
    error = torch.randn(3, 4, 2, 3, 3, generator=Generator().manual_seed(0))
    error = (error * torch.tensor([0.1, 1.0, 10.0]).view(3, 1, 1, 1, 1)).requires_grad_(True)
    losses = pseudo_huber(error)
    torch.testing.assert_close(losses, error.square().mean(dim=(1, 2, 3, 4)).sqrt(), rtol=0.01, atol=1e-3)
    losses.sum().backward()
    assert error.grad is not None
    pulls = error.grad.square().sum(dim=(1, 2, 3, 4)).sqrt()
    torch.testing.assert_close(pulls, pulls[:1].expand(3), rtol=1e-3, atol=0)
    at_rest = torch.zeros(1, 4, 2, 3, 3, requires_grad=True)
    pseudo_huber(at_rest).sum().backward()
    assert at_rest.grad is not None and (at_rest.grad == 0).all()


def test_times_cover_the_range_evenly() -> None:
    t = draw_times(100, 1000, 1.0, Generator().manual_seed(0))
    assert ((t // 10) == torch.arange(100)).all()


def test_a_shift_draws_more_high_noise_and_stays_in_range() -> None:
    t = draw_times(999, 1000, 3.0, Generator().manual_seed(0))
    assert t.min() >= 0 and t.max() <= 999
    assert (t > 500).float().mean() == pytest.approx(0.75, abs=0.01)


def test_min_snr_weighs_the_clean_error_by_a_capped_snr() -> None:
    schedule, t = Schedule(COSINE), torch.tensor([1, 500, 999])
    weights = clip_weights(schedule, t, "min_snr")
    snr = (schedule.signal[t] / schedule.noise[t]).square().float()
    torch.testing.assert_close(weights * (snr + 1), snr.clamp(max=5.0))
    assert clip_weights(schedule, t, "uniform").tolist() == [1, 1, 1]


@pytest.mark.parametrize("prediction", ["velocity", "noise", "clean"])
def test_clean_weighs_the_clean_estimate_alike_at_all_levels(prediction: Prediction) -> None:
    schedule, t = Schedule(dataclasses.replace(COSINE, prediction=prediction)), torch.tensor([5, 20, 500])
    clip, eps = torch.randn(2, 3, 1, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    noisy, target = schedule.corrupt(clip, eps, t), schedule.target(clip, eps, t)
    errors = []
    for i, step in enumerate(t.tolist()):
        row = slice(i, i + 1)
        clean = clean_from(target[row] + 0.01, noisy[row], schedule.level(step), prediction)
        errors.append((clean - clip[row]).square().mean())
    wanted = torch.stack(errors) / 0.01**2
    torch.testing.assert_close(clean_share(schedule, t), wanted, rtol=2e-3, atol=0)
    weights = clip_weights(schedule, t, "clean")
    torch.testing.assert_close(weights, wanted / wanted.mean(), rtol=2e-3, atol=0)


def test_diffusion_loss_is_the_weighted_mean_over_clips() -> None:
    output, target = torch.zeros(2, 1, 1, 2, 2), torch.ones(2, 1, 1, 2, 2)
    assert diffusion_loss(output, target, torch.tensor([1.0, 3.0])).item() == 2.0


def test_cells_of_figures_weigh_their_multiple_and_the_mean_weight_is_one() -> None:
    figures = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    figures[0, 1, :2] = 255
    weights = cell_weights(figures, 4.0)
    assert weights.mean().item() == pytest.approx(1)
    torch.testing.assert_close(weights[0, 1, 0, 0], 4 * weights[1, 0, 0, 0])
    assert cell_weights(torch.full((1, 1, 2, 2), 100, dtype=torch.uint8), 4.0).unique().tolist() == [1]


def test_an_error_in_a_figure_costs_more_than_one_beside_it() -> None:
    target = torch.zeros(1, 2, 1, 2, 2)
    inside, beside = target.clone(), target.clone()
    inside[..., 0, 0], beside[..., 1, 1] = 1, 1
    figures = torch.tensor([[[[255, 0], [0, 0]]]], dtype=torch.uint8)
    cells = cell_weights(figures, 3.0)
    losses = [diffusion_loss(output, target, torch.ones(1), cells).item() for output in (inside, beside)]
    assert losses == pytest.approx([0.5, 0.5 / 3])


def test_nothing_is_lost_on_a_perfect_rebuild_but_the_divergence() -> None:
    pictures = torch.rand(2, 3, 8, 8)
    posterior = DiagonalGaussian(torch.full((2, 4, 1, 1), 2.0), torch.ones(2, 4, 1, 1))
    weights = VAELossConfig(edge=1.0, coarse=1.0, square=1.0, divergence=0.5)
    terms = rebuilding_losses(pictures, pictures, posterior, weights)
    assert terms["divergence"].item() == pytest.approx(2.0)
    assert terms["loss"].item() == pytest.approx(1.0)


def test_edges_see_what_a_flat_error_hides() -> None:
    pictures, posterior = (
        torch.zeros(1, 3, 8, 8),
        DiagonalGaussian(torch.zeros(1, 4, 1, 1), torch.ones(1, 4, 1, 1)),
    )
    flat, chequered = pictures + 0.1, pictures + 0.1
    chequered[..., ::2] = -0.1
    edges = [
        rebuilding_losses(x, pictures, posterior, VAELossConfig())["edge"].item() for x in (flat, chequered)
    ]
    assert edges[0] == 0
    assert edges[1] == pytest.approx(0.2)


def test_a_unit_gaussian_has_no_divergence() -> None:
    assert divergence(DiagonalGaussian(torch.zeros(1, 4, 2, 2), torch.ones(1, 4, 2, 2))).item() == 0
