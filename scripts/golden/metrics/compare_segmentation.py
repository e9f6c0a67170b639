"""Compares the crate's segmentation with MeCab's over many lines; prints the differences.

    python scripts/golden/metrics/compare_segmentation.py [COUNT] [SEED]

Builds and runs the example `segment` of the crate, which reads JSON texts, one a line, and prints both lines.
"""

import json
import subprocess
import sys

import ipadic
import MeCab

import texts

count, seed = (int(a) for a in (sys.argv[1:] + ["20000", "3"][len(sys.argv) - 1:]))
lines = texts.lines(seed, count)
unidic = MeCab.Tagger("-Owakati")
ipa = MeCab.Tagger(ipadic.MECAB_ARGS + " -Owakati")
command = ["cargo", "run", "--quiet", "--release", "-p", "score", "--example", "segment"]
done = subprocess.run(command, input="\n".join(map(json.dumps, lines)) + "\n", text=True, capture_output=True, check=True)
differences = 0
for line, printed in zip(lines, done.stdout.splitlines(), strict=True):
    expected = [unidic.parse(line), ipa.parse(line)]
    if json.loads(printed) != expected:
        differences += 1
        if differences <= 10:
            print(repr(line), expected, printed, sep="\n  ")
print(f"{count} lines, {differences} differ")
