//! The model card of an exported merge: README.md with the front matter that model hubs read.
//!
//! What it tells: how the model was made, with every number; which search found it and what it scored there; how it
//! compares on held-out samples, when a comparison is given; whose work went into it, under which licences; and the
//! digests of all files. Names, licences and figures come from files of others, so all of it is escaped.

pub mod licence;
pub(crate) mod markdown;
pub(crate) mod sources;

pub use sources::{Source, licence_texts};

use crate::figures::Figures;
use crate::summary::{Comparison, Summary};
use common::digest::FileDigest;
use common::provenance::{Provenance, RecipeFile};
use common::recipe::{Arithmetic, Convention, Mask, Recipe, Vocabulary};
use common::time::Millis;
use markdown::{code, text};
use score::bootstrap::Interval;
use std::fmt::Write;

/// Metrics of the held-out table; the file of the comparison has them all.
const SHOWN: [&str; 5] = ["fitness", "rouge_l", "bleu_4", "term_f1", "term_f1_finding"];

/// What is in the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents {
    /// A vision-language model whose language model is the merge. `code`: its folder carries the Python code that
    /// transformers loads it with.
    Whole {
        /// Whether `auto_map` names code in the folder.
        code: bool,
    },
    /// The merged language model alone.
    Language,
    /// A VLM's own language model, nothing merged.
    Extracted,
}

/// Everything that the card tells.
pub struct Card<'a> {
    /// The model's name: that of its folder.
    pub title: &'a str,
    /// What is in the folder.
    pub contents: Contents,
    /// The recipe and where it came from.
    pub file: &'a RecipeFile,
    /// The models, VLM included.
    pub sources: &'a [Source],
    /// The files that the merge was made from.
    pub digests: &'a [FileDigest],
    /// How those differ from the files that the run was pinned to; empty when they do not.
    pub changed: &'a [String],
    /// A comparison that has this recipe among its rows, and the row's name.
    pub proof: Option<(&'a Summary, &'a str)>,
}

impl Card<'_> {
    /// The text of README.md.
    pub fn text(&self) -> String {
        let mut out = String::new();
        self.front_matter(&mut out);
        self.head(&mut out);
        if self.contents != Contents::Extracted {
            recipe(&mut out, &self.file.recipe);
        }
        if let Some(provenance) = &self.file.provenance {
            self.provenance(&mut out, provenance);
        }
        if let Some((summary, row)) = self.proof {
            proof(&mut out, summary, row, self.file.provenance.as_ref());
        }
        sources::licences(&mut out, self.sources, self.title);
        sources::files(&mut out, self.digests);
        out
    }

    // Writing to a String cannot fail, so results of write! are let go throughout.

    fn front_matter(&self, out: &mut String) {
        out.push_str("---\n");
        let relation = if self.contents == Contents::Extracted { "finetune" } else { "merge" };
        sources::front_matter(out, self.sources, relation);
        let (tag, task) = match self.contents {
            Contents::Whole { .. } => ("merge", "image-text-to-text"),
            Contents::Language => ("merge", "text-generation"),
            Contents::Extracted => ("llama", "text-generation"),
        };
        let _ = writeln!(
            out,
            "library_name: transformers\npipeline_tag: {task}\nlanguage:\n- ja\ntags:\n- {tag}\n- jradievo\n---\n"
        );
    }

    fn head(&self, out: &mut String) {
        let _ = writeln!(out, "# {}\n", text(self.title));
        sources::displayed(out, self.sources);
        let vlm = code(&self.file.recipe.vlm.name);
        let model = r#"AutoModelForCausalLM.from_pretrained(folder, torch_dtype="auto""#;
        let import = "from transformers import AutoModelForCausalLM, AutoTokenizer";
        let _ = match self.contents {
            Contents::Whole { code: own } => {
                let _ = writeln!(
                    out,
                    "A vision-language model for Japanese chest X-ray reports. The language model of {vlm} was replaced by a \
                     merge; vision tower and projector are {vlm}'s own. `recipe.json` makes the merge again, to the last bit.\n\n\
                     ```sh\njradievo-worker generate --model . --image xray.png\n```\n"
                );
                match own {
                    true => writeln!(
                        out,
                        "With the Python code that {vlm} carries (read it before you run it):\n\n```python\n{import}\n\
                         model = {model}, trust_remote_code=True)\n```\n"
                    ),
                    false => writeln!(out, "In Python it loads with {vlm}'s own code.\n"),
                }
            }
            Contents::Language => writeln!(
                out,
                "The merged language model of a vision-language model for Japanese chest X-ray reports, without its \
                 vision tower. `recipe.json` makes the merge again, to the last bit.\n\n```python\n{import}\n\
                 model = {model})\ntokenizer = AutoTokenizer.from_pretrained(folder)\n```\n"
            ),
            Contents::Extracted => writeln!(
                out,
                "The language model of {vlm}, taken out of it unchanged.\n\n```python\n{import}\nmodel = {model})\n\
                 tokenizer = AutoTokenizer.from_pretrained(folder)\n```\n"
            ),
        };
        out.push_str("For research. Not a medical device; nobody has judged it fit for use on patients.\n\n");
    }

    fn provenance(&self, out: &mut String, p: &Provenance) {
        let _ = writeln!(
            out,
            "## Where it came from\n\n| | |\n|---|---|\n| run | {} ({}) |\n| plan | {} |",
            code(&p.name),
            code(&p.run),
            code(&p.plan_digest.to_string())
        );
        if let Some(dataset) = p.dataset_digest {
            let _ = writeln!(out, "| search samples | {} |", code(&dataset.to_string()));
        }
        let _ = writeln!(
            out,
            "| candidate | {} of {} evaluated, generation {} of {} |",
            p.candidate,
            p.evaluations,
            p.generation,
            code(&p.algorithm)
        );
        if let Some(at) = p.scored_unix_ms {
            let _ = writeln!(out, "| evaluated on | {} |", Millis(at).date());
        }
        let _ = writeln!(out, "| program | jradievo {} |", text(&p.program_version));
        if let Some(fitness) = p.fitness {
            let _ = writeln!(
                out,
                "\nOn the samples that the search saw, so that these say how far the search came, not how good the \
                 model is:\n\n| metric | mean |\n|---|---|\n| fitness | {fitness:.4} |"
            );
            for (name, mean) in &p.metrics {
                let _ = writeln!(out, "| {} | {mean:.4} |", code(name));
            }
        }
        if !self.changed.is_empty() {
            out.push_str(
                "\n**Made from other files than the run's.** The figures above belong to a merge of the files that the run \
                 was pinned to; these differ:\n\n",
            );
            for changed in self.changed {
                let _ = writeln!(out, "- {}", text(changed));
            }
        } else if p.files.is_empty() {
            out.push_str(
                "\nThe run had pinned no files when the recipe was written, so they could not be compared.\n",
            );
        } else {
            out.push_str("\nEvery file that it was made from is, by digest, the run's.\n");
        }
        out.push('\n');
    }
}

/// The numbers of the merge.
fn recipe(out: &mut String, recipe: &Recipe) {
    let convention = match recipe.convention {
        Convention::Paper => "JRadiEvo's: DARE, global trim, elected signs, disjoint mean (arXiv 2411.09933)",
        Convention::Linear => "linear: the weighted average of the sources",
    };
    let mask = match recipe.mask {
        Mask::Independent => "independent per source and tensor",
        Mask::Shared => "one for all sources and tensors",
    };
    let arithmetic = match recipe.arithmetic {
        Arithmetic::Float32 => "float32",
        Arithmetic::Float16 => "float16, as the paper's authors'",
    };
    let vocabulary = match recipe.vocabulary {
        Vocabulary::Refuse => "the same size in all",
        Vocabulary::Cut => "cut to the base's rows",
        Vocabulary::Align => "rows matched by token",
    };
    let _ = writeln!(
        out,
        "## The merge\n\n| | |\n|---|---|\n| convention | {convention} |\n| base | {} |\n| scale | {} |\n\
         | mask | {mask}, seed {} |\n| arithmetic | {arithmetic} |\n| vocabulary | {vocabulary} |\n\n\
         | source | base | weight | drop rate | trim rate |\n|---|---|---|---|---|",
        code(&recipe.base.name),
        recipe.scale,
        recipe.mask_seed
    );
    for s in &recipe.sources {
        let base = s.base.as_ref().map_or(&recipe.base.name, |b| &b.name);
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} |",
            code(&s.model.name),
            code(base),
            s.weight,
            s.drop_rate,
            s.trim_rate
        );
    }
    if recipe.has_cases() {
        out.push_str(
            "\nNumbers that differ by layer and name stand here as a range; each is in `recipe.json`.\n",
        );
    }
    out.push('\n');
}

/// The held-out table, or where there is none the search's.
fn proof(out: &mut String, summary: &Summary, row: &str, provenance: Option<&Provenance>) {
    let (table, title) = match &summary.held_out {
        Some(held_out) => (held_out, "On samples that the search never saw"),
        None => (&summary.search, "Beside what it was made from, on the samples that the search saw"),
    };
    let _ = writeln!(
        out,
        "## {title}\n\n{} samples; means with 95 % bootstrap intervals, differences paired by sample. This model is \
         **{}**.\n",
        table.n,
        label(table, row)
    );
    let shown: Vec<&str> = SHOWN.into_iter().filter(|m| table.best.contains_key(*m)).collect();
    let _ = writeln!(out, "| | {} | best is ahead by |", shown.join(" | "));
    let _ = writeln!(out, "|---|{}---|", "---|".repeat(shown.len()));
    for r in table.rows() {
        let cell = |figures: &Figures, metric: &str| figures.get(metric).map(interval).unwrap_or_default();
        let cells: Vec<String> = shown.iter().map(|m| cell(r.figures, m)).collect();
        let ahead = table.best_minus.get(r.name).and_then(|f| f.get("fitness")).map(difference);
        let (name, ahead) = (text(&r.label), ahead.unwrap_or_default());
        let name = if r.name == row { format!("**{name}**") } else { name };
        let _ = writeln!(out, "| {name} | {} | {ahead} |", cells.join(" | "));
    }
    out.push('\n');
    if let Some(digest) = table.dataset_digest {
        let _ = writeln!(out, "The samples' digest: `{digest}`.");
    }
    if let Some(shared) = table.images_shared_with_search {
        let _ = writeln!(
            out,
            "Of their {} images, {shared} are byte for byte among the search samples'.",
            table.n
        );
    }
    let _ = writeln!(
        out,
        "Compared by jradievo {} for the run {} (plan `{}`).",
        text(&summary.program_version),
        code(&summary.run),
        summary.plan_digest.short(16)
    );
    if provenance.is_some_and(|p| p.plan_digest != summary.plan_digest) {
        out.push_str("Its run file is not, to the letter, the one that the search ran by.\n");
    }
    out.push('\n');
}

fn label(table: &Comparison, row: &str) -> String {
    table.rows().into_iter().find(|r| r.name == row).map_or_else(|| text(row), |r| text(&r.label))
}

fn interval(i: &Interval) -> String {
    format!("{:.3} \\[{:.3}, {:.3}\\]", i.mean, i.low, i.high)
}

fn difference(i: &Interval) -> String {
    format!("{:+.3} \\[{:+.3}, {:+.3}\\]", i.mean, i.low, i.high)
}

#[cfg(test)]
mod tests;
