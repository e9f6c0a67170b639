//! What sentences are taken to mean, case by case.
//!
//! Each line is a text and its mentions: assertion sign (`+` present, `-` absent, `?` uncertain, `h` past),
//! finding, and after `@` side (R, L, B) and zones where there are any.

#![forbid(unsafe_code)]

use score::term::{Assertion, Lexicon, LexiconChoice, Matcher, Mention, Side};
use std::sync::Arc;

fn matcher() -> Matcher {
    Matcher::new(Arc::new(Lexicon::load(&LexiconChoice::Default).unwrap()), true)
}

fn show(mention: &Mention) -> String {
    let sign = match mention.assertion {
        Assertion::Present => '+',
        Assertion::Absent => '-',
        Assertion::Uncertain => '?',
        Assertion::History => 'h',
    };
    let side = match mention.side {
        Side::None => "",
        Side::Right => "R",
        Side::Left => "L",
        Side::Both => "B",
    };
    let place = [side].into_iter().chain(mention.zones.iter().map(String::as_str)).filter(|p| !p.is_empty());
    let place: Vec<_> = place.collect();
    let at = if place.is_empty() { String::new() } else { format!("@{}", place.join(",")) };
    format!("{sign}{}{at}", mention.finding)
}

fn check(cases: &[(&str, &str)]) {
    let matcher = matcher();
    let mut wrong = Vec::new();
    for (text, expected) in cases {
        let got: Vec<_> = matcher.mentions(text).iter().map(show).collect();
        let got = got.join(" ");
        if got != *expected {
            wrong.push(format!("{text}\n   expected {expected}\n   got      {got}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn plain_assertion_and_denial() {
    check(&[
        ("胸水なし", "-pleural_effusion"),
        ("胸水あり", "+pleural_effusion"),
        ("胸水", "+pleural_effusion"),
        ("胸水を認めない。", "-pleural_effusion"),
        ("胸水は認められません。", "-pleural_effusion"),
        ("胸水貯留は認められない。", "-pleural_effusion"),
        ("気胸は指摘できない", "-pneumothorax"),
        ("気胸の所見はみられない。", "-pneumothorax"),
        ("明らかな骨折は認められない", "-fracture"),
        ("明らかな胸水はない。", "-pleural_effusion"),
        ("胸水は明らかではない。", "-pleural_effusion"),
        ("胸水は目立たない。", "-pleural_effusion"),
        ("胸水は消失している。", "-pleural_effusion"),
        ("胸水の消失を認める。", "-pleural_effusion"),
        ("胸水(-)、気胸(-)", "-pleural_effusion -pneumothorax"),
        ("胸水（＋）、気胸（－）", "+pleural_effusion -pneumothorax"),
        ("胸水：なし\n気胸：あり", "-pleural_effusion +pneumothorax"),
        ("心拡大なし 胸水なし 気胸あり", "-cardiomegaly -pleural_effusion +pneumothorax"),
        ("浸潤影の出現なし。", "-consolidation"),
        ("気胸の残存なし。", "-pneumothorax"),
        // A pacemaker is seen or not like anything else.
        ("ペースメーカー留置後。", "+pacemaker"),
        ("CVカテーテルは抜去されている。", "-central_venous_catheter"),
    ]);
}

#[test]
fn lists_and_clauses() {
    check(&[
        ("浸潤影や胸水、気胸は認めない", "-consolidation -pleural_effusion -pneumothorax"),
        ("胸水、気胸なし。", "-pleural_effusion -pneumothorax"),
        ("胸水は認めるが、気胸は認めない。", "+pleural_effusion -pneumothorax"),
        ("胸水なく、浸潤影を認める。", "-pleural_effusion +consolidation"),
        ("両側胸水あり、気胸なし", "+pleural_effusion@B -pneumothorax"),
        (
            "心拡大を認めるものの、肺うっ血は認められず、胸水も認めない。",
            "+cardiomegaly -pulmonary_congestion -pleural_effusion",
        ),
        ("気胸や胸水は認められず、心陰影の拡大もない。", "-pneumothorax -pleural_effusion -cardiomegaly"),
        ("無気肺を伴う胸水を認める。", "+atelectasis +pleural_effusion"),
        ("胸水を伴わない無気肺を認める。", "-pleural_effusion +atelectasis"),
        ("右下肺野に浸潤影、胸水なし", "+consolidation@R,lower -pleural_effusion"),
        ("胸水は減少し、気胸は認めない。", "+pleural_effusion -pneumothorax"),
        ("陳旧性病変以外に異常なし。", "+old_inflammation -abnormality"),
        ("心拡大(CTR 58%)、胸水貯留を認める。気胸なし。", "+cardiomegaly +pleural_effusion -pneumothorax"),
    ]);
}

#[test]
fn sides_and_zones() {
    check(&[
        ("右胸水を認める。左胸水は認めない。", "+pleural_effusion@R -pleural_effusion@L"),
        ("両側に胸水を認める", "+pleural_effusion@B"),
        ("左右に胸水を認める", "+pleural_effusion@B"),
        ("右および左に胸水を認める。", "+pleural_effusion@B"),
        ("胸水を右に認める。", "+pleural_effusion@R"),
        ("胸水（右）を認める。", "+pleural_effusion@R"),
        ("胸水（右）、気胸（左）を認める。", "+pleural_effusion@R +pneumothorax@L"),
        (
            "右下肺野に浸潤影を認め、左胸水の疑い。気胸は指摘できない",
            "+consolidation@R,lower ?pleural_effusion@L -pneumothorax",
        ),
        ("右下肺野に浸潤影と結節影を認める。", "+consolidation@R,lower +nodule@R,lower"),
        ("右上肺野および左下肺野に浸潤影を認める。", "+consolidation@R,upper +consolidation@L,lower"),
        ("右中下肺野に浸潤影を認める。", "+consolidation@R,middle,lower"),
        ("右上葉に結節影、左下葉に浸潤影を認める。", "+nodule@R,upper +consolidation@L,lower"),
        ("両肺野にびまん性のすりガラス影を認める。", "+ground_glass_opacity@B"),
        ("左肺尖部に気胸を認める。", "+pneumothorax@L,apex"),
        ("右肺門部に腫瘤影を認める。", "+mass@R,hilum"),
        ("両肺うっ血を認める。", "+pulmonary_congestion@B"),
        ("右肺炎の疑い。", "?pneumonia@R"),
        // The heart has no side to inherit.
        ("右胸水、心拡大を認める。", "+pleural_effusion@R +cardiomegaly"),
        ("右胸水あり、気胸なし。", "+pleural_effusion@R -pneumothorax"),
        ("両側胸水（左優位）を認める。", "+pleural_effusion@B"),
        ("右肺では浸潤影を認め、胸水は認めない。", "+consolidation@R -pleural_effusion@R"),
        ("右第5肋骨骨折を認める。", "+fracture@R"),
        ("左右差なく、胸水なし。", "-pleural_effusion"),
        ("右肺癌術後、胸水なし。", "hlung_cancer@R -pleural_effusion"),
    ]);
}

#[test]
fn doubt() {
    check(&[
        ("肺炎を否定できない", "?pneumonia"),
        ("肺炎の可能性は否定できない。", "?pneumonia"),
        ("肺炎は否定的である。", "-pneumonia"),
        ("胸水の疑い", "?pleural_effusion"),
        ("胸水疑い、気胸なし", "?pleural_effusion -pneumothorax"),
        ("胸水が疑われる。", "?pleural_effusion"),
        ("肺炎と考えられる。", "?pneumonia"),
        ("右下肺野に浸潤影を認め、肺炎が考えられます。", "+consolidation@R,lower ?pneumonia"),
        // Seen, and what it may be: only the diagnosis is in doubt.
        ("右下肺野に浸潤影、肺炎の疑い。", "+consolidation@R,lower ?pneumonia@R,lower"),
        // Unlikely is a doubt, not a denial: the reader is told that it was thought of and not excluded.
        ("肺癌の可能性は低い", "?lung_cancer"),
        ("肺癌の可能性はない。", "-lung_cancer"),
        ("肺炎を疑う陰影は認めない。", "-pneumonia -lung_opacity"),
        ("肺炎を疑う所見なし。", "-pneumonia"),
        ("肺癌を疑う結節影を認める。", "?lung_cancer +nodule"),
        ("胸水の疑いはない。", "-pleural_effusion"),
        ("胸水がないとは言えない。", "?pleural_effusion"),
        ("胸水はないと考えられる。", "-pleural_effusion"),
        ("気胸?", "?pneumothorax"),
        ("少量の胸水を疑うが、気胸は認めない。", "?pleural_effusion -pneumothorax"),
        ("無気肺または浸潤影の疑い。", "?atelectasis ?consolidation"),
        ("骨折の有無は評価困難。", "?fracture"),
    ]);
}

#[test]
fn change_and_history() {
    check(&[
        ("胸水の増加はない", "+pleural_effusion"),
        ("胸水は減少", "+pleural_effusion"),
        ("胸水は改善している。", "+pleural_effusion"),
        ("胸水に著変なし。", "+pleural_effusion"),
        ("胸水は前回と変わりない。", "+pleural_effusion"),
        ("胸水は改善し、ほぼ消失している。", "-pleural_effusion"),
        ("胸水は消失していない。", "+pleural_effusion"),
        ("胸水の増加や新たな浸潤影は認めない。", "+pleural_effusion -consolidation"),
        ("結節影は縮小。胸水なし。", "+nodule -pleural_effusion"),
        ("既知の結節影を認める。", "+nodule"),
        ("肺癌術後。", "hlung_cancer"),
        ("気胸の既往。", "hpneumothorax"),
        ("左肺の術後変化を認める。", "+postoperative_change@L"),
        ("前回と比べ変化なし。", ""),
    ]);
}

#[test]
fn normal_statements() {
    check(&[
        ("異常なし", "-abnormality"),
        ("特記すべき所見なし", "-abnormality"),
        ("胸部X線上、明らかな異常を認めません。", "-abnormality"),
        ("心陰影は正常", "-cardiomegaly"),
        ("心拡大なし", "-cardiomegaly"),
        ("心胸郭比は正常範囲", "-cardiomegaly"),
        ("心陰影の大きさは正常範囲内である。", "-cardiomegaly"),
        ("心陰影、縦隔は正常。", "-cardiomegaly -mediastinal_widening"),
        ("心陰影は拡大している。", "+cardiomegaly"),
        ("心陰影の拡大を認めない。", "-cardiomegaly"),
        ("心拡大(CTR 58%)", "+cardiomegaly"),
        ("CTR 58%", "+cardiomegaly"),
        ("CTR 48%と正常。", "-cardiomegaly"),
        ("心胸郭比は４５％。", "-cardiomegaly"),
        ("CTR 52%、心拡大なし。", "-cardiomegaly"),
        ("肺野に異常影なし", "-lung_opacity"),
        ("両肺野に異常を認めない。", "-lung_opacity@B"),
        ("肺野は清。", "-lung_opacity"),
        ("肋骨横隔膜角は鋭。", "-costophrenic_blunting"),
        ("右CP angleの鈍化を認める。", "+costophrenic_blunting@R"),
        ("両側CP angleはsharp。", "-costophrenic_blunting@B"),
        ("縦隔の拡大なし。", "-mediastinal_widening"),
        ("大動脈弓に石灰化を認める。", "+aortic_calcification"),
        ("右横隔膜の挙上を認める。", "+diaphragm_elevation@R"),
        ("骨に異常なし。", "-bone_lesion"),
        ("肺門部の腫大はない。", "-hilar_enlargement"),
        ("心陰影に重なる結節影を認める。", "+nodule@retrocardiac"),
    ]);
}

#[test]
fn devices() {
    check(&[
        ("カテーテル先端は上大静脈にある。", "+central_venous_catheter"),
        ("右内頸静脈よりCVカテーテルが挿入されている。", "+central_venous_catheter"),
        ("カテーテル先端位置に異常なし。", "+central_venous_catheter"),
        ("胃管の先端は胃内にある。", "+gastric_tube"),
        ("左前胸部にペースメーカーを認める。", "+pacemaker@L"),
        ("右胸腔ドレーン留置中、気胸なし。", "+chest_drain@R -pneumothorax"),
        ("気管チューブの位置は問題なし。", "+endotracheal_tube"),
    ]);
}

#[test]
fn spelling() {
    check(&[
        ("ﾍﾟｰｽﾒｰｶｰあり", "+pacemaker"),
        ("ＣＴＲ　５８％", "+cardiomegaly"),
        ("コンソリデーションあり", "+consolidation"),
        ("⻣折なし", "-fracture"),
        ("胸⽔なし", "-pleural_effusion"),
    ]);
}

#[test]
fn english() {
    check(&[
        ("No pleural effusion or pneumothorax.", "-pleural_effusion -pneumothorax"),
        ("No consolidation, effusion, or pneumothorax.", "-consolidation -pleural_effusion -pneumothorax"),
        ("No effusion, mild cardiomegaly.", "-pleural_effusion +cardiomegaly"),
        ("Mild cardiomegaly without effusion.", "+cardiomegaly -pleural_effusion"),
        ("There is no evidence of pneumothorax.", "-pneumothorax"),
        ("Bilateral pleural effusions.", "+pleural_effusion@B"),
        ("Left lower lobe consolidation, possible pneumonia.", "+consolidation@L,lower ?pneumonia@L,lower"),
        ("Pneumonia cannot be excluded.", "?pneumonia"),
        ("The heart is enlarged.", "+cardiomegaly"),
        ("Heart size is normal. The lungs are clear.", "-cardiomegaly -lung_opacity"),
        ("A right pleural effusion is present.", "+pleural_effusion@R"),
        ("Pneumothorax is not seen.", "-pneumothorax"),
        ("No change in the left effusion.", "+pleural_effusion@L"),
        ("No acute cardiopulmonary abnormality.", "-abnormality"),
        ("Pacemaker in place. 胸水なし。", "+pacemaker -pleural_effusion"),
        ("pleural effusionなし", "-pleural_effusion"),
        ("Large pneumothorax with mediastinal shift.", "+pneumothorax +mediastinal_shift"),
        ("Nodular scarring", "+linear_opacity"),
    ]);
}

#[test]
fn whole_reports() {
    check(&[
        (
            "両側肺野に明らかな浸潤影や結節影は認めません。心陰影の拡大なし。両側CP angleはsharpです。縦隔・肺門に異常なし。",
            "-consolidation@B -nodule@B -cardiomegaly -costophrenic_blunting@B -mediastinal_widening -hilar_enlargement",
        ),
        (
            "右上肺野に径15mm大の結節影があり、肺癌の可能性が否定できない。CT精査を推奨する。その他の肺野に異常なし。",
            "+nodule@R,upper ?lung_cancer -lung_opacity",
        ),
        (
            "前回と比較し、右胸水は増加。左胸水は不変。新たな浸潤影は認めない。気管チューブ、胃管、CVカテーテルの位置は適正。",
            "+pleural_effusion@R +pleural_effusion@L -consolidation +endotracheal_tube +gastric_tube +central_venous_catheter",
        ),
        (
            "心胸郭比は58%と拡大している。肺血管影の増強を認め、両側に少量の胸水を伴う。心不全が疑われる。",
            "+cardiomegaly +pulmonary_congestion +pleural_effusion@B ?heart_failure",
        ),
        (
            "左下葉の無気肺、左胸水。右肺に異常所見なし。",
            "+atelectasis@L,lower +pleural_effusion@L -lung_opacity@R",
        ),
        (
            "胸水貯留および肺うっ血は認めないが、軽度の心拡大を認める。",
            "-pleural_effusion -pulmonary_congestion +cardiomegaly",
        ),
    ]);
}

#[test]
fn further_wordings() {
    check(&[
        ("胸水は認められなかった。", "-pleural_effusion"),
        ("胸水を認めておりません。", "-pleural_effusion"),
        ("間質性肺炎に矛盾しない所見です。", "?interstitial_pneumonia"),
        ("肺炎と矛盾しません。", "?pneumonia"),
        ("肺炎は否定できる。", "-pneumonia"),
        ("胸水の有無は不明。", "?pleural_effusion"),
        ("右に胸水あり、左にはなし。", "+pleural_effusion@R -pleural_effusion@L"),
        ("胸水：右（＋）、左（－）", "+pleural_effusion@R -pleural_effusion@L"),
        ("胸水（右＞左）あり", "+pleural_effusion@B"),
        ("胸水あり（右側）", "+pleural_effusion@R"),
        ("大動脈の石灰化と蛇行を認める。", "+aortic_calcification +aortic_elongation"),
        ("縦隔の拡大や偏位はない。", "-mediastinal_widening -mediastinal_shift"),
        ("胸水は減少し、現在は認めない。", "-pleural_effusion"),
        ("胸水は減少していない。", "+pleural_effusion"),
        ("右胸水、その他異常なし。", "+pleural_effusion@R -abnormality"),
        ("右下肺野に浸潤影、その他の肺野に異常なし。", "+consolidation@R,lower -lung_opacity"),
        ("肺野に病変なし。", "-lung_opacity"),
        ("CTR=52%、肺野異常なし。", "+cardiomegaly -lung_opacity"),
        ("CTR 51%で正常範囲。", "-cardiomegaly"),
        ("右肺癌術後変化。", "hlung_cancer@R +postoperative_change@R"),
        ("前回認められた胸水は減少し、ほぼ認められない。", "-pleural_effusion"),
        ("結核の既往あり。", "htuberculosis"),
        ("Findings consistent with pulmonary edema.", "?pulmonary_edema"),
        ("右胸水なし、左胸水あり。", "-pleural_effusion@R +pleural_effusion@L"),
        ("胸水は見られておらず、気胸も認めておらず。", "-pleural_effusion -pneumothorax"),
        ("胸水の存在は確認できない。", "-pleural_effusion"),
        ("胸水を示唆する所見は認めない。", "-pleural_effusion"),
        ("気胸は否定される。", "-pneumothorax"),
        ("心拡大もない。", "-cardiomegaly"),
        ("心拡大はない。胸水もない。", "-cardiomegaly -pleural_effusion"),
        ("有意な胸水貯留なし。", "-pleural_effusion"),
        ("骨折線は指摘できません。", "-fracture"),
        ("無気肺なし。", "-atelectasis"),
        ("胸水は少量である。", "+pleural_effusion"),
        ("胸水が貯留している。", "+pleural_effusion"),
        ("右肺に浸潤影が広がっている。", "+consolidation@R"),
        ("左気胸を認める。縦隔偏位なし。", "+pneumothorax@L -mediastinal_shift"),
        ("左側に気胸を認めるが、縦隔の偏位は認めない。", "+pneumothorax@L -mediastinal_shift"),
        ("浸潤影は改善傾向。", "+consolidation"),
        ("浸潤影は増悪している。", "+consolidation"),
        ("胸水は前回同様。", "+pleural_effusion"),
        ("胸水の悪化は認めない。", "+pleural_effusion"),
        ("肺水腫は改善し、胸水も減少している。", "+pulmonary_edema +pleural_effusion"),
        ("活動性の肺炎を疑う陰影は指摘できない。", "-pneumonia -lung_opacity"),
        ("肺炎の除外が必要。", "?pneumonia"),
        ("肺炎像とは言えない。", "?pneumonia"),
        ("無気肺と思われる。", "?atelectasis"),
        ("結節影を認め、転移の可能性あり。", "+nodule ?metastasis"),
        ("肺癌や転移は否定できない。", "?lung_cancer ?metastasis"),
        ("右下葉無気肺の疑いあり。", "?atelectasis@R,lower"),
        ("肺野に明らかな異常陰影は認めません。", "-lung_opacity"),
        ("肺野に異常は認められない。", "-lung_opacity"),
        ("肺野清明、心拡大なし。", "-lung_opacity -cardiomegaly"),
        ("心臓の大きさは正常です。", "-cardiomegaly"),
        ("心陰影は軽度拡大。", "+cardiomegaly"),
        ("心陰影は拡大していない。", "-cardiomegaly"),
        ("心胸郭比(CTR)は50%以下で正常です。", "-cardiomegaly"),
        ("心胸郭比の拡大を認める。", "+cardiomegaly"),
        ("心肥大あり", "+cardiomegaly"),
        ("異常所見は認めません。", "-abnormality"),
        ("正常です。", "-abnormality"),
        ("特に異常を認めない。", "-abnormality"),
        ("特記事項はありません。", "-abnormality"),
        ("縦隔に異常を認めない。", "-mediastinal_widening"),
        ("気管の偏位なし。", "-tracheal_deviation"),
        ("両側肋骨横隔膜角は鈍である。", "+costophrenic_blunting@B"),
        ("肋骨横隔膜角の鈍化なし。", "-costophrenic_blunting"),
        ("胸膜の肥厚を認める。", "+pleural_thickening"),
        ("骨折なし、脱臼なし。", "-fracture"),
        ("右上肺野に石灰化結節あり。", "+calcification@R,upper"),
        ("両側肺尖部に胸膜肥厚を認める。", "+pleural_thickening@B,apex"),
        ("右S6に結節を認める。", "+nodule@R,lower"),
        ("左前胸部にペースメーカーが留置されている。", "+pacemaker@L"),
        ("中心静脈カテーテルの先端は右房内にある。", "+central_venous_catheter"),
        ("胃管なし。", "-gastric_tube"),
        ("胸骨ワイヤーあり。冠動脈バイパス術後。", "+surgical_material"),
        ("右肺尖に気胸、左胸水なし。", "+pneumothorax@R,apex -pleural_effusion@L"),
        ("右胸水、左気胸を認める。", "+pleural_effusion@R +pneumothorax@L"),
        ("右の胸水が疑われる。", "?pleural_effusion@R"),
        ("両側の肺門部にリンパ節腫大を認める。", "+lymphadenopathy@B"),
        ("胸水(両側)", "+pleural_effusion@B"),
        ("右下肺野の浸潤影は消失した。", "-consolidation@R,lower"),
        ("右気胸は改善、皮下気腫は消失。", "+pneumothorax@R -subcutaneous_emphysema"),
        ("Possible right lower lobe pneumonia.", "?pneumonia@R,lower"),
        (
            "There is no pneumothorax. There is a small left pleural effusion.",
            "-pneumothorax +pleural_effusion@L",
        ),
        (
            "No focal consolidation, large pleural effusion, or pneumothorax is seen.",
            "-consolidation -pleural_effusion -pneumothorax",
        ),
        ("Cardiac silhouette is normal in size.", "-cardiomegaly"),
        ("Cardiomegaly is unchanged.", "+cardiomegaly"),
        ("Findings are suspicious for pneumonia.", "?pneumonia"),
        ("The effusion has resolved.", "-pleural_effusion"),
    ]);
}

#[test]
fn mentions_explain_themselves() {
    let text = "右胸水や気胸は、指摘できない。";
    let mentions = matcher().mentions(text);
    assert_eq!(mentions.len(), 2);
    let cue = mentions[0].cue.as_ref().unwrap();
    assert_eq!((mentions[0].text.as_str(), cue.text.as_str()), ("胸水", "指摘できない"));
    assert_eq!((&text[mentions[0].span.clone()], &text[cue.span.clone()]), ("胸水", "指摘できない"));
    assert_eq!(mentions[0].category, "Pleural Effusion");
}
