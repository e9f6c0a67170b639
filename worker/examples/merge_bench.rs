//! Measures the paper's merge beside a plain copy of the same number of bytes.
//!
//! `cargo run --release -p worker --example merge_bench -- [MILLION_PARAMETERS] [SOURCES] [DROP] [TRIM] [DTYPE] [CASE]`
//!
//! CASE is `independent`, `shared` or `float16`; all three where it is left out.
//!
//! Writes random checkpoints to a temporary folder and reads them into the page cache, plans and merges, and prints
//! seconds and GB/s of each stage. The floor counts every source and base element read once and every merged
//! element written once, at the speed of a multi-threaded copy on this machine. Beside the seconds on the clock
//! stand those that the processors worked, for machines that others use at the same time.

#![forbid(unsafe_code)]

use common::amount::Amount;
use common::recipe::{Arithmetic, Convention, FORMAT, Mask, ModelRef, Recipe, SourceTerm, Vocabulary};
use rayon::prelude::*;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;
use worker::checkpoint::Dtype;
use worker::checkpoint::write::{SHARD_BYTES, Spec, Writer};
use worker::merge::field::{Key, words};
use worker::merge::{Element, Merger};

/// Elements of one tensor: a square projection of a model 2048 wide.
const TENSOR: usize = 2048 * 2048;

fn main() {
    let argument = |i: usize, default: f64| {
        let given = std::env::args().nth(i);
        given.map_or(default, |a| a.parse().expect("a number"))
    };
    let tensors = ((argument(1, 256.0) * 1e6) as usize).div_ceil(TENSOR);
    let (sources, drop_rate, trim_rate) = (argument(2, 4.0) as usize, argument(3, 0.3), argument(4, 0.5));
    let dtype = match std::env::args().nth(5).as_deref() {
        None | Some("bf16") => Dtype::Bf16,
        Some("f16") => Dtype::F16,
        Some("f32") => Dtype::F32,
        Some(other) => panic!("{other}: expected bf16, f16 or f32"),
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = |name: String| ModelRef::new(name.clone(), folder.path().join(name).display().to_string());
    let base = model("base".into());
    write(Path::new(&base.path), tensors, dtype, 0);
    let source = |i: usize| {
        let model = model(format!("source{i}"));
        write(Path::new(&model.path), tensors, dtype, i as u32 + 1);
        let [weight, drop_rate, trim_rate] = [0.5, drop_rate, trim_rate].map(Amount::from);
        SourceTerm { model, base: None, vocabulary: None, weight, drop_rate, trim_rate }
    };
    let sources: Vec<SourceTerm> = (0..sources).map(source).collect();
    let read_bytes = (sources.len() + 1) * tensors * TENSOR * dtype.width();
    let write_bytes = tensors * TENSOR * dtype.width();
    let parameters = tensors * TENSOR;
    println!(
        "{:.3} G parameters, {} sources, {}, drop {drop_rate}, trim {trim_rate}, {} threads",
        parameters as f64 / 1e9,
        sources.len(),
        dtype.name(),
        rayon::current_num_threads()
    );
    let (convention, vlm) = (Convention::Paper, base.clone());
    let mut recipe = Recipe {
        format: FORMAT,
        convention,
        base,
        vlm,
        sources,
        scale: 1.0.into(),
        mask: Mask::Independent,
        mask_seed: 42,
        arithmetic: Arithmetic::Float32,
        vocabulary: Vocabulary::Refuse,
    };

    let floor = copy(read_bytes, write_bytes);
    let only = std::env::args().nth(6);
    for (case, mask, arithmetic) in [
        ("independent", Mask::Independent, Arithmetic::Float32),
        ("shared", Mask::Shared, Arithmetic::Float32),
        ("float16", Mask::Shared, Arithmetic::Float16),
    ] {
        if only.as_ref().is_some_and(|only| only != case) {
            continue;
        }
        (recipe.mask, recipe.arithmetic) = (mask, arithmetic);
        println!("mask {mask:?}, {arithmetic:?}:");
        match dtype {
            Dtype::F32 => run::<f32>(&recipe, read_bytes + write_bytes, floor),
            Dtype::F16 => run::<half::f16>(&recipe, read_bytes + write_bytes, floor),
            _ => run::<half::bf16>(&recipe, read_bytes + write_bytes, floor),
        }
    }
}

/// Plans and merges four times; the first round brings the files into the page tables.
fn run<T: Element + Default>(recipe: &Recipe, bytes: usize, floor: f64) {
    let merger = Merger::for_recipe(recipe, |m| m.path.clone().into()).expect("models that open");
    let mut out = vec![T::default(); TENSOR];
    for round in ["first", "again", "again", "again"] {
        let start = Stopwatch::start();
        let merge = merger.plan(recipe, &AtomicBool::new(false)).expect("a recipe that fits");
        start.print(&format!("{round}: plan "), bytes, floor);
        let start = Stopwatch::start();
        for name in merge.names() {
            merge.tensor_into(name, &mut out).expect("a buffer that fits");
        }
        start.print(&format!("{round}: merge"), bytes, floor);
    }
}

struct Stopwatch {
    wall: Instant,
    cpu: f64,
}

impl Stopwatch {
    fn start() -> Stopwatch {
        Stopwatch { wall: Instant::now(), cpu: cpu_seconds() }
    }

    fn print(&self, what: &str, bytes: usize, floor: f64) {
        let (wall, cpu) = (self.wall.elapsed().as_secs_f64(), cpu_seconds() - self.cpu);
        let speed = bytes as f64 / 1e9 / wall;
        println!("  {what} {wall:.3} s, {speed:.2} GB/s, {:.1} x floor; processors {cpu:.2} s", wall / floor);
    }
}

/// Seconds that this process has kept processors busy, where Linux tells; its resolution is 10 ms.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in parentheses may hold spaces; user and system time are the 12th and 13th fields after it.
    let fields = stat.rsplit(')').next().unwrap_or("").split_whitespace().skip(11).take(2);
    fields.filter_map(|f| f.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// Seconds to move as many bytes as the merge reads and writes, by a copy on all threads.
fn copy(read_bytes: usize, write_bytes: usize) -> f64 {
    let moved = read_bytes + write_bytes;
    let size = (moved / 2).min(1 << 30);
    let from = vec![1u8; size];
    let mut to = vec![0u8; size];
    let mut best = f64::MAX;
    let cpu = cpu_seconds();
    for _ in 0..3 {
        let start = Instant::now();
        to.par_chunks_mut(1 << 20).zip(from.par_chunks(1 << 20)).for_each(|(t, f)| t.copy_from_slice(f));
        best = best.min(start.elapsed().as_secs_f64());
    }
    let speed = 2.0 * size as f64 / best;
    let floor = moved as f64 / speed;
    let cpu = (cpu_seconds() - cpu) / 3.0 * floor / best;
    println!("copy {:.2} GB/s (read and written): floor {floor:.3} s; processors {cpu:.2} s", speed / 1e9);
    floor
}

/// A model whose elements are near `0.02 · noise`, sources differing from the base by about a tenth of that.
fn write(folder: &Path, tensors: usize, dtype: Dtype, source: u32) {
    let spec = |i: usize| Spec { name: format!("layer.{i:04}"), dtype, shape: vec![2048, 2048] };
    let specs: Vec<Spec> = (0..tensors).map(spec).collect();
    let writer = Writer::create(folder).expect("a folder to write to");
    let fill = |spec: &Spec, out: &mut Vec<u8>| -> worker::checkpoint::Result<()> {
        let tensor: u32 = spec.name[6..].parse().expect("a number");
        let noise = |stream: u32| {
            let mut out = vec![0u32; TENSOR];
            let rows = out.par_chunks_mut(2048).enumerate();
            rows.for_each(|(i, out)| words(Key([stream, tensor]), (i * 2048) as u64, out));
            out
        };
        // The sum of the four bytes of a word is close enough to a normal variable.
        let normal = |word: u32| {
            let sum: u32 = word.to_le_bytes().iter().map(|&b| u32::from(b)).sum();
            (sum as f32 - 510.0) / 148.0
        };
        let (base, delta) = (noise(0), noise(source));
        for (base, delta) in base.into_iter().zip(delta) {
            let value = 0.02 * normal(base) + if source > 0 { 0.002 * normal(delta) } else { 0.0 };
            match dtype {
                Dtype::F32 => out.extend(value.to_le_bytes()),
                Dtype::F16 => out.extend(half::f16::from_f32(value).to_le_bytes()),
                _ => out.extend(half::bf16::from_f32(value).to_le_bytes()),
            }
        }
        Ok(())
    };
    writer.tensors(&specs, SHARD_BYTES, fill).expect("space for the model");
    writer.finish().expect("a folder that appears");
    // What is written goes past the page cache.
    for file in std::fs::read_dir(folder).expect("a folder") {
        std::io::copy(
            &mut std::fs::File::open(file.expect("a file").path()).expect("a file"),
            &mut std::io::sink(),
        )
        .expect("a file that is read");
    }
}
