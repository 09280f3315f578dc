"""A tuned model as a LoRA beside the embedded one: what it holds and takes, and that it loads to the same numbers."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kinescribe.catalog import CATALOG
from kinescribe.checkpoints.check import check_folder
from kinescribe.checkpoints.convert import convert
from kinescribe.checkpoints.load import load_components, locate
from kinescribe.checkpoints.lora_write import LORA_FILE
from kinescribe.checkpoints.native import save_native
from kinescribe.errors import DataError, WeightsError
from kinescribe.models.unet import UNet
from kinescribe.train.low_rank import kept_share, low_rank, write_low_rank

BASE = "papercut"


def weights(seed: int = 0) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    shapes = {"a.weight": (6, 4), "b.weight": (5, 3, 3, 1), "b.bias": (5,)}
    return {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}


def product(sides: tuple[Tensor, Tensor], like: Tensor) -> Tensor:
    down, up = sides
    return (up @ down).view(like.shape)


def test_with_numbers_enough_the_whole_change_is_held() -> None:
    base, tuned = weights(), weights(1)
    sides = low_rank(base, tuned, 10_000)
    assert set(sides) == {"a.weight", "b.weight"}
    for name, both in sides.items():
        assert torch.allclose(base[name] + product(both, base[name]), tuned[name], atol=1e-5)
    base.pop("b.bias"), tuned.pop("b.bias")
    assert kept_share(base, tuned, sides) == pytest.approx(1.0, abs=1e-5)


def test_with_few_numbers_the_greatest_part_of_the_change_is_held() -> None:
    base, tuned = weights(), weights()
    left, right = torch.randn(6, 1), torch.randn(1, 4)
    tuned["a.weight"] += left @ right
    tuned["b.weight"] += 0.01
    sides = low_rank(base, tuned, 10)
    assert set(sides) == {"a.weight"} and sum(side.numel() for side in sides["a.weight"]) == 10
    assert torch.allclose(product(sides["a.weight"], left @ right), left @ right, atol=1e-5)
    assert not low_rank(base, tuned, 9)


def test_another_model_is_refused() -> None:
    with pytest.raises(DataError, match="other weights"):
        low_rank(weights(), {**weights(), "c.weight": torch.ones(2, 2)}, 10)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Papercut with a change of rank one in two layers, and other settings."""
    model = load_components(BASE, dtype=torch.float32)
    draw = torch.Generator().manual_seed(0)
    unet = model.unet
    assert isinstance(unet, UNet)
    for weight in (unet.middle.enter.conv1.weight, unet.middle.spatial.layer.feed_forward.up.weight):
        rows, columns = (torch.randn(size, generator=draw) for size in weight.flatten(1).shape)
        weight.data += 0.1 * torch.outer(rows, columns).view(weight.shape)
    return save_native(
        tmp_path_factory.mktemp("tuned") / "model", unet=unet, vae=model.vae, text=model.text,
        tokenizer=model.tokenizer, schedule=model.schedule, spec=model.spec, dtype=torch.float16,
    )  # fmt: skip


def written(tuned: Path, tmp_path: Path) -> Path:
    (tmp_path / BASE).symlink_to(locate(BASE))  # what is shared lies beside the folder
    out = tmp_path / "papercut-quick"
    kept = write_low_rank(tuned, BASE, CATALOG["papercut-quick"], 20_000, out)
    assert kept > 0.99
    return out


def test_the_folder_loads_to_the_tuned_numbers(tuned: Path, tmp_path: Path) -> None:
    out = written(tuned, tmp_path)
    assert {path.name for path in out.iterdir()} == {"kinescribe.json", LORA_FILE}
    found, wanted = (load_components(folder, dtype=torch.float32) for folder in (out, tuned))
    for (name, ours), theirs in zip(
        found.unet.state_dict().items(), wanted.unet.state_dict().values(), strict=True
    ):
        assert torch.allclose(ours, theirs, atol=2e-3), name
    assert found.spec == CATALOG["papercut-quick"] and found.schedule == wanted.schedule
    assert found.model_hash != load_components(BASE, dtype=torch.float32).model_hash


def test_a_conversion_takes_the_change_along(tuned: Path, tmp_path: Path) -> None:
    out = written(tuned, tmp_path)
    whole = tmp_path / "whole"
    convert(out, whole)
    one, other = (load_components(folder, dtype=torch.float32).unet.state_dict() for folder in (out, whole))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_folder_without_its_lora_is_refused(tuned: Path, tmp_path: Path) -> None:
    out = written(tuned, tmp_path)
    (out / LORA_FILE).unlink()
    with pytest.raises(WeightsError, match=LORA_FILE):
        load_components(out)


def test_the_lora_is_checked_as_every_weight_file(tuned: Path, tmp_path: Path) -> None:
    out = written(tuned, tmp_path)
    items = {item.role: item for item in check_folder(out).items}
    assert (items["lora"].state, items["lora"].detail) == ("found", "2 layers")
    (out / LORA_FILE).write_bytes((out / LORA_FILE).read_bytes()[:-100])
    items = {item.role: item for item in check_folder(out).items}
    assert items["lora"].state == "damaged"
    (out / LORA_FILE).unlink()
    items = {item.role: item for item in check_folder(out).items}
    assert (items["lora"].state, items["unet"].state) == ("missing", "found")


def test_a_lora_elsewhere_is_refused(tuned: Path, tmp_path: Path) -> None:
    out = written(tuned, tmp_path)
    document = json.loads((out / "kinescribe.json").read_text())
    (out / "kinescribe.json").write_text(json.dumps(document | {"lora": "../other.safetensors"}))
    with pytest.raises(WeightsError, match="only plain names"):
        load_components(out)


@pytest.mark.parametrize(
    ("base", "why"),
    [("modelscope-1.7b", "embedded"), ("papercut-quick", "does not hold"), (BASE, "beside it")],
)
def test_what_cannot_lend_is_refused(tuned: Path, tmp_path: Path, base: str, why: str) -> None:
    if base == "papercut-quick":
        (tmp_path / base).symlink_to(locate(base))
    with pytest.raises(DataError, match=why):
        write_low_rank(tuned, base, CATALOG["papercut-quick"], 100, tmp_path / "out")
    assert not (tmp_path / "out").exists()
