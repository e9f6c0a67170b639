"""Llama 3's tokenizer as a tokenizer.json, made from the vocabulary and merges in an npm package, and the prompt's ids.

    npm install --prefix DIR llama3-tokenizer-js@1.2.0
    python scripts/golden/llama3_tokenizer.py DIR/node_modules/llama3-tokenizer-js --out FOLDER [--extract worker/tests/data/llama3_prompt]

Pinned: tokenizers==0.23.3. Writes FOLDER/tokenizer.json (whole, never committed: the vocabulary is Meta's), asks node for the
ids of some thousand random strings and asserts that they are the same, then prints the ids around the image for the paper's
task. --extract writes what of the vocabulary that one prompt can touch, which is enough to tokenize it, and the ids.
The template is in the worker: JRADIEVO_LLAMA3_TOKENIZER=FOLDER/tokenizer.json cargo test -p worker --test llama3_prompt
"""
import argparse
import base64
import json
import random
import re
import subprocess
from pathlib import Path

from tokenizers import Tokenizer

SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
NAMED = {0: "begin_of_text", 1: "end_of_text", 6: "start_header_id", 7: "end_header_id", 9: "eot_id"}
TEMPLATE = ("A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
            "detailed, and polite answers to the user's questions. USER: <image>\n{task} ASSISTANT:")
TASK = ("あなたは優秀な放射線科医です。このレントゲン写真を見て、所見文を書いてください。"
        "肺・心臓・骨に異常があるかに注目して読影してください。日本語で書いてください。")


def read(package):
    text = (package / "src" / "data-converted.js").read_text()
    constants = dict(re.findall(r'const (\w+) = "([^"]*)"', text))
    vocab = base64.b64decode(constants["llama_vocab_base64"]).decode("utf-8").split("\n")
    packed = base64.b64decode(constants["llama_merges_binary"])
    bits = int.from_bytes(packed, "big")
    total = len(packed) * 8
    numbers = [(bits >> (total - 17 * (i + 1))) & 0x1FFFF for i in range(total // 17)]
    merges = [(vocab[a], vocab[b]) for a, b in zip(numbers[::2], numbers[1::2])]
    # The bits are padded to whole bytes, which may look like one merge more.
    known = set(vocab)
    while merges[-1][0] + merges[-1][1] not in known:
        merges.pop()
    return vocab, merges


def special(count=256):
    names, reserved = [], 0
    for i in range(count):
        if i in NAMED:
            names.append(f"<|{NAMED[i]}|>")
        else:
            names.append(f"<|reserved_special_token_{reserved}|>")
            reserved += 1
    return names


def tokenizer_json(vocab, merges, added):
    begin = "<|begin_of_text|>"
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    template = {"type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": begin, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"SpecialToken": {"id": begin, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                         {"SpecialToken": {"id": begin, "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {begin: {"id": begin, "ids": [added[begin]], "tokens": [begin]}}}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [{"id": i, "content": c, **flags} for c, i in added.items()], "normalizer": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False}, level]},
            "post_processor": {"type": "Sequence", "processors": [{**level, "use_regex": True}, template]},
            "decoder": {**level, "use_regex": True, "add_prefix_space": True},
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": True,
                      "vocab": vocab, "merges": [f"{a} {b}" for a, b in merges]}}


def extract(tokenizer, vocab, merges, texts):
    """What merging can touch in these texts: parts of their words, and merges that make one part from two."""
    parts = set()
    for text in texts:
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text):
            parts |= {word[i:j] for i in range(len(word)) for j in range(i + 1, min(len(word), i + 24) + 1)}
    parts &= set(vocab)
    return ({t: i for i, t in enumerate(vocab) if t in parts},
            [(a, b) for a, b in merges if a in parts and b in parts and a + b in parts])


def random_strings(count, rng):
    pools = ["abcdefghijklmnop ABCXYZ'", "0123456789., ", "あいうえおかきくけこさしすせそなのはをん", "肺野胸水心拡大所見認異常骨折影右左両側気",
             "アイウエオレントゲンー", " \n\t\r", "、。・「」()!?%", "éüñßøΩЖ한글", "🙂🫁", "\u3000\u00a0"]
    pieces = ["the patient", "No effusion.", "両側肺野に", "異常なし。", " ASSISTANT:", "don't", "I'LL", "12345"]
    out = []
    for _ in range(count):
        chosen = rng.sample(pools, rng.randint(1, 4))
        out.append("".join(rng.choice(pieces) if rng.random() < 0.1 else rng.choice(rng.choice(chosen))
                           for _ in range(rng.randint(1, 60))))
    return out


def node_ids(package, texts):
    script = ("const t=(await import(process.argv[1])).default;"
              "const a=JSON.parse(require('fs').readFileSync(0,'utf8'));"
              "console.log(JSON.stringify(a.map(s=>t.encode(s,{bos:true,eos:false}))));")
    script = f"(async()=>{{{script}}})()"
    run = subprocess.run(["node", "-e", script, str((package / "bundle" / "llama3-tokenizer-with-baked-data.js").resolve())],
                         input=json.dumps(texts), capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def main():
    parser = argparse.ArgumentParser(description="Llama 3's tokenizer from an npm package")
    parser.add_argument("package", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--extract", type=Path)
    parser.add_argument("--strings", type=int, default=3000)
    args = parser.parse_args()
    vocab, merges = read(args.package)
    added = {name: len(vocab) + i for i, name in enumerate(special())}
    args.out.mkdir(parents=True, exist_ok=True)
    ids = {token: i for i, token in enumerate(vocab)}
    path = args.out / "tokenizer.json"
    path.write_text(json.dumps(tokenizer_json(ids, merges, added), ensure_ascii=False), encoding="utf-8")
    tokenizer = Tokenizer.from_file(str(path))
    print(f"{len(vocab)} tokens, {len(merges)} merges, {len(added)} special tokens -> {path}")

    texts = random_strings(args.strings, random.Random(1))
    different = [t for t, ids in zip(texts, node_ids(args.package, texts)) if ids != tokenizer.encode(t).ids]
    assert not different, f"{len(different)} strings differ, such as {different[0]!r}"
    print(f"the same ids as the package's own tokenizer on {len(texts)} random strings")

    left, right = TEMPLATE.format(task=TASK).split("<image>")
    before, after = tokenizer.encode(left).ids, tokenizer.encode(right).ids[1:]
    print(f"before the image ({len(before)}): {before}\nafter it ({len(after)}): {after}")
    if args.extract:
        args.extract.mkdir(parents=True, exist_ok=True)
        few, some = extract(tokenizer, vocab, merges, [left, right])
        small = {k: v for k, v in added.items() if k in ("<|begin_of_text|>", "<|end_of_text|>")}
        # Numbers of added tokens are taken from the vocabulary where it has them.
        text = json.dumps(tokenizer_json({**few, **small}, some, small), ensure_ascii=False, indent=0)
        (args.extract / "tokenizer.json").write_text(text + "\n", encoding="utf-8")
        reference = {"about": "ids around the image for the paper's task, from the whole Llama 3 vocabulary", "before": before, "after": after}
        (args.extract / "reference.json").write_text(json.dumps(reference, indent=None) + "\n", encoding="utf-8")
        reduced = Tokenizer.from_file(str(args.extract / "tokenizer.json"))
        assert reduced.encode(left).ids == before and reduced.encode(right).ids[1:] == after
        print(f"extract: {len(few)} tokens, {len(some)} merges")


if __name__ == "__main__":
    main()
