"""Which layers a LoRA without names is for: cloneofsimo's files hold pairs in the order of the model's layers.

That is the order in which diffusers' classes make their parts, of those layers that lie in classes which the
trainer chose. Files from its ``.safetensors`` writer name the classes; for the others the shapes decide.
"""

import re
from collections.abc import Callable, Iterator, Sequence

# What stands beside each other in a module of diffusers or transformers, first made first.
_WORDS = (
    "conv_in", "time_embedding", "linear_1", "cond_proj", "linear_2", "transformer_in",
    "down_blocks", "up_blocks", "mid_block", "resnets", "temp_convs", "attentions", "temp_attentions",
    "downsamplers", "upsamplers", "conv1", "time_emb_proj", "conv2", "conv3", "conv4", "conv_shortcut", "conv",
    "proj_in", "transformer_blocks", "proj_out", "attn1", "attn2", "ff", "to_q", "to_k", "to_v", "to_out",
    "net", "proj", "conv_out", "encoder", "layers", "self_attn", "k_proj", "v_proj", "q_proj", "out_proj",
    "mlp", "fc1", "fc2",
)  # fmt: skip
_RANK = {word: i for i, word in enumerate(_WORDS)}
# Before its version 0.16 diffusers made the feed-forward part between the attentions.
_OLD_RANK = {**_RANK, "ff": _RANK["attn1"] + 0.5}

GUIDANCE_LAYER = "time_embedding.cond_proj"
"""A layer that consistency models of T2V-Turbo's kind have beside ours: it reads the guidance scale."""

_CLASSES = {
    "UNet3DConditionModel": r"",
    "Transformer2DModel": r"\.attentions\.",
    "TransformerTemporalModel": r"^transformer_in\.|\.temp_attentions\.",
    "ResnetBlock2D": r"\.resnets\.",
    "TemporalConvLayer": r"\.temp_convs\.",
    "CrossAttention": r"\.attn\d\.",
    "Attention": r"\.attn\d\.",
    "GEGLU": r"\.ff\.net\.0\.",
    "CLIPEncoderLayer": r"^encoder\.layers\.",
    "CLIPAttention": r"\.self_attn\.",
}
_USUAL = (
    ("UNet3DConditionModel",),
    ("Transformer2DModel",),
    ("TransformerTemporalModel",),
    ("Transformer2DModel", "TransformerTemporalModel"),
    ("ResnetBlock2D",),
    ("TemporalConvLayer",),
    ("Attention",),
    ("Attention", "GEGLU"),
    ("Attention", "GEGLU", "ResnetBlock2D"),
    ("CLIPEncoderLayer",),
    ("CLIPAttention",),
)


def rows_of_layers(
    names: Sequence[str],
    count: int,
    fits: Callable[[int, str], bool],
    classes: Sequence[str] | None = None,
) -> list[tuple[str, ...]]:
    """Every way in which ``count`` pairs may lie on layers of these diffusers names; each way once.

    ``fits(i, name)`` says whether pair i has the shape for a layer; the guidance layer, which no name of ours is,
    takes any. ``classes`` are those that the file names, None if it names none.
    """
    known = classes is not None and all(name in _CLASSES for name in classes)
    chosen = (tuple(classes or ()),) if known else _USUAL
    ways = []
    for row in _rows(names, chosen):
        if len(row) != count or row in ways:
            continue
        if all(name == GUIDANCE_LAYER or fits(i, name) for i, name in enumerate(row)):
            ways.append(row)
    return ways


def _rows(names: Sequence[str], chosen: Sequence[Sequence[str]]) -> Iterator[tuple[str, ...]]:
    for classes in chosen:
        pattern = re.compile("|".join(f"(?:{_CLASSES[name]})" for name in classes))
        inside = [name for name in names if pattern.search(name)]
        more = [[]] if "UNet3DConditionModel" not in classes else [[], [GUIDANCE_LAYER]]
        for extra in more:
            for rank in (_RANK, _OLD_RANK):
                yield tuple(sorted([*inside, *extra], key=lambda name, r=rank: _place(name, r)))  # type: ignore[misc]


def _place(name: str, rank: dict[str, int] | dict[str, float]) -> tuple[float, ...]:
    return tuple(float(word) if word.isdecimal() else float(rank[word]) for word in name.split("."))
