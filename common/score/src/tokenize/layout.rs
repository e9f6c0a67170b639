//! Whether a compiled dictionary's lengths fit its bytes, before vibrato believes them.
//!
//! vibrato reads its own format without a limit: it takes memory for as many elements as a length says, and panics inside the
//! trie. This walks over the same fields and compares every length with the bytes that are left; it keeps nothing and
//! judges no value. A dictionary whose numbers contradict each other passes, and is the operator's to keep away: from
//! strangers take the four text files, all of which vibrato checks.
//!
//! Source: vibrato 0.5.3, what `DictionaryInner` derives (`src/dictionary*`), in bincode 2's fixed-size little-endian form;
//! crawdad 0.3.0, `Trie::deserialize_from_slice`.

/// What a compiled dictionary begins with.
const MAGIC: &[u8] = b"VibratoTokenizer 0.5\n";

/// Checks a compiled dictionary.
///
/// # Errors
/// In words, where a length or a tag is impossible.
pub fn check(bytes: &[u8]) -> Result<(), String> {
    let damaged = || "it is damaged, or not of vibrato 0.5: a length does not fit the file".to_string();
    let rest = bytes.strip_prefix(MAGIC).ok_or("it does not begin as a dictionary of vibrato 0.5 does")?;
    Walk(rest).dictionary().ok_or_else(damaged)
}

/// What is left to be looked at. Each step yields `None` where it leaves the bytes.
struct Walk<'a>(&'a [u8]);

impl<'a> Walk<'a> {
    fn skip(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (skipped, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(skipped)
    }

    fn long(&mut self) -> Option<usize> {
        usize::try_from(u64::from_le_bytes(*self.skip(8)?.first_chunk()?)).ok()
    }

    fn word(&mut self) -> Option<usize> {
        Some(u32::from_le_bytes(*self.skip(4)?.first_chunk()?) as usize)
    }

    /// Elements of so many bytes each.
    fn list(&mut self, width: usize) -> Option<&'a [u8]> {
        let bytes = self.long()?.checked_mul(width)?;
        self.skip(bytes)
    }

    /// Elements of so many bytes with a text behind each.
    fn texts(&mut self, before: usize) -> Option<()> {
        for _ in 0..self.long()? {
            self.skip(before)?;
            self.list(1)?;
        }
        Some(())
    }

    fn dictionary(&mut self) -> Option<()> {
        self.lexicon()?;
        if self.option()? {
            self.lexicon()?;
        }
        self.connector()?;
        if self.option()? {
            self.list(2)?;
            self.list(2)?;
        }
        self.list(4)?; // CharProperty: a word a character, …
        self.texts(0)?; // … names of categories
        self.list(8)?; // UnkHandler: offsets, …
        self.texts(8) // … four numbers of two bytes and a feature each
    }

    fn option(&mut self) -> Option<bool> {
        match self.skip(1)? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }

    fn lexicon(&mut self) -> Option<()> {
        trie(self.list(1)?)?;
        self.list(4)?; // postings
        self.list(6)?; // two ids and a cost a word
        self.texts(0)?; // features
        (self.word()? < 3).then_some(())
    }

    fn connector(&mut self) -> Option<()> {
        const FEATURES: usize = 32;
        match self.word()? {
            0 => self.matrix(),
            1 => {
                self.list(FEATURES)?;
                self.list(FEATURES)?;
                self.long()?;
                self.scorer()
            }
            2 => {
                self.matrix()?;
                self.list(2)?;
                self.list(2)?;
                self.list(FEATURES)?;
                self.list(FEATURES)?;
                self.scorer()
            }
            _ => None,
        }
    }

    fn matrix(&mut self) -> Option<()> {
        let costs = self.list(2)?.len() / 2;
        (self.long()?.checked_mul(self.long()?)? == costs).then_some(())
    }

    /// Bases, checks, costs.
    fn scorer(&mut self) -> Option<()> {
        (0..3).try_for_each(|_| self.list(4).map(|_| ()))
    }
}

/// A trie within its own bytes: a table of characters, how many there are, and nodes of eight bytes.
fn trie(bytes: &[u8]) -> Option<()> {
    let mut walk = Walk(bytes);
    let table = walk.word()?.checked_mul(4)?;
    walk.skip(table)?;
    walk.word()?;
    let nodes = walk.word()?.checked_mul(8)?;
    walk.skip(nodes).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use vibrato::{Dictionary, SystemDictionaryBuilder};

    fn compiled() -> Vec<u8> {
        let files: [&[u8]; 4] = [
            "胸水,0,0,1,*\nなし,0,0,1,12345678\n".as_bytes(),
            b"1 1\n0 0 0",
            b"DEFAULT 0 1 0\nSPACE 0 1 0\n0x0020 SPACE\n",
            b"DEFAULT,0,0,100,*\nSPACE,0,0,100,*\n",
        ];
        let mut bytes = Vec::new();
        let built = SystemDictionaryBuilder::from_readers(files[0], files[1], files[2], files[3]);
        built.unwrap().write(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_vibrato_wrote_passes_to_its_last_byte_and_cut_off_it_does_not() {
        let bytes = compiled();
        let mut walk = Walk(&bytes[MAGIC.len()..]);
        walk.dictionary().unwrap();
        assert_eq!(walk.0, [0u8; 0]);
        // The character table is most of it: not every cut is tried.
        for cut in (0..bytes.len()).step_by(997).chain(bytes.len() - 50..bytes.len()) {
            assert!(check(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }

    /// Whatever eight bytes say, nothing is read or allocated for a length that is not there.
    #[test]
    fn a_length_beyond_the_file_is_refused_before_vibrato_sees_it() {
        let bytes = compiled();
        let first = MAGIC.len();
        // The bytes of the trie, and the table in it.
        for at in [first, first + 8] {
            let mut bad = bytes.clone();
            bad[at..at + 4].copy_from_slice(&[0xff; 4]);
            bad[at + 3] = 0x7f;
            assert!(check(&bad).unwrap_err().contains("a length does not fit"), "at {at}");
        }
        assert!(check(b"VibratoTokenizer 0.4\n").is_err());
        assert!(Dictionary::read(&bytes[..]).is_ok());
    }
}
