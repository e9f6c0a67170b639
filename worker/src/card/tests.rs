use super::licence::Licence;
use super::sources::title;
use super::*;
use crate::figures::Figures;
use common::digest::Digest;
use common::provenance::merge_digest;
use common::recipe::{ModelRef, SourceTerm};
use std::collections::BTreeMap;
use std::path::Path;

fn file(name: &str) -> RecipeFile {
    let model = |n: &str| ModelRef::new(n, format!("/models/{n}"));
    let term = SourceTerm {
        model: model(name),
        base: None,
        vocabulary: None,
        weight: 0.5.into(),
        drop_rate: 0.1.into(),
        trim_rate: 0.25.into(),
    };
    let recipe = Recipe {
        format: 1,
        convention: Convention::Paper,
        base: model("base"),
        vlm: model("vlm"),
        sources: vec![term],
        scale: 1.0.into(),
        mask: Mask::Independent,
        mask_seed: 7,
        arithmetic: Arithmetic::Float32,
        vocabulary: Vocabulary::Refuse,
    };
    let provenance = Provenance {
        run: "demo-12".into(),
        name: "demo".into(),
        plan_digest: Digest::of(b"plan"),
        dataset_digest: None,
        algorithm: "cma-es".into(),
        candidate: 133,
        generation: 14,
        evaluations: 300,
        fitness: Some(0.5789),
        metrics: BTreeMap::from([("rouge_l".to_string(), 0.6)]),
        scored_unix_ms: Some(1_709_164_800_000),
        program_version: "0.1.0".into(),
        merge_digest: merge_digest(&recipe),
        files: vec![FileDigest { name: "models/base/x".into(), bytes: 1, digest: Digest::of(b"x") }],
    };
    RecipeFile { recipe, provenance: Some(provenance) }
}

fn source(name: &str, id: Option<&str>) -> Source {
    let licence = Licence { id: id.map(Into::into), ..Licence::default() };
    Source { name: name.into(), title: format!("owner/{name}"), pinned: None, licence }
}

fn card<'a>(file: &'a RecipeFile, sources: &'a [Source]) -> Card<'a> {
    let contents = Contents::Whole { code: true };
    Card { title: "merged", contents, file, sources, digests: &[], changed: &[], proof: None }
}

fn figures(value: f64) -> Figures {
    let interval = |mean| Interval { mean, low: mean - 0.1, high: mean + 0.1 };
    BTreeMap::from([("fitness".to_string(), interval(value)), ("rouge_l".to_string(), interval(value))])
}

#[test]
fn a_hub_can_read_the_front_matter() {
    let file = file("s");
    let same = [source("vlm", Some("apache-2.0")), source("s", Some("apache-2.0"))];
    let text = card(&file, &same).text();
    let block = text.strip_prefix("---\n").unwrap().split_once("---\n").unwrap().0;
    assert!(block.contains("base_model:\n- \"owner/s\"\n- \"owner/vlm\"\n"), "{block}");
    for line in [
        "license: \"apache-2.0\"",
        "library_name: transformers",
        "pipeline_tag: image-text-to-text",
        "tags:\n- merge\n- jradievo",
    ] {
        assert!(block.contains(line), "{line} in {block}");
    }
    let mixed = [source("vlm", Some("apache-2.0")), source("s", None)];
    assert!(card(&file, &mixed).text().contains("license: \"other\"\nlicense_name: "));
    let none = [source("vlm", None)];
    let text = card(&file, &none).text();
    assert!(text.contains("license: \"unknown\"") && text.contains("**unknown**"));
    let language = Card { contents: Contents::Language, ..card(&file, &none) }.text();
    assert!(language.contains("pipeline_tag: text-generation"));
}

#[test]
fn it_tells_the_merge_its_origin_and_changed_files() {
    let file = file("s");
    let sources = [source("vlm", None)];
    let text = card(&file, &sources).text();
    for part in [
        "| `s` | `base` | 0.5 | 0.1 | 0.25 |",
        "133 of 300 evaluated, generation 14",
        "2024-02-29",
        "0.5789",
        "is, by digest, the run's",
        "trust_remote_code=True",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let changed = ["models/s/x: content differs".to_string()];
    let text = Card { changed: &changed, ..card(&file, &sources) }.text();
    assert!(text.contains("Made from other files than the run's") && !text.contains("is, by digest"));
}

#[test]
fn a_llama_is_displayed_and_its_naming_rule_told() {
    let file = file("s");
    let sources = [source("base", Some("llama3")), source("s", Some("llama3"))];
    let text = card(&file, &sources).text();
    assert_eq!(text.matches("**Built with Meta Llama 3**").count(), 1);
    assert!(text.contains("rename it first"));
    let text = Card { title: "Llama-3-JRadiEvo", ..card(&file, &sources) }.text();
    assert!(!text.contains("rename it first") && text.contains("begins its name with “Llama 3”"));
}

#[test]
fn the_held_out_table_is_told_without_any_report() {
    let file = file("s");
    let sources = [source("vlm", None)];
    let table = Comparison {
        n: 100,
        dataset_digest: Some(Digest::of(b"held out")),
        images_shared_with_search: Some(0),
        constant: figures(0.4),
        sources: BTreeMap::from([("s".to_string(), figures(0.3))]),
        uniform: figures(0.2),
        middle: figures(0.2),
        best: figures(0.6),
        best_minus: BTreeMap::from([("s".to_string(), figures(0.3))]),
        constant_text: "両肺野に異常なし".into(),
        more: BTreeMap::new(),
    };
    let summary = Summary {
        run: "demo".into(),
        plan_digest: Digest::of(b"another plan"),
        program_version: "0.1.0".into(),
        recipes: BTreeMap::from([("best".to_string(), merge_digest(&file.recipe))]),
        models: Vec::new(),
        changed: BTreeMap::new(),
        search: table.clone(),
        held_out: Some(table),
    };
    let text = Card { proof: Some((&summary, "best")), ..card(&file, &sources) }.text();
    for part in [
        "On samples that the search never saw",
        "| **best found** | 0.600 \\[0.500, 0.700\\] |",
        "| s inside the VLM | 0.300 \\[0.200, 0.400\\] | 0.300 \\[0.200, 0.400\\] | +0.300",
        "Of their 100 images, 0 are",
        "not, to the letter",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("両肺野"));
    let json = serde_json::to_string(&summary).unwrap();
    assert_eq!(serde_json::from_str::<Summary>(&json).unwrap(), summary);
}

#[test]
fn hostile_names_stay_text() {
    let name = "x`|\n# owned\n[a](http://b)<script>";
    let file = file(name);
    let mut hostile = source(name, Some("mit\n---\n# owned"));
    hostile.title = "a\"\nb: c\n---".into();
    hostile.licence.link = Some("`<img>`".into());
    let text = card(&file, &[hostile]).text();
    assert!(!text.lines().any(|l| l.starts_with("# owned") || l == "b: c"), "{text}");
    assert_eq!(text.lines().filter(|l| *l == "---").count(), 2);
    // Outside code spans there is no markup of theirs.
    let outside: String = text.split('`').step_by(2).collect();
    assert!(!outside.contains("<script>") && !outside.contains("[a]("), "{text}");
}

#[test]
fn titles_come_from_the_hub_where_it_is_known() {
    assert_eq!(title("hf://owner/name@abc", Path::new("/x")), "owner/name");
    let cached = Path::new("/c/hub/models--meta-llama--Meta-Llama-3-8B/snapshots/0123");
    assert_eq!(title("/m", cached), "meta-llama/Meta-Llama-3-8B");
    assert_eq!(title("/m/Meta-Llama-3-8B", Path::new("/m/Meta-Llama-3-8B")), "Meta-Llama-3-8B");
}

#[test]
fn a_models_commit_is_told_and_texts_of_like_names_stay_apart() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("LICENSE"), "MIT License\n").unwrap();
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let of = |name: &str, path: &str| Source::of_folder(name, path, folder.path());
    let sources = [of("a/b", &format!("hf://owner/name@{commit}")), of("a.b", "hf://owner/other@main")];
    let text = card(&file("s"), &sources).text();
    assert!(text.contains(&format!("| `a/b` | `hf://owner/name@{commit}` |")), "{text}");
    assert!(text.contains("| `a.b` | `owner/other` |") && text.contains("base_model:\n- \"owner/name\"\n"));
    let names: Vec<String> = licence_texts(&sources).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["licences/a_b/LICENSE", "licences/a_b_/LICENSE"]);
}
