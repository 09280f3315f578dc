"""``from diffusers.utils import export_to_video``, with the module's foreign name."""

from kinescribe.compat.diffusers.export import export_to_gif as export_to_gif
from kinescribe.compat.diffusers.export import export_to_video as export_to_video
from kinescribe.compat.diffusers.pictures import load_image as load_image
from kinescribe.compat.diffusers.pictures import load_video as load_video
