"""The shared tokenizer: byte-level BPE in Llama 3's form, and the prompt."""
import json

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from . import reports, scenes, tasks
from .phantoms import sample_findings

SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>",
           "<|start_header_id|>", "<|end_header_id|>", "<|reserved_special_token_2|>", "<|eot_id|>"]
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
         r"\s+(?!\S)|\s+")
TEMPLATE = ("A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
            "detailed, and polite answers to the user's questions. USER: {content}\n{task} ASSISTANT:")


def train(seed, vocabulary):
    rng = np.random.default_rng(seed)
    lines = [TEMPLATE.format(content="", task=t) for t in tasks.INSTRUCTIONS for _ in range(900)]
    lines += [" " + w for w in tasks.code_words() for _ in range(900)]
    lines += [line for q in tasks.FACTS for line in q for _ in range(40)]
    for _ in range(4000):
        f, s = sample_findings(rng), scenes.sample_scene(rng)
        lines += [reports.japanese(f, rng), reports.english(f, rng), reports.plain(f), reports.impression_en(f)]
        lines += [scenes.english(s), scenes.japanese(s), tasks.chest_codes(f, rng), tasks.scene_codes(s, rng)]
    tok = Tokenizer(models.BPE(ignore_merges=True))
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), "isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(lines, trainers.BpeTrainer(
        vocab_size=vocabulary - len(SPECIAL), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
        max_token_length=15))
    tok.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    bos = tok.token_to_id(SPECIAL[0])
    tok.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single=f"{SPECIAL[0]} $A", pair=f"{SPECIAL[0]} $A {SPECIAL[0]}:1 $B:1",
                                      special_tokens=[(SPECIAL[0], bos)])])
    return tok


class Codec:
    """Prompt parts as token ids. `before` carries the begin mark; `after` and answers do not."""

    def __init__(self, tok):
        self.tok = tok
        self.eos, self.eot = tok.token_to_id("<|end_of_text|>"), tok.token_to_id("<|eot_id|>")
        before, self.rest = TEMPLATE.split("{content}")
        self.before = tok.encode(before).ids
        self.memo = {}

    def ids(self, text):
        if text not in self.memo:
            if len(self.memo) > 200000:
                self.memo.clear()
            self.memo[text] = self.tok.encode(text, add_special_tokens=False).ids
        return self.memo[text]

    def after(self, task):
        return self.ids(self.rest.format(task=task))

    def answer(self, text):
        return self.ids(text) + [self.eos]

    def decode(self, ids):
        return self.tok.decode(ids, skip_special_tokens=True).strip()


def load(path):
    return Codec(Tokenizer.from_file(str(path)))


def sizes(codec):
    return json.dumps({t: len(codec.ids(t)) for t in list(codec.memo)[:20]}, ensure_ascii=False)
