"""`jradievo-worker score` against sacrebleu, rouge_score and nltk, side by side on pairs drawn from a seed of your own.

    cargo build --workspace --all-targets
    python scripts/golden/metrics/parity.py [--seed 7] [--count 1000]

Needs the packages of requirements.txt. Ends with 1 if any metric of any pair, or of the whole as a corpus, is off by more than
1e-9.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import sacrebleu

import make
import texts

ROOT = pathlib.Path(__file__).resolve().parents[3]


def main():
    parser = argparse.ArgumentParser(description="Metrics against their reference implementations")
    parser.add_argument("--programs", type=pathlib.Path, default=ROOT / "target" / "debug")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--count", type=int, default=1000)
    args = parser.parse_args()
    pairs = texts.pairs(seed=args.seed, count=args.count)
    with tempfile.TemporaryDirectory() as folder:
        files = [pathlib.Path(folder) / name for name in ("references.jsonl", "predictions.jsonl")]
        for file, column in zip(files, (0, 1)):
            rows = (json.dumps({"id": str(i), "text": pair[column]}, ensure_ascii=False) for i, pair in enumerate(pairs))
            file.write_text("".join(row + "\n" for row in rows), encoding="utf-8")
        run = subprocess.run([args.programs / "jradievo-worker", "score", "--references", files[0], "--predictions", files[1], "--json"],
                             capture_output=True, text=True, check=True)
    ours = json.loads(run.stdout)
    worst = {}
    for (reference, prediction), row in zip(pairs, ours["samples"], strict=True):
        metrics = row.get("metrics", row)
        for name, value in make.pair_values(reference, prediction).items():
            worst[name] = max(worst.get(name, 0.0), abs(metrics[name] - value))
    for name, tokenize in [("sacrebleu", "ja-mecab"), ("sacrebleu_char", "char")]:
        value = sacrebleu.corpus_bleu([p for _, p in pairs], [[r for r, _ in pairs]], tokenize=tokenize).score
        worst[f"corpus {name}"] = abs(ours["corpus"]["metrics"][name] - value)
    for name, value in worst.items():
        print(f"{name}: largest difference {value:.1e}")
    print(f"{len(pairs)} pairs, largest difference {max(worst.values()):.1e}")
    sys.exit(0 if max(worst.values()) <= 1e-9 else 1)


if __name__ == "__main__":
    main()
