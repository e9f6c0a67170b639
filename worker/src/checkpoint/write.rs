//! Writing a model folder, whole or not at all.
//!
//! Everything goes to a temporary folder beside the target, is flushed to the disk and then renamed, so a
//! reader sees either nothing or a complete model. Tensors are asked for one at a time in the order of the
//! files, so memory holds one tensor and the one before, which is being written; or a few pieces of them
//! ([`Writer::pieces`]). How bytes reach the disk: `sink.rs`. Deliberately absent: changing an existing model.

use super::aligned::{ALIGNED, Aligned};
use super::dtype::{Dtype, size_bytes};
use super::error::{Error, Result};
use super::sink::Sink;
use super::{Checkpoint, SAFETENSORS, SAFETENSORS_INDEX, beside, part};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, SyncSender};

/// The default bound on a shard's data, in bytes: 5 GB, as on the model hubs.
pub const SHARD_BYTES: u64 = 5_000_000_000;

/// A tensor to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Its name.
    pub name: String,
    /// Type of its elements.
    pub dtype: Dtype,
    /// Length of each axis, outermost first.
    pub shape: Vec<usize>,
}

/// A model folder in the making. Dropping it before [`Writer::finish`] leaves nothing behind.
#[derive(Debug)]
pub struct Writer {
    target: PathBuf,
    /// The temporary folder; gone once it has become the target.
    work: Option<PathBuf>,
}

impl Writer {
    /// Begins a model at `target`, whose parent must exist. What earlier processes left behind that were killed on the same
    /// target goes.
    ///
    /// # Errors
    /// [`Error::OutExists`] when something is there already (an empty folder is fine); [`Error::Io`].
    pub fn create(target: &Path) -> Result<Writer> {
        check_vacant(target)?;
        let absolute = std::path::absolute(target).map_err(Error::io("resolve", target))?;
        part::remove_stale(target)?;
        let work = part::folder(target)?;
        if work.exists() {
            fs::remove_dir_all(&work).map_err(Error::io("remove", &work))?;
        }
        fs::create_dir(&work).map_err(Error::io("create", &work))?;
        Ok(Writer { target: absolute, work: Some(work) })
    }

    /// Writes a small file, such as a model card. `name` may have folders before it, parted by `/`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn file(&self, name: &str, content: &[u8]) -> Result<()> {
        let path = self.folder().join(name);
        if let Some(parent) = path.parent().filter(|p| *p != self.folder()) {
            fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        }
        let mut file = File::create(&path).map_err(Error::io("create", &path))?;
        file.write_all(content).and_then(|()| file.sync_all()).map_err(Error::io("write", &path))
    }

    /// Copies every file of `model`'s folder that is not weights or about them: configuration, tokenizer,
    /// licence, code that loaders need. Subfolders and hidden files stay behind.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a link that leads out of the folder; [`Error::Io`].
    pub fn copy_beside(&self, model: &Checkpoint) -> Result<()> {
        let folder = model.folder();
        for item in fs::read_dir(folder).map_err(Error::io("list", folder))? {
            let item = item.map_err(Error::io("list", folder))?.file_name();
            let Some(name) = item.to_str().filter(|name| travels(name)) else { continue };
            if let Some(content) = beside::content(folder, name)? {
                self.file(name, &content)?;
            }
        }
        Ok(())
    }

    /// Writes the weights as safetensors: one `model.safetensors` when all fit into `shard_bytes`, else shards
    /// of at most that much data (a larger tensor has a shard of its own) and their index.
    /// `fill` is called once per tensor and appends its bytes, little endian and row-major, to an empty buffer.
    ///
    /// # Errors
    /// What `fill` returns; [`Error::Malformed`] when it gives another size than the spec's or a shape
    /// overflows; [`Error::Space`] before anything is written; [`Error::Io`].
    pub fn tensors<E: From<Error>>(
        &self,
        specs: &[Spec],
        shard_bytes: u64,
        mut fill: impl FnMut(&Spec, &mut Vec<u8>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        self.shards(specs, shard_bytes, None, |path, spec, bytes, sender| {
            let mut buffer = Vec::new();
            fill(spec, &mut buffer)?;
            check_bytes(path, spec, buffer.len(), bytes)?;
            Ok(sender.send(Part::Tensor(buffer)).is_ok())
        })
    }

    /// The same with tensors that come in pieces of at most `piece_bytes`, of which no more than [`PIECES`] are held.
    ///
    /// # Errors
    /// As [`Writer::tensors`].
    pub fn pieces<E: From<Error>>(
        &self,
        specs: &[Spec],
        shard_bytes: u64,
        piece_bytes: usize,
        mut fill: impl FnMut(&Spec, &mut Pieces<'_>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let largest =
            specs.iter().filter_map(|s| size_bytes(&s.shape, s.dtype)).map(|(_, bytes)| bytes).max();
        let (back, rooms) = mpsc::channel();
        for _ in 0..PIECES {
            // The receiver is here.
            let _ = back.send(Aligned::new(piece_bytes.min(largest.unwrap_or(0))));
        }
        self.shards(specs, shard_bytes, Some(back), |path, spec, bytes, sender| {
            let mut pieces = Pieces { sender, rooms: &rooms, bytes: 0, taken: true };
            fill(spec, &mut pieces)?;
            if pieces.taken {
                check_bytes(path, spec, pieces.bytes, bytes)?;
            }
            Ok(pieces.taken)
        })
    }

    /// Writes all shards. `make` makes one tensor of so many bytes of the file at a path and sends it, and says whether
    /// it was taken. Buffers go `back` once they are written, if that is wanted.
    fn shards<E: From<Error>>(
        &self,
        specs: &[Spec],
        shard_bytes: u64,
        back: Option<mpsc::Sender<Aligned>>,
        mut make: impl FnMut(&Path, &Spec, usize, &SyncSender<Part>) -> std::result::Result<bool, E>,
    ) -> std::result::Result<(), E> {
        // Of whole tensors two are held, and the two largest are seldom neighbours.
        let by_size = back.is_some();
        let shards = plan(&self.target, specs, shard_bytes, by_size)?;
        part::check_space(&self.target, specs)?;
        let names: Vec<String> = match shards.len() {
            1 => vec![SAFETENSORS.to_string()],
            n => (1..=n).map(|i| format!("model-{i:05}-of-{n:05}.safetensors")).collect(),
        };
        let mut weight_map = serde_json::Map::new();
        let mut total_bytes = 0u64;
        // A tensor, or a piece, is written while the next one is made; of pieces one may wait between them.
        let (sender, receiver) = mpsc::sync_channel(usize::from(back.is_some()));
        std::thread::scope(|scope| {
            let writing = scope.spawn(move || write_parts(receiver, back));
            let made = (|| {
                for (shard, name) in shards.iter().zip(&names) {
                    let path = self.folder().join(name);
                    let data = shard.iter().map(|(_, bytes)| bytes).sum::<usize>();
                    let header = header(shard, if data < STAGE_BYTES { 8 } else { ALIGNED });
                    let bytes = header.len() + data;
                    if sender.send(Part::Begin(path.clone(), bytes as u64, header)).is_err() {
                        return Ok(());
                    }
                    for (spec, bytes) in shard {
                        // Where it was not taken, whoever writes has failed, and says why.
                        if !make(&path, spec, *bytes, &sender)? {
                            return Ok(());
                        }
                        weight_map.insert(spec.name.clone(), Value::from(name.clone()));
                        total_bytes += *bytes as u64;
                    }
                }
                Ok(())
            })();
            drop(sender);
            let written = writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            made.and_then(|()| written.map_err(E::from))
        })?;
        if shards.len() > 1 {
            let index = json!({"metadata": {"total_size": total_bytes}, "weight_map": weight_map});
            let text = serde_json::to_vec_pretty(&index).expect("an index holds nothing JSON cannot say");
            self.file(SAFETENSORS_INDEX, &text)?;
        }
        Ok(())
    }

    /// Makes the folder appear at its target, with everything in it on the disk.
    ///
    /// # Errors
    /// [`Error::OutExists`] when the target has been filled meanwhile; [`Error::Io`].
    pub fn finish(mut self) -> Result<()> {
        let work = self.folder().to_path_buf();
        sync_folder(&work)?;
        check_vacant(&self.target)?;
        fs::rename(&work, &self.target).map_err(Error::io("rename to its place", &work))?;
        self.work = None;
        self.target.parent().map_or(Ok(()), sync_folder)
    }

    /// The temporary folder.
    pub(crate) fn folder(&self) -> &Path {
        self.work.as_deref().expect("the folder is there until finish consumes the writer")
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(work) = &self.work {
            // Nothing better can be done with a failure here; the name says that it is a remainder.
            let _ = fs::remove_dir_all(work);
        }
    }
}

fn check_vacant(target: &Path) -> Result<()> {
    let vacant = match fs::read_dir(target) {
        Ok(mut items) => items.next().is_none(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => true,
        Err(_) => false,
    };
    if vacant { Ok(()) } else { Err(Error::OutExists { path: target.into() }) }
}

fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(Error::io("flush", folder))
}

/// Whether a file of a model folder belongs to a model with other weights too. Weights, their indexes and
/// descriptions do not.
fn travels(name: &str) -> bool {
    const WEIGHTS: [&str; 9] = ["safetensors", "bin", "pt", "pth", "gguf", "h5", "msgpack", "onnx", "ot"];
    let extension = Path::new(name).extension().and_then(|e| e.to_str()).unwrap_or("");
    let about =
        name.ends_with(".index.json") || name.eq_ignore_ascii_case("README.md") || name == "recipe.json";
    !name.starts_with('.') && !WEIGHTS.contains(&extension) && !about
}

fn check_bytes(path: &Path, spec: &Spec, made: usize, wanted: usize) -> Result<()> {
    if made == wanted {
        return Ok(());
    }
    let fault = format!("{made} bytes were produced where {wanted} belong");
    Err(Error::malformed(path, &spec.name, fault))
}

pub use super::sink::STAGE_BYTES;

/// Pieces that are held: one in the making, one that is written, and one between them.
pub const PIECES: usize = 3;

/// Takes the pieces of a tensor.
pub struct Pieces<'a> {
    sender: &'a SyncSender<Part>,
    rooms: &'a mpsc::Receiver<Aligned>,
    bytes: usize,
    /// Whether all were taken so far. Whoever writes may have failed.
    taken: bool,
}

impl Pieces<'_> {
    /// Makes room for a piece of so many bytes, has `fill` write all of them, and sends it to be written. Does not call
    /// `fill` when that can come to nothing any more.
    pub fn put(&mut self, bytes: usize, fill: impl FnOnce(&mut [u8])) {
        self.bytes += bytes;
        let room = if self.taken { self.rooms.recv().ok() } else { None };
        let Some(mut room) = room else {
            self.taken = false;
            return;
        };
        // What is in it from before is overwritten.
        if bytes > room.size() {
            room = Aligned::new(bytes);
        }
        room.set_filled(bytes);
        fill(&mut room);
        self.taken = self.sender.send(Part::Piece(room)).is_ok();
    }
}

/// What goes to who writes.
enum Part {
    /// A file begins, of so many bytes, with these.
    Begin(PathBuf, u64, Vec<u8>),
    /// A tensor of it.
    Tensor(Vec<u8>),
    /// A piece of a tensor, whose memory goes back.
    Piece(Aligned),
}

/// Writes files until no more comes. A tensor stays in memory until the next one is there, so that how much is held does not
/// depend on the disk.
fn write_parts(parts: mpsc::Receiver<Part>, back: Option<mpsc::Sender<Aligned>>) -> Result<()> {
    let mut open: Option<Sink> = None;
    let mut held = Vec::new();
    for part in parts {
        match part {
            Part::Begin(path, bytes, header) => {
                open.take().map_or(Ok(()), Sink::finish)?;
                let mut sink = Sink::create(&path, bytes)?;
                sink.write(&header)?;
                open = Some(sink);
            }
            Part::Tensor(bytes) => {
                held = bytes;
                open.as_mut().map_or(Ok(()), |sink| sink.write(&held))?;
            }
            Part::Piece(room) => {
                open.as_mut().map_or(Ok(()), |sink| sink.write(&room))?;
                // Who made it may have stopped.
                let _ = back.as_ref().map(|back| back.send(room));
            }
        }
    }
    drop(held);
    open.map_or(Ok(()), Sink::finish)
}

type Shard<'a> = Vec<(&'a Spec, usize)>;

/// Cuts the tensors into shards in the order given, and orders each shard by falling element width, so that
/// every tensor is aligned to its own width; and `by_size`, then by falling size: when the last is made, little is left to be written.
fn plan<'a>(target: &Path, specs: &'a [Spec], shard_bytes: u64, by_size: bool) -> Result<Vec<Shard<'a>>> {
    let mut shards: Vec<Shard> = vec![vec![]];
    let mut filled = 0u64;
    for spec in specs {
        let (_, bytes) = size_bytes(&spec.shape, spec.dtype).ok_or_else(|| {
            Error::malformed(target, &spec.name, format!("shape {:?} overflows", spec.shape))
        })?;
        if filled > 0 && filled.saturating_add(bytes as u64) > shard_bytes {
            shards.push(vec![]);
            filled = 0;
        }
        filled += bytes as u64;
        shards.last_mut().expect("there is always a shard").push((spec, bytes));
    }
    for shard in &mut shards {
        shard.sort_by_key(|(spec, bytes)| {
            std::cmp::Reverse((spec.dtype.width(), if by_size { *bytes } else { 0 }))
        });
    }
    Ok(shards)
}

/// The bytes before the data: length, JSON, spaces up to a multiple of `aligned`, which is one of 8.
fn header(shard: &Shard, aligned: usize) -> Vec<u8> {
    let mut entries = serde_json::Map::new();
    entries.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut at = 0usize;
    for (spec, bytes) in shard {
        let entry =
            json!({"dtype": spec.dtype.name(), "shape": spec.shape, "data_offsets": [at, at + bytes]});
        entries.insert(spec.name.clone(), entry);
        at += bytes;
    }
    let mut text = serde_json::to_vec(&entries).expect("a header holds nothing JSON cannot say");
    const LENGTH: usize = size_of::<u64>();
    text.resize((LENGTH + text.len()).next_multiple_of(aligned) - LENGTH, b' ');
    let mut header = (text.len() as u64).to_le_bytes().to_vec();
    header.extend(text);
    header
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
