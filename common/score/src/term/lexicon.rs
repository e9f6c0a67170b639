//! The words that the matcher knows and what each may mean.

use common::bounded;
use std::collections::HashMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use toml::Spanned;

pub use super::lexicon_file::Located;
use super::lexicon_file::{File, Finding, from_csv, from_toml, line_of};
use super::{Assertion, Side, fold::Folded};
use crate::error::{Error, Result};

pub(crate) const BUILT_IN: &str = include_str!("../../data/lexicon.toml");
const BUILT_IN_NAME: &str = "the built-in lexicon";

/// CheXpert's fourteen observations, the coarse map of all findings (Irvin et al. 2019).
pub const CATEGORIES: [&str; 14] = [
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
];

/// Which lexicon to use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LexiconChoice {
    /// The built-in one.
    #[default]
    Default,
    /// A TOML file instead of it.
    Path(PathBuf),
    /// The built-in one and a TOML or CSV file: new findings, further terms, terms given another meaning.
    Extend(PathBuf),
}

impl LexiconChoice {
    /// The built-in one, a file in its place, or the built-in one and a file over it.
    ///
    /// # Errors
    /// [`Error::Setting`] where both files are given.
    pub fn of_files(in_place: Option<&str>, over: Option<&str>) -> Result<Self> {
        match (in_place, over) {
            (Some(_), Some(over)) => Err(Error::Setting {
                field: "extend_lexicon",
                got: over.into(),
                expected: "nothing beside lexicon",
            }),
            (Some(path), None) => Ok(Self::Path(path.into())),
            (None, Some(path)) => Ok(Self::Extend(path.into())),
            (None, None) => Ok(Self::Default),
        }
    }
}

/// A concept of the lexicon.
#[derive(Debug, Clone)]
pub struct Concept {
    /// Name in scores and tables.
    pub id: String,
    /// Name for people.
    pub label: String,
    /// One of [`CATEGORIES`].
    pub category: String,
    pub(super) located: Located,
    pub(super) diagnosis: bool,
    pub(super) generic: bool,
}

/// What a cue does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CueKind {
    Absent,
    Vanish,
    Uncertain,
    WeakUncertain,
    Present,
    Normal,
    Change,
    Attribute,
    Except,
    BeforeAbsent,
    BeforeUncertain,
    EndsScope,
    Ignore,
}

/// One thing that a term may be; the sentence decides between several.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Role {
    Finding(u16),
    Structure(u16),
    Word { structure: u16, finding: u16 },
    Statement { finding: u16, assertion: Assertion },
    Side(Side),
    Zone(u32),
    Cue(CueKind),
}

#[derive(Debug, Clone)]
pub(super) struct Structure {
    pub normal: Vec<u16>,
    pub ratio_above: Option<f64>,
}

/// A term's characters and what they may mean.
#[derive(Debug, Clone)]
pub(super) struct Term {
    pub chars: Vec<char>,
    pub roles: Vec<Role>,
    /// Of ASCII letters or digits at both ends: must stand as a word.
    pub word: bool,
}

/// The findings, structures, places and cues that the matcher knows.
#[derive(Debug, Clone)]
pub struct Lexicon {
    concepts: Vec<Concept>,
    pub(super) structures: Vec<Structure>,
    pub(super) zones: Vec<String>,
    pub(super) history: Vec<Vec<char>>,
    /// Terms by first character, longest first.
    pub(super) terms: HashMap<char, Vec<Term>>,
    /// The concept that stands for 「異常」.
    pub(super) generic: Option<u16>,
    digest: String,
}

impl Lexicon {
    /// Loads what the settings name.
    ///
    /// Errors: [`Error::Read`], [`Error::Lexicon`] with file, line and remedy.
    pub fn load(choice: &LexiconChoice) -> Result<Self> {
        let read = |path: &PathBuf| {
            bounded::text(path, bounded::LEXICON_BYTES)
                .map_err(|source| Error::Read { path: path.clone(), source })
        };
        match choice {
            LexiconChoice::Default => Self::build(&[(BUILT_IN_NAME.into(), BUILT_IN.into())]),
            LexiconChoice::Path(path) => Self::build(&[(path.display().to_string(), read(path)?)]),
            LexiconChoice::Extend(path) => Self::build(&[
                (BUILT_IN_NAME.into(), BUILT_IN.into()),
                (path.display().to_string(), read(path)?),
            ]),
        }
    }

    /// All concepts, in the order of the file.
    pub fn concepts(&self) -> &[Concept] {
        &self.concepts
    }

    /// Digest of the files' content: what pins the lexicon in a run.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    fn build(sources: &[(String, String)]) -> Result<Self> {
        let mut builder = Builder::default();
        let mut hasher = blake3::Hasher::new();
        for (name, text) in sources {
            let csv = name.to_ascii_lowercase().ends_with(".csv");
            let file = if csv { from_csv(name, text)? } else { from_toml(name, text)? };
            builder.add(&Source { name, text }, file)?;
            hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
        }
        Ok(builder.finish(hasher.finalize().to_hex().to_string()))
    }
}

struct Source<'a> {
    name: &'a str,
    text: &'a str,
}

impl Source<'_> {
    fn fault(&self, at: &Spanned<String>, fault: String, remedy: &str) -> Error {
        Error::Lexicon {
            file: self.name.into(),
            line: line_of(self.text, at.span().start),
            fault,
            remedy: remedy.into(),
        }
    }
}

#[derive(Default)]
struct Builder {
    concepts: Vec<Concept>,
    structures: Vec<Structure>,
    zones: Vec<String>,
    history: Vec<Vec<char>>,
    roles: HashMap<Vec<char>, Vec<Role>>,
}

impl Builder {
    fn add(&mut self, source: &Source, file: File) -> Result<()> {
        // A later file may take a term over; two findings of one file may not share one.
        let mut own: HashMap<Vec<char>, u16> = HashMap::new();
        for finding in file.finding {
            self.add_finding(source, finding, &mut own)?;
        }
        for structure in file.structure {
            let index = self.structures.len() as u16;
            let normal = structure.normal.iter().map(|id| self.concept(source, id)).collect::<Result<_>>()?;
            self.structures.push(Structure { normal, ratio_above: structure.ratio_above });
            self.add_terms(source, &structure.terms, Role::Structure(index))?;
            for words in &structure.words {
                let finding = self.concept(source, &words.finding)?;
                self.add_terms(source, &words.terms, Role::Word { structure: index, finding })?;
            }
        }
        for statement in file.statement {
            let finding = self.concept(source, &statement.finding)?;
            let assertion = statement.assertion;
            self.add_terms(source, &statement.terms, Role::Statement { finding, assertion })?;
        }
        for words in file.side {
            self.add_terms(source, &words.terms, Role::Side(words.side))?;
        }
        for words in file.zone {
            let mut zones = 0;
            for zone in words.zones {
                let index = self.zones.iter().position(|z| *z == zone).unwrap_or_else(|| {
                    self.zones.push(zone);
                    self.zones.len() - 1
                });
                // Thirty-two zones fit; the built-in lexicon has eight, and more are folded into the last.
                zones |= 1 << index.min(31);
            }
            self.add_terms(source, &words.terms, Role::Zone(zones))?;
        }
        let c = file.cues;
        for (kind, terms) in [
            (CueKind::Absent, c.absent),
            (CueKind::Vanish, c.vanish),
            (CueKind::Uncertain, c.uncertain),
            (CueKind::WeakUncertain, c.weak_uncertain),
            (CueKind::Present, c.present),
            (CueKind::Normal, c.normal),
            (CueKind::Change, c.change),
            (CueKind::Attribute, c.attribute),
            (CueKind::Except, c.except),
            (CueKind::BeforeAbsent, c.before_absent),
            (CueKind::BeforeUncertain, c.before_uncertain),
            (CueKind::EndsScope, c.ends_scope),
            (CueKind::Ignore, c.ignore),
        ] {
            self.add_terms(source, &terms, Role::Cue(kind))?;
        }
        self.history.extend(c.history.iter().map(|term| fold(term.get_ref())));
        Ok(())
    }

    fn add_finding(
        &mut self,
        source: &Source,
        finding: Finding,
        own: &mut HashMap<Vec<char>, u16>,
    ) -> Result<()> {
        let id = finding.id.get_ref();
        if let Some(category) = &finding.category
            && !CATEGORIES.contains(&category.get_ref().as_str())
        {
            let fault = format!("category {:?} of {id:?} is not one of CheXpert's", category.get_ref());
            return Err(source.fault(category, fault, &format!("use one of {}", CATEGORIES.join(", "))));
        }
        let index = match self.concepts.iter().position(|c| c.id == *id) {
            Some(index) => index,
            None => {
                let Some(category) = &finding.category else {
                    let fault = format!("the new finding {id:?} has no category");
                    return Err(source.fault(&finding.id, fault, "add the field category"));
                };
                if self.concepts.len() >= usize::from(u16::MAX) {
                    return Err(source.fault(&finding.id, "too many findings".into(), "keep to 65,535"));
                }
                self.concepts.push(Concept {
                    id: id.clone(),
                    label: id.clone(),
                    category: category.get_ref().clone(),
                    located: Located::Zone,
                    diagnosis: finding.diagnosis,
                    generic: finding.generic,
                });
                self.concepts.len() - 1
            }
        };
        let concept = &mut self.concepts[index];
        concept.located = finding.located.unwrap_or(concept.located);
        concept.label = finding.label.unwrap_or_else(|| concept.label.clone());
        concept.category = finding.category.map_or_else(|| concept.category.clone(), Spanned::into_inner);
        for term in &finding.terms {
            let chars = fold(term.get_ref());
            if own.insert(chars.clone(), index as u16).is_some_and(|other| other != index as u16) {
                let fault = format!("the term {:?} belongs to two findings", term.get_ref());
                return Err(source.fault(term, fault, "give each term to one finding"));
            }
            if let Some(roles) = self.roles.get_mut(&chars) {
                roles.retain(|role| !matches!(role, Role::Finding(_)));
            }
        }
        self.add_terms(source, &finding.terms, Role::Finding(index as u16))
    }

    fn concept(&self, source: &Source, id: &Spanned<String>) -> Result<u16> {
        self.concepts.iter().position(|c| c.id == *id.get_ref()).map(|i| i as u16).ok_or_else(|| {
            source.fault(
                id,
                format!("no finding has the id {:?}", id.get_ref()),
                "define it, or correct the id",
            )
        })
    }

    fn add_terms(&mut self, source: &Source, terms: &[Spanned<String>], role: Role) -> Result<()> {
        for term in terms {
            let chars = fold(term.get_ref());
            if chars.is_empty() {
                return Err(source.fault(term, "a term is empty".into(), "delete it"));
            }
            let roles = self.roles.entry(chars).or_default();
            if !roles.contains(&role) {
                roles.push(role);
            }
        }
        Ok(())
    }

    fn finish(self, digest: String) -> Lexicon {
        let mut terms: HashMap<char, Vec<Term>> = HashMap::new();
        for (chars, roles) in self.roles {
            let edge = |c: Option<&char>| c.is_some_and(char::is_ascii_alphanumeric);
            let word = edge(chars.first()) && edge(chars.last());
            terms.entry(chars[0]).or_default().push(Term { chars, roles, word });
        }
        for list in terms.values_mut() {
            list.sort_by(|a, b| b.chars.len().cmp(&a.chars.len()).then_with(|| a.chars.cmp(&b.chars)));
        }
        let generic = self.concepts.iter().position(|c| c.generic).map(|i| i as u16);
        Lexicon {
            concepts: self.concepts,
            structures: self.structures,
            zones: self.zones,
            history: self.history,
            terms,
            generic,
            digest,
        }
    }
}

/// Terms are folded as texts are.
fn fold(term: &str) -> Vec<char> {
    Folded::new(term.trim(), true).chars
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    #[test]
    fn built_in_is_sound() {
        let lexicon = Lexicon::load(&LexiconChoice::Default).unwrap();
        assert!(lexicon.concepts().len() >= 45, "{}", lexicon.concepts().len());
        for category in CATEGORIES {
            assert!(lexicon.concepts().iter().any(|c| c.category == category), "{category}");
        }
    }

    #[test]
    fn extended_by_toml_and_csv() {
        let (_f, path) = write(
            "a.toml",
            "[[finding]]\nid = \"azygos_lobe\"\ncategory = \"Lung Lesion\"\nterms = [\"奇静脈葉\"]\n",
        );
        let lexicon = Lexicon::load(&LexiconChoice::Extend(path)).unwrap();
        assert_eq!(lexicon.concepts().last().unwrap().id, "azygos_lobe");
        let (_f, path) = write(
            "a.csv",
            "finding,term,category\nazygos_lobe,奇静脈葉,Lung Lesion\ncavity,\"透亮像,空洞様\",\n",
        );
        let lexicon = Lexicon::load(&LexiconChoice::Extend(path)).unwrap();
        assert!(lexicon.terms[&'奇'].iter().any(|t| t.chars.len() == 4));
    }

    #[test]
    fn faults_name_file_line_field_and_remedy() {
        for (name, text, expected) in [
            (
                "a.toml",
                "[[finding]]\nid = \"x\"\nterms = [\"y\"]\n",
                "line 2: the new finding \"x\" has no category; add",
            ),
            (
                "a.toml",
                "[[finding]]\nid = \"x\"\ncategory = \"Lungs\"\nterms = []\n",
                "line 3: category \"Lungs\" of \"x\"",
            ),
            ("a.toml", "\n[[findings]]\nid = 1\n", "line 2: unknown field `findings`"),
            ("a.toml", "[cues]\nabsent = [\" \"]\n", "line 2: a term is empty; delete it"),
            ("a.csv", "finding,terms\nx,y\n", "line 1: unknown column \"terms\"; use finding, term"),
            ("a.csv", "finding,term\ncavity,\n", "line 2: finding or term is empty; fill both"),
            ("a.csv", "finding,term\ncavity,c\nnew,n\n", "line 3: the new finding \"new\" has no category"),
        ] {
            let (_f, path) = write(name, text);
            let message = Lexicon::load(&LexiconChoice::Extend(path)).unwrap_err().to_string();
            assert!(message.contains(expected) && message.contains(name), "{message}");
        }
    }
}
