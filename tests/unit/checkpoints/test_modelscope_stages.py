"""ModelScope's Image-to-Video and Video-to-Video folders: as published, in their variants, and swapped."""

import json
import math
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from goldens import folder
from kinescribe.catalog import CATALOG
from kinescribe.checkpoints.detect import describe
from kinescribe.checkpoints.load import load_components
from kinescribe.checkpoints.modelscope import IMAGE_TO_VIDEO, TEXT, UNET, VAE, VIT_H
from kinescribe.checkpoints.source import Source
from kinescribe.errors import WeightsError

Copy = Callable[..., Path]
IMAGE_UNET, VIDEO_UNET = "base_03_alldata_fps_v_80g_0789000.pth", "non_ema_0035000.pth"
CLIP, LIGHTNING = "open_clip_pytorch_model.bin", "v2-1_512-ema-pruned.ckpt"
RUN = {"batch_size": 1, "target_fps": 8, "max_frames": 32}
PUBLISHED: dict[str, dict[str, Any]] = {
    "image-to-video": {
        "framework": "pytorch",
        "task": "image-to-video",
        "model": {
            "type": "image-to-video-model",
            "model_args": {
                "ckpt_clip": CLIP, "ckpt_unet": IMAGE_UNET, "ckpt_autoencoder": LIGHTNING, "seed": 666,
            },
            "model_cfg": {**RUN, "latent_hei": 32, "latent_wid": 56},
        },
        "pipeline": {"type": "image-to-video-task-pipeline"},
    },
    "video-to-video": {
        "framework": "pytorch",
        "task": "video-to-video",
        "model": {
            "type": "video-to-video-model",
            "model_args": {
                "ckpt_clip": CLIP, "ckpt_unet": VIDEO_UNET, "ckpt_autoencoder": LIGHTNING, "seed": 666,
                "solver_mode": "fast",
            },
            "model_cfg": {**RUN, "latent_hei": 90, "latent_wid": 160},
        },
        "pipeline": {"type": "video-to-video-pipeline"},
    },
}  # fmt: skip


def published(tmp_path: Path, task: str, name: str = "m") -> Source:
    (tmp_path / name).mkdir()
    (tmp_path / name / "configuration.json").write_text(json.dumps(PUBLISHED[task]))
    return describe(tmp_path / name, variant=None, spec=None)


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads((path / "configuration.json").read_text())
    change(document)
    (path / "configuration.json").write_text(json.dumps(document))


def numbers(source: Source, *names: str) -> int:
    return sum(
        math.prod(shape)
        for part in source.parts
        if part.name in names
        for shape in part.keymap.shapes.values()
    )


def test_the_published_image_to_video_folder_has_the_published_sizes(tmp_path: Path) -> None:
    source = published(tmp_path, "image-to-video", "MS-Image2Video")
    assert source.unet.config == UNET
    assert source.conditions is not None and source.conditions.config == IMAGE_TO_VIDEO
    assert source.vision is not None and source.vision.config == VIT_H
    assert source.vae.config == VAE
    assert source.text is None and source.tokenizer is None
    assert numbers(source, "unet", "conditions") == 1_419_843_396
    assert numbers(source, "vision") == 632_076_800
    assert sum(len(part.keymap.foreign_shapes) for part in (source.unet, source.conditions)) == 1488
    assert source.spec == CATALOG["modelscope-image-to-video"]
    assert (source.schedule.kind, source.schedule.prediction) == ("scaled_linear", "velocity")
    assert {Path(part.wanted).name for part in source.parts} == {IMAGE_UNET, CLIP, LIGHTNING}


def test_the_published_video_to_video_folder_has_the_published_sizes(tmp_path: Path) -> None:
    source = published(tmp_path, "video-to-video", "Video-to-Video")
    assert source.unet.config.row_padding == 2  # type: ignore[union-attr]
    assert source.text is not None and source.text.config == TEXT
    assert source.tokenizer is not None and source.tokenizer.load().vocabulary == 49408
    assert source.conditions is None and source.vision is None
    assert numbers(source, "unet") == 1_411_233_860
    assert source.spec == CATALOG["modelscope-video-to-video"]
    assert source.schedule.kind == "logsnr_cosine_interpolated"
    assert {Path(part.wanted).name for part in source.parts} == {VIDEO_UNET, CLIP, LIGHTNING}


def test_a_folder_of_another_name_keeps_what_the_row_says(tmp_path: Path) -> None:
    spec = published(tmp_path, "video-to-video", "mine").spec
    row = CATALOG["modelscope-video-to-video"]
    assert (spec.name, spec.licence[:7], spec.sources) == ("mine", "unknown", ())
    assert (spec.defaults, spec.refinement, spec.grid, spec.row_remainder) == (
        row.defaults,
        row.refinement,
        64,
        16,
    )


def test_runs_follow_the_configuration(copy: Copy) -> None:
    image = load_components(copy("i2v"))
    assert image.text is None and image.tokenizer is None
    defaults, picture = image.spec.defaults, image.spec.picture
    assert (defaults.frames, defaults.width, defaults.height, defaults.steps) == (4, 64, 64, 5)
    assert picture is not None and (picture.condition_fps, picture.offset_noise) == (8, 0.1)
    clip = copy("v2v")
    fast = load_components(clip).spec
    assert (fast.defaults.width, fast.defaults.height, fast.grid, fast.row_remainder) == (64, 48, 32, 16)
    assert (fast.defaults.sampler, fast.defaults.steps) == ("dpmpp_2m_sde", 4)
    edit(clip, lambda d: d["model"]["model_args"].update(solver_mode="normal"))
    slow = load_components(clip).spec
    assert (slow.defaults.sampler, slow.defaults.steps) == ("heun", 3)


def test_the_slow_solver_of_the_published_folder_takes_fifty_steps(tmp_path: Path) -> None:
    published(tmp_path, "video-to-video")
    edit(tmp_path / "m", lambda d: d["model"]["model_args"].update(solver_mode="heun"))
    defaults = describe(tmp_path / "m", variant=None, spec=None).spec.defaults
    assert (defaults.sampler, defaults.steps) == ("heun", 50)


@pytest.mark.parametrize("task", PUBLISHED)
@pytest.mark.parametrize("value", [0, -1, "32", True, 10**9, None])
def test_a_frame_count_that_is_none_is_refused(tmp_path: Path, task: str, value: object) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "configuration.json").write_text(json.dumps(PUBLISHED[task]))
    edit(tmp_path / "m", lambda d: d["model"]["model_cfg"].update(max_frames=value))
    with pytest.raises(WeightsError, match="max_frames is"):
        describe(tmp_path / "m", variant=None, spec=None)


def test_a_task_that_contradicts_the_model_is_refused(copy: Copy) -> None:
    path = copy("i2v")
    edit(path, lambda d: d.update(task="video-to-video"))
    with pytest.raises(WeightsError, match="'video-to-video' but its model 'image-to-video-model'"):
        load_components(path)


@pytest.mark.parametrize("key", ["ckpt_unet", "ckpt_clip", "ckpt_autoencoder"])
def test_file_names_are_read_from_the_configuration_and_stay_inside(copy: Copy, key: str) -> None:
    path = copy("i2v")
    names = json.loads((path / "configuration.json").read_text())["model"]["model_args"]
    (path / names[key]).rename(path / "renamed.bin")
    edit(path, lambda d: d["model"]["model_args"].update({key: "renamed.bin"}))
    assert (
        load_components(path).model_hash == load_components(folder("image_and_video_to_video/i2v")).model_hash
    )
    edit(path, lambda d: d["model"]["model_args"].update({key: "../renamed.bin"}))
    with pytest.raises(WeightsError, match="only plain names"):
        load_components(path)


def spoil(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    content = torch.load(path, weights_only=True)
    change(content.get("state_dict", content))
    torch.save(content, path)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (IMAGE_UNET, "1 unexpected (stranger.weight)"),
        (CLIP, "1 unexpected (stranger.weight)"),
    ],
)
def test_a_tensor_that_no_part_knows_is_an_error(copy: Copy, file: str, said: str) -> None:
    path = copy("i2v")
    spoil(path / file, lambda state: state.update({"stranger.weight": torch.zeros(1)}))
    with pytest.raises(WeightsError) as caught:
        load_components(path)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        (IMAGE_UNET, "context_embedding.2.bias"),
        (IMAGE_UNET, "time_embed.0.weight"),
        (CLIP, "visual.proj"),
        (LIGHTNING, "first_stage_model.quant_conv.bias"),
    ],
)
def test_a_tensor_that_is_missing_is_named(copy: Copy, file: str, name: str) -> None:
    path = copy("i2v")
    spoil(path / file, lambda state: state.pop(name))
    with pytest.raises(WeightsError, match=f"{file}: 1 missing .{name.removeprefix('first_stage_model.')}"):
        load_components(path)


def test_the_second_stage_reads_the_text_tower_of_the_same_whole_clip(copy: Copy) -> None:
    path = copy("v2v")
    spoil(path / CLIP, lambda state: state.pop("ln_final.bias"))
    with pytest.raises(WeightsError, match="1 missing .ln_final.bias"):
        load_components(path)


def test_a_text_to_video_unet_in_an_image_to_video_folder_is_called_so(copy: Copy) -> None:
    path = copy("i2v")

    def strip(state: dict[str, torch.Tensor]) -> None:
        for name in [name for name in state if name.startswith(("fps_embedding", "context_embedding"))]:
            del state[name]

    spoil(path / IMAGE_UNET, strip)
    with pytest.raises(
        WeightsError, match="looks like a text-to-video or video-to-video UNet, not ModelScope Im"
    ):
        load_components(path)


def test_an_image_to_video_unet_in_a_video_to_video_folder_is_called_so(copy: Copy) -> None:
    path = copy("v2v")
    other = torch.load(copy("i2v") / IMAGE_UNET, weights_only=True)
    torch.save(other, path / VIDEO_UNET)
    with pytest.raises(
        WeightsError, match="looks like ModelScope Image-to-Video, not a video-to-video model"
    ):
        load_components(path)


def lightning_class(name: str) -> Any:
    """A class of another package, which is there while it is pickled only."""
    module, _, cls = name.rpartition(".")
    parts = module.split(".")
    for i in range(1, len(parts) + 1):
        sys.modules.setdefault(".".join(parts[:i]), types.ModuleType(".".join(parts[:i])))
    kind = type(cls, (), {"__module__": module})
    setattr(sys.modules[module], cls, kind)
    return kind


def test_the_autoencoder_is_taken_out_of_a_whole_lightning_checkpoint(copy: Copy) -> None:
    path = copy("i2v")
    state = torch.load(path / LIGHTNING, weights_only=True)["state_dict"]
    assert {"model.diffusion_model.time_embed.0.weight", "cond_stage_model.model.ln_final.weight"} < set(
        state
    )
    kind = lightning_class("pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint")
    # What the published file holds beside its weights.
    content = {
        "epoch": 3,
        "global_step": 110000,
        "state_dict": state | {"model_ema.num_updates": torch.tensor(7, dtype=torch.int32)},
        "callbacks": {kind: {"monitor": "val/loss", "best_model_score": np.float64(0.1)}},
        "optimizer_states": [],
        "lr_schedulers": [],
    }
    torch.save(content, path / LIGHTNING)
    for module in [module for module in sys.modules if module.startswith("pytorch_lightning")]:
        del sys.modules[module]
    assert (
        load_components(path).model_hash == load_components(folder("image_and_video_to_video/i2v")).model_hash
    )
    assert "pytorch_lightning" not in sys.modules
