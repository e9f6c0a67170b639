"""The wording of a phantom's findings: radiologist's Japanese, radiologist's English, everyday Japanese.

Which findings are named, and which are denied, follows from the picture alone (`statements`); only the choice
among a few wordings of a sentence is random, and the first wording is the usual one.
"""
from .phantoms import Finding

USUAL = 0.8  # how often the first wording is taken
ZONE_JA = {"upper": "上肺野", "mid": "中肺野", "lower": "下肺野"}
SIDE_JA = {"right": "右", "left": "左", "both": "両側"}
ZONE_PLAIN = {"upper": "上のほう", "mid": "真ん中", "lower": "下のほう"}

JA = {
    ("cardiomegaly", 1): ("心拡大を認める。", "心陰影の拡大がみられる。"),
    ("cardiomegaly", 0.5): ("心拡大の疑い。", "心陰影の拡大の可能性がある。"),
    ("cardiomegaly", 0): ("心拡大なし。", "心陰影の拡大は認めない。"),
    ("consolidation", 1): ("{z}に浸潤影がみられる。", "{z}にコンソリデーションを認める。"),
    ("consolidation", 0.5): ("{z}に浸潤影の可能性がある。", "{z}にコンソリデーションを否定できない。"),
    ("consolidation", 0): ("浸潤影は明らかでない。", "コンソリデーションは指摘できない。"),
    ("nodule", 1): ("{z}に結節影を認める。", "{z}に結節がみられる。"),
    ("nodule", 0.5): ("{z}に結節影を否定できない。", "{z}に結節の疑いがある。"),
    ("effusion", 1): ("{s}胸水貯留を認める。", "{s}に胸水がみられる。"),
    ("effusion", 0.5): ("{s}胸水の疑いがある。", "{s}に胸水貯留の可能性がある。"),
    ("effusion", 0): ("胸水は認めない。", "胸水貯留は指摘できない。"),
    ("pneumothorax", 1): ("{s}気胸がみられる。", "{s}に気胸を認める。"),
    ("pneumothorax", 0.5): ("{s}気胸を否定できない。", "{s}に気胸の可能性がある。"),
    ("pneumothorax", 0): ("気胸は指摘できない。", "気胸なし。"),
    ("line", 1): ("中心静脈カテーテルを認める。", "中心静脈カテーテルがみられる。"),
    ("pacemaker", 1): ("ペースメーカーがみられる。", "ペースメーカーを認める。"),
}
EN = {
    ("cardiomegaly", 1): ("There is cardiomegaly.", "The heart is enlarged."),
    ("cardiomegaly", 0.5): ("Possible cardiomegaly.", "The heart may be enlarged."),
    ("cardiomegaly", 0): ("No cardiomegaly.", "The heart size is normal."),
    ("consolidation", 1): ("Consolidation in the {z} zone.", "There is an infiltrate in the {z} zone."),
    ("consolidation", 0.5): ("Possible consolidation in the {z} zone.", "An infiltrate in the {z} zone cannot be excluded."),
    ("consolidation", 0): ("No consolidation.", "The lungs show no infiltrate."),
    ("nodule", 1): ("A nodule in the {z} zone.", "There is a nodular opacity in the {z} zone."),
    ("nodule", 0.5): ("Possible nodule in the {z} zone.", "A nodular opacity in the {z} zone cannot be excluded."),
    ("effusion", 1): ("There is a {s} pleural effusion.", "Pleural effusion on the {s}."),
    ("effusion", 0.5): ("Possible {s} pleural effusion.", "A {s} pleural effusion cannot be excluded."),
    ("effusion", 0): ("No pleural effusion.", "The costophrenic angles are clear."),
    ("pneumothorax", 1): ("There is a {s} pneumothorax.", "Pneumothorax on the {s}."),
    ("pneumothorax", 0.5): ("Possible {s} pneumothorax.", "A {s} pneumothorax cannot be excluded."),
    ("pneumothorax", 0): ("No pneumothorax.", "There is no evidence of pneumothorax."),
    ("line", 1): ("A central venous catheter is present.", "A central line is in place."),
    ("pacemaker", 1): ("A pacemaker is present.", "A cardiac pacemaker is in place."),
}
PLAIN = {
    ("cardiomegaly", 1): ("心臓が大きくなっています。",),
    ("cardiomegaly", 0.5): ("心臓が大きいかもしれません。",),
    ("cardiomegaly", 0): ("心臓の大きさはふつうです。",),
    ("consolidation", 1): ("{z}に白いもやがあります。",),
    ("consolidation", 0.5): ("{z}に白いもやがあるかもしれません。",),
    ("consolidation", 0): ("白いもやはありません。",),
    ("nodule", 1): ("{z}に丸いかげがあります。",),
    ("nodule", 0.5): ("{z}に丸いかげがあるかもしれません。",),
    ("effusion", 1): ("{s}の胸に水がたまっています。",),
    ("effusion", 0.5): ("{s}の胸に水がたまっているかもしれません。",),
    ("effusion", 0): ("胸に水はたまっていません。",),
    ("pneumothorax", 1): ("{s}の肺がしぼんでいます。",),
    ("pneumothorax", 0.5): ("{s}の肺がしぼんでいるかもしれません。",),
    ("pneumothorax", 0): ("肺はしぼんでいません。",),
    ("line", 1): ("首から細いくだが入っています。",),
    ("pacemaker", 1): ("胸に小さな機械が入っています。",),
}


def statements(findings):
    """[(kind, side, zone, assertion)] in the order of a report: what is seen, and what the picture makes worth denying."""
    kinds = {f.kind for f in findings}
    out = []
    for f in findings:
        if f.kind == "effusion" and f.side == "left" and any(g.kind == "effusion" and g.side == "right" for g in findings):
            continue
        side = "both" if f.kind == "effusion" and sum(g.kind == "effusion" for g in findings) == 2 else f.side
        out.append((f.kind, side, f.zone, 1 if f.certain else 0.5))
    denied = []
    if not kinds:
        denied = ["cardiomegaly", "consolidation", "effusion"]
    else:
        if kinds & {"effusion"} and "cardiomegaly" not in kinds:
            denied.append("cardiomegaly")
        if kinds & {"pneumothorax"} and "consolidation" not in kinds:
            denied.append("consolidation")
        if kinds & {"cardiomegaly", "consolidation"} and "effusion" not in kinds:
            denied.append("effusion")
        if kinds & {"line", "pacemaker", "nodule"} and "pneumothorax" not in kinds:
            denied.append("pneumothorax")
        denied = denied[:2]
    out += [(k, "", "", 0) for k in denied]
    order = ["cardiomegaly", "consolidation", "nodule", "effusion", "pneumothorax", "line", "pacemaker"]
    return sorted(out, key=lambda s: order.index(s[0]))


def _pick(wordings, rng):
    if rng is None or len(wordings) == 1 or rng.random() < USUAL:
        return wordings[0]
    return wordings[1 + rng.integers(len(wordings) - 1)]


def japanese(findings, rng=None):
    return "".join(_pick(JA[k, a], rng).format(s=SIDE_JA.get(s, ""), z=SIDE_JA.get(s, "") + ZONE_JA.get(z, ""))
                   for k, s, z, a in statements(findings))


def english(findings, rng=None):
    side = {"right": "right", "left": "left", "both": "bilateral"}
    return " ".join(_pick(EN[k, a], rng).format(s=side.get(s, ""), z=f"{s} {z}".strip().replace("mid", "middle"))
                    for k, s, z, a in statements(findings))


def plain(findings, rng=None):
    side = {"right": "右", "left": "左", "both": "両方"}
    return "".join(_pick(PLAIN[k, a], rng).format(s=side.get(s, ""), z=f"{side.get(s, '')}の肺の{ZONE_PLAIN.get(z, '')}")
                   for k, s, z, a in statements(findings))


def impression_ja(findings):
    names = {"cardiomegaly": "心拡大", "consolidation": "肺炎", "nodule": "肺結節", "effusion": "胸水", "pneumothorax": "気胸"}
    seen = list(dict.fromkeys(names[f.kind] + ("" if f.certain else "疑い") for f in findings if f.kind in names))
    return "、".join(seen) + "。" if seen else "異常なし。"


def impression_en(findings):
    names = {"cardiomegaly": "cardiomegaly", "consolidation": "pneumonia", "nodule": "pulmonary nodule",
             "effusion": "pleural effusion", "pneumothorax": "pneumothorax"}
    seen = list(dict.fromkeys(("" if f.certain else "possible ") + names[f.kind] for f in findings if f.kind in names))
    return (", ".join(seen) + ".").capitalize() if seen else "No acute disease."
