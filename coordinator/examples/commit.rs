//! What a commit costs on a disk, piece by piece.
//!
//!     cargo run --release -p coordinator --example commit [-- FOLDER COMMITS]
//!
//! Writes a sample and the counters so many times: in sled's transaction alone, with the log brought to the disk, with a
//! witness that is written, with one that is also brought to the disk each time; and as the store does it. The ways take
//! turns in rounds, so that a disk that is busy with other things slows all of them. FOLDER is to be on the disk in question.

#![forbid(unsafe_code)]

use common::evaluation::{SampleResult, Stop};
use common::id::CandidateId;
use coordinator::state::{Counters, Record};
use coordinator::store::{Store, sled::Sled};
use sled::Transactional;
use sled::transaction::ConflictableTransactionError;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const ROUND: u64 = 50;

/// sled alone, with what is done to its commits.
struct Bare {
    trees: (sled::Tree, sled::Tree),
    log: File,
    witness: File,
    to_disk: bool,
    witnessed: bool,
    witness_to_disk: bool,
}

impl Bare {
    fn new(folder: &Path, to_disk: bool, witnessed: bool, witness_to_disk: bool) -> Bare {
        std::fs::create_dir_all(folder).expect("a folder that can be written");
        let config = sled::Config::new().path(folder.join("store")).mode(sled::Mode::HighThroughput);
        let db = config.flush_every_ms(None).open().expect("opened");
        let trees = (db.open_tree("samples").expect("opened"), db.open_tree("run").expect("opened"));
        let log = File::open(folder.join("store/db")).expect("there");
        let witness = File::create(folder.join("committed")).expect("made");
        Bare { trees, log, witness, to_disk, witnessed, witness_to_disk }
    }

    fn commit(&mut self, n: u64, sample: &[u8], counters: &[u8]) {
        let trees = (&self.trees.0, &self.trees.1);
        let done = trees.transaction(|(samples, run)| {
            samples.insert(&n.to_be_bytes(), sample)?;
            run.insert(b"counters", counters)?;
            run.flush();
            Ok::<(), ConflictableTransactionError<()>>(())
        });
        done.expect("written");
        if self.to_disk {
            self.log.sync_data().expect("flushed");
        }
        if self.witnessed {
            self.witness.seek(SeekFrom::Start(n % 2 * 54)).expect("there");
            self.witness.write_all(&[b'0'; 54]).expect("written");
        }
        if self.witness_to_disk {
            self.witness.sync_data().expect("flushed");
        }
    }
}

fn show(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let ms = |d: Duration| d.as_secs_f64() * 1e3;
    let mean = times.iter().sum::<Duration>() / times.len() as u32;
    let (middle, high) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!("{name:<44} mean {:.3} ms, p50 {:.3}, p99 {:.3}", ms(mean), ms(middle), ms(high));
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().unwrap_or_else(|| "target/commit".into()));
    let commits: u64 = arguments.next().and_then(|a| a.parse().ok()).unwrap_or(1000);
    let row = SampleResult {
        sample: "s0".into(),
        text: "両側肺野に明らかな浸潤影を認めない。心拡大なし。胸水なし。".into(),
        tokens: 20,
        stop: Stop::End,
        scores: [("rouge_l".to_string(), 0.5)].into(),
        kept: None,
    };
    let sample = serde_json::to_vec(&row).expect("JSON");
    let counters = serde_json::to_vec(&Counters::default()).expect("JSON");
    let ways = [
        ("sled's transaction, flushed by sled", false, false, false),
        ("and the log brought to the disk", true, false, false),
        ("and a witness written", true, true, false),
        ("and the witness brought to the disk", true, true, true),
    ];
    let bare = |(i, way): (usize, &(&str, bool, bool, bool))| {
        Bare::new(&folder.join(i.to_string()), way.1, way.2, way.3)
    };
    let mut bares: Vec<Bare> = ways.iter().enumerate().map(bare).collect();
    let mut store = Sled::open_or_create(&folder.join("whole")).expect("a folder that can be written");
    let mut times = vec![Vec::new(); ways.len() + 1];
    for round in 0..commits.div_ceil(ROUND) {
        for n in (round * ROUND..).take(ROUND as usize) {
            let records =
                [Record::Sample(CandidateId(n + 1), 0, row.clone()), Record::Counters(Counters::default())];
            let begun = Instant::now();
            store.commit(&records).expect("written");
            times[ways.len()].push(begun.elapsed());
        }
        for (bare, times) in bares.iter_mut().zip(&mut times) {
            for n in (round * ROUND..).take(ROUND as usize) {
                let begun = Instant::now();
                bare.commit(n, &sample, &counters);
                times.push(begun.elapsed());
            }
        }
    }
    let names = ways.iter().map(|w| w.0).chain(["the store"]);
    names.zip(times).for_each(|(name, times)| show(name, times));
}
