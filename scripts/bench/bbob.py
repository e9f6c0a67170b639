"""Runs this project's CMA-ES, pycma and cmaes on COCO's 24 noiseless functions (BBOB), and compares how soon each
reaches a target.

    pip install coco-experiment==2.8.2 cma==4.5.0 cmaes==0.13.1 numpy
    cargo build --release -p search --example ask_tell
    python scripts/bench/bbob.py --out bbob.json
    python scripts/bench/bbob.py --out bbob.json --table     # only the tables, of what is there

Everybody gets the box [-5, 5]^n, its middle as the first mean, a sixth of its width as the first sigma, and 100 n
evaluations; pycma and cmaes restart with twice the population (IPOP), as their documentation does it. The objective is
minimised here; this project's program maximises and is told the negative.

A run is one function, dimension and instance. Kept of it is at which evaluation it first came within each of 51
targets, 10^2 … 10^-8 above the optimum. From that:
- share: of all pairs of run and target, how many were reached within the budget (the height of the runtime profile);
- area: the mean over all pairs of how early they were, on the profile's logarithmic axis: 1 - log(evaluations / n) /
  log(100), 0 where the target was missed (the area under the runtime profile, from 1 n to 100 n evaluations);
- expected running time (ERT): evaluations of all instances, unsuccessful ones too, per success.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np

warnings.filterwarnings("ignore")
import cma  # noqa: E402
import cmaes  # noqa: E402
import cocoex  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "target/release/examples/ask_tell"
PINNED = {"coco-experiment": "2.8.2", "cma": "4.5.0", "cmaes": "0.13.1"}
TARGETS = [10.0 ** (2 - 0.2 * i) for i in range(51)]
SHOWN = [1e1, 1e0, 1e-1, 1e-3, 1e-5, 1e-7]
GROUPS = {
    "separable (1-5)": range(1, 6),
    "moderate (6-9)": range(6, 10),
    "ill-conditioned (10-14)": range(10, 15),
    "multimodal (15-19)": range(15, 20),
    "weak structure (20-24)": range(20, 25),
}
LOW, HIGH = -5.0, 5.0
SIGMA = (HIGH - LOW) / 6


class Counted:
    """An objective that counts, notes the targets reached, and ends its run by an exception."""

    class Spent(Exception):
        pass

    def __init__(self, problem, optimum, budget):
        self.problem, self.optimum, self.budget = problem, optimum, budget
        self.count, self.next, self.hits = 0, 0, []

    def __call__(self, x):
        if self.count >= self.budget or self.next == len(TARGETS):
            raise Counted.Spent
        self.count += 1
        value = self.problem(x)
        while self.next < len(TARGETS) and value - self.optimum <= TARGETS[self.next]:
            self.hits.append(self.count)
            self.next += 1
        return value


# ---------------------------------------------------------------------------------------------- the three


def pycma(f, n, budget, seed):
    options = {"bounds": [LOW, HIGH], "maxfevals": budget, "seed": seed + 1, "verbose": -9, "verb_log": 0}
    cma.fmin2(f, np.zeros(n), SIGMA, options, restarts=9)


def pycma_bipop(f, n, budget, seed):
    options = {"bounds": [LOW, HIGH], "maxfevals": budget, "seed": seed + 1, "verbose": -9, "verb_log": 0}
    cma.fmin2(f, np.zeros(n), SIGMA, options, restarts=9, bipop=True)


def cmaes_ipop(f, n, budget, seed):
    """The loop of its README's IPOP example, from the middle each time."""
    bounds = np.tile([LOW, HIGH], (n, 1))
    population = None
    for restart in range(10):
        optimizer = cmaes.CMA(
            mean=np.zeros(n), sigma=SIGMA, bounds=bounds, n_max_resampling=10 * n,
            seed=seed + 1000 * restart, population_size=population,
        )
        while not optimizer.should_stop():
            optimizer.tell([(x, f(x)) for x in (optimizer.ask() for _ in range(optimizer.population_size))])
        population = 2 * optimizer.population_size


class Ours:
    """The program that asks and tells in JSON lines. All that is known of its wire is in this class."""

    def __init__(self, program, settings):
        self.settings = settings
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def say(self, message):
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def __call__(self, f, n, budget, seed):
        plan = {"dimensions": n, "evaluations": budget, "seed": seed} | self.settings
        population = self.say({"begin": plan})["population"]
        while True:
            genomes = self.say({"ask": population})["genomes"]
            scores = [-f(LOW + (HIGH - LOW) * np.array(g)) for g in genomes]
            told = [{"genome": g, "fitness": s} for g, s in zip(genomes, scores)]
            answer = self.say({"tell": told})
            population = answer["population"]
            if answer.get("stop"):
                return


# ------------------------------------------------------------------------------------------------ running


def optimum(suite, triple):
    """The smallest value, which COCO gives only by writing the place of it into the current folder."""
    problem = suite.get_problem_by_function_dimension_instance(*triple)
    problem._best_parameter("print")
    best = problem(np.loadtxt("._bbob_problem_best_parameter.txt"))
    problem.free()
    return best


def measure(name, run, args, results):
    suite = cocoex.Suite("bbob", "instances:1-%d" % args.instances, "dimensions:" + args.dimensions)
    done = results.setdefault(name, {})
    begun = time.time()
    for n in map(int, args.dimensions.split(",")):
        for function in args.functions:
            for instance in range(1, args.instances + 1):
                key = f"{function}/{n}/{instance}"
                if key in done:
                    continue
                triple = (function, n, instance)
                best = optimum(suite, triple)
                problem = suite.get_problem_by_function_dimension_instance(*triple)
                counted = Counted(problem, best, args.budget * n)
                try:
                    run(counted, n, args.budget * n, 100 * instance + function)
                except Counted.Spent:
                    pass
                done[key] = {"evaluations": counted.count, "hits": counted.hits}
                problem.free()
        print(f"{name}: {n} dimensions after {time.time() - begun:.0f} s", file=sys.stderr, flush=True)


# ------------------------------------------------------------------------------------------------- tables


def selected(results, names, functions, n):
    """Runs that all of `names` have."""
    keys = set.intersection(*(set(results[name]) for name in names))
    wanted = [k for k in keys if int(k.split("/")[0]) in functions and n in (None, int(k.split("/")[1]))]
    return sorted(wanted)


def share_and_area(runs, keys, budget):
    reached, area = 0, 0.0
    for key in keys:
        n = int(key.split("/")[1])
        reached += len(runs[key]["hits"])
        area += sum(1 - math.log(max(h / n, 1)) / math.log(budget) for h in runs[key]["hits"])
    pairs = max(len(keys) * len(TARGETS), 1)
    return reached / pairs, area / pairs


def ert(runs, keys, target):
    """Expected running time to a target's number, over instances; infinite where none reached it."""
    hits = [runs[k]["hits"][target] if len(runs[k]["hits"]) > target else None for k in keys]
    spent = sum(h if h is not None else runs[k]["evaluations"] for h, k in zip(hits, keys))
    successes = sum(h is not None for h in hits)
    return spent / successes if successes else math.inf


def row(cells):
    print("| " + " | ".join(cells) + " |")


def tables(results, names, args):
    dimensions = [int(n) for n in args.dimensions.split(",")]
    print(f"\nShare of targets reached / area under the runtime profile, budget {args.budget} n:\n")
    row(["functions", "n"] + names)
    row(["---"] * (2 + len(names)))
    everything = {**GROUPS, "**all**": range(1, 25)}
    for group, functions in everything.items():
        for n in dimensions + ([None] if group == "**all**" else []):
            keys = selected(results, names, functions, n)
            if keys:
                pairs = [share_and_area(results[name], keys, args.budget) for name in names]
                row([group, str(n or "all")] + [f"{s:.3f} / {a:.4f}" for s, a in pairs])

    print("\nExpected running time, evaluations / n, geometric mean over the functions on which all reached the target:\n")
    row(["n", "target", "functions"] + names)
    row(["---"] * (3 + len(names)))
    for n in dimensions:
        for shown in SHOWN:
            target = min(range(len(TARGETS)), key=lambda i: abs(math.log(TARGETS[i] / shown)))
            times = []
            for function in range(1, 25):
                keys = selected(results, names, [function], n)
                if keys:
                    times.append([ert(results[name], keys, target) / n for name in names])
            common = [t for t in times if all(map(math.isfinite, t))]
            if common:
                means = np.exp(np.mean(np.log(common), axis=0))
                row([str(n), f"{shown:g}", str(len(common))] + [f"{m:.1f}" for m in means])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dimensions", default="5,10,20")
    parser.add_argument("--instances", type=int, default=15)
    parser.add_argument("--functions", type=lambda t: [int(f) for f in t.split(",")], default=list(range(1, 25)))
    parser.add_argument("--budget", type=int, default=100, help="evaluations a dimension")
    parser.add_argument("--program", default=str(PROGRAM))
    parser.add_argument("--settings", default="{}", help="JSON: keys of [search] that differ from the default")
    parser.add_argument("--name", default="ours", help="what the results of these settings are kept under")
    parser.add_argument("--run", default="ours,pycma,cmaes", help="whom to run; what --out holds is not run again")
    parser.add_argument("--out", default="bbob.json", help="where results are kept")
    parser.add_argument("--table", action="store_true", help="print the tables of what is there, and run nothing")
    parser.add_argument("--compare", help="names to tabulate, separated by commas; all that are there by default")
    args = parser.parse_args()
    for package, wanted in PINNED.items():
        assert version(package) == wanted, f"written for {package} {wanted}, found {version(package)}"
    out = Path(args.out).resolve()
    results = json.loads(out.read_text()) if out.exists() else {}
    if not args.table:
        everybody = {
            "ours": lambda: (args.name, Ours(args.program, json.loads(args.settings))),
            "pycma": lambda: ("pycma", pycma),
            "pycma-bipop": lambda: ("pycma-bipop", pycma_bipop),
            "cmaes": lambda: ("cmaes", cmaes_ipop),
        }
        program = Path(args.program).resolve()
        args.program = str(program)
        here = os.getcwd()
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)  # COCO leaves a file where it runs
            for who in args.run.split(","):
                measure(*everybody[who](), args, results)
                out.write_text(json.dumps(results))
            os.chdir(here)
    tables(results, args.compare.split(",") if args.compare else list(results), args)


if __name__ == "__main__":
    main()
