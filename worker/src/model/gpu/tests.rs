//! The kernels as the host's C compiler sees them, held against single operations.
//!
//! [`Host`] compiles the very source that NVRTC is given with `cc`, through `host.c`, and runs one block after another: blocks of one
//! thread, and for what threads tell each other blocks of two warps. Not tried are the driver's calls, a GPU's own conversions to and from
//! float16, its exponential, and products that it rounds together with a sum.

use super::super::llama::{Kernels, Llama};
use super::super::source::TensorSource;
use super::*;
use candle_core::Result;
use libloading::Library;
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Mutex;

type Run = unsafe extern "C" fn(u32, *const Job, u32) -> i32;

/// Threads of a block: one, or two warps.
const ONE: u32 = 1;
const WARPS: u32 = 64;

#[derive(Debug)]
struct Host(Library);

impl Host {
    /// The program for a type and blocks of so many threads. Libraries stay loaded, as functions of theirs may be in use.
    fn of(dtype: DType, threads: u32) -> Arc<Host> {
        static HOSTS: Mutex<BTreeMap<(usize, u32), Arc<Host>>> = Mutex::new(BTreeMap::new());
        let of_type = TYPES.iter().position(|t| *t == dtype).unwrap();
        let mut hosts = HOSTS.lock().unwrap();
        hosts.entry((of_type, threads)).or_insert_with(|| Arc::new(Host::new(dtype, threads))).clone()
    }

    fn new(dtype: DType, threads: u32) -> Host {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("kernels.cu"), source(dtype)).unwrap();
        std::fs::write(folder.path().join("host.c"), include_str!("host.c")).unwrap();
        let threads_of_the_host = include_str!("../../merge/cuda/threads.h");
        std::fs::write(folder.path().join("threads.h"), threads_of_the_host).unwrap();
        let flags = ["-std=gnu11", "-O2", "-Wall", "-Werror", "-fno-strict-aliasing", "-pthread"];
        let made = Command::new("cc")
            .current_dir(folder.path())
            .args(flags)
            .arg(format!("-DTHREADS={threads}"))
            .args(["-shared", "-fPIC", "host.c", "-o", "kernels.so", "-lm"])
            .output()
            .expect("a C compiler, as the README asks for");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        // SAFETY: just compiled from the source above; loading it runs nothing.
        Host(unsafe { Library::new(folder.path().join("kernels.so")) }.unwrap())
    }
}

impl Launch for Host {
    unsafe fn launch(&self, kernel: Kernel, job: &Job, blocks: u32) -> Result<()> {
        // `static` indices in host.c: one launch at a time.
        static ONE: Mutex<()> = Mutex::new(());
        let _one = ONE.lock().unwrap();
        // SAFETY: the function has this type in host.c, where a test compares the structure's size; the caller vouches for the
        // addresses.
        let run = unsafe { self.0.get::<Run>(b"launch").unwrap()(kernel as u32, job, blocks) };
        assert_ne!(run, 0, "no threads to be had");
        Ok(())
    }
}

const TYPES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

/// Half the distance of neighbouring numbers around 1.
fn rounding(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 2f64.powi(-11),
        DType::BF16 => 2f64.powi(-8),
        _ => 2f64.powi(-24),
    }
}

/// Numbers of the type, the same every time, about as large as one.
fn numbers(shape: impl Into<Shape>, seed: u32, dtype: DType) -> Tensor {
    let shape = shape.into();
    let mut state = u64::from(seed) * 2 + 1;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    };
    let values: Vec<f32> = (0..shape.elem_count()).map(next).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

fn config() -> LlamaConfig {
    LlamaConfig {
        hidden_size: 48,
        intermediate_size: 1100,
        num_hidden_layers: 3,
        num_attention_heads: 6,
        num_key_value_heads: 2,
        head_dim: 8,
        vocab_size: 97,
        max_position_embeddings: 64,
        rope_theta: 10_000.0,
        rms_norm_eps: 1e-5,
        tie_word_embeddings: false,
    }
}

fn gpu(dtype: DType) -> Gpu {
    gpu_of(dtype, ONE)
}

fn gpu_of(dtype: DType, threads: u32) -> Gpu {
    Gpu::over(Host::of(dtype, threads), &config(), dtype, &Device::Cpu).unwrap()
}

fn flat(tensor: &Tensor) -> Vec<f64> {
    let wide = tensor.to_dtype(DType::F64).unwrap();
    wide.flatten_all().unwrap().to_vec1().unwrap()
}

/// Every number within `units` roundings of what it should be, relative to the larger of it and `floor`.
fn close(found: &Tensor, expected: &[f64], units: f64, floor: f64, what: &str) {
    let found_values = flat(found);
    assert_eq!(found_values.len(), expected.len(), "{what}");
    for (i, (x, y)) in found_values.iter().zip(expected).enumerate() {
        let allowed = units * rounding(found.dtype()) * y.abs().max(floor);
        assert!((x - y).abs() <= allowed, "{what} in {:?}, number {i}: {x}, not {y}", found.dtype());
    }
}

#[test]
fn a_job_is_as_large_for_kernels() {
    // SAFETY: the function has this type in host.c.
    let size = unsafe {
        Host::of(DType::F32, ONE).0.get::<unsafe extern "C" fn() -> u64>(b"size_of_job").unwrap()()
    };
    assert_eq!(size, size_of::<Job>() as u64);
}

#[test]
fn softmax_sees_no_further_than_its_position() {
    for dtype in TYPES {
        for (length, start) in [(1, 0), (1, 12), (5, 0), (4, 9)] {
            let (b, h, g, total) = (2, 2, 3, start + length);
            let scores = (numbers((b, h, g * length, total), 3, dtype) * 6.0).unwrap();
            let before = flat(&scores);
            gpu(dtype).soften(&scores, length, start).unwrap();
            let mut expected = before.clone();
            for (r, row) in expected.chunks_mut(total).enumerate() {
                let seen = start + r % length + 1;
                row[seen..].fill(0.0);
                let largest = row[..seen].iter().fold(f64::NEG_INFINITY, |m, x| m.max(*x));
                row[..seen].iter_mut().for_each(|x| *x = (*x - largest).exp());
                let sum: f64 = row.iter().sum();
                row.iter_mut().for_each(|x| *x /= sum);
            }
            // float32 in between: an exponential and its quotient are within a few of its roundings. Below 2^-14 float16's
            // numbers have one distance.
            close(&scores, &expected, if dtype == DType::F32 { 16.0 } else { 1.1 }, 1e-4, "softmax");
        }
    }
}

#[test]
fn what_is_not_finite_shows() {
    let gpu = gpu(DType::F16);
    let scores = Tensor::new(&[[[[1.0f32, f32::INFINITY, 0.0]]]], &Device::Cpu).unwrap();
    let scores = scores.to_dtype(DType::F16).unwrap();
    gpu.soften(&scores, 1, 2).unwrap();
    assert!(flat(&scores).iter().any(|x| x.is_nan()));

    let rows = [
        [0.5f32, -1.0, 0.5, 0.25],
        [-3.0, -2.0, -1.0, -1.0],
        [0.0, f32::NAN, 1.0, 2.0],
        [0.0, f32::INFINITY, 1.0, 2.0],
        [f32::NEG_INFINITY, 1.0, 1.0, 2.0],
    ];
    let ids = gpu.choose(&Tensor::new(&rows, &Device::Cpu).unwrap()).unwrap();
    assert_eq!(ids.to_vec1::<u32>().unwrap(), [0, 2, u32::MAX, u32::MAX, u32::MAX]);
}

#[test]
fn gate_and_up_become_one() {
    for dtype in TYPES {
        // 1100 is more than a part, and no multiple of it.
        let gate_up = (numbers((3, 1, 2200), 5, dtype) * 8.0).unwrap();
        let made = gpu(dtype).silu_mul(&gate_up).unwrap();
        assert_eq!(made.dims(), [3, 1, 1100]);
        let expected: Vec<f64> = flat(&gate_up)
            .chunks(2200)
            .flat_map(|row| {
                (0..1100).map(|i| row[i] / (1.0 + (-row[i]).exp()) * row[1100 + i]).collect::<Vec<_>>()
            })
            .collect();
        close(&made, &expected, if dtype == DType::F32 { 16.0 } else { 1.1 }, 1e-3, "silu");
    }
}

#[test]
fn a_sum_and_its_norm() {
    for dtype in TYPES {
        let [a, b] = [7, 8].map(|seed| numbers((2, 3, 48), seed, dtype));
        let weight = numbers(48, 9, dtype);
        let (sum, norm) = gpu(dtype).add_norm(&a, &b, &weight).unwrap();
        // The sum is rounded as a single operation rounds it, and the norm is that of what was rounded.
        let plain = (&a + &b).unwrap();
        assert_eq!(flat(&sum), flat(&plain), "{dtype:?}");
        let (sums, weights) = (flat(&plain), flat(&weight));
        let expected: Vec<f64> = sums
            .chunks(48)
            .flat_map(|row| {
                let mean = row.iter().map(|x| x * x).sum::<f64>() / 48.0;
                let scale = 1.0 / (mean + 1e-5).sqrt();
                row.iter().zip(&weights).map(|(x, w)| x * scale * w).collect::<Vec<_>>()
            })
            .collect();
        close(&norm, &expected, if dtype == DType::F32 { 16.0 } else { 1.1 }, 1e-3, "norm");
        assert!(norm.is_contiguous() && norm.layout().start_offset() > 0);
    }
}

#[test]
fn queries_turn_and_the_cache_is_filled() {
    for dtype in TYPES {
        let (gpu, heads) = (gpu(dtype), (6, 2, 8));
        let (queries, keys, size) = heads;
        for (b, l, start) in [(1, 1, 0), (3, 1, 11), (2, 4, 5)] {
            let width = (queries + 2 * keys) * size;
            let qkv = numbers((b, l, width), 11, dtype);
            let cache = |seed| numbers((b + 1, keys, 16, size), seed, dtype);
            let (all_keys, all_values) = (cache(12), cache(13));
            let (before_keys, before_values) = (flat(&all_keys), flat(&all_values));
            // As rows that are not the first see it.
            let view = |all: &Tensor| all.narrow(0, 1, b).unwrap();
            gpu.store(Kernel::StoreKeys, &view(&all_keys), &qkv, start).unwrap();
            gpu.store(Kernel::StoreValues, &view(&all_values), &qkv, start).unwrap();
            let query = gpu.query(&qkv, start).unwrap();
            let (input, angles) = (flat(&qkv), flat(&gpu.angles));
            let turned = |row: usize, position: usize, head: usize, scale: f64| -> Vec<f64> {
                let from = &input[(row * l + position) * width + head * size..][..size];
                let (half, all) = (size / 2, 64 * size / 2);
                let at = (start + position) * half;
                (0..size)
                    .map(|e| {
                        let (cosine, sine) = (angles[at + e % half], angles[all + at + e % half]);
                        let other = if e < half { -from[e + half] } else { from[e - half] };
                        (from[e] * cosine + other * sine) * scale
                    })
                    .collect()
            };
            let scale = 8f64.powf(-0.5);
            let mut expected = Vec::new();
            for row in 0..b {
                for head in 0..queries {
                    (0..l).for_each(|position| expected.extend(turned(row, position, head, scale)));
                }
            }
            let units = if dtype == DType::F32 { 8.0 } else { 1.1 };
            close(&query, &expected, units, 1.0, "queries");
            let (mut keys_then, mut values_then) = (before_keys, before_values);
            for row in 0..b {
                for head in 0..keys {
                    for position in 0..l {
                        let to = (((row + 1) * keys + head) * 16 + start + position) * size;
                        keys_then[to..to + size].copy_from_slice(&turned(row, position, queries + head, 1.0));
                        let from = (row * l + position) * width + (queries + keys + head) * size;
                        values_then[to..to + size].copy_from_slice(&input[from..from + size]);
                    }
                }
            }
            close(&all_keys, &keys_then, units, 1.0, "keys");
            assert_eq!(flat(&all_values), values_then, "values in {dtype:?}");
        }
    }
}

/// Weights from their names' hashes, numbers of the type in float32.
#[derive(Debug)]
struct Random(LlamaConfig, DType);

impl TensorSource for Random {
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let all = super::super::expected_parameters(&self.0);
        all.into_iter().find(|(n, _)| n == name).map(|(_, shape)| shape)
    }

    fn get(&self, name: &str) -> super::super::Result<Tensor> {
        let seed = name.bytes().fold(7u32, |seed, b| seed.wrapping_mul(31).wrapping_add(u32::from(b)));
        let shape = self.shape(name).expect("a name that was asked for");
        let numbers = numbers(shape.clone(), seed, DType::F32);
        // Norms about one, matrices such that what passes keeps its size.
        let weights = match shape[..] {
            [_] => ((numbers * 0.2)? + 1.0)?,
            _ => (numbers * (3.0 / *shape.last().unwrap_or(&1) as f64).sqrt())?,
        };
        Ok(weights.to_dtype(self.1)?.to_dtype(DType::F32)?)
    }
}

/// What passes give: hidden states of all parts, logits, choices.
struct Passed(Vec<f64>, Vec<f64>, Vec<Option<u32>>);

/// Prompt, a second part of it, and single positions, for rows of a cache of which the first is another's.
fn pass(model: &Llama, embeds: &Tensor) -> Passed {
    let cache = model.new_cache(4, 16).unwrap();
    let mut states = Vec::new();
    for (from, len) in [(0, 5), (5, 2), (7, 1), (8, 1)] {
        let part = embeds.narrow(1, from, len).unwrap();
        states.push(model.forward(&part, &cache, 1, from).unwrap());
    }
    let logits = model.logits(states.last().unwrap()).unwrap();
    let chosen = model.greedy(&logits).unwrap();
    Passed(states.iter().flat_map(flat).collect(), flat(&logits), chosen)
}

/// The largest difference, relative to the largest number.
fn distance(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0f64, |m, x| m.max(x.abs()));
    let distances = found.iter().zip(expected).map(|(x, y)| (x - y).abs() / largest);
    // Not `max`, for which a NaN is nothing.
    distances.fold(0.0, |m, d| if m.is_nan() || d <= m { m } else { d })
}

/// The same hidden states and choices as by single operations, and each row as if it were alone.
#[test]
fn passes_equal_single_operations() {
    for (dtype, tolerance) in [(DType::F32, 2e-6), (DType::F16, 3e-3), (DType::BF16, 3e-2)] {
        let source = Random(config(), dtype);
        let weights = |dtype| LlamaWeights::load(&config(), &source, dtype, &Device::Cpu).unwrap();
        let ours = Llama::on_gpu(config(), weights(dtype), gpu(dtype));
        let plain = Llama::new(config(), weights(dtype), Kernels::Plain).unwrap();
        let exact = Llama::new(config(), weights(DType::F32), Kernels::Plain).unwrap();
        let embeds = numbers((3, 9, 48), 17, dtype);
        let Passed(states, logits, chosen) = pass(&ours, &embeds);
        let Passed(plain_states, plain_logits, plain_chosen) = pass(&plain, &embeds);
        let Passed(true_states, true_logits, _) = pass(&exact, &embeds.to_dtype(DType::F32).unwrap());
        println!("{dtype:?}: logits {:.1e} from single operations", distance(&logits, &plain_logits));
        for (what, ours, plain, exact) in [
            ("states", states, plain_states, true_states),
            ("logits", logits.clone(), plain_logits, true_logits),
        ] {
            let (ours_off, plain_off) = (distance(&ours, &exact), distance(&plain, &exact));
            println!(
                "{dtype:?}: {what} from float32's: {ours_off:.1e}, by single operations {plain_off:.1e}"
            );
            // float32's by single operations are the exact ones here.
            assert!(ours_off <= tolerance, "{what} in {dtype:?}: {ours_off} from float32's");
            assert!(dtype == DType::F32 || ours_off <= 2.0 * plain_off, "{what} in {dtype:?}: further off");
        }
        assert!(dtype != DType::F32 || chosen == plain_chosen);
        for row in 0..3 {
            let Passed(_, alone, _) = pass(&ours, &embeds.narrow(0, row, 1).unwrap());
            let among = distance(&alone, &logits[row * 97..(row + 1) * 97]);
            assert!(among <= tolerance, "row {row} in {dtype:?}: {among} from what it is among others");
        }
    }
}

/// Blocks of many threads: sums are added up in another order.
#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "not every system has barriers for threads")]
fn threads_of_a_block_work_together() {
    for dtype in TYPES {
        let (many, one) = (gpu_of(dtype, WARPS), gpu(dtype));
        let units = if dtype == DType::F32 { 16.0 } else { 2.1 };
        // More positions than threads, and fewer.
        for (length, start) in [(2, 130), (1, 20)] {
            let scores = || (numbers((1, 2, 2 * length, start + length), 3, dtype) * 6.0).unwrap();
            let (by_many, by_one) = (scores(), scores());
            many.soften(&by_many, length, start).unwrap();
            one.soften(&by_one, length, start).unwrap();
            close(&by_many, &flat(&by_one), units, 1e-4, "softmax");
        }
        let [a, b] = [7, 8].map(|seed| numbers((3, 150), seed, dtype));
        let weight = numbers(150, 9, dtype);
        let ((sum, norm), (sum_by_one, norm_by_one)) =
            (many.add_norm(&a, &b, &weight).unwrap(), one.add_norm(&a, &b, &weight).unwrap());
        assert_eq!(flat(&sum), flat(&sum_by_one));
        close(&norm, &flat(&norm_by_one), units, 1e-3, "norm");
        let gate_up = numbers((2, 2200), 5, dtype);
        assert_eq!(flat(&many.silu_mul(&gate_up).unwrap()), flat(&one.silu_mul(&gate_up).unwrap()));
        let qkv = numbers((2, 3, 80), 11, dtype);
        assert_eq!(flat(&many.query(&qkv, 5).unwrap()), flat(&one.query(&qkv, 5).unwrap()));
        let cache = |gpu: &Gpu, kernel| {
            let cache = numbers((2, 2, 16, 8), 12, dtype);
            gpu.store(kernel, &cache, &qkv, 5).unwrap();
            flat(&cache)
        };
        for kernel in [Kernel::StoreKeys, Kernel::StoreValues] {
            assert_eq!(cache(&many, kernel), cache(&one, kernel));
        }
    }
    // The largest of all is there twice, once in either warp's share, once in neither order.
    let mut rows = numbers((4, 200), 19, DType::F32).to_vec2::<f32>().unwrap();
    (rows[0][5], rows[0][40], rows[1][170], rows[1][33], rows[2][199]) = (3.0, 3.0, 3.0, 3.0, 3.0);
    rows[3][150] = f32::NAN;
    let ids = gpu_of(DType::F32, WARPS).choose(&Tensor::new(rows, &Device::Cpu).unwrap()).unwrap();
    assert_eq!(ids.to_vec1::<u32>().unwrap(), [5, 33, 199, u32::MAX]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let gpu = gpu(DType::F32);
    let qkv = numbers((1, 2, 80), 1, DType::F32);
    let cache = numbers((1, 2, 16, 8), 2, DType::F32);
    assert!(gpu.query(&numbers((1, 2, 79), 1, DType::F32), 0).is_err());
    assert!(gpu.query(&qkv, 63).is_err(), "beyond the angles");
    assert!(gpu.store(Kernel::StoreKeys, &cache, &qkv, 15).is_err(), "beyond the cache");
    assert!(
        gpu.store(Kernel::StoreValues, &cache, &numbers((2, 1, 80), 1, DType::F32), 0).is_err(),
        "of other rows"
    );
    assert!(gpu.store(Kernel::StoreKeys, &cache.to_dtype(DType::F16).unwrap(), &qkv, 0).is_err());
    assert!(gpu.soften(&numbers((1, 2, 3, 4), 1, DType::F32), 2, 0).is_err());
    assert!(gpu.soften(&numbers((1, 2, 4, 4), 1, DType::F32), 2, 3).is_err());
    let (a, weight) = (numbers((2, 48), 1, DType::F32), numbers(48, 1, DType::F32));
    assert!(gpu.add_norm(&a, &numbers((1, 48), 1, DType::F32), &weight).is_err());
    assert!(gpu.add_norm(&a, &a, &numbers(47, 1, DType::F32)).is_err());
    assert!(gpu.silu_mul(&a.t().unwrap()).is_err(), "not contiguous");
    assert!(gpu.silu_mul(&numbers((100, 3), 1, DType::F32)).is_err(), "no two halves");
    for dtype in [DType::F16, DType::F64] {
        let other = a.to_dtype(dtype).unwrap();
        assert!(gpu.silu_mul(&other).is_err() && gpu.add_norm(&a, &other, &weight).is_err(), "{dtype:?}");
        let scores = numbers((1, 2, 4, 4), 1, DType::F32).to_dtype(dtype).unwrap();
        assert!(gpu.soften(&scores, 2, 2).is_err(), "{dtype:?}");
    }
    assert!(gpu.choose(&a.to_dtype(DType::F16).unwrap()).is_err());
}
