//! What would make a workload fit: fewer slots, smaller batches, another device.

use super::plan::without_advice;
use super::{Machine, Workload, words};
use anyhow::Result;
use candle_core::DType;

/// What would fit, each found by planning again.
pub(super) fn advice(work: &Workload, machine: &Machine) -> Result<Vec<String>> {
    let fits = |work: &Workload| Ok::<bool, anyhow::Error>(without_advice(work, machine)?.missing() == 0);
    let mut found = Vec::new();
    let mut one = work.clone();
    one.slots = 1;
    if work.slots > 1 {
        let mut slots = work.slots;
        while slots > 1 {
            slots -= 1;
            if fits(&Workload { slots, ..work.clone() })? {
                found.push(format!("--slots {slots} fits"));
                return Ok(found);
            }
        }
        found.push("even one slot does not fit".into());
    }
    // The need falls with the batch, so the largest that fits is found by halving.
    let with = |batch: usize| {
        let mut work = one.clone();
        work.options.batch_size = batch;
        work
    };
    let (mut low, mut high) = (0, work.options.batch_size.min(work.samples).max(1));
    while high - low > 1 {
        let middle = (low + high) / 2;
        if fits(&with(middle))? { low = middle } else { high = middle }
    }
    if low > 0 {
        let slots = if work.slots > 1 { " with --slots 1" } else { "" };
        found.push(format!(
            "generation.batch_size = {low} fits{slots}: the same reports, more passes over the weights"
        ));
        return Ok(found);
    }
    let least = without_advice(&with(1), machine)?;
    if machine.gpu.is_some() {
        let host = Machine { gpu: None, ..machine.clone() };
        let on_host = Workload { compute: DType::F32, ..one.clone() };
        if without_advice(&on_host, &host)?.missing() == 0 {
            found.push("--device cpu fits, far slower".into());
        }
    }
    found.push(format!(
        "even one sample at a time is short of {}; use a machine with more memory, free some, or smaller models",
        words(least.missing())
    ));
    Ok(found)
}
