//! The stages of a candidate, each run as a worker runs it, timed, and held against a floor.

use super::{Family, Rates};
use crate::asking::read_run;
use crate::data::{manifest, read_references};
use crate::device::Chosen;
use crate::evaluator::Control;
use crate::locate::Locator;
use crate::memory::{self, Machine, MemoryPlan, Peak, Phase, Watch, Workload, disk_bytes};
use crate::model::BunnyConfig;
use crate::model::weights::expected_parameters;
use crate::pipeline::{Bench, Pipeline};
use anyhow::{Context, Result, bail};
use candle_core::Device;
use common::evaluation::Stop;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// One stage as it went.
#[derive(Clone, Debug, Serialize)]
pub struct Stage {
    /// What was done.
    pub name: &'static str,
    /// Wall time.
    pub seconds: f64,
    /// Time that processors worked for this process, all threads together: what a machine shared with others leaves.
    pub processor_seconds: f64,
    /// Bytes that must be read for it, once each, from memory or page cache.
    pub read: u64,
    /// Bytes that must be written.
    pub written: u64,
    /// Bytes that this process really read from the disk meanwhile.
    pub disk_read: u64,
    /// Bytes that it wrote there.
    pub disk_written: u64,
    /// Floating-point operations of matrix products and attention.
    pub operations: f64,
    /// The time that it could not be faster than at the rates measured.
    pub floor: f64,
    /// What sets the floor: `memory`, `arithmetic`, `disk`, or nothing.
    pub floor_of: &'static str,
    /// Highest peak of this process's own pages meanwhile.
    pub peak: u64,
    /// What the memory plan says of this stage's phase, on the host; none for stages that it does not cover.
    pub planned: Option<u64>,
    /// The same two of the GPU's memory, where models run on one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_peak: Option<u64>,
    /// What is planned of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_planned: Option<u64>,
}

/// A whole rehearsal.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Name of the size.
    pub size: String,
    /// Parameters of one language model.
    pub parameters: u64,
    /// Bytes of all weight files.
    pub weights: u64,
    /// The device, in words.
    pub device: String,
    /// Threads.
    pub threads: usize,
    /// Type that base and sources are stored in.
    pub stored: &'static str,
    /// Type that the model runs in.
    pub compute: &'static str,
    /// Positions of a prompt.
    pub prompt: usize,
    /// Samples.
    pub samples: usize,
    /// Tokens written, all samples together.
    pub tokens: usize,
    /// What the machine can do.
    pub rates: Rates,
    /// What was to be held.
    pub plan: MemoryPlan,
    /// The stages in order.
    pub stages: Vec<Stage>,
    /// Highest peak of the process's own pages once models were open.
    pub peak: u64,
    /// The plan's highest.
    pub planned: u64,
    /// Highest peak of the GPU's memory, where models run on one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_peak: Option<u64>,
    /// The plan's highest of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_planned: Option<u64>,
}

/// What a stage has to do at least.
#[derive(Clone, Copy, Default)]
struct Work {
    read: u64,
    written: u64,
    operations: f64,
    /// Bytes that go to the disk for sure.
    to_disk: u64,
    /// Whether memory where the model runs is meant, and not the host's.
    on_device: bool,
}

struct Clock<'a> {
    watch: &'a Watch,
    device: &'a Device,
    stages: Vec<(Stage, Work)>,
    tell: &'a mut dyn FnMut(&Stage),
    stop: &'a AtomicBool,
}

impl Clock<'_> {
    fn run<T>(
        &mut self,
        name: &'static str,
        planned: Option<Peak>,
        work: Work,
        stage: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let meter = self.meter();
        let result = stage().with_context(|| format!("stage {name}"))?;
        // What a GPU was told to do belongs to this stage.
        self.device.synchronize()?;
        let spent = meter.read();
        self.record(name, planned, work, spent);
        if self.stop.load(Ordering::Relaxed) {
            bail!("stopped");
        }
        Ok(result)
    }

    /// Begins a stretch.
    fn meter(&self) -> Meter {
        self.watch.take_peaks();
        Meter {
            began: Instant::now(),
            processor: processor_seconds(),
            disk: disk_bytes().unwrap_or_default(),
        }
    }

    fn record(&mut self, name: &'static str, planned: Option<Peak>, work: Work, spent: Stretch) {
        let peaks = self.watch.take_peaks();
        let stage = Stage {
            name,
            seconds: spent.seconds,
            processor_seconds: spent.processor,
            read: work.read,
            written: work.written,
            disk_read: spent.disk.0,
            disk_written: spent.disk.1,
            operations: work.operations,
            floor: 0.0,
            floor_of: "",
            peak: peaks.host,
            planned: planned.map(|p| p.host),
            device_planned: peaks.device.and(planned).map(|p| p.device),
            device_peak: peaks.device,
        };
        (self.tell)(&stage);
        self.stages.push((stage, work));
    }

    /// The stages with their floors at the rates given.
    fn finish(self, rates: &Rates) -> Vec<Stage> {
        let floored = |(mut stage, work): (Stage, Work)| {
            let copy = if work.on_device { rates.device_copy } else { rates.host_copy };
            let floors = [
                ((work.read + work.written) as f64 / copy, "memory"),
                (work.operations / rates.matmul, "arithmetic"),
                (stage.disk_read as f64 / rates.disk_read + work.to_disk as f64 / rates.disk_write, "disk"),
            ];
            let highest = floors.into_iter().fold((0.0, ""), |a, b| if b.0 > a.0 { b } else { a });
            (stage.floor, stage.floor_of) = highest;
            stage
        };
        self.stages.into_iter().map(floored).collect()
    }
}

/// What a stretch of time took.
#[derive(Clone, Copy, Default)]
struct Stretch {
    seconds: f64,
    processor: f64,
    /// Bytes read from and written to the disk.
    disk: (u64, u64),
}

struct Meter {
    began: Instant,
    processor: f64,
    disk: (u64, u64),
}

impl Meter {
    fn read(self) -> Stretch {
        let disk = disk_bytes().unwrap_or_default();
        Stretch {
            seconds: self.began.elapsed().as_secs_f64(),
            processor: processor_seconds() - self.processor,
            disk: (disk.0 - self.disk.0, disk.1 - self.disk.1),
        }
    }
}

/// Writes `family` into the empty folder `folder` and runs it.
///
/// `check` sees the plan of the real files before weights are read and may refuse; `tell` is told every stage as it ends.
///
/// # Errors
/// Whatever a stage reports; when `check` refuses; when `stop` was set.
pub fn rehearse(
    family: &Family,
    batch: usize,
    folder: &Path,
    chosen: &Chosen,
    stop: &AtomicBool,
    check: &dyn Fn(&MemoryPlan) -> Result<()>,
    tell: &mut dyn FnMut(&Stage),
) -> Result<Report> {
    let config = family.config()?;
    let probe = if family.parameters()? > 500_000_000 { 512 << 20 } else { 32 << 20 };
    let shape = (config.llama.hidden_size, config.llama.intermediate_size);
    let rates = Rates::measure(chosen, shape, folder, probe)?;
    let watch = Watch::start(chosen)?;
    let mut clock = Clock { watch: &watch, device: &chosen.device, stages: Vec::new(), tell, stop };

    let weights = family.disk_bytes()?;
    let write = Work { written: weights, to_disk: weights, ..Work::default() };
    clock.run("write", None, write, || family.write(folder, batch, stop, &mut |_| ()))?;

    let run = read_run(&folder.join("run.toml"), &[])?;
    let locator = Locator::default();
    let digest = Work { read: weights, ..Work::default() };
    clock.run("digest", None, digest, || manifest(&run, &locator))?;
    let mut bench = clock.run("open", None, Work::default(), || Bench::open(&run, &locator, chosen))?;

    let work = Workload::of_run(&bench, &run, family.samples, 1)?;
    let plan = memory::plan(&work, &Machine::now(chosen))?;
    check(&plan)?;
    bench.follow(&plan)?;
    let bench = Arc::new(bench);
    let planned = |phase| Some(plan.peak(phase));
    let cost = Cost { config: &config, work: &work, samples: family.samples };

    let references = read_references(&run.dataset)?;
    let exam = clock.run("features", planned(Phase::Features), cost.features(), || {
        Ok(Arc::new(bench.exam(&run, &run.dataset, references)?))
    })?;
    let pipeline =
        clock.run("load", planned(Phase::Load), cost.load(), || Pipeline::new(bench.clone(), exam));
    let mut pipeline = pipeline?;
    let recipe = run.authors_middle();
    let cache = work.cache_bytes()?;
    let merging = Some(before_cache(plan.peak(Phase::Merge), cache, chosen));
    let reads = Work { read: work.merge_reads(), ..Work::default() };
    let prepared = clock.run("thresholds", merging, reads, || Ok(bench.prepare(&recipe, stop)?))?;
    let stopped = || stop.load(Ordering::Relaxed);
    clock.run("merge", merging, cost.merge(), || Ok(pipeline.write(&prepared, &stopped)?))?;
    drop(prepared);

    let control = Arc::new(Control::default());
    let meter = clock.meter();
    let evaluation = pipeline.answer(&control, 0).context("stage generate")?;
    let whole = meter.read();
    let spent = pipeline.spent();
    // One call does all three: processor time is shared out by time, and the peak of the first line is that of all.
    let part = |seconds: f64| {
        let processor = whole.processor * seconds / whole.seconds.max(1e-9);
        Stretch { seconds, processor, disk: (0, 0) }
    };
    let (first, rest) = (plan.peak(Phase::Prefill), plan.peak(Phase::Decode));
    let generating =
        Some(Peak { host: first.host.max(rest.host), device: first.device.max(rest.device), ..first });
    let prefill = Stretch { disk: whole.disk, ..part(spent.prefill.as_secs_f64()) };
    clock.record("prefill", generating, cost.prefill(), prefill);
    let decode = cost.decode(spent.steps, spent.row_steps);
    clock.record("decode", None, decode, part(spent.decode.as_secs_f64()));
    clock.record("score", None, Work::default(), part(evaluation.timings.score_ms as f64 / 1e3));

    let written = |s: &common::evaluation::SampleResult| s.tokens as usize;
    let tokens = evaluation.samples.iter().map(written).sum();
    if let Some(s) = evaluation.samples.iter().find(|s| s.stop == Stop::NonFinite) {
        bail!("sample {}: a logit was not finite, so the rehearsal's weights are out of scale", s.sample);
    }
    drop(pipeline);
    // What disturbs a measurement only ever makes it slower, and others may have been at work at either end.
    let rates = rates.or_faster(&Rates::measure(chosen, shape, folder, probe)?);
    let stages = clock.finish(&rates);
    Ok(Report {
        size: family.size.name.into(),
        parameters: family.parameters()?,
        weights,
        device: chosen.words.clone(),
        threads: rayon::current_num_threads(),
        stored: family.dtype.name(),
        compute: chosen.dtype.as_str(),
        prompt: work.prompt,
        samples: family.samples,
        tokens,
        rates,
        planned: reached(&plan, cache, chosen, |p| p.host),
        device_planned: chosen.memory().map(|_| reached(&plan, cache, chosen, |p| p.device)),
        device_peak: covered(&stages).filter_map(|s| s.device_peak).max(),
        peak: covered(&stages).map(|s| s.peak).max().unwrap_or(0),
        plan,
        stages,
    })
}

/// Seconds that processors have worked for this process so far.
fn processor_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Stages that the plan covers.
fn covered(stages: &[Stage]) -> impl Iterator<Item = &Stage> {
    stages.iter().filter(|s| s.planned.is_some())
}

/// A phase's peak as long as the cache of a first candidate has not been taken.
fn before_cache(peak: Peak, cache: u64, chosen: &Chosen) -> Peak {
    match chosen.device.is_cpu() {
        true => Peak { host: peak.host - cache, ..peak },
        false => Peak { device: peak.device.saturating_sub(cache), ..peak },
    }
}

/// The highest peak of the plan that one candidate reaches: while it is merged there is no cache yet.
fn reached(plan: &MemoryPlan, cache: u64, chosen: &Chosen, of: fn(Peak) -> u64) -> u64 {
    let reached = |p: &Peak| of(if p.phase == Phase::Merge { before_cache(*p, cache, chosen) } else { *p });
    plan.peaks.iter().map(reached).max().unwrap_or(0)
}

/// Bytes and operations of each stage, from shapes alone.
struct Cost<'a> {
    config: &'a BunnyConfig,
    work: &'a Workload,
    samples: usize,
}

impl Cost<'_> {
    fn elements(&self) -> u64 {
        let list = expected_parameters(&self.config.llama);
        list.iter().map(|(_, shape)| shape.iter().product::<usize>() as u64).sum()
    }

    /// Weights that a pass multiplies with: the embedding is only looked up, unless it is the head too.
    fn matrices(&self, with_head: bool) -> u64 {
        let c = &self.config.llama;
        let table = (c.vocab_size * c.hidden_size) as u64;
        let blocks = self.elements() - if c.tie_word_embeddings { table } else { 2 * table };
        if with_head { blocks + table } else { blocks }
    }

    fn width(&self) -> u64 {
        self.work.compute.size_in_bytes() as u64
    }

    /// Scores and their mixing: two products of query length by attended length, summed over queries and blocks.
    fn attention(&self, pairs: f64) -> f64 {
        let c = &self.config.llama;
        4.0 * pairs * (c.num_attention_heads * c.head_dim * c.num_hidden_layers) as f64
    }

    fn features(&self) -> Work {
        let (v, c) = (&self.config.vision, self.config);
        let (w, cells) = (v.hidden_size as f64, (v.grid() * v.grid()) as f64);
        let scales = c.s2_scales.as_ref().map_or(1, |s| s.iter().map(|s| (s / v.image_size).pow(2)).sum());
        let block = 4.0 * w * w + 2.0 * w * v.intermediate_size as f64;
        let per_cell = 2.0 * block + 4.0 * cells * w;
        let patch = 2.0 * w * (3 * v.patch_size * v.patch_size) as f64;
        let tile = cells * ((v.num_hidden_layers - 1) as f64 * per_cell + patch);
        let d = c.llama.hidden_size as f64;
        let project = 2.0 * cells * d * (c.mm_hidden_size as f64 + d);
        Work {
            read: self.work.vision.weights,
            written: self.samples as u64 * self.work.vision.features,
            operations: self.samples as f64 * (scales as f64 * tile + project),
            on_device: true,
            ..Work::default()
        }
    }

    fn load(&self) -> Work {
        let elements = self.elements();
        Work { read: elements * self.work.stored, written: elements * self.width(), ..Work::default() }
    }

    /// Base and sources are read, the merged tensors written, read again and converted into place.
    fn merge(&self) -> Work {
        Work { read: self.work.merge_reads(), written: self.elements() * self.width(), ..Work::default() }
    }

    fn prefill(&self) -> Work {
        let positions = (self.work.prompt - self.work.shared) as f64;
        let (shared, prompt) = (self.work.shared as f64, self.work.prompt as f64);
        let pairs = self.samples as f64 * (prompt * prompt - shared * shared) / 2.0 + shared * shared / 2.0;
        let run = self.samples as f64 * positions + shared;
        let head = 2.0 * (self.samples * self.config.llama.vocab_size * self.config.llama.hidden_size) as f64;
        Work {
            read: self.matrices(true) * self.width(),
            operations: 2.0 * self.matrices(false) as f64 * run + head + self.attention(pairs),
            on_device: true,
            ..Work::default()
        }
    }

    fn decode(&self, steps: usize, row_steps: usize) -> Work {
        let c = &self.config.llama;
        let mean = self.work.prompt as f64 + steps as f64 / 2.0;
        let position = 2 * c.num_hidden_layers * c.num_key_value_heads * c.head_dim;
        let cache = row_steps as f64 * mean * position as f64 * self.width() as f64;
        Work {
            read: steps as u64 * self.matrices(true) * self.width() + cache as u64,
            operations: 2.0 * self.matrices(true) as f64 * row_steps as f64
                + self.attention(row_steps as f64 * mean),
            on_device: true,
            ..Work::default()
        }
    }
}
