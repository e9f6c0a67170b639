//! What files a commit has, and which of them a model needs.

use crate::digest::BlobId;
use crate::error::{Error, Result};
use common::files::BESIDE;
use common::location::{HubRef, is_commit};
use serde::Deserialize;
use std::collections::BTreeSet;

/// An index of the largest published models takes a few megabytes.
pub(crate) const INDEX_LIMIT_BYTES: u64 = 256 << 20;

/// A file as the hub lists it. Mirrors may leave out size and digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RemoteFile {
    pub name: String,
    pub bytes: Option<u64>,
    pub id: Option<BlobId>,
}

/// The files of a commit.
#[derive(Clone, Debug)]
pub(crate) struct Listing {
    pub commit: String,
    files: Vec<RemoteFile>,
}

/// The form in which a folder holds its weights, the first that is there in this order, as transformers chooses.
pub(crate) const FORMS: [Form; 4] = [
    Form { file: "model.safetensors", shards: None },
    Form { file: "model.safetensors.index.json", shards: Some(".safetensors") },
    Form { file: "pytorch_model.bin", shards: None },
    Form { file: "pytorch_model.bin.index.json", shards: Some(".bin") },
];

/// One file, or an index and shards with that ending.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    pub file: &'static str,
    pub shards: Option<&'static str>,
}

impl Listing {
    /// Reads the hub's description of a revision.
    pub fn parse(url: &str, text: &[u8]) -> Result<Listing> {
        #[derive(Deserialize)]
        struct Info {
            sha: String,
            #[serde(default)]
            siblings: Vec<Sibling>,
        }
        #[derive(Deserialize)]
        struct Sibling {
            rfilename: String,
            size: Option<u64>,
            #[serde(rename = "blobId")]
            blob_id: Option<String>,
            lfs: Option<Lfs>,
        }
        #[derive(Deserialize)]
        struct Lfs {
            #[serde(alias = "oid")]
            sha256: Option<String>,
            size: Option<u64>,
        }
        let wrong = |fault: String| Error::Answer { url: url.into(), fault };
        let info: Info = serde_json::from_slice(text)
            .map_err(|e| wrong(format!("no description of a repository: {e}")))?;
        if !is_commit(&info.sha) {
            return Err(wrong("the description names no commit".into()));
        }
        let file = |s: Sibling| {
            // The git object of a large file is only its pointer.
            let (bytes, id) = match s.lfs {
                Some(lfs) => (lfs.size.or(s.size), lfs.sha256),
                None => (s.size, s.blob_id),
            };
            RemoteFile { name: s.rfilename, bytes, id: id.and_then(|id| id.parse().ok()) }
        };
        Ok(Listing { commit: info.sha, files: info.siblings.into_iter().map(file).collect() })
    }

    pub fn find(&self, name: &str) -> Option<&RemoteFile> {
        self.files.iter().find(|f| f.name == name)
    }

    /// The form of the weights.
    pub fn form(&self, reference: &HubRef) -> Result<Form> {
        if self.find("config.json").is_none() {
            let fault = "the repository has no config.json".into();
            return Err(Error::NotAModel { reference: reference.to_string(), fault });
        }
        FORMS.into_iter().find(|form| self.find(form.file).is_some()).ok_or_else(|| {
            let fault = "neither safetensors nor pytorch_model.bin are in the repository's top folder".into();
            Error::NotAModel { reference: reference.to_string(), fault }
        })
    }

    /// The files of the top folder that are fetched beside the weights.
    pub fn beside(&self) -> impl Iterator<Item = &RemoteFile> {
        self.files.iter().filter(|f| is_beside(&f.name))
    }
}

/// Whether a file is kept beside the weights: configuration, tokenizer, the model's own code, card and licence.
pub(crate) fn is_beside(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    let read = ["README", "LICENSE", "LICENCE", "NOTICE", "USE_POLICY"];
    is_plain(name)
        && (BESIDE.contains(&name)
            || name.ends_with(".py")
            || read
                .iter()
                .any(|r| upper.strip_prefix(r).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))))
}

/// Whether `name` is one part of a path that cannot lead out of its folder on any system.
pub(crate) fn is_plain(name: &str) -> bool {
    let odd = |c: char| c.is_control() || "/\\:*?\"<>|".contains(c);
    !name.is_empty() && name.len() <= 200 && name != "." && name != ".." && !name.contains(odd)
}

/// The shards that an index names.
pub(crate) fn shards(index: &[u8], ending: &str) -> std::result::Result<BTreeSet<String>, String> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let index: Index = serde_json::from_slice(index).map_err(|e| format!("not the expected JSON: {e}"))?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    match names.iter().find(|n| !is_plain(n) || !n.ends_with(ending)) {
        Some(bad) => Err(format!("names {bad:?}, which is no {ending} file beside it")),
        None if names.is_empty() => Err("names no file".into()),
        None => Ok(names),
    }
}

/// The names of the files that would be fetched on the word of a hub's answer, be it the description of a revision or an index
/// of shards: for whoever tests what of an answer is believed.
///
/// # Errors
/// [`Error::Answer`] where it is neither.
#[doc(hidden)]
pub fn wanted_files(answer: &[u8]) -> Result<Vec<String>> {
    for ending in FORMS.iter().filter_map(|form| form.shards) {
        if let Ok(names) = shards(answer, ending) {
            return Ok(names.into_iter().collect());
        }
    }
    let listing = Listing::parse("the hub", answer)?;
    Ok(listing.beside().map(|file| file.name.clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA256: &str = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
    const GIT: &str = "ce013625030ba8dba906f756967f9e9ca394464a";

    fn listing(siblings: &str) -> Result<Listing> {
        Listing::parse("u", format!(r#"{{"id":"a/b","sha":"{GIT}","siblings":[{siblings}]}}"#).as_bytes())
    }

    #[test]
    fn sizes_and_digests_are_those_of_the_content() {
        let l = listing(&format!(
            r#"{{"rfilename":"config.json","size":7,"blobId":"{GIT}"}},
               {{"rfilename":"model.safetensors","size":9,"blobId":"{GIT}","lfs":{{"sha256":"{SHA256}","size":9,"pointerSize":134}}}},
               {{"rfilename":"bare.json"}}"#
        ))
        .unwrap();
        let id = |name| l.find(name).unwrap().id.as_ref().map(BlobId::as_str);
        assert_eq!(id("config.json"), Some(GIT));
        assert_eq!(id("model.safetensors"), Some(SHA256));
        assert_eq!((id("bare.json"), l.find("bare.json").unwrap().bytes), (None, None));
    }

    #[test]
    fn answers_that_are_none_are_refused() {
        for bad in ["", "<html>", "{}", r#"{"sha":"main"}"#, r#"{"sha":"../../x","siblings":[]}"#] {
            assert!(matches!(Listing::parse("u", bad.as_bytes()), Err(Error::Answer { .. })), "{bad}");
        }
    }

    #[test]
    fn only_what_a_model_needs_is_chosen() {
        for good in [
            "config.json",
            "tokenizer.model",
            "modeling_bunny_llama.py",
            "README.md",
            "LICENSE",
            "LICENSE.txt",
        ] {
            assert!(is_beside(good), "{good}");
        }
        for bad in [
            "original/params.json",
            "original/tokenizer.model",
            "model.gguf",
            "onnx/model.onnx",
            "../x.py",
            "a\\b.py",
            "training_args.bin",
            "LICENSES",
            "tf_model.h5",
            "README.md/x",
            "",
        ] {
            assert!(!is_beside(bad), "{bad}");
        }
    }

    #[test]
    fn the_form_is_the_one_that_transformers_takes() {
        let reference: HubRef = "hf://a/b".parse().unwrap();
        let form = |names: &[&str]| {
            let siblings: Vec<String> = names.iter().map(|n| format!(r#"{{"rfilename":"{n}"}}"#)).collect();
            listing(&siblings.join(",")).unwrap().form(&reference).map(|f| f.file)
        };
        let both =
            ["config.json", "pytorch_model.bin", "model.safetensors.index.json", "model-1.safetensors"];
        assert_eq!(form(&both).unwrap(), "model.safetensors.index.json");
        assert_eq!(
            form(&["config.json", "pytorch_model.bin.index.json"]).unwrap(),
            "pytorch_model.bin.index.json"
        );
        assert!(form(&["model.safetensors"]).unwrap_err().to_string().contains("config.json"));
        assert!(form(&["config.json", "x.gguf"]).unwrap_err().to_string().contains("safetensors"));
    }

    #[test]
    fn an_index_cannot_name_files_elsewhere() {
        let index = |file: &str| format!(r#"{{"weight_map":{{"w":{file:?}}}}}"#);
        assert_eq!(shards(index("a.safetensors").as_bytes(), ".safetensors").unwrap().len(), 1);
        for bad in ["../a.safetensors", "/a.safetensors", "x/a.safetensors", "a.bin", ""] {
            assert!(shards(index(bad).as_bytes(), ".safetensors").is_err(), "{bad}");
        }
        assert!(shards(br#"{"weight_map":{}}"#, ".bin").is_err());
    }
}
