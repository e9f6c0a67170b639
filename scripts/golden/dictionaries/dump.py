"""Dumps a compiled MeCab dictionary to the text form that vibrato compiles.

    python dump.py unidic-lite OUT_DIR
    python dump.py ipadic OUT_DIR

Both packages ship only MeCab's compiled files, so the entries are read back from them: `sys.dic` and
`unk.dic` (a double array over UTF-8 bytes, then 16-byte tokens), `matrix.bin` (connection costs) and
`char.bin` (character categories); layouts after MeCab 0.996, `dictionary.cpp`, `connector.cpp`,
`char_property.cpp`. The output is `lex.csv`, `matrix.def`, `char.def`, `unk.def`.

Only the segmentation is wanted, so three things are left out that cannot change it:

- features (part of speech, readings);
- connection ids whose whole row, or column, of costs equals that of another id: they become one id;
- of entries that then agree in surface and both ids, all but the cheapest.
"""

import csv
import hashlib
import importlib
import pathlib
import struct
import sys

import numpy as np

PACKAGES = {
    "unidic-lite": ("unidic_lite", {
        "sys.dic": "122c4c91f026bf4b65bbe2dfd8b9f8eeb6ab56d8eb2a7287a68bca75708ba513",
        "unk.dic": "e3b92803feeb6c2712c796b905317ec192a59729d2c1e92b2728d454169541c4",
        "matrix.bin": "88fb99efe1075d9b8b40e01bb2751e4095f1612618f2490af776eb5ed39190a9",
        "char.bin": "dd31396563d8924645b80fd3c9aa7b13ca089d7748f25553a1d6bc3f9b511ae8",
    }),
    "ipadic": ("ipadic", {
        "sys.dic": "223af63996d5d9a104d8c8baaf32029fbbf6a370d7dff33fe19fda2e92ac0ac1",
        "unk.dic": "f0bf15e3e28259f4470b9c1e775d98bef53207d4b09afcd6d8545209b7b53f88",
        "matrix.bin": "ee44d7350cdcb680ebd699f83e121be1dc63310f8832d55bcb537a068177611a",
        "char.bin": "81bba502ae48fa005a374819f15e44452eb68086a8b323ec20a044d514400832",
    }),
}


def read_checked(folder, hashes):
    """The four files, refused if they are not the ones the committed dictionaries were made from."""
    files = {}
    for name, expected in hashes.items():
        data = (folder / name).read_bytes()
        got = hashlib.sha256(data).hexdigest()
        if got != expected:
            sys.exit(f"{folder / name}: sha256 is {got}, expected {expected}")
        files[name] = data
    return files


def read_dic(data):
    """Yields (surface, left id, right id, cost) in MeCab's order: by bytes, then as stored."""
    magic, version, _type, _size, _l, _r, d_size, t_size, _f_size, _ = struct.unpack_from("<10I", data)
    assert magic ^ 0xEF718F77 == len(data) and version == 102, "not a MeCab 0.996 dictionary"
    assert data[40:72].rstrip(b"\0").lower() in (b"utf8", b"utf-8"), data[40:72]
    units = np.frombuffer(data, dtype=[("base", "<i4"), ("check", "<u4")], count=d_size // 8, offset=72)
    tokens = np.frombuffer(data, dtype=[("left", "<u2"), ("right", "<u2"), ("pos", "<u2"), ("cost", "<i2"),
                                        ("feature", "<u4"), ("compound", "<u4")],
                           count=t_size // 16, offset=72 + d_size)
    base, check = units["base"].astype(np.int64), units["check"].astype(np.int64)
    order = np.argsort(check, kind="stable")
    parents = check[order]
    stack = [(int(base[0]), b"")]
    while stack:
        at, prefix = stack.pop()
        lo, hi = np.searchsorted(parents, [at, at + 1])
        children = []
        for unit in order[lo:hi]:
            unit = int(unit)
            if unit == at and base[unit] < 0:
                value = -int(base[unit]) - 1
                for token in tokens[value >> 8:(value >> 8) + (value & 0xFF)]:
                    yield prefix.decode(), int(token["left"]), int(token["right"]), int(token["cost"])
            elif 0 < unit - at <= 256 and base[unit] >= 0:
                children.append((int(base[unit]), prefix + bytes([unit - at - 1])))
        stack.extend(reversed(children))


def merge(rows):
    """For each row the number of the first kind equal to it; kind 0 stays kind 0 (begin and end of sentence)."""
    kinds, of = {}, []
    for row in rows:
        of.append(kinds.setdefault(row.tobytes(), len(kinds)))
    first = np.array([of.index(k) for k in range(len(kinds))])
    return np.array(of), first


def write_char_def(data, path):
    """Each category's flags, then each run of code points with equal categories, default category first."""
    (count,) = struct.unpack_from("<I", data)
    names = [data[4 + 32 * i:36 + 32 * i].rstrip(b"\0").decode() for i in range(count)]
    table = np.frombuffer(data, dtype="<u4", offset=4 + 32 * count)
    flags = {}
    lines = []

    def parts(info):
        return info & 0x3FFFF, info >> 18 & 0xFF, info >> 26 & 0xF, info >> 30 & 1, info >> 31

    for info in np.unique(table):
        _, default, length, group, invoke = parts(int(info))
        assert flags.setdefault(default, (invoke, group, length)) == (invoke, group, length)
    start = 0
    for end in range(1, len(table) + 1):
        if end == len(table) or table[end] != table[start]:
            kinds, default, *_ = parts(int(table[start]))
            listed = [names[default]] + [n for i, n in enumerate(names) if kinds >> i & 1 and i != default]
            lines.append(f"0x{start:04X}..0x{end - 1:04X} {' '.join(listed)}")
            start = end
    # A category that no code point has as its default keeps flags that nothing ever reads.
    head = [f"{n} {' '.join(map(str, flags.get(i, (0, 1, 0))))}" for i, n in enumerate(names)]
    path.write_text("\n".join(head + lines) + "\n")


def write_entries(entries, left_of, right_of, path):
    cheapest = {}
    for surface, left, right, cost in entries:
        key = (surface, int(left_of[left]), int(right_of[right]))
        cheapest[key] = min(cost, cheapest.get(key, cost))
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for (surface, left, right), cost in cheapest.items():
            writer.writerow([surface, left, right, cost])
    return len(cheapest)


def main():
    package, hashes = PACKAGES[sys.argv[1]]
    out = pathlib.Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    folder = pathlib.Path(importlib.import_module(package).__file__).parent / "dicdir"
    files = read_checked(folder, hashes)

    n_right, n_left = struct.unpack_from("<2H", files["matrix.bin"])
    matrix = np.frombuffer(files["matrix.bin"], dtype="<i2", offset=4).reshape(n_left, n_right)
    left_of, first_left = merge(matrix)
    right_of, first_right = merge(np.ascontiguousarray(matrix.T))
    merged = matrix[np.ix_(first_left, first_right)]
    with (out / "matrix.def").open("w") as file:
        file.write(f"{merged.shape[1]} {merged.shape[0]}\n")
        for left, row in enumerate(merged.tolist()):
            file.write("".join(f"{right} {left} {cost}\n" for right, cost in enumerate(row)))

    write_char_def(files["char.bin"], out / "char.def")
    entries = list(read_dic(files["sys.dic"]))
    kept = write_entries(entries, left_of, right_of, out / "lex.csv")
    write_entries(read_dic(files["unk.dic"]), left_of, right_of, out / "unk.def")
    print(f"{sys.argv[1]}: {len(entries)} entries, {kept} kept; "
          f"matrix {matrix.shape} -> {merged.shape} (left, right)")


if __name__ == "__main__":
    main()
