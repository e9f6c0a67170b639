//! The models that went into a folder, as its card tells of them: front matter, licences, files.

use super::licence::{Licence, LlamaTerms};
use super::markdown::{code, text, yaml};
use common::digest::FileDigest;
use common::location::HubRef;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

/// A model that went into the merge.
#[derive(Clone, Debug)]
pub struct Source {
    /// The name that the recipe or configuration uses.
    pub name: String,
    /// Repository on a hub (`owner/name`) where that is known, else the folder's own name.
    pub title: String,
    /// Repository and commit, where it was taken from a hub.
    pub pinned: Option<HubRef>,
    /// What its folder says.
    pub licence: Licence,
}

impl Source {
    /// Looks into a model's folder. `path` is what the recipe calls it.
    pub fn of_folder(name: &str, path: &str, folder: &Path) -> Source {
        let pinned = path.parse::<HubRef>().ok().filter(|r| r.commit().is_some());
        Source { name: name.into(), title: title(path, folder), pinned, licence: Licence::of_folder(folder) }
    }
}

/// `owner/name` from a hub reference or from a folder of the hub's cache, else the folder's name.
pub(super) fn title(path: &str, folder: &Path) -> String {
    if let Some(reference) = path.strip_prefix("hf://") {
        return reference.split('@').next().unwrap_or_default().to_string();
    }
    let parts = folder.components().filter_map(|c| c.as_os_str().to_str());
    let cached = parts.filter_map(|c| c.strip_prefix("models--")?.split_once("--")).next_back();
    match cached {
        Some((owner, name)) => format!("{owner}/{name}"),
        None => folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
    }
}

// Writing to a String cannot fail, so results of write! are let go throughout.

/// The keys of the front matter that tell of the sources: `base_model`, its relation, `license`.
pub(crate) fn front_matter(out: &mut String, sources: &[Source], relation: &str) {
    out.push_str("base_model:\n");
    let titles: BTreeSet<&str> = sources.iter().map(|s| s.title.as_str()).collect();
    for title in titles {
        let _ = writeln!(out, "- {}", yaml(title));
    }
    let _ = writeln!(out, "base_model_relation: {relation}");
    let (id, name) = licence(sources);
    let _ = writeln!(out, "license: {}", yaml(&id));
    if let Some(name) = name {
        let _ = writeln!(out, "license_name: {}", yaml(&name));
    }
}

/// One licence where all sources name the same; else `other`, or `unknown` where none names any.
fn licence(sources: &[Source]) -> (String, Option<String>) {
    let named: BTreeSet<_> = sources.iter().map(|s| (s.licence.id.clone(), s.licence.name.clone())).collect();
    let nothing = sources.iter().all(|s| s.licence.is_unknown());
    match named.first() {
        Some((Some(id), name)) if named.len() == 1 => (id.clone(), name.clone()),
        _ if nothing => ("unknown".into(), None),
        _ => ("other".into(), Some("licences-of-the-sources".into())),
    }
}

fn llama(sources: &[Source]) -> Vec<LlamaTerms> {
    let mut terms: Vec<LlamaTerms> = Vec::new();
    for found in sources.iter().filter_map(|s| s.licence.llama()) {
        if !terms.contains(&found) {
            terms.push(found);
        }
    }
    terms
}

/// What licences want displayed, for the head of the card.
pub(crate) fn displayed(out: &mut String, sources: &[Source]) {
    for terms in llama(sources) {
        let _ = writeln!(out, "**{}**\n", terms.built_with);
    }
}

/// The section of sources and licences. `name` is that of the folder.
pub(crate) fn licences(out: &mut String, sources: &[Source], name: &str) {
    out.push_str("## Sources and their licences\n\nThe licences of all of them apply.\n\n");
    out.push_str("| model | repository or folder | licence, as its folder says |\n|---|---|---|\n");
    for s in sources {
        let Licence { id, name, link, texts } = &s.licence;
        let mut said: Vec<String> = [id, name, link].into_iter().flatten().map(|t| code(t)).collect();
        said.extend(texts.iter().map(|t| format!("{}: {}", code(&t.file), text(&t.title))));
        if said.is_empty() {
            said.push("**unknown**: the folder holds no licence and no card; ask its authors".into());
        }
        let place = s.pinned.as_ref().map_or_else(|| code(&s.title), |pinned| code(&pinned.to_string()));
        let _ = writeln!(out, "| {} | {place} | {} |", code(&s.name), said.join("; "));
    }
    out.push('\n');
    if sources.iter().any(|s| !s.licence.texts.is_empty()) {
        out.push_str("Their texts are in `licences/`.\n\n");
    }
    for terms in llama(sources) {
        let begins = terms.name_begins;
        let plain =
            |t: &str| t.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
        let named = plain(name).starts_with(&plain(begins));
        let _ = writeln!(
            out,
            "Under the {}, whoever distributes this model gives a copy of the licence with it, displays “{}”, \
             begins its name with “{begins}”, and keeps in a NOTICE file: {}{}\n",
            terms.licence,
            terms.built_with,
            terms.notice,
            if named { "" } else { " **The name of this folder does not begin so: rename it first.**" }
        );
    }
}

/// The files that all was made from.
pub(crate) fn files(out: &mut String, digests: &[FileDigest]) {
    if digests.is_empty() {
        return;
    }
    out.push_str("## Made from\n\n| file | bytes | BLAKE3 |\n|---|---|---|\n");
    for d in digests {
        let _ = writeln!(out, "| {} | {} | `{}` |", code(&d.name), d.bytes, d.digest);
    }
}

/// The licence texts of all sources as files of the folder, `licences/NAME/FILE`.
pub fn licence_texts(sources: &[Source]) -> Vec<(String, Vec<u8>)> {
    let safe = |name: &str| -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' };
        name.chars().map(plain).take(100).collect()
    };
    // Names that differ in odd characters alone must not share a folder.
    let mut folders: Vec<String> = Vec::new();
    let mut files = Vec::new();
    for source in sources {
        let mut folder = safe(&source.name);
        while folders.contains(&folder) {
            folder.push('_');
        }
        files.extend(
            source.licence.texts.iter().map(|t| (format!("licences/{folder}/{}", t.file), t.content.clone())),
        );
        folders.push(folder);
    }
    files
}
