"""Writes coordinator/search/src/sobol_directions.txt and coordinator/search/tests/data/sobol_reference.json.

    pip install scipy==1.17.1 && python scripts/golden/sobol_reference.py

The first is Joe and Kuo's table new-joe-kuo-6 as scipy ships it: a line `a m1 m2 ...` a dimension, from the second on,
`a` without the polynomial's first and last coefficient. The second holds scipy's first points, unscrambled.
"""

import json
from pathlib import Path

import numpy as np
import scipy
from scipy.stats import qmc

DIMENSIONS, POINTS = 512, 24
SEARCH = Path(__file__).resolve().parents[2] / "coordinator/search"

table = np.load(Path(scipy.__file__).parent / "stats/_sobol_direction_numbers.npz")
lines = []
for poly, vinit in zip(table["poly"][1:DIMENSIONS], table["vinit"][1:DIMENSIONS]):
    degree = int(poly).bit_length() - 1
    a = (int(poly) >> 1) & ((1 << (degree - 1)) - 1)
    lines.append(" ".join(str(x) for x in [a, *map(int, vinit[:degree])]))
(SEARCH / "src/sobol_directions.txt").write_text("\n".join(lines) + "\n")

points = qmc.Sobol(DIMENSIONS, scramble=False, bits=32).random(POINTS)
reference = {"scipy": scipy.__version__, "dimensions": DIMENSIONS, "points": [int(x * 2**32) for x in points.ravel()]}
(SEARCH / "tests/data/sobol_reference.json").write_text(json.dumps(reference, separators=(",", ":")) + "\n")
