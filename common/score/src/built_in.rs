//! Digests of what scoring reads from within the program: two builds of one version may differ in it.

use crate::{TokenizerKind, term, tokenize};
use common::digest::{BUILT_IN, Digest, FileDigest};
use common::run::ScoringPlan;

/// The lexicon and the dictionary of this program that scoring by this plan reads, as `scoring/built-in/NAME`.
pub fn digests(plan: &ScoringPlan) -> Vec<FileDigest> {
    let lexicon = plan.lexicon.is_none().then_some(("lexicon.toml", term::lexicon::BUILT_IN.as_bytes()));
    let dictionary = match TokenizerKind::from(plan.tokenizer.clone()) {
        TokenizerKind::UnidicLite => Some(("unidic-lite", tokenize::load::UNIDIC_LITE)),
        TokenizerKind::Ipadic => Some(("ipadic", tokenize::load::IPADIC)),
        TokenizerKind::Char | TokenizerKind::Path(_) => None,
    };
    let digest = |(name, bytes): (&str, &[u8])| FileDigest {
        name: format!("{BUILT_IN}{name}"),
        bytes: bytes.len() as u64,
        digest: Digest::of(bytes),
    };
    lexicon.into_iter().chain(dictionary).map(digest).collect()
}
