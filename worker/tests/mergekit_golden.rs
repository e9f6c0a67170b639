//! The merge methods against mergekit 0.1.5 itself.
//!
//! The data under `data/mergekit_methods` is written by `scripts/golden/mergekit_methods.py`: parameters and results, and for large
//! tensors a checksum of the result. The inputs are a formula's, restated in [`values`]. Every value has to be equal:
//! the arithmetic is restated operation by operation, and nothing of it depends on the platform. Both zeros are one
//! number. On inputs of any kind, `scripts/golden/mergekit_parity.py` compares the two side by side.

#![forbid(unsafe_code)]

use half::{bf16, f16};
use serde_json::Value as Json;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use worker::merge::field::{Key, words};
use worker::merge::mergekit::methods::{self, Call, Compute, Input, Method, Parameters, Value, Values};

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mergekit_methods")
}

/// The elements of one input: multiples of 2⁻¹² up to 1/8 for the base; for a source the base and multiples of 2⁻¹¹ up
/// to 1/64.
fn values(case: u32, input: u32, base: Option<&[f32]>, elements: usize, compute: Compute) -> Vec<f32> {
    let mut drawn = vec![0; elements];
    words(Key([case, input]), 0, &mut drawn);
    let value = |(i, word): (usize, &u32)| {
        compute.round(match base {
            None => ((word >> 22) as f32 - 512.0) * 2f32.powi(-12),
            Some(base) => base[i] + ((word >> 26) as f32 - 32.0) * 2f32.powi(-11),
        })
    };
    drawn.iter().enumerate().map(value).collect()
}

fn parameters(json: &Json) -> Parameters {
    let value = |v: &Json| match v {
        Json::Bool(b) => Value::Bool(*b),
        v => Value::Float(v.as_f64().unwrap()),
    };
    json.as_object().unwrap().iter().map(|(name, v)| (name.clone(), value(v))).collect()
}

fn bits(value: f32, compute: Compute) -> u64 {
    // Adding 0 makes one number of both zeros.
    let value = value + 0.0;
    match compute {
        Compute::F32 => u64::from(value.to_bits()),
        Compute::Bf16 => u64::from(bf16::from_f32(value).to_bits()),
        Compute::F16 => u64::from(f16::from_f32(value).to_bits()),
    }
}

fn widened(view: &safetensors::tensor::TensorView, compute: Compute) -> Vec<f32> {
    let halves = || view.data().as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b));
    match compute {
        Compute::F32 => view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        Compute::Bf16 => halves().map(|b| bf16::from_bits(b).to_f32()).collect(),
        Compute::F16 => halves().map(|b| f16::from_bits(b).to_f32()).collect(),
    }
}

fn merge(job: &Json, compute: Compute) -> Vec<f32> {
    let shape: Vec<usize> =
        job["shape"].as_array().unwrap().iter().map(|d| d.as_u64().unwrap() as usize).collect();
    let (case, elements) = (job["case"].as_u64().unwrap() as u32, shape.iter().product());
    let base = values(case, 0, None, elements, compute);
    let described = job["inputs"].as_array().unwrap();
    let made: Vec<(Vec<f32>, Parameters)> = described
        .iter()
        .map(|input| {
            let index: u32 = input["data"].as_str().unwrap().parse().unwrap();
            let of = if index == 0 { None } else { Some(base.as_slice()) };
            (values(case, index, of, elements, compute), parameters(&input["parameters"]))
        })
        .collect();
    let inputs: Vec<Input> = described
        .iter()
        .zip(&made)
        .map(|(input, (values, parameters))| Input {
            source: input["source"].as_str().unwrap(),
            values: Values::float(values),
            parameters,
        })
        .collect();
    let call = Call {
        tensor: job["tensor"].as_str().unwrap(),
        shape: &shape,
        compute,
        inputs: &inputs,
        base: job["base"].as_u64().map(|b| b as usize),
        parameters: &parameters(&job["parameters"]),
        seed: job["seed"].as_u64().unwrap(),
        threads: job["threads"].as_u64().unwrap() as usize,
        spill: None,
    };
    methods::merge(Method::from_str(job["method"].as_str().unwrap()).unwrap(), &call).unwrap()
}

#[test]
fn results_equal_mergekit_s() {
    let jobs: Vec<Json> =
        serde_json::from_str(&std::fs::read_to_string(data().join("jobs.json")).unwrap()).unwrap();
    let stored = std::fs::read(data().join("expected.safetensors")).unwrap();
    let stored = safetensors::SafeTensors::deserialize(&stored).unwrap();
    let (mut compared, mut summed) = (0, 0);
    for job in &jobs {
        let name = job["name"].as_str().unwrap();
        let compute = match job["dtype"].as_str().unwrap() {
            "float32" => Compute::F32,
            "bfloat16" => Compute::Bf16,
            _ => Compute::F16,
        };
        let found = merge(job, compute);
        if let Some(checksum) = job["checksum"].as_str() {
            let terms = (0u64..).zip(&found).map(|(i, x)| (bits(*x, compute) + 1).wrapping_mul(2 * i + 1));
            assert_eq!(terms.fold(0, u64::wrapping_add).to_string(), checksum, "{job}");
            summed += found.len();
            continue;
        }
        let expected = widened(&stored.tensor(name).unwrap(), compute);
        assert_eq!(found.len(), expected.len(), "{job}");
        for (i, (f, e)) in found.iter().zip(&expected).enumerate() {
            assert_eq!(bits(*f, compute), bits(*e, compute), "[{i}]: {f:e}, mergekit {e:e}: {job}");
        }
        compared += found.len();
    }
    assert!(Method::ALL.iter().all(|m| jobs.iter().any(|job| job["method"] == m.name())));
    println!("{} cases: {compared} values and, by checksum, {summed} equal", jobs.len());
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let jobs: Vec<Json> =
        serde_json::from_str(&std::fs::read_to_string(data().join("jobs.json")).unwrap()).unwrap();
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    for job in jobs.iter().filter(|job| job["checksum"].is_string() && job["dtype"] == "bfloat16") {
        let [one, three] = [1, 3].map(|threads| pool(threads).install(|| merge(job, Compute::Bf16)));
        assert!(one.iter().map(|x| x.to_bits()).eq(three.iter().map(|x| x.to_bits())), "{job}");
    }
}
