//! Runs merge methods on given tensors, for comparison with another implementation.
//!
//! `merge_method JOBS.json IN.safetensors OUT.safetensors`, where the jobs are a list of
//! `{name, method, tensor, base, parameters, seed, threads, inputs: [{source, data, parameters}]}`: `data` names a tensor of IN,
//! `base` is an input's position or null. The type of a job's first input is the type of the arithmetic; the result is
//! stored in OUT under the job's name in that type. `scripts/golden/mergekit_parity.py` writes the jobs.

#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail};
use half::{bf16, f16};
use safetensors::tensor::{Dtype as Stored, SafeTensors, TensorView};
use serde_json::Value as Json;
use std::str::FromStr;
use worker::checkpoint::Dtype;
use worker::merge::mergekit::methods::{self, Call, Compute, Input, Method, Parameters, Value, Values};

fn parameters(json: &Json) -> Result<Parameters> {
    let map = json.as_object().context("parameters are a table")?;
    let value = |v: &Json| {
        Ok(match v {
            Json::Bool(b) => Value::Bool(*b),
            Json::Number(n) if n.is_i64() => Value::Int(n.as_i64().context("a whole number")?),
            Json::Number(n) => Value::Float(n.as_f64().context("a number")?),
            Json::String(s) => Value::Text(s.clone()),
            _ => bail!("a parameter is true, false, a number or text, not {v}"),
        })
    };
    map.iter().map(|(name, v)| Ok((name.clone(), value(v)?))).collect()
}

fn dtype(stored: Stored) -> Result<(Dtype, Compute)> {
    Ok(match stored {
        Stored::F32 => (Dtype::F32, Compute::F32),
        Stored::BF16 => (Dtype::Bf16, Compute::Bf16),
        Stored::F16 => (Dtype::F16, Compute::F16),
        _ => bail!("{stored:?} cannot be merged"),
    })
}

fn bytes(values: &[f32], compute: Compute) -> (Stored, Vec<u8>) {
    match compute {
        Compute::F32 => (Stored::F32, values.iter().flat_map(|x| x.to_le_bytes()).collect()),
        Compute::Bf16 => {
            (Stored::BF16, values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect())
        }
        Compute::F16 => (Stored::F16, values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect()),
    }
}

fn run(job: &Json, data: &SafeTensors) -> Result<(Vec<usize>, Stored, Vec<u8>)> {
    let text =
        |json: &Json, field: &str| Ok::<_, anyhow::Error>(json[field].as_str().context("text")?.to_string());
    let method = Method::from_str(&text(job, "method")?)?;
    let list = job["inputs"].as_array().context("inputs are a list")?;
    let named = list
        .iter()
        .map(|input| {
            Ok((
                text(input, "source")?,
                data.tensor(&text(input, "data")?)?,
                parameters(&input["parameters"])?,
            ))
        })
        .collect::<Result<Vec<_>>>()?;
    let inputs = named
        .iter()
        .map(|(source, view, parameters)| {
            let values = Values::stored(view.data(), dtype(view.dtype())?.0)?;
            Ok(Input { source, values, parameters })
        })
        .collect::<Result<Vec<_>>>()?;
    let first = &named.first().context("at least one input")?.1;
    let compute = dtype(first.dtype())?.1;
    let shared = parameters(&job["parameters"])?;
    let merged = methods::merge(
        method,
        &Call {
            tensor: &text(job, "tensor")?,
            shape: first.shape(),
            compute,
            inputs: &inputs,
            base: job["base"].as_u64().map(|b| b as usize),
            parameters: &shared,
            seed: job["seed"].as_u64().context("a seed")?,
            threads: job["threads"].as_u64().context("a number of threads")? as usize,
            spill: None,
        },
    )?;
    let (stored, bytes) = bytes(&merged, compute);
    Ok((first.shape().to_vec(), stored, bytes))
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [jobs, from, to] = arguments.as_slice() else {
        bail!("usage: merge_method JOBS.json IN.safetensors OUT.safetensors");
    };
    let jobs: Vec<Json> = serde_json::from_str(&std::fs::read_to_string(jobs)?)?;
    let data = std::fs::read(from)?;
    let data = SafeTensors::deserialize(&data)?;
    let mut results = vec![];
    for job in &jobs {
        let name = job["name"].as_str().context("a job has a name")?.to_string();
        let result = run(job, &data).with_context(|| format!("job {name}"))?;
        results.push((name, result));
    }
    let views = results
        .iter()
        .map(|(name, (shape, stored, bytes))| Ok((name, TensorView::new(*stored, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>>>()?;
    safetensors::serialize_to_file(views, None, std::path::Path::new(to))?;
    Ok(())
}
