"""Papercut's sisters in the package: one needs few steps, one continues a still, one enlarges a clip."""

from dataclasses import replace

from kinescribe.catalog.spec import Defaults, ModelSpec, PictureInput, Refinement

_DEFAULTS = Defaults(
    frames=16, width=128, height=128, fps=8.0, steps=16, guidance=3.0, sampler="dpmpp_2m", negative_prompt=""
)
_OWN_WORLD = "knows only Papercut's own small paper world; words outside it are named and left out"

QUICK = ModelSpec(
    name="papercut-quick",
    kind="text-to-video",
    title="Papercut in four steps, the small embedded model: paper shapes that move, on any computer",
    licence="Apache-2.0",
    defaults=replace(_DEFAULTS, steps=4, guidance=1.0, sampler="ddim"),
    trained_frames=16,
    grid=8,
    noise="own",
    notes=(
        "knows only its own small paper world; words outside it are named and left out",
        "made for 4 steps of ddim without guidance; for other settings take papercut",
    ),
    embedded=True,
)

ANIMATE = ModelSpec(
    name="papercut-animate",
    kind="image-to-video",
    title="Papercut Animate, small and embedded: 16 frames of 128 x 128 that begin with a still of Papercut",
    licence="Apache-2.0",
    defaults=_DEFAULTS,
    trained_frames=16,
    grid=8,
    noise="own",
    picture=PictureInput(
        first_frame=True,
        takes_text=True,
        condition_fps=8,
        crop=None,
        offset_noise=0.0,
        sampled_latents=False,
    ),
    notes=(_OWN_WORLD, "a condition_fps of 16 shows half of a motion in as many frames"),
    embedded=True,
)

REFINE = ModelSpec(
    name="papercut-refine",
    kind="video-to-video",
    title="Papercut Refine, small and embedded: clips of Papercut anew at 256 x 256",
    licence="Apache-2.0",
    defaults=replace(_DEFAULTS, width=256, height=256, steps=4, guidance=1.0),
    trained_frames=16,
    grid=8,
    noise="own",
    refinement=Refinement(
        noise_level=29,
        inversion=None,
        positive_prompt="",
        guidance_rescale=0.0,
        filtered_skips=False,
        slow_sampler=None,
        slow_steps=None,
        sampled_latents=False,
        consistent_start=True,
    ),
    notes=(_OWN_WORLD, "trained for its own strength and less: a higher one gives noise"),
    embedded=True,
)
