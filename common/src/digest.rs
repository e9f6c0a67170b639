//! Content digests (BLAKE3, 256 bits, hexadecimal).

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A BLAKE3 digest, shown as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(*blake3::hash(bytes).as_bytes())
    }

    /// The first `n` hexadecimal digits, for people.
    pub fn short(&self, n: usize) -> String {
        self.to_string().chars().take(n).collect()
    }

    /// The raw 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<blake3::Hash> for Digest {
    fn from(h: blake3::Hash) -> Digest {
        Digest(*h.as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.short(12))
    }
}

/// The text was not 64 hexadecimal digits.
#[derive(Debug, thiserror::Error)]
#[error("not a digest: expected 64 hexadecimal digits")]
pub struct ParseDigestError;

impl FromStr for Digest {
    type Err = ParseDigestError;
    fn from_str(s: &str) -> Result<Digest, ParseDigestError> {
        blake3::Hash::from_hex(s).map(Digest::from).map_err(|_| ParseDigestError)
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// One file that a run depends on, under the name by which all nodes know it, such as
/// `models/japanese/model-00001-of-00002.safetensors`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileDigest {
    /// Name within the run, not a path on any machine.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Digest of the content.
    pub digest: Digest,
}

/// Every file that a run depends on, sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Manifest(Vec<FileDigest>);

impl Manifest {
    /// Sorts `files` by name. Of two entries with one name, the first stays.
    pub fn new(mut files: Vec<FileDigest>) -> Manifest {
        files.sort_by(|a, b| a.name.cmp(&b.name));
        files.dedup_by(|b, a| a.name == b.name);
        Manifest(files)
    }

    /// The files, sorted by name.
    pub fn files(&self) -> &[FileDigest] {
        &self.0
    }

    /// The entry of that name.
    pub fn get(&self, name: &str) -> Option<&FileDigest> {
        self.0.binary_search_by(|f| f.name.as_str().cmp(name)).ok().map(|i| &self.0[i])
    }

    /// Names each file in which `other` differs from `self`: changed, missing or extra, in order of name.
    pub fn differences(&self, other: &Manifest) -> Vec<Difference> {
        let mut found = Vec::new();
        for file in &self.0 {
            match other.get(&file.name) {
                None => found.push(Difference::Missing { name: file.name.clone() }),
                Some(theirs) if theirs != file => found.push(Difference::Changed {
                    name: file.name.clone(),
                    expected: file.digest,
                    found: theirs.digest,
                }),
                Some(_) => {}
            }
        }
        let extra = other.0.iter().filter(|f| self.get(&f.name).is_none());
        found.extend(extra.map(|f| Difference::Extra { name: f.name.clone() }));
        found
    }
}

/// What names of lexicon and dictionaries begin with that are part of the program.
pub const BUILT_IN: &str = "scoring/built-in/";
/// What names of images within a run begin with.
pub const IMAGES: &str = "dataset/images/";

/// How one file of a manifest differs from what the run was started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Same name, other content.
    Changed {
        /// The file's name within the run.
        name: String,
        /// The digest that the run was started with.
        expected: Digest,
        /// The digest that was found.
        found: Digest,
    },
    /// The run knows the file, the other side does not have it.
    Missing {
        /// The file's name within the run.
        name: String,
    },
    /// The other side has a file that the run does not know.
    Extra {
        /// The file's name within the run.
        name: String,
    },
}

/// The name as it is told: that of an image may be a patient's, and its digest says as well which one it is.
fn told(name: &str) -> &str {
    if name.starts_with(IMAGES) { "an image of the dataset" } else { name }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Difference::Changed { name, .. } | Difference::Missing { name } | Difference::Extra { name }) =
            self;
        let name = told(name);
        match self {
            Difference::Changed { expected, found, .. } => {
                write!(f, "{name}: content differs (run {}…, here {}…)", expected.short(12), found.short(12))
            }
            Difference::Missing { .. } => write!(f, "{name}: missing here"),
            Difference::Extra { .. } => write!(f, "{name}: unknown to the run"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, content: &str) -> FileDigest {
        FileDigest { name: name.into(), bytes: content.len() as u64, digest: Digest::of(content.as_bytes()) }
    }

    #[test]
    fn digests_round_trip_as_text() {
        let d = Digest::of(b"abc");
        assert_eq!(d.to_string().parse::<Digest>().unwrap(), d);
        // BLAKE3's published digest of "abc".
        assert_eq!(d.short(16), "6437b3ac38465133");
        assert!("xyz".parse::<Digest>().is_err());
    }

    #[test]
    fn differences_name_the_file() {
        let ours = Manifest::new(vec![file("b", "2"), file("a", "1"), file("c", "3")]);
        let theirs = Manifest::new(vec![file("a", "1"), file("b", "x"), file("d", "4")]);
        let text: Vec<String> = ours.differences(&theirs).iter().map(|d| d.to_string()).collect();
        assert_eq!(text.len(), 3);
        assert!(text[0].starts_with("b: content differs"));
        assert_eq!(text[1], "c: missing here");
        assert_eq!(text[2], "d: unknown to the run");
        assert!(ours.differences(&ours).is_empty());
        let image = |content| Manifest::new(vec![file("dataset/images/yamada.png", content)]);
        let text = image("1").differences(&image("2"))[0].to_string();
        assert!(text.starts_with("an image of the dataset: content differs") && !text.contains("yamada"));
    }
}
