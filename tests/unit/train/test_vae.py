import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

from kinescribe.train.config import VAETraining
from kinescribe.train.ranks import join
from kinescribe.train.report import read_log
from kinescribe.train.runs import run
from kinescribe.train.vae import VAEStage
from kinescribe.train.weights import read_vae

Tiny = Callable[..., VAETraining]


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
