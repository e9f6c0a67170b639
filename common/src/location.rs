//! Where a model is: a folder, or a repository of a model hub at a revision.
//!
//! A reference to a hub is written `hf://owner/name`, `hf://owner/name@branch-or-tag` or `hf://owner/name@commit`.
//! Only the last is *pinned*: it means the same files for ever. This module reads and checks the text; crate `hub`
//! resolves and fetches.

use crate::recipe::ModelRef;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// How a reference to a hub begins.
pub const SCHEME: &str = "hf://";

/// The revision that a reference without one means.
pub const DEFAULT_REVISION: &str = "main";

/// The hub's own bound on `owner/name`.
const LONGEST_REPO: usize = 96;

/// Longer names of branches and tags are no names.
const LONGEST_REVISION: usize = 200;

/// A repository of a model hub at a revision. Its parts are safe in URLs and as parts of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HubRef {
    owner: String,
    name: String,
    revision: String,
}

/// A text that begins like a reference to a hub, or like an address of one, and is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?}: {fault} (write {SCHEME}owner/name or {SCHEME}owner/name@revision)")]
pub struct BadHubRef {
    /// The text, cut where it is very long.
    pub text: String,
    /// What is wrong with it.
    pub fault: String,
}

impl HubRef {
    /// Makes a reference of its parts, each checked. `revision` is a branch, a tag or a commit.
    ///
    /// # Errors
    /// [`BadHubRef`] names the part that is at fault.
    pub fn new(owner: &str, name: &str, revision: &str) -> Result<HubRef, BadHubRef> {
        let refuse = |fault: String| {
            Err(BadHubRef { text: shorten(&format!("{SCHEME}{owner}/{name}@{revision}")), fault })
        };
        for (what, part) in [("owner", owner), ("name", name)] {
            if let Some(fault) = repo_fault(part) {
                return refuse(format!("the {what} {fault}"));
            }
        }
        if owner.len() + 1 + name.len() > LONGEST_REPO {
            return refuse(format!("owner/name is longer than {LONGEST_REPO} characters"));
        }
        if let Some(fault) = revision_fault(revision) {
            return refuse(format!("the revision {fault}"));
        }
        let mut revision = revision.to_string();
        if is_commit(&revision.to_ascii_lowercase()) {
            revision.make_ascii_lowercase();
        }
        Ok(HubRef { owner: owner.into(), name: name.into(), revision })
    }

    /// `owner/name`.
    pub fn repo(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    /// The part after the slash: the folder's name that people expect.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Branch, tag or commit.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The commit, where the reference is pinned by one.
    pub fn commit(&self) -> Option<&str> {
        is_commit(&self.revision).then_some(self.revision.as_str())
    }

    /// The same repository pinned.
    ///
    /// # Errors
    /// [`BadHubRef`] when `commit` is not 40 hexadecimal digits.
    pub fn at(&self, commit: &str) -> Result<HubRef, BadHubRef> {
        let pinned = HubRef::new(&self.owner, &self.name, commit)?;
        match pinned.commit() {
            Some(_) => Ok(pinned),
            None => Err(BadHubRef {
                text: shorten(commit),
                fault: "a commit has 40 hexadecimal digits, all of them".into(),
            }),
        }
    }
}

impl fmt::Display for HubRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}@{}", self.owner, self.name, self.revision)
    }
}

impl FromStr for HubRef {
    type Err = BadHubRef;
    fn from_str(text: &str) -> Result<HubRef, BadHubRef> {
        let refuse = |fault: &str| BadHubRef { text: shorten(text), fault: fault.into() };
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| refuse("does not begin with hf://"))?;
        let (repo, revision) = match rest.split_once('@') {
            Some((repo, revision)) => (repo, revision),
            None => (rest, DEFAULT_REVISION),
        };
        let (owner, name) = repo.split_once('/').ok_or_else(|| refuse("the owner is missing"))?;
        HubRef::new(owner, name, revision).map_err(|e| BadHubRef { text: shorten(text), ..e })
    }
}

impl Serialize for HubRef {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HubRef {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<HubRef, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Where a model is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A folder of this machine, as it was written.
    Folder(PathBuf),
    /// A repository of a hub.
    Hub(HubRef),
}

impl FromStr for Location {
    type Err = BadHubRef;

    /// Reads a path or a reference to a hub. What looks like an address of a hub but is no reference is refused,
    /// since nobody means a folder called `https:`.
    fn from_str(text: &str) -> Result<Location, BadHubRef> {
        let lower = text.get(..8).unwrap_or(text).to_ascii_lowercase();
        if text.starts_with(SCHEME) {
            return text.parse().map(Location::Hub);
        }
        if ["hf:", "http://", "https://"].iter().any(|s| lower.starts_with(s)) {
            let fault = "an address, but not a reference to a hub".into();
            return Err(BadHubRef { text: shorten(text), fault });
        }
        Ok(Location::Folder(text.into()))
    }
}

impl ModelRef {
    /// Folder or hub.
    ///
    /// # Errors
    /// [`BadHubRef`], for a path that begins like an address and is no reference.
    pub fn location(&self) -> Result<Location, BadHubRef> {
        self.path.parse()
    }
}

/// Whether `text` is a full commit: 40 lower-case hexadecimal digits.
pub fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The hub's rules for owners and names, which also make them safe as folder names.
fn repo_fault(part: &str) -> Option<&'static str> {
    let odd = |c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c);
    if part.is_empty() {
        Some("is missing")
    } else if part.contains(odd) {
        Some("may hold letters, digits, '-', '_' and '.' only")
    } else if part.starts_with(['-', '.']) || part.ends_with(['-', '.']) {
        Some("may not begin or end with '-' or '.'")
    } else if part.contains("--") || part.contains("..") {
        Some("may not hold '--' or '..'")
    } else {
        None
    }
}

/// The rules of git for names of branches and tags, cut down to what needs no escaping but of the slash.
fn revision_fault(revision: &str) -> Option<&'static str> {
    let odd = |c: char| !c.is_ascii_alphanumeric() && !"-_.+/".contains(c);
    let part_fault =
        |p: &str| p.is_empty() || p.starts_with(['.', '-']) || p.ends_with('.') || p.ends_with(".lock");
    if revision.is_empty() {
        Some("is missing")
    } else if revision.len() > LONGEST_REVISION {
        Some("is longer than 200 characters")
    } else if revision.contains(odd) {
        Some("may hold letters, digits, '-', '_', '.', '+' and '/' only")
    } else if revision.contains("..") || revision.split('/').any(part_fault) {
        Some("is not the name of a branch, a tag or a commit")
    } else {
        None
    }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(120) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn reads_what_people_write() {
        let plain: HubRef = "hf://meta-llama/Meta-Llama-3-8B".parse().unwrap();
        assert_eq!(plain.to_string(), "hf://meta-llama/Meta-Llama-3-8B@main");
        assert_eq!((plain.repo().as_str(), plain.commit()), ("meta-llama/Meta-Llama-3-8B", None));
        let branch: HubRef = "hf://a/b@refs/pr/7".parse().unwrap();
        assert_eq!(branch.revision(), "refs/pr/7");
        let pinned: HubRef = format!("hf://a/b_1.5@{}", COMMIT.to_uppercase()).parse().unwrap();
        assert_eq!(pinned.commit(), Some(COMMIT));
        assert_eq!(
            plain.at(COMMIT).unwrap().to_string(),
            format!("hf://meta-llama/Meta-Llama-3-8B@{COMMIT}")
        );
        assert!(plain.at("main").is_err());
        assert_eq!("models/x".parse(), Ok(Location::Folder("models/x".into())));
        assert!(matches!("hf://a/b".parse(), Ok(Location::Hub(_))));
    }

    #[test]
    fn refuses_what_could_lead_elsewhere() {
        for (bad, expected) in [
            ("hf://a", "owner is missing"),
            ("hf:///b", "owner is missing"),
            ("hf://a/", "name is missing"),
            ("hf://a/b/c", "the name may hold letters"),
            ("hf://../b", "begin or end"),
            ("hf://a/b..c", "'..'"),
            ("hf://a--x/b", "'--'"),
            ("hf://a/b@", "revision is missing"),
            ("hf://a/b@../x", "not the name of a branch"),
            ("hf://a/b@x//y", "not the name of a branch"),
            ("hf://a/b@/x", "not the name of a branch"),
            ("hf://a/b@x.lock", "not the name of a branch"),
            ("hf://a/b@x y", "the revision may hold"),
            ("hf://a/b@x%2Fy", "the revision may hold"),
            ("hf://a/b@x@y", "the revision may hold"),
            ("hf:a/b", "not a reference to a hub"),
            ("HF://a/b", "not a reference to a hub"),
            ("https://example.org/a/b", "not a reference to a hub"),
        ] {
            let e = bad.parse::<Location>().unwrap_err().to_string();
            assert!(e.contains(expected) && e.contains("hf://owner/name"), "{bad}: {e}");
        }
        let long = format!("hf://a/{}", "x".repeat(500));
        let e = long.parse::<Location>().unwrap_err().to_string();
        assert!(e.contains("96 characters") && e.len() < 400, "{e}");
    }

    proptest! {
        #[test]
        fn whatever_parses_round_trips_and_stays_in_its_folder(text in "hf://[a-zA-Z0-9./@_+-]{0,40}") {
            if let Ok(parsed) = text.parse::<HubRef>() {
                prop_assert_eq!(&parsed.to_string().parse::<HubRef>().unwrap(), &parsed);
                let parts = parsed.repo() + "/" + parsed.revision();
                prop_assert!(parts.split('/').all(|p| !p.is_empty() && p != "." && p != ".."));
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in ".*") {
            let _ = text.parse::<Location>();
        }
    }
}
