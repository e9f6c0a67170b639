"""The paper's merge over flattened weights, and a CMA-ES search of its ten numbers."""
import numpy as np
import torch
from cmaes import CMA

SOURCES = ("medical", "biomedical", "japanese", "vlm")
NAMES = ["drop_rate", *(f"trim_rate_{s}" for s in SOURCES), "scale", *(f"weight_{s}" for s in SOURCES)]
UPPER = np.array([1, 1, 1, 1, 1, 2, 2, 2, 2, 2.0])  # the authors' CPU runner; their GPU runner has weights up to 1
MIDDLES = {"middle of the box (w 0.5)": np.array([0.5] * 5 + [1.0] + [0.5] * 4), "middle of the box (w 1)": UPPER / 2}


def flatten(state):
    return torch.cat([v.float().flatten() for v in state.values()]).numpy()


def unflatten(vector, like):
    out, at = {}, 0
    for k, v in like.items():
        out[k] = torch.from_numpy(vector[at:at + v.numel()]).view(v.shape)
        at += v.numel()
    return out


class Merger:
    def __init__(self, base, sources, seed=42):
        self.base = base
        self.tau = [sources[s] - base for s in SOURCES]
        rng = np.random.default_rng(seed)
        self.field = [rng.random(len(base), dtype=np.float32) for _ in SOURCES]

    def plain(self, weights):
        """b + Σ w·τ."""
        return self.base + sum(w * t for w, t in zip(weights, self.tau) if w)

    def paper(self, x):
        drop, trims, scale, weights = x[0], x[1:5], x[5], x[6:10]
        kept = []
        for tau, field, trim in zip(self.tau, self.field, trims):
            t = np.where(field < drop, 0, tau / (1 - drop) if drop < 1 else 0).astype(np.float32)
            k = int(trim * len(t))
            if k > np.count_nonzero(t == 0):
                threshold = np.partition(np.abs(t), k - 1)[k - 1]
                t[np.abs(t) <= threshold] = 0
            kept.append(t)
        sign = np.sign(sum(kept))
        majority = np.sign(sign.sum())
        sign[sign == 0] = majority
        total, count = np.zeros_like(self.base), np.zeros_like(self.base)
        for w, t in zip(weights, kept):
            agree = (t * sign) > 0
            total += np.where(agree, w * t, 0).astype(np.float32)
            count += agree
        return self.base + np.float32(scale) * total / np.maximum(count, 1)


def search(score, seed, evaluations, log=print):
    """`score(ten numbers) -> fitness`; returns (best fitness, numbers) and the trace."""
    cma = CMA(mean=np.full(10, 0.5), sigma=1 / 6, bounds=np.array([[0, 1]] * 10), seed=seed, population_size=10)
    best, trace = (-1.0, None), []
    while len(trace) < evaluations:
        told = []
        for _ in range(10):
            u = cma.ask()
            x = u * UPPER
            value = score(x)
            told.append((u, -value))
            trace.append(value)
            if value > best[0]:
                best = (value, x)
        cma.tell(told)
        log(f"  seed {seed} {len(trace)} best {best[0]:.4f} generation mean {-np.mean([t[1] for t in told]):.4f}")
    return best, trace
