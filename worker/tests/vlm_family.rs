//! Bunny by the way that commands and runs go: a folder, the family that its config.json names, questions, answers.
//!
//! The values themselves are held against transformers in `vlm_golden.rs`; MiniCPM-Llama3-V-2_5 has `minicpm_golden.rs`.

#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use worker::generate::{Control, Generator, Options};
use worker::image::{Limits, decode};
use worker::model::{Kernels, Passes, TensorSource};
use worker::vlm::{Vlm, family};

fn read(path: PathBuf) -> Value {
    serde_json::from_str(&std::fs::read_to_string(&path).expect("a file")).expect("JSON")
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a whole number")
}

#[test]
fn the_trained_family_answers_through_its_folder() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data");
    let run = read(data.join("family/vlm/jradievo.json"));
    let reference = read(data.join("golden/vlm/reference.json"));
    let resize = run["image_resize"].as_array().map(|v| [number(&v[0]) as u32, number(&v[1]) as u32]);
    let chosen = worker::device::Chosen::cpu(None);
    let vlm = Vlm::open(&data.join("family/vlm"), &chosen).expect("a model folder");
    let samples = reference["samples"].as_array().expect("samples");
    let images = samples.iter().map(|sample| {
        let path = data.join(sample["image"].as_str().expect("an image"));
        Ok(decode(&path, None, &Limits::default()).expect("a picture"))
    });
    let task = run["task"].as_str().expect("a text");
    let questions = vlm.questions(images, resize, task).expect("encoded");
    assert_eq!((questions.len(), questions.groups().len()), (samples.len(), 1));
    let longest = vlm.longest_prompt(task, resize).expect("a prompt").positions();
    assert_eq!(longest, questions.groups()[0].prompt.positions());
    let options = Options {
        max_new_tokens: number(&run["max_new_tokens"]) as usize,
        eos: vlm.eos.clone(),
        ..Options::default()
    };
    let language = vlm.answering().expect("weights");
    let single = worker::device::Chosen { passes: Kernels::Plain, ..chosen };
    let plain =
        Vlm::open(&data.join("family/vlm"), &single).expect("a model folder").answering().expect("weights");
    assert_eq!((language.passes(), plain.passes()), (Passes::Fused, Passes::Plain));
    let answers = |language| {
        let written =
            Generator::new().generate(language, &vlm.tokenizer, &questions, &options, Control::default());
        written.expect("answers")
    };
    let written = answers(&language);
    for (sample, answer) in samples.iter().cycle().zip(written.iter().chain(&answers(&plain))) {
        let want: Vec<u32> =
            sample["token_ids"].as_array().expect("ids").iter().map(|v| number(v) as u32).collect();
        assert_eq!(answer.token_ids, want);
    }

    // Some samples of some batches, handed over as they end: the same answers, whatever runs beside them.
    let options = Options { batch_size: 3, ..options };
    let (mut batches, mut got) = (Vec::new(), BTreeMap::new());
    let mut begin = |batch: std::ops::Range<usize>| {
        batches.push(batch.clone());
        batch.filter(|sample| sample % 3 != 1 && *sample != 3).collect()
    };
    let mut each = |sample: usize, answer| {
        assert!(got.insert(sample, answer).is_none(), "sample {sample} twice");
        Ok(())
    };
    Generator::new()
        .generate_each(
            &language,
            &vlm.tokenizer,
            &questions,
            &options,
            Control::default(),
            &mut begin,
            &mut each,
        )
        .expect("answers");
    assert_eq!(batches.len(), samples.len().div_ceil(3));
    assert!((0..samples.len()).filter(|s| s % 3 != 1 && *s != 3).eq(got.keys().copied()));
    assert!(got.iter().all(|(sample, answer)| *answer == written[*sample]));
}

/// Notes which tensors are asked for.
struct Noted {
    tensors: HashMap<String, Tensor>,
    read: RefCell<BTreeMap<String, Vec<usize>>>,
}

impl TensorSource for Noted {
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        TensorSource::shape(&self.tensors, name)
    }

    fn get(&self, name: &str) -> worker::model::Result<Tensor> {
        let tensor = TensorSource::get(&self.tensors, name)?;
        self.read.borrow_mut().insert(name.into(), tensor.dims().to_vec());
        Ok(tensor)
    }
}

#[test]
fn the_listed_vision_parameters_are_those_that_are_read() {
    for name in ["v10", "v11"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vlm").join(name);
        let family = family::open(&folder).expect("a known family");
        let tensors = candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu);
        let source = Noted { tensors: tensors.expect("weights"), read: RefCell::default() };
        family.load_vision(&source, DType::F32, &Device::Cpu).expect("all tensors");
        let listed: BTreeMap<String, Vec<usize>> = family.vision_parameters().into_iter().collect();
        assert_eq!(listed, source.read.into_inner());
        assert!(family.renames().is_empty());
    }
}
