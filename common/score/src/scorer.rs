//! The front of the crate: settings, a scorer, scores of one report and of a set.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

use crate::bleu::{self, Counts, PAPER_WEIGHTS};
use crate::bootstrap::{Interval, Resampler};
use crate::error::{Error, Result};
use crate::metric::{METRICS, MetricSet};
use crate::ngram::{Ngrams, Vocabulary};
use crate::rouge;
use crate::term::score::{Rates, Statements, compare};
use crate::term::{FindingCounts, Lexicon, LexiconChoice, Matcher, Mention, TermCounts};
use crate::tokenize::{Tokenizer, TokenizerKind, split};

/// Raised whenever the same texts and settings would score otherwise than before.
const DEFINITION: u32 = 1;

/// Everything that decides a score besides the texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Tokens of `bleu_*`, `bleu_tok_4` and `rouge_*`; sacrebleu's metrics have their own.
    pub tokenizer: TokenizerKind,
    /// The medical terms.
    pub lexicon: LexiconChoice,
    /// Whether terms are matched after NFKC; on by default.
    pub nfkc: bool,
    /// Whether texts are brought to NFKC before tokenising; off by default, for parity with the references.
    pub nfkc_tokens: bool,
    /// Weight of an absent finding in the term metrics, 1 being that of a present one.
    pub absent_weight: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tokenizer: TokenizerKind::default(),
            lexicon: LexiconChoice::default(),
            nfkc: true,
            nfkc_tokens: false,
            absent_weight: 1.0,
        }
    }
}

/// Scores texts; cheap to share between threads.
#[derive(Debug, Clone)]
pub struct Scorer {
    tokenizer: Tokenizer,
    matcher: Matcher,
    settings: Settings,
}

/// A reference, tokenised and read once.
#[derive(Debug, Clone)]
pub struct Reference {
    empty: bool,
    characters: Ngrams,
    words: Words,
    sacrebleu: Option<Words>,
    sacrebleu_char: Ngrams,
    mentions: Vec<Mention>,
    statements: Statements,
}

#[derive(Debug, Clone)]
struct Words {
    vocabulary: Vocabulary,
    tokens: Vec<u32>,
    ngrams: Ngrams,
}

impl Words {
    fn new(line: &str) -> Self {
        let (vocabulary, tokens) = Vocabulary::build(split(line));
        let ngrams = Ngrams::new(&tokens);
        Self { vocabulary, tokens, ngrams }
    }
}

impl Reference {
    /// Whether the text is empty or blank; the paper leaves such samples out of its fitness.
    pub fn is_empty(&self) -> bool {
        self.empty
    }

    /// What the reference says, with the words it was read from.
    pub fn mentions(&self) -> &[Mention] {
        &self.mentions
    }
}

/// One report's scores, with the counts from which those of a set are made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SampleScores {
    /// Metric name to value.
    pub metrics: BTreeMap<String, f64>,
    /// Counts for corpus BLEU over ja-mecab tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sacrebleu: Option<Counts>,
    /// Counts for corpus BLEU over characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sacrebleu_char: Option<Counts>,
    /// Counts of medical terms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<TermCounts>,
}

/// Means over samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Number of samples.
    pub n: usize,
    /// Metric name to mean with 95 % interval.
    pub metrics: BTreeMap<String, Interval>,
}

/// Values that exist for a set only, not as means over its samples.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Corpus {
    /// `sacrebleu`, `sacrebleu_char` (corpus BLEU, 0 to 100); `term_f1`, `term_precision`, `term_recall`,
    /// `term_f1_finding` over the set's summed counts (micro); `term_f1_macro`, the mean of findings' F1.
    pub metrics: BTreeMap<String, f64>,
    /// Strict counts per finding.
    pub findings: BTreeMap<String, FindingCounts>,
}

impl Scorer {
    /// Loads tokeniser and lexicon.
    ///
    /// Errors: whatever is wrong with the files that the settings name, and a negative or infinite weight.
    pub fn new(settings: Settings) -> Result<Self> {
        if !(settings.absent_weight.is_finite() && settings.absent_weight >= 0.0) {
            return Err(Error::Setting {
                field: "absent_weight",
                got: settings.absent_weight.to_string(),
                expected: "a number from 0",
            });
        }
        let lexicon = Arc::new(Lexicon::load(&settings.lexicon)?);
        Ok(Self {
            tokenizer: Tokenizer::load(&settings.tokenizer)?,
            matcher: Matcher::new(lexicon, settings.nfkc),
            settings,
        })
    }

    /// The settings it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Reads medical terms, and explains itself.
    pub fn matcher(&self) -> &Matcher {
        &self.matcher
    }

    /// Bytes that pin what a score means: definitions, tokeniser, lexicon content, options. Paths are left out,
    /// so that two machines with equal files agree.
    pub fn settings_digest_material(&self) -> Vec<u8> {
        format!(
            "score {DEFINITION}\ntokenizer {}\nsacrebleu {}\nlexicon {}\nnfkc {} {}\nabsent {:016x}\n",
            self.tokenizer.identity(),
            Tokenizer::ipadic_identity(),
            self.matcher.lexicon().digest(),
            self.settings.nfkc,
            self.settings.nfkc_tokens,
            self.settings.absent_weight.to_bits(),
        )
        .into_bytes()
    }

    /// Prepares a reference for all metrics.
    pub fn prepare(&self, reference: &str) -> Reference {
        self.prepare_for(reference, MetricSet::ALL)
    }

    /// Prepares a reference for the metrics of a set; only these may then be asked of it.
    pub fn prepare_for(&self, reference: &str, metrics: MetricSet) -> Reference {
        let text = self.normalise(reference);
        let line = self.tokenizer.wakati(&text);
        let mentions = self.matcher.mentions(reference);
        Reference {
            empty: reference.trim().is_empty(),
            characters: characters(&line),
            words: Words::new(&line),
            sacrebleu: metrics.contains("sacrebleu").then(|| Words::new(&ja_mecab(&text))),
            sacrebleu_char: visible_characters(&text),
            statements: Statements::new(&mentions),
            mentions,
        }
    }

    /// Every metric of a text against its reference.
    pub fn score(&self, reference: &str, prediction: &str) -> SampleScores {
        self.score_prepared(&self.prepare(reference), prediction, MetricSet::ALL)
    }

    /// The metrics of a set against a prepared reference.
    pub fn score_prepared(
        &self,
        reference: &Reference,
        prediction: &str,
        metrics: MetricSet,
    ) -> SampleScores {
        let mut scores = SampleScores::default();
        let text = self.normalise(prediction);
        if metrics.any(&[
            "bleu_1",
            "bleu_2",
            "bleu_3",
            "bleu_4",
            "bleu_tok_4",
            "rouge_1",
            "rouge_2",
            "rouge_l",
        ]) {
            self.score_tokens(reference, &self.tokenizer.wakati(&text), metrics, &mut scores);
        }
        if let (true, Some(words)) = (metrics.contains("sacrebleu"), &reference.sacrebleu) {
            let ngrams = Ngrams::new(&words.vocabulary.encode(split(&ja_mecab(&text))));
            let counts = Counts::new(&words.ngrams, &ngrams);
            scores.metrics.insert("sacrebleu".into(), bleu::sacrebleu(&counts, true));
            scores.sacrebleu = Some(counts);
        }
        if metrics.contains("sacrebleu_char") {
            let counts = Counts::new(&reference.sacrebleu_char, &visible_characters(&text));
            scores.metrics.insert("sacrebleu_char".into(), bleu::sacrebleu(&counts, true));
            scores.sacrebleu_char = Some(counts);
        }
        if metrics.any(&["term_f1", "term_precision", "term_recall", "term_f1_finding"]) {
            let counts = compare(&reference.statements, &Statements::new(&self.matcher.mentions(prediction)));
            let values = self.term_metrics(&counts);
            scores
                .metrics
                .extend(values.into_iter().filter(|(n, _)| metrics.contains(n)).map(|(n, v)| (n.into(), v)));
            scores.terms = Some(counts);
        }
        scores
    }

    fn score_tokens(&self, reference: &Reference, line: &str, metrics: MetricSet, scores: &mut SampleScores) {
        let mut set = |name: &str, value: &dyn Fn() -> f64| {
            if metrics.contains(name) {
                scores.metrics.insert(name.into(), value());
            }
        };
        if metrics.any(&["bleu_1", "bleu_2", "bleu_3", "bleu_4"]) {
            let counts = Counts::new(&reference.characters, &characters(line));
            for (name, weights) in ["bleu_1", "bleu_2", "bleu_3", "bleu_4"].into_iter().zip(PAPER_WEIGHTS) {
                set(name, &|| bleu::nltk(&counts, weights));
            }
        }
        let words = &reference.words;
        let tokens = words.vocabulary.encode(split(line));
        let ngrams = Ngrams::new(&tokens);
        set("bleu_tok_4", &|| bleu::nltk(&Counts::new(&words.ngrams, &ngrams), PAPER_WEIGHTS[3]));
        set("rouge_1", &|| rouge::rouge_n(&words.ngrams, &ngrams, 1));
        set("rouge_2", &|| rouge::rouge_n(&words.ngrams, &ngrams, 2));
        set("rouge_l", &|| rouge::rouge_l(&words.tokens, &tokens));
    }

    fn term_metrics(&self, counts: &TermCounts) -> [(&'static str, f64); 4] {
        let Rates { precision, recall, f1 } = counts.strict.rates(self.settings.absent_weight);
        let by_finding = counts.by_finding.rates(self.settings.absent_weight).f1;
        [
            ("term_f1", f1),
            ("term_precision", precision),
            ("term_recall", recall),
            ("term_f1_finding", by_finding),
        ]
    }

    /// Values over the whole set; metrics that the samples were not scored for are left out.
    pub fn corpus(&self, samples: &[SampleScores]) -> Corpus {
        let mut corpus = Corpus::default();
        let mut sum_bleu = |name: &str, of: fn(&SampleScores) -> Option<&Counts>| {
            let mut sum = Counts::default();
            let all: Option<Vec<&Counts>> = samples.iter().map(of).collect();
            if let Some(all) = all.filter(|all| !all.is_empty()) {
                all.into_iter().for_each(|counts| sum.add(counts));
                corpus.metrics.insert(name.into(), bleu::sacrebleu(&sum, false));
            }
        };
        sum_bleu("sacrebleu", |s| s.sacrebleu.as_ref());
        sum_bleu("sacrebleu_char", |s| s.sacrebleu_char.as_ref());
        let terms: Option<Vec<&TermCounts>> = samples.iter().map(|s| s.terms.as_ref()).collect();
        if let Some(terms) = terms.filter(|terms| !terms.is_empty()) {
            let mut sum = TermCounts::default();
            terms.into_iter().for_each(|counts| sum.add(counts));
            corpus.metrics.extend(self.term_metrics(&sum).map(|(name, value)| (name.to_string(), value)));
            let per_finding: Vec<f64> = sum.findings.values().map(|counts| counts.rates().f1).collect();
            if !per_finding.is_empty() {
                let mean = per_finding.iter().sum::<f64>() / per_finding.len() as f64;
                corpus.metrics.insert("term_f1_macro".into(), mean);
            }
            corpus.findings = sum.findings;
        }
        corpus
    }

    fn normalise(&self, text: &str) -> String {
        if self.settings.nfkc_tokens { text.nfkc().collect() } else { text.into() }
    }
}

/// Means with intervals of every metric that all samples have.
pub fn summarise(samples: &[SampleScores]) -> Summary {
    let resampler = Resampler::new(samples.len());
    let mut metrics = BTreeMap::new();
    for metric in METRICS {
        let values: Option<Vec<f64>> = samples.iter().map(|s| s.metrics.get(metric.name).copied()).collect();
        if let Some(values) = values.filter(|values| !values.is_empty()) {
            metrics.insert(metric.name.to_string(), resampler.mean(&values));
        }
    }
    Summary { n: samples.len(), metrics }
}

/// Characters of MeCab's line, blanks and the closing line feed included, as the paper's BLEU sees them.
fn characters(line: &str) -> Ngrams {
    Ngrams::new(&line.chars().map(u32::from).collect::<Vec<_>>())
}

/// sacrebleu's `char` tokens: it joins characters by blanks and splits again, so white space is lost.
fn visible_characters(text: &str) -> Ngrams {
    Ngrams::new(&split(text).flat_map(str::chars).map(u32::from).collect::<Vec<_>>())
}

/// sacrebleu's `ja-mecab` line.
fn ja_mecab(text: &str) -> String {
    Tokenizer::ipadic().wakati(text.trim_matches(crate::tokenize::is_python_space))
}
