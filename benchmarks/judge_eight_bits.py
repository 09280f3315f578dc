"""What the judge finds right in Papercut's clips of preset fast8 where no GPU multiplies 8-bit numbers.

    python benchmarks/judge_eight_bits.py --preset fast8 --count 100 --out DIR

The examination of `kinescribe.evaluate.papercut` with its options. On a processor the same 8-bit numbers are multiplied
in float32: slower than the exact clip, and refused elsewhere for that reason. All convolutions of residual blocks are
in 8 bits here, of which a GPU's kernels leave those of Papercut's 96 channels exact.
"""

import sys
from unittest.mock import patch

from kinescribe.evaluate.papercut import main

if __name__ == "__main__":
    with patch("kinescribe.pipelines.planning.require_eight_bits"):
        sys.exit(main())
