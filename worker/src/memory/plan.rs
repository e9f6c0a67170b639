//! A workload against a machine: items, peaks, what is missing.
//!
//! Where base and sources live follows from what is left: on a GPU that has room for all of them beside the rest they
//! are kept there; on a smaller one they stay in the host's memory, mapped, and every tensor is streamed as it is merged;
//! on a CPU they are mapped and read in place. What would help a machine that is too small is found in `advice.rs`.

use super::activations::{decode_bytes, prefill_bytes};
use super::advice::advice;
use super::words;
use super::{Machine, Workload};
use crate::checkpoint::write::STAGE_BYTES;
use crate::merge::{Merger, mask_bytes, mask_elements, staging_bytes, trim_scratch_bytes};
use crate::model::Passes;
use crate::model::weights::STRIP_BYTES;
use anyhow::{Context, Result, bail};
use common::recipe::{Convention, Mask, Recipe};
use serde::Serialize;
use std::fmt::Write;

/// What the allocator keeps of freed memory, and matrix products of packed operands, a thread and once more: 36 to 52 MB
/// were measured at two threads, whatever the model's size.
const KEPT_BYTES: u64 = 16 << 20;
/// Memory of the GPU that its libraries take for themselves; not measured on a GPU yet.
const GPU_RESERVE: u64 = 512 << 20;
/// Page-locked buffers through which files go to a GPU.
const PINNED_BYTES: u64 = 64 << 20;

/// Where bytes lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// The GPU's memory.
    Device,
    /// The host's memory, pages of this process's own.
    Host,
    /// Files mapped into memory, held by the page cache as far as there is room, and read in place.
    Mapped,
    /// The same, copied to the GPU tensor by tensor whenever a candidate is merged.
    Streamed,
}

/// When bytes are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Images are encoded, once.
    Features,
    /// Language models are loaded, one a slot.
    Load,
    /// A candidate is merged.
    Merge,
    /// Prompts are run.
    Prefill,
    /// Rows advance token by token.
    Decode,
}

/// All phases, in order.
const PHASES: [Phase; 5] = [Phase::Features, Phase::Load, Phase::Merge, Phase::Prefill, Phase::Decode];

/// One thing that is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Item {
    /// What it is.
    pub what: String,
    /// Its size, all slots together.
    pub bytes: u64,
    /// Where it lies.
    pub place: Place,
    /// When it is held.
    pub phases: Vec<Phase>,
}

/// The sum of a phase's items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Peak {
    /// The phase.
    pub phase: Phase,
    /// Bytes of the process's own on the host.
    pub host: u64,
    /// Bytes on the GPU.
    pub device: u64,
}

/// What is needed of one memory, against what there is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Budget {
    /// The largest peak.
    pub need: u64,
    /// Bytes that may be used in all, those in use by this process included.
    pub available: u64,
    /// Bytes that are missing; zero when it fits.
    pub missing: u64,
    /// What sets `available`.
    pub bound: String,
}

/// What merges read of mapped files, against the room that the page cache has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PageCache {
    /// Bytes that every merge reads.
    pub wanted: u64,
    /// Bytes that are left for them beside everything else; none where unknown.
    pub room: Option<u64>,
    /// Bytes that every candidate then reads from the disk, as good as the page cache allows.
    pub from_disk: u64,
}

/// What fits where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryPlan {
    /// Everything that is held.
    pub items: Vec<Item>,
    /// The peak of each phase.
    pub peaks: Vec<Peak>,
    /// The host's memory; none where the system does not say what there is.
    pub host: Option<Budget>,
    /// The GPU's, where models run on one and it says what there is.
    pub device: Option<Budget>,
    /// Mapped weights.
    pub page_cache: PageCache,
    /// What the numbers mean here: where sources live and why.
    pub notes: Vec<String>,
    /// Bytes of base and sources that are kept on the GPU.
    pub resident: u64,
    /// What would make it fit.
    pub advice: Vec<String>,
}

/// Works out what `work` takes on `machine`.
///
/// # Errors
/// When the prompt leaves no room for a token.
pub fn plan(work: &Workload, machine: &Machine) -> Result<MemoryPlan> {
    let mut plan = without_advice(work, machine)?;
    if plan.missing() > 0 {
        plan.advice = advice(work, machine)?;
    }
    Ok(plan)
}

/// The same, whether or not it fits.
pub(super) fn without_advice(work: &Workload, machine: &Machine) -> Result<MemoryPlan> {
    let streamed = placed(work, machine, false)?;
    let free = streamed.device.as_ref().map_or(0, |d| d.available.saturating_sub(d.need));
    match work.merges_on_gpu(machine) && free >= work.merge_reads() {
        true => placed(work, machine, true),
        false => Ok(streamed),
    }
}

/// With base and sources `resident` on the GPU, or not.
fn placed(work: &Workload, machine: &Machine, resident: bool) -> Result<MemoryPlan> {
    let plan =
        summed(items(work, machine, resident)?, machine, if resident { 0 } else { work.merge_reads() });
    let notes = notes(work, machine, &plan, resident);
    Ok(MemoryPlan { notes, resident: if resident { work.merge_reads() } else { 0 }, ..plan })
}

/// Items added up and held against the machine, with `wanted` bytes of mapped files read by every merge.
pub(super) fn summed(items: Vec<Item>, machine: &Machine, wanted: u64) -> MemoryPlan {
    let sum = |phase, place| {
        let alive = items.iter().filter(|i| i.place == place && i.phases.contains(&phase));
        alive.map(|i| i.bytes).sum::<u64>()
    };
    let peak = |phase| Peak { phase, host: sum(phase, Place::Host), device: sum(phase, Place::Device) };
    let peaks = PHASES.map(peak).to_vec();
    let highest = |of: fn(&Peak) -> u64| peaks.iter().map(of).max().unwrap_or(0);
    let (host_need, device_need) = (highest(|p| p.host), highest(|p| p.device));
    let host = machine.host.as_ref().map(|h| budget(host_need, h.own + h.free, &h.bound));
    let device =
        machine.gpu.as_ref().map(|g| budget(device_need, g.free, &format!("free memory of {}", g.name)));
    let room = machine.host.as_ref().map(|h| h.page_cache.saturating_sub(host_need.saturating_sub(h.own)));
    // The oldest page goes first and merges read in a fixed order: a cache that is too small for all keeps little.
    let from_disk = if room.is_some_and(|r| r < wanted) { wanted } else { 0 };
    let page_cache = PageCache { wanted, room, from_disk };
    MemoryPlan { items, peaks, host, device, page_cache, notes: Vec::new(), resident: 0, advice: Vec::new() }
}

/// What merging `recipe` to a folder takes on the host: one tensor at a time, and the search for trim thresholds.
pub(super) fn plan_merge(merger: &Merger, recipe: &Recipe, machine: &Machine) -> Result<MemoryPlan> {
    let open = |name: &str| merger.model(name).with_context(|| format!("model {name} is not open"));
    let (base, vlm) = (open(&recipe.base.name)?, open(&recipe.vlm.name)?);
    let infos = vlm.names().filter_map(|name| vlm.info(name));
    let sizes: Vec<u64> = infos.map(|i| (i.elements * i.dtype.width()) as u64).collect();
    let all = || base.names().filter_map(|name| base.info(name)).map(|i| i.elements as u64);
    let (elements, largest) = (all().sum(), all().max().unwrap_or(0));
    let item =
        |what: &str, bytes, phase| Item { what: what.into(), bytes, place: Place::Host, phases: vec![phase] };
    let own = machine.host.as_ref().map_or(0, |h| h.own);
    let kept = (machine.threads as u64 + 1) * KEPT_BYTES;
    // Where rows are put in their places the tensor is there twice. What does not fit is refused by who writes it: a text-only
    // export has no such places.
    let resized = merger.placement(recipe).is_ok_and(|p| p.resized().next().is_some());
    let copies = if resized { 2 } else { 1 };
    // The tensor before is being written meanwhile. They come in this order where all elements are of one width.
    let before = |position: usize| position.checked_sub(1).map_or(0, |before| sizes[before]);
    let making = (0..sizes.len()).map(|position| copies * sizes[position] + before(position)).max();
    let dropping =
        recipe.sources.iter().filter(|s| s.drop_rate.numbers().iter().any(|(_, rate)| *rate > 0.0));
    let masked = match recipe.convention {
        Convention::Paper => {
            // Where rates differ from layer to layer, so do masks.
            let one_rate = recipe.sources.iter().all(|s| s.drop_rate.same().is_some());
            let mask = if one_rate { recipe.mask } else { Mask::Independent };
            mask_elements(mask, dropping.count(), elements, largest)
        }
        Convention::Linear => 0,
    };
    let items = vec![
        item("program (as measured)", own, Phase::Merge),
        item("kept by the allocator", kept, Phase::Merge),
        item("masks of what is dropped", mask_bytes(masked), Phase::Merge),
        item(
            "making the largest tensor while the one before is written, or trimming",
            making.unwrap_or(0).max(trimming(recipe.sources.len(), elements, machine)),
            Phase::Merge,
        ),
        item("on its way to the disk", STAGE_BYTES as u64, Phase::Merge),
    ];
    Ok(summed(items, machine, 0))
}

/// What finding trim thresholds takes on the host: one state a thread, and one in which they are added up.
fn trimming(sources: usize, elements: u64, machine: &Machine) -> u64 {
    sources as u64 * (machine.threads as u64 + 1) * trim_scratch_bytes(elements)
}

fn budget(need: u64, available: u64, bound: &str) -> Budget {
    Budget { need, available, missing: need.saturating_sub(available), bound: bound.into() }
}

fn items(work: &Workload, machine: &Machine, resident: bool) -> Result<Vec<Item>> {
    use Phase::{Decode, Features, Load, Merge, Prefill};
    let on_gpu = machine.gpu.is_some();
    let model = if on_gpu { Place::Device } else { Place::Host };
    let passes = Passes::of(work.passes, work.compute, on_gpu);
    let sizes = work.sizes(passes)?;
    let slots = work.slots as u64;
    let each = |what: &str| if slots > 1 { format!("{what}, {slots} slots") } else { what.to_string() };
    let mut items = Vec::new();
    let mut add = |what: String, bytes: u64, place: Place, phases: &[Phase]| {
        items.push(Item { what, bytes, place, phases: phases.to_vec() });
    };
    let later = &PHASES[1..];

    let own = machine.host.as_ref().map_or(0, |h| h.own);
    add("program, tokenizer, dictionary (as measured)".into(), own, Place::Host, &PHASES);
    let kept = (machine.threads as u64 + 1) * KEPT_BYTES;
    add("kept by the allocator and by matrix products".into(), kept, Place::Host, &PHASES);
    if on_gpu {
        add("GPU libraries (reserve)".into(), GPU_RESERVE, Place::Device, &PHASES);
    }
    let features = work.samples as u64 * work.vision.features;
    add(format!("image features of {} samples", work.samples), features, model, &PHASES);
    add("vision tower and projector".into(), work.vision.weights, model, &[Features]);
    // Joining the features into one tensor copies them once, when the activations are gone.
    add("one image through the tower".into(), work.vision.image.max(features), model, &[Features]);
    add("one image's pixels and tiles".into(), work.vision.host, Place::Host, &[Features]);

    add(each("language model weights"), slots * work.language_bytes(), model, later);
    let rotary = (work.language.max_position_embeddings * work.language.head_dim) as u64;
    let rotary_width = if passes == Passes::Fused { 4 } else { work.compute.size_in_bytes() as u64 };
    add(each("rotary tables"), slots * rotary * rotary_width, model, later);
    // One slot's cache is taken at its first candidate; with several, one loads while another runs.
    let cached: &[Phase] = if slots > 1 { later } else { &[Merge, Prefill, Decode] };
    let cache = format!("key-value cache, {} rows of {}", sizes.rows, sizes.capacity);
    add(each(&cache), slots * work.cache_bytes()?, model, cached);

    let tensor = work.largest * work.stored;
    let strip = (STRIP_BYTES as u64).min(work.largest * 4);
    // On the way to a GPU a strip is copied on the host, moved, and converted there.
    let converted = if work.compute.size_in_bytes() as u64 == work.stored && !on_gpu { 0 } else { strip };
    add(each("reading the largest tensor"), slots * (tensor + converted), Place::Host, &[Load]);
    let by_kernels = work.merges_on_gpu(machine);
    // Thresholds are found before the first tensor is merged. What a GPU merges never is on the host; what it does not,
    // because the VLM keeps rows of its own, is.
    let merging = match (work.mapped.is_empty(), by_kernels, work.merge_copies) {
        (true, ..) | (_, true, 1) => 0,
        (_, true, copies) => copies * tensor + converted,
        (_, false, copies) => {
            (copies * tensor + converted).max(trimming(work.sources, work.elements(), machine))
        }
    };
    add(each("merging the largest tensor, or trimming"), slots * merging, Place::Host, &[Merge]);
    // Taken at the first merge, shared by the slots, and kept.
    let merged: &[Phase] = if slots > 1 { later } else { &[Merge, Prefill, Decode] };
    if !by_kernels && !work.mapped.is_empty() {
        let masks = mask_bytes(work.masked);
        add(each("masks of what is dropped"), slots * masks, Place::Host, merged);
    }
    if by_kernels {
        let staging = staging_bytes(work.sources, work.own_bases, work.largest, work.merged_width);
        add("pieces of base and sources, histograms".into(), staging, Place::Device, merged);
        add("page-locked buffers".into(), PINNED_BYTES, Place::Host, merged);
    }
    if on_gpu {
        add(each("tensors on their way to the GPU"), slots * 2 * strip, Place::Device, &[Load, Merge]);
    }
    let prefill = prefill_bytes(&work.language, work.compute, passes, &sizes);
    add(
        each(&format!("running {} prompts at a time", sizes.prefill_rows)),
        slots * prefill,
        model,
        &[Prefill],
    );
    let decode = decode_bytes(&work.language, work.compute, passes, &sizes);
    add(each(&format!("one token for {} rows", sizes.rows)), slots * decode, model, &[Decode]);

    let (place, while_held): (Place, &[Phase]) = match (by_kernels, resident) {
        (true, true) => (Place::Device, merged),
        (true, false) => (Place::Streamed, &[Merge]),
        (false, _) => (Place::Mapped, &[Merge]),
    };
    for model in &work.mapped {
        add(format!("weights of {}", model.name), model.bytes, place, while_held);
    }
    items.retain(|i| i.bytes > 0);
    Ok(items)
}

fn notes(work: &Workload, machine: &Machine, plan: &MemoryPlan, resident: bool) -> Vec<String> {
    if work.mapped.is_empty() {
        return Vec::new();
    }
    let all = words(work.merge_reads());
    if resident {
        return vec![format!("base and sources are kept on the GPU: {all}, copied there by the first merge")];
    }
    let cache = &plan.page_cache;
    let mut notes = vec![match (cache.room, cache.from_disk) {
        (None, _) => format!("base and sources are mapped: {all} that every merge reads"),
        (Some(room), 0) => format!(
            "base and sources are mapped: {all} that every merge reads, which fit beside the rest ({} left for files)",
            words(room)
        ),
        (Some(room), _) => format!(
            "base and sources are mapped: every merge reads {all}, but only {} are left for files, so every candidate \
             reads up to {all} from the disk; {} more memory would end that",
            words(room),
            words(cache.wanted - room)
        ),
    }];
    match (work.merges_on_gpu(machine), &plan.device) {
        (true, Some(device)) => notes.push(format!(
            "base and sources stay in the host's memory and are streamed to the GPU tensor by tensor: with {} more of its \
             memory they would be kept there",
            words(work.merge_reads().saturating_sub(device.available.saturating_sub(device.need)))
        )),
        (false, Some(_)) => notes.push(format!(
            "merging runs on the host: each merged tensor ({} at most) is copied over the weights on the GPU",
            words(work.largest * work.stored)
        )),
        _ => {}
    }
    notes
}

impl MemoryPlan {
    /// Bytes that are missing, of whichever memory lacks more.
    pub fn missing(&self) -> u64 {
        [&self.host, &self.device].into_iter().flatten().map(|b| b.missing).max().unwrap_or(0)
    }

    /// The highest peak of the process's own pages.
    pub fn host_peak(&self) -> u64 {
        self.peaks.iter().map(|p| p.host).max().unwrap_or(0)
    }

    /// What one phase takes.
    pub fn peak(&self, phase: Phase) -> Peak {
        let found = self.peaks.iter().find(|p| p.phase == phase);
        found.copied().unwrap_or(Peak { phase, host: 0, device: 0 })
    }

    /// One line that says how it stands.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        for (place, budget) in [("GPU", &self.device), ("host", &self.host)] {
            if let Some(b) = budget {
                let between = if text.is_empty() { "" } else { "; " };
                // Writing to a String cannot fail.
                let _ = write!(text, "{between}{place} {} of {}", words(b.need), words(b.available));
            }
        }
        match text.is_empty() {
            true => format!("host {}; this system does not say what it has", words(self.host_peak())),
            false => text,
        }
    }

    /// Refuses when something is missing.
    ///
    /// # Errors
    /// The missing number, what needs how much of what there is, and what helps.
    pub fn check(&self) -> Result<()> {
        for (place, budget) in [("GPU", &self.device), ("host", &self.host)] {
            let Some(b) = budget.as_ref().filter(|b| b.missing > 0) else { continue };
            let advice = self.advice.iter().map(|a| format!("\n  {a}")).collect::<String>();
            bail!(
                "{} of {place} memory are missing: this needs {}, and {} are available ({}){advice}",
                words(b.missing),
                words(b.need),
                words(b.available),
                b.bound
            );
        }
        Ok(())
    }
}
