"""Frontal chest phantoms: what a phantom shows, and how it is drawn.

A phantom is a list of findings. A certain finding is drawn plainly, an uncertain one faintly, an absent one not
at all. Coordinates are fractions of the image; the patient's right is on the left of the image, as on a film.
`draw` returns the grey image and a map of which finding lies where, from which both the tower's targets and the
symbolic pictures of the text tasks are made.
"""
from dataclasses import dataclass, field

import numpy as np

ZONES = ("upper", "mid", "lower")
SIDES = ("right", "left")
ZONE_Y = {"upper": (0.24, 0.33), "mid": (0.43, 0.50), "lower": (0.60, 0.67)}
LUNG_X = {"right": 0.29, "left": 0.71}


@dataclass(frozen=True)
class Finding:
    kind: str  # cardiomegaly effusion consolidation nodule pneumothorax line pacemaker
    side: str = ""
    zone: str = ""
    certain: bool = True

    @property
    def code(self):
        """A language-neutral code word: upper case when certain, lower case when faint."""
        letters = {"cardiomegaly": "KM", "effusion": "FX", "consolidation": "CZ", "nodule": "ND",
                   "pneumothorax": "PX", "line": "VK", "pacemaker": "PK"}[self.kind]
        word = letters + {"right": "R", "left": "L", "": ""}[self.side]
        word += {"upper": "U", "mid": "M", "lower": "B", "": ""}[self.zone]
        return word if self.certain else word.lower()


@dataclass
class Phantom:
    findings: tuple
    seed: int
    extra: dict = field(default_factory=dict)


def sample_findings(rng):
    """0 to 4 findings; at most 8 % normal."""
    n = rng.choice([0, 1, 2, 3, 4], p=[0.06, 0.20, 0.34, 0.28, 0.12])
    kinds = ["cardiomegaly", "effusion", "consolidation", "nodule", "pneumothorax", "line", "pacemaker"]
    weights = np.array([0.17, 0.19, 0.22, 0.19, 0.11, 0.06, 0.06])
    chosen = list(rng.choice(kinds, size=n, replace=False, p=weights)) if n else []
    found, taken = [], set()
    for kind in chosen:
        certain = bool(rng.random() > 0.3)
        if kind == "cardiomegaly":
            found.append(Finding(kind, certain=certain))
        elif kind in ("line", "pacemaker"):
            found.append(Finding(kind))
        elif kind == "effusion":
            sides = SIDES if rng.random() < 0.25 else (SIDES[rng.integers(2)],)
            found += [Finding(kind, s, "", certain) for s in sides]
            taken |= {(s, "lower") for s in sides}
        elif kind == "pneumothorax":
            s = SIDES[rng.integers(2)]
            found.append(Finding(kind, s, "", certain))
            taken.add((s, "upper"))
    for kind in chosen:
        if kind in ("consolidation", "nodule"):
            free = [(s, z) for s in SIDES for z in ZONES if (s, z) not in taken]
            s, z = free[rng.integers(len(free))]
            taken.add((s, z))
            found.append(Finding(kind, s, z, bool(rng.random() > 0.3)))
    order = ["cardiomegaly", "consolidation", "nodule", "effusion", "pneumothorax", "line", "pacemaker"]
    found.sort(key=lambda f: (order.index(f.kind), SIDES.index(f.side) if f.side else 0))
    return tuple(found)


def sample_phantom(rng):
    return Phantom(sample_findings(rng), int(rng.integers(2**31)))


def _soft(d, width):
    return 1.0 / (1.0 + np.exp(np.clip(d / width, -30, 30)))


def _ellipse(x, y, cx, cy, rx, ry, soft=0.06):
    return _soft(np.hypot((x - cx) / rx, (y - cy) / ry) - 1.0, soft)


def draw(phantom):
    """(H, W) uint8 image and {finding: (H, W) soft mask}."""
    rng = np.random.default_rng(phantom.seed)
    w, h = int(rng.integers(120, 181)), int(rng.integers(120, 181))
    y, x = np.mgrid[0:h, 0:w]
    x, y = (x + 0.5) / w, (y + 0.5) / h
    dx, dy = rng.normal(0, 0.008, 2)
    x, y = x - dx, y - dy
    size = rng.normal(1.0, 0.025)
    x = (x - 0.5) / size + 0.5
    masks = {}
    image = 0.10 + 0.42 * _ellipse(x, y, 0.5, 0.62, 0.50, 0.66, 0.03)
    image += 0.22 * _ellipse(x, y, 0.5, 0.05, 0.13, 0.16)
    lungs = np.zeros_like(x)
    for cx in LUNG_X.values():
        lungs = np.maximum(lungs, _ellipse(x, y, cx, 0.46, 0.165, 0.335, 0.05))
    image -= 0.33 * lungs
    for k in range(7):  # ribs
        arc = y - (0.16 + 0.085 * k) - 0.35 * (np.abs(x - 0.5) - 0.2) ** 2
        image += 0.035 * np.exp(-(arc / 0.011) ** 2) * (np.abs(x - 0.5) < 0.42) * (0.3 + 0.7 * lungs)
    image += 0.16 * np.exp(-((x - 0.5) / 0.045) ** 2)  # spine and mediastinum
    image += 0.05 * np.exp(-(((y - 0.15) - 0.12 * np.abs(x - 0.5)) / 0.014) ** 2) * (np.abs(x - 0.5) < 0.36)  # clavicles
    dome = 0.76 - 0.05 * np.cos((np.abs(x - 0.5) - 0.2) * 9) + 0.02 * (x > 0.5)
    image += 0.30 * _soft(dome - y, 0.012)

    heart = [f for f in phantom.findings if f.kind == "cardiomegaly"]
    rx = rng.uniform(0.095, 0.115)
    if heart:
        rx = rng.uniform(0.215, 0.240) if heart[0].certain else rng.uniform(0.155, 0.172)
        masks[heart[0]] = _ellipse(x, y, 0.53, 0.64, rx, 0.145)
    shape = _ellipse(x, y, 0.53, 0.64, rx, 0.145)
    image += 0.34 * shape * (0.35 + 0.65 * lungs)

    for f in phantom.findings:
        strong = 1.0 if f.certain else 0.42
        if f.kind == "effusion":
            cx = LUNG_X[f.side]
            outward = np.clip(np.abs(x - 0.5) - 0.1, 0, 0.35)
            top = rng.uniform(0.575, 0.615) - 0.35 * outward
            m = _soft(top - y, 0.012) * _ellipse(x, y, cx, 0.52, 0.185, 0.33, 0.05)
            image += 0.40 * strong * m
        elif f.kind == "consolidation":
            cx = LUNG_X[f.side] + rng.uniform(-0.02, 0.02)
            cy = rng.uniform(*ZONE_Y[f.zone])
            m = _ellipse(x, y, cx, cy, rng.uniform(0.10, 0.125), rng.uniform(0.075, 0.09), 0.16)
            ripple = 1 + 0.18 * np.sin(x * 70 + rng.uniform(0, 6)) * np.sin(y * 64 + rng.uniform(0, 6))
            image += 0.34 * strong * m * ripple
        elif f.kind == "nodule":
            cx = LUNG_X[f.side] + rng.uniform(-0.06, 0.06)
            cy = rng.uniform(*ZONE_Y[f.zone])
            r = rng.uniform(0.034, 0.042)
            m = _ellipse(x, y, cx, cy, r, r, 0.10)
            image += (0.50 if f.certain else 0.24) * m
        elif f.kind == "pneumothorax":
            cx = LUNG_X[f.side]
            inner = np.hypot((x - (cx + (0.045 if f.side == "right" else -0.045))) / 0.135, (y - 0.53) / 0.33) - 1
            own = lungs * ((x < 0.5) == (f.side == "right")) * _soft(y - 0.56, 0.012)
            m = own * _soft(-inner, 0.03)
            image -= 0.20 * strong * m
            edge = np.exp(-(inner / 0.035) ** 2) * own
            image += 0.20 * strong * edge
        elif f.kind == "line":
            path = 0.40 + 0.10 * np.clip((y - 0.05) / 0.3, 0, 1) ** 0.6
            m = np.exp(-((x - path) / 0.011) ** 2) * (y < 0.52)
            image += 0.45 * m
        elif f.kind == "pacemaker":
            m = ((np.abs(x - 0.80) < 0.062) & (np.abs(y - 0.20) < 0.042)).astype(float)
            lead = np.exp(-((x - (0.76 - 0.20 * np.clip((y - 0.2) / 0.42, 0, 1))) / 0.009) ** 2) * ((y > 0.2) & (y < 0.62))
            m = np.maximum(m, 0.9 * lead)
            image += 0.50 * m
        else:
            continue
        masks[f] = m
    image = image * rng.normal(1.0, 0.04) + rng.normal(0.0, 0.015)
    image = np.clip(image, 0.0, 1.0) ** rng.uniform(0.93, 1.08)
    image = image + rng.normal(0, 0.008, image.shape)
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8), masks


def cells(mask, grid=6):
    """Largest mean coverage per cell of a grid x grid partition, as fractions."""
    h, w = mask.shape
    ys, xs = np.linspace(0, h, grid + 1).astype(int), np.linspace(0, w, grid + 1).astype(int)
    sums = np.add.reduceat(np.add.reduceat(mask, ys[:-1], 0), xs[:-1], 1)
    return sums / np.outer(np.diff(ys), np.diff(xs))


def finding_cells(masks, grid=6):
    """{finding: boolean grid}: the cells it covers, always at least the one it covers most."""
    found = {}
    for f, m in masks.items():
        c = cells(m, grid)
        found[f] = c >= 0.35 if c.max() >= 0.35 else c >= 0.7 * c.max()
    return found
