"""The tasks image-to-video and video-to-video: the two stages that were published together.

Noise is drawn in the originals' order, so that ``torch.manual_seed`` before a call gives the numbers that they draw
on a CPU. They fix torch's seed once, by that of the folder's ``configuration.json``, before they build their
networks; here it is fixed once the networks are there, so the first call after that is the same every time and the
next ones continue. A ``seed`` of a call overrides it, and makes the clip that ``kinescribe.load`` makes with it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kinescribe.checkpoints.modelscope import configuration, is_modelscope
from kinescribe.compat.modelscope.call import Door, without_seed
from kinescribe.diffusion.noise import SecondStageNoise
from kinescribe.errors import OptionError
from kinescribe.media.read import as_video
from kinescribe.media.video import Video
from kinescribe.options import image_to_video, video_to_video
from kinescribe.pipelines.draws import GivenNoise
from kinescribe.pipelines.image_to_video import ImageToVideoPipeline
from kinescribe.pipelines.settings import resolve_clip, resolve_picture
from kinescribe.pipelines.video_to_video import VideoToVideoPipeline

FPS = 8.0
"""What both write, whatever the clip."""


class ImageToVideo(Door):
    """A picture to a clip: a path, a PIL image or an array in OpenCV's order, blue first.

    In a dictionary it stands under ``image``; models that read one take a ``text`` beside it. Pictures are cropped
    as in the original, which leaves two sizes of five one pixel short; the steps are those of its own DDIM loop.
    """

    def __init__(self, inner: ImageToVideoPipeline) -> None:
        self._inner = inner

    def _fields(self, item: Any) -> dict[str, Any]:
        given = dict(item) if isinstance(item, Mapping) else {"image": item}
        return {**given, "image": _red_first(given.get("image"))}

    def _make(self, fields: dict[str, Any]) -> Video:
        picture = fields.pop("image", None)
        if picture is None:
            raise OptionError("the input has no picture: pass a path, a PIL image, or {'image': ...}")
        original = {"fps": FPS, "sampler": "ddim", "spacing": "modelscope_strict"}
        request = {**({} if self._inner.spec.embedded else original), **fields}  # that is made for others
        if request.get("seed") is not None:
            return self._inner(picture, **request)
        return without_seed(self._inner(picture, **request, noise=self._global_noise(request)))

    def _global_noise(self, request: dict[str, Any]) -> GivenNoise:
        """The start from the CPU, then its offset from the device, from torch's own generators."""
        spec, components = self._inner.spec, self._inner.components
        assert spec.picture is not None
        making = resolve_picture(image_to_video(**request), spec).making
        c, factor = components.vae.config.latent_channels, components.vae.config.factor
        rows, columns = making.height // factor, making.width // factor
        posterior = (
            torch.randn(1, c, rows, columns).to(components.device) if spec.picture.sampled_latents else None
        )
        base = torch.randn(1, c, making.frames, rows, columns).to(components.device)
        if spec.picture.offset_noise:
            offset = torch.randn(1, c, making.frames, 1, 1, device=components.device)
            base = base + spec.picture.offset_noise * offset
        return GivenNoise(initial=base, posterior=posterior)


class VideoToVideo(Door):
    """A clip made anew: ``{"video_path": path, "text": words}``, of which the words may be left out.

    Every frame is made anew, where the original stops after as many as it was trained on, and stretched to the size
    of the result as there; ``fit`` is the field that changes it. Files have 8 frames a second unless ``fps`` is said.
    """

    def __init__(self, inner: VideoToVideoPipeline) -> None:
        self._inner = inner

    def _fields(self, item: Any) -> dict[str, Any]:
        return dict(item) if isinstance(item, Mapping) else {"video_path": item}

    def _make(self, fields: dict[str, Any]) -> Video:
        source = fields.pop("video_path", None)
        if source is None:
            raise OptionError("the input has no 'video_path': pass {'video_path': 'clip.mp4', 'text': '...'}")
        request = {"fps": FPS, "fit": "stretch", **fields}
        if request.get("seed") is not None:
            return self._inner(source, **request)
        clip = as_video(source)
        return without_seed(self._inner(clip, **request, noise=self._global_noise(request, clip)))

    def _global_noise(self, request: dict[str, Any], clip: Video) -> GivenNoise:
        """What the original draws: for the latents of each frame, for the start, for its stochastic solver."""
        inner = self._inner
        job = resolve_clip(
            video_to_video(**request), inner.spec, frames=len(clip.frames), size=clip.size, fps=clip.fps
        )
        draws = SecondStageNoise([torch.default_generator], inner._latent_shape(job))
        posterior, initial = draws.posterior(len(clip.frames))[0], draws.initial()
        stochastic = job.making.sampler == "dpmpp_2m_sde"
        return GivenNoise(
            initial=initial, posterior=posterior, entropy=draws.entropy()[0] if stochastic else None
        )


def _red_first(image: Any) -> Any:
    """Arrays come as OpenCV reads them; alpha stays where it is."""
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[-1] not in (3, 4):
        return image
    return np.ascontiguousarray(image[..., [2, 1, 0, *range(3, image.shape[-1])]])


def folder_seed(folder: Path) -> int | None:
    """The seed that a stage's ``configuration.json`` fixes, None if it says none."""
    if not folder.is_dir() or not is_modelscope(folder):
        return None
    seed = configuration(folder).get("model", {}).get("model_args", {}).get("seed")
    return seed if isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < 2**63 else None
