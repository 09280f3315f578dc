"""Loading: one call for every layout, strict, with one line for everything that can be wrong."""

import gc
import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import load_file, save_file

from goldens import folder
from kinescribe.checkpoints import load
from kinescribe.checkpoints.load import load_components, locate
from kinescribe.components import Components
from kinescribe.errors import OptionError, WeightsError

Copy = Callable[..., Path]
FOLDER = folder("text_to_video")
UNET = "unet/diffusion_pytorch_model.safetensors"


def state(components: Components) -> dict[str, torch.Tensor]:
    networks = {"unet": components.unet, "vae": components.vae, "text": components.text}
    return {f"{name}.{key}": t for name, net in networks.items() for key, t in net.state_dict().items()}


def change(path: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Rewrite a weight file after ``edit`` has changed its tensors in place."""
    tensors = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    edit(tensors)
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)


@pytest.mark.parametrize(("layout", "variant"), [("diffusers", None), ("diffusers", "fp16")])
def test_every_layout_gives_the_same_network(layout: str, variant: str | None) -> None:
    one = load_components(FOLDER / "modelscope", dtype=torch.float32)
    other = load_components(FOLDER / layout, dtype=torch.float32, variant=variant)
    ours, theirs = state(one), state(other)
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert one.model_hash == other.model_hash
    assert one.unet.config == other.unet.config
    assert one.vae.config == other.vae.config
    assert one.text.config == other.text.config
    assert one.schedule == other.schedule


def test_all_parts_get_one_dtype_even_where_files_differ() -> None:
    # the plain files of this folder hold float32 but for the autoencoder, as published fine-tunes do
    assert {t.dtype for t in state(load_components(FOLDER / "diffusers")).values()} == {torch.float32}
    half = load_components(FOLDER / "diffusers", dtype=torch.bfloat16)
    assert {t.dtype for t in state(half).values()} == {torch.bfloat16}


def test_networks_come_ready_to_use() -> None:
    components = load_components(FOLDER / "modelscope")
    for network in (components.unet, components.vae, components.text):
        assert not network.training
        assert not any(p.requires_grad or p.is_meta for p in network.parameters())


def test_a_loaded_model_does_not_need_its_files_any_more(copy: Copy) -> None:
    folder = copy("diffusers")
    components = load_components(folder)
    before = {key: t.clone() for key, t in state(components).items()}
    for path in folder.rglob("*.safetensors"):
        path.write_bytes(b"")
    assert all(torch.equal(t, before[key]) for key, t in state(components).items())


def test_a_missing_key_is_an_error(copy: Copy) -> None:
    folder = copy("diffusers")
    change(folder / UNET, lambda tensors: tensors.pop("conv_in.bias"))
    with pytest.raises(WeightsError, match=r"1 missing \(conv_in\.bias\)"):
        load_components(folder)


def test_unknown_key_is_an_error(copy: Copy) -> None:
    folder = copy("diffusers")
    change(folder / UNET, lambda tensors: tensors.update(extra=torch.zeros(1)))
    with pytest.raises(WeightsError, match=r"diffusion_pytorch_model\.safetensors: 1 unexpected \(extra\)"):
        load_components(folder)


def test_a_wrong_shape_names_the_key_and_both_shapes(copy: Copy) -> None:
    folder = copy("modelscope")
    path = folder / "text2video_pytorch_model.pth"
    change(path, lambda tensors: tensors.update({"out.2.weight": torch.zeros(5, 32, 3, 3)}))
    with pytest.raises(WeightsError, match=r"out\.2\.weight is \(5, 32, 3, 3\), not \(4, 32, 3, 3\)"):
        load_components(folder)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("layout", ["modelscope", "diffusers"])
def test_numbers_that_are_not_finite_name_file_and_key(copy: Copy, layout: str, bad: float) -> None:
    folder = copy(layout)
    path = folder / (UNET if layout == "diffusers" else "text2video_pytorch_model.pth")
    key = "conv_in.weight" if layout == "diffusers" else "input_blocks.0.0.weight"
    change(path, lambda tensors: tensors[key].view(-1)[7:8].fill_(bad))
    with pytest.raises(WeightsError, match=rf"{path.name}: {key} holds numbers that are not finite"):
        load_components(folder)


def test_numbers_too_large_for_the_dtype_tell_which_one_fits(copy: Copy) -> None:
    folder = copy("diffusers")
    change(folder / UNET, lambda tensors: tensors["conv_in.weight"].view(-1)[:1].fill_(1e6))
    load_components(folder, dtype=torch.bfloat16)
    with pytest.raises(WeightsError, match="too large for float16: load it in float32 or bfloat16"):
        load_components(folder, dtype=torch.float16)


@pytest.mark.parametrize(
    "name", [UNET, "vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"]
)
def test_deleting_a_weight_file_is_named(copy: Copy, name: str) -> None:
    folder = copy("diffusers")
    for path in (folder / name).parent.glob("*.safetensors"):
        path.unlink()
    with pytest.raises(WeightsError, match=name):
        load_components(folder)


@pytest.mark.parametrize("cut", [0, 7, 1000, -1])
def test_a_cut_weight_file_is_one_line(copy: Copy, cut: int) -> None:
    folder = copy("diffusers")
    path = folder / UNET
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(WeightsError, match="fetch it again") as caught:
        load_components(folder)
    assert "\n" not in str(caught.value)


def test_a_git_lfs_pointer_is_called_so(copy: Copy) -> None:
    folder = copy("modelscope")
    (folder / "VQGAN_autoencoder.pth").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:1\n"
    )
    with pytest.raises(WeightsError, match=r"VQGAN_autoencoder\.pth: a Git LFS pointer"):
        load_components(folder)


def test_a_name_twice_in_the_header_is_refused(copy: Copy) -> None:
    folder = copy("diffusers")
    path = folder / UNET
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    header = raw[8 : 8 + length].decode()
    one = json.dumps(json.loads(header)["conv_in.bias"])
    doubled = ('{"conv_in.bias":' + one + "," + header.lstrip()[1:]).encode()
    path.write_bytes(struct.pack("<Q", len(doubled)) + doubled + raw[8 + length :])
    with pytest.raises(WeightsError, match="'conv_in.bias' twice"):
        load_components(folder)


def test_swapped_files_are_noticed(copy: Copy) -> None:
    folder = copy("diffusers")
    (folder / "vae" / "diffusion_pytorch_model.safetensors").write_bytes((folder / UNET).read_bytes())
    with pytest.raises(WeightsError, match="belongs to another model"):
        load_components(folder)


@pytest.mark.parametrize(
    ("names", "family"),
    [
        (["local_image_concat.0.weight", "context_embedding_global.0.weight"], "I2VGen-XL"),
        (["fps_embedding.0.weight", "context_embedding.0.weight"], "Image-to-Video"),
        (["depth_embedding.0.weight", "pre_image_condition.0.weight"], "VideoComposer"),
        (["asim_embedding.0.weight"], "HiGen"),
        (["middle_block.1.transformer_blocks.0.attn1.to_q.lora_up.weight"], "adapter"),
    ],
)
def test_weights_of_a_relative_are_recognised(copy: Copy, names: list[str], family: str) -> None:
    folder = copy("modelscope")
    extra = {name: torch.zeros(1) for name in names}
    change(folder / "text2video_pytorch_model.pth", lambda tensors: tensors.update(extra))
    with pytest.raises(WeightsError, match=f"looks like .*{family}"):
        load_components(folder)


def test_more_input_channels_are_called_so(copy: Copy) -> None:
    folder = copy("modelscope")
    wide = {"input_blocks.0.0.weight": torch.zeros(32, 12, 3, 3)}
    change(folder / "text2video_pytorch_model.pth", lambda tensors: tensors.update(wide))
    with pytest.raises(WeightsError, match="a model of 12 input channels"):
        load_components(folder)


def test_a_folder_for_a_task_we_do_not_know_is_refused(copy: Copy) -> None:
    folder = copy("modelscope")
    path = folder / "configuration.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"task": "image-captioning"}))
    with pytest.raises(WeightsError, match="for the task 'image-captioning', not for one of text-to-video"):
        load_components(folder)


@pytest.mark.parametrize("name", ["StableDiffusionPipeline", "AnimateDiffPipeline"])
def test_a_folder_of_another_pipeline_is_refused(copy: Copy, name: str) -> None:
    folder = copy("diffusers")
    path = folder / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"_class_name": name}))
    with pytest.raises(WeightsError, match=f"a folder of {name}"):
        load_components(folder)


def test_a_tokenizer_larger_than_the_text_tower_is_refused(copy: Copy) -> None:
    folder = copy("modelscope")
    path = folder / "configuration.json"
    table = json.loads(path.read_text())
    del table["model"]["extension"]["clip_bpe"]  # then CLIP's 49,408 entries are meant
    path.write_text(json.dumps(table))
    with pytest.raises(WeightsError, match="49408 entries, its text tower 640"):
        load_components(folder)


def test_a_folder_that_lacks_parts_is_completed_from_another(copy: Copy) -> None:
    folder = copy("modelscope")
    (folder / "VQGAN_autoencoder.pth").unlink()
    (folder / "open_clip_pytorch_model.bin").unlink()
    with pytest.raises(WeightsError, match="VQGAN_autoencoder.pth.*open_clip_pytorch_model.bin.*--base"):
        load_components(folder)
    whole = load_components(folder, base=FOLDER / "diffusers")
    assert whole.model_hash == load_components(FOLDER / "modelscope").model_hash


def test_the_embedded_model_without_weights_is_a_clear_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("kinescribe.checkpoints.store._ASSETS", tmp_path)
    with pytest.raises(WeightsError, match="the embedded model papercut has no weights in this installation"):
        load_components("papercut")


def test_a_known_model_that_is_not_here_names_the_command() -> None:
    with pytest.raises(WeightsError, match="kinescribe models pull zeroscope-v2-576w"):
        load_components("cerspense/zeroscope_v2_576w")


def test_an_unknown_name_lists_the_nearest() -> None:
    with pytest.raises(OptionError, match="zeroscope-v2-xl"):
        load_components("zeroscop-xl")


@pytest.mark.parametrize("place", [Path("/nowhere/model"), "/nowhere/model", "./nowhere", "~/no/where"])
def test_a_missing_path_is_no_name(place: str | Path) -> None:
    with pytest.raises(WeightsError, match="no such file or folder"):
        load_components(place)


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_not_the_current_folder(name: str) -> None:
    with pytest.raises(OptionError, match="name is empty"):
        load_components(name)


def test_a_pulled_model_is_found_by_name(home: Path) -> None:
    folder = home / "models" / "potat1"
    folder.mkdir(parents=True)
    assert locate("potat1") == locate("camenduru/potat1") == folder


def test_a_stranger_in_the_store_is_found_by_name(home: Path) -> None:
    folder = home / "models" / "my-own"
    folder.mkdir(parents=True)
    assert locate("my-own") == folder
    for name in ("../models/my-own", "my-own/../my-own"):
        with pytest.raises((OptionError, WeightsError)):
            locate(name)


def test_a_local_path_wakes_no_hub_and_no_socket() -> None:
    code = (
        "import socket, sys\n"
        "def refuse(*args, **kwargs): raise AssertionError('network')\n"
        "socket.socket.connect = refuse; socket.getaddrinfo = refuse\n"
        "from kinescribe.checkpoints.load import load_components\n"
        f"load_components({str(FOLDER / 'diffusers')!r})\n"
        "loud = {'huggingface_hub', 'modelscope_hub', 'requests', 'httpx', 'kinescribe.checkpoints.hub',"
        " 'diffusers', 'transformers'}\n"
        "assert not loud & set(sys.modules), loud & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("layout", ["diffusers", "modelscope"])
def test_by_way_of_buffers_the_same_network_arrives(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = load_components(FOLDER / layout)
    monkeypatch.setattr(torch.cuda, "Event", Mock)
    monkeypatch.setattr(torch.cuda, "current_stream", Mock())
    monkeypatch.setattr(load, "nullcontext", lambda read: load.uploaded(read, torch.device("cpu")))
    other = load_components(FOLDER / layout)
    ours, theirs = state(plain), state(other)
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    # nothing keeps the memory in which it came along with others
    assert all(t.untyped_storage().nbytes() == t.nbytes for t in theirs.values())
    assert plain.model_hash == other.model_hash


def test_garbage_is_searched_for_again_once_a_model_is_loaded_or_refused(tmp_path: Path) -> None:
    load_components(FOLDER / "diffusers")
    assert gc.isenabled()
    with pytest.raises(WeightsError):
        load_components(tmp_path)
    assert gc.isenabled()
    gc.disable()
    try:
        load_components(FOLDER / "diffusers")
        assert not gc.isenabled()
    finally:
        gc.enable()
