//! Where this machine keeps what a run names.

use common::recipe::ModelRef;
use common::run::{DatasetPlan, RunPlan};
use std::path::{Path, PathBuf};

/// Finds models and datasets, by default where the run file says, else in this machine's own folders.
#[derive(Clone, Debug, Default)]
pub struct Locator {
    /// Folder that holds the models.
    pub models: Option<PathBuf>,
    /// Folder that holds dataset and images.
    pub data: Option<PathBuf>,
}

impl Locator {
    /// The folder of a model: with `models`, the one called like the model or like the last part of its
    /// path, whichever is there; else the path itself.
    pub fn model(&self, model: &ModelRef) -> PathBuf {
        let Some(models) = &self.models else { return PathBuf::from(&model.path) };
        let by_name = models.join(&model.name);
        if by_name.is_dir() {
            return by_name;
        }
        match Path::new(&model.path).file_name() {
            Some(last) => models.join(last),
            None => by_name,
        }
    }

    /// The dataset as this machine has it. With `data`, the file lies directly in that folder, and so do the
    /// images unless the run file gave them a folder of their own, which is then looked for by its last part.
    pub fn dataset(&self, dataset: &DatasetPlan) -> DatasetPlan {
        let Some(data) = &self.data else { return dataset.clone() };
        let last = |path: &str| Path::new(path).file_name().map(PathBuf::from).unwrap_or_default();
        let file = data.join(last(&dataset.file));
        let beside = Path::new(&dataset.file).parent() == Some(Path::new(&dataset.images));
        let images = if beside { data.clone() } else { data.join(last(&dataset.images)) };
        let text = |p: PathBuf| p.display().to_string();
        DatasetPlan { file: text(file), images: text(images), ..dataset.clone() }
    }

    /// The plan with every path as this machine has it. Its digest is no longer the run's.
    pub fn localise(&self, plan: &RunPlan) -> RunPlan {
        let mut plan = plan.clone();
        plan.dataset = self.dataset(&plan.dataset);
        plan.held_out = plan.held_out.as_ref().map(|d| self.dataset(d));
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::dataset::Columns;
    use common::report::{MissingPart, Part};
    use common::run::EmptyReference;

    #[test]
    fn a_model_is_found_by_name_or_by_folder() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("swallow")).unwrap();
        let locator = Locator { models: Some(dir.path().to_path_buf()), data: None };
        let model = |name: &str, path: &str| ModelRef::new(name, path);
        assert_eq!(locator.model(&model("swallow", "/m/Llama-3-Swallow")), dir.path().join("swallow"));
        assert_eq!(locator.model(&model("base", "/m/Meta-Llama-3-8B")), dir.path().join("Meta-Llama-3-8B"));
        let plain = Locator::default();
        assert_eq!(plain.model(&model("base", "/m/x")), PathBuf::from("/m/x"));
    }

    #[test]
    fn data_moves_with_its_images() {
        let dataset = |images: &str| DatasetPlan {
            file: "/run/data/s.jsonl".into(),
            images: images.into(),
            columns: Columns::default(),
            part: Part::Whole,
            without_part: MissingPart::Empty,
            empty_reference: EmptyReference::Skip,
            frame: None,
        };
        let locator = Locator { models: None, data: Some("/node/d".into()) };
        let moved = locator.dataset(&dataset("/run/data"));
        assert_eq!((moved.file.as_str(), moved.images.as_str()), ("/node/d/s.jsonl", "/node/d"));
        assert_eq!(locator.dataset(&dataset("/pictures/png")).images, "/node/d/png");
    }
}
