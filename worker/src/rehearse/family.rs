//! Writes what a rehearsal runs on: model folders, images, a dataset and the run file over them.

use super::random::fill;
use super::rates::forget;
use super::shapes::vision_parameters;
use super::tokenizer::{task, tokenizer_json};
use super::{Size, Tower};
use crate::checkpoint::Dtype;
use crate::checkpoint::write::{SHARD_BYTES, Spec, Writer};
use crate::device::Chosen;
use crate::generate::Options;
use crate::memory::{Mapped, Workload};
use crate::model::BunnyConfig;
use crate::model::weights::expected_parameters;
use crate::vlm::{Bunny, VisionLanguageModel};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// What is written, and how it is asked.
#[derive(Clone, Debug)]
pub struct Family {
    /// Shape of the language models.
    pub size: Size,
    /// Which tower the VLM has.
    pub tower: Tower,
    /// Sources of a merge, the VLM's own language model among them.
    pub sources: usize,
    /// Images and reports.
    pub samples: usize,
    /// Most new tokens a report.
    pub new_tokens: usize,
    /// Type of base and sources; the VLM is float16, as published.
    pub dtype: Dtype,
}

/// References: findings of ordinary length, so that scoring has ordinary work.
const REPORTS: [&str; 4] = [
    "両肺野に明らかな異常陰影を認めない。心拡大なし。胸水は認めない。骨に明らかな異常を指摘できない。",
    "右下肺野に浸潤影を認める。右胸水貯留を認める。心拡大を認める。気胸は認めない。",
    "左上肺野に結節影を認める。縦隔の拡大はみられない。胸水なし。鎖骨骨折の疑いがある。",
    "両側に間質影の増強がみられ、肺うっ血が疑われる。心拡大を認める。両側胸水を認める。",
];
/// Side of the images, in pixels: as JRadiEvo resizes them.
const SIDE: u32 = 512;

/// Bytes free for this user on the disk that holds `folder`; none where the system does not say.
pub fn free_disk(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

impl Family {
    /// The VLM's configuration.
    ///
    /// # Errors
    /// Never for the sizes of this program.
    pub fn config(&self) -> Result<BunnyConfig> {
        Ok(BunnyConfig::from_json(
            &self.size.vlm_config(self.tower).to_string(),
            "the rehearsal's config.json",
        )?)
    }

    fn language_elements(&self) -> Result<u64> {
        let list = expected_parameters(&self.config()?.llama);
        Ok(list.iter().map(|(_, shape)| shape.iter().product::<usize>() as u64).sum())
    }

    /// Parameters of one language model.
    ///
    /// # Errors
    /// As [`Family::config`].
    pub fn parameters(&self) -> Result<u64> {
        self.language_elements()
    }

    /// Bytes of all weight files.
    ///
    /// # Errors
    /// As [`Family::config`].
    pub fn disk_bytes(&self) -> Result<u64> {
        let vision = vision_parameters(&self.config()?);
        let vision: u64 = vision.iter().map(|(_, shape)| shape.iter().product::<usize>() as u64).sum();
        let language = self.language_elements()?;
        let width = self.dtype.width() as u64;
        Ok(self.sources as u64 * language * width + 2 * (language + vision))
    }

    /// What a worker will hold, before anything is written.
    ///
    /// # Errors
    /// As [`Family::config`].
    pub fn workload(&self, chosen: &Chosen, batch: usize) -> Result<Workload> {
        let config = self.config()?;
        let text = self.size.vlm_config(self.tower).to_string();
        let language = self.language_elements()?;
        let folders = (0..=self.sources).map(|i| {
            let (name, width) = match i {
                0 => ("base".to_string(), self.dtype.width()),
                i if i == self.sources => ("vlm".to_string(), 2),
                i => (format!("source{i}"), self.dtype.width()),
            };
            Mapped { name, bytes: language * width as u64 }
        });
        let parameters = expected_parameters(&config.llama);
        let largest = parameters.iter().map(|(_, shape)| shape.iter().product::<usize>() as u64).max();
        // 32 positions before the image and 62 after it, as the tokenizer's test holds.
        let (shared, after) = (32, 62);
        Ok(Workload {
            mapped: folders.collect(),
            sources: self.sources,
            own_bases: 0,
            masked: self.sources as u64 * language,
            kernels: chosen.merges_on_gpu,
            merged_width: self.dtype.width().max(2) as u64,
            merge_copies: 1,
            vision: Bunny::from_json(&text, "the rehearsal's config.json")?.vision_needs(chosen.dtype, 2),
            prompt: shared + config.image_tokens() + after,
            language: config.llama,
            compute: chosen.dtype,
            passes: chosen.passes,
            largest: largest.unwrap_or(0),
            stored: 2,
            samples: self.samples,
            shared,
            options: Options { max_new_tokens: self.new_tokens, batch_size: batch, ..Options::default() },
            slots: 1,
        })
    }

    /// Writes everything into `folder` and lets the page cache forget it. Returns the bytes of weights.
    ///
    /// # Errors
    /// When the disk cannot be written, or `stop` was set.
    pub fn write(
        &self,
        folder: &Path,
        batch: usize,
        stop: &AtomicBool,
        tell: &mut dyn FnMut(&str),
    ) -> Result<u64> {
        let config = self.config()?;
        let language = expected_parameters(&config.llama);
        let tokenizer = tokenizer_json(&self.size)?;
        for index in 0..self.sources {
            let name = if index == 0 { "base".into() } else { format!("source{index}") };
            tell(&name);
            let config = self.size.language_config();
            self.model(&folder.join(&name), &config, &tokenizer, self.dtype, &language, index as u64, stop)?;
        }
        tell("vlm");
        let mut all = language.clone();
        all.extend(vision_parameters(&config));
        let json = self.size.vlm_config(self.tower);
        self.model(&folder.join("vlm"), &json, &tokenizer, Dtype::F16, &all, self.sources as u64, stop)?;
        self.data(folder, batch)?;
        self.disk_bytes()
    }

    #[allow(clippy::too_many_arguments)]
    fn model(
        &self,
        folder: &Path,
        config: &serde_json::Value,
        tokenizer: &str,
        dtype: Dtype,
        parameters: &[(String, Vec<usize>)],
        model: u64,
        stop: &AtomicBool,
    ) -> Result<()> {
        let specs: Vec<Spec> = parameters
            .iter()
            .map(|(name, shape)| Spec { name: name.clone(), dtype, shape: shape.clone() })
            .collect();
        let total: u64 =
            specs.iter().map(|s| (s.shape.iter().product::<usize>() * dtype.width()) as u64).sum();
        let writer = Writer::create(folder)?;
        writer.file("config.json", serde_json::to_string_pretty(config)?.as_bytes())?;
        writer.file("tokenizer.json", tokenizer.as_bytes())?;
        // Shards as published: four of an 8B model.
        let shard = SHARD_BYTES.min(total / 4 + 1);
        writer.tensors(&specs, shard, |spec, buffer| -> Result<()> {
            if stop.load(Ordering::Relaxed) {
                bail!("stopped");
            }
            buffer.resize(spec.shape.iter().product::<usize>() * spec.dtype.width(), 0);
            fill(&spec.name, model, spec.dtype, buffer);
            Ok(())
        })?;
        writer.finish()?;
        for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            forget(&entry?.path())?;
        }
        Ok(())
    }

    /// Images, dataset and run file.
    fn data(&self, folder: &Path, batch: usize) -> Result<()> {
        let told = |p: &Path| p.display().to_string();
        let images = folder.join("images");
        fs::create_dir(&images).with_context(|| told(&images))?;
        let mut lines = String::new();
        for i in 0..self.samples {
            let path = images.join(format!("{i}.png"));
            // A bright field that darkens towards its edges, another for each sample.
            let pixel = |x: u32, y: u32| {
                let (dx, dy) = (x.abs_diff(SIDE / 2), y.abs_diff(SIDE / 2));
                image::Luma([
                    (220u32.saturating_sub((dx * dx + dy * dy) / 400) + (x * (i as u32 + 3)) % 17) as u8
                ])
            };
            image::GrayImage::from_fn(SIDE, SIDE, pixel).save(&path).with_context(|| told(&path))?;
            let report = REPORTS[i % REPORTS.len()];
            let line = serde_json::json!({"id": i.to_string(), "image": format!("images/{i}.png"), "report": report});
            lines.push_str(&format!("{line}\n"));
        }
        let sources: String = (1..=self.sources)
            .map(|i| {
                let name = if i == self.sources { "vlm".into() } else { format!("source{i}") };
                format!("[[models.sources]]\nname = \"{name}\"\nmodel = \"{name}\"\n\n")
            })
            .collect();
        let run = format!(
            "# A rehearsal: random weights of real shapes.\nname = \"rehearsal\"\n\n[models]\nbase = \"base\"\nvlm = \"vlm\"\n\n\
             {sources}[search]\nevaluations = 20\n\n[dataset]\nfile = \"samples.jsonl\"\n\n[prompt]\ntask = \"{}\"\n\n\
             [generation]\nimage_resize = [{SIDE}, {SIDE}]\nmax_new_tokens = {}\nbatch_size = {batch}\n\n\
             [fitness]\nrouge_l = 1.0\n",
            task(),
            self.new_tokens
        );
        for (name, text) in [("samples.jsonl", lines), ("run.toml", run)] {
            let path: PathBuf = folder.join(name);
            fs::write(&path, text).with_context(|| told(&path))?;
        }
        Ok(())
    }
}
