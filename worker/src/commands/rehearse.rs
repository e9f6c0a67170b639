//! `jradievo-worker rehearse`: what a full-size candidate costs on this machine, before real models are there.

use super::signal::{clean_up_when_stopped, remove_folder};
use super::{OK, table};
use crate::checkpoint::Dtype;
use crate::cli;
use crate::device::{self, Chosen};
use crate::memory::{self, Machine, MemoryPlan, words};
use crate::rehearse::{Family, Report, SIZES, Size, Stage, Tower, free_disk, rehearse};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// What tokenizer and dictionary take of the process once they are open, and a margin for it; measured at 128,256 tokens.
const TOKENIZER_AND_DICTIONARY: u64 = 400 << 20;
/// Images, tokenizers and headers beside the weights, and the probe of the disk.
const BESIDE_WEIGHTS: u64 = 1 << 30;
/// A CPU of fewer threads takes hours at 8B.
const THREADS_FOR_8B: usize = 16;

/// The rehearsal's folder, removed whole when it goes out of scope unless it is to be kept.
struct Folder {
    path: PathBuf,
    keep: bool,
}

impl Folder {
    fn create(parent: &Path, keep: bool) -> Result<Folder> {
        let path = parent.join(format!("jradievo-rehearsal-{}", std::process::id()));
        std::fs::create_dir(&path)
            .with_context(|| format!("{}: cannot make the rehearsal's folder", path.display()))?;
        Ok(Folder { path, keep })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.keep {
            remove_folder(&self.path);
        }
    }
}

/// Runs the command.
pub fn run(args: &cli::Rehearse) -> Result<u8> {
    let chosen = device::choose(&args.device)?;
    if let Some(note) = &chosen.note {
        eprintln!("note: {note}");
    }
    let parent = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let parent = std::path::absolute(&parent)?;
    let (family, batch) = choose(args, &chosen, &parent)?;
    let folder = Folder::create(&parent, args.keep)?;
    let (path, keep) = (folder.path.clone(), folder.keep);
    let watch = clean_up_when_stopped(move || {
        if !keep {
            remove_folder(&path);
        }
    })?;
    let result = rehearsed(args, &family, batch, &chosen, &folder, watch.flag());
    watch.ended(result)
}

fn rehearsed(
    args: &cli::Rehearse,
    family: &Family,
    batch: usize,
    chosen: &Chosen,
    folder: &Folder,
    stop: &AtomicBool,
) -> Result<u8> {
    if !args.json {
        print_head(family, batch, chosen, folder)?;
    }
    let check = |plan: &MemoryPlan| memory::guard(plan, args.memory.ignore_memory_plan);
    let mut tell = |stage: &Stage| {
        if !args.json {
            out!("  {:<10} {:>8.2} s", stage.name, stage.seconds);
        }
    };
    let report = rehearse(family, batch, &folder.path, chosen, stop, &check, &mut tell)?;
    match args.json {
        true => out!("{}", serde_json::to_string_pretty(&report)?),
        false => print(&report),
    }
    Ok(OK)
}

/// The size asked for, or the largest that fits, and why a larger one does not.
fn choose(args: &cli::Rehearse, chosen: &Chosen, folder: &Path) -> Result<(Family, usize)> {
    let on_gpu = !chosen.device.is_cpu();
    let samples = args.samples.unwrap_or(if on_gpu { 50 } else { 2 }) as usize;
    let family = |size: Size| Family {
        size,
        tower: args.tower.unwrap_or(if on_gpu { Tower::Full } else { Tower::Scaled }),
        sources: args.sources as usize,
        samples,
        new_tokens: args.new_tokens.unwrap_or(if on_gpu { 256 } else { 16 }) as usize,
        dtype: match args.dtype.as_str() {
            "f16" => Dtype::F16,
            "f32" => Dtype::F32,
            _ => Dtype::Bf16,
        },
    };
    let batch = args.batch_size.map_or(samples, |b| b as usize);
    if let Some(name) = &args.params {
        let size = Size::named(name).with_context(|| format!("--params {name}"))?;
        let family = family(size);
        enough_disk(&family, folder)?;
        memory::guard(&expected(&family, batch, chosen)?, args.memory.ignore_memory_plan)?;
        return Ok((family, batch));
    }
    let mut reasons = Vec::new();
    for size in SIZES {
        let family = family(size);
        let fits = || -> Result<()> {
            let threads = rayon::current_num_threads();
            if size.name == "8b" && !on_gpu && threads < THREADS_FOR_8B {
                bail!("{threads} threads of a CPU would take hours");
            }
            enough_disk(&family, folder)?;
            expected(&family, batch, chosen)?.check()
        };
        match fits() {
            Ok(()) => {
                reasons.iter().for_each(|r| eprintln!("note: {r}"));
                return Ok((family, batch));
            }
            Err(e) => reasons.push(format!("not {}: {e:#}", size.name)),
        }
    }
    bail!("no size fits this machine\n  {}", reasons.join("\n  "))
}

/// The plan from shapes alone, before a file is written.
fn expected(family: &Family, batch: usize, chosen: &Chosen) -> Result<MemoryPlan> {
    let mut machine = Machine::now(chosen);
    if let Some(host) = &mut machine.host {
        host.own += TOKENIZER_AND_DICTIONARY;
        host.free = host.free.saturating_sub(TOKENIZER_AND_DICTIONARY);
    }
    memory::plan(&family.workload(chosen, batch)?, &machine)
}

fn enough_disk(family: &Family, folder: &Path) -> Result<()> {
    let need = family.disk_bytes()? + BESIDE_WEIGHTS;
    match free_disk(folder) {
        Some(free) if free < need => bail!(
            "{} of disk are missing in {}: the rehearsal writes {}, {} are free; choose another folder with --dir",
            words(need - free),
            folder.display(),
            words(need),
            words(free)
        ),
        _ => Ok(()),
    }
}

fn print_head(family: &Family, batch: usize, chosen: &Chosen, folder: &Folder) -> Result<()> {
    let config = family.config()?;
    let v = &config.vision;
    out!("{} on {}, {} threads", family.size.name, chosen.words, rayon::current_num_threads());
    out!(
        "{} parameters a language model; base and {} sources in {}, {} on disk in {}",
        family.parameters()?,
        family.sources,
        family.dtype.name(),
        words(family.disk_bytes()?),
        folder.path.display()
    );
    let tower = match family.tower {
        Tower::Full => "the published tower",
        Tower::Scaled => "a tower of smaller scale",
    };
    out!(
        "{tower}: {} layers of {}, {} positions an image; {} samples, {batch} at a time, {} new tokens",
        v.num_hidden_layers,
        v.hidden_size,
        config.image_tokens(),
        family.samples,
        family.new_tokens
    );
    Ok(())
}

fn print(report: &Report) {
    let r = &report.rates;
    out!(
        "\nrates: copy {} (where the model runs {}), matrix product {:.1} GFLOP/s in {}, disk {} written, {} read, a second\n",
        words(r.host_copy as u64),
        words(r.device_copy as u64),
        r.matmul / 1e9,
        report.compute,
        words(r.disk_write as u64),
        words(r.disk_read as u64)
    );
    let or_none = |n: u64| if n == 0 { String::new() } else { words(n) };
    let row = |s: &Stage| {
        let ratio = if s.floor > 0.0 { format!("{:.1}×", s.seconds / s.floor) } else { String::new() };
        let floor = if s.floor > 0.0 { format!("{:.2} s {}", s.floor, s.floor_of) } else { String::new() };
        vec![
            s.name.to_string(),
            format!("{:.2} s", s.seconds),
            format!("{:.2} s", s.processor_seconds),
            floor,
            ratio,
            or_none(s.read),
            or_none(s.written),
            or_none(s.disk_read),
            if s.operations > 0.0 { format!("{:.2} T", s.operations / 1e12) } else { String::new() },
            words(s.peak),
            s.planned.map_or_else(String::new, words),
            s.device_peak.map_or_else(String::new, words),
            s.device_planned.map_or_else(String::new, words),
        ]
    };
    let head = [
        "stage",
        "time",
        "processors",
        "floor",
        "ratio",
        "reads",
        "writes",
        "from disk",
        "operations",
        "peak",
        "planned",
        "GPU peak",
        "planned",
    ];
    // On a CPU there is nothing to say of a GPU.
    let columns = if report.device_peak.is_some() { head.len() } else { head.len() - 2 };
    let rows = report.stages.iter().map(|s| row(s)[..columns].to_vec());
    table::print(&head[..columns], &rows.collect::<Vec<_>>());
    let against = |what: &str, peak: u64, planned: u64| {
        let off = 100.0 * (peak as f64 / planned.max(1) as f64 - 1.0);
        out!("highest peak of {what} {}, planned {} ({off:+.1} %)", words(peak), words(planned));
    };
    out!("");
    against("own memory", report.peak, report.planned);
    if let (Some(peak), Some(planned)) = (report.device_peak, report.device_planned) {
        against("the GPU's memory", peak, planned);
    }
    out!("{} samples of {} positions, {} tokens written", report.samples, report.prompt, report.tokens);
    report.plan.notes.iter().for_each(|n| out!("{n}"));
}
