//! MiniCPM-Llama3-V-2_5 as a family: a picture and its slices, each 96 features between marks, in Llama 3's chat format.
//!
//! Source: what is published with the model: `tokenizer_config.json` (chat template), `processing_minicpmv.py` and
//! `image_processing_minicpmv.py` (marks), `modeling_minicpmv.py` (`chat`, end ids).

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device};

use super::family::{Encoded, Slices, VisionEncoder, VisionLanguageModel};
use crate::generate::{self, TextTokenizer};
use crate::image::Rgb8;
use crate::memory::VisionNeeds;
use crate::model::minicpm::{LANGUAGE_PREFIX, RESAMPLER_PREFIX, VISION_PREFIX, Vision, reach, resampler};
use crate::model::resampler::expected_parameters as resampler_parameters;
use crate::model::{Error, LlamaConfig, MiniCpmConfig, Piece, Prompt, Result, TensorSource, siglip};

/// What the chat template puts before the user's message.
const TEMPLATE_BEFORE: &str = "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n";
/// What it puts after.
const TEMPLATE_AFTER: &str = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n";
/// The tokens around one part's features.
const PART: [&str; 2] = ["<image>", "</image>"];
/// The tokens around all slices.
const GRID: [&str; 2] = ["<slice>", "</slice>"];
/// Ends an answer, beside the configuration's ids.
const END_OF_TURN: &str = "<|eot_id|>";
/// The other special tokens of the template.
const HEADER: [&str; 3] = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>"];

/// A MiniCPM-Llama3-V-2_5's configuration.
#[derive(Clone, Debug)]
pub struct MiniCpm {
    config: MiniCpmConfig,
}

impl MiniCpm {
    /// Reads a configuration given as text; `file` is used in errors only.
    ///
    /// # Errors
    /// [`Error::Json`] or [`Error::Config`].
    pub fn from_json(text: &str, file: &str) -> Result<Self> {
        Ok(Self { config: MiniCpmConfig::from_json(text, file)? })
    }

    /// What stands in a picture's place: its texts and, between them, features.
    fn image_texts(slices: Slices) -> Vec<String> {
        let [open, close] = PART;
        let mut texts = vec![open.to_string()];
        for row in 0..slices.rows {
            for column in 0..slices.columns {
                let between = match (row, column) {
                    (0, 0) => GRID[0],
                    (_, 0) => "\n",
                    _ => "",
                };
                texts.push(format!("{close}{between}{open}"));
            }
        }
        texts.push(if slices == Slices::NONE { close.into() } else { format!("{close}{}", GRID[1]) });
        texts
    }
}

impl VisionLanguageModel for MiniCpm {
    fn family(&self) -> &'static str {
        "MiniCPM-Llama3-V-2_5"
    }

    fn language(&self) -> &LlamaConfig {
        &self.config.llama
    }

    fn renames(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(LANGUAGE_PREFIX.to_string(), String::new())])
    }

    fn check_folder(&self, folder: &Path) -> Result<()> {
        self.config.check_preprocessor(folder)
    }

    fn vision_parameters(&self) -> Vec<(String, Vec<usize>)> {
        let c = &self.config;
        let mut list = siglip::expected_parameters(&c.vision, reach(c), VISION_PREFIX);
        list.extend(resampler_parameters(&resampler(c), RESAMPLER_PREFIX));
        list
    }

    fn load_vision(
        &self,
        source: &dyn TensorSource,
        dtype: DType,
        device: &Device,
    ) -> Result<Box<dyn VisionEncoder>> {
        Ok(Box::new(Vision::load(&self.config, source, dtype, device)?))
    }

    fn vision_needs(&self, dtype: DType, stored: usize) -> VisionNeeds {
        VisionNeeds::minicpm(&self.config, &self.vision_parameters(), dtype, stored)
    }

    fn slices(&self, width: usize, height: usize) -> Result<Slices> {
        let plan = self.config.slicing.plan(width, height).map_err(|e| Error::image(&e))?;
        Ok(of_grid(plan.grid.map(|(grid, _)| grid)))
    }

    fn most_slices(&self) -> Slices {
        match self.config.slicing.max_slices {
            0 | 1 => Slices::NONE,
            // One column has the most line feeds.
            most => Slices { columns: 1, rows: most },
        }
    }

    fn image_tokens(&self, slices: Slices) -> usize {
        slices.pictures() * self.config.query_num
    }

    /// The template of a chat of one user message without a system message: the picture, a line feed, the task.
    fn prompt(&self, tokenizer: &TextTokenizer, task: &str, slices: Slices) -> generate::Result<Prompt> {
        if let Some(mark) = PART.iter().chain(&GRID).find(|mark| task.contains(**mark)) {
            return Err(generate::Error::Prompt(format!("the task text must not contain {mark}")));
        }
        let special = PART.iter().chain(&GRID).chain(&HEADER).chain([&END_OF_TURN]);
        if let Some(token) = special.copied().find(|token| tokenizer.special(token).is_none()) {
            let reason =
                format!("tokenizer.json has no special token {token}; put the model's own tokenizer there");
            return Err(generate::Error::Prompt(reason));
        }
        if let Some(named) = self.config.bos_token_id
            && tokenizer.special(HEADER[0]) != Some(named)
        {
            let reason = format!("bos_token_id {named} is not the tokenizer's {}", HEADER[0]);
            return Err(generate::Error::Prompt(reason));
        }
        // The template trims the message, whose end is the task's.
        let message = format!("\n{task}");
        let message = message.trim_end();
        let mut texts = Self::image_texts(slices);
        let (first, last) = (texts.remove(0), texts.pop().unwrap_or_default());
        // Features lie between special tokens, so that pieces tokenised apart give the ids of the whole.
        let before = tokenizer.encode_bare(&format!("{TEMPLATE_BEFORE}{first}"))?;
        let after = tokenizer.encode_bare(&format!("{last}{message}{TEMPLATE_AFTER}"))?;
        let mut image = vec![Piece::Rows(self.config.query_num)];
        for text in texts {
            image.extend([Piece::Ids(tokenizer.encode_bare(&text)?), Piece::Rows(self.config.query_num)]);
        }
        Ok(Prompt { before, image, after })
    }

    fn end_ids(&self, tokenizer: &TextTokenizer, named: Option<Vec<u32>>) -> generate::Result<Vec<u32>> {
        let mut ids = named.unwrap_or_else(|| self.config.eos_token_ids.clone());
        let end = tokenizer.special(END_OF_TURN);
        let end = end.ok_or_else(|| {
            let remedy = "put the model's own tokenizer there";
            generate::Error::Prompt(format!("tokenizer.json has no special token {END_OF_TURN}; {remedy}"))
        })?;
        if !ids.contains(&end) {
            ids.push(end);
        }
        Ok(ids)
    }
}

fn of_grid(grid: Option<(usize, usize)>) -> Slices {
    grid.map_or(Slices::NONE, |(columns, rows)| Slices { columns, rows })
}

impl VisionEncoder for Vision {
    fn encode(&self, image: &Rgb8) -> Result<Encoded> {
        let (features, grid) = Vision::encode(self, image)?;
        Ok(Encoded { features, slices: of_grid(grid) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_rows_between_marks() {
        let text = |slices| MiniCpm::image_texts(slices).join("*");
        assert_eq!(text(Slices::NONE), "<image>*</image>");
        assert_eq!(
            text(Slices { columns: 2, rows: 2 }),
            "<image>*</image><slice><image>*</image><image>*</image>\n<image>*</image><image>*</image></slice>"
        );
        assert_eq!(text(Slices { columns: 1, rows: 1 }), "<image>*</image><slice><image>*</image></slice>");
    }
}
