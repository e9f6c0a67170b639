"""ROUGE-L over MeCab (UniDic-lite) tokens, a strict term F1 for the phantoms' vocabulary, paired bootstrap."""
import re

import MeCab
import numpy as np

_tagger = MeCab.Tagger("-Owakati")
TERMS = [("中心静脈カテーテル", "line"), ("ペースメーカー", "pacemaker"), ("コンソリデーション", "consolidation"), ("浸潤影", "consolidation"),
         ("心陰影の拡大", "cardiomegaly"), ("心拡大", "cardiomegaly"), ("胸水", "effusion"), ("結節", "nodule"), ("気胸", "pneumothorax")]
ABSENT = ("認めない", "指摘できない", "明らかでない", "なし", "みられない")
UNCERTAIN = ("疑い", "可能性", "否定できない")
_memo = {}


def tokens(text):
    if text not in _memo:
        _memo[text] = tuple(_tagger.parse(text).split())
    return _memo[text]


def rouge_l(reference, prediction):
    a, b = tokens(reference), tokens(prediction)
    if not a or not b:
        return 0.0
    row = [0] * (len(b) + 1)
    for x in a:
        diagonal = 0
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], diagonal + 1 if x == y else max(row[j], row[j - 1])
    return 2 * row[-1] / (len(a) + len(b))


def mentions(text):
    """{(finding, side, zone, assertion)}."""
    found = set()
    for clause in re.split("[。\n]", text):
        assertion = "uncertain" if any(c in clause for c in UNCERTAIN) else "absent" if any(c in clause for c in ABSENT) else "present"
        side = next((s for s in ("両側", "右", "左") if s in clause), "")
        zone = next((z for z in ("上肺野", "中肺野", "下肺野") if z in clause), "")
        for term, kind in TERMS:
            if term in clause:
                found.add((kind, side, zone, assertion))
                clause = clause.replace(term, "")
    return found


def term_f1(reference, prediction):
    a, b = mentions(reference), mentions(prediction)
    if not a and not b:
        return 1.0
    return 2 * len(a & b) / (len(a) + len(b)) if a and b else 0.0


def scores(references, predictions):
    """(N, 3): fitness, ROUGE-L, term F1."""
    pairs = [(rouge_l(r, p), term_f1(r, p)) for r, p in zip(references, predictions)]
    return np.array([(0.5 * r + 0.5 * f, r, f) for r, f in pairs])


def paired_interval(a, b, seed=42, n=10000):
    rng = np.random.default_rng(seed)
    d = a - b
    means = d[rng.integers(0, len(d), (n, len(d)))].mean(1)
    return d.mean(), *np.percentile(means, (2.5, 97.5))
