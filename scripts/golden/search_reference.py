"""Writes the reference values of the searches beside CMA-ES, coordinator/search/tests/data/*_reference.json.

    pip install optuna==5.0.0 scipy==1.17.1 pymoo==0.6.2 numpy && python scripts/golden/search_reference.py

- tpe: the acquisition (log l - log g) that optuna's TPESampler computes for given points after a given history, some of
  it running, over floats, integers and categories. Equal values are sorted stably: numpy's default leaves it open which of
  two equal points gets which width.
- de: mutants of scipy's DifferentialEvolutionSolver (currenttobest1), and L-SHADE's memory by its equations 7 and 8.
- pareto: ranks and hypervolumes of optuna, crowding distances of pymoo.
- nsga2: children of pymoo's SBX and polynomial mutation for given random numbers.
"""

import functools
import json
from pathlib import Path

import numpy as np

np.argsort = functools.partial(np.argsort, kind="stable")

import optuna
from optuna._hypervolume import compute_hypervolume
from optuna.samplers._tpe import sampler as tpe_sampler
from optuna.study._multi_objective import _fast_non_domination_rank
from pymoo.operators.crossover.sbx import cross_sbx
from pymoo.operators.mutation.pm import mut_pm
from pymoo.operators.survival.rank_and_crowding.metrics import calc_crowding_distance
from scipy.optimize._differentialevolution import DifferentialEvolutionSolver

optuna.logging.set_verbosity(optuna.logging.ERROR)
DATA = Path(__file__).resolve().parents[2] / "coordinator/search/tests/data"


def write(name, value):
    (DATA / f"{name}_reference.json").write_text(json.dumps(value, separators=(",", ":")) + "\n")


def tpe_case(seed, n, running, kinds):
    """Kinds: 0 a float, k > 0 an integer of k values, k < 0 a category of -k values. Points are unit coordinates."""
    rng = np.random.RandomState(seed)
    space, spread = {}, []
    for i, k in enumerate(kinds):
        name = f"x{i:02}"
        if k == 0:
            space[name] = optuna.distributions.FloatDistribution(0.0, 1.0)
        elif k > 0:
            space[name] = optuna.distributions.IntDistribution(0, k - 1)
        else:
            space[name] = optuna.distributions.CategoricalDistribution(list(range(-k)))
        spread.append(abs(k))

    def unit(v, k):
        return float(v) if k == 0 else (int(v) + 0.5) / k

    def draw():
        return [float(rng.rand()) if k == 0 else int(rng.randint(k)) for k in spread]

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler())
    history = [draw() for _ in range(n + running)]
    values = [float(np.round(rng.randn(), 1)) for _ in range(n)]  # rounded: there are ties
    for i, x in enumerate(history):
        params = dict(zip(space, x))
        if i < n:
            trial = optuna.trial.create_trial(params=params, distributions=space, value=values[i])
        else:
            trial = optuna.trial.create_trial(
                params=params, distributions=space, state=optuna.trial.TrialState.RUNNING
            )
        study.add_trial(trial)
    sampler = study.sampler
    below, above = tpe_sampler._split_trials(study, study.trials, tpe_sampler.default_gamma(n))
    lower = sampler._build_parzen_estimator(study, space, below, handle_below=True)
    upper = sampler._build_parzen_estimator(study, space, above, handle_below=False)
    points = [draw() for _ in range(12)]
    samples = {name: np.array([p[i] for p in points]) for i, name in enumerate(space)}
    units = lambda rows: [[unit(v, k) for v, k in zip(row, spread)] for row in rows]
    return {
        "kinds": kinds,
        "history": units(history[:n]),
        "values": values,
        "running": units(history[n:]),
        "points": units(points),
        "scores": sampler._compute_acquisition_func(samples, lower, upper).tolist(),
    }


def de_cases():
    rng = np.random.RandomState(5)
    mutants = []
    for f in (0.3, 0.8):
        population = rng.rand(8, 5)
        solver = DifferentialEvolutionSolver(
            lambda x: float(np.sum(x)), [(0.0, 1.0)] * 5, strategy="currenttobest1bin", init=population, mutation=f
        )
        solver.scale = f
        best = solver.population[0]
        for i, (a, b) in ((3, (1, 6)), (5, (7, 2))):
            made = solver._currenttobest1(i, np.array([a, b]))
            x, first, second = (solver.population[k] for k in (i, a, b))
            rows = [v.tolist() for v in (x, best, first, second, made)]
            mutants.append({"f": f, "x": rows[0], "best": rows[1], "first": rows[2], "second": rows[3], "mutant": rows[4]})
    memories = []
    for n in (1, 3, 9):
        f, cr, gain = rng.rand(n), rng.rand(n), rng.rand(n) * 10
        w = gain / gain.sum()
        lehmer = lambda s: float((w * s**2).sum() / (w * s).sum())
        memories.append(
            {"f": f.tolist(), "cr": cr.tolist(), "gain": gain.tolist(), "mean_f": lehmer(f), "mean_cr": lehmer(cr)}
        )
    return {"mutants": mutants, "memories": memories}


def pareto_case(seed, n, m, digits):
    points = np.round(np.random.RandomState(seed).rand(n, m), digits)
    ranks = _fast_non_domination_rank(-points)
    first = -points[ranks == 0]
    crowding = calc_crowding_distance(first) * m  # pymoo takes the mean over the objectives, Deb the sum
    reference = np.full(m, -0.1)
    return {
        "points": points.tolist(),
        "ranks": ranks.tolist(),
        "crowding": [float(d) if np.isfinite(d) else None for d in crowding],
        "reference": reference.tolist(),
        "hypervolume": float(compute_hypervolume(-points, -reference)),
    }


class Given:
    """Stands in for numpy's generator: hands out recorded numbers."""

    def __init__(self, numbers):
        self.numbers = list(numbers)

    def random(self, size=None):
        n = 1 if size is None else int(np.prod(size))
        taken, self.numbers = self.numbers[:n], self.numbers[n:]
        return taken[0] if size is None else np.array(taken).reshape(size)


def nsga2_cases():
    rng = np.random.RandomState(2)
    lower, upper = np.zeros(1), np.ones(1)
    crossings, mutations = [], []
    for _ in range(12):
        a, b, u = np.round(rng.rand(3), 6)
        # Random numbers in pymoo's order: whether a coordinate is crossed, how far, which child gets which.
        random_state = Given([0.0, u, 1.0])
        children = cross_sbx(
            np.array([[[a]], [[b]]]), lower, upper, np.array([[20.0]]), np.array([[0.5]]), np.array([[0.0]]),
            random_state=random_state,
        )
        crossings.append({"a": a, "b": b, "u": u, "children": sorted(float(c) for c in children.ravel())})
        x, v = np.round(rng.rand(2), 6)
        made = mut_pm(
            np.array([[x]]), lower, upper, np.array([20.0]), np.array([1.0]), at_least_once=False,
            random_state=Given([0.0, v]),
        )
        mutations.append({"x": x, "u": v, "mutant": float(made.ravel()[0])})
    return {"crossings": crossings, "mutations": mutations}


write(
    "tpe",
    {
        "optuna": optuna.__version__,
        "cases": [
            tpe_case(1, 12, 0, [0, 0]),
            tpe_case(2, 40, 3, [0, 0, 0]),
            tpe_case(3, 90, 8, [0, 5, -3]),
            tpe_case(4, 30, 0, [-4]),
            tpe_case(5, 60, 2, [7, 2]),
            tpe_case(6, 300, 16, [0, 0, 0, 0, 0, 3]),
        ],
    },
)
write("de", de_cases())
cases = [(1, 20, 2, 3), (2, 30, 3, 3), (3, 25, 2, 1), (4, 15, 4, 3), (5, 6, 2, 3)]
write("pareto", {"cases": [pareto_case(*c) for c in cases]})
write("nsga2", nsga2_cases())
