"""What the tensors of a LoRA file are called by those who write such files, and which belong together.

A name says which layer it is for, in diffusers' or ModelScope's words, and which side of the product it is. How
each program spells that was read from its source code: diffusers and PEFT, the trainers after kohya-ss and
cloneofsimo, Stable-LoRA, and VGen's InstructVideo.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kinescribe.errors import WeightsError

# The name of a program and how it spells the two sides; what comes before is the layer.
_FORMS = (
    ("PEFT", re.compile(r"(.+)\.lora_(A|B)(?:\.(?!weight)\w+)?\.weight")),
    ("kohya", re.compile(r"(.+)\.lora_(down|up)\.weight")),
    ("diffusers", re.compile(r"(.+?)(?:\.lora_linear_layer|[._]lora)\.(down|up)\.weight")),
    ("VGen", re.compile(r"(.+)_lora\.(down|up)_linear\.weight")),
    ("Stable-LoRA", re.compile(r"(.+)\.lora_(A|B)")),
    ("cloneofsimo", re.compile(r"((?:unet|text_encoder):\d+):(down|up)")),
)
_ALPHA = re.compile(r"(.+?)(?:[._]lora)?\.alpha")
_DOWN = ("A", "down")
# Other factorisations, whose tensors cannot be left out: what remained would be another change.
_OTHER_KINDS = (
    (re.compile(r"\.hada_w"), "LoHa"),
    (re.compile(r"\.lokr_w"), "LoKr"),
    (re.compile(r"\.(dora_scale|lora_magnitude_vector)"), "DoRA"),
    (re.compile(r"\.lora_mid\."), "LoCon with a middle factor"),
    (re.compile(r"\.(oft_blocks|oft_diag|oft_R|boft_)"), "OFT"),
    (re.compile(r"^vera_|\.vera_lambda"), "VeRA"),
)
_WRAPPED = ((r"^module\.|base_model\.model\.|\.processor(?=\.)|_lora$", ""),)
_UNET = ((r"^unet\.|^lora_unet_", ""), *_WRAPPED, (r"\.to_out$", ".to_out.0"))
_TEXT = (
    (r"^text_encoder\.|^lora_te\d?_", ""),
    *_WRAPPED,
    (r"^text_model[._]", ""),
    # diffusers once gave the tower the words of the UNet
    (r"self_attn\.to_(q|k|v)$", r"self_attn.\1_proj"),
    (r"self_attn\.to_out(\.0)?$", "self_attn.out_proj"),
    # Stable-LoRA's files for the web UI: OpenCLIP's words, but q, k and v apart
    (r"^(?:transformer\.)?resblocks\.(\d+)\.", r"encoder.layers.\1."),
    (r"\.attn\.(?=(q|k|v|out)_proj$)", ".self_attn."),
    (r"\.c_fc$", ".fc1"),
    (r"\.c_proj$", ".fc2"),
)


@dataclass(frozen=True)
class Pair:
    """Two tensors that make one change: ``part`` is unet or text, ``module`` the layer as a key map knows it.

    In a list without names ``module`` is the number of the pair. ``alpha`` names the tensor that holds it, if there
    is one. The sides of a ``whole_kernel`` hold a convolution's kernel in both their axes.
    """

    program: str
    part: str
    module: str
    down: str
    up: str
    alpha: str | None = None

    @property
    def whole_kernel(self) -> bool:
        """Whether this is how Stable-LoRA writes convolutions."""
        return self.program == "Stable-LoRA"

    @property
    def numbered(self) -> bool:
        """Whether only its place in a row tells which layer it is for."""
        return self.program == "cloneofsimo"


def pairs_in(path: Path, names: Iterable[str]) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    """The pairs that a file of these names holds, and the names that belong to none.

    Raises:
        WeightsError: no pair at all, half a pair, or another kind of factors than LoRA's.
    """
    names = list(names)
    _require_plain(path, names)
    if names and all(name.isdecimal() for name in names):
        return _listed(path, names), ()
    sides: dict[tuple[str, str, str], dict[str, str]] = {}
    alphas: dict[tuple[str, str], str] = {}
    spare = []
    for name in names:
        alpha = _ALPHA.fullmatch(name)
        found = next(((program, m) for program, form in _FORMS if (m := form.fullmatch(name))), None)
        if alpha is not None:
            alphas[_located(alpha[1])] = name
        elif found is None:
            spare.append(name)
        else:
            program, match = found
            side = "down" if match[2] in _DOWN else "up"
            both = sides.setdefault((program, *_located(match[1])), {})
            if side in both:
                raise WeightsError(
                    f"{path}: {name} repeats {both[side]}: the file is damaged, fetch it again"
                )
            both[side] = name
    _require_whole(path, sides, names)
    places = {(part, module) for _, part, module in sides}
    spare += [name for place, name in alphas.items() if place not in places]
    pairs = tuple(
        Pair(program, part, module, both["down"], both["up"], alphas.get((part, module)))
        for (program, part, module), both in sides.items()
    )
    return pairs, tuple(spare)


def _located(layer: str) -> tuple[str, str]:
    """The network that a layer is in, and its name in the words of a key map, or with underscores for dots."""
    if re.match(r"unet:|text_encoder:", layer):
        network, _, number = layer.partition(":")
        return ("unet" if network == "unet" else "text"), number
    text = re.match(
        r"(base_model\.model\.)?text_(encoder|model)\.|lora_te\d?_|(transformer\.)?resblocks\.", layer
    )
    for pattern, replacement in _TEXT if text else _UNET:
        layer = re.sub(pattern, replacement, layer)
    return ("text" if text else "unet"), layer


def _listed(path: Path, names: list[str]) -> tuple[Pair, ...]:
    """The pairs of a bare list: up, down, up, down ..., as cloneofsimo's ``save_lora_weight`` writes them."""
    if len(names) % 2:
        raise WeightsError(f"{path}: a list of {len(names)} tensors, which are no pairs: fetch it again")
    part = "text" if "text_encoder" in path.stem else "unet"
    return tuple(
        Pair("cloneofsimo", part, str(i // 2), down=names[i + 1], up=names[i])
        for i in range(0, len(names), 2)
    )


def _require_plain(path: Path, names: list[str]) -> None:
    for form, kind in _OTHER_KINDS:
        example = next((name for name in names if form.search(name)), None)
        if example is not None:
            raise WeightsError(
                f"{path}: holds {kind} ({example}), and only plain LoRA is read: look for that"
            )


def _require_whole(path: Path, sides: dict[tuple[str, str, str], dict[str, str]], names: list[str]) -> None:
    if not sides:
        shown = ", ".join(sorted(names)[:3])
        raise WeightsError(
            f"{path}: no LoRA, none of its {len(names)} tensors ({shown}, ...) is one side of a pair: "
            "give a LoRA file, or load this as a model"
        )
    halves = [next(iter(both.values())) for both in sides.values() if len(both) < 2]
    if halves:
        raise WeightsError(
            f"{path}: {len(halves)} of {len(sides)} pairs lack one side (there is {halves[0]}): fetch it again"
        )
