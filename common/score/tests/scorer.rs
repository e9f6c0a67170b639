//! The front: settings, term scores of pairs and sets, summaries, digests.

#![forbid(unsafe_code)]

use score::{MetricSet, SampleScores, Scorer, Settings, TokenizerKind, summarise};

fn scorer() -> Scorer {
    Scorer::new(Settings::default()).unwrap()
}

#[test]
fn pairs_of_reports() {
    let s = scorer();
    for (reference, prediction, strict, by_finding) in [
        ("胸水なし", "胸水あり", 0.0, 0.0),
        ("胸水なし", "胸水は認められない。", 1.0, 1.0),
        ("胸水あり", "胸水の疑い", 0.0, 0.0),
        ("右胸水あり", "左胸水あり", 0.0, 1.0),
        ("両側胸水を認める。", "右胸水を認める。左胸水を認める。", 1.0, 1.0),
        ("両側胸水なし。", "胸水なし。", 1.0, 1.0),
        ("胸水なし。胸水なし。胸水なし。", "胸水なし。", 1.0, 1.0),
        ("胸水なし。気胸なし。", "胸水なし。", 2.0 / 3.0, 2.0 / 3.0),
        ("", "", 1.0, 1.0),
        ("撮影条件は良好", "前回と比較した。", 1.0, 1.0),
        ("胸水なし", "", 0.0, 0.0),
        ("", "胸水なし", 0.0, 0.0),
    ] {
        let scores = s.score(reference, prediction).metrics;
        assert_eq!(
            (scores["term_f1"], scores["term_f1_finding"]),
            (strict, by_finding),
            "{reference} | {prediction}"
        );
    }
}

#[test]
fn absent_findings_weigh_as_set() {
    let light = Scorer::new(Settings { absent_weight: 0.5, ..Settings::default() }).unwrap();
    let scores = light.score("右胸水あり。気胸なし。", "右胸水あり。").metrics;
    // One match of weight 1, one miss of weight 0.5.
    assert!((scores["term_recall"] - 1.0 / 1.5).abs() < 1e-12 && scores["term_precision"] == 1.0);
    let none = Scorer::new(Settings { absent_weight: 0.0, ..Settings::default() }).unwrap();
    assert_eq!(none.score("気胸なし。", "").metrics["term_f1"], 1.0);
    let message =
        Scorer::new(Settings { absent_weight: -1.0, ..Settings::default() }).unwrap_err().to_string();
    assert_eq!(message, "absent_weight is -1, expected a number from 0");
}

#[test]
fn a_set_has_micro_macro_and_counts_per_finding() {
    let s = scorer();
    let samples =
        [s.score("右胸水あり。気胸なし。", "右胸水あり。気胸あり。"), s.score("胸水なし。", "胸水なし。")];
    let corpus = s.corpus(&samples);
    let pneumothorax = corpus.findings["pneumothorax"];
    assert_eq!((pneumothorax.tp, pneumothorax.fp, pneumothorax.fn_), (0, 1, 1));
    assert_eq!(corpus.findings["pleural_effusion"].tp, 2);
    assert!((corpus.metrics["term_f1"] - 4.0 / 6.0).abs() < 1e-12);
    assert!((corpus.metrics["term_f1_macro"] - 0.5).abs() < 1e-12);
    let summary = summarise(&samples);
    assert_eq!(summary.n, 2);
    assert!((summary.metrics["term_f1"].mean - 0.75).abs() < 1e-12);
    assert!(summary.metrics["term_f1"].low <= 0.75 && summary.metrics["term_f1"].high >= 0.75);
    assert_eq!(summarise(&[]).metrics.len(), 0);
    assert_eq!(s.corpus(&[]).metrics.len(), 0);
}

#[test]
fn subsets_compute_only_what_is_asked() {
    let s = scorer();
    let set = MetricSet::named(["rouge_l", "term_f1"]).unwrap();
    let reference = s.prepare_for("胸水なし。", set);
    let scores = s.score_prepared(&reference, "胸水なし。", set);
    assert_eq!(scores.metrics.keys().collect::<Vec<_>>(), ["rouge_l", "term_f1"]);
    let all = s.score("胸水なし。", "胸水なし。");
    assert!(set_of(&scores).iter().all(|(name, value)| all.metrics[name] == *value));
    assert!(s.prepare(" \n").is_empty() && !reference.is_empty());
}

fn set_of(scores: &SampleScores) -> Vec<(String, f64)> {
    scores.metrics.clone().into_iter().collect()
}

#[test]
fn settings_travel_and_are_pinned() {
    let settings: Settings = serde_json::from_str(r#"{"tokenizer": "char", "absent_weight": 0.5}"#).unwrap();
    assert_eq!(settings.tokenizer, TokenizerKind::Char);
    let text = serde_json::to_string(&settings).unwrap();
    assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), settings);
    assert!(serde_json::from_str::<Settings>(r#"{"tokeniser": "char"}"#).is_err());

    let material = |settings: Settings| Scorer::new(settings).unwrap().settings_digest_material();
    let default = material(Settings::default());
    assert_eq!(default, material(Settings::default()));
    assert_ne!(default, material(Settings { tokenizer: TokenizerKind::Char, ..Settings::default() }));
    assert_ne!(default, material(Settings { nfkc: false, ..Settings::default() }));
    assert_ne!(default, material(Settings { absent_weight: 0.5, ..Settings::default() }));
}
