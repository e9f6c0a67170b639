//! Where this machine keeps what a run names.

use anyhow::Result;
use common::location::{HubRef, Location};
use common::recipe::ModelRef;
use common::run::{DatasetPlan, RunPlan};
use hub::Snapshot;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Finds models and datasets, by default where the run file says, else in this machine's own folders. Models of a hub
/// are known once they have been placed, see [`Locator::place`].
#[derive(Clone, Debug, Default)]
pub struct Locator {
    /// Folder that holds the models.
    pub models: Option<PathBuf>,
    /// Folder that holds dataset and images.
    pub data: Option<PathBuf>,
    /// Reference as the plan has it → where the model is.
    placed: BTreeMap<String, Placed>,
}

#[derive(Clone, Debug)]
struct Placed {
    folder: PathBuf,
    /// Absent where the folder is this machine's own.
    pinned: Option<HubRef>,
}

impl Locator {
    /// A locator of folders given on the command line.
    pub fn new(models: Option<PathBuf>, data: Option<PathBuf>) -> Locator {
        Locator { models, data, placed: BTreeMap::new() }
    }

    /// The folder of a model: with `models`, the one called like the model or like the last part of its
    /// path, whichever is there; else the path itself. A model of a hub must have been placed: what is given for
    /// another is no folder.
    pub fn model(&self, model: &ModelRef) -> PathBuf {
        if let Some(placed) = self.placed.get(&model.path) {
            return placed.folder.clone();
        }
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

    /// Finds the folder of a model of a hub: with `models`, the one there called like the model or like its
    /// repository; else what `get` yields, which is also returned. Models that are folders need nothing.
    ///
    /// # Errors
    /// What `get` has against it; a path that is no reference.
    pub fn place(
        &mut self,
        model: &ModelRef,
        get: impl FnOnce(&HubRef) -> hub::Result<Snapshot>,
    ) -> Result<Option<Snapshot>> {
        let Location::Hub(reference) = model.location()? else { return Ok(None) };
        let own = self.models.iter().flat_map(|m| [m.join(&model.name), m.join(reference.name())]);
        let (placed, snapshot) = match own.into_iter().find(|folder| folder.is_dir()) {
            Some(folder) => (Placed { folder, pinned: None }, None),
            None => {
                let snapshot = get(&reference)?;
                let pinned = Some(snapshot.reference.clone());
                (Placed { folder: snapshot.folder.clone(), pinned }, Some(snapshot))
            }
        };
        self.placed.insert(model.path.clone(), placed);
        Ok(snapshot)
    }

    /// Writes the commits at which models were placed into references that leave them open.
    pub fn pin<'a>(&self, models: impl IntoIterator<Item = &'a mut ModelRef>) {
        for model in models {
            if let Some(pinned) = self.placed.get(&model.path).and_then(|p| p.pinned.as_ref()) {
                model.path = pinned.to_string();
            }
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
        plan.validation = plan.validation.as_ref().map(|d| self.dataset(d));
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
        let locator = Locator::new(Some(dir.path().to_path_buf()), None);
        let model = |name: &str, path: &str| ModelRef::new(name, path);
        assert_eq!(locator.model(&model("swallow", "/m/Llama-3-Swallow")), dir.path().join("swallow"));
        assert_eq!(locator.model(&model("base", "/m/Meta-Llama-3-8B")), dir.path().join("Meta-Llama-3-8B"));
        let plain = Locator::default();
        assert_eq!(plain.model(&model("base", "/m/x")), PathBuf::from("/m/x"));
    }

    #[test]
    fn a_model_of_a_hub_is_this_machines_own_folder_or_a_snapshot() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("tiny")).unwrap();
        let model = ModelRef::new("base", "hf://lab/tiny@main");
        let mut own = Locator::new(Some(dir.path().to_path_buf()), None);
        assert!(own.place(&model, |_| panic!("it is here")).unwrap().is_none());
        assert_eq!(own.model(&model), dir.path().join("tiny"));

        let commit = "0123456789012345678901234567890123456789";
        let get = |r: &HubRef| {
            let reference = r.at(commit).unwrap();
            Ok(Snapshot {
                reference,
                folder: "/cache/x".into(),
                files: Vec::new(),
                fetched: 0,
                inferred: false,
            })
        };
        let mut fetched = Locator::default();
        assert!(fetched.place(&model, get).unwrap().is_some());
        assert_eq!(fetched.model(&model), PathBuf::from("/cache/x"));
        let mut models = [model.clone(), ModelRef::new("vlm", "/m/vlm")];
        fetched.pin(&mut models);
        assert_eq!(models[0].path, format!("hf://lab/tiny@{commit}"));
        assert_eq!(models[1].path, "/m/vlm");
        assert!(fetched.place(&ModelRef::new("a", "hf://nobody"), get).is_err());
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
        let locator = Locator::new(None, Some("/node/d".into()));
        let moved = locator.dataset(&dataset("/run/data"));
        assert_eq!((moved.file.as_str(), moved.images.as_str()), ("/node/d/s.jsonl", "/node/d"));
        assert_eq!(locator.dataset(&dataset("/pictures/png")).images, "/node/d/png");
    }
}
