//! What sentences are taken to mean, case by case.
//!
//! Each line is a text and its mentions: assertion sign (`+` present, `-` absent, `?` uncertain, `h` past),
//! finding, and after `@` side (R, L, B) and zones where there are any.

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
fn mentions_explain_themselves() {
    let text = "右胸水や気胸は、指摘できない。";
    let mentions = matcher().mentions(text);
    assert_eq!(mentions.len(), 2);
    let cue = mentions[0].cue.as_ref().unwrap();
    assert_eq!((mentions[0].text.as_str(), cue.text.as_str()), ("胸水", "指摘できない"));
    assert_eq!((&text[mentions[0].span.clone()], &text[cue.span.clone()]), ("胸水", "指摘できない"));
    assert_eq!(mentions[0].category, "Pleural Effusion");
}
