"""Our networks, tokenizer and loops against tensors that the two reference implementations gave, float32 CPU."""

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

import goldens
from kinescribe.checkpoints.load import load_components
from kinescribe.components import Components
from kinescribe.models.conditions import Conditioning
from kinescribe.pipelines.stages import to_uint8
from kinescribe.pipelines.text_to_video import Step, TextToVideoPipeline

PROMPT = "A panda eating bamboo on a rock."
LAYOUTS = ("modelscope", "diffusers")
SINGLE, TRAJECTORY = 1e-5, 5e-5
"""Tolerances relative to the largest number; the references differ from each other by up to 2e-6."""

pytestmark = pytest.mark.parametrize("layout", LAYOUTS)


@cache
def expected() -> dict[str, Tensor]:
    return goldens.expected("text_to_video")


@cache
def model(layout: str) -> Components:
    return load_components(goldens.folder(f"text_to_video/{layout}"), dtype=torch.float32)


def assert_close(actual: Tensor, key: str, tolerance: float) -> None:
    wanted = expected()[key]
    assert actual.shape == wanted.shape
    assert (actual - wanted).abs().max() <= tolerance * wanted.abs().max(), key


def unet(layout: str, x: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
    with torch.inference_mode():
        out: Tensor = model(layout).unet(x, t, Conditioning(tokens=tokens))
    return out


def generate(layout: str, sampler: str, steps: int) -> tuple[Tensor, np.ndarray]:
    """Latents after every step, stacked, and the uint8 frames."""
    latents = []
    frames = np.empty(0)
    options = {"sampler": sampler, "steps": steps, "guidance": 9.0, "frames": 3, "width": 96, "height": 64}
    pipeline = TextToVideoPipeline(model(layout))
    for item in pipeline.stream(PROMPT, negative_prompt="", seed=0, noise=expected()["noise"], **options):
        if isinstance(item, Step):
            latents.append(item.latents)
        else:
            frames = item.frames
    return torch.stack(latents), frames


def test_token_ids_are_exact(layout: str) -> None:
    ids = model(layout).tokenizer([PROMPT, ""]).ids
    assert torch.equal(ids[:1], expected()["text.token_ids"])
    assert torch.equal(ids[1:], expected()["text.token_ids_empty"])


def test_text_embeddings_agree(layout: str) -> None:
    with torch.inference_mode():
        full, empty = model(layout).text(model(layout).tokenizer([PROMPT, ""]).ids).split(1)
    assert_close(full, "text.embedding", SINGLE)
    assert_close(empty, "text.embedding_empty", SINGLE)


def test_unet_agrees(layout: str) -> None:
    e = expected()
    out = unet(layout, e["noise"], e["unet.t"], e["text.embedding"])
    assert_close(out, "unet.out", SINGLE)
    out = unet(layout, e["noise"], e["unet.t"], e["text.embedding_empty"])
    assert_close(out, "unet.out_empty", SINGLE)


def test_unet_agrees_on_a_batch_of_different_times_and_prompts(layout: str) -> None:
    e = expected()
    tokens = torch.cat([e["text.embedding_empty"], e["text.embedding"]])
    assert_close(
        unet(layout, e["unet.batch2_in"], torch.tensor([981, 21]), tokens), "unet.batch2_out", SINGLE
    )


def test_unet_agrees_on_a_single_frame(layout: str) -> None:
    e = expected()
    out = unet(layout, e["noise"][:, :, :1], e["unet.t"], e["text.embedding"])
    assert_close(out, "unet.frame1_out", SINGLE)


def test_vae_decoding_agrees(layout: str) -> None:
    vae = model(layout).vae
    with torch.inference_mode():
        picture = vae.decode(expected()["ddim10.latents"][-1][:, :, 0] * (1 / vae.config.scale))
    assert_close(picture, "vae.decode_out", SINGLE)
    levels = to_uint8(picture).int()
    assert (levels - expected()["vae.frames_uint8"].int()).abs().max() <= 1


def test_vae_encoding_agrees(layout: str) -> None:
    vae = model(layout).vae
    with torch.inference_mode():
        moments = vae.quantise(vae.encoder(expected()["vae.encode_in"]))
    assert_close(moments, "vae.encode_moments", SINGLE)


@pytest.mark.parametrize("steps", [5, 10])
def test_ddim_trajectories_agree_with_modelscope(layout: str, steps: int) -> None:
    assert_close(generate(layout, "ddim", steps)[0], f"ddim{steps}.latents", TRAJECTORY)


@pytest.mark.parametrize("steps", [5, 10])
def test_ddim_ends_where_diffusers_ends(layout: str, steps: int) -> None:
    latents, _ = generate(layout, "ddim", steps)
    assert_close(latents[-1], f"diffusers.ddim{steps}.latents_final", TRAJECTORY)


def test_fifty_steps_of_ddim_give_modelscopes_frames(layout: str) -> None:
    latents, frames = generate(layout, "ddim", 50)
    assert_close(latents[-1], "ddim50.latents_final", TRAJECTORY)
    wanted = expected()["ddim50.frames_uint8"].numpy()
    assert np.abs(frames.astype(int) - wanted.astype(int)).max() <= 1


@pytest.mark.parametrize("steps", [5, 10])
def test_dpm_solver_agrees_with_diffusers_step_by_step(layout: str, steps: int) -> None:
    assert_close(generate(layout, "dpmpp_2m", steps)[0], f"diffusers.dpmpp{steps}.latents", TRAJECTORY)


def test_dpm_solver_ends_where_diffusers_ends(layout: str) -> None:
    latents, _ = generate(layout, "dpmpp_2m", 25)
    assert_close(latents[-1:], "diffusers.dpmpp25.latents", TRAJECTORY)


def test_frames_are_those_that_diffusers_exports(layout: str) -> None:
    _, frames = generate(layout, "dpmpp_2m", 10)
    wanted = expected()["diffusers.dpmpp10.frames_uint8_export"].numpy()
    assert np.abs(frames[:1].astype(int) - wanted.astype(int)).max() <= 1
