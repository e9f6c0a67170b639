//! Writes what fuzzing begins with: inputs of every kind that are accepted, made from what the repository has for its tests.
//!
//! `seeds FOLDER` makes `FOLDER/TARGET/seed-NAME` for every target. Nothing is made up: run files, model folders, pictures,
//! stores and configurations are those of the tests; messages, certificates and recipes are made by the code that makes
//! them in a run.

use common::genome::Genome;
use common::run::{RunFile, RunPlan};
use coordinator::store::copy::Raw;
use coordinator::store::key::Place;
use coordinator::store::{Store, sled::Sled};
use flate2::read::GzDecoder;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The largest file that is worth beginning with, in bytes.
const LARGEST: usize = 24 << 10;

mod network;

const SPACE: &str = r#"[search]
algorithm = "ALGORITHM"
evaluations = 40
population = 4
[space]
rate = { low = 1e-4, high = 1.0, log = true }
layers = { low = 1, high = 6, integer = true }
kind = { values = ["a", "b"] }
"#;

const LINES: &str = r#"{"do":"ask","count":4}
{"do":"tell","id":1,"value":0.5}
{"do":"tell","id":2,"failed":true}
{"do":"tell","point":{"rate":0.1,"layers":2,"kind":"b"},"value":2}
{"do":"tell","id":3,"value":-1}
{"do":"tell","id":4,"value":3}
{"do":"start","point":{"rate":0.2,"layers":1,"kind":"a"}}
{"do":"ask","count":2}
{"do":"best"}
{"do":"front"}
{"do":"status"}
"#;

const ANSWERS: &str = r#"{"score": 0.5}
{"scores": {"a": 1, "b": 2.5}}
{"samples": [{"sample": "s1", "score": 1, "text": "x"}]}
{"error": "no"}
"#;

const LISTING: &str = r#"{"sha":"ce013625030ba8dba906f756967f9e9ca394464a","siblings":[
{"rfilename":"config.json","size":7,"blobId":"ce013625030ba8dba906f756967f9e9ca394464a"},
{"rfilename":"model.safetensors",
"lfs":{"sha256":"5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03","size":9}}]}"#;

struct Seeds {
    out: PathBuf,
    root: PathBuf,
}

impl Seeds {
    fn write(&self, target: &str, name: &str, bytes: impl AsRef<[u8]>) {
        if bytes.as_ref().len() > LARGEST {
            return;
        }
        let folder = self.out.join(target);
        std::fs::create_dir_all(&folder).expect("the corpus's folder");
        std::fs::write(folder.join(format!("seed-{name}")), bytes).expect("the corpus's folder");
    }

    /// Every file below `folder` of the repository whose name ends so.
    fn files(&self, target: &str, folder: &str, ending: &str) {
        for path in below(&self.root.join(folder)) {
            if path.to_string_lossy().ends_with(ending) {
                let name =
                    path.strip_prefix(&self.root).expect("it is below").to_string_lossy().replace('/', "-");
                self.write(target, &name, std::fs::read(&path).expect("a file of the repository"));
            }
        }
    }

    fn text(&self, path: &str) -> String {
        std::fs::read_to_string(self.root.join(path)).expect("a file of the repository")
    }
}

fn below(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    entries.sort();
    entries.into_iter().flat_map(|p| if p.is_dir() { below(&p) } else { vec![p] }).collect()
}

fn main() {
    let out = std::env::args_os().nth(1).map(PathBuf::from).expect("seeds FOLDER");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let seeds = Seeds { out, root };
    runs(&seeds);
    models(&seeds);
    texts(&seeds);
    network::messages(&seeds);
    network::certificates(&seeds);
    stores(&seeds);
}

/// Run files, the recipes that their plans make, and mergekit's form of them.
fn runs(seeds: &Seeds) {
    seeds.files("run_file", "scripts/runs", ".toml");
    seeds.files("mergekit", "worker/tests/data", ".yml");
    let documented = ["docs/RUN_FILE.md", "docs/MERGING.md", "docs/METRICS.md", "docs/EXTERNAL.md"];
    let demo = seeds.text("scripts/runs/demo.toml");
    for file in documented {
        let text = seeds.text(file);
        for (i, block) in text.split("```toml\n").skip(1).enumerate() {
            let block = block.split("```").next().unwrap_or_default();
            let name = format!("{}-{i}", file.replace('/', "-"));
            seeds.write("run_file", &name, block);
            seeds.write("run_file", &format!("{name}-demo"), format!("{demo}\n{block}"));
        }
    }
    for (i, plan) in ["demo", "paper"].iter().filter_map(|name| plan(seeds, name)).enumerate() {
        for x in [0.0, 0.5, 0.9] {
            let genome = Genome::new(vec![x; plan.space.dimensions()]).expect("a point of the cube");
            let recipe = plan.recipe(&genome);
            seeds.write("recipe", &format!("{i}-{x}"), recipe.to_json());
            if let Ok(yaml) = common::mergekit::from_recipe(&recipe.single(0), None) {
                seeds.write("mergekit", &format!("recipe-{i}-{x}.yml"), yaml);
            }
        }
        seeds.write("recipe", &format!("{i}-middle"), plan.authors_middle().to_json());
        seeds.write("recipe", &format!("{i}-uniform"), plan.authors_middle().uniform().to_json());
    }
}

fn plan(seeds: &Seeds, name: &str) -> Option<RunPlan> {
    let text = seeds.text(&format!("scripts/runs/{name}.toml"));
    let metrics: Vec<&str> = score::METRICS.iter().map(|m| m.name).collect();
    let (folder, overrides) = (Path::new("/runs"), &[][..]);
    common::run::parse(&RunFile { name, text: &text, folder, overrides, metrics: &metrics }).ok()
}

fn models(seeds: &Seeds) {
    for folder in ["worker/tests/data/merge", "worker/tests/data/vocabulary", "tests/data/family"] {
        seeds.files("safetensors", folder, ".safetensors");
        seeds.files("safetensors", folder, ".safetensors.index.json");
        seeds.files("torch_bin", folder, ".bin.index.json");
        seeds.files("torch_bin", folder, ".bin");
    }
    seeds.files("torch_bin", "worker/tests/data/storage", ".bin");
    for path in below(&seeds.root.join("worker/tests/data")) {
        let (bytes, name) =
            (std::fs::read(&path).expect("a file"), path.to_string_lossy().replace(['/', '.'], "-"));
        let name = name.rsplit_once("-data-").map_or(name.clone(), |(_, name)| name.to_string());
        match path.extension().and_then(|e| e.to_str()) {
            Some("safetensors") => {
                let length = bytes.first_chunk().map_or(0, |b| u64::from_le_bytes(*b) as usize);
                seeds.write(
                    "safetensors",
                    &format!("header-{name}"),
                    bytes.get(8..8 + length).unwrap_or_default(),
                );
            }
            // The pickle is stored as it is; it ends with a full stop before the next entry.
            Some("bin") => {
                let begin = bytes.windows(2).position(|w| w == b"\x80\x02").unwrap_or(0);
                let end = bytes.windows(5).position(|w| w == b".PK\x07\x08" || w == b".PK\x03\x04");
                if let Some(pickle) = end.and_then(|end| bytes.get(begin..end + 1)) {
                    seeds.write("torch_bin", &format!("pickle-{name}"), pickle);
                }
            }
            _ => {}
        }
    }
    seeds.files("tokenizer", "worker/tests/data", "tokenizer.json");
    for folder in ["worker/tests/data", "tests/data/family/vlm", "tests/data/family/base"] {
        for name in ["/config.json", "generation_config.json", "jradievo.json", "tokenizer_config.json"] {
            seeds.files("config", folder, name);
        }
    }
    seeds.write(
        "config",
        "card",
        "---\nlicense: other\nlicense_name: llama3\nlicense_link: LICENSE\n---\n# A model\n",
    );
    for ending in [".png", ".jpg", ".dcm"] {
        seeds.files("image", "worker/tests/data/images", ending);
    }
}

fn texts(seeds: &Seeds) {
    let samples: Vec<String> =
        seeds.text("tests/data/search/samples.jsonl").lines().take(3).map(|l| format!("{l}\n")).collect();
    seeds.write("dataset", "jsonl", samples.concat());
    seeds.write(
        "dataset",
        "csv",
        "id,image,report\n1,a/b.png,\"所見: 胸水なし。\n印象: 異常なし\"\n2,c.dcm,Findings: none\n",
    );
    let lexicon = seeds.text("common/score/data/lexicon.toml");
    for (i, part) in lexicon.split("\n# ---- ").enumerate() {
        seeds.write("lexicon", &format!("part-{i}"), format!("# {part}\n"));
    }
    seeds.write(
        "lexicon",
        "csv",
        "finding,term,category,label,located\nx,\"胸水, 少量\",Lung Opacity,胸水,side\nx,水\n",
    );
    let files = [
        "胸水,0,0,1,*\nなし,0,0,1,*\n",
        "1 1\n0 0 0",
        "DEFAULT 0 1 0\nSPACE 0 1 0\n0x0020 SPACE\n",
        "DEFAULT,0,0,100,*\nSPACE,0,0,100,*\n",
    ];
    seeds.write("dictionary", "four-files", files.join("\x0c"));
    let built = vibrato::SystemDictionaryBuilder::from_readers(
        // Plain letters: the trie's table goes up to the last one.
        &b"ab,0,0,1,*\nb,0,0,1,12345678\n"[..],
        files[1].as_bytes(),
        files[2].as_bytes(),
        files[3].as_bytes(),
    );
    let mut dictionary = Vec::new();
    built.expect("the files of a test").write(&mut dictionary).expect("a dictionary in memory");
    // The table of characters, which `intake::dictionary` puts back.
    let characters = (1u64 << 16).to_le_bytes();
    let at = dictionary.windows(8).position(|w| w == characters).expect("a table of characters");
    dictionary.splice(at..at + 8 + (4 << 16), [0x0c; 2]);
    seeds.write("dictionary", "one-file", dictionary);
    for (name, _) in common::run::ALGORITHMS {
        let text = SPACE.replace("ALGORITHM", name);
        let study = common::run::study::parse("space.toml", &text, &[], false);
        seeds.write("optimize", name, format!("{text}\n---\n{LINES}"));
        if let Ok(plan) = study {
            let mut dialogue = search::dialogue::Dialogue::new(search::dialogue::Study::new(plan));
            LINES.lines().for_each(|line| drop(dialogue.answer(line)));
            let saved = dialogue.study().save().to_text();
            let saved = saved.trim_end();
            seeds.write("optimize", &format!("{name}-saved"), format!("{saved}\n---\n{LINES}"));
        }
    }
    seeds.write("answers", "lines", ANSWERS);
    seeds.write("answers", "listing", LISTING);
    seeds.write("answers", "index", "{\"weight_map\":{\"a\":\"model-1.safetensors\"}}");
}

/// The committed stores of every format, as lines: whole, and the first records of each.
fn stores(seeds: &Seeds) {
    for store in ["1-candidates", "2-samples", "3-journal", "4-commits"] {
        let state = tempfile::tempdir().expect("a folder");
        for path in below(&seeds.root.join("tests/data/stores").join(store)) {
            if path.extension().is_some_and(|e| e == "gz") {
                let mut bytes = Vec::new();
                let file = std::fs::File::open(&path).expect("a file of the repository");
                GzDecoder::new(file).read_to_end(&mut bytes).expect("a file of the repository");
                let inside =
                    path.strip_prefix(seeds.root.join("tests/data/stores").join(store)).expect("below");
                let to = state.path().join(inside).with_extension("");
                std::fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
                std::fs::write(to, bytes).expect("a file");
            }
        }
        let Ok(opened) = Sled::open(state.path()) else { continue };
        let Some(mut copy) = opened.copy() else { continue };
        let mut lines = Vec::new();
        while let Ok(records) = copy.portion() {
            if records.is_empty() {
                break;
            }
            lines.extend(records.iter().filter_map(line));
        }
        let few: Vec<&String> = lines.iter().filter(|l| l.len() < 6000).collect();
        let text = |take: usize| few.iter().take(take).map(|l| format!("{l}\n")).collect::<String>();
        for (i, take) in [4, 8, 16, 40].into_iter().enumerate() {
            seeds.write("store_records", &format!("{store}-{i}"), text(take));
        }
        let each = |kind: &str| lines.iter().find(|l| l.starts_with(kind)).cloned().unwrap_or_default();
        let kinds = [
            "identity",
            "counters",
            "searched",
            "pinned",
            "candidate",
            "evaluation",
            "sample",
            "parts",
            "journal",
        ];
        let one: Vec<String> = kinds.iter().map(|k| each(k)).filter(|l| l.len() < 12_000).collect();
        seeds.write("store_records", &format!("{store}-one-of-each"), one.join("\n"));
    }
}

/// A record as `intake::store_records` reads it.
fn line(record: &Raw) -> Option<String> {
    let payload = String::from_utf8(record.value.as_ref()?.get(17..)?.to_vec()).ok()?;
    let number = |bytes: &[u8]| Some(u64::from_be_bytes(bytes.try_into().ok()?));
    let id = || number(record.key.get(..8)?);
    let name = match record.place {
        Place::Run => String::from_utf8(record.key.clone()).ok()?,
        Place::Candidates => format!("candidate/{}", id()?),
        Place::Evaluations => format!("evaluation/{}", id()?),
        Place::Samples => {
            format!("sample/{}/{}", id()?, u32::from_be_bytes(record.key.get(8..)?.try_into().ok()?))
        }
        Place::Parts => format!("parts/{}", id()?),
        Place::Journal => format!("journal/{}", id()?),
        Place::Audits => format!("audit/{}", id()?),
    };
    Some(format!("{name} {payload}"))
}
