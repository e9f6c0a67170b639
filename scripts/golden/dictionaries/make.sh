#!/bin/sh
# Makes common/score/data/*.dic.zst from the pinned PyPI packages (requirements.txt); run by a developer only.
#   PYTHON=/path/to/python scripts/golden/dictionaries/make.sh
# The compression level only changes the size; written with zstd 1.5.4.
set -eu
cd "$(dirname "$0")/../../.."
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
cargo build --release -p score --example pack_dictionary
for name in unidic-lite ipadic; do
    "${PYTHON:-python3}" scripts/golden/dictionaries/dump.py "$name" "$work/$name"
    "${CARGO_TARGET_DIR:-target}/release/examples/pack_dictionary" "$work/$name" "$work/$name.dic"
    zstd --ultra -22 --force --quiet "$work/$name.dic" -o "common/score/data/$name.dic.zst"
done
sha256sum common/score/data/*.dic.zst
