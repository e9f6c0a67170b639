//! The evaluation set: references and decoded images, in the run's order, and the digests that pin it.

use crate::image::{Limits, Rgb8, decode_as};
use anyhow::{Context, Result, bail};
use common::bounded;
use common::dataset::{Reference, references};
use common::digest::Manifest;
use common::files;
use common::run::{DatasetPlan, RunPlan};
use std::path::Path;

use crate::locate::Locator;

/// Reads the samples that count.
pub fn read_references(dataset: &DatasetPlan) -> Result<Vec<Reference>> {
    let text = bounded::text(Path::new(&dataset.file), bounded::DATASET_BYTES)
        .with_context(|| format!("{}: cannot read the dataset", dataset.file))?;
    references(&text, dataset).with_context(|| dataset.file.clone())
}

/// Reads the samples that count and checks that they are those of the run, in its order.
pub fn read_run_references(dataset: &DatasetPlan, samples: &[String]) -> Result<Vec<Reference>> {
    let references = read_references(dataset)?;
    if !references.iter().map(|r| &r.id).eq(samples) {
        bail!("{}: the samples are not those that the run was started with", dataset.file);
    }
    Ok(references)
}

/// Decodes the image of the sample at a position of those that count, from 0. Errors name the position and not the file,
/// which may be called after a patient.
pub fn read_image(dataset: &DatasetPlan, position: usize, reference: &Reference) -> Result<Rgb8> {
    let path = Path::new(&dataset.images).join(&reference.image);
    let shown = format!("of sample {}", position + 1);
    Ok(decode_as(&path, &shown, dataset.frame, &Limits::default())?)
}

/// Digests every file that the run depends on, as this machine has it.
pub fn manifest(plan: &RunPlan, locator: &Locator) -> Result<Manifest> {
    let mut digests = Vec::new();
    for model in plan.model_refs() {
        let folder = locator.model(model);
        digests.extend(
            files::digest_model(&model.name, &folder).with_context(|| format!("model {:?}", model.name))?,
        );
    }
    let dataset = locator.dataset(&plan.dataset);
    let references = read_references(&dataset)?;
    digests.extend(files::digest_dataset(&dataset, &references)?);
    digests.extend(files::digest_scoring(&plan.scoring)?);
    digests.extend(score::built_in::digests(&plan.scoring));
    digests.extend(files::digest_programs(plan)?);
    Ok(Manifest::new(digests))
}
