"""A LoRA file in any dialect does to the model what its numbers say, or is refused with the reason."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import goldens
import lora_files as files
from kinescribe.checkpoints.detect import describe
from kinescribe.checkpoints.load import load_components
from kinescribe.checkpoints.lora import Lora, describe_lora, read_lora
from kinescribe.checkpoints.lora_layers import layers_of
from kinescribe.checkpoints.lora_order import rows_of_layers
from kinescribe.checkpoints.source import Config
from kinescribe.components import Components
from kinescribe.errors import WeightsError

Write = Callable[[Path, files.Factors], Path]
ATTENTION = re.compile(r"unet\..*\.attn\d\.to_")
A_FEW = re.compile(r"unet\.mid_block\.attentions\..*\.attn\d\.to_")


@pytest.fixture(scope="module")
def model() -> Components:
    return load_components(files.base(), dtype=torch.float32)


@pytest.fixture(scope="module")
def configs() -> list[Config]:
    source = describe(files.base(), variant=None, spec=None)
    assert source.text is not None
    return [source.unet.config, source.text.config]


def state(components: Components) -> dict[str, Tensor]:
    assert components.text is not None
    return {**components.unet.state_dict(), **components.text.state_dict(prefix="text.")}


def applied(model: Components, lora: Lora, scale: float = 1.0) -> dict[str, Tensor]:
    """What the model's weights are with a LoRA, which is then taken off again."""
    model.adapters.add(lora.adapter, scale)
    found = {name: tensor.clone() for name, tensor in state(model).items()}
    model.adapters.remove(*model.adapters.scales)
    return found


def same(found: dict[str, Tensor], changes: list[tuple[str, Tensor]]) -> None:
    """What the model's own files hold with these changes, under our names."""
    source, tensors = describe(files.base(), variant=None, spec=None), files.merged(changes)
    assert source.text is not None
    expected = {}
    for part, prefix, ours in ((source.unet, "unet.", ""), (source.text, "text_encoder.", "text.")):
        names, _ = part.aliases.apply(
            name.removeprefix(prefix) for name in tensors if name.startswith(prefix)
        )
        tensors_of_ours = part.keymap.to_ours(lambda name, n=names, p=prefix: tensors[p + n[name]])  # type: ignore[misc]
        expected |= {ours + name: tensor for name, tensor in tensors_of_ours}
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def everywhere(_: str) -> bool:
    return True


def in_unet(name: str) -> bool:
    return name.startswith("unet.")


DIALECTS: dict[str, tuple[Write, Callable[[str], bool]]] = {
    "diffusers": (lambda path, t: files.diffusers(path / "pytorch_lora_weights.safetensors", t), everywhere),
    "diffusers 0.20": (lambda path, t: files.middle_diffusers(path / "l.safetensors", t), everywhere),
    "diffusers before": (
        lambda path, t: files.old_diffusers(path / "l.safetensors", t),
        lambda name: bool(ATTENTION.match(name)),
    ),
    "PEFT": (lambda path, t: files.peft(path / "adapter", t), in_unet),
    "kohya": (lambda path, t: files.kohya(path / "l.safetensors", t), everywhere),
    "cloneofsimo": (
        lambda path, t: files.cloneofsimo(path / "5_unet.pt", t, in_order("UNet3DConditionModel")),
        in_unet,
    ),
    "cloneofsimo, along time": (
        lambda path, t: files.cloneofsimo(path / "5_unet.pt", t, in_order("TransformerTemporalModel")),
        lambda name: "transformer_in." in name or "temp_attentions." in name,
    ),
    "cloneofsimo, named": (
        lambda path, t: files.cloneofsimo_named(
            path / "l.safetensors", t, in_order("ResnetBlock2D"), ["ResnetBlock2D"]
        ),
        lambda name: ".resnets." in name,
    ),
}


def in_order(chosen: str) -> list[str]:
    """Names in the order that tests/parity compares with diffusers."""
    source = describe(files.base(), variant=None, spec=None)
    names = layers_of([source.unet.config]).ordered["unet"]
    count = {"UNet3DConditionModel": len(names)}.get(chosen)
    ways = [
        way
        for n in ([count] if count else range(len(names)))
        for way in rows_of_layers(names, n, lambda *_: True, [chosen])
    ]
    return [f"unet.{name}" for name in ways[0]]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_gives_the_same_weights(
    model: Components, configs: list[Config], tmp_path: Path, dialect: str
) -> None:
    write, chosen = DIALECTS[dialect]
    table = files.factors(chosen)
    lora = read_lora(write(tmp_path, table), configs)
    assert (lora.matched, lora.total) == (len(table), len(table))
    same(applied(model, lora), files.products(table))


def test_the_scale_is_alpha_over_rank(model: Components, configs: list[Config], tmp_path: Path) -> None:
    table = files.factors()
    merged = files.products(table, 1.5)
    same(
        applied(model, read_lora(files.kohya(tmp_path / "k.safetensors", table, alpha=3.0), configs)), merged
    )
    same(applied(model, read_lora(files.kohya(tmp_path / "k.safetensors", table), configs), 1.5), merged)
    note = {"lora_adapter_metadata": '{"unet.r": 2, "unet.lora_alpha": 3, "text_encoder.lora_alpha": 3}'}
    same(applied(model, read_lora(files.diffusers(tmp_path / "d.safetensors", table, note), configs)), merged)


def test_the_text_tower_has_an_alpha_of_its_own(
    model: Components, configs: list[Config], tmp_path: Path
) -> None:
    table = files.factors()
    note = {"lora_adapter_metadata": '{"unet.lora_alpha": 4, "text_encoder.lora_alpha": 1}'}
    lora = read_lora(files.diffusers(tmp_path / "d.safetensors", table, note), configs)
    scales = {name: 2.0 if in_unet(name) else 0.5 for name in table}
    changes = [(name, scales[name] * files.product(*sides)) for name, sides in table.items()]
    same(applied(model, lora), changes)


def test_peft_may_scale_by_the_root_and_some_layers_apart(
    model: Components, configs: list[Config], tmp_path: Path
) -> None:
    table = files.factors(in_unet)
    folder = files.peft(tmp_path / "p", table, lora_alpha=4, use_rslora=True, alpha_pattern={"attn1.to_q": 1})
    scales = {name: (1 if name.endswith("attn1.to_q") else 4) / 2**0.5 for name in table}
    changes = [(name, scales[name] * files.product(*sides)) for name, sides in table.items()]
    same(applied(model, read_lora(folder, configs)), changes)


@pytest.mark.parametrize("key", ["self_attn.q_proj", "text_model.encoder.layers.0.self_attn.q_proj"])
def test_a_layer_of_the_tower_may_have_an_alpha_of_its_own(
    model: Components, configs: list[Config], tmp_path: Path, key: str
) -> None:
    table = files.factors(lambda name: not in_unet(name))
    noted = {"text_encoder.lora_alpha": 2, "text_encoder.alpha_pattern": {key: 8}}
    note = {"lora_adapter_metadata": json.dumps(noted)}
    lora = read_lora(files.diffusers(tmp_path / "d.safetensors", table, note), configs)
    scales = {name: 4.0 if name.endswith(key) else 1.0 for name in table}
    assert set(scales.values()) == {1.0, 4.0}
    same(
        applied(model, lora), [(name, scales[name] * files.product(*sides)) for name, sides in table.items()]
    )


def test_peft_wrote_a_folder_for_the_tower(model: Components, configs: list[Config], tmp_path: Path) -> None:
    table = files.factors(lambda name: not in_unet(name))
    bare = {name.removeprefix("text_encoder."): sides for name, sides in table.items()}
    lora = read_lora(files.peft(tmp_path / "p", bare), configs)
    assert (lora.matched, lora.total) == (len(table), len(table))
    same(applied(model, lora), files.products(table))


def test_stable_lora_holds_the_kernel_in_both_sides(
    model: Components, configs: list[Config], tmp_path: Path
) -> None:
    tensors, changes = {}, []
    for number, (name, weight) in enumerate(sorted(files.weights().items())):
        generator = torch.Generator().manual_seed(number)
        k = weight.shape[2] if weight.ndim > 2 else 1
        a = torch.randn(2 * k, weight.shape[1] * k, generator=generator) * 0.1
        b = torch.randn(len(weight) * k, 2 * k, generator=generator) * 0.1
        if weight.ndim == 5:  # its own formula: the second axis of the kernel is averaged away
            change = (b @ a).view(*weight.shape[:3], k, 1).mean(-2, keepdim=True)
        else:
            change = (b @ a).view(weight.shape)
        changes.append((name, change))
        layer = name.partition(".")[2]
        tensors |= {f"{layer}.lora_A": a, f"{layer}.lora_B": b}
    unet = {n: t for n, t in tensors.items() if not n.startswith("text_model.")}
    text = {n: t for n, t in tensors.items() if n.startswith("text_model.")}
    files.save(tmp_path / "l" / "9_lora_unet.safetensors", unet)
    files.save(tmp_path / "l" / "9_lora_text_encoder.safetensors", text)
    lora = read_lora(tmp_path / "l", configs)
    assert lora.matched == len(changes)
    same(applied(model, lora), changes)


def test_stable_lora_for_the_web_ui_has_other_names(configs: list[Config], tmp_path: Path) -> None:
    """As its converter writes them: ModelScope's names but for four layers, q, k and v of the tower apart."""
    width = 4 * configs[0].width  # type: ignore[union-attr]
    names = {
        "conv_in": ((3 * 2, 4 * 3), (width // 4 * 3, 2 * 3)),
        "input_blocks.0.1.transformer_blocks.0.attn1.to_q": ((2, 32), (32, 2)),
        "resblocks.1.attn.k_proj": ((2, 32), (32, 2)),
        "resblocks.1.mlp.c_fc": ((2, 32), (64, 2)),
    }
    found = layers_of(configs)
    tensors = {}
    for name in names:
        layer = found.find("unet", name) or found.find("text", "encoder.layers." + name[10:].replace(
            "attn.", "self_attn.").replace("c_fc", "fc1"))  # fmt: skip
        assert layer is not None, name
        k = layer.shape[2] if len(layer.shape) > 2 else 1
        tensors |= {
            f"{name}.lora_A": torch.ones(2 * k, layer.shape[1] * k),
            f"{name}.lora_B": torch.ones(layer.shape[0] * k, 2 * k),
        }
    lora = read_lora(files.save(tmp_path / "w.safetensors", tensors), configs)
    assert [change.weight for change in lora.adapter.changes] == [
        "stem.weight",
        "stem_temporal.layer.attention1.q.weight",
        "layers.1.qkv.weight",
        "layers.1.up.weight",
    ]
    tower = configs[1].width  # type: ignore[union-attr]
    assert lora.adapter.changes[2].rows == (tower, 2 * tower)


def test_instructvideo_lies_inside_a_whole_model(
    model: Components, configs: list[Config], tmp_path: Path
) -> None:
    whole = torch.load(
        goldens.folder("text_to_video/modelscope") / "text2video_pytorch_model.pth", weights_only=True
    )
    names = [n.removesuffix(".weight") for n in whole if re.search(r"attn\d\.to_(q|k|v|out\.0)\.weight$", n)]
    changed = {name: tensor.clone() for name, tensor in whole.items()}
    tensors = dict(whole)
    for number, name in enumerate(names):
        generator = torch.Generator().manual_seed(number)
        out, into = whole[f"{name}.weight"].shape
        down, up = torch.randn(4, into, generator=generator), torch.randn(out, 4, generator=generator) * 0.1
        where = name.removesuffix(".0") + "_lora"
        tensors |= {f"{where}.down_linear.weight": down, f"{where}.up_linear.weight": up}
        changed[f"{name}.weight"] = whole[f"{name}.weight"].float() + up @ down
    torch.save({"state_dict": tensors, "step": 1}, tmp_path / "instructvideo.pth")
    lora = read_lora(tmp_path / "instructvideo.pth", configs)
    assert lora.matched == lora.total == len(names)
    assert any("whole model" in note for note in lora.notes)
    found = applied(model, lora)
    place = tmp_path / "merged"
    place.mkdir()
    for item in goldens.folder("text_to_video/modelscope").iterdir():
        (place / item.name).write_bytes(item.read_bytes())
    torch.save({n: t.float() for n, t in changed.items()}, place / "text2video_pytorch_model.pth")
    expected = state(load_components(place, dtype=torch.float32))
    unet = {name: tensor for name, tensor in found.items() if not name.startswith("text.")}
    torch.testing.assert_close(unet, {n: expected[n] for n in unet}, rtol=1e-5, atol=1e-5)


def test_an_image_lora_changes_spatial_layers_and_says_so(configs: list[Config], tmp_path: Path) -> None:
    table = files.factors(lambda name: ".attentions." in name)
    lora = read_lora(files.kohya(tmp_path / "k.safetensors", table, alpha=1.0), configs)
    assert lora.notes == (
        "changes spatial layers alone, as a LoRA made for pictures does: motion stays as it was",
    )
    assert not any("temporal" in change.weight for change in lora.adapter.changes)
    both = files.factors(lambda name: "attentions." in name)
    assert read_lora(files.kohya(tmp_path / "k.safetensors", both), configs).notes == ()


def test_what_is_said_counts_layers_and_ranks(configs: list[Config], tmp_path: Path) -> None:
    lora = read_lora(files.diffusers(tmp_path / "style.safetensors", a_few()), configs)
    assert str(lora) == f"style.safetensors: matched {lora.total} of {lora.total} layers, rank 2 (PEFT)"
    assert lora.adapter.name == "style"


def test_a_lora_may_be_told_without_a_model(tmp_path: Path) -> None:
    path = files.kohya(tmp_path / "k.safetensors", a_few(), alpha=1.0)
    facts = describe_lora(path)
    assert (facts.program, facts.ranks, facts.scales, facts.spare) == ("kohya", (2, 2), (0.5,), 0)
    assert facts.unet_layers + facts.text_layers == len(a_few())
    assert facts.bytes == path.stat().st_size


def a_few(**made: Any) -> files.Factors:
    return files.factors(lambda name: bool(A_FEW.match(name)), **made)


def changed_sides(
    path: Path, change: Callable[[str, Tensor, Tensor], tuple[Tensor, Tensor]], **table: Any
) -> Path:
    made = a_few(**table)
    return files.diffusers(path / "l.safetensors", {n: change(n, *sides) for n, sides in made.items()})


def with_more(path: Path, **more: Tensor) -> Path:
    state = {}
    for name, (down, up) in a_few().items():
        state |= {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
    return files.save(path / "l.safetensors", state | more)


def one(name: str, down: Tensor, up: Tensor, *, spoilt: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return spoilt if name.endswith("mid_block.attentions.0.transformer_blocks.0.attn2.to_k") else (down, up)


def sides(layer: str, down: str = "lora_A", up: str = "lora_B") -> dict[str, Tensor]:
    return {f"{layer}.{down}.weight": torch.ones(2, 4), f"{layer}.{up}.weight": torch.ones(4, 2)}


PLACE = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "no match": (
        lambda p: files.save(p / "l.safetensors", {"blocks.0.q.lora_A.weight": torch.ones(2, 4),
                                                   "blocks.0.q.lora_B.weight": torch.ones(4, 2)}),
        r"none of its 1 layers is in the model \(blocks.0.q\)",
    ),
    "wrong base": (
        lambda p: changed_sides(p, lambda n, d, u: (d[:, :-1], u) if "attn2.to_k" in n else (d, u)),
        r"made for another model, \d+ of \d+ layers have other shapes \(\S+attn2.to_k: its down side takes",
    ),
    "wrong rank": (
        lambda p: changed_sides(p, lambda n, d, u: (d[:1], u) if "attn2.to_k" in n else (d, u)),
        r"no product of low rank \(\S+attn2.to_k: down has rank 1, up 2\)",
    ),
    "rank 0": (lambda p: changed_sides(p, lambda _n, d, u: (d[:0], u[:, :0])), r"rank 0"),
    "absurd rank": (lambda p: changed_sides(p, lambda _n, d, u: (d, u), rank=5000), r"rank 5000 for a layer of"),
    "NaN": (
        lambda p: changed_sides(p, lambda n, d, u: one(n, d, u, spoilt=(d * float("nan"), u))),
        r"attn2.to_k.lora_A.weight holds numbers that are not finite",
    ),
    "infinite": (
        lambda p: changed_sides(p, lambda n, d, u: one(n, d, u, spoilt=(d, u / 0))),
        r"attn2.to_k.lora_B.weight holds numbers that are not finite",
    ),
    "integers": (
        lambda p: changed_sides(p, lambda _n, d, u: (d.to(torch.int32), u)), r"is in int32"
    ),
    "alpha NaN": (lambda p: files.kohya(p / "l.safetensors", a_few(), alpha=float("nan")), r"alpha is nan"),
    "alpha 0": (lambda p: files.kohya(p / "l.safetensors", a_few(), alpha=0.0), r"alpha is 0"),
    "alpha in PEFT": (lambda p: files.peft(p / "l", a_few(), lora_alpha="4"), r"lora_alpha is nan"),
    "alpha beyond floats": (lambda p: files.peft(p / "l", a_few(), lora_alpha=10**400), r"lora_alpha is inf"),
    "patterns of alpha": (lambda p: files.peft(p / "l", a_few(), alpha_pattern=[1]), r"alpha_pattern is no table"),
    "whole model": (lambda _: files.base() / files.UNET, r"no LoRA, none of its \d+ tensors"),
    "half a pair": (
        lambda p: with_more(p, **{"unet.conv_out.lora_A.weight": torch.ones(2, 32, 3, 3)}),
        r"1 of \d+ pairs lack one side \(there is unet.conv_out.lora_A.weight\)",
    ),
    "in part": (
        lambda p: with_more(p, **sides("unet.new")),
        r"matched (\d+) of \d+ layers, the model has no place for new: .*--allow-partial",
    ),
    "a bias": (lambda p: with_more(p, **{"unet.conv_in.bias": torch.ones(32)}), r"no place for unet.conv_in.bias"),
    "twice": (
        lambda p: with_more(p, **sides(PLACE, "lora.down", "lora.up")),
        r"two pairs are for the same layer, middle.spatial",
    ),
    "LoHa": (lambda p: with_more(p, **{"lora_unet_conv_in.hada_w1_a": torch.ones(2, 2)}), r"LoHa \(lora_unet_conv_in"),
    "LoKr": (lambda p: with_more(p, **{"lora_unet_conv_in.lokr_w1": torch.ones(2, 2)}), r"LoKr"),
    "DoRA": (lambda p: with_more(p, **{f"{PLACE}.lora_magnitude_vector": torch.ones(2)}), r"DoRA"),
    "DoRA in PEFT": (lambda p: files.peft(p / "l", a_few(), use_dora=True), r"PEFT's type DoRA"),
    "other PEFT": (lambda p: files.peft(p / "l", a_few(), peft_type="LOHA"), r"PEFT's type LOHA"),
    "a list of an odd number": (
        lambda p: (torch.save([torch.ones(2, 2)] * 3, p / "l.pt"), p / "l.pt")[1],
        r"a list of 3 tensors, which are no pairs",
    ),
    "a list for another model": (
        lambda p: (torch.save([torch.ones(4, 2), torch.ones(2, 4)] * 7, p / "l.pt"), p / "l.pt")[1],
        r"7 pairs without names, whose shapes fit the model's layers in no order",
    ),
    "cut off": (
        lambda p: (files.kohya(p / "a.safetensors", a_few()), (p / "l.safetensors").write_bytes(
            (p / "a.safetensors").read_bytes()[:-9]), p / "l.safetensors")[2],
        r"cut off",
    ),
    "no file": (lambda p: p / "absent.safetensors", r"no such file or folder"),
    "an empty folder": (lambda p: p, r"There are none"),
    "several": (
        lambda p: [files.kohya(p / f"{name}.safetensors", a_few()) for name in "ab"][0].parent,
        r"which of its weight files is the LoRA\? There are a.safetensors, b.safetensors",
    ),
    "several of diffusers": (
        lambda p: [files.diffusers(p / f"pytorch_lora_weights_{n}.safetensors", a_few()) for n in "ab"][0].parent,
        r"which of its weight files is the LoRA\?",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_with_the_reason(
    configs: list[Config], tmp_path: Path, case: str
) -> None:
    make, reason = REFUSED[case]
    with pytest.raises(WeightsError, match=reason) as caught:
        read_lora(make(tmp_path), configs)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3


def test_a_pickle_is_never_run(configs: list[Config], tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save([Trap(), torch.ones(2, 2)], tmp_path / "5_unet.pt")
    with pytest.raises(WeightsError, match="refused"):
        read_lora(tmp_path / "5_unet.pt", configs)
    assert not (tmp_path / "ran").exists()


def test_size_is_judged_before_numbers_are_read(
    configs: list[Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = changed_sides(tmp_path, lambda _n, d, u: (d, u), rank=5000)
    monkeypatch.setattr("kinescribe.checkpoints.read.WeightFile.read", lambda *_: pytest.fail("read"))
    with pytest.raises(WeightsError, match="rank 5000"):
        read_lora(path, configs)


def test_in_part_when_asked_for(configs: list[Config], tmp_path: Path) -> None:
    path = with_more(
        tmp_path,
        **sides("unet.new"),
    )
    lora = read_lora(path, configs, allow_partial=True)
    assert lora.total == lora.matched + 1
    assert "left out: 1 layers or tensors, such as new" in lora.notes


def test_shapes_of_another_model_are_refused_even_in_part(configs: list[Config], tmp_path: Path) -> None:
    path = changed_sides(tmp_path, lambda n, d, u: (d[:, :-1], u) if "attn2.to_k" in n else (d, u))
    with pytest.raises(WeightsError, match="made for another model"):
        read_lora(path, configs, allow_partial=True)


def test_the_guidance_layer_of_turbo_models_is_named(configs: list[Config], tmp_path: Path) -> None:
    table = files.factors(in_unet)
    order = in_order("UNet3DConditionModel")
    table["unet.time_embedding.cond_proj"] = torch.ones(2, 256), torch.ones(32, 2)
    at = order.index("unet.time_embedding.linear_1") + 1
    path = files.cloneofsimo(
        tmp_path / "unet_lora.pt", table, [*order[:at], "unet.time_embedding.cond_proj", *order[at:]]
    )
    with pytest.raises(
        WeightsError, match="place for time_embedding.cond_proj, which reads the guidance scale"
    ):
        read_lora(path, configs)
    lora = read_lora(path, configs, allow_partial=True)
    assert lora.matched == len(order)


def test_peft_without_its_note_says_that_alpha_is_unknown(configs: list[Config], tmp_path: Path) -> None:
    folder = files.peft(tmp_path / "l", a_few(), lora_alpha=8)
    assert read_lora(folder, configs).adapter.changes[0].scale == 4
    (folder / "adapter_config.json").unlink()
    lora = read_lora(folder, configs)
    assert lora.adapter.changes[0].scale == 1
    assert any("alpha is unknown" in note for note in lora.notes)


def test_a_layer_of_the_tower_that_never_runs_is_left_out(configs: list[Config], tmp_path: Path) -> None:
    name = "text_encoder.text_model.encoder.layers.2.mlp.fc1"
    path = with_more(
        tmp_path, **{f"{name}.lora_A.weight": torch.ones(2, 32), f"{name}.lora_B.weight": torch.ones(64, 2)}
    )
    lora = read_lora(path, configs)
    assert lora.matched == lora.total
    assert "left out: 1 layers of the text tower that never run" in lora.notes


def test_conditions_of_a_picture_can_be_changed_too(tmp_path: Path) -> None:
    source = describe(goldens.folder("image_and_video_to_video/i2vgen-xl"), variant=None, spec=None)
    assert source.conditions is not None
    configs: list[Config] = [source.unet.config, source.conditions.config]
    width = layers_of(configs).find("unet", "image_latents_temporal_encoder.attn1.to_k")
    assert width is not None
    out, into = width.shape
    name = "unet.image_latents_temporal_encoder.attn1.to_k"
    path = files.save(
        tmp_path / "l.safetensors",
        {f"{name}.lora_A.weight": torch.ones(2, into), f"{name}.lora_B.weight": torch.ones(out, 2)},
    )
    (change,) = read_lora(path, configs).adapter.changes
    assert (change.network, change.weight, change.rows) == (
        "conditions",
        "local.temporal.qkv.weight",
        (out, 2 * out),
    )


def test_the_sum_tells_files_apart_and_counts_the_alpha(configs: list[Config], tmp_path: Path) -> None:
    table = a_few()
    sums = [
        read_lora(files.peft(tmp_path / str(alpha), table, lora_alpha=alpha), configs).adapter.sha256
        for alpha in (2, 4)
    ]
    again = read_lora(files.peft(tmp_path / "again", table, lora_alpha=2), configs).adapter.sha256
    assert sums[0] == again != sums[1]
