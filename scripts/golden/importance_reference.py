"""Writes coordinator/search/tests/data/importance_reference.json: variances of trees, and shares of whole studies.

    pip install optuna==5.0.0 scikit-learn==1.7.2 numpy && python scripts/golden/importance_reference.py
"""

import itertools
import json
from pathlib import Path

import numpy as np
import optuna
from optuna.importance import FanovaImportanceEvaluator
from optuna.importance._fanova._tree import _FanovaTree
from sklearn.ensemble import RandomForestRegressor

optuna.logging.set_verbosity(optuna.logging.ERROR)
OUT = Path(__file__).resolve().parents[2] / "coordinator/search/tests/data/importance_reference.json"


def trees():
    rng = np.random.RandomState(1)
    x = rng.rand(40, 3)
    y = np.sin(4 * x[:, 0]) + x[:, 1] * x[:, 2]
    forest = RandomForestRegressor(n_estimators=3, random_state=1).fit(x, y)
    for estimator in forest.estimators_:
        t = estimator.tree_
        ours = _FanovaTree(t, np.tile([0.0, 1.0], (3, 1)))
        sets = [[i] for i in range(3)] + [list(p) for p in itertools.combinations(range(3), 2)]
        yield {
            "feature": t.feature.tolist(),
            "threshold": t.threshold.tolist(),
            "left": t.children_left.tolist(),
            "right": t.children_right.tolist(),
            "value": t.value.reshape(-1).tolist(),
            "variance": float(ours.variance),
            "marginals": [[s, float(ours.get_marginal_variance(np.array(s)))] for s in sets],
        }


def study(kinds, n, objective):
    rng = np.random.RandomState(7)
    names = [f"x{i}" for i in range(len(kinds))]
    space, units, values = {}, [], []
    for name, k in zip(names, kinds):
        space[name] = (
            optuna.distributions.CategoricalDistribution(list(range(k)))
            if k
            else optuna.distributions.FloatDistribution(0.0, 1.0)
        )
    result = optuna.create_study()
    for _ in range(n):
        x = [int(rng.randint(k)) if k else round(float(rng.rand()), 6) for k in kinds]
        value = round(float(objective(x)), 6)
        units.append([(v + 0.5) / k if k else v for v, k in zip(x, kinds)])
        values.append(value)
        result.add_trial(
            optuna.trial.create_trial(params=dict(zip(names, x)), distributions=space, value=value)
        )
    shares = []
    for seed in range(10):
        found = FanovaImportanceEvaluator(seed=seed).evaluate(result)
        shares.append([found[name] for name in names])
    shares = np.array(shares)
    return {
        "kinds": kinds,
        "points": units,
        "values": values,
        "shares": shares.mean(axis=0).tolist(),
        "deviations": shares.std(axis=0).tolist(),
    }


cases = [
    study([0] * 5, 200, lambda x: 3 * (x[0] - 0.3) ** 2 + x[1] + 0.3 * np.sin(9 * x[2])),
    study([0, 0, 0], 120, lambda x: x[0] * x[1] + 0.2 * x[2]),
    study([0, 3, 0], 150, lambda x: [0.0, 1.0, 0.2][x[1]] + x[0]),
]
versions = {"optuna": optuna.__version__}
OUT.write_text(json.dumps({**versions, "trees": list(trees()), "studies": cases}, separators=(",", ":")) + "\n")
for case in cases:
    print(np.round(case["shares"], 3), np.round(case["deviations"], 3))
