#!/usr/bin/env python3
"""What early stops save and cost on the embedded family: searches with and without them, seed by seed.

    cargo build --release --workspace --bins
    scripts/early_stops.py [--seeds 1,2,3] [--evaluations 150] [--batch 5] [--workers 1] [--bin target/release]

Each row is one search by a coordinator and workers of one thread each. `samples` are reports written, `tokens` their
tokens; `device` is time in any stage, `held out` the best's fitness on the 100 samples that the search never saw.
Needs Python 3.9 and nothing else.
"""

import argparse
import json
import pathlib
import random
import statistics
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
SETTINGS = {
    "none": [],
    "reports": ["early_stop.repetition=true", "early_stop.no_japanese_after=16"],
    "hopeless": ["early_stop.hopeless=0.99"],
    "all": ["early_stop.repetition=true", "early_stop.no_japanese_after=16", "early_stop.hopeless=0.99"],
}


def lines(program, *args):
    out = subprocess.run([program, *map(str, args)], check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in out.splitlines()]


def search(args, seed, sets, folder):
    state = folder / "state"
    common = [f"seed={seed}", f"search.evaluations={args.evaluations}", f"generation.batch_size={args.batch}"]
    start = [args.bin / "jradievo", "start", ROOT / "scripts/runs/demo.toml", "--state", state]
    start += ["--listen", "127.0.0.1:0"] + [a for s in common + sets for a in ("--set", s)]
    coordinator = subprocess.Popen(start, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    url = next(line.split()[-1] for line in coordinator.stdout if "listening on " in line)
    work = [args.bin / "jradievo-worker", "run", "--coordinator", url, "--device", "cpu", "--threads", "1"]
    workers = [
        subprocess.Popen(work + ["--name", f"w{n}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for n in range(args.workers)
    ]
    for _ in coordinator.stdout:
        pass
    if coordinator.wait() or any(w.wait() for w in workers):
        raise SystemExit("a program failed")
    return state


def figures(args, state, folder):
    status = lines(args.bin / "jradievo", "status", state, "--json")[0]
    candidates = lines(args.bin / "jradievo", "candidates", state, "--json")
    # Kept apart, since texts are the larger part of a state.
    reports = [
        report
        for c in candidates
        for report in lines(args.bin / "jradievo", "reports", state, "--candidate", c["candidate"], "--json")
    ]
    recipe = folder / "best.json"
    recipe.write_text(subprocess.check_output([args.bin / "jradievo", "recipe", state], text=True))
    worker, model = args.bin / "jradievo-worker", folder / "model"
    subprocess.run([worker, "merge", recipe, "--out", model], check=True, capture_output=True)
    held_out = ROOT / "tests/data/held_out/samples.jsonl"
    run = ROOT / "scripts/runs/demo.toml"
    judge = [worker, "evaluate", "--model", model, "--dataset", held_out, "--run", run, "--json"]
    judged = json.loads(subprocess.run(judge, check=True, capture_output=True, text=True).stdout)["metrics"]
    return {
        "best": status["best"]["fitness"],
        "held_out": 0.5 * judged["rouge_l"]["mean"] + 0.5 * judged["term_f1"]["mean"],
        "samples": sum(c["samples_done"] for c in candidates),
        "tokens": sum(r["tokens"] for r in reports),
        "device": sum(sum((c["timings_ms"] or {}).values()) for c in candidates) / 1000,
        "elapsed": status["elapsed_ms"] / 1000,
        "censored": status["candidates"]["censored"],
        "ended": status["saved"]["reports"],
    }


def interval(differences):
    """The middle 95 % of the means of 10,000 resamples."""
    draw = random.Random(0)
    means = sorted(statistics.fmean(draw.choices(differences, k=len(differences))) for _ in range(10_000))
    return means[250], means[9749]


def compare(found):
    """Against the search without early stops of the same seed: what it saved, and what became of the best."""
    print("\n| setting | seeds | device time | held out, difference | best of the search, difference |\n" + "|---" * 5 + "|")
    for name in dict.fromkeys(name for _, name in found):
        pairs = [(f, found[seed, "none"]) for (seed, n), f in found.items() if n == name and (seed, "none") in found]
        if name == "none" or not pairs:
            continue
        cells = []
        for key in ("held_out", "best"):
            differences = [f[key] - none[key] for f, none in pairs]
            low, high = interval(differences)
            cells.append(f"{statistics.fmean(differences):+.4f} [{low:+.4f}, {high:+.4f}]")
        device = sum(f["device"] for f, _ in pairs) / sum(none["device"] for _, none in pairs) - 1
        print(f"| {name} | {len(pairs)} | {100 * device:+.0f} % | {cells[0]} | {cells[1]} |")


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--seeds", default="1,2,3")
    p.add_argument("--settings", default=",".join(SETTINGS))
    p.add_argument("--evaluations", type=int, default=150)
    p.add_argument("--batch", type=int, default=5)
    p.add_argument("--workers", type=int, default=1)
    p.add_argument("--bin", type=pathlib.Path, default=ROOT / "target/release")
    args = p.parse_args()
    head = ("seed", "setting", "best", "held out", "samples", "tokens", "device", "elapsed", "ended early")
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    found = {}
    for seed in args.seeds.split(","):
        for name in args.settings.split(","):
            with tempfile.TemporaryDirectory() as folder:
                folder = pathlib.Path(folder)
                f = found[seed, name] = figures(args, search(args, seed, SETTINGS[name], folder), folder)
            ended = f"{f['censored']} candidates, {f['ended']} reports"
            print(
                f"| {seed} | {name} | {f['best']:.4f} | {f['held_out']:.4f} | {f['samples']} | {f['tokens']} "
                f"| {f['device']:.0f} s | {f['elapsed']:.0f} s | {ended} |",
                flush=True,
            )
    compare(found)


if __name__ == "__main__":
    main()
