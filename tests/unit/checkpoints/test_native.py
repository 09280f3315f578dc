"""Our own layout: exact, self-describing, guarded by sums, whole or absent."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from goldens import folder
from kinescribe.catalog import CATALOG
from kinescribe.checkpoints.load import load_components
from kinescribe.checkpoints.native import describe_native, save_native
from kinescribe.components import Components
from kinescribe.errors import NumbersError, OptionError, WeightsError
from kinescribe.models.tokenizer import Tokenizer
from kinescribe.models.unet import UNet

FOLDER = folder("text_to_video/modelscope")


def save(folder: Path, components: Components, **options: object) -> Path:
    return save_native(
        folder,
        unet=components.unet,
        vae=components.vae,
        text=components.text,
        tokenizer=components.tokenizer,
        schedule=components.schedule,
        spec=components.spec,
        **options,  # type: ignore[arg-type]
    )


def test_a_model_comes_back_as_it_was(tmp_path: Path, components: Components) -> None:
    schedule = replace(components.schedule, kind="cosine", prediction="velocity", spacing="trailing")
    components.schedule = schedule
    components.spec = replace(components.spec, embedded=False)  # which a folder does not say of itself
    back = load_components(save(tmp_path / "m", components))
    for name in ("unet", "vae", "text"):
        ours, theirs = getattr(components, name), getattr(back, name)
        assert ours.config == theirs.config
        assert all(torch.equal(t, theirs.state_dict()[key]) for key, t in ours.state_dict().items())
    assert back.schedule == schedule
    assert back.spec == components.spec
    assert back.tokenizer.keep == components.tokenizer.keep
    words = ["a red thing", "!"]
    assert torch.equal(back.tokenizer(words).ids, components.tokenizer(words).ids)


def test_a_foreign_vocabulary_is_kept_in_the_folder(tmp_path: Path) -> None:
    components = load_components(FOLDER)
    folder = save(tmp_path / "m", components)
    assert (folder / "tokenizer.json").is_file()
    back = load_components(folder)
    assert torch.equal(back.tokenizer(["A panda"]).ids, components.tokenizer(["A panda"]).ids)


def test_clips_vocabulary_is_not_written_again(tmp_path: Path, components: Components) -> None:
    components.tokenizer = Tokenizer.clip(context_length=12, keep=components.tokenizer.keep)
    folder = save(tmp_path / "m", components)
    assert sorted(path.name for path in folder.iterdir()) == [
        "kinescribe.json",
        "text.safetensors",
        "unet.safetensors",
        "vae.safetensors",
    ]


def test_row_padding_is_kept_and_is_one_in_folders_of_before_it(
    tmp_path: Path, components: Components
) -> None:
    components.unet = UNet(replace(components.unet.config, row_padding=2))
    folder = save(tmp_path / "m", components)
    assert load_components(folder).unet.config.row_padding == 2
    document = json.loads((folder / "kinescribe.json").read_text())
    del document["unet"]["row_padding"]
    (folder / "kinescribe.json").write_text(json.dumps(document))
    assert load_components(folder).unet.config.row_padding == 1


def test_shifted_times_are_kept_and_even_ones_not_told(tmp_path: Path, components: Components) -> None:
    even = json.loads((save(tmp_path / "even", components) / "kinescribe.json").read_text())
    assert "shift" not in even["schedule"]
    components.schedule = replace(components.schedule, shift=3.0)
    assert load_components(save(tmp_path / "m", components)).schedule == components.schedule


def test_numbers_can_be_halved(tmp_path: Path, components: Components) -> None:
    back = load_components(save(tmp_path / "m", components, dtype=torch.float16))
    assert back.dtype == torch.float16
    assert torch.equal(back.unet.head.weight, components.unet.head.weight.half())


@pytest.mark.parametrize("name", ["unet.safetensors", "vae.safetensors", "text.safetensors"])
@pytest.mark.parametrize("place", [0.1, 0.6, 0.999])
def test_a_flipped_byte_is_noticed(tmp_path: Path, components: Components, name: str, place: float) -> None:
    folder = save(tmp_path / "m", components)
    load_components(folder)
    path = folder / name
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=rf"{name}: changed"):
        load_components(folder)


def test_a_missing_file_is_named(tmp_path: Path, components: Components) -> None:
    folder = save(tmp_path / "m", components)
    (folder / "vae.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"vae\.safetensors: missing"):
        load_components(folder)


def test_an_existing_folder_is_not_overwritten_by_chance(tmp_path: Path, components: Components) -> None:
    folder = save(tmp_path / "m", components)
    with pytest.raises(OptionError, match="exists already"):
        save(folder, components)
    torch.nn.init.ones_(components.unet.head.bias)
    save(folder, components, overwrite=True)
    assert load_components(folder).unet.head.bias.sum() == 4
    assert [path.name for path in tmp_path.iterdir() if "m" in path.name.split(".")] == ["m"]


def test_bad_numbers_are_not_saved(tmp_path: Path, components: Components) -> None:
    components.vae.quantise.bias[0] = float("nan")
    with pytest.raises(NumbersError, match=r"quantise\.bias"):
        save(tmp_path / "m", components)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: d.update(format=2),
        lambda d: d.pop("unet"),
        lambda d: d["unet"].pop("width"),
        lambda d: d["unet"].update(width="16"),
        lambda d: d["unet"].update(surprise=1),
        lambda d: d["unet"].update(multipliers=[1, "x"]),
        lambda d: d["schedule"].update(kind="square"),
        lambda d: d["spec"]["defaults"].update(steps=None),
        lambda d: d["tokenizer"].update(file="../../etc/passwd", keep=None),
        lambda d: d["tokenizer"].update(keep="abc"),
        lambda d: d.update(files={"../x": {"bytes": 1, "sha256": "0"}}),
        lambda d: d.update(files=[]),
        lambda d: d.update(files={"unet.safetensors": 3}),
    ],
)
def test_a_spoilt_configuration_is_one_line(tmp_path: Path, components: Components, edit: object) -> None:
    folder = save(tmp_path / "m", components)
    path = folder / "kinescribe.json"
    document = json.loads(path.read_text())
    edit(document)  # type: ignore[operator]
    path.write_text(json.dumps(document))
    with pytest.raises(WeightsError) as caught:
        load_components(folder)
    assert "\n" not in str(caught.value)


def test_a_model_of_the_catalog_keeps_its_sources(tmp_path: Path, components: Components) -> None:
    components.spec = CATALOG["zeroscope-v2-576w"]
    folder = save(tmp_path / "m", components)
    assert describe_native(folder).spec == CATALOG["zeroscope-v2-576w"]


def test_the_embedded_row_is_recognised_from_its_folder(tmp_path: Path, components: Components) -> None:
    components.spec = CATALOG["papercut"]
    spec = describe_native(save(tmp_path / "m", components)).spec
    assert spec.name == "papercut"
    assert spec.defaults == CATALOG["papercut"].defaults
