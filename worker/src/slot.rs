//! Slots: threads that own an evaluator each and take one job at a time.
//!
//! A panic inside an evaluation ends that evaluation alone: it becomes a failed attempt with its place (never its
//! message, which may quote a report), and the slot makes itself a fresh evaluator, since the old one may be half changed.

use crate::evaluator::{Control, EvaluateError, Evaluator};
use common::evaluation::Timings;
use common::panics;
use common::recipe::Recipe;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

/// A candidate to be evaluated.
#[derive(Debug)]
pub struct Job {
    /// Number of the lease, handed back with the result.
    pub lease: u64,
    /// What to merge.
    pub recipe: Recipe,
    /// Progress and cancellation.
    pub control: Arc<Control>,
}

/// A job's end.
#[derive(Debug)]
pub struct Done {
    /// Number of the job's lease.
    pub lease: u64,
    /// What it took; its samples went to the job's control.
    pub result: Result<Timings, EvaluateError>,
}

/// Makes the evaluator of one slot.
pub type MakeEvaluator = dyn Fn() -> anyhow::Result<Box<dyn Evaluator>> + Send + Sync;

/// Where jobs are done. What is done comes back as [`Done`] over a channel that its maker was given.
pub trait Workplace: Sync {
    /// Number of jobs that can run at once.
    fn count(&self) -> usize;

    /// Queues a job; false when nobody is there to do it.
    fn submit(&self, job: Job) -> bool;
}

/// The threads of a worker's slots. Dropping it lets each thread end after its job.
#[derive(Debug)]
pub struct Slots {
    jobs: mpsc::Sender<Job>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Slots {
    /// Starts `count` threads. The first evaluator is made by the caller, so that a worker which cannot load
    /// its models says so before it takes work.
    pub fn start(
        count: usize,
        first: Box<dyn Evaluator>,
        make: Arc<MakeEvaluator>,
        done: UnboundedSender<Done>,
    ) -> std::io::Result<Slots> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        let mut first = Some(first);
        let mut threads = Vec::with_capacity(count);
        for slot in 0..count {
            let (queue, make, done) = (queue.clone(), make.clone(), done.clone());
            let mut evaluator = first.take();
            threads.push(std::thread::Builder::new().name(format!("slot-{slot}")).spawn(move || {
                loop {
                    // The lock is held while waiting: the others wait for the lock instead, which is the same.
                    let Ok(job) = queue.lock().unwrap_or_else(|e| e.into_inner()).recv() else { return };
                    let result = run_job(&mut evaluator, &*make, &job);
                    if done.send(Done { lease: job.lease, result }).is_err() {
                        return;
                    }
                }
            })?);
        }
        Ok(Slots { jobs, threads })
    }

    /// Ends the threads, and waits so long for those that are at work: commands and folders of theirs should not outlive
    /// the process. Call it when every job was cancelled or is done.
    pub fn end(self, patience: Duration) {
        drop(self.jobs);
        let began = Instant::now();
        while self.threads.iter().any(|t| !t.is_finished()) && began.elapsed() < patience {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Workplace for Slots {
    fn count(&self) -> usize {
        self.threads.len()
    }

    fn submit(&self, job: Job) -> bool {
        self.jobs.send(job).is_ok()
    }
}

fn run_job(
    evaluator: &mut Option<Box<dyn Evaluator>>,
    make: &MakeEvaluator,
    job: &Job,
) -> Result<Timings, EvaluateError> {
    if job.control.is_cancelled() {
        return Err(EvaluateError::Cancelled);
    }
    let attempt = catch_unwind(AssertUnwindSafe(|| {
        if evaluator.is_none() {
            let made = make().map_err(|e| EvaluateError::Failed(format!("cannot prepare a slot: {e:#}")))?;
            *evaluator = Some(made);
        }
        evaluator.as_mut().expect("made just above").evaluate(&job.recipe, &job.control)
    }));
    attempt.unwrap_or_else(|_| {
        *evaluator = None;
        Err(EvaluateError::Failed(match panics::place() {
            Some(place) => format!("the evaluation panicked at {place}"),
            // It was another thread's, whose place the log has.
            None => "the evaluation panicked; where is in this worker's log".into(),
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scripted;

    impl Evaluator for Scripted {
        fn evaluate(&mut self, recipe: &Recipe, _: &Control) -> Result<Timings, EvaluateError> {
            match recipe.mask_seed {
                0 => panic!("右胸水を認める"),
                1 => Err(EvaluateError::Failed("one".into())),
                _ => Ok(Timings::default()),
            }
        }
    }

    fn job(lease: u64, mask_seed: u64) -> Job {
        use common::recipe::{Arithmetic, Convention, FORMAT, Mask, ModelRef, Vocabulary};
        let model = ModelRef::new("base", "/");
        let recipe = Recipe {
            format: FORMAT,
            convention: Convention::Paper,
            base: model.clone(),
            vlm: model,
            sources: Vec::new(),
            scale: 1.0.into(),
            mask: Mask::Shared,
            mask_seed,
            arithmetic: Arithmetic::Float32,
            vocabulary: Vocabulary::Refuse,
        };
        Job { lease, recipe, control: Arc::default() }
    }

    #[test]
    fn a_panic_is_one_failed_attempt_and_the_slot_goes_on() {
        let (sender, mut done) = tokio::sync::mpsc::unbounded_channel();
        let make: Arc<MakeEvaluator> = Arc::new(|| Ok(Box::new(Scripted)));
        let slots = Slots::start(1, Box::new(Scripted), make, sender).unwrap();
        for (lease, seed) in [(10, 0), (11, 1), (12, 2)] {
            assert!(slots.submit(job(lease, seed)));
        }
        let first = done.blocking_recv().unwrap();
        assert_eq!(first.lease, 10);
        let message = first.result.unwrap_err().to_string();
        assert!(message.contains("panicked") && !message.contains("右胸水"), "{message}");
        assert!(matches!(done.blocking_recv().unwrap().result, Err(EvaluateError::Failed(_))));
        assert!(done.blocking_recv().unwrap().result.is_ok());
    }

    #[test]
    fn a_cancelled_job_is_not_begun() {
        let (sender, mut done) = tokio::sync::mpsc::unbounded_channel();
        let make: Arc<MakeEvaluator> = Arc::new(|| Ok(Box::new(Scripted)));
        let slots = Slots::start(1, Box::new(Scripted), make, sender).unwrap();
        let job = job(1, 0);
        job.control.cancel();
        slots.submit(job);
        assert!(matches!(done.blocking_recv().unwrap().result, Err(EvaluateError::Cancelled)));
    }
}
