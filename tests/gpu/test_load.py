"""Loading to a CUDA device: threads, pinned buffers and all, what arrives is what is in the files."""

import pytest
import torch

from goldens import folder
from kinescribe.checkpoints import upload
from kinescribe.checkpoints.load import load_components
from kinescribe.checkpoints.upload import uploaded

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]

FOLDER = folder("text_to_video")
CUDA = torch.device("cuda")


@pytest.mark.parametrize("layout", ["diffusers", "modelscope"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_what_arrives_is_what_a_processor_reads(layout: str, dtype: torch.dtype) -> None:
    here, there = (load_components(FOLDER / layout, device=device, dtype=dtype) for device in ("cpu", CUDA))
    for name in ("unet", "vae", "text"):
        pairs = zip(
            getattr(here, name).state_dict().values(), getattr(there, name).state_dict().values(), strict=True
        )
        assert all(other.is_cuda and torch.equal(one, other.cpu()) for one, other in pairs)
    assert here.model_hash == there.model_hash


def test_buffers_are_not_written_before_they_were_copied() -> None:
    given = [torch.full((upload.PIECE // 2 + i,), i, dtype=torch.int16) for i in range(60)]
    with uploaded(iter(given), CUDA) as tensors:
        torch.cuda._sleep(200_000_000)  # the copies wait, the readers must too
        found = [tensor.clone() for tensor in tensors]
    assert all(torch.equal(one, other.cpu()) for one, other in zip(given, found, strict=True))
