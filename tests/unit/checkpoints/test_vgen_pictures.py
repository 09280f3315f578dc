"""VGen's own files of I2VGen-XL and SR600, and the bare files of ModelScope's two stages."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from goldens import folder
from kinescribe.catalog import CATALOG
from kinescribe.checkpoints.check import check_folder
from kinescribe.checkpoints.detect import describe, layout_of
from kinescribe.checkpoints.load import load_components
from kinescribe.checkpoints.modelscope import I2VGEN_XL, SCHEDULES, UNET
from kinescribe.errors import WeightsError
from kinescribe.models.skip_filter import SR600, FourierSkipFilter
from kinescribe.models.unet import UNet
from vgen_folder import UNET_FILE, write_vgen

Copy = Callable[..., Path]
REFERENCE = folder("image_and_video_to_video/i2vgen-xl")
SR600_FILE, VIDEO_UNET = "sr_step_110000_ema.pth", "non_ema_0035000.pth"


@pytest.fixture
def xl(tmp_path: Path) -> Path:
    return write_vgen(REFERENCE, tmp_path / "xl")


def filters(unet: UNet) -> set[object]:
    return {level.skip_filter for level in unet.up}  # type: ignore[union-attr]


def test_the_bare_file_alone_means_the_published_sizes(tmp_path: Path) -> None:
    (tmp_path / UNET_FILE).touch()
    source = describe(tmp_path / UNET_FILE, variant=None, spec=None)
    assert source.conditions is not None and source.conditions.config == I2VGEN_XL
    assert source.unet.config.in_channels == 2 * UNET.in_channels  # type: ignore[union-attr]
    parts = (source.unet, source.conditions)
    count = sum(torch.Size(shape).numel() for part in parts for shape in part.keymap.shapes.values())
    assert count == 1_420_469_224
    assert sum(len(part.keymap.foreign_shapes) for part in parts) == 1509
    assert source.spec is CATALOG["i2vgen-xl"]
    assert source.schedule == SCHEDULES["cosine-velocity"]


def test_the_same_numbers_as_the_diffusers_folder_added_twice(xl: Path) -> None:
    ours, theirs = load_components(xl), load_components(REFERENCE)
    assert ours.model_hash == theirs.model_hash
    assert ours.conditions is not None and theirs.conditions is not None
    assert (ours.conditions.config.local_additions, theirs.conditions.config.local_additions) == (2, 1)
    assert (ours.schedule.final, theirs.schedule.final) == ("first", "clean")


def test_a_hub_folder_with_its_files_in_models_is_found(xl: Path, tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    shutil.move(xl, tmp_path / "hub" / "models")
    assert layout_of(tmp_path / "hub") == "vgen"
    assert load_components(tmp_path / "hub").spec.name == "i2vgen-xl"
    report = check_folder(tmp_path / "hub")
    assert report.ok and report.kind == "image-to-video"
    assert f"models/{UNET_FILE}" in {item.name for item in report.items}


def test_a_configuration_that_names_no_file_does_not_hide_vgens(tmp_path: Path) -> None:
    (tmp_path / UNET_FILE).touch()
    table = {"framework": "pytorch", "task": "image-to-video", "model": {"type": "i2vgen"}}
    for document in (table, {"framework": "pytorch", "task": "image-to-video"}):
        (tmp_path / "configuration.json").write_text(json.dumps(document))
        assert layout_of(tmp_path) == "vgen"
    (tmp_path / "configuration.json").write_text("{")
    assert layout_of(tmp_path) == "modelscope"


@pytest.mark.parametrize("wrapped", [True, False])
def test_sr600_is_read_as_it_is_or_wrapped(copy: Copy, wrapped: bool) -> None:
    path = copy("v2v")
    state = torch.load(path / VIDEO_UNET, weights_only=True)["state_dict"]
    torch.save({"state_dict": state, "step": 110000} if wrapped else state, path / SR600_FILE)
    parts = load_components(path / SR600_FILE)
    assert parts.spec is CATALOG["vgen-sr600"]
    assert parts.unet.config.row_padding == 2
    assert filters(parts.unet) == {FourierSkipFilter(SR600)}
    plain = load_components(path)
    assert filters(plain.unet) == {None}
    assert parts.model_hash == plain.model_hash


def test_the_same_tensors_are_what_the_name_says(copy: Copy) -> None:
    path = copy("v2v")
    (path / VIDEO_UNET).rename(path / "weights.pth")
    with pytest.raises(
        WeightsError, match="modelscope-1.7b.*i2vgen-xl.*modelscope-video-to-video.*vgen-sr600.*--as"
    ):
        load_components(path / "weights.pth")
    stage = load_components(path / "weights.pth", as_model="modelscope-video-to-video")
    assert (stage.spec.kind, stage.unet.config.row_padding) == ("video-to-video", 2)
    # beside the configuration of another task a text-to-video model would be a slip
    with pytest.raises(
        WeightsError, match="'video-to-video', but modelscope-1.7b is for text-to-video.*--base"
    ):
        load_components(path / "weights.pth", as_model="modelscope-1.7b")


def test_published_names_of_the_two_stages_are_known_without_a_configuration(tmp_path: Path) -> None:
    for name, row in (
        (VIDEO_UNET, "modelscope-video-to-video"),
        ("base_03_alldata_fps_v_80g_0789000.pth", "modelscope-image-to-video"),
    ):
        (tmp_path / name).touch()
        assert describe(tmp_path / name, variant=None, spec=None).spec is CATALOG[row]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("modelscope-image-to-video", "looks like I2VGen-XL .image-to-video., not ModelScope Image-to-Video"),
        ("vgen-t2v", "looks like I2VGen-XL .image-to-video., not a text-to-video model"),
        ("vgen-sr600", "looks like I2VGen-XL .image-to-video., not a video-to-video model"),
    ],
)
def test_a_wrong_name_for_the_weights_is_answered_with_the_right_one(xl: Path, row: str, said: str) -> None:
    document = json.loads((xl / "configuration.json").read_text())
    del document["task"]
    (xl / "configuration.json").write_text(json.dumps(document))
    with pytest.raises(WeightsError, match=said):
        load_components(xl / UNET_FILE, as_model=row)


def test_parts_that_are_not_there_come_from_a_diffusers_folder(xl: Path) -> None:
    (xl / "open_clip_pytorch_model.bin").unlink()
    (xl / "v2-1_512-ema-pruned.ckpt").unlink()
    with pytest.raises(WeightsError, match="VQGAN_autoencoder.pth, .*open_clip.*folder of i2vgen-xl.*--base"):
        load_components(xl)
    whole = load_components(xl, base=REFERENCE)
    assert whole.model_hash == load_components(REFERENCE).model_hash
    assert whole.tokenizer is not None and whole.tokenizer.padded_with_end


def test_every_tensor_of_every_file_is_accounted_for(xl: Path) -> None:
    source = describe(xl, variant=None, spec=None)
    for files in {part.files for part in source.parts}:
        parts = [part for part in source.parts if part.files == files]
        weights, _ = parts[0].open()
        used = [name for part in parts for name in part.names(weights)[0].values()]
        assert len(used) == len(set(used))
        kept = set(weights.shapes) - set(used)
        # the last text layer never runs; in the fixture's file there is nothing else that is not needed
        assert all(".resblocks.2." in name for name in kept)
