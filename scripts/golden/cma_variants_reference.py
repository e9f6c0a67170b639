"""Writes coordinator/search/tests/data/cma_variants.json: steps of the package cmaes on recorded random numbers, for
learning-rate adaptation, the separable variant, integers with margin, and warm starts.

    pip install cmaes==0.13.1 numpy scipy && python scripts/golden/cma_variants_reference.py

Objective, recorded numbers and their turn into the eigenbasis are those of cma_reference.py.
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from cma_reference import Recorded, objective, short
from cmaes import CMA, CMAwM, SepCMA, get_warm_start_mgd

OUT = Path(__file__).resolve().parents[2] / "coordinator/search/tests/data/cma_variants.json"


class Plain(Recorded):
    """For the separable variant, whose axes are the coordinates."""

    def randn(self, n):
        z = np.round(self.source.randn(n), 5)
        self.drawn += z.tolist()
        return z


def lower(matrix):
    return short(((matrix + matrix.T) / 2)[np.tril_indices(len(matrix))])


def adaptive(number, n, generations, noise):
    """The objective as it is, or with recorded noise."""
    optimizer = CMA(
        mean=np.full(n, 0.5), sigma=1 / 6, bounds=np.tile([0.0, 1.0], (n, 1)), n_max_resampling=10 * n, lr_adapt=True
    )
    optimizer._rng = recorded = Recorded(optimizer, 200 + number)
    source, steps = np.random.RandomState(300 + number), []
    for _ in range(generations):
        points = [optimizer.ask() for _ in range(optimizer.population_size)]
        scores = [objective(x, None) + noise * round(source.randn(), 5) for x in points]
        optimizer.tell([(x, -s) for x, s in zip(points, scores)])
        steps.append({
            "points": short(points), "scores": short(scores), "mean": short(optimizer._mean),
            "sigma": float(optimizer._sigma), "covariance": lower(optimizer._C),
            "extra": short([optimizer._eta_mean, optimizer._eta_Sigma]),
        })
    return {"kind": "adaptive", "dimensions": n, "values": [], "population": optimizer.population_size,
            "normals": recorded.drawn, "steps": steps}


def separable(number, n, generations):
    optimizer = SepCMA(
        mean=np.full(n, 0.5), sigma=1 / 6, bounds=np.tile([0.0, 1.0], (n, 1)), n_max_resampling=10 * n
    )
    optimizer._rng = recorded = Plain(optimizer, 400 + number)
    steps = []
    for _ in range(generations):
        points = [optimizer.ask() for _ in range(optimizer.population_size)]
        scores = [objective(x, None) for x in points]
        optimizer.tell([(x, -s) for x, s in zip(points, scores)])
        steps.append({
            "points": short(points), "scores": short(scores), "mean": short(optimizer._mean),
            "sigma": float(optimizer._sigma), "covariance": short(optimizer._C), "extra": [],
        })
    return {"kind": "separable", "dimensions": n, "values": [], "population": optimizer.population_size,
            "normals": recorded.drawn, "steps": steps}


def margin(number, values, generations):
    """`values`: how many each coordinate has, 0 for a real one. A grid's values are the middles of its parts."""
    n = len(values)
    bounds = np.array([[0.5 / k, 1 - 0.5 / k] if k else [0.0, 1.0] for k in values])
    steps_of = np.array([1 / k if k else 0.0 for k in values])
    optimizer = CMAwM(mean=np.full(n, 0.5), sigma=1 / 6, bounds=bounds, steps=steps_of, n_max_resampling=10 * n)
    optimizer._cma._rng = recorded = Recorded(optimizer._cma, 500 + number)
    steps = []
    for _ in range(generations):
        both = [optimizer.ask() for _ in range(optimizer.population_size)]
        scores = [objective(x, None) for x, _ in both]
        optimizer.tell([(raw, -s) for (_, raw), s in zip(both, scores)])
        stretch = optimizer._A[optimizer._discrete_idx]
        steps.append({
            "points": short([x for x, _ in both]), "scores": short(scores), "mean": short(optimizer._cma._mean),
            "sigma": float(optimizer._cma._sigma), "covariance": lower(optimizer._cma._C), "extra": short(stretch),
        })
    return {"kind": "margin", "dimensions": n, "values": values, "population": optimizer.population_size,
            "normals": recorded.drawn, "steps": steps}


def warm(number, n, results):
    source = np.random.RandomState(600 + number)
    points = np.round(source.rand(results, n), 4)
    scores = [objective(x, None) for x in points]
    mean, sigma, covariance = get_warm_start_mgd([(x, -s) for x, s in zip(points, scores)])
    return {"dimensions": n, "points": points.ravel().tolist(), "scores": short(scores), "mean": short(mean),
            "sigma": float(sigma), "covariance": lower(covariance)}


def main():
    assert version("cmaes") == "0.13.1", "written for cmaes 0.13.1"
    cases = [adaptive(0, 3, 12, 0.0), adaptive(1, 5, 10, 0.5), separable(0, 4, 10), separable(1, 12, 8)]
    cases += [margin(0, [0, 3, 2, 0], 34), margin(1, [5, 2, 9, 0, 4], 24)]
    warms = [warm(0, 3, 40), warm(1, 6, 125)]
    OUT.write_text(
        json.dumps({"generator": "scripts/golden/cma_variants_reference.py", "cases": cases, "warm": warms}) + "\n"
    )
    print(OUT, OUT.stat().st_size, [c["steps"][-1]["extra"] for c in cases])


if __name__ == "__main__":
    main()
