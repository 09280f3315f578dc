"""`kinescribe animate`: a clip from a picture."""

import secrets
from typing import Annotated, Any

from cyclopts import Parameter

from kinescribe.catalog import default_model
from kinescribe.cli import flags
from kinescribe.cli.batch import DRAWN_SEEDS, Item
from kinescribe.cli.make import make_one
from kinescribe.cli.prompts import one_prompt
from kinescribe.cli.source import name_after, read_source
from kinescribe.cli.terminal import Speaker
from kinescribe.cli.work import second_after
from kinescribe.options import ImageToVideo, image_to_video

Picture = Annotated[
    str,
    Parameter(name="image", help="The picture: PNG, JPEG, WebP, GIF, BMP or TIFF, by what is in the file."),
]
Words = Annotated[str, Parameter(help="What happens, in words, for a model that reads them.")]


@flags.second_flags
@flags.request_flags(ImageToVideo, leave_out=("prompt",))
def animate(
    image: Picture,
    /,
    *prompt: Words,
    model: flags.OwnModel = None,
    making: flags.Making = flags.USUAL,
    refining: flags.Refining = flags.UNREFINED,
    terminal: Speaker,
    **fields: Any,
) -> None:
    """Make a clip from a picture."""
    first, again = flags.two_stages(fields, making.size, refining.refine_size)
    request = image_to_video(
        **{"seed": secrets.randbelow(DRAWN_SEEDS), **first, "prompt": one_prompt(prompt)}
    )
    engine = making.engine(model or default_model("image-to-video"), "image-to-video")
    second = refining.engine(making, again, after=engine)
    making.judge(engine, second)(request.prompt)
    source = read_source(image, "image-to-video")
    item = Item(
        label="clip",
        request=request,
        error=None,
        target=making.output or name_after(image, overwrite=making.overwrite),
        source=source,
        second=second_after(request, again) if second else None,
    )
    make_one(item, engine, making.saving(), terminal, second=second)
