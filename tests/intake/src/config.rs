//! The JSON files of a model folder and its card.

use crate::scratch::Scratch;
use worker::asking;
use worker::card::licence::Licence;
use worker::cli::Asking;
use worker::model::{LlamaConfig, eos_from_generation_config, expected_parameters};
use worker::vlm::family;

/// Pictures of these sizes in pixels are cut.
const PICTURES: [(usize, usize); 4] = [(1, 1), (16_384, 1), (512, 512), (3000, 2500)];

thread_local! {
    static FOLDER: Scratch = Scratch::new();
}

/// The same bytes as every such file. A configuration that was accepted describes a model whose sizes can be counted.
pub fn config(bytes: &[u8]) {
    FOLDER.with(|folder| {
        let path = folder.fill(&[
            ("config.json", bytes),
            ("generation_config.json", bytes),
            ("preprocessor_config.json", bytes),
            (asking::FILE, bytes),
            ("README.md", bytes),
            ("LICENSE", bytes),
        ]);
        let _ = Licence::of_folder(&path).llama();
        drop(eos_from_generation_config(&path.join("generation_config.json")).map_err(|e| e.to_string()));
        let asked = Asking::default();
        drop(asking::resolve(&asked, &path).map_err(|e| e.to_string()));
        drop(family::renames(&path).map_err(|e| e.to_string()));
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        if let Ok(llama) = LlamaConfig::from_json(text, "config.json") {
            check_parameters(expected_parameters(&llama).iter().map(|(_, shape)| shape.as_slice()));
        }
        let family = match family::from_json(text, "config.json") {
            Ok(family) => family,
            Err(e) => return drop(e.to_string()),
        };
        check_parameters(family.vision_parameters().iter().map(|(_, shape)| shape.as_slice()));
        drop(family.check_folder(&path).map_err(|e| e.to_string()));
        let _ = family.vision_needs(candle_core::DType::F32, 4);
        drop((family.language().hidden_size, family.renames(), family.family()));
        let most = family.most_slices();
        for (width, height) in PICTURES {
            if let Ok(slices) = family.slices(width, height) {
                assert!(slices.pictures() <= most.pictures().max(1), "{slices:?} of at most {most:?}");
                assert!(family.image_tokens(slices) <= family.image_tokens(most), "{slices:?}");
            }
        }
    });
}

/// No tensor is empty.
fn check_parameters<'a>(shapes: impl Iterator<Item = &'a [usize]>) {
    for shape in shapes {
        assert!(!shape.is_empty() && shape.iter().all(|&n| n > 0), "shape {shape:?}");
    }
}
