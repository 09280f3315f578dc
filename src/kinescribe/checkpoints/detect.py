"""Which layout a path has; the first step of loading, checking and converting."""

from pathlib import Path

from kinescribe.catalog import Layout, ModelSpec, find_spec
from kinescribe.checkpoints.diffusers import describe_diffusers, family_of_index, is_diffusers
from kinescribe.checkpoints.families import Family, family_of, require_family
from kinescribe.checkpoints.modelscope import describe_modelscope, is_modelscope
from kinescribe.checkpoints.modelscope_stages import describe_stage, family_in
from kinescribe.checkpoints.native import describe_native, is_native
from kinescribe.checkpoints.source import Source
from kinescribe.checkpoints.vgen import describe_vgen, is_vgen, is_vgen_repository
from kinescribe.errors import WeightsError


def layout_of(path: Path) -> Layout:
    """The layout of a folder or bare file.

    Raises:
        WeightsError: no layout; the message says what lies there instead.
    """
    if path.is_file():
        if is_vgen(path):
            return "vgen"
        raise WeightsError(f"{path}: no weight file and no model folder: give the folder")
    if is_native(path):
        return "native"
    if is_diffusers(path):
        return "diffusers"
    if is_modelscope(path) and not is_vgen_repository(path):
        return "modelscope"
    if is_vgen(path):
        return "vgen"
    raise WeightsError(_what_it_is(path))


def describe(path: Path, *, variant: str | None, spec: ModelSpec | None) -> Source:
    """A path as a source, its layout found out; ``spec`` None means: by the folder's name, or its own JSON.

    Raises:
        WeightsError: no model folder, or one whose configuration does not fit.
    """
    layout = layout_of(path)
    try:
        return _described(path, layout, variant=variant, spec=spec)
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RuntimeError) as error:
        # A foreign configuration is whatever its author made it; what does not fit the tables ends here.
        raise WeightsError(f"{path}: its configuration is malformed ({error!r}): fetch it again") from error


def known_by_name(path: Path) -> ModelSpec | None:
    """The catalog row whose published name a folder still bears, also inside a hub's cache."""
    for name in reversed(path.absolute().parts[-3:]):
        spec = find_spec(name.rpartition("--")[2])
        if spec is not None and not spec.embedded:
            return spec
    return None


def _described(path: Path, layout: Layout, *, variant: str | None, spec: ModelSpec | None) -> Source:
    if layout == "native":
        return describe_native(path)
    if layout == "vgen":
        return describe_vgen(path, spec)
    family = family_of_index(path) if layout == "diffusers" else family_in(path)
    spec = _row(path, family, spec)
    if layout == "diffusers":
        return describe_diffusers(path, spec, family, variant=variant)
    return (
        describe_modelscope(path, spec) if family == "text-to-video" else describe_stage(path, spec, family)
    )


def _row(path: Path, family: Family, asked: ModelSpec | None) -> ModelSpec | None:
    """The row asked for, which must fit, else the one whose name the folder bears, if that fits."""
    if asked is not None:
        require_family(path, family, asked)
        return asked
    known = known_by_name(path)
    return known if known is not None and family_of(known) == family else None


def _what_it_is(path: Path) -> str:
    if (path / "config.json").is_file() and is_diffusers(path.parent):
        return f"{path}: one part of a diffusers folder: give {path.parent}"
    if not path.is_dir():
        return f"{path}: no such file or folder: correct the path"
    names = sorted(item.name for item in path.iterdir())
    inside = next((name for name in names if (path / name).is_dir() and _is_model(path / name)), None)
    if inside is not None:
        return f"{path}: no model folder itself, but {inside} in it is: give {path / inside}"
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") if names else "nothing"
    return (
        f"{path}: no model folder, it holds {shown}: expected kinescribe.json (ours), model_index.json "
        "(diffusers), configuration.json (ModelScope) or a .pth file"
    )


def _is_model(path: Path) -> bool:
    return is_native(path) or is_diffusers(path) or is_modelscope(path)
