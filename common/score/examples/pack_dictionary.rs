//! Compiles the text form of a MeCab dictionary to vibrato's.
//!
//! `pack_dictionary FOLDER OUT`: FOLDER holds `lex.csv`, `matrix.def`, `char.def` and `unk.def`, as
//! `scripts/golden/dictionaries/dump.py` writes them. `scripts/golden/dictionaries/make.sh` then compresses
//! OUT with zstd; vibrato's own `compile` makes the same file.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::PathBuf;

use vibrato::SystemDictionaryBuilder;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(folder), Some(out)) = (args.next(), args.next()) else {
        return Err("usage: pack_dictionary FOLDER OUT".into());
    };
    let open = |name: &str| File::open(folder.join(name)).map(BufReader::new);
    let dictionary = SystemDictionaryBuilder::from_readers(
        open("lex.csv")?,
        open("matrix.def")?,
        open("char.def")?,
        open("unk.def")?,
    )?;
    dictionary.write(BufWriter::new(File::create(out)?))?;
    Ok(())
}
