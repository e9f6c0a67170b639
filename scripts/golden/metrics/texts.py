"""Texts to compare with the references: radiology-like Japanese, English mixed in, and what breaks tokenisers."""

import random

FINDINGS = ["胸水", "胸水貯留", "気胸", "浸潤影", "コンソリデーション", "すりガラス影", "結節影", "腫瘤影", "無気肺", "肺うっ血",
            "心拡大", "心陰影の拡大", "縦隔の拡大", "肋骨骨折", "石灰化", "間質影", "肺炎像", "胸膜肥厚", "皮下気腫", "リンパ節腫大",
            "pleural effusion", "GGO", "CP angleの鈍化", "ブラ", "大動脈弓の石灰化", "右第5肋骨骨折"]
PLACES = ["", "", "右", "左", "両側", "右下肺野に", "左上肺野に", "両側肺門部に", "右肺尖部に", "左肋骨横隔膜角に", "右S6に", "両肺野にびまん性の"]
DEGREES = ["", "", "軽度の", "少量の", "明らかな", "著明な", "約15mm大の", "淡い", "新たな", "既知の"]
ENDS = ["を認める。", "を認めない。", "は認められない。", "あり。", "なし。", "の疑い。", "を否定できない。", "が疑われます。", "は前回と著変ありません。",
        "は指摘できない。", "は減少。", "を認め、肺炎として矛盾しない。", "(+)、要精査。", "（－）", "の可能性は低い"]
FIXED = ["心胸郭比は48%で正常範囲です。", "CTR 58%と拡大。", "異常なし。", "特記すべき所見なし。", "肺野に活動性病変を認めません。",
         "ペースメーカー留置後の状態です。", "CVカテーテルの先端は上大静脈にある。", "No acute cardiopulmonary abnormality.",
         "前回(2023/04/01)と比較し、変化なし。", "胃管の先端は胃内に存在。", "撮影：ポータブル、AP、臥位。"]
ODD = ["", " ", "\n", "。", "　", "胸水", "a", "胸水 なし", "  胸水なし  ", "胸水なし。\n気胸なし。\n", "胸水なし。\r\n気胸なし。", "\t胸水\tなし",
       "😀胸水なし😀", "👨‍👩‍👧", "ﾍﾟｰｽﾒｰｶｰあり", "ＣＴＲ　５８％", "⻑期経過と⽐較して", "胸水なし" * 60, "ｱ" * 50, "1234567890" * 5, "が\u3099",
       "No pleural effusion or pneumothorax.", "https://example.org/a?b=c&d=%20", "<|eot_id|>", "胸水：なし　気胸：なし", "a\u00a0b\u2003c\u001cd",
       "𠮷野家", "ーーーーーーーーーーーーーーーーーーーーーーーーーーーーーー", "!!!???", "（（（）））", "éàü ñ Ω Ж", "..", "なしなしなし", "あ" * 200]


def sentence(rng):
    if rng.random() < 0.2:
        return rng.choice(FIXED)
    findings = rng.sample(FINDINGS, rng.choice([1, 1, 1, 2, 3]))
    joined = rng.choice(["、", "や", "および", "・"]).join(findings)
    return rng.choice(PLACES) + rng.choice(DEGREES) + joined + rng.choice(ENDS)


def report(rng):
    glue = rng.choice(["", "", "\n", " ", "　"])
    return glue.join(sentence(rng) for _ in range(rng.randint(1, 9)))


def disturbed(rng, text):
    """A text near another one: sentences dropped, doubled, replaced, moved."""
    parts = [p + "。" for p in text.split("。") if p.strip()]
    for _ in range(rng.randint(0, 3)):
        if not parts:
            break
        at = rng.randrange(len(parts))
        match rng.randrange(4):
            case 0: parts.pop(at)
            case 1: parts.insert(at, parts[at])
            case 2: parts[at] = sentence(rng)
            case 3: parts.append(parts.pop(at))
    return "".join(parts)


def pairs(seed, count):
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        reference = report(rng)
        prediction = rng.choice([disturbed, lambda r, t: report(r), disturbed, lambda r, t: t])(rng, reference)
        made.append((reference, prediction))
    for odd in ODD:
        made.append((odd, odd))
        made.append((report(rng), odd))
        made.append((odd, rng.choice(ODD)))
    return made


def lines(seed, count):
    rng = random.Random(seed)
    letters = "胸水気腫肺野右左なしをはがの、。 　\n\tabcXYZ019%().-ーァアｱあ😀éΩ\u3099\u200b\u00a0"
    made = list(ODD)
    while len(made) < count:
        kind = rng.random()
        if kind < 0.4:
            made.append(sentence(rng))
        elif kind < 0.7:
            made.append(report(rng))
        else:
            made.append("".join(rng.choice(letters) for _ in range(rng.randint(1, 60))))
    return made
