import time

import pytest
import torch
from torch import nn

from kinescribe.perf.profile import group_of, profile, summed

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("kernel", "operation", "group"),
    [
        ("void cudnn::ops::nchwToNhwcKernel<__half>", "aten::cudnn_convolution", "copies and layout"),
        ("sm90_xmma_fprop_implicit_gemm_f16f16_f16f32", "aten::cudnn_convolution", "convolutions"),
        ("sm90_xmma_fprop_implicit_gemm_f16f16_f16f32", "", "convolutions"),
        ("nvjet_hsh_128x256_64x4_2x1_v_bz_coopA_TNT", "aten::addmm", "matrix products"),
        ("nvjet_hsh_128x256_64x4_2x1_v_bz_coopA_TNT", "", "matrix products"),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop", "", "attention"),
        ("_frame_attention", "", "attention"),
        ("_norm_apply", "", "norms"),
        ("_normalise", "", "norms"),
        ("_linear", "", "matrix products"),
        ("_geglu", "", "element-wise"),
        ("_add_biased", "", "element-wise"),
        ("_place", "", "copies and layout"),
        ("void at::native::RowwiseMomentsCUDAKernel<c10::Half>", "", "norms"),
        ("void at::native::vectorized_elementwise_kernel<4, SiluFunctor>", "aten::silu_", "element-wise"),
        ("void at::native::unrolled_elementwise_kernel<direct_copy_kernel_cuda>", "aten::copy_", "copies and layout"),
        ("void at::native::CatArrayBatchedCopy<__half>", "aten::cat", "copies and layout"),
        ("Memcpy DtoH (Device -> Pinned)", "", "copies and layout"),
        ("aten::mkldnn_convolution", "aten::mkldnn_convolution", "convolutions"),
        ("something_new", "", "other"),
    ],
)  # fmt: skip
def test_a_kernel_belongs_to_its_group(kernel: str, operation: str, group: str) -> None:
    assert group_of(kernel, operation) == group


def test_sums_lose_nothing() -> None:
    spent = [("gemm", "aten::mm", 2.0), ("gemm", "aten::mm", 1.0), ("silu", "aten::silu", 0.5)]
    told = summed(spent, wall=4.0, host=1.0)
    assert (told.busy, told.kernels) == (3.5, 3)
    assert list(told.groups) == ["matrix products", "element-wise"]
    assert told.longest[0][0] == "gemm" and told.longest[0][1].count == 2


def test_the_work_of_a_network_is_found_by_kind() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.SiLU(), nn.Flatten(), nn.Linear(288, 4)
    )
    x, runs = torch.randn(1, 3, 8, 8), []

    def work() -> None:
        runs.append(time.monotonic())
        network(x)

    with torch.inference_mode():
        told = profile(work, CPU, warmup=2)
    assert {"convolutions", "norms", "element-wise", "matrix products"} <= set(told.groups)
    assert len(runs) == 4 and told.busy > 0 and 0 < told.host <= told.wall
