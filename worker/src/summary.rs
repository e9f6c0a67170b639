//! What `compare` found, as the file that it writes and `merge --proof` reads.

use crate::figures::Figures;
use common::digest::{Digest, FileDigest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A comparison on the search samples and, where the run file has them, on samples that the search never saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The run file's name.
    pub run: String,
    /// BLAKE3 of the plan that the run file stands for.
    pub plan_digest: Digest,
    /// The program that compared.
    pub program_version: String,
    /// Row → digest of its recipe without paths, for `best`, `best-2` …
    pub recipes: BTreeMap<String, Digest>,
    /// The files of all models that were compared, as `models/NAME/FILE`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<FileDigest>,
    /// By row of a recipe: how those differ from the files that its run was pinned to. Only where that was allowed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub changed: BTreeMap<String, Vec<String>>,
    /// On the samples that the search saw.
    pub search: Comparison,
    /// On samples that it never saw; absent where the run file has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<Comparison>,
}

/// One table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Number of samples.
    pub n: usize,
    /// BLAKE3 over all files of the dataset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset_digest: Option<Digest>,
    /// Images whose very bytes are also among the search samples; absent for the search samples themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images_shared_with_search: Option<usize>,
    /// The most frequent reference, whatever the image.
    pub constant: Figures,
    /// Each source alone inside the VLM, by name, and `base`.
    pub sources: BTreeMap<String, Figures>,
    /// The plain average of the sources.
    pub uniform: Figures,
    /// The merge at the middle of the authors' box, where their search begins.
    pub middle: Figures,
    /// The first recipe given.
    pub best: Figures,
    /// Best minus each other row, paired by sample. Rows of `sources` stand under their names.
    pub best_minus: BTreeMap<String, Figures>,
    /// The text of `constant`.
    pub constant_text: String,
    /// Further recipes given: best-2, best-3 …
    #[serde(flatten)]
    pub more: BTreeMap<String, Figures>,
}

/// A row with the label that people read.
pub struct Row<'a> {
    /// The label.
    pub label: String,
    /// Its name in [`Comparison::best_minus`].
    pub name: &'a str,
    /// Its figures.
    pub figures: &'a Figures,
}

impl Comparison {
    /// All rows in the order of tables: what was there before, then what was found.
    pub fn rows(&self) -> Vec<Row<'_>> {
        let row = |label: String, name, figures| Row { label, name, figures };
        let sources = self.sources.iter().map(|(name, f)| row(format!("{name} inside the VLM"), name, f));
        let more = self.more.iter().map(|(name, f)| row(name.clone(), name, f));
        std::iter::once(row("constant text".into(), "constant", &self.constant))
            .chain(sources)
            .chain([
                row("uniform merge".into(), "uniform", &self.uniform),
                row("middle merge".into(), "middle", &self.middle),
            ])
            .chain(more)
            .chain([row("best found".into(), "best", &self.best)])
            .collect()
    }
}
