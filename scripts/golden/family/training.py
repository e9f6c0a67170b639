"""Training of the language models and of the VLM, and greedy generation."""
import time

import numpy as np
import torch
import torch.nn.functional as F

from . import tasks


class Text:
    """Draws text examples of a mix."""

    def __init__(self, codec, mix):
        self.codec, self.kinds, self.p = codec, list(mix), np.array(list(mix.values())) / sum(mix.values())

    def __call__(self, rng):
        content, task, answer = tasks.example(self.kinds[rng.choice(len(self.kinds), p=self.p)], rng)
        c = self.codec
        return c.ids(content), None, c.after(task), c.answer(answer)


class Images:
    """Draws (picture, instruction, answer) from lists of (feature index, [(task, function of rng)])."""

    def __init__(self, codec, rows):
        self.codec, self.rows = codec, rows

    def __call__(self, rng):
        index, answers = self.rows[rng.integers(len(self.rows))]
        task, answer = answers[rng.integers(len(answers))]
        return [0] * 36, index, self.codec.after(task), self.codec.answer(answer(rng))


class Mixed:
    def __init__(self, *parts):
        self.parts, self.p = [p for p, _ in parts], np.array([w for _, w in parts]) / sum(w for _, w in parts)

    def __call__(self, rng):
        return self.parts[rng.choice(len(self.parts), p=self.p)](rng)


def blur(x, noise):
    """Gaussian noise of a size drawn per row, up to `noise` times the mean size of `x`."""
    return torch.randn_like(x) * x.detach().pow(2).mean().sqrt() * noise * torch.rand(len(x), 1, 1)


def loss_of(model, codec, batch, features=None, project=None, noise=0.0):
    rows = [c + a + s for c, _, a, s in batch]
    width = max(map(len, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    target = torch.full((len(rows), width), -100)
    for i, (c, _, a, s) in enumerate(batch):
        ids[i, :len(rows[i])] = torch.tensor(rows[i])
        n = len(c) + len(a)
        target[i, n - 1:n - 1 + len(s)] = torch.tensor(s)
    x = model.embed(ids[:, :-1])
    if noise:  # contents are blurred, so that reading them does not hang on exact embeddings
        n = torch.tensor([len(c) for c, _, _, _ in batch])[:, None] > torch.arange(x.shape[1])
        x = x + blur(x, noise) * n[:, :, None]
    seen = [i for i, b in enumerate(batch) if b[1] is not None]
    if seen:
        pictures = project(features[[batch[i][1] for i in seen]])
        pictures = pictures + blur(pictures, 0.5 * noise) if noise else pictures
        n = pictures.shape[1]
        x = torch.cat((torch.zeros_like(x[:, :n]).index_copy(0, torch.tensor(seen), pictures)
                       + x[:, :n] * torch.tensor([0.0 if b[1] is not None else 1.0 for b in batch])[:, None, None], x[:, n:]), 1)
    _, past = model.run(model.embed(torch.tensor([codec.before])))
    h, _ = model.run(x, past)
    target = target[:, :-1]
    keep = target != -100
    return F.cross_entropy(model.lm_head(h[keep]), target[keep])


def fit(model, codec, draw, steps, lr, seed, batch=32, features=None, project=None, groups=None, pull=0.0, noise=0.0, log=print,
        name="", warm=0.05, every=200, stop=None):
    """`groups`: parameter groups, all of the language model unless given. Cosine rate over `steps` with a short
    warm-up; `stop` ends before the rate has come down."""
    torch.manual_seed(seed)
    groups = groups or [{"params": list(model.parameters()), "lr": lr}]
    everything = list(model.parameters()) + (list(project.parameters()) if project else [])
    trained = {id(p) for g in groups for p in g["params"]}
    for p in everything:
        p.requires_grad_(id(p) in trained)
    opt = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), weight_decay=0.0)
    rates = [g["lr"] for g in opt.param_groups]
    home = [[p.detach().clone() for p in g["params"]] for g in groups] if pull else None
    rng, start, mean, waiting = np.random.default_rng(seed), time.time(), None, []
    for step in range(stop or steps):
        factor = min(1.0, (step + 1) / (warm * steps + 1)) * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * step / steps)))
        for g, r in zip(opt.param_groups, rates):
            g["lr"] = r * factor
        if not waiting:  # rows of like length go together
            rows = sorted((draw(rng) for _ in range(4 * batch)), key=lambda r: len(r[0]) + len(r[2]) + len(r[3]))
            waiting = [rows[i * batch:(i + 1) * batch] for i in rng.permutation(4)]
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(model, codec, waiting.pop(), features, project, noise)
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for g in groups for p in g["params"]], 1.0)
        opt.step()
        if pull:
            with torch.no_grad():
                for g, hs in zip(groups, home):
                    for p, h in zip(g["params"], hs):
                        p.lerp_(h, pull * factor)
        mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        if (step + 1) % every == 0 or step + 1 == steps:
            log(f"{name} {step + 1}/{steps} loss {mean:.4f} {time.time() - start:.0f} s")
    for p in everything:
        p.requires_grad_(True)


@torch.no_grad()
def generate(model, codec, contents, task, limit, batch=50):
    """Greedy answers. `contents`: embedded (N, n, hidden) pictures, or a list of equally long id lists."""
    out = []
    for at in range(0, len(contents), batch):
        part = contents[at:at + batch]
        x = model.embed(torch.tensor(part)) if isinstance(part, list) else part
        n = x.shape[0]
        head = model.embed(torch.tensor([codec.before])).expand(n, -1, -1)
        tail = model.embed(torch.tensor([codec.after(task)])).expand(n, -1, -1)
        h, past = model.run(torch.cat((head, x, tail), 1))
        rows, live = [[] for _ in range(n)], [True] * n
        for _ in range(limit):
            token = model.lm_head(h[:, -1]).argmax(-1)
            for i, t in enumerate(token.tolist()):
                if live[i]:
                    live[i] = t not in (codec.eos, codec.eot)
                    rows[i].append(t)
            if not any(live):
                break
            h, past = model.run(model.embed(token[:, None]), past)
        out += rows
    return out
