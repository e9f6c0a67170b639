//! Any two texts can be scored: nothing panics, every value is within its metric's range, spans are valid.

#![forbid(unsafe_code)]

use std::sync::OnceLock;

use proptest::prelude::*;
use score::{METRICS, Scorer, Settings};

/// Scores may exceed their range by rounding only.
const ROUNDING: f64 = 1e-9;

fn scorer() -> &'static Scorer {
    static SCORER: OnceLock<Scorer> = OnceLock::new();
    SCORER.get_or_init(|| Scorer::new(Settings::default()).unwrap())
}

fn check(reference: &str, prediction: &str) {
    let scores = scorer().score(reference, prediction);
    for metric in METRICS {
        let value = scores.metrics[metric.name];
        let (low, high) = metric.range;
        assert!((low - ROUNDING..=high + ROUNDING).contains(&value), "{} is {value}", metric.name);
    }
    for mention in scorer().matcher().mentions(reference) {
        assert_eq!(&reference[mention.span.clone()], mention.text);
        if let Some(cue) = mention.cue {
            assert_eq!(&reference[cue.span.clone()], cue.text);
        }
    }
    let same = scorer().score(reference, reference);
    assert_eq!(same.metrics["term_f1"], 1.0);
}

/// Pieces of reports in any order: the grammar's own vocabulary reaches more of it than random letters do.
const PIECES: &[&str] = &[
    "胸水",
    "気胸",
    "心陰影",
    "肺野",
    "CTR",
    "58%",
    "右",
    "左",
    "両側",
    "下肺野",
    "肺門",
    "(",
    ")",
    "は",
    "を",
    "の",
    "や",
    "、",
    "。",
    "\n",
    "なし",
    "認める",
    "認めない",
    "疑い",
    "疑う",
    "陰影",
    "可能性",
    "否定できない",
    "増加",
    "消失",
    "以外に",
    "異常",
    "正常",
    "術後",
    "既往",
    "先端",
    "no ",
    "effusion",
    " or ",
    ", ",
    "possible ",
    "is ",
    "?",
    "カテーテル",
    "と考えられる",
    "では",
    ":",
    "【所見】",
    "印象",
    "ﾞ",
    "⻣",
    "😀",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_strings(reference in ".{0,60}", prediction in any::<String>()) {
        check(&reference, &prediction);
    }

    #[test]
    fn any_sentences(a in prop::collection::vec(prop::sample::select(PIECES), 0..40),
                     b in prop::collection::vec(prop::sample::select(PIECES), 0..40)) {
        check(&a.concat(), &b.concat());
    }
}

#[test]
fn the_set_of_metrics_is_complete() {
    let scores = scorer().score("胸水なし", "胸水あり");
    assert_eq!(scores.metrics.len(), METRICS.len());
    assert_eq!(scores.metrics["term_f1"], 0.0);
    fn shared<T: Send + Sync>() {}
    shared::<Scorer>();
}
