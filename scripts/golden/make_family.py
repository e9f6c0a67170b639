"""Makes the embedded family from a seed: phantoms, tokenizer, tower, five models, data sets, comparison.

    python scripts/golden/make_family.py --work build/family [--out tests/data] [--stage NAME …] [--seeds 1 2 3]

Each stage leaves its result in the work folder and is skipped when that exists, so a run can be interrupted, and
`--stage` can run independent stages in processes of their own (one thread each).
"""
import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import numpy as np  # noqa: E402
import torch  # noqa: E402

from family import (datasets, evaluate, export, merge, models, scoring, sources, tasks, tokens, training,  # noqa: E402
                    vision)

SEED = 20261123
VOCABULARY = 1024
CHEST, GENERAL = 6000, 3000
EVALUATIONS = 100
TEXT_SEEDS = {"japanese": 11, "medical": 12, "biomedical": 13}
STAGES = ("tokenizer", "tower", "base", "stage1", "japanese", "medical", "biomedical", "vlm", "export", "search", "evaluate")


def log(text):
    print(text, flush=True)


class Maker:
    def __init__(self, work, out, seeds):
        self.work, self.out, self.seeds = Path(work), Path(out), seeds
        self.work.mkdir(parents=True, exist_ok=True)

    def codec(self):
        return tokens.load(self.work / "tokenizer.json")

    def load(self, name):
        return torch.load(self.work / f"{name}.pt", weights_only=False)

    def base_model(self):
        model = models.Llama(VOCABULARY)
        model.load_state_dict(self.load("base"))
        return sources.rounded(model)

    def tokenizer(self):
        tokens.train(1, VOCABULARY).save(str(self.work / "tokenizer.json"))

    def tower(self):
        data = vision.pool(1, CHEST, GENERAL)
        tower = vision.train(1, 3000, data, log)
        torch.save((vision.features(tower, data[0]), data[3]), self.work / "features.pt")
        return tower.state_dict()

    def base(self):
        torch.manual_seed(1)
        model, codec = models.Llama(VOCABULARY), self.codec()
        training.fit(model, codec, training.Text(codec, tasks.MIXES["base"]), **sources.RECIPE["base"], seed=2, batch=20,
                     log=log, name="base")
        return model.state_dict()

    def stage1(self):
        features, things = self.load("features")
        return sources.stage1(self.base_model(), self.codec(), features, things, CHEST, 21, sources.RECIPE["stage1"], log).state_dict()

    def text(self, name):
        return sources.text_source(self.base_model(), self.codec(), name, TEXT_SEEDS[name], log=log).state_dict()

    def vlm(self):
        features, things = self.load("features")
        project = models.projector()
        project.load_state_dict(self.load("stage1"))
        model = sources.stage2(self.base_model(), project, self.codec(), features, things, CHEST, 21, sources.RECIPE["stage2"], log)
        return model.state_dict(), project.state_dict()

    def family(self):
        vlm, project = self.load("vlm")
        return {n: self.load(n) for n in TEXT_SEEDS} | {"vlm": vlm}, project

    def export(self):
        found, project = self.family()
        export.write(self.out / "family", self.codec(), self.base_model().state_dict(), found, self.load("tower"), project, VOCABULARY)
        datasets.write(self.out, SEED)

    def judge(self):
        """The models as they are stored, ready for merging and scoring."""
        stored = {"japanese": torch.bfloat16, "biomedical": torch.bfloat16, "medical": torch.float32, "vlm": torch.float16}
        found, project = self.family()
        like = self.base_model().state_dict()
        flat = {k: merge.flatten({n: v.to(stored[k]).float() for n, v in s.items()}) for k, s in found.items()}
        half = lambda s: {k: v.half().float() for k, v in s.items()}  # noqa: E731
        tower, projector = models.Tower(), models.projector()
        tower.load_state_dict(half(self.load("tower")))
        projector.load_state_dict(half(project))
        judge = evaluate.Judge(SEED, self.codec(), tower, projector, like, VOCABULARY)
        return judge, merge.Merger(merge.flatten(like), flat), flat

    def search(self):
        """One search a seed, on the search samples; each winner is kept in the work folder."""
        judge, merger, _ = self.judge()
        for seed in self.seeds:
            (value, x), _ = merge.search(lambda x: judge.score(merger.paper(x), "search")[:, 0].mean(), seed, EVALUATIONS, log)
            log(f"seed {seed}: search fitness {value:.3f} " + json.dumps(dict(zip(merge.NAMES, x.round(4).tolist()))))
            (self.work / f"winner{seed}.json").write_text(json.dumps(dict(zip(merge.NAMES, x.tolist()))))

    def evaluate(self):
        """The table of docs/EMBEDDED_FAMILY.md."""
        judge, merger, flat = self.judge()
        log("norms " + json.dumps({s: round(float(np.linalg.norm(t)), 2) for s, t in zip(merge.SOURCES, merger.tau)}))
        english = judge.write(flat["vlm"], "held_out", tasks.CHEST_EN)
        log(f"VLM asked in English: ROUGE-L {np.mean([scoring.rouge_l(a, b) for a, b in zip(judge.english['held_out'], english)]):.3f}")
        winners = [(f"search, seed {s}", np.array(list(json.loads((self.work / f"winner{s}.json").read_text()).values()))) for s in self.seeds]
        extra = [(label, merger.paper(x)) for label, x in winners]
        extra += [("task arithmetic, ja 1 + vlm 1", merger.plain([0, 0, 1, 1]))]
        for label, x in winners:
            for source, at in (("japanese", 8), ("vlm", 9)):
                y = x.copy()
                y[at], y[at - 5] = 0.0, 1.0  # weight 0, and wholly trimmed
                extra.append((f"{label}, no {source}", merger.paper(y)))
        result = {}
        for name in datasets.SETS:
            log(f"== {name}")
            rows = evaluate.report(judge, merger, flat, SEED, name, extra, log)
            result[name] = {k: v.mean(0).tolist() for k, v in rows.items()}
            if name == "held_out":
                for label, _ in winners:
                    for other in [r for r in rows if not r.startswith(("search", "task"))]:
                        for column, metric in ((0, "fitness"), (2, "term F1")):
                            d = scoring.paired_interval(rows[label][:, column], rows[other][:, column])
                            log("{} minus {}: {} {:+.3f} [{:+.3f}, {:+.3f}]".format(label, other, metric, *d))
        (self.work / "table.json").write_text(json.dumps(result, indent=1, ensure_ascii=False))

    def run(self, stage):
        if stage in ("export", "search", "evaluate"):
            return getattr(self, stage)()
        path = self.work / ("tokenizer.json" if stage == "tokenizer" else f"{stage}.pt")
        if path.exists():
            return log(f"{stage}: kept {path}")
        made = self.text(stage) if stage in TEXT_SEEDS else getattr(self, stage)()
        if made is not None:
            torch.save(made, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", default="build/family")
    parser.add_argument("--out", default="tests/data")
    parser.add_argument("--stage", nargs="*", default=STAGES, choices=STAGES)
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 2, 3])
    args = parser.parse_args()
    torch.set_num_threads(1)
    maker = Maker(args.work, args.out, args.seeds)
    for stage in args.stage:
        maker.run(stage)


if __name__ == "__main__":
    main()
