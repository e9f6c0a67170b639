//! Tries everything that fuzzing kept: the corpora, which reach as much of the code as was reached, and the inputs that once
//! broke something. `scripts/fuzz` makes them; nothing here looks for new ones.

use std::path::{Path, PathBuf};

/// The largest file that may be kept, in bytes.
const LARGEST: u64 = 64 << 10;

fn kept(kind: &str, target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz").join(kind).join(target);
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|e| e.path()).filter(|p| p.is_file()).collect();
    files.sort();
    files
}

/// A target whose corpus was lost would try nothing, and one of another name nothing of what was kept.
#[test]
fn every_target_has_a_corpus_and_every_corpus_a_target() {
    for (name, _) in intake::TARGETS {
        assert!(!kept("corpus", name).is_empty(), "tests/fuzz/corpus/{name} is empty");
    }
    for kind in ["corpus", "regressions"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz").join(kind);
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            assert!(intake::TARGETS.iter().any(|(target, _)| name == *target), "{kind}/{name:?}");
        }
    }
}

macro_rules! replay {
    ($($target:ident)*) => {$(
        #[test]
        fn $target() {
            for file in ["corpus", "regressions"].iter().flat_map(|kind| kept(kind, stringify!($target))) {
                let bytes = std::fs::read(&file).expect("a kept file");
                assert!(bytes.len() as u64 <= LARGEST, "{} is too large to keep", file.display());
                // Which one it was, should it break.
                println!("{}", file.display());
                intake::$target(&bytes);
            }
        }
    )*};
}

replay! {
    answers config dataset dictionary image lexicon mergekit messages optimize pki recipe run_file safetensors store_records
    tokenizer torch_bin
}
