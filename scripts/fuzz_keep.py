#!/usr/bin/env python3
"""fuzz_keep.py CONTROL FOLDER [--bytes N] [--files N]: the inputs that are worth keeping in the repository.

CONTROL is the control file of a libFuzzer merge: which features of the code each input reaches. Chosen are, one after the other, the
inputs that reach most new features for their size (greedy set cover), until all are reached or the bounds are. FOLDER then
holds these and nothing else, each called by the beginning of its SHA-256. Used by `scripts/fuzz minimise`.
"""

import argparse
import hashlib
import heapq
import pathlib

LARGEST = 64 << 10


def read(control):
    """Path and features of every input that was tried to its end."""
    lines = pathlib.Path(control).read_text().splitlines()
    count = int(lines[0])
    paths = [pathlib.Path(p) for p in lines[2 : 2 + count]]
    features = {}
    for line in lines[2 + count :]:
        word, *rest = line.split()
        if word == "FT":
            features.setdefault(int(rest[0]), set()).update(map(int, rest[1:]))
    return [(paths[i], found) for i, found in features.items() if paths[i].stat().st_size <= LARGEST]


def choose(inputs, most_bytes, most_files):
    """Greedy: the gain of an input only falls, so an old value is a bound. A file costs its bytes and its share of the bytes
    that there are for all, so that tiny ones do not use up the files."""
    reached, chosen, size = set(), [], 0
    cost = [path.stat().st_size + most_bytes // most_files for path, _ in inputs]
    heap = [(-len(found) / cost[i], i) for i, (_, found) in enumerate(inputs)]
    heapq.heapify(heap)
    while heap and len(chosen) < most_files:
        value, i = heapq.heappop(heap)
        gain = len(inputs[i][1] - reached)
        if gain == 0 or size + inputs[i][0].stat().st_size > most_bytes:
            continue
        if heap and -gain / cost[i] > heap[0][0]:
            heapq.heappush(heap, (-gain / cost[i], i))
            continue
        reached |= inputs[i][1]
        chosen.append(inputs[i][0])
        size += inputs[i][0].stat().st_size
    return chosen, len(reached)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("control")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--bytes", type=int, default=64 << 10)
    parser.add_argument("--files", type=int, default=100)
    given = parser.parse_args()
    inputs = read(given.control)
    everything = len(set().union(*(found for _, found in inputs)))
    chosen, reached = choose(inputs, given.bytes, given.files)
    kept = {hashlib.sha256(b).hexdigest()[:16]: b for b in (path.read_bytes() for path in chosen)}
    given.folder.mkdir(parents=True, exist_ok=True)
    for old in given.folder.iterdir():
        old.unlink()
    for name, content in kept.items():
        (given.folder / name).write_bytes(content)
    size = sum(map(len, kept.values()))
    print(f"{given.folder}: {len(kept)} of {len(inputs)} inputs, {size} bytes, {reached} of {everything} features")


if __name__ == "__main__":
    main()
