#!/usr/bin/env python3
"""Runs whole searches of the embedded family with each algorithm and several seeds, and shows how good the best found is
on held-out samples after 50, 100, 200 and 400 evaluations.

    cargo build --release --workspace --bins
    python3 scripts/bench/family.py --dir bench/family                      # everything: hours
    python3 scripts/bench/family.py --dir bench/family --seeds 3 --minutes 20
    python3 scripts/bench/family.py --dir bench/family --table              # only table and plot of what is there

A search is one algorithm and one seed, done by real processes: a coordinator and a worker over loopback on
scripts/runs/demo.toml. What is finished is kept, an interrupted search is resumed, and the seeds of all algorithms go
side by side, so that the script may be stopped at any time and started again. The best after so many evaluations is
the candidate of the highest search fitness among the first so many; its recipe is then evaluated once on the 100 held-out
samples, which no search sees. Needs nothing but Python's standard library.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
RUN = REPO / "scripts/runs/demo.toml"
HELD_OUT = REPO / "tests/data/held_out/samples.jsonl"
BUDGETS = [50, 100, 200, 400]
# Name in tables → what is set in the run file. Those that this build does not know are left out, and said. The demo's
# population of 10 is that of CMA-ES in the paper; the others have the one that they would get in a run file without it.
ALGORITHMS = {
    "cma-es": ["search.algorithm=cma-es"],
    "cma-es, asynchronous": ["search.algorithm=cma-es", "search.mode=asynchronous"],
    "tpe": ["search.algorithm=tpe"],
    "de": ["search.algorithm=de", "search.population=20"],
    "nsga-ii": ["search.algorithm=nsga-ii", "search.population=40", 'objectives={ maximise = ["rouge_l", "term_f1"] }'],
    "sobol": ["search.algorithm=sobol"],
    "random": ["search.algorithm=random"],
}
COLOURS = ["#1f5fa8", "#6aa5d9", "#2e8b57", "#b8860b", "#8e44ad", "#c0392b", "#7f8c8d", "#444444"]


def sets(assignments):
    return [word for a in assignments for word in ("--set", a)]


class Search:
    """One algorithm and one seed, in a folder of its own."""

    def __init__(self, args, name, assignments, seed):
        self.args, self.name, self.seed = args, name, seed
        self.folder = args.dir / name.replace(", ", "-") / str(seed)
        self.sets = sets([f"seed={seed}", f"search.evaluations={max(args.budgets)}", *assignments])

    def result(self):
        path = self.folder / "result.json"
        return json.loads(path.read_text()) if path.exists() else None

    def jradievo(self, *arguments):
        command = [self.args.bin / "jradievo", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def search(self):
        """Starts or resumes the coordinator, lends it a worker, and waits for both."""
        state = self.folder / "state"
        (state / "address").unlink(missing_ok=True)
        listen = ["--listen", "127.0.0.1:0"]
        begin = ["resume", state] if (state / "store").exists() else ["start", RUN, "--state", state, *self.sets]
        with open(self.folder / "log", "a") as log:
            streams = {"stdout": log, "stderr": log}
            coordinator = subprocess.Popen([self.args.bin / "jradievo", *begin, *listen], **streams)
            worker = None
            try:
                while not (state / "address").exists() and coordinator.poll() is None:
                    time.sleep(0.05)
                if coordinator.poll() is None:
                    url = (state / "address").read_text().strip()
                    command = [self.args.bin / "jradievo-worker", "run", "--coordinator", url, "--device", "cpu"]
                    command += ["--threads", str(self.args.threads), "--give-up-after", "30"]
                    worker = subprocess.Popen(command, **streams, env={**os.environ, "RUST_LOG": "warn"})
                    while coordinator.poll() is None and worker.poll() is None:
                        if time.monotonic() > self.args.until:
                            raise TimeoutError
                        time.sleep(0.2)
                    if worker.poll() not in (None, 0):
                        raise RuntimeError(f"the worker ended with {worker.returncode}: see {self.folder / 'log'}")
                if coordinator.wait() != 0:
                    raise RuntimeError(f"the coordinator ended with {coordinator.returncode}: see {self.folder / 'log'}")
            finally:
                # Both hand back what they have; the same command goes on from there.
                for process in (worker, coordinator):
                    if process and process.poll() is None:
                        process.send_signal(signal.SIGINT)
                        process.wait()

    def held_out(self):
        """The best after each budget, each evaluated once on the held-out samples."""
        lines = self.jradievo("candidates", self.folder / "state", "--json").splitlines()
        scored = [c for c in map(json.loads, lines) if c["fitness"] is not None]
        best = {}
        for budget in self.args.budgets:
            best[budget] = max((c for c in scored if c["candidate"] <= budget), key=lambda c: c["fitness"])
        numbers = sorted({c["candidate"] for c in best.values()})
        recipes = [self.jradievo("recipe", self.folder / "state", "--candidate", str(n)) for n in numbers]
        file = self.folder / "best.jsonl"
        file.write_text("".join(json.dumps(json.loads(r), ensure_ascii=False) + "\n" for r in recipes))
        command = [self.args.bin / "jradievo-worker", "finalists", RUN, "--recipes", file, "--json", "--device", "cpu"]
        command += ["--threads", str(self.args.threads)]
        command += sets([f'validation={{ file = "{HELD_OUT}", part = "所見" }}'])
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        means = {f["candidate"]: f["fitness"]["mean"] for f in found["finalists"]}
        return {
            str(budget): {"candidate": c["candidate"], "search": c["fitness"], "held_out": means[c["candidate"]]}
            for budget, c in best.items()
        }

    def run(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        self.search()
        result = {"algorithm": self.name, "seed": self.seed, "budgets": self.held_out()}
        (self.folder / "result.json").write_text(json.dumps(result, indent=1) + "\n")
        last = result["budgets"][str(max(self.args.budgets))]
        print(f"{self.name}, seed {self.seed}: held-out {last['held_out']:.3f}, {time.monotonic() - began:.0f} s", flush=True)


def known(args):
    """Of the algorithms asked for, those that this build has."""
    chosen = {}
    for name in args.algorithms or ALGORITHMS:
        assignments = ALGORITHMS.get(name) or [f"search.algorithm={name}"]
        check = [args.bin / "jradievo", "check", RUN, *sets(assignments)]
        done = subprocess.run(check, capture_output=True, text=True)
        if done.returncode == 0:
            chosen[name] = assignments
        else:
            print(f"left out: {name}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
    return chosen


def quartiles(values):
    if len(values) == 1:
        return values[0], values[0], values[0]
    return tuple(statistics.quantiles(values, n=4, method="inclusive"))


def table(results, budgets):
    names = list(dict.fromkeys(r["algorithm"] for r in results))
    lines = ["| held-out fitness, median (quartiles) | seeds | " + " | ".join(map(str, budgets)) + " |"]
    lines.append("|---|" + "---:|" * (len(budgets) + 1))
    for name in names:
        own = [r for r in results if r["algorithm"] == name]
        cells = []
        for budget in budgets:
            low, middle, high = quartiles([r["budgets"][str(budget)]["held_out"] for r in own])
            cells.append(f"{middle:.3f} ({low:.3f} to {high:.3f})")
        lines.append(f"| {name} | {len(own)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(results, budgets):
    """Medians as lines, quartiles as bands; the budgets double from one to the next and stand at equal distances."""
    width, height, left, top = 640, 400, 60, 40
    wide, high = width - left - 180, height - top - 60
    values = [r["budgets"][str(b)]["held_out"] for r in results for b in budgets]
    low, top_value = min(values), max(values)
    room = 0.05 * ((top_value - low) or 1.0)
    low, top_value = low - room, top_value + room
    x = lambda i: left + wide * (i / max(1, len(budgets) - 1))
    y = lambda v: top + high * (1 - (v - low) / (top_value - low))
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{left}" y="22" font-size="15">Embedded family: best found, on 100 held-out samples</text>',
        f'<rect x="{left}" y="{top}" width="{wide}" height="{high}" fill="none" stroke="#999"/>',
    ]
    for step in range(11):
        value = step / 10
        if low <= value <= top_value:
            out.append(f'<path d="M{left} {y(value):.1f}h{wide}" stroke="#ddd"/>')
            out.append(f'<text x="{left - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.1f}</text>')
    for i, budget in enumerate(budgets):
        out.append(f'<text x="{x(i):.1f}" y="{top + high + 18}" text-anchor="middle">{budget}</text>')
    out.append(f'<text x="{left + wide / 2}" y="{top + high + 40}" text-anchor="middle">evaluations</text>')
    names = list(dict.fromkeys(r["algorithm"] for r in results))
    for n, name in enumerate(names):
        colour = COLOURS[n % len(COLOURS)]
        own = [r for r in results if r["algorithm"] == name]
        bands = [quartiles([r["budgets"][str(b)]["held_out"] for r in own]) for b in budgets]
        above = [f"{x(i):.1f},{y(b[2]):.1f}" for i, b in enumerate(bands)]
        below = [f"{x(i):.1f},{y(b[0]):.1f}" for i, b in enumerate(bands)][::-1]
        out.append(f'<polygon points="{" ".join(above + below)}" fill="{colour}" fill-opacity="0.12"/>')
        line = " ".join(f"{x(i):.1f},{y(b[1]):.1f}" for i, b in enumerate(bands))
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for i, b in enumerate(bands):
            out.append(f'<circle cx="{x(i):.1f}" cy="{y(b[1]):.1f}" r="3" fill="{colour}"/>')
        row = top + 14 + 18 * n
        out.append(f'<path d="M{left + wide + 14} {row - 4}h18" stroke="{colour}" stroke-width="2"/>')
        out.append(f'<text x="{left + wide + 38}" y="{row}">{name} ({len(own)})</text>')
    return "\n".join(out + ["</svg>", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, required=True, help="folder for searches, results, table and plot")
    parser.add_argument("--algorithms", nargs="+", metavar="NAME", help="some of: " + "; ".join(ALGORITHMS))
    parser.add_argument("--seeds", type=int, default=10, help="seeds 1 to N")
    parser.add_argument("--budgets", type=int, nargs="+", default=BUDGETS)
    parser.add_argument("--bin", type=Path, default=REPO / "target/release", help="folder of the programs")
    parser.add_argument("--threads", type=int, default=1, help="threads of the worker")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so long; go on by the same command")
    parser.add_argument("--table", action="store_true", help="search nothing")
    args = parser.parse_args()
    args.dir, args.bin, args.budgets = args.dir.resolve(), args.bin.resolve(), sorted(args.budgets)
    args.until = time.monotonic() + 60 * args.minutes
    if not args.table:
        chosen = known(args)
        try:
            for seed in range(1, args.seeds + 1):
                for name, assignments in chosen.items():
                    search = Search(args, name, assignments, seed)
                    if search.result() is None:
                        search.run()
        except (TimeoutError, KeyboardInterrupt):
            print("stopped; the same command goes on", file=sys.stderr)
    files = sorted(args.dir.glob("*/*/result.json"), key=lambda p: (p.parts[-3], int(p.parts[-2])))
    results = [json.loads(p.read_text()) for p in files]
    order = list(ALGORITHMS)
    results.sort(key=lambda r: order.index(r["algorithm"]) if r["algorithm"] in order else len(order))
    results = [r for r in results if all(str(b) in r["budgets"] for b in args.budgets)]
    if not results:
        sys.exit("no finished search yet")
    text = table(results, args.budgets)
    print(text)
    (args.dir / "table.md").write_text(text + "\n")
    (args.dir / "plot.svg").write_text(plot(results, args.budgets))


if __name__ == "__main__":
    main()
