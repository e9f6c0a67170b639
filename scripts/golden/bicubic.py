"""Pillow's bicubic on random sizes: the checksums of worker/tests/bicubic_golden.rs.

    python scripts/golden/bicubic.py [worker/tests/data/bicubic.json] [cases]

Needs Pillow 13.0.0 and numpy 2.x. A picture is drawn from its number alone (SplitMix64), so that only sizes and CRC-32 of
the result need to be kept. Sizes are spread over all proportions: tall, wide, lines of one pixel, equal sides, growing,
shrinking and both at once.
"""

import json
import sys
import zlib

import numpy as np
from PIL import Image

OUT = sys.argv[1] if len(sys.argv) > 1 else "worker/tests/data/bicubic.json"
COUNT = int(sys.argv[2]) if len(sys.argv) > 2 else 400


def noise(seed, n):
    """Bytes 0 … n−1 of stream `seed`: the top byte of SplitMix64."""
    with np.errstate(over="ignore"):
        z = (np.arange(1, n + 1, dtype=np.uint64) + np.uint64(seed) * np.uint64(1 << 32)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return ((z ^ (z >> np.uint64(31))) >> np.uint64(56)).astype(np.uint8)


def main():
    rng = np.random.default_rng(384)
    side = lambda: int(np.exp(rng.uniform(0, np.log(420))))
    cases = []
    while len(cases) < COUNT:
        w, h, to_w, to_h = (side() for _ in range(4))
        shape = rng.integers(0, 8)
        if shape == 0:
            w = 1
        elif shape == 1:
            h = 1
        elif shape == 2:
            to_w = 1
        elif shape == 3:
            to_h = 1
        elif shape == 4:
            h, to_h = w, to_w
        elif shape == 5:
            to_w = w
        seed = len(cases)
        pixels = noise(seed, w * h * 3)
        if seed % 3 == 0:
            # Few levels in large steps, as of a picture with clipped parts.
            pixels = (pixels // 128) * 255
        image = Image.fromarray(pixels.astype(np.uint8).reshape(h, w, 3))
        got = image.resize((to_w, to_h), Image.Resampling.BICUBIC)
        cases.append([w, h, to_w, to_h, zlib.crc32(got.tobytes())])
    with open(OUT, "w") as out:
        out.write("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")


main()
