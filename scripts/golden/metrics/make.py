"""Writes common/score/tests/golden/*.jsonl from the packages that the metrics are held to.

    python scripts/golden/metrics/make.py

Needs the packages of requirements.txt; a seed makes the texts.
"""

import json
import pathlib

import ipadic
import MeCab
import nltk.translate.bleu_score as nltk_bleu
import sacrebleu
from rouge_score import rouge_scorer

import texts

OUT = pathlib.Path(__file__).resolve().parents[3] / "common/score/tests/golden"
unidic = MeCab.Tagger("-Owakati")
ipa = MeCab.Tagger(ipadic.MECAB_ARGS + " -Owakati")
WEIGHTS = [(1,), (0.5, 0.5), (0.33, 0.33, 0.33), (0.25, 0.25, 0.25, 0.25)]


class Words:
    """rouge_score's own tokeniser keeps ASCII only; this one splits MeCab's line."""

    def tokenize(self, text):
        return unidic.parse(text).split()


def sentence_bleu(reference, prediction, weights):
    smoothing = nltk_bleu.SmoothingFunction().method1
    return float(nltk_bleu.sentence_bleu([reference], prediction, weights=weights, smoothing_function=smoothing))


def pair_values(reference, prediction):
    """Every metric that a peer computes, of one pair."""
    r_line, p_line = unidic.parse(reference), unidic.parse(prediction)
    values = {f"bleu_{n + 1}": sentence_bleu(r_line, p_line, w) for n, w in enumerate(WEIGHTS)}
    values["bleu_tok_4"] = sentence_bleu(r_line.split(), p_line.split(), WEIGHTS[3])
    for name, tokenize in [("sacrebleu", "ja-mecab"), ("sacrebleu_char", "char")]:
        values[name] = sacrebleu.sentence_bleu(prediction, [reference], tokenize=tokenize).score
    rouge = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], tokenizer=Words()).score(reference, prediction)
    for name, key in [("rouge_1", "rouge1"), ("rouge_2", "rouge2"), ("rouge_l", "rougeL")]:
        values[name] = rouge[key].fmeasure
    return values


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    pairs = texts.pairs(seed=1, count=160)
    with (OUT / "metrics.jsonl").open("w") as file:
        for reference, prediction in pairs:
            row = {"reference": reference, "prediction": prediction, "values": pair_values(reference, prediction)}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    corpora = []
    for begin, end in [(0, len(pairs)), (0, 50), (100, 160), (160, 175)]:
        references = [r for r, _ in pairs[begin:end]]
        predictions = [p for _, p in pairs[begin:end]]
        row = {"begin": begin, "end": end}
        for name, tokenize in [("sacrebleu", "ja-mecab"), ("sacrebleu_char", "char")]:
            row[name] = sacrebleu.corpus_bleu(predictions, [references], tokenize=tokenize).score
        corpora.append(row)
    (OUT / "corpora.json").write_text(json.dumps(corpora, indent=1) + "\n")
    with (OUT / "segmentation.jsonl").open("w") as file:
        for line in texts.lines(seed=2, count=500):
            row = {"text": line, "unidic-lite": unidic.parse(line), "ipadic": ipa.parse(line)}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    print(len(pairs), "pairs")


if __name__ == "__main__":
    main()
