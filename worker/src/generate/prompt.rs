//! Bunny's prompt: an interface constant of the model, trained in, with one slot for the task.
//!
//! Source: Bunny's `conversation.py` (`conv_bunny`) and `tokenizer_image_token` in `mm_utils.py`.

use super::{Error, Result, TextTokenizer};
use crate::model::Prompt;

/// The text before the image; its last space is a token of its own.
pub const TEMPLATE_BEFORE: &str = "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite answers to the user's questions. USER: ";
/// What follows the task text.
pub const TEMPLATE_AFTER: &str = " ASSISTANT:";
/// The mark that the original template has in the image's place.
const IMAGE_MARK: &str = "<image>";

/// The texts before and after the image for a task; a line feed follows the image.
///
/// # Errors
/// [`Error::Prompt`] if the task holds the image mark, which would ask for a second image.
pub fn bunny_texts(task: &str) -> Result<(String, String)> {
    if task.contains(IMAGE_MARK) {
        return Err(Error::Prompt(format!("the task text must not contain {IMAGE_MARK}")));
    }
    Ok((TEMPLATE_BEFORE.to_string(), format!("\n{task}{TEMPLATE_AFTER}")))
}

/// The prompt's ids for a task: both parts tokenised apart, the begin-of-text id kept in the first only.
///
/// `bos` is what the model's configuration names, if it does; `rows` is the number of the image's features.
///
/// # Errors
/// [`Error::Prompt`] if the tokenizer treats the begin of text in another way than the model was trained with.
pub fn bunny_prompt(tokenizer: &TextTokenizer, task: &str, bos: Option<u32>, rows: usize) -> Result<Prompt> {
    let (before, after) = bunny_texts(task)?;
    let before = tokenizer.encode(&before)?;
    let mut after = tokenizer.encode(&after)?;
    let first = before.first().copied();
    // The original takes any repeated first id for the begin of text. Two ordinary texts cannot begin alike here, since
    // one begins with a letter and the other with a line feed.
    let adds_bos = first.is_some() && first == after.first().copied();
    match bos {
        Some(bos) if first != Some(bos) || !adds_bos => Err(Error::Prompt(format!(
            "the tokenizer must put the begin-of-text id {bos} before every text, but the parts begin with {first:?} and {:?}",
            after.first()
        ))),
        _ => {
            if adds_bos {
                after.remove(0);
            }
            if before.is_empty() || after.is_empty() {
                return Err(Error::Prompt("the tokenizer gives no tokens for the template".into()));
            }
            Ok(Prompt::around(before, rows, after))
        }
    }
}
