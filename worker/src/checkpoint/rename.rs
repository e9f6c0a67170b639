//! Stored names of tensors → the names that the rest of the program uses.
//!
//! A mapping replaces prefixes: `{"llm.": ""}` shows `llm.model.norm.weight` as `model.norm.weight`. The longest
//! prefix that fits a name counts, so that an empty prefix may stand for all that no other fits. A mapping that
//! changes nothing, or makes two tensors one, is a mistake in the run file and refused.

use super::Entry;
use super::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// How many beginnings of names a message lists.
const LISTED: usize = 8;

/// The tensors under the names that `rename` gives them. Each entry keeps its stored name.
pub(crate) fn apply(
    folder: &Path,
    stored: BTreeMap<String, Entry>,
    rename: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, Entry>> {
    if rename.is_empty() {
        return Ok(stored);
    }
    let fault = |fault: String, remedy| Error::Malformed {
        file: folder.into(),
        field: "rename".into(),
        fault,
        remedy,
    };
    let beginnings = beginnings(&stored);
    let mut used = BTreeSet::new();
    let mut shown: BTreeMap<String, Entry> = BTreeMap::new();
    for (name, entry) in stored {
        let fitting = rename.iter().filter(|(from, _)| name.starts_with(from.as_str()));
        let longest = fitting.max_by_key(|(from, _)| from.len());
        let new = match longest {
            Some((from, to)) => {
                used.insert(from);
                format!("{to}{}", &name[from.len()..])
            }
            None => name.clone(),
        };
        if let Some(other) = shown.get(&new) {
            let what = format!("{} and {name} would both be named {new:?}", other.name);
            return Err(fault(what, "choose prefixes that keep the tensors apart"));
        }
        shown.insert(new, entry);
    }
    match rename.keys().find(|from| !used.contains(from)) {
        Some(unused) => Err(fault(
            format!("{unused:?} changes no name; the stored names begin with {beginnings}"),
            "mend or remove that prefix",
        )),
        None => Ok(shown),
    }
}

/// The first parts of all names, for a message.
fn beginnings(stored: &BTreeMap<String, Entry>) -> String {
    let parts: BTreeSet<&str> =
        stored.keys().map(|name| name.find('.').map_or(name.as_str(), |dot| &name[..=dot])).collect();
    let mut listed: Vec<String> = parts.iter().take(LISTED).map(|p| format!("{p:?}")).collect();
    if parts.len() > LISTED {
        listed.push("…".into());
    }
    listed.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Dtype, TensorInfo};

    fn names(stored: &[&str], rename: &[(&str, &str)]) -> std::result::Result<Vec<String>, String> {
        let info = TensorInfo { dtype: Dtype::F16, shape: vec![], elements: 1 };
        let entry = |n: &&str| {
            let entry = Entry {
                name: n.to_string(),
                info: info.clone(),
                file: 0,
                offset: 0,
                bytes: 2,
                strided: None,
            };
            (n.to_string(), entry)
        };
        let rename = rename.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
        let shown = apply(Path::new("m"), stored.iter().map(entry).collect(), &rename);
        shown
            .map(|s| s.into_iter().map(|(new, e)| format!("{new}<{}", e.name)).collect())
            .map_err(|e| e.to_string())
    }

    #[test]
    fn the_longest_prefix_counts() {
        let stored = ["lm_head.weight", "layers.0.w", "layers.0.b"];
        let shown = names(&stored, &[("", "model."), ("lm_head.", "lm_head.")]).unwrap();
        assert_eq!(
            shown,
            ["lm_head.weight<lm_head.weight", "model.layers.0.b<layers.0.b", "model.layers.0.w<layers.0.w"]
        );
        assert_eq!(names(&["llm.a", "vpm.b"], &[("llm.", "")]).unwrap(), ["a<llm.a", "vpm.b<vpm.b"]);
        assert_eq!(names(&["a"], &[]).unwrap(), ["a<a"]);
    }

    #[test]
    fn mistakes_are_named() {
        let e = names(&["llm.a", "vpm.b"], &[("llm", "x"), ("llm.", ""), ("model.", "")]).unwrap_err();
        assert!(e.contains("\"llm\" changes no name; the stored names begin with \"llm.\", \"vpm.\""), "{e}");
        let e = names(&["llm.a", "vpm.a"], &[("llm.", ""), ("vpm.", "")]).unwrap_err();
        assert!(e.contains("llm.a and vpm.a would both be named \"a\""), "{e}");
        let e = names(&["llm.a", "a"], &[("llm.", "")]).unwrap_err();
        assert!(e.contains("both be named"), "{e}");
    }
}
