"""The autoencoder: full-size counts, shapes, the one-sided padding."""

import numpy as np
import torch

import kinescribe
from kinescribe.checkpoints.modelscope import VAE as FULL
from kinescribe.models.vae import AutoencoderKL, Downsample, VAEConfig
from kinescribe.pipelines.stages import to_uint8

TINY = VAEConfig(
    in_channels=3,
    latent_channels=4,
    width=8,
    multipliers=(1, 2, 2, 2),
    blocks_per_level=1,
    groups=4,
    scale=0.5,
)


def test_full_size_has_the_published_parameters() -> None:
    with torch.device("meta"):
        vae = AutoencoderKL(FULL)
    assert sum(p.numel() for p in vae.parameters()) == 83_653_863
    assert len(vae.state_dict()) == 248
    assert sum(p.numel() for p in vae.encoder.parameters()) == 34_163_592
    assert sum(p.numel() for p in vae.decoder.parameters()) == 49_490_179


def test_latents_are_an_eighth_of_the_picture_and_back() -> None:
    vae = AutoencoderKL(TINY)
    posterior = vae.encode(torch.randn(2, 3, 24, 16))
    assert posterior.mean.shape == (2, 4, 3, 2) == posterior.std.shape
    assert vae.decode(posterior.mean).shape == (2, 3, 24, 16)
    assert TINY.factor == 8


def test_posterior_samples_with_the_given_noise() -> None:
    posterior = AutoencoderKL(TINY).encode(torch.randn(1, 3, 8, 8))
    noise = torch.randn_like(posterior.mean)
    torch.testing.assert_close(posterior.sample(noise), posterior.mean + posterior.std * noise)


def test_downsampling_pads_right_and_below_only() -> None:
    down = Downsample(1)
    torch.nn.init.ones_(down.conv.weight)
    torch.nn.init.zeros_(down.conv.bias)
    assert down(torch.ones(1, 1, 4, 4))[0, 0].tolist() == [[9, 6], [6, 4]]


def test_bfloat16_leaves_no_bands_in_a_sky() -> None:
    vae = kinescribe.load("papercut", device="cpu", dtype="float32").components.vae
    sky = torch.linspace(-0.7, 0.1, 128)[:, None].expand(1, 3, 128, 128)
    with torch.inference_mode():
        latents = vae.encode(sky).mean
        exact = to_uint8(vae.decode(latents)).numpy().astype(int)
        rounded = to_uint8(vae.bfloat16().decode(latents.bfloat16())).numpy().astype(int)
        again = vae.encode(sky.bfloat16()).mean.float()
    assert float((again - latents).norm() / latents.norm()) < 0.01
    off = np.abs(rounded - exact)
    assert off.mean() < 0.35 and (off > 1).mean() < 0.02
    levels, kept = (len(np.unique(frames[0, :, 64, 2])) for frames in (exact, rounded))
    assert kept > 0.9 * levels > 60
