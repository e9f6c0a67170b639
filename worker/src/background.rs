//! Work beside what is waited for.

/// Runs `work` in a pool of threads of its own, as many as others have, that give way to others: where the system knows priorities of
/// threads (Linux), theirs is lower. Not the lowest, with which they would come to nothing on a node that is busy with
/// somebody else's work; and it cannot be raised again when this is all that is waited for.
pub fn beside_others<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    let threads = rayon::current_num_threads();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|i| format!("beside-{i}"))
        .start_handler(|_| give_way())
        .build();
    match pool {
        Ok(pool) => pool.install(work),
        // A system that has no more threads has these.
        Err(_) => work(),
    }
}

/// A third of what a thread gets that does not give way.
#[cfg(target_os = "linux")]
const GIVES_WAY: i32 = 5;

fn give_way() {
    // Elsewhere it would be the whole process that gives way.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(GIVES_WAY);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_threads_of_the_pool_give_way() {
        let before = rustix::process::getpriority_process(None).unwrap();
        let (within, sum) = beside_others(|| {
            use rayon::prelude::*;
            (rustix::process::getpriority_process(None).unwrap(), (0..100).into_par_iter().sum::<u32>())
        });
        assert_eq!(sum, 4950);
        if cfg!(target_os = "linux") {
            assert!(within > before || within == 19);
        }
        assert_eq!(rustix::process::getpriority_process(None).unwrap(), before);
    }
}
