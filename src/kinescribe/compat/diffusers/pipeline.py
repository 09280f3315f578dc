"""``DiffusionPipeline.from_pretrained(folder)`` and the pipeline it gives, under diffusers' spellings.

The numbers are those of diffusers 0.42 on the same folder: its tokenizer's treatment of "!", its noise (drawn
in the dtype and on the device it would use), its schedulers, its rounding of PIL frames.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kinescribe.checkpoints.diffusers import is_diffusers
from kinescribe.checkpoints.files import read_json
from kinescribe.checkpoints.load import load_components, locate
from kinescribe.compat.diffusers.call import Call, Draws, TextToVideoSDPipelineOutput, as_output
from kinescribe.compat.diffusers.part import Part
from kinescribe.compat.diffusers.schedulers import Scheduler, scheduler_of
from kinescribe.components import Components
from kinescribe.diffusion.denoiser import Branch, denoiser
from kinescribe.diffusion.trajectory import Trajectory
from kinescribe.errors import OptionError
from kinescribe.models.conditions import Conditioning
from kinescribe.models.tokenizer import Tokenizer
from kinescribe.pipelines.device import pick_device
from kinescribe.pipelines.stages import Replay, decode_clip, encode_text, require_finite, say

_HARMLESS = {
    "cache_dir", "custom_revision", "device_map", "force_download", "local_files_only", "low_cpu_mem_usage",
    "mirror", "proxies", "resume_download", "revision", "safety_checker", "token", "use_auth_token",
    "use_onnx", "use_safetensors",
}  # fmt: skip


class TextToVideoSDPipeline:
    """Text to video; build it with ``from_pretrained``, call it, read ``.frames``."""

    def __init__(
        self, components: Components, scheduler: Scheduler, *, side: tuple[int, int], dtype: torch.dtype
    ) -> None:
        self._components = components
        self._side = side
        self._dtype = dtype
        self._device = components.device
        self._offloaded = False
        self.scheduler = scheduler
        factor, unet, vae = self.vae_scale_factor, components.unet, components.vae
        rows, columns = side[0] // factor, side[1] // factor
        self.unet = Part(unet, sample_size=rows if rows == columns else [rows, columns])
        self.vae = Part(vae, scaling_factor=vae.config.scale)
        self.text_encoder = Part(components.text)
        self.tokenizer = components.tokenizer

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        torch_dtype: torch.dtype | str | None = None,
        variant: str | None = None,
        scheduler: Scheduler | None = None,
        **options: Any,
    ) -> "TextToVideoSDPipeline":
        """Load a folder, or a model by its published name if it is already on this computer.

        All parts take ``torch_dtype`` (``dtype`` is the same), float32 if it is left out. ``variant`` falls
        back to the plain files. Options that only steer downloads are accepted. Raises ``OptionError`` for
        any other, ``WeightsError`` for anything wrong with the files.
        """
        asked = torch_dtype or options.pop("dtype", None)
        unknown = sorted(set(options) - _HARMLESS)
        if unknown:
            raise OptionError(f"from_pretrained has no option {unknown[0]!r} here: leave it out")
        dtype = torch.float32 if asked in (None, "auto") else asked
        if not isinstance(dtype, torch.dtype):
            raise OptionError(f"torch_dtype={asked!r}: use a torch dtype, such as torch.float16")
        folder = locate(pretrained_model_name_or_path)
        components = load_components(folder, device="cpu", dtype=dtype, variant=variant)
        if is_diffusers(folder):
            components.tokenizer = _as_published(components.tokenizer)
        found = scheduler or scheduler_of(folder, components.schedule)
        return cls(components, found, side=_side(folder, components), dtype=dtype)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: int | float | None = None,
        **options: Any,
    ) -> TextToVideoSDPipelineOutput | tuple[Any]:
        """Make one clip of each prompt; ``options`` are the fields of ``Call``, under diffusers' names.

        Left out, sizes are those of the folder, frames 16, steps 50, guidance 9 (the embedded model: its
        own). Raises ``OptionError``, a ``ValueError``, for whatever cannot be done.
        """
        call = Call.of(
            self._components.spec, self._side, prompt=prompt, height=height, width=width,
            num_frames=num_frames, num_inference_steps=num_inference_steps, guidance_scale=guidance_scale,
            **options,
        )  # fmt: skip
        self._prepare()
        latents = self._sample(call)
        frames = (
            latents if call.output_type == "latent" else as_output(self._decode(latents), call.output_type)
        )
        return TextToVideoSDPipelineOutput(frames) if call.return_dict else (frames,)

    def encode_prompt(
        self,
        prompt: str | list[str] | None,
        device: torch.device | str | None = None,
        num_images_per_prompt: int = 1,
        do_classifier_free_guidance: bool = True,
        negative_prompt: str | list[str] | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Embeddings ``(b, 77, d)`` of prompts and negative prompts (None without guidance)."""
        if prompt_embeds is None:
            prompt_embeds = self._embed([prompt] if isinstance(prompt, str) else list(prompt or []))
        count = len(prompt_embeds)
        if do_classifier_free_guidance and negative_prompt_embeds is None:
            words = negative_prompt or ""
            negative = [words] * count if isinstance(words, str) else list(words)
            if len(negative) != count:
                raise OptionError(f"{len(negative)} negative prompts for {count} prompts: give as many")
            negative_prompt_embeds = self._embed(negative)
        where = torch.device(device) if device is not None else self._device
        pair = [
            None if part is None else part.to(where, self._dtype).repeat_interleave(num_images_per_prompt, 0)
            for part in (prompt_embeds, negative_prompt_embeds)
        ]
        assert pair[0] is not None
        return pair[0], pair[1] if do_classifier_free_guidance else None

    def to(self, *args: Any, **options: Any) -> "TextToVideoSDPipeline":
        """Move or convert the networks: ``to("cuda")``, ``to(torch.float16)``, or both at once."""
        options.pop("silence_dtype_warnings", None)
        for item in (
            *args,
            *(options.pop(name, None) for name in ("device", "dtype", "torch_device", "torch_dtype")),
        ):
            if isinstance(item, torch.dtype):
                self._dtype = item
                self._components.to(dtype=item)
            elif item is not None:
                self._device = pick_device(str(item))
                self._components.to(device=self._device)
        if options:
            raise OptionError(f"to has no option {next(iter(options))!r}: leave it out")
        return self

    def enable_model_cpu_offload(
        self, gpu_id: int | None = None, device: torch.device | str = "cuda"
    ) -> None:
        """Keep the networks in main memory and move each to the GPU while it works.

        Without a GPU there is nothing to move: it says so and goes on, on the processor.
        """
        if not torch.cuda.is_available():
            say("enable_model_cpu_offload: no GPU on this machine, computing on the processor")
            return
        index = torch.device(device).index if gpu_id is None else gpu_id
        self._components.to(device="cpu")
        self._device = pick_device("cuda" if index is None else f"cuda:{index}")
        self._offloaded = True

    def enable_sequential_cpu_offload(
        self, gpu_id: int | None = None, device: torch.device | str = "cuda"
    ) -> None:
        """The same as ``enable_model_cpu_offload``: networks are moved whole, which is much faster."""
        self.enable_model_cpu_offload(gpu_id, device)

    def enable_vae_slicing(self) -> None:
        """Nothing to do: frames are always decoded a few at a time."""

    def enable_vae_tiling(self) -> None:
        """Nothing to do: frames are decoded one by one when they are large."""

    def enable_attention_slicing(self, slice_size: str | int | None = "auto") -> None:
        """Nothing to do: attention here never holds its whole matrix."""

    def enable_xformers_memory_efficient_attention(self, attention_op: Any = None) -> None:
        """Nothing to do: attention here is memory-efficient by itself."""

    disable_vae_slicing = disable_vae_tiling = disable_attention_slicing = enable_vae_slicing
    disable_xformers_memory_efficient_attention = enable_vae_slicing

    def set_progress_bar_config(self, **options: Any) -> None:
        """Nothing to do: no bar is shown; use ``callback``."""

    @property
    def device(self) -> torch.device:
        """Where the networks lie."""
        return self._components.device

    @property
    def dtype(self) -> torch.dtype:
        """The number format that was asked for."""
        return self._dtype

    @property
    def vae_scale_factor(self) -> int:
        """Pixels a side of one latent."""
        return self._components.vae.config.factor

    def _prepare(self) -> None:
        """Half precision is for GPUs: on a processor it takes minutes where float32 takes seconds."""
        slow = self._device.type == "cpu" and self._dtype == torch.float16
        if slow and self._components.dtype != torch.float32:
            say("float16 is very slow on a processor: computing in float32")
        wanted = torch.float32 if slow else self._dtype
        if self._components.dtype != wanted:
            self._components.to(dtype=wanted)

    def _sample(self, call: Call) -> Tensor:
        positive, negative = self.encode_prompt(
            call.prompt, None, 1, call.guided, call.negative_prompt, call.prompt_embeds,
            call.negative_prompt_embeds,
        )  # fmt: skip
        unet, factor = self._components.unet, self.vae_scale_factor
        rows, columns = call.height // factor, call.width // factor
        shape = (len(positive), unet.config.in_channels, call.num_frames, rows, columns)
        path = self.scheduler.plan(call.num_inference_steps)
        step_dtype = torch.float32 if self.scheduler.draws_float32 else self._dtype
        draws = Draws(call.generator, shape, device=self._device, dtype=self._dtype, step_dtype=step_dtype)
        latents = draws.initial() if call.latents is None else call.latents.to(self._device)
        if tuple(latents.shape) != shape:
            raise OptionError(f"latents have shape {tuple(latents.shape)}: this call needs {shape}")
        tokens: dict[str, Tensor] = (
            {"positive": positive} if negative is None else {"both": torch.cat([negative, positive])}
        )
        with self._placed(unet):
            return self._steps(call, path, latents, draws, tokens)

    def _steps(
        self, call: Call, path: Trajectory, latents: Tensor, draws: Draws, tokens: dict[str, Tensor]
    ) -> Tensor:
        unet, dtype = Replay(self._components.unet), self._components.dtype

        def predict(x: Tensor, t: float, branch: Branch) -> Tensor:
            times = torch.full((len(x),), t, device=x.device)
            return unet(x.to(dtype), times, Conditioning(tokens=tokens[branch].to(dtype)))

        prediction = self.scheduler.schedule().config.prediction
        denoise = denoiser(predict, prediction, guidance=call.guidance_scale)
        x = latents.float() * path.start
        steps = self.scheduler.run(denoise, x, path, draws.step, call.eta)
        for index, (leg, step) in enumerate(zip(path, steps, strict=True)):
            x = step.x
            require_finite(x, step=index + 1, total=len(path), unet=self._components.unet, again=unet)
            if call.callback is not None and index % call.callback_steps == 0:
                shown = x / leg.to.signal if self.scheduler.latents_in_ratio_space else x
                call.callback(index, torch.tensor(leg.t), shown.to(self._dtype))
        return x.to(self._dtype)

    def _embed(self, prompts: list[str]) -> Tensor:
        with self._placed(self._components.text):
            return encode_text(self._components, prompts)

    def _decode(self, latents: Tensor) -> Tensor:
        vae = self._components.vae
        with self._placed(vae):
            clips = [torch.cat([images.float() for images in decode_clip(vae, clip)]) for clip in latents]
        return torch.stack(clips)

    @contextmanager
    def _placed(self, network: nn.Module) -> Iterator[None]:
        """The network where the work is done, and back in main memory afterwards if it is offloaded."""
        network.to(self._device)
        try:
            yield
        finally:
            if self._offloaded:
                network.to("cpu")


DiffusionPipeline = TextToVideoSDPipeline


def _as_published(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer as the published folder's own code runs it, with every "!" turned into padding."""
    return Tokenizer(tokenizer.full, context_length=tokenizer.context_length, exclamation_is_pad=True)


def _side(folder: Path, components: Components) -> tuple[int, int]:
    """Height and width of a call that names none, in pixels."""
    path = folder / "unet" / "config.json"
    size = read_json(path).get("sample_size") if path.is_file() else None
    if size is None:
        return components.spec.defaults.height, components.spec.defaults.width
    rows, columns = size if isinstance(size, list) else (size, size)
    return rows * components.vae.config.factor, columns * components.vae.config.factor
