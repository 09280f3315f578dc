"""What is minimised: velocity, noise or clean error of the diffusion model, and the autoencoder's rebuilding error."""

import torch
from jaxtyping import Float, Int, UInt8
from torch import Generator, Tensor
from torch.nn import functional as F

from kinescribe.diffusion.schedule import Prediction, Schedule
from kinescribe.models.vae import DiagonalGaussian
from kinescribe.train.config import VAELossConfig, Weighting

LARGEST_SNR = 5.0
HUBER = 0.00054


def draw_times(n: int, train_steps: int, shift: float, generator: Generator) -> Int[Tensor, " n"]:
    """Training steps in [0, train_steps), one from each of `n` equal shares of the times, so that batches differ less.

    `shift` s maps a uniform time u to s u / (1 + (s - 1) u): above one, high noise is drawn more often.
    """
    device = generator.device
    u = (torch.rand(n, generator=generator, device=device) + torch.arange(n, device=device)) / n
    u = shift * u / (1 + (shift - 1) * u)
    return (u * train_steps).long().clamp_(0, train_steps - 1)


def clip_weights(schedule: Schedule, t: Int[Tensor, " b"], weighting: Weighting) -> Float[Tensor, " b"]:
    """The weight of each clip's mean squared error in the unit that the model predicts.

    "uniform" leaves the prediction's own error alone, which for velocity is a weight of SNR + 1 on the clean
    estimate's. "min_snr" weighs the clean estimate's error by min(SNR, 5) (Hang et al., 2303.09556), "clean" weighs it
    alike at all levels, one on average: for training at little noise, where "min_snr" leaves hardly anything.
    """
    if weighting == "uniform":
        return torch.ones_like(t, dtype=torch.float32)
    clean = clean_share(schedule, t)
    if weighting == "clean":
        return clean / clean.mean()
    return _snr(schedule, t).clamp(max=LARGEST_SNR) * clean


def clean_share(schedule: Schedule, t: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """What a squared error of the prediction at steps `t` is for the clean estimate: so many times as large."""
    snr = _snr(schedule, t)
    per_unit: dict[Prediction, Tensor] = {"clean": torch.ones_like(snr), "noise": snr, "velocity": snr + 1}
    return 1 / per_unit[schedule.config.prediction].clamp(min=1e-4)


def _snr(schedule: Schedule, t: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    return (schedule.signal[t].float() / schedule.noise[t].float()) ** 2


def cell_weights(figures: UInt8[Tensor, "b f h w"], foreground: float) -> Float[Tensor, "b f h w"]:
    """The weight of each latent cell's squared error: `foreground` times as much where a figure covers it fully.

    `figures` are covers in 255ths. The mean weight over the batch is one, so that the learning rate keeps its meaning.
    """
    weights = 1 + (foreground - 1) / 255 * figures.float()
    return weights / weights.mean()


def diffusion_loss(
    output: Float[Tensor, "b c f h w"],
    target: Float[Tensor, "b c f h w"],
    weights: Float[Tensor, " b"],
    cells: Float[Tensor, "b f h w"] | None = None,
) -> Float[Tensor, ""]:
    """The mean over clips, by `weights`, of the mean squared error over latent cells, by `cells` if given."""
    square = (output.float() - target.float()).square()
    if cells is not None:
        square = square * cells[:, None]
    return (weights * square.mean(dim=(1, 2, 3, 4))).mean()


def pseudo_huber(error: Float[Tensor, "b c f h w"]) -> Float[Tensor, " b"]:
    """The root mean square of each clip's error, rounded off near zero (Song, Dhariwal, 2310.14189, section 3.3).

    Their sqrt(|e|^2 + c^2) - c with c = 0.00054 sqrt(size), over the root of the size. Every clip so pulls alike,
    however far off it is; within a clip the cells that are furthest off pull most.
    """
    return (error.float().square().mean(dim=(1, 2, 3, 4)) + HUBER**2).sqrt() - HUBER


def rebuilding_losses(
    rebuilt: Float[Tensor, "n 3 h w"],
    pictures: Float[Tensor, "n 3 h w"],
    posterior: DiagonalGaussian,
    weights: VAELossConfig,
) -> dict[str, Float[Tensor, ""]]:
    """The autoencoder's terms by name and their weighted sum as "loss"; pictures in [-1, 1].

    Edges are differences of neighbouring pixels: an L1 on them keeps thin shapes that a plain L1 washes out. The coarse
    term compares pictures shrunk four times, which steadies flat colours.
    """
    rebuilt, error = rebuilt.float(), rebuilt.float() - pictures
    terms = {
        "absolute": error.abs().mean(),
        "square": error.square().mean(),
        "edge": error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean(),
        "coarse": F.avg_pool2d(error, 4).abs().mean(),
        "divergence": divergence(posterior),
    }
    terms["loss"] = (
        terms["absolute"]
        + weights.square * terms["square"]
        + weights.edge * terms["edge"]
        + weights.coarse * terms["coarse"]
        + weights.divergence * terms["divergence"]
    )
    return terms


def divergence(posterior: DiagonalGaussian) -> Float[Tensor, ""]:
    """Mean over latents of the Kullback-Leibler divergence from a unit Gaussian, in nats."""
    mean, std = posterior.mean.float(), posterior.std.float()
    return 0.5 * (mean.square() + std.square() - 1 - 2 * std.clamp(min=1e-7).log()).mean()
