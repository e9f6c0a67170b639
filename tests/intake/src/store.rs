//! Records of a store, as `fsck`, a command that looks, and a coordinator that resumes read them.
//!
//! The bytes are lines, each a record: its name as `fsck` prints it, a blank, its JSON. The record gets the key and the
//! checksum that belong to the name, since one of a damaged disk is refused by that alone, and since a copy of a run
//! comes over a wire, from whoever answered. A line that begins with `!` gets no checksum; one that begins with `@` is a
//! tree, a key in hexadecimal digits and a value, each as it is.

use crate::scratch::Scratch;
use coordinator::fsck;
use coordinator::state::State;
use coordinator::store::Store;
use coordinator::store::copy::{Draft, Raw};
use coordinator::store::key::Place;
use coordinator::store::record::seal;
use std::cell::RefCell;

/// So many records, and no more, are put into a store at once.
const RECORDS: usize = 64;
/// After so many inputs a store is made anew: what was removed from it stays in its log for a while.
const USES: u32 = 2000;

/// A store that is emptied before each input.
struct Held {
    folder: Scratch,
    draft: Draft,
    keys: Vec<(Place, Vec<u8>)>,
    uses: u32,
}

impl Held {
    fn new() -> Held {
        let folder = Scratch::new();
        let draft = Draft::new(folder.path()).expect("an empty store");
        Held { folder, draft, keys: Vec::new(), uses: 0 }
    }

    fn fill(&mut self, records: Vec<Raw>) {
        let gone = self.keys.drain(..).map(|(place, key)| Raw { place, key, value: None });
        self.draft.write(gone.collect()).expect("a store in memory");
        self.keys = records.iter().map(|r| (r.place, r.key.clone())).collect();
        self.draft.write(records).expect("a store in memory");
        self.uses += 1;
    }
}

thread_local! {
    static STORE: RefCell<Option<Held>> = const { RefCell::new(None) };
}

/// Whatever the records are, there is a report; a store without a finding is resumed, and its journal leads to what it holds.
pub fn store_records(bytes: &[u8]) {
    let records: Vec<Raw> =
        bytes.split(|b| *b == b'\n').take(RECORDS).filter(|l| l.len() < 1 << 16).filter_map(record).collect();
    STORE.with_borrow_mut(|held| {
        held.take_if(|held| held.uses >= USES);
        let held = held.get_or_insert_with(Held::new);
        held.fill(records);
        let store = held.draft.store();
        drop(fsck::salvage(store, |line| {
            assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
            Ok(())
        }));
        let sound = match fsck::check(held.folder.path(), store) {
            Ok(report) => report.is_whole(),
            Err(e) => return drop(e.to_string()),
        };
        let durable = match store.load() {
            Ok(Some(durable)) => durable,
            Ok(None) => return,
            Err(e) => return drop(e.to_string()),
        };
        match State::restore(durable) {
            Ok(state) => drop(state.durable()),
            Err(e) => assert!(!sound, "no finding, and it cannot be resumed: {e}"),
        }
    });
}

/// A line as a record.
fn record(line: &[u8]) -> Option<Raw> {
    if let Some(raw) = line.strip_prefix(b"@") {
        let mut parts = raw.splitn(3, |b| *b == b' ');
        let place = Place::named(std::str::from_utf8(parts.next()?).ok()?)?;
        let key = unhex(parts.next()?)?;
        return (!key.is_empty()).then(|| Raw {
            place,
            key,
            value: Some(parts.next().unwrap_or(&[]).to_vec()),
        });
    }
    let at = line.iter().position(|b| *b == b' ')?;
    let (name, value) = (std::str::from_utf8(&line[..at]).ok()?, &line[at + 1..]);
    let (name, sealed) = name.strip_prefix('!').map_or((name, true), |name| (name, false));
    let (place, key) = place(name)?;
    let value = if sealed { seal(name, value) } else { value.to_vec() };
    Some(Raw { place, key, value: Some(value) })
}

/// Where the record of that name stands.
fn place(name: &str) -> Option<(Place, Vec<u8>)> {
    let mut parts = name.split('/');
    let (kind, id) = (parts.next()?, parts.next());
    let position = parts.next();
    let place = match kind {
        "candidate" => Place::Candidates,
        "evaluation" => Place::Evaluations,
        "sample" => Place::Samples,
        "parts" => Place::Parts,
        "journal" => Place::Journal,
        "audit" => Place::Audits,
        single => return (!single.is_empty()).then(|| (Place::Run, single.as_bytes().to_vec())),
    };
    let mut key = id?.parse::<u64>().ok()?.to_be_bytes().to_vec();
    if let Some(position) = position {
        key.extend(position.parse::<u32>().ok()?.to_be_bytes());
    }
    Some((place, key))
}

fn unhex(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |c: u8| char::from(c).to_digit(16).map(|d| d as u8);
    digits.chunks(2).map(|p| Some(digit(p[0])? * 16 + digit(*p.get(1)?)?)).collect()
}
