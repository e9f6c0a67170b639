//! A run whose base has another vocabulary than its sources and its VLM: reports are those of the run without that
//! difference, once a way to match the rows is chosen.

#![forbid(unsafe_code)]

use common::recipe::Recipe;
use common::run::RunPlan;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use worker::asking::read_run;
use worker::checkpoint::Checkpoint;
use worker::checkpoint::write::{SHARD_BYTES, Spec, Writer};
use worker::data::read_references;
use worker::device::Chosen;
use worker::locate::Locator;
use worker::pipeline::{Bench, Pipeline};

/// Tokens whose numbers are changed; those from here on, the special ones, keep theirs.
const PLAIN: usize = 1016;
/// Rows that stand for nothing.
const EXTRA: usize = 8;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Where a token of that number goes when `turned`.
fn number(old: usize, turned: bool) -> usize {
    if turned && old < PLAIN { (old * 7 + 3) % PLAIN } else { old }
}

/// The family's base with further rows, and with its tokens under other numbers where `turned`.
fn base(out: &Path, turned: bool) {
    let folder = repository().join("tests/data/family/base");
    let model = Checkpoint::open(&folder).unwrap();
    let wide = |name: &str| name == "lm_head.weight" || name == "model.embed_tokens.weight";
    let spec = |name: &str| {
        let info = model.info(name).unwrap();
        let mut shape = info.shape.clone();
        if wide(name) {
            shape[0] += EXTRA;
        }
        Spec { name: name.into(), dtype: info.dtype, shape }
    };
    let specs: Vec<Spec> = model.names().map(spec).collect();
    let writer = Writer::create(out).unwrap();
    let fill = |spec: &Spec, out: &mut Vec<u8>| -> worker::checkpoint::Result<()> {
        let stored = model.bytes(&spec.name)?;
        if !wide(&spec.name) {
            out.extend(stored);
            return Ok(());
        }
        let row = stored.len() / (spec.shape[0] - EXTRA);
        out.resize(stored.len() + EXTRA * row, 0x3c);
        for (old, content) in stored.chunks(row).enumerate() {
            out[number(old, turned) * row..][..row].copy_from_slice(content);
        }
        Ok(())
    };
    writer.tensors(&specs, SHARD_BYTES, fill).unwrap();
    writer.file("config.json", &fs::read(folder.join("config.json")).unwrap()).unwrap();
    let text = fs::read_to_string(folder.join("tokenizer.json")).unwrap();
    let mut tokenizer: serde_json::Value = serde_json::from_str(&text).unwrap();
    for number_of in tokenizer["model"]["vocab"].as_object_mut().unwrap().values_mut() {
        *number_of = number(number_of.as_u64().unwrap() as usize, turned).into();
    }
    writer.file("tokenizer.json", tokenizer.to_string().as_bytes()).unwrap();
    writer.finish().unwrap();
}

fn plan(sets: &[String]) -> RunPlan {
    read_run(&repository().join("scripts/runs/demo.toml"), sets).unwrap()
}

fn open(plan: &RunPlan) -> anyhow::Result<Bench> {
    Bench::open(plan, &Locator::default(), &Chosen::cpu(None))
}

/// What three merges write for two samples.
fn reports(plan: &RunPlan) -> Vec<String> {
    let bench = Arc::new(open(plan).unwrap());
    let references = read_references(&plan.dataset).unwrap()[..2].to_vec();
    let exam = Arc::new(bench.exam(plan, &plan.dataset, references).unwrap());
    let mut pipeline = Pipeline::new(bench, exam).unwrap();
    let middle = plan.authors_middle();
    let japanese = middle.sources.iter().position(|s| s.model.name == "japanese").unwrap();
    // One without trims, whose elements would tie otherwise with the rows that are not there; one source alone; the
    // plain average.
    let mut untrimmed: Recipe = middle.clone();
    untrimmed
        .sources
        .iter_mut()
        .for_each(|s| (s.trim_rate, s.drop_rate, s.weight) = (0.0.into(), 0.0.into(), 1.0.into()));
    let recipes = [untrimmed, middle.single(japanese), middle.uniform()];
    let texts = recipes.iter().flat_map(|recipe| {
        let evaluation = pipeline.assess(recipe).unwrap();
        evaluation.samples.into_iter().map(|s| s.text)
    });
    texts.collect()
}

#[test]
fn another_vocabulary_changes_no_report() {
    let folder = tempfile::tempdir().unwrap();
    let (wide, turned) = (folder.path().join("wide"), folder.path().join("turned"));
    base(&wide, false);
    base(&turned, true);
    let sets = |base: &Path, choice: &str| {
        plan(&[format!("models.base={}", base.display()), format!("merge.vocabulary={choice}")])
    };
    let refusal = open(&sets(&wide, "refuse")).unwrap_err().to_string();
    assert!(refusal.contains("has 1024 rows, that of base has 1032"), "{refusal}");
    assert!(refusal.contains("set vocabulary in [merge]"), "{refusal}");

    let expected = reports(&plan(&[]));
    assert!(expected.iter().any(|t| t.chars().count() > 10), "{expected:?}");
    assert_eq!(reports(&sets(&wide, "cut")), expected);
    assert_eq!(reports(&sets(&turned, "align")), expected);

    let bench = open(&sets(&turned, "align")).unwrap();
    let resized: Vec<_> = bench.placement.resized().collect();
    assert_eq!(resized, [("lm_head.weight", 1024, 1024), ("model.embed_tokens.weight", 1024, 1024)]);
    let fits: Vec<String> = bench.fits.iter().map(|f| format!("{}: {f}", f.model)).collect();
    assert_eq!(fits.len(), 4);
    assert!(
        fits[0].contains("medical: has every tensor of the base; lm_head.weight: 1024 of 1032 rows"),
        "{fits:?}"
    );
}
