//! The kernels as the host's C compiler sees them, held against the Rust statement bit for bit.
//!
//! [`Host`] is a [`Runner`] whose memory is the host's: it compiles the very source that NVRTC is given with `cc`, through
//! `host.c`, and runs blocks and threads one after another, or for sums over warps the threads of a block together. So what is compared is
//! everything but the driver's calls. Recipes: the golden ones of `tests/data/merge`, whose numbers another program made, and random ones.

use super::engine::Engine;
use super::job::Job;
use super::{Kernel, Runner, source};
use crate::checkpoint::Dtype;
use crate::checkpoint::write::{SHARD_BYTES, Spec, Writer};
use crate::merge::block::narrow_bytes;
use crate::merge::error::Result;
use crate::merge::field::{self, Key};
use crate::merge::known::Known;
use crate::merge::{Merger, Prepared};
use common::amount::Amount;
use common::recipe::{Arithmetic, Convention, FORMAT, Mask, ModelRef, Recipe, SourceTerm, Vocabulary};
use libloading::Library;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, OnceLock};

type Launch = unsafe extern "C" fn(u32, *const Job, u32, u32) -> i32;

/// Threads of a block that run together: two warps.
const TOGETHER: u32 = 64;

/// The host's processor in place of a GPU.
struct Host {
    folder: tempfile::TempDir,
    /// Whether the threads of a block run together.
    together: bool,
    libraries: Mutex<BTreeMap<usize, &'static Library>>,
}

impl Host {
    fn shared() -> &'static Host {
        static HOST: OnceLock<Host> = OnceLock::new();
        HOST.get_or_init(|| Host::new(false))
    }

    fn together() -> &'static Host {
        static HOST: OnceLock<Host> = OnceLock::new();
        HOST.get_or_init(|| Host::new(true))
    }

    fn new(together: bool) -> Host {
        Host { folder: tempfile::tempdir().unwrap(), together, libraries: Mutex::default() }
    }

    /// The program for so many terms. Libraries stay loaded, as functions of theirs may be in use.
    fn library(&self, terms: usize) -> &'static Library {
        let mut libraries = self.libraries.lock().unwrap();
        libraries.entry(terms).or_insert_with(|| {
            let folder = self.folder.path().join(terms.to_string());
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join("kernels.cu"), source(terms)).unwrap();
            std::fs::write(folder.join("host.c"), include_str!("host.c")).unwrap();
            std::fs::write(folder.join("threads.h"), include_str!("threads.h")).unwrap();
            let flags =
                ["-std=gnu11", "-O2", "-Wall", "-Werror", "-ffp-contract=off", "-fno-strict-aliasing"];
            let threads = if self.together { TOGETHER } else { 1 };
            let made = Command::new("cc")
                .current_dir(&folder)
                .args(flags)
                .arg(format!("-DTHREADS={threads}"))
                .args(["-pthread", "-shared", "-fPIC", "host.c", "-o", "kernels.so"])
                .output()
                .expect("a C compiler, as the README asks for");
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            // SAFETY: just compiled from the source above; loading it runs nothing.
            Box::leak(Box::new(unsafe { Library::new(folder.join("kernels.so")) }.unwrap()))
        })
    }
}

impl Runner for &'static Host {
    /// Sixteen bytes at a time, so that it is aligned as a GPU's memory is.
    type Memory = Vec<u128>;

    fn take(&self, bytes: usize) -> Result<Vec<u128>> {
        Ok(vec![0; bytes.div_ceil(16)])
    }

    fn address(&self, memory: &Vec<u128>) -> u64 {
        memory.as_ptr() as u64
    }

    fn write(&self, memory: &mut Vec<u128>, bytes: &[u8]) -> Result<()> {
        for (to, from) in memory.iter_mut().zip(bytes.chunks(16)) {
            let mut padded = [0; 16];
            padded[..from.len()].copy_from_slice(from);
            *to = u128::from_ne_bytes(padded);
        }
        Ok(())
    }

    fn read(&self, memory: &Vec<u128>, to: &mut [u8]) -> Result<()> {
        for (to, from) in to.chunks_mut(16).zip(memory) {
            to.copy_from_slice(&from.to_ne_bytes()[..to.len()]);
        }
        Ok(())
    }

    unsafe fn launch(&self, kernel: Kernel, job: &Job) -> Result<()> {
        // Few threads, so that each has several groups of elements and some have none.
        let (blocks, threads) = if self.together { (2, TOGETHER) } else { (3, 7) };
        // SAFETY: the function has this type in host.c, where a test compares the structure's size; the caller vouches for
        // the addresses. `static` indices there: one launch at a time.
        static ONE: Mutex<()> = Mutex::new(());
        let _one = ONE.lock().unwrap();
        unsafe {
            let launch = self.library(job.terms()).get::<Launch>(b"launch").unwrap();
            assert_ne!(launch(kernel as u32, job, blocks, threads), 0, "no threads to be had");
        }
        Ok(())
    }
}

/// One number's bits, all NaNs alike.
fn bits(bytes: &[u8], dtype: Dtype) -> u32 {
    let short = || u32::from(u16::from_le_bytes([bytes[0], bytes[1]]));
    let (bits, infinite) = match dtype {
        Dtype::F16 => (short(), 0x7c00),
        Dtype::Bf16 => (short(), 0x7f80),
        _ => (u32::from_le_bytes(bytes.try_into().unwrap()), 0x7f80_0000),
    };
    let magnitude = if dtype == Dtype::F32 { 0x7fff_ffff } else { 0x7fff };
    if bits & magnitude > infinite { u32::MAX } else { bits }
}

/// What was compared: tensors and elements.
#[derive(Default)]
struct Compared {
    tensors: usize,
    elements: usize,
}

/// Holds survey and every tensor of `recipe` against the host's, written in every type, with sources resident up to
/// `resident` bytes and launches of `piece` elements.
fn compare(
    what: &str,
    merger: &Merger,
    recipe: &Recipe,
    (resident, piece): (u64, usize),
    seen: &mut Compared,
) {
    compare_on(Host::shared(), what, merger, recipe, (resident, piece), seen);
}

fn compare_on(
    host: &'static Host,
    what: &str,
    merger: &Merger,
    recipe: &Recipe,
    (resident, piece): (u64, usize),
    seen: &mut Compared,
) {
    let engine = Engine::new(host, resident, piece);
    let stop = AtomicBool::new(false);
    let expected = merger.plan(recipe, &stop).unwrap();
    let found = Prepared::new(recipe, |name| merger.opened(name), &engine, &Known::default(), &stop).unwrap();
    for name in expected.names() {
        let Some((tensor, whole, arithmetic)) = found.paper(name).unwrap() else { continue };
        let (by_host, whole_of_host, _) = expected.paper(name).unwrap().expect("one convention");
        assert_eq!(whole, whole_of_host, "{what} {name}: tie");
        for (f, e) in tensor.terms.iter().zip(&by_host.terms) {
            assert_eq!(f.rule, e.rule, "{what} {name}: threshold of source {}", f.source);
        }
        assert_eq!(tensor.terms.len(), by_host.terms.len());
        if !Engine::<&'static Host>::takes(tensor.terms.len()) {
            continue;
        }
        for (stored, out) in [
            (Dtype::F32, Dtype::F32),
            (Dtype::F16, Dtype::F16),
            (Dtype::Bf16, Dtype::Bf16),
            (Dtype::Bf16, Dtype::F16),
            (Dtype::F16, Dtype::F32),
        ] {
            let mut right = vec![0; tensor.elements * out.width()];
            merged_on_host(&expected, name, stored, out, &mut right);
            let memory = engine.runner().take(right.len() + 2).unwrap();
            // Weights may be views: nothing is to depend on how their beginning is aligned.
            let offset = out.width() % 4;
            // SAFETY: the memory was taken for as many elements and the offset.
            unsafe {
                let address = engine.runner().address(&memory) + offset as u64;
                engine.merge(&tensor, arithmetic, whole, (stored, out), address).unwrap();
            }
            let mut made = vec![0; right.len() + offset];
            engine.runner().read(&memory, &mut made).unwrap();
            let numbers = made[offset..].chunks(out.width()).zip(right.chunks(out.width()));
            for (i, (made, right)) in numbers.enumerate() {
                let (made, right) = (bits(made, out), bits(right, out));
                assert!(made == right, "{what} {name} [{i}] as {out:?}: {made:x}, on the host {right:x}");
            }
        }
        seen.tensors += 1;
        seen.elements += tensor.elements;
    }
}

/// Rounded to `stored`, then to `out`, as the pipeline does it.
fn merged_on_host(merge: &Prepared, name: &str, stored: Dtype, out: Dtype, bytes: &mut [u8]) {
    let mut first = vec![0; bytes.len() / out.width() * stored.width()];
    merge.tensor_bytes(name, stored, &mut first).unwrap();
    let wide: Vec<f32> = first
        .chunks(stored.width())
        .map(|b| match stored {
            Dtype::F16 => half::f16::from_le_bytes([b[0], b[1]]).to_f32(),
            Dtype::Bf16 => half::bf16::from_le_bytes([b[0], b[1]]).to_f32(),
            _ => f32::from_le_bytes(b.try_into().unwrap()),
        })
        .collect();
    for (from, to) in wide.chunks(1024).zip(bytes.chunks_mut(1024 * out.width())) {
        narrow_bytes(from, out, to);
    }
}

fn data(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(folder)
}

#[test]
fn structures_and_number_formats_are_those_of_the_kernels() {
    let library = Host::shared().library(1);
    // SAFETY: the functions have these types in host.c.
    unsafe {
        let size = library.get::<unsafe extern "C" fn() -> u64>(b"size_of_job").unwrap()();
        assert_eq!(size, size_of::<Job>() as u64);
        assert!(size < 4096, "a launch's arguments");
        let round_trips = library.get::<unsafe extern "C" fn(u32) -> u32>(b"round_trips").unwrap();
        assert_eq!((round_trips(1), round_trips(2)), (65536, 65536));
    }
}

/// Source: Random123 1.14, `tests/kat_vectors`, lines `philox4x32 10`.
#[test]
fn the_random_field_has_its_known_answers() {
    type Words = unsafe extern "C" fn(*const u32, *const u32, *mut u32);
    let library = Host::shared().library(1);
    let philox = |counter: [u32; 4], key: [u32; 2]| {
        let mut out = [0; 4];
        // SAFETY: the function has this type in host.c and reads and writes just these arrays.
        unsafe {
            library.get::<Words>(b"random_words").unwrap()(counter.as_ptr(), key.as_ptr(), out.as_mut_ptr())
        };
        out
    };
    assert_eq!(philox([0; 4], [0; 2]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
    assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
    assert_eq!(
        philox([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0]),
        [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]
    );
}

#[test]
fn golden_recipes_come_out_the_same() {
    let mut seen = Compared::default();
    for (folder, models) in [
        ("merge", "merge/models"),
        ("merge_float16", "merge/models"),
        ("merge_groups", "merge/models"),
        ("vocabulary", "vocabulary/models"),
    ] {
        let recipes = std::fs::read_dir(data(folder).join("recipes")).unwrap();
        for path in recipes.map(|f| f.unwrap().path()) {
            let recipe = Recipe::parse(&std::fs::read_to_string(&path).unwrap()).unwrap();
            let merger = Merger::for_recipe(&recipe, |m| data(models).join(&m.path)).unwrap();
            let what = format!("{folder} {}", path.file_stem().unwrap().display());
            // Streamed in pieces that part rows, and some resident.
            for how in [(0, 36), (5000, 1 << 20)] {
                compare(&what, &merger, &recipe, how, &mut seen);
            }
        }
    }
    println!("{} tensors, {} elements in five pairs of types", seen.tensors, seen.elements);
    assert!(seen.tensors > 200, "{}", seen.tensors);
}

/// Numbers drawn by seed: small ones, ties, and now and then zeros, infinities, NaNs and subnormals of every type.
fn drawn(seed: u32, count: usize) -> Vec<f32> {
    let mut words = vec![0; count];
    field::words(Key([seed, 77]), 0, &mut words);
    let special =
        [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 6e-8, -6e-8, 1e-40, 65504.0, 65520.0, -3e38];
    let number = |w: &u32| match w % 97 {
        0 => special[(w >> 8) as usize % special.len()],
        1..40 => ((w >> 27) as f32 - 16.0) / 64.0,
        _ => f32::from_bits(w >> 9 | 0x3f80_0000) - 1.5,
    };
    words.iter().map(number).collect()
}

fn model(folder: &Path, seed: u32, dtype: Dtype, tensors: &[(&str, Vec<usize>)]) {
    let specs: Vec<Spec> = tensors
        .iter()
        .map(|(name, shape)| Spec { name: (*name).into(), dtype, shape: shape.clone() })
        .collect();
    let writer = Writer::create(folder).unwrap();
    let fill = |spec: &Spec, out: &mut Vec<u8>| -> crate::checkpoint::Result<()> {
        let values =
            drawn(seed.wrapping_mul(31).wrapping_add(spec.name.len() as u32), spec.shape.iter().product());
        out.resize(values.len() * dtype.width(), 0);
        for (from, to) in values.chunks(1024).zip(out.chunks_mut(1024 * dtype.width())) {
            narrow_bytes(from, dtype, to);
        }
        Ok(())
    };
    writer.tensors(&specs, SHARD_BYTES, fill).unwrap();
    writer.file("config.json", b"{}").unwrap();
    writer.finish().unwrap();
}

#[test]
fn random_recipes_of_mixed_types_come_out_the_same() {
    const TYPES: [Dtype; 3] = [Dtype::F32, Dtype::F16, Dtype::Bf16];
    const SOURCES: u32 = 4;
    let dir = tempfile::tempdir().unwrap();
    let reference = |name: String| ModelRef::new(name.clone(), dir.path().join(name).display().to_string());
    let mut seen = Compared::default();
    for seed in 0..12u32 {
        let mut words = [0; 64];
        field::words(Key([seed, 5]), 0, &mut words);
        let mut words = words.into_iter();
        let mut draw = |below: u32| words.next().unwrap() % below;
        let columns = 1 + draw(13) as usize;
        let shape = |rows: u32| vec![rows as usize, columns];
        let tensors = [("model.embed_tokens.weight", 61), ("b.weight", 40), ("c.weight", 211)];
        let name = |m: u32| format!("{seed}-{m}");
        for m in 0..SOURCES + 2 {
            // Vocabularies of other sizes, and a source without the second tensor.
            let rows = if m > 1 { 55 + draw(9) } else { 61 };
            let has = tensors.iter().filter(|(n, _)| m != 3 || *n != "b.weight");
            let has: Vec<_> = has.map(|(n, r)| (*n, shape(if r == &61 { rows } else { *r }))).collect();
            model(&dir.path().join(name(m)), seed * 100 + m, TYPES[draw(3) as usize], &has);
        }
        let rate = |n: u32| f64::from(n) / 10.0;
        // In every other merge the embedding has numbers of its own.
        let amount = |x: f64, y: f64| match seed % 2 {
            0 => Amount::from(x),
            _ => {
                let cases = serde_json::json!([{"filter": "embeddings", "value": x}, {"value": y}]);
                serde_json::from_value(cases).unwrap()
            }
        };
        let sources = (1..=SOURCES).map(|m| SourceTerm {
            model: reference(name(m)),
            base: (m == 4).then(|| reference(name(SOURCES + 1))),
            vocabulary: None,
            weight: amount(rate(draw(15)) - 0.3, 0.7),
            drop_rate: rate(draw(10)).into(),
            trim_rate: amount(rate(draw(11)), rate(draw(11))),
        });
        let sources = sources.take(1 + seed as usize % SOURCES as usize).collect();
        let recipe = Recipe {
            format: FORMAT,
            convention: Convention::Paper,
            base: reference(name(0)),
            vlm: reference(name(0)),
            sources,
            scale: amount(rate(draw(20)), 1.1),
            mask: if seed % 2 == 0 { Mask::Independent } else { Mask::Shared },
            mask_seed: u64::from(seed) << 33,
            arithmetic: if seed % 3 == 2 { Arithmetic::Float16 } else { Arithmetic::Float32 },
            vocabulary: Vocabulary::Cut,
        };
        let merger = Merger::for_recipe(&recipe, |m| m.path.clone().into()).unwrap();
        let how = (u64::from(draw(8000)), 4 * (1 + draw(300) as usize));
        compare(&format!("seed {seed}"), &merger, &recipe, how, &mut seen);
    }
    assert!(seen.elements > 10_000, "{}", seen.elements);
}

/// Histograms and signs are added up over warps, by threads that run at the same time.
#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "not every system has barriers for threads")]
fn threads_of_a_block_add_up() {
    let mut seen = Compared::default();
    let recipes = std::fs::read_dir(data("merge/recipes")).unwrap().map(|f| f.unwrap().path());
    let mut recipes: Vec<_> = recipes.collect();
    recipes.sort();
    for (path, mask) in recipes.iter().zip([Mask::Independent, Mask::Shared]) {
        let mut recipe = Recipe::parse(&std::fs::read_to_string(path).unwrap()).unwrap();
        recipe.mask = mask;
        // Zeros, which are counted apart, and a threshold among the rest.
        recipe.sources.iter_mut().for_each(|s| (s.drop_rate, s.trim_rate) = (0.3.into(), 0.6.into()));
        let merger = Merger::for_recipe(&recipe, |m| data("merge/models").join(&m.path)).unwrap();
        let what = path.display().to_string();
        compare_on(Host::together(), &what, &merger, &recipe, (0, 1 << 20), &mut seen);
    }
    assert!(seen.tensors > 10, "{}", seen.tensors);
}

#[test]
fn a_stopped_survey_ends() {
    let path = std::fs::read_dir(data("merge/recipes")).unwrap().map(|f| f.unwrap().path()).min().unwrap();
    let mut recipe = Recipe::parse(&std::fs::read_to_string(path).unwrap()).unwrap();
    recipe.sources.iter_mut().for_each(|s| (s.trim_rate, s.drop_rate) = (0.5.into(), 0.0.into()));
    let merger = Merger::for_recipe(&recipe, |m| data("merge/models").join(&m.path)).unwrap();
    let engine = Engine::new(Host::shared(), 0, 64);
    let stopped = Prepared::new(
        &recipe,
        |name| merger.opened(name),
        &engine,
        &Known::default(),
        &AtomicBool::new(true),
    );
    assert!(matches!(stopped.err(), Some(crate::merge::Error::Stopped)));
}
