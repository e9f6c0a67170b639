"""Every row of the comparison, on the search and the held-out samples."""
import numpy as np
import torch

from . import datasets, merge, models, phantoms, scoring, tasks, training, vision

LIMIT = 48


class Judge:
    """Scores flattened language-model weights inside the VLM."""

    def __init__(self, seed, codec, tower, project, like, vocabulary):
        self.codec, self.like, self.model = codec, like, models.Llama(vocabulary)
        self.references, self.pictures, self.english = {}, {}, {}
        for name in datasets.SETS:
            rows = datasets.samples(seed, name)
            grey = torch.stack([((models.preprocess(phantoms.draw(p)[0])[0] + 1) * 127.5).round().to(torch.uint8) for p, _, _ in rows])
            with torch.no_grad():
                self.pictures[name] = project(vision.features(tower, grey))
            self.references[name] = [ja for _, ja, _ in rows]
            self.english[name] = [en for _, _, en in rows]

    def write(self, vector, name, task=tasks.TASK):
        self.model.load_state_dict(merge.unflatten(vector, self.like))
        if not np.isfinite(vector).all():
            return [""] * len(self.references[name])
        rows = training.generate(self.model, self.codec, self.pictures[name], task, LIMIT)
        return [self.codec.decode([t for t in r if t not in (self.codec.eos, self.codec.eot)]) for r in rows]

    def score(self, vector, name):
        return scoring.scores(self.references[name], self.write(vector, name))


def report(judge, merger, sources, seed, name, extra=(), log=print):
    """{row: (N, 3) scores}; `extra`: (row, vector)."""
    n = len(judge.references[name])
    rows = {"constant (most frequent)": scoring.scores(judge.references[name], [datasets.constant(seed)] * n),
            "constant (best of 400)": scoring.scores(judge.references[name], [datasets.best_constant(seed)] * n)}
    plan = [("base", merger.base), *((s, sources[s]) for s in merge.SOURCES), ("uniform", merger.plain([0.25] * 4)),
            *((label, merger.paper(x)) for label, x in merge.MIDDLES.items()), *extra]
    for label, vector in plan:
        texts = judge.write(vector, name)
        rows[label] = scoring.scores(judge.references[name], texts)
        log(f"{label:28s} {texts[0][:60]} | {texts[1][:60]}")
    for label, s in rows.items():
        log("{:28s} fitness {:.3f}  ROUGE-L {:.3f}  term F1 {:.3f}".format(label, *s.mean(0)))
    return rows
