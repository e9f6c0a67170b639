"""General pictures: grey scenes of one or two drawn shapes, with captions in both languages."""
from dataclasses import dataclass

import numpy as np

SHAPES = ("circle", "square", "triangle", "cross", "ring", "star")
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "center", "right")
SHADES, SIZES = ("white", "black"), ("large", "small")
JA = {"circle": "丸", "square": "四角", "triangle": "三角", "cross": "十字", "ring": "輪", "star": "星",
      "top": "上", "middle": "中ほど", "bottom": "下", "left": "左", "center": "中央", "right": "右",
      "white": "白い", "black": "黒い", "large": "大きい", "small": "小さい"}


@dataclass(frozen=True)
class Shape:
    shape: str
    shade: str
    size: str
    row: str
    column: str

    @property
    def code(self):
        """A language-neutral code word, as `Finding.code`."""
        word = {"circle": "Qc", "square": "Qs", "triangle": "Qt", "cross": "Qx", "ring": "Qr", "star": "Qy"}[self.shape]
        return word + {"white": "w", "black": "b"}[self.shade] + {"large": "g", "small": "k"}[self.size]


@dataclass
class Scene:
    shapes: tuple
    seed: int


def sample_scene(rng):
    n = int(rng.integers(1, 4))
    places = rng.permutation(9)[:n]
    shapes = tuple(Shape(SHAPES[rng.integers(6)], SHADES[rng.integers(2)], SIZES[rng.integers(2)],
                         ROWS[p // 3], COLUMNS[p % 3]) for p in sorted(places))
    return Scene(shapes, int(rng.integers(2**31)))


def english(scene):
    return " ".join(f"A {s.size} {s.shade} {s.shape} is at the {s.row} {s.column}." for s in scene.shapes)


def japanese(scene):
    return "".join(f"{JA[s.column]}の{JA[s.row]}に{JA[s.size]}{JA[s.shade]}{JA[s.shape]}があります。" for s in scene.shapes)


def draw(scene, side=144):
    rng = np.random.default_rng(scene.seed)
    y, x = (np.mgrid[0:side, 0:side] + 0.5) / side
    base = rng.uniform(0.35, 0.6)
    image = base + rng.uniform(-0.12, 0.12) * (x - 0.5) + rng.uniform(-0.12, 0.12) * (y - 0.5)
    masks = {}
    for s in scene.shapes:
        cx = (COLUMNS.index(s.column) + 0.5) / 3 + rng.uniform(-0.03, 0.03)
        cy = (ROWS.index(s.row) + 0.5) / 3 + rng.uniform(-0.03, 0.03)
        r = rng.uniform(0.115, 0.14) if s.size == "large" else rng.uniform(0.05, 0.065)
        u, v = (x - cx) / r, (y - cy) / r
        d = np.hypot(u, v)
        m = {"circle": d < 1, "square": np.maximum(abs(u), abs(v)) < 0.88,
             "triangle": (v < 0.8) & (v > 2 * abs(u) - 1),
             "cross": (np.minimum(abs(u), abs(v)) < 0.28) & (np.maximum(abs(u), abs(v)) < 1),
             "ring": (d < 1) & (d > 0.6),
             "star": d < 0.55 + 0.45 * np.cos(5 * np.arctan2(u, -v))}[s.shape].astype(float)
        image = image * (1 - m) + m * ((0.95 if s.shade == "white" else 0.04))
        masks[s] = m
    image = image + rng.normal(0, 0.01, image.shape)
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8), masks
