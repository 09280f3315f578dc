"""What counting cannot see of a device, in one place: allowances for libraries and shares of its speed."""

MIB = 1 << 20

CONTEXT = 512 * MIB
"""What CUDA keeps for itself in a process (code of kernels, queues); no part of what torch can allot."""

WORKSPACE = {"cuda": 64 * MIB, "mps": 192 * MIB, "cpu": 32 * MIB}
"""Scratch memory of matrix and convolution libraries, which counting cannot see.

On an H200 the most in use was that of the count and 60 to 70 MB, for a step of Video-to-Video, of I2VGen-XL, and
where the UNet alone is on the device. For Apple's devices it is a guess.
"""

LOST = 0.06
"""Assumed share of the activations that an allocator loses between pieces taken and given back in other sizes."""

SPARE = {"cuda": 64 * MIB, "mps": 0, "cpu": 0}
"""Bytes that stay free at least: with 15 MiB a step of text to video took 124 ms on an H200, with 500 MiB 67."""

SHARE_OF_MATRIX_SPEED = {"cuda": 0.6, "mps": 0.4, "cpu": 0.4}
"""Assumed of convolutions, attention and small products: their share of the speed of one large matrix product."""

LATENTS = 8
"""Copies of the latents in float32 that a sampler keeps at its most."""

# Bounds that spare the counting where there is more memory than a request can need, in activations of the finest
# level: frames x rows x columns x channels, of the UNet for each branch of guidance and without slices. Tests hold the
# counts to them.
SMALL_THINGS = 64 * MIB
UNET_UNITS = 34
KEPT_UNITS = 8
VAE_UNITS = 8
