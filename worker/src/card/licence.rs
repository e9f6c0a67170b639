//! What a model's folder says of its licence.
//!
//! A model card's front matter names a licence (`license`, `license_name`, `license_link`), and files beside it hold
//! the text. Both come from strangers: only a bounded part is read, nothing is believed beyond being repeated, and a
//! folder that says nothing has an unknown licence. This is a record of what was found, not legal advice.

use crate::checkpoint::beside;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// How much of README.md is looked at for front matter.
const CARD_BYTES: u64 = 64 << 10;
/// The largest licence text that is carried along; the longest in use are below 50 KB.
const TEXT_BYTES: u64 = 256 << 10;
/// The most licence texts of one model.
const MOST_TEXTS: usize = 8;
/// The longest value that is repeated.
const LONGEST: usize = 200;

/// What one folder says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Licence {
    /// `license` of the card, such as `apache-2.0` or `other`.
    pub id: Option<String>,
    /// `license_name`, where `license` is `other`.
    pub name: Option<String>,
    /// `license_link`.
    pub link: Option<String>,
    /// LICENSE, NOTICE and the like, sorted by name.
    pub texts: Vec<Text>,
}

/// A licence file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The file's name.
    pub file: String,
    /// Its first line that is not empty, shortened.
    pub title: String,
    /// All of it.
    pub content: Vec<u8>,
}

/// What a Llama community licence asks of a distributed model; facts of the licences' section 1.b.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LlamaTerms {
    /// The licence's name.
    pub licence: &'static str,
    /// To be displayed.
    pub built_with: &'static str,
    /// How the model's name has to begin.
    pub name_begins: &'static str,
    /// To be kept in a NOTICE file.
    pub notice: &'static str,
}

const LLAMA: [(&str, &str, LlamaTerms); 4] = [
    (
        "llama3",
        "llama 3 community license",
        LlamaTerms {
            licence: "Meta Llama 3 Community License",
            built_with: "Built with Meta Llama 3",
            name_begins: "Llama 3",
            notice: "Meta Llama 3 is licensed under the Meta Llama 3 Community License, Copyright © Meta \
                     Platforms, Inc. All Rights Reserved.",
        },
    ),
    (
        "llama31",
        "llama 3.1 community license",
        LlamaTerms {
            licence: "Llama 3.1 Community License",
            built_with: "Built with Llama",
            name_begins: "Llama",
            notice: "Llama 3.1 is licensed under the Llama 3.1 Community License, Copyright © Meta Platforms, \
                     Inc. All Rights Reserved.",
        },
    ),
    (
        "llama32",
        "llama 3.2 community license",
        LlamaTerms {
            licence: "Llama 3.2 Community License",
            built_with: "Built with Llama",
            name_begins: "Llama",
            notice: "Llama 3.2 is licensed under the Llama 3.2 Community License, Copyright © Meta Platforms, \
                     Inc. All Rights Reserved.",
        },
    ),
    (
        "llama33",
        "llama 3.3 community license",
        LlamaTerms {
            licence: "Llama 3.3 Community License",
            built_with: "Built with Llama",
            name_begins: "Llama",
            notice: "Llama 3.3 is licensed under the Llama 3.3 Community License, Copyright © Meta Platforms, \
                     Inc. All Rights Reserved.",
        },
    ),
];

impl Licence {
    /// Reads what is there; what cannot be read is as good as absent.
    pub fn of_folder(folder: &Path) -> Licence {
        let card = beginning(&folder.join("README.md"), CARD_BYTES).unwrap_or_default();
        let card = String::from_utf8_lossy(&card);
        let value = |key: &str| front_matter(&card, key);
        Licence {
            id: value("license"),
            name: value("license_name"),
            link: value("license_link"),
            texts: texts(folder),
        }
    }

    /// Whether nothing at all was found.
    pub fn is_unknown(&self) -> bool {
        self.id.is_none() && self.name.is_none() && self.texts.is_empty()
    }

    /// The terms of the Llama licence that the folder names, if it names one.
    pub fn llama(&self) -> Option<LlamaTerms> {
        let plain = |text: &String| {
            text.chars()
                .filter(char::is_ascii_alphanumeric)
                .map(|c| c.to_ascii_lowercase())
                .collect::<String>()
        };
        let named: Vec<String> = self.id.iter().chain(&self.name).map(plain).collect();
        let titles: Vec<String> = self.texts.iter().map(|t| t.title.to_lowercase()).collect();
        let is = |(id, title, _): &&(&str, &str, LlamaTerms)| {
            named.iter().any(|n| n == id) || titles.iter().any(|t| t.contains(title))
        };
        LLAMA.iter().find(is).map(|(_, _, terms)| *terms)
    }
}

/// Up to `most` bytes of a plain file.
fn beginning(path: &Path, most: u64) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    path.is_file().then_some(())?;
    File::open(path).ok()?.take(most).read_to_end(&mut content).ok()?;
    Some(content)
}

/// A top-level value of the YAML between the first two `---` lines: a scalar, plain or quoted, or the items of a list
/// joined by commas. Anything else of YAML is not looked at.
fn front_matter(card: &str, key: &str) -> Option<String> {
    let mut lines = card.lines();
    (lines.next()?.trim_end() == "---").then_some(())?;
    let block: Vec<&str> = lines.by_ref().take_while(|l| l.trim_end() != "---").collect();
    let at = block.iter().position(|l| l.strip_prefix(key).is_some_and(|rest| rest.starts_with(':')))?;
    let mut value = scalar(&block[at][key.len() + 1..]);
    if value.is_empty() {
        let items = block[at + 1..].iter().map_while(|l| l.trim_start().strip_prefix("- ")).map(scalar);
        value = items.collect::<Vec<_>>().join(", ");
    }
    let value: String = value.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
    (!value.is_empty()).then_some(value)
}

fn scalar(text: &str) -> String {
    let text = text.trim();
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|t| t.split(quote).next()) {
            return inner.trim().to_string();
        }
    }
    text.split(" #").next().unwrap_or_default().trim().to_string()
}

fn texts(folder: &Path) -> Vec<Text> {
    const STEMS: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "NOTICE", "USE_POLICY"];
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
    let is_text = |name: &String| STEMS.iter().any(|stem| name.to_ascii_uppercase().starts_with(stem));
    // A name that is to be written again must not be more than a name.
    let plain = |name: &String| name.chars().all(|c| c.is_ascii_alphanumeric() || ".-_ ".contains(c));
    let mut names: Vec<String> = names.filter(is_text).filter(plain).collect();
    names.sort();
    let read = |file: String| {
        let content = beside::content(folder, &file).ok()??;
        (content.len() as u64 <= TEXT_BYTES).then_some(())?;
        let text = String::from_utf8_lossy(&content);
        let title = text.lines().map(str::trim).find(|l| !l.is_empty()).unwrap_or_default();
        let title = title.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
        Some(Text { file, title, content })
    };
    names.into_iter().filter_map(read).take(MOST_TEXTS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, text)| std::fs::write(dir.path().join(name), text).unwrap());
        dir
    }

    #[test]
    fn front_matter_gives_scalars_and_lists() {
        let card = "---\r\nlanguage:\n- en\nlicense: other # see below\nlicense_name: \"llama3\"\nlicense_link: 'LICENSE'\n\
                    extra:\n  license: mit\n---\nlicense: gpl\n";
        assert_eq!(front_matter(card, "license").as_deref(), Some("other"));
        assert_eq!(front_matter(card, "license_name").as_deref(), Some("llama3"));
        assert_eq!(front_matter(card, "license_link").as_deref(), Some("LICENSE"));
        assert_eq!(
            front_matter("---\nlicense:\n- mit\n- apache-2.0\n---\n", "license").unwrap(),
            "mit, apache-2.0"
        );
        assert_eq!(front_matter("# Model\nlicense: mit\n", "license"), None);
        assert_eq!(front_matter("---\nlicense:\n---\n", "license"), None);
    }

    #[test]
    fn a_silent_folder_is_unknown_and_a_llama_is_recognised_by_card_or_text() {
        assert!(Licence::of_folder(Path::new("/nonexistent")).is_unknown());
        let named = folder(&[("README.md", "---\nlicense: llama3\n---\n")]);
        assert_eq!(Licence::of_folder(named.path()).llama().unwrap().name_begins, "Llama 3");
        let other = folder(&[("README.md", "---\nlicense: other\nlicense_name: llama-3.1\n---\n")]);
        assert_eq!(Licence::of_folder(other.path()).llama().unwrap().built_with, "Built with Llama");
        let text = "\nMETA LLAMA 3 COMMUNITY LICENSE AGREEMENT\nMeta Llama 3 Version Release Date: …\n";
        let text = folder(&[("LICENSE", text), ("USE_POLICY.md", "# Policy"), ("weights.bin", "x")]);
        let read = Licence::of_folder(text.path());
        assert_eq!(
            read.texts.iter().map(|t| t.file.as_str()).collect::<Vec<_>>(),
            ["LICENSE", "USE_POLICY.md"]
        );
        assert!(read.llama().is_some() && !read.is_unknown());
        let mit = folder(&[("README.md", "---\nlicense: mit\n---\n")]);
        assert_eq!(Licence::of_folder(mit.path()).llama(), None);
    }

    #[test]
    fn huge_and_oddly_named_texts_stay_behind() {
        let huge = "x".repeat(TEXT_BYTES as usize + 1);
        let dir = folder(&[("LICENSE", &huge), ("NOTICE|x", "a"), ("NOTICE", "b\u{7}\u{1b}[2J")]);
        let read = Licence::of_folder(dir.path());
        assert_eq!(read.texts.len(), 1);
        assert_eq!(read.texts[0].title, "b[2J");
    }
}
