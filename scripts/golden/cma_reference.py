"""Writes coordinator/search/tests/data/cma_reference.json: steps of the package cmaes on recorded random numbers.

    pip install cmaes==0.13.1 numpy && python scripts/golden/cma_reference.py

The coordinator draws x = m + sigma C^(1/2) z with the symmetric root B D B^T, cmaes x = m + sigma B D z. Fed
with B^T z, cmaes draws the very same points, whatever signs and order its eigenvectors have.
"""

import json
import math
from importlib.metadata import version
from pathlib import Path

import numpy as np
from cmaes import CMA

OUT = Path(__file__).resolve().parents[2] / "coordinator/search/tests/data/cma_reference.json"

# (dimensions, population or None for the default, generations, levels or None)
CASES = [
    (1, None, 12, None),
    (2, None, 12, None),
    (2, 2, 8, None),
    (5, None, 12, None),
    (5, 7, 10, 12),  # a coarse objective: ties in every generation
    (10, None, 12, None),
    (20, None, 8, None),
]


def objective(x, levels):
    """Larger is better. Every third optimum lies outside the cube, so that bounds matter."""
    n = len(x)
    value = 0.0
    for i in range(n):
        target = (0.2, 0.7, 1.1)[i % 3]
        value -= (1.0 + 9.0 * i / max(n - 1, 1)) * (x[i] - target) ** 2
    return value if levels is None else math.floor(value * levels) / levels


class Recorded:
    """Stands in for cmaes's generator: recorded numbers, turned into its eigenbasis."""

    def __init__(self, optimizer, seed):
        self.optimizer, self.source, self.drawn = optimizer, np.random.RandomState(seed), []

    def randn(self, n):
        z = np.round(self.source.randn(n), 5)
        self.drawn += z.tolist()
        basis, _ = self.optimizer._eigen_decomposition()
        return basis.T @ z


def short(values):
    return [float(f"{v:.12g}") for v in np.asarray(values).ravel()]


def case(number, n, population, generations, levels):
    bounds = np.tile([0.0, 1.0], (n, 1))
    optimizer = CMA(
        mean=np.full(n, 0.5), sigma=1 / 6, bounds=bounds, n_max_resampling=10 * n, population_size=population
    )
    optimizer._rng = recorded = Recorded(optimizer, 100 + number)
    steps = []
    for _ in range(generations):
        points = [optimizer.ask() for _ in range(optimizer.population_size)]
        # cmaes minimises.
        optimizer.tell([(x, -objective(x, levels)) for x in points])
        lower = np.tril_indices(n)
        steps.append(
            {
                "points": short(points),
                "mean": short(optimizer._mean),
                "sigma": float(optimizer._sigma),
                "covariance": short(((optimizer._C + optimizer._C.T) / 2)[lower]),
            }
        )
    return {
        "dimensions": n,
        "population": optimizer.population_size,
        "levels": levels,
        "normals": recorded.drawn,
        "steps": steps,
    }


def main():
    assert version("cmaes") == "0.13.1", "written for cmaes 0.13.1"
    cases = [case(i, n, p, g, levels) for i, (n, p, g, levels) in enumerate(CASES)]
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps({"generator": "scripts/golden/cma_reference.py", "cases": cases}) + "\n")
    for c in cases:
        print(c["dimensions"], c["population"], len(c["normals"]), c["steps"][-1]["sigma"])
    print(OUT, OUT.stat().st_size)


if __name__ == "__main__":
    main()
