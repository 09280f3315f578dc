"""What all pipelines of this door share: ``from_pretrained``, where networks lie, prompts, steps, decoding.

The numbers are those of diffusers 0.42 on the same folder: its tokenizer's treatment of "!", its noise (drawn
in the dtype and on the device it would use), its schedulers, its rounding of PIL frames.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from kinescribe.catalog import ModelSpec
from kinescribe.checkpoints.detect import describe
from kinescribe.checkpoints.diffusers import is_diffusers
from kinescribe.checkpoints.files import read_json
from kinescribe.checkpoints.load import load_components, locate
from kinescribe.compat.diffusers.call import Call, Draws, TextToVideoSDPipelineOutput, as_output
from kinescribe.compat.diffusers.loras import LoraLoading
from kinescribe.compat.diffusers.part import Part, Switches
from kinescribe.compat.diffusers.schedulers import Scheduler, scheduler_of
from kinescribe.components import Components
from kinescribe.diffusion.denoiser import Branch, denoiser
from kinescribe.diffusion.trajectory import Trajectory
from kinescribe.errors import OptionError
from kinescribe.models.conditions import Conditioning
from kinescribe.models.tokenizer import Tokenizer
from kinescribe.pipelines.denoise import LATENT_CHANNELS, Conditions, branches
from kinescribe.pipelines.device import pick_device
from kinescribe.pipelines.memory import stage
from kinescribe.pipelines.stages import decode_clip, encode_text, in_parts, say
from kinescribe.pipelines.watch import Watched

_HARMLESS = {
    "cache_dir", "custom_revision", "device_map", "force_download", "local_files_only", "low_cpu_mem_usage",
    "mirror", "proxies", "resume_download", "revision", "safety_checker", "token", "use_auth_token",
    "use_onnx", "use_safetensors",
}  # fmt: skip

P = TypeVar("P", bound="DiffusionPipeline")


class DiffusionPipeline(Switches, LoraLoading, ABC):
    """A loaded model; ``from_pretrained`` of this class gives the pipeline that the folder is for."""

    made_for: ClassVar[str]

    def __init__(
        self, components: Components, scheduler: Scheduler, *, side: tuple[int, int], dtype: torch.dtype
    ) -> None:
        super().__init__()
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
        self.tokenizer, text = components.require_text()
        self.text_encoder = Part(text)

    @staticmethod
    @abstractmethod
    def fits(spec: ModelSpec) -> bool:
        """Whether this pipeline runs a model."""

    @classmethod
    def from_pretrained(
        cls: type[P],
        pretrained_model_name_or_path: str | Path,
        *,
        torch_dtype: torch.dtype | str | None = None,
        variant: str | None = None,
        scheduler: Scheduler | None = None,
        **options: Any,
    ) -> P:
        """Load a folder, or a model by its published name if it is already on this computer.

        All parts take ``torch_dtype`` (``dtype`` is the same), float32 if it is left out. ``variant`` falls
        back to the plain files. Options that only steer downloads are accepted. Raises ``OptionError`` for
        any other and for a model that the pipeline is not for, ``WeightsError`` for anything wrong with the files.
        """
        asked = torch_dtype or options.pop("dtype", None)
        unknown = sorted(set(options) - _HARMLESS)
        if unknown:
            raise OptionError(f"from_pretrained has no option {unknown[0]!r} here: leave it out")
        dtype = torch.float32 if asked in (None, "auto") else asked
        if not isinstance(dtype, torch.dtype):
            raise OptionError(f"torch_dtype={asked!r}: use a torch dtype, such as torch.float16")
        folder = locate(pretrained_model_name_or_path)
        chosen = cls._chosen(folder, describe(folder, variant=variant, spec=None).spec)
        with stage("loading"):
            components = load_components(folder, device="cpu", dtype=dtype, variant=variant)
        if is_diffusers(folder):
            components.tokenizer = _as_published(components.require_text()[0])
        found = scheduler or scheduler_of(folder, components.schedule)
        return chosen(components, found, side=_side(folder, components), dtype=dtype)

    @classmethod
    def _chosen(cls: type[P], folder: Path, spec: ModelSpec) -> type[P]:
        """The class itself, or for this one the class that the folder names, or that fits its model."""
        if cls is not DiffusionPipeline:
            if not cls.fits(spec):
                raise OptionError(f"{spec.name} is for {spec.kind}: {cls.__name__} runs {cls.made_for}")
            return cls
        fitting = {one.__name__: one for one in cls.__subclasses__() if one.fits(spec)}
        if not fitting:
            raise OptionError(
                f"{spec.name} is for {spec.kind} in a way that diffusers has no pipeline for: use kinescribe.load"
            )
        index = folder / "model_index.json"
        named = read_json(index).get("_class_name") if index.is_file() else None
        return fitting.get(str(named), next(iter(fitting.values())))

    @abstractmethod
    def __call__(self, *arguments: Any, **options: Any) -> TextToVideoSDPipelineOutput | tuple[Any]:
        """Make clips; the pipelines say of what."""

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

    def to(self: P, *args: Any, **options: Any) -> P:
        """Move or convert the networks: ``to("cuda")``, ``to(torch.float16)``, or both at once."""
        options.pop("silence_dtype_warnings", None)
        for item in (
            *args,
            *(options.pop(name, None) for name in ("device", "dtype", "torch_device", "torch_dtype")),
        ):
            with stage("loading"):
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
        """The same as ``enable_model_cpu_offload``: networks are moved whole."""
        self.enable_model_cpu_offload(gpu_id, device)

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

    def _prepare(self, call: Call) -> None:
        """Number format and adapters as the call needs them.

        Half precision is for GPUs: on a processor it takes minutes where float32 takes seconds.
        """
        slow = self._device.type == "cpu" and self._dtype == torch.float16
        if slow and self._components.dtype != torch.float32:
            say("float16 is very slow on a processor: computing in float32")
        wanted = torch.float32 if slow else self._dtype
        if self._components.dtype != wanted:
            self._components.to(dtype=wanted)
        self._lay_loras(call.lora_scale)

    def _result(self, call: Call, latents: Tensor) -> TextToVideoSDPipelineOutput | tuple[Any]:
        wanted = call.output_type
        frames = latents if wanted == "latent" else as_output(self._decode(latents), wanted)
        return TextToVideoSDPipelineOutput(frames) if call.return_dict else (frames,)

    def _prompts(self, call: Call, copies: int = 1) -> tuple[Tensor, Tensor | None]:
        """Embeddings of the call's prompts, each ``copies`` times, and where there is guidance of the negative ones."""
        return self.encode_prompt(
            call.prompt, None, copies, call.guided, call.negative_prompt, call.prompt_embeds,
            call.negative_prompt_embeds,
        )  # fmt: skip

    def _tokens(self, call: Call) -> Conditions:
        """What a UNet is told that reads text alone."""
        positive, negative = (
            None if part is None else Conditioning(tokens=part.to(self._components.dtype))
            for part in self._prompts(call)
        )
        assert positive is not None
        return branches(positive, negative)

    def _latent_shape(self, clips: int, frames: int, height: int, width: int) -> tuple[int, ...]:
        factor = self.vae_scale_factor
        return clips, LATENT_CHANNELS, frames, height // factor, width // factor

    def _draws(self, call: Call, shape: tuple[int, ...]) -> Draws:
        step_dtype = torch.float32 if self.scheduler.draws_float32 else self._dtype
        return Draws(call.generator, shape, device=self._device, dtype=self._dtype, step_dtype=step_dtype)

    def _start(self, call: Call, draws: Draws, shape: tuple[int, ...]) -> Tensor:
        latents = draws.initial() if call.latents is None else call.latents.to(self._device)
        if tuple(latents.shape) != shape:
            raise OptionError(f"latents have shape {tuple(latents.shape)}: this call needs {shape}")
        return latents.float()

    def _denoised(
        self, call: Call, path: Trajectory, x: Tensor, draws: Draws, conditions: Conditions
    ) -> Tensor:
        """The latents at the end of ``path``, from ``x`` at its beginning."""
        with stage("denoising"), self._placed(self._components.unet):
            return self._steps(call, path, x, draws, conditions)

    def _steps(self, call: Call, path: Trajectory, x: Tensor, draws: Draws, conditions: Conditions) -> Tensor:
        unet = Watched(self._components.unet, self._components.predict, len(path))
        dtype = self._components.dtype

        def predict(x: Tensor, t: float, branch: Branch) -> Tensor:
            times = torch.full((len(x),), t, device=x.device)
            return unet(x.to(dtype), times, conditions[branch])

        prediction = self.scheduler.schedule().config.prediction
        denoise = denoiser(in_parts(predict), prediction, guidance=call.guidance_scale)
        skipped = call.num_inference_steps - len(path)
        steps = self.scheduler.run(denoise, x, path, draws.step, call.eta, skipped=skipped)
        for index, (leg, step) in enumerate(zip(path, steps, strict=True)):
            x = step.x
            unet.after(index + 1, x)
            if call.callback is not None and index % call.callback_steps == 0:
                shown = x / leg.to.signal if self.scheduler.latents_in_ratio_space else x
                call.callback(index, torch.tensor(leg.t), shown.to(self._dtype))
        unet.settle()
        return x.to(self._dtype)

    def _embed(self, prompts: list[str]) -> Tensor:
        with stage("reading the prompt"), self._placed(self._components.require_text()[1]):
            return encode_text(self._components, prompts)

    def _decode(self, latents: Tensor) -> Tensor:
        with stage("decoding"), self._placed(self._components.vae):
            clips = [
                torch.cat([images.float() for images in decode_clip(self._components, clip)])
                for clip in latents
            ]
        return torch.stack(clips)

    @contextmanager
    def _placed(self, *networks: nn.Module) -> Iterator[None]:
        """The networks where the work is done, and back in main memory afterwards if they are offloaded."""
        with ExitStack() as back:
            for network in networks:
                if self._offloaded:
                    back.callback(network.to, "cpu")
                network.to(self._device)
            yield


def _as_published(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer as the published folder's own code runs it: where id 0 pads, every "!" is padding."""
    if tokenizer.padded_with_end:
        return tokenizer
    return Tokenizer(tokenizer.full, context_length=tokenizer.context_length, exclamation_is_pad=True)


def _side(folder: Path, components: Components) -> tuple[int, int]:
    """Height and width of a call that names none, in pixels."""
    path = folder / "unet" / "config.json"
    size = read_json(path).get("sample_size") if path.is_file() else None
    if size is None:
        return components.spec.defaults.height, components.spec.defaults.width
    rows, columns = size if isinstance(size, list) else (size, size)
    return rows * components.vae.config.factor, columns * components.vae.config.factor
