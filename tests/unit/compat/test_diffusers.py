import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import goldens
import kinescribe.compat.diffusers as door
from kinescribe.compat.diffusers.schedulers import SCHEDULERS
from kinescribe.errors import MemoryLimitError, OptionError, WeightsError
from kinescribe.media.read import read_video

pytestmark = pytest.mark.filterwarnings("ignore")

FIXTURE = goldens.folder("text_to_video")
FOLDER = FIXTURE / "diffusers"
SMALL: dict[str, Any] = {"height": 64, "width": 96, "num_frames": 3}
PANDA = "A panda eating bamboo on a rock."


@pytest.fixture(scope="module")
def loaded() -> door.TextToVideoSDPipeline:
    return door.DiffusionPipeline.from_pretrained(FOLDER)


@pytest.fixture
def pipe(loaded: door.TextToVideoSDPipeline) -> door.TextToVideoSDPipeline:
    loaded.scheduler = door.DDIMScheduler.from_config(published())
    return loaded


@pytest.fixture(scope="module")
def expected() -> dict[str, torch.Tensor]:
    return goldens.expected("text_to_video")


def published() -> Any:
    return door.DDIMScheduler.from_pretrained(FOLDER, subfolder="scheduler").config


def test_the_model_card_runs_but_for_import_and_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pipe = door.DiffusionPipeline.from_pretrained(FOLDER, torch_dtype=torch.float16, variant="fp16")
    pipe.scheduler = door.DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    pipe.enable_model_cpu_offload()
    pipe.enable_vae_slicing()
    pipe.unet.enable_forward_chunking(chunk_size=1, dim=1)
    # 25 steps and 16 frames of 64 x 64 on the card's own terms would take this test a minute
    video_frames = pipe(PANDA, num_inference_steps=2, num_frames=2).frames
    assert Path(door.export_to_video(video_frames)).is_file()
    assert Path(door.export_to_video(video_frames[0], "clip.mp4")).name == "clip.mp4"
    clip = read_video("clip.mp4")
    assert clip.fps == 10
    assert clip.frames.shape == (2, 64, 64, 3)


def test_ddim_and_solver_latents_equal_the_stored_run_of_diffusers(
    pipe: door.TextToVideoSDPipeline, expected: dict[str, torch.Tensor]
) -> None:
    runs = [
        ("DDIMScheduler", 5, "diffusers.ddim5.latents_final"),
        ("DDIMScheduler", 10, "diffusers.ddim10.latents_final"),
    ]
    runs += [("DPMSolverMultistepScheduler", n, f"diffusers.dpmpp{n}.latents") for n in (5, 10)]
    for name, steps, key in runs:
        pipe.scheduler = SCHEDULERS[name].from_config(pipe.scheduler.config)
        torch.manual_seed(1234)
        result = pipe(PANDA, num_inference_steps=steps, output_type="latent", **SMALL).frames
        wanted = expected[key].reshape(-1, *result.shape)[-1:]
        assert (result - wanted[0]).abs().max() <= 5e-5 * wanted.abs().max()


def test_exported_frames_cut_off_and_pil_frames_round(
    pipe: door.TextToVideoSDPipeline, expected: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    pipe.scheduler = door.DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    latents = expected["noise"]
    options = {"num_inference_steps": 10, "latents": latents, **SMALL}
    floats = pipe(PANDA, output_type="np", **options).frames
    assert floats.dtype == np.float32
    exported = read_video(door.export_to_video(floats, tmp_path / "png")).frames
    difference = np.abs(exported[:1].astype(int) - expected["diffusers.dpmpp10.frames_uint8_export"].numpy())
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3
    pictures = pipe(PANDA, output_type="pil", **options).frames
    rounded = np.asarray(pictures[0][0])[None].astype(int)
    difference = np.abs(rounded - expected["diffusers.dpmpp10.frames_uint8_pil"].numpy())
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3
    assert (rounded >= exported[:1]).all()


def test_a_solver_made_from_the_published_settings_spaces_by_itself() -> None:
    solver = door.DPMSolverMultistepScheduler.from_config(published())
    assert solver.config.timestep_spacing == "linspace"
    assert solver.plan(25).times[:3] == (999, 959, 919)


def test_a_spacing_that_was_written_down_is_handed_over() -> None:
    resaved = {**published(), "timestep_spacing": "leading", "_use_default_values": []}
    solver = door.DPMSolverMultistepScheduler.from_config(resaved)
    assert solver.plan(25).times[:3] == (951, 913, 875)


def test_settings_survive_a_chain_of_schedulers() -> None:
    first = door.DPMSolverMultistepScheduler.from_config(published(), use_karras_sigmas=True)
    second = door.EulerAncestralDiscreteScheduler.from_config(first.config)
    third = door.DPMSolverMultistepScheduler.from_config(second.config)
    assert third.config.use_karras_sigmas is True
    assert (
        door.DDIMScheduler.from_config(third.config).plan(50).landings
        == door.DDIMScheduler.from_config(published()).plan(50).landings
    )


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_plans_the_steps_it_is_asked_for(name: str) -> None:
    scheduler = SCHEDULERS[name].from_config(published())
    assert all(len(scheduler.plan(steps)) == steps for steps in (1, 2, 25, 30, 50))


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("DDIMScheduler", "clip_sample", True),
        ("DDIMScheduler", "thresholding", True),
        ("DPMSolverMultistepScheduler", "solver_order", 3),
        ("DPMSolverMultistepScheduler", "algorithm_type", "dpmsolver"),
        ("UniPCMultistepScheduler", "solver_type", "bh1"),
        ("EulerDiscreteScheduler", "use_exponential_sigmas", True),
        ("LCMScheduler", "original_inference_steps", 100),
    ],
)
def test_a_setting_that_would_change_numbers_is_refused_not_ignored(
    name: str, setting: str, value: Any
) -> None:
    with pytest.raises(OptionError, match=f"{setting}={value!r}"):
        SCHEDULERS[name].from_config(published(), **{setting: value})


def test_a_misspelt_setting_is_refused() -> None:
    with pytest.raises(OptionError, match="use_karras_sigma'"):
        door.EulerDiscreteScheduler.from_config(published(), use_karras_sigma=True)


def test_output_reads_as_attribute_item_and_tuple(pipe: door.TextToVideoSDPipeline) -> None:
    options = {"num_inference_steps": 1, "output_type": "latent", **SMALL}
    made = pipe(PANDA, generator=torch.Generator().manual_seed(1), **options)
    assert made.frames is made[0] is made["frames"]
    (plain,) = pipe(PANDA, generator=torch.Generator().manual_seed(1), return_dict=False, **options)
    assert torch.equal(plain, made.frames)


def test_sizes_left_out_are_those_of_the_folder(pipe: door.TextToVideoSDPipeline) -> None:
    frames = pipe(PANDA, num_inference_steps=1, num_frames=1, output_type="pt").frames
    side = pipe.unet.config.sample_size * pipe.vae_scale_factor
    assert frames.shape == (1, 1, 3, side, side)


def test_a_model_loaded_in_another_layout_has_the_same_door(expected: dict[str, torch.Tensor]) -> None:
    pipe = door.TextToVideoSDPipeline.from_pretrained(FIXTURE / "modelscope")
    result = pipe(
        PANDA, num_inference_steps=5, latents=expected["noise"], output_type="latent", **SMALL
    ).frames
    wanted = expected["diffusers.ddim5.latents_final"]
    assert (result - wanted).abs().max() <= 5e-5 * wanted.abs().max()


def test_the_memory_switches_of_published_scripts_exist_and_change_nothing(
    pipe: door.TextToVideoSDPipeline,
) -> None:
    options = {"num_inference_steps": 1, "output_type": "latent", **SMALL}
    before = pipe(PANDA, generator=torch.Generator().manual_seed(1), **options).frames
    pipe.enable_vae_slicing()
    pipe.enable_vae_tiling()
    pipe.enable_attention_slicing()
    pipe.enable_xformers_memory_efficient_attention()
    pipe.enable_sequential_cpu_offload()
    pipe.unet.enable_forward_chunking(chunk_size=1, dim=1)
    pipe.vae.enable_slicing()
    pipe.set_progress_bar_config(disable=True)
    assert pipe.to("cpu").device == torch.device("cpu")
    after = pipe(PANDA, generator=torch.Generator().manual_seed(1), **options).frames
    assert torch.equal(before, after)


def test_half_precision_without_a_gpu_computes_in_single() -> None:
    pipe = door.DiffusionPipeline.from_pretrained(FOLDER)
    with pytest.warns(UserWarning, match="float16 is very slow"):
        frames = pipe.to(torch.float16)(PANDA, num_inference_steps=1, output_type="latent", **SMALL).frames
    assert frames.dtype == torch.float16
    assert pipe.dtype == torch.float16


def test_memory_that_runs_out_in_both_passes_makes_them_one_after_the_other(
    pipe: door.TextToVideoSDPipeline,
) -> None:
    options = {"num_inference_steps": 2, "output_type": "latent", **SMALL}
    wanted = pipe(PANDA, generator=torch.Generator().manual_seed(1), **options).frames
    unet, sizes = pipe._components.unet, []

    def small(_x: torch.Tensor, _t: torch.Tensor, told: Any) -> None:
        sizes.append(len(told.tokens))
        if len(told.tokens) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    handle = unet.register_forward_pre_hook(lambda _, args: small(*args))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = pipe(PANDA, generator=torch.Generator().manual_seed(1), **options).frames
    handle.remove()
    assert sizes == [2, 1, 1, 1, 1]  # both at once are tried a single time
    assert ["one after the other" in str(one.message) for one in said].count(True) == 1
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()


@pytest.mark.parametrize(
    ("part", "method", "named"),
    [
        ("text", "forward", "reading the prompt"),
        ("unet", "forward", "denoising"),
        ("vae", "decode", "decoding"),
    ],
)
def test_memory_that_does_not_suffice_names_the_stage_and_the_next_call_is_fine(
    pipe: door.TextToVideoSDPipeline, part: str, method: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"num_inference_steps": 1, **SMALL}

    def exhausted(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(getattr(pipe._components, part), method, exhausted)
        with pytest.raises(MemoryLimitError, match=f"out of memory while {named} .*--") as caught:
            pipe(PANDA, **options)
    assert caught.value.exit_code == 4 and "\n" not in str(caught.value)
    assert np.isfinite(pipe(PANDA, **options).frames).all()


def test_memory_that_runs_out_in_loading_or_moving_is_named(
    loaded: door.TextToVideoSDPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("kinescribe.compat.diffusers.pipeline.load_components", exhausted)
    monkeypatch.setattr(loaded._components, "to", exhausted)
    for ask in (lambda: door.DiffusionPipeline.from_pretrained(FOLDER), lambda: loaded.to("cpu")):
        with pytest.raises(MemoryLimitError, match="out of memory while loading"):
            ask()


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_a_device_that_is_absent_is_an_error(pipe: door.TextToVideoSDPipeline) -> None:
    with pytest.raises(OptionError, match="cuda"):
        pipe.to("cuda")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"height": 100}, "height=100: use a multiple of 8"),
        ({"prompt_embeds": torch.zeros(1, 77, 32)}, "either prompt or prompt_embeds"),
        ({"output_type": "mp4"}, "output_type='mp4'"),
        ({"clip_skip": 1}, "clip_skip=1"),
        ({"num_steps": 3}, "unknown argument 'num_steps'"),
        ({"callback_steps": 0}, "callback_steps=0"),
        ({"latents": torch.zeros(1, 4, 1, 8, 8)}, "latents have shape"),
        ({"negative_prompt": ["a", "b"]}, "2 negative prompts for 1 prompts"),
        ({"cross_attention_kwargs": {"gligen": 1}}, "cross_attention_kwargs"),
    ],
)
def test_wrong_arguments_are_named(
    pipe: door.TextToVideoSDPipeline, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        pipe(PANDA, **{**SMALL, **options})


def test_load_options_that_steer_downloads_are_accepted_and_others_named() -> None:
    door.DiffusionPipeline.from_pretrained(
        FOLDER, use_safetensors=True, local_files_only=True, revision="main"
    )
    with pytest.raises(OptionError, match="custom_pipeline"):
        door.DiffusionPipeline.from_pretrained(FOLDER, custom_pipeline="x")
    with pytest.raises(WeightsError):
        door.DiffusionPipeline.from_pretrained("ali-vilab/text-to-video-ms-1.7b-legacy")


@pytest.mark.parametrize(
    "frames", [np.full((2, 16, 16, 3), 100, np.uint8), np.full((2, 16, 16, 3), 100.6 / 255)]
)
def test_export_keeps_uint8_and_cuts_off_floats(frames: np.ndarray, tmp_path: Path) -> None:
    for form in (frames, list(frames), frames[None]):
        clip = read_video(door.export_to_video(form, tmp_path / "png")).frames
        assert (clip == 100).all()


def test_the_foreign_module_path_of_export_to_video_works(tmp_path: Path) -> None:
    from kinescribe.compat.diffusers.utils import export_to_gif, export_to_video

    assert export_to_video is door.export_to_video
    frames = np.zeros((2, 16, 16, 3), np.uint8)
    assert Path(export_to_gif(list(frames), tmp_path / "clip.gif")).is_file()
