import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from kinescribe.errors import DataError
from kinescribe.train.config import VAETraining
from kinescribe.train.ranks import join
from kinescribe.train.report import read_log
from kinescribe.train.runs import run
from kinescribe.train.vae import VAEStage
from kinescribe.train.weights import read_vae

Tiny = Callable[..., VAETraining]


@pytest.mark.slow
def test_the_autoencoder_learns(tmp_path: Path, tiny_vae: Tiny) -> None:
    run(tiny_vae(tmp_path, steps=100), join("cpu"))
    losses = [line["loss"] for line in read_log(tmp_path / "log.jsonl") if line["kind"] == "train"]
    assert losses[-1] < 0.8 * losses[0]


def test_the_export_is_fp16_and_its_scale_gives_unit_deviation(tmp_path: Path, tiny_vae: Tiny) -> None:
    config = tiny_vae(tmp_path, steps=10)
    run(config, join("cpu"))
    stored = load_file(tmp_path / "export" / "vae.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    vae = read_vae(tmp_path / "export")
    last = [line for line in read_log(tmp_path / "log.jsonl") if line["kind"] == "validation"][-1]
    assert abs(vae.config.scale * last["deviation"] - 1) < 1e-3
    assert json.loads((tmp_path / "export" / "vae.json").read_text())["width"] == config.vae.width


def test_held_out_stills_are_no_training_stills(tmp_path: Path, tiny_vae: Tiny) -> None:
    stage = VAEStage(tiny_vae(tmp_path), join("cpu"))
    stage.prepare(0)
    training = {still.numpy().tobytes() for still in stage.ring["stills"][: len(stage.ring)]}
    assert training.isdisjoint(still.numpy().tobytes() for still in stage.test)


def frozen(config: VAETraining, start: Path) -> VAETraining:
    return dataclasses.replace(config, init_from=str(start), frozen_encoder=True)


def test_a_frozen_encoder_stays_bit_equal_while_the_decoder_learns(
    tmp_path: Path, tiny_vae: Tiny, vae_folder: Path
) -> None:
    run(frozen(tiny_vae(tmp_path, steps=60), vae_folder), join("cpu"))
    before, after = (load_file(folder / "vae.safetensors") for folder in (vae_folder, tmp_path / "export"))
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"decoder", "unquantise"}
    scales = [
        json.loads((folder / "vae.json").read_text())["scale"] for folder in (vae_folder, tmp_path / "export")
    ]
    assert scales[0] == scales[1] != 1.0
    figures = [line for line in read_log(tmp_path / "log.jsonl") if line["kind"] == "validation"]
    assert figures[-1]["deviation"] == figures[0]["deviation"]
    assert figures[-1]["loss"] < figures[0]["loss"]


def test_a_frozen_encoder_takes_no_gradients_and_no_noise(
    tmp_path: Path, tiny_vae: Tiny, vae_folder: Path
) -> None:
    stage = VAEStage(frozen(tiny_vae(tmp_path), vae_folder), join("cpu"))
    stage.prepare(0)
    generator = torch.Generator().manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn", None)
        stage.losses(stage.model, 0, generator)["loss"].backward()
    learning = {name.split(".")[1] for name, p in stage.model.named_parameters() if p.grad is not None}
    assert learning == {"decoder", "unquantise"}


def test_starting_from_an_autoencoder_of_other_sizes_is_an_error(
    tmp_path: Path, tiny_vae: Tiny, vae_folder: Path
) -> None:
    config = tiny_vae(tmp_path)
    other = dataclasses.replace(config, vae=dataclasses.replace(config.vae, groups=2))
    with pytest.raises(DataError, match="its autoencoder differs"):
        VAEStage(frozen(other, vae_folder), join("cpu"))
