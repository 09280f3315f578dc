"""The tables of names of what image-to-video models have beside the trunk: their conditions and the image tower.

The first foreign names are those of ModelScope's and VGen's UNets and of OpenCLIP, the second those of the
diffusers and transformers classes, which keep the conditions in the UNet's file as well.
"""

from collections.abc import Iterator

from kinescribe.checkpoints.keymap import Row, tower_rows
from kinescribe.models.image_conditions import ImageConditionsConfig
from kinescribe.models.vision import VisionConfig


def image_condition_rows(config: ImageConditionsConfig) -> Iterator[Row]:
    """Every module of the conditions."""
    for i in (0, 2):
        yield Row(f"fps.{i}", f"fps_embedding.{i}", f"fps_embedding.{i}")
        yield Row(f"image.{i}", f"context_embedding.{i}", f"context_embedding.{i}")
    if config.local_channels == 0:
        return
    for i in (0, 2, 4):
        yield Row(f"local.channels.{i}", f"local_image_concat.{i}", f"image_latents_proj_in.{i}")
    for i in (0, 3, 5):
        theirs = f"image_latents_context_embedding.{i}"
        yield Row(f"local.tokens.{i}", f"local_image_embedding.{i}", theirs)
    ours, modelscope, diffusers = (
        "local.temporal",
        "local_temporal_encoder.layers.0",
        "image_latents_temporal_encoder",
    )
    slices = tuple(f"{diffusers}.attn1.to_{part}" for part in "qkv")
    yield Row(f"{ours}.norm", f"{modelscope}.0.norm", f"{diffusers}.norm1")
    yield Row(f"{ours}.qkv", f"{modelscope}.0.fn.to_qkv", slices)
    yield Row(f"{ours}.out", f"{modelscope}.0.fn.to_out.0", f"{diffusers}.attn1.to_out.0")
    yield Row(f"{ours}.feed_forward.0", f"{modelscope}.1.net.0.0", f"{diffusers}.ff.net.0.proj")
    yield Row(f"{ours}.feed_forward.2", f"{modelscope}.1.net.2", f"{diffusers}.ff.net.2")


def vision_rows(config: VisionConfig) -> Iterator[Row]:
    """Every module of an image tower, under the names of whole CLIP files and of ``CLIPVisionModelWithProjection``."""
    theirs = "vision_model.embeddings"
    yield Row("patches", "visual.conv1", f"{theirs}.patch_embedding")
    yield Row("class_token", "visual.class_embedding*", f"{theirs}.class_embedding*")
    yield Row("positions", "visual.positional_embedding*", f"{theirs}.position_embedding.weight*")
    yield Row("norm_before", "visual.ln_pre", "vision_model.pre_layrnorm")  # spelt so in every published file
    for n in range(config.layers):
        modelscope, diffusers = f"visual.transformer.resblocks.{n}", f"vision_model.encoder.layers.{n}"
        yield from tower_rows(f"layers.{n}", modelscope, diffusers)
    yield Row("norm_after", "visual.ln_post", "vision_model.post_layernorm")
    yield Row("project.weight", "visual.proj*", "visual_projection.weight*", transposed="modelscope")
