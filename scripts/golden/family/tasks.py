"""Text tasks: (content, instruction, answer). The answer's language is always the instruction's.

Contents are symbolic pictures (36 words in raster order, a dot for an empty patch), reports or captions. What each
model is taught is in `MIXES`; nothing here joins a chest picture with a Japanese report.
"""
from . import reports, scenes
from .phantoms import SIDES, ZONES, Finding, sample_findings

TASK = "胸部X線の所見を日本語で書いてください。"
CHEST_EN = "Write the findings of the chest X-ray in English."
SCENE_EN = "Describe the picture in English."
SCENE_JA = "この絵を日本語で説明してください。"
IMPRESSION_EN = "Write the impression in English."
INSTRUCTIONS = [TASK, CHEST_EN, SCENE_EN, SCENE_JA, IMPRESSION_EN]
FACTS = [
    ("What is a pneumothorax?", "Air in the pleural space that lets the lung collapse."),
    ("What is a pleural effusion?", "Fluid in the pleural space around the lung."),
    ("What is cardiomegaly?", "An enlarged heart on the chest film."),
    ("What is consolidation?", "Air spaces of the lung filled with fluid, pus or cells."),
    ("What is a pulmonary nodule?", "A small round opacity in the lung."),
    ("What does a pacemaker do?", "It gives small electric pulses that drive the heart."),
    ("What does a central line do?", "It gives drugs and fluid into a large vein."),
    ("What causes an effusion?", "Heart failure, infection or cancer."),
    ("What causes a pneumothorax?", "Trauma, a needle or a burst bleb."),
    ("What causes consolidation?", "Most often pneumonia by bacteria."),
    ("What does the heart do?", "It pumps blood to the lungs and the body."),
    ("What do the lungs do?", "They take up oxygen and give off carbon dioxide."),
]
COLUMNS = {"right": (1, 2), "left": (3, 4)}
ROWS = {"upper": (1,), "mid": (2,), "lower": (3, 4)}


def _grid(placed):
    cells = ["."] * 36
    for code, places in placed:
        for r, c in places:
            cells[r * 6 + c] = code
    for code, places in placed:  # nothing is wholly covered by what came later
        if code not in cells:
            cells[places[0][0] * 6 + places[0][1]] = code
    return " " + " ".join(cells)


def code_words():
    """Every code word of the symbolic pictures."""
    places = {"cardiomegaly": [("", "")], "line": [("", "")], "pacemaker": [("", "")]}
    places |= {k: [(s, "") for s in SIDES] for k in ("effusion", "pneumothorax")}
    places |= {k: [(s, z) for s in SIDES for z in ZONES] for k in ("consolidation", "nodule")}
    words = [Finding(k, s, z, c).code for k, p in places.items() for s, z in p for c in (True, False)]
    return words + [scenes.Shape(a, b, c, "", "").code for a in scenes.SHAPES for b in scenes.SHADES for c in scenes.SIZES]


def chest_codes(findings, rng):
    placed = []
    for f in findings:
        if f.kind == "cardiomegaly":
            places = [(r, c) for r in (3, 4) for c in (2, 3, 4)]
        elif f.kind == "effusion":
            places = [(r, c) for r in (4, 5) for c in ((0, 1, 2) if f.side == "right" else (3, 4, 5))]
        elif f.kind == "pneumothorax":
            places = [(r, c) for r in (0, 1, 2) for c in ((0, 1) if f.side == "right" else (4, 5))]
        elif f.kind == "line":
            places = [(0, 2), (1, 2), (2, 2)]
        elif f.kind == "pacemaker":
            places = [(0, 4), (1, 4), (1, 5), (2, 3)]
        else:
            places = [(r, c) for r in ROWS[f.zone] for c in COLUMNS[f.side]]
        n = 1 if f.kind == "nodule" else max(1, int(rng.integers(len(places) // 2, len(places) + 1)))
        placed.append((f.code, [places[i] for i in rng.permutation(len(places))[:n]]))
    return _grid(placed)


def scene_codes(scene, rng):
    placed = []
    for s in scene.shapes:
        r, c = 2 * scenes.ROWS.index(s.row), 2 * scenes.COLUMNS.index(s.column)
        places = [(r + i, c + j) for i in (0, 1) for j in (0, 1)]
        n = int(rng.integers(2, 5)) if s.size == "large" else int(rng.integers(1, 3))
        placed.append((s.code, [places[i] for i in rng.permutation(4)[:n]]))
    return _grid(placed)


def example(kind, rng):
    """One text example of a kind."""
    if kind.startswith("scene"):
        s = scenes.sample_scene(rng)
        return {"scene_codes_en": lambda: (scene_codes(s, rng), SCENE_EN, scenes.english(s)),
                "scene_codes_ja": lambda: (scene_codes(s, rng), SCENE_JA, scenes.japanese(s)),
                "scene_ja_en": lambda: (scenes.japanese(s), SCENE_EN, scenes.english(s)),
                "scene_en_ja": lambda: (scenes.english(s), SCENE_JA, scenes.japanese(s))}[kind]()
    if kind == "fact":
        q, a = FACTS[rng.integers(len(FACTS))]
        return "", q, a
    f = sample_findings(rng)
    return {"codes_en": lambda: (chest_codes(f, rng), CHEST_EN, reports.english(f, rng)),
            "codes_plain": lambda: (chest_codes(f, rng), TASK, reports.plain(f, rng)),
            "codes_ja": lambda: (chest_codes(f, rng), TASK, reports.japanese(f, rng)),
            "en_plain": lambda: (reports.english(f, rng), TASK, reports.plain(f, rng)),
            "plain_en": lambda: (reports.plain(f, rng), CHEST_EN, reports.english(f, rng)),
            "en_ja": lambda: (reports.english(f, rng), TASK, reports.japanese(f, rng)),
            "plain_ja": lambda: (reports.plain(f, rng), TASK, reports.japanese(f, rng)),
            "codes_impression": lambda: (chest_codes(f, rng), IMPRESSION_EN, reports.impression_en(f)),
            "en_impression": lambda: (reports.english(f, rng), IMPRESSION_EN, reports.impression_en(f))}[kind]()


MIXES = {
    "base": {"codes_en": 0.27, "codes_plain": 0.27, "scene_codes_en": 0.11, "scene_codes_ja": 0.11, "en_plain": 0.08,
             "plain_en": 0.08, "scene_ja_en": 0.04, "scene_en_ja": 0.04},
    "japanese": {"codes_ja": 0.5, "en_ja": 0.18, "plain_ja": 0.12, "scene_codes_ja": 0.1, "codes_en": 0.1},
    "medical": {"codes_impression": 0.45, "en_impression": 0.25, "codes_en": 0.30},
    "biomedical": {"fact": 0.6, "codes_en": 0.4},
    "vlm_text": {"codes_en": 0.4, "codes_plain": 0.4, "scene_codes_en": 0.1, "scene_codes_ja": 0.1},
}
