//! The coordinator is killed, again and again, while workers go on; afterwards nothing that was acknowledged is missing
//! and the search has found what it would have found.
//!
//! | test | what dies when |
//! |---|---|
//! | `killed_at_random_moments` | `jradievo resume`, by SIGKILL, a random number of answers and microseconds after it was begun |
//! | `killed_at_named_points` | the same service in this program, between one instruction and the next: before a commit, between commit and answer |
//! | `killed_after_the_answer` | `jradievo resume`, as soon as a worker has an acknowledgement in its hands |
//! | `a_full_disk_stops_it_clearly_and_room_lets_it_go_on` | nothing: its files may not grow any further |
//! | `copies_of_a_live_run_are_consistent_and_go_on` | nothing: `jradievo backup` copies meanwhile |
//! | `a_copy_that_is_killed_is_none_and_the_next_is_made_in_its_place` | `jradievo backup`, as soon as the copy's log would be so long |
//! | `cut_stores_are_whole_or_refused` | the newest files of a store are cut, zeroed or removed, as after a torn write |
//!
//! `CRASH_KILLS=400 cargo test --release -p coordinator --test crash -- --nocapture` kills so often; `CRASH_SEED` chooses other moments.

#![forbid(unsafe_code)]

mod child;
mod model;
#[path = "../../examples/simulated/mod.rs"]
mod simulated;
mod torn;

use child::{Child, Point};
use coordinator::state::State;
use coordinator::store::Store;
use coordinator::store::sled::Sled;
use model::{Killer, Model};
use std::path::Path;
use std::time::Duration;

/// Kills in all, where nothing else is wished for.
const KILLS: u64 = 24;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |v| v.parse().expect("a number"))
}

/// Numbers that look like chance (SplitMix64, as in the search's own streams' seeds).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % bound
    }
}

/// Begins runs and kills their coordinators until there were so many kills; each run is then led to its end. `begin`
/// starts a coordinator and says when it is to die.
async fn murder(kills: u64, mut begin: impl FnMut(&Path, &Killer) -> Child) -> (u64, u64) {
    let (mut killed, mut runs) = (0, 0);
    while killed < kills {
        let dir = tempfile::tempdir().unwrap();
        let model = Model::begin(dir.path());
        let workers = model.workers(2);
        runs += 1;
        let mut killer = model.killer();
        while !model.is_finished() && killed < kills {
            killer.rearm();
            let mut child = begin(dir.path(), &killer);
            // Whatever comes first: it is killed, or done.
            let was_killed = child.serve_until_dead(&model, &killer).await;
            drop(child);
            model.compare(dir.path());
            if !was_killed {
                break;
            }
            killed += 1;
        }
        if !model.is_finished() {
            killer.disarm();
            Child::product(dir.path()).serve_until_dead(&model, &killer).await;
        }
        workers.ended().await;
        model.compare(dir.path());
        model.compare_end(dir.path());
    }
    (killed, runs)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_moments() {
    let mut chance = Chance(number("CRASH_SEED", 1));
    let (killed, runs) = murder(number("CRASH_KILLS", KILLS), |folder, killer| {
        match chance.below(8) {
            // While it starts.
            0 => killer.after_start(Duration::from_micros(chance.below(60_000))),
            _ => killer.after_answers(1 + chance.below(10), Duration::from_micros(chance.below(6_000))),
        }
        Child::product(folder)
    })
    .await;
    println!("random moments: {killed} kills in {runs} runs, nothing lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_the_answer() {
    let mut chance = Chance(number("CRASH_SEED", 1) + 1);
    let (killed, runs) = murder(number("CRASH_KILLS", KILLS) / 2, |folder, killer| {
        killer.after_acknowledgements(1 + chance.below(4));
        Child::product(folder)
    })
    .await;
    println!("after an acknowledgement: {killed} kills in {runs} runs, nothing lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_named_points() {
    let mut chance = Chance(number("CRASH_SEED", 1) + 2);
    for point in [Point::BeforeCommit, Point::BetweenCommitAndAnswer] {
        let (killed, runs) = murder(number("CRASH_KILLS", KILLS) / 2, |folder, killer| {
            killer.disarm();
            Child::dying(folder, point, 1 + chance.below(12))
        })
        .await;
        println!("{point:?}: {killed} kills in {runs} runs, nothing lost");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_stores_are_whole_or_refused() {
    let mut chance = Chance(number("CRASH_SEED", 1) + 3);
    let dir = tempfile::tempdir().unwrap();
    let model = Model::begin(dir.path());
    let workers = model.workers(2);
    let killer = model.killer();
    killer.after_answers(40, Duration::from_micros(500));
    Child::product(dir.path()).serve_until_dead(&model, &killer).await;
    // As it was left: whoever opens it writes a snapshot, and with one every cut before it is noticed by sled.
    let left = tempfile::tempdir().unwrap();
    torn::copy(dir.path(), left.path());
    model.compare(dir.path());
    let seen = torn::harm(&model, left.path(), number("CRASH_KILLS", KILLS) * 4, &mut chance);
    println!("{seen}");
    killer.disarm();
    Child::product(dir.path()).serve_until_dead(&model, &killer).await;
    workers.ended().await;
    model.compare_end(dir.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_it_clearly_and_room_lets_it_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let model = Model::begin(dir.path());
    let workers = model.workers(2);
    let killer = model.killer();
    let log = dir.path().join("store/db");
    let mut stops = 0;
    while !model.is_finished() {
        // Room for part of a log's segment, so that it is full within a commit.
        let room = log.metadata().unwrap().len() + 40_000;
        let (status, told) = Child::confined(dir.path(), room).serve(&model, &killer).await;
        if status.success() {
            break;
        }
        assert_eq!(status.code(), Some(5), "{told}");
        assert!(told.contains("the disk is full") && told.contains("make room"), "{told}");
        stops += 1;
        model.compare(dir.path());
        // Room was made: a few results, by one that is killed then.
        killer.after_answers(12, Duration::ZERO);
        Child::product(dir.path()).serve_until_dead(&model, &killer).await;
        killer.disarm();
    }
    workers.ended().await;
    model.compare_end(dir.path());
    assert!(stops > 0);
    println!("a full disk: {stops} stops, nothing lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_of_a_live_run_are_consistent_and_go_on() {
    let (dir, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let model = Model::begin_paced(dir.path());
    let workers = model.workers(2);
    let killer = model.killer();
    killer.disarm();
    let mut child = Child::product(dir.path());
    let serving = child.serve_until_dead(&model, &killer);
    let copying = async {
        let mut made = Vec::new();
        model.is_served().await;
        while !model.is_finished() {
            // Workers go on for a while, whether the copy is made meanwhile or not.
            model.let_go_on(8);
            let (promised, to) = (model.promised(), copies.path().join(made.len().to_string()));
            match child::backup(dir.path(), &to).await {
                Ok(()) => made.push((to, promised)),
                // The coordinator ended meanwhile, as it does when the run is over.
                Err(e) => assert!(model.is_finished(), "{e}"),
            }
        }
        model.let_go_on(1000);
        made
    };
    let (killed, made) = tokio::join!(serving, copying);
    workers.ended().await;
    assert!(!killed && !made.is_empty());
    model.compare_end(dir.path());
    let mut live = 0;
    for (folder, promised) in &made {
        let store = Sled::open(folder).unwrap();
        model.agree(promised, &store).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        live += usize::from(State::restore(store.load().unwrap().unwrap()).unwrap().end().is_none());
    }
    assert!(live > 0);
    // The last from before the end leads to the same end.
    let (folder, _) = &made[live - 1];
    let again = model.again();
    let workers = again.workers(2);
    Child::product(folder).serve_until_dead(&again, &again.killer()).await;
    workers.ended().await;
    again.compare_end(folder);
    println!("copies: {} of a live run, {live} of them before its end, each sound", made.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_killed_is_none_and_the_next_is_made_in_its_place() {
    let (dir, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let model = Model::begin_paced(dir.path());
    let workers = model.workers(2);
    let killer = model.killer();
    killer.disarm();
    let mut child = Child::product(dir.path());
    let serving = child.serve_until_dead(&model, &killer);
    let copying = async {
        model.is_served().await;
        model.let_go_on(12);
        let whole = copies.path().join("whole");
        child::backup(dir.path(), &whole).await.unwrap();
        let length = whole.join("store/db").metadata().unwrap().len();
        let to = copies.path().join("to");
        for share in [1, 2, 3, 4] {
            // In the end within the last kibibytes of the log.
            child::backup_killed(dir.path(), &to, (length * share / 4).saturating_sub(2048)).await;
            let left: Vec<_> = to.read_dir().unwrap().map(|e| e.unwrap().file_name()).collect();
            assert_eq!(left, [".copying"], "{share} of 4");
            // Nobody takes it for a run: neither who opens it nor who goes on.
            assert!(Sled::open(&to).is_err(), "{share} of 4");
            assert_eq!(child::looked_at(&to).await, Some(3), "{share} of 4");
        }
        child::backup(dir.path(), &to).await.unwrap();
        model.let_go_on(1000);
        to
    };
    let (killed, made) = tokio::join!(serving, copying);
    workers.ended().await;
    assert!(!killed && !made.join(".copying").exists());
    let store = Sled::open(&made).unwrap();
    let report = coordinator::fsck::check(&made, &store).unwrap();
    assert!(report.is_sound(), "{:?} {:?}", report.findings, report.older);
    model.compare_end(dir.path());
}

/// Not a test: what [`Child::dying`] runs. Does nothing unless it is told to.
#[test]
fn coordinator_that_dies() {
    child::die_as_told();
}
