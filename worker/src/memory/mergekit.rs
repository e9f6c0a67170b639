//! The plan of a merge by a mergekit configuration.
//!
//! One tensor is made at a time, so the largest sum over all tensors counts ([`Needs`]). Ranking for trims holds as many
//! task vectors as threads work and a gigabyte holds, which is the one thing that can be had smaller: by fewer threads.

use super::plan::{Item, MemoryPlan, Phase, Place, summed};
use super::{Machine, words};
use crate::merge::mergekit::{Merge, Needs, Result};

/// What the allocator keeps of freed memory, a thread and once more. Tensors of real models are pieces of memory of their own,
/// which go back at once: 0 to 3 MB were measured at two threads.
const KEPT_BYTES: u64 = 2 << 20;

/// What it takes to merge by a configuration.
///
/// # Errors
/// None for a merge that was planned: its tensors are there.
pub fn for_mergekit(merge: &Merge) -> Result<MemoryPlan> {
    plan(merge, &Machine::of_host())
}

pub(super) fn plan(merge: &Merge, machine: &Machine) -> Result<MemoryPlan> {
    let mut plan = with_threads(merge, machine)?;
    if plan.missing() > 0 {
        plan.advice = advice(merge, machine)?;
    }
    Ok(plan)
}

fn with_threads(merge: &Merge, machine: &Machine) -> Result<MemoryPlan> {
    let needs = merge.needs(machine.threads)?;
    let mut items = Vec::new();
    let mut add = |what: String, bytes: u64, place: Place| {
        items.push(Item { what, bytes, place, phases: vec![Phase::Merge] });
    };
    let own = machine.host.as_ref().map_or(0, |h| h.own);
    add("program, vocabularies (as measured)".into(), own, Place::Host);
    let kept = (machine.threads as u64 + 1) * KEPT_BYTES;
    add("kept by the allocator".into(), kept, Place::Host);
    if needs.bytes() >= needs.tokenizer {
        let Needs { tensor, inputs, method, result, .. } = needs;
        add(format!("inputs of {tensor} in the result's order"), inputs, Place::Host);
        add(format!("masks and ranking for {tensor}"), method, Place::Host);
        add("pieces of the result, in the making and being written".into(), result, Place::Host);
    } else {
        add("tokenizer's files, written anew".into(), needs.tokenizer, Place::Host);
    }
    let reads = merge.reads()?;
    for ((name, _), bytes) in merge.models().zip(&reads) {
        add(format!("weights of {name}"), *bytes, Place::Mapped);
    }
    items.retain(|i| i.bytes > 0);
    let mut plan = summed(items, machine, 0);
    plan.peaks.retain(|p| p.phase == Phase::Merge);
    plan.notes.push(format!(
        "models are mapped: {} that the merge reads, tensor by tensor",
        words(reads.iter().sum())
    ));
    Ok(plan)
}

/// What would fit.
fn advice(merge: &Merge, machine: &Machine) -> Result<Vec<String>> {
    let with = |threads| with_threads(merge, &Machine { threads, ..machine.clone() });
    for threads in (1..machine.threads).rev() {
        if with(threads)?.missing() == 0 {
            return Ok(vec![format!("--threads {threads} fits: the same numbers, slower")]);
        }
    }
    let least = with(1)?;
    Ok(vec![format!(
        "even one thread is short of {}; use a machine with more memory, or free some",
        words(least.missing())
    )])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::HostMemory;
    use crate::merge::mergekit::Options;
    use std::path::Path;

    fn machine(free: u64, threads: usize) -> Machine {
        let bound = "memory of the machine".into();
        let host = HostMemory { own: 100 << 20, free, total: 2 * free, bound, page_cache: free };
        Machine { host: Some(host), gpu: None, threads }
    }

    fn ties() -> Merge {
        let family = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/family");
        let text = "merge_method: ties\nbase_model: base\nparameters: {weight: 1.0, density: 0.5}\n\
                    models: [{model: biomedical}, {model: japanese}, {model: medical}]";
        let config = common::mergekit::parse("merge.yml", text).expect("a sound configuration").config;
        Merge::plan(config, Options::default(), |model| Ok(family.join(&model.path))).expect("one family")
    }

    #[test]
    fn a_merge_is_planned_and_what_is_missing_is_named() {
        let merge = ties();
        let roomy = plan(&merge, &machine(8 << 30, 4)).expect("planned");
        roomy.check().expect("fits");
        let need = roomy.host_peak();
        assert_eq!(roomy.host.as_ref().map(|h| h.need), Some(need));
        let mapped: Vec<&str> =
            roomy.items.iter().filter(|i| i.place == Place::Mapped).map(|i| i.what.as_str()).collect();
        assert_eq!(mapped.len(), 4, "{mapped:?}");
        // A byte less than is needed beyond what the process holds.
        let tight = plan(&merge, &machine(need - (100 << 20) - 1, 4)).expect("planned");
        assert_eq!((tight.missing(), tight.peaks.len()), (1, 1));
        let message = tight.check().expect_err("a byte is missing").to_string();
        assert!(
            message.contains("host memory are missing") && message.contains("--threads 3 fits"),
            "{message}"
        );
        let hopeless = plan(&merge, &machine(1 << 20, 4)).expect("planned");
        assert!(hopeless.advice[0].starts_with("even one thread is short of"), "{:?}", hopeless.advice);
    }

    #[test]
    fn threads_decide_how_many_task_vectors_are_sorted_at_once() {
        let merge = ties();
        let sorting = |threads| merge.needs(threads).expect("planned").method;
        let (one, two, three) = (sorting(1), sorting(2), sorting(3));
        assert_eq!((two - one, three - one, sorting(64)), (three - two, 2 * (two - one), three));
    }
}
