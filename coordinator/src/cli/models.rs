//! Models as the coordinator sees them: references are pinned, folders looked into where they are here. It fetches
//! nothing: only workers need the weights.

use super::Failure;
use common::location::{HubRef, Location};
use common::recipe::ModelRef;
use common::run::RunPlan;
use hub::{Hub, Meter, PinnedBy};
use std::path::PathBuf;

/// Finds the plan's models. The environment is only asked where one is on a hub.
#[derive(Debug)]
pub struct Models {
    hub: Option<Hub>,
}

impl Models {
    /// For a plan, with the hub that the environment names.
    pub fn new(plan: &RunPlan) -> Result<Models, Failure> {
        let needed = plan.model_refs().into_iter().any(|m| reference(m).is_some());
        let hub = needed.then(Hub::from_env).transpose().map_err(|e| Failure::Failed(e.to_string()))?;
        Ok(Models { hub })
    }

    /// Writes into the plan the commit of every branch and tag, so that all workers, and every resumption, take the
    /// same files. A plan of folders and commits needs no network.
    ///
    /// # Errors
    /// [`Failure::Failed`] naming the model that neither hub nor cache knows, and how to pin it by hand.
    pub fn pin(&self, plan: &mut RunPlan, say: &mut dyn FnMut(String)) -> Result<(), Failure> {
        let mut known: Vec<(String, HubRef)> = Vec::new();
        for model in plan.models_mut() {
            let (Some(hub), Some(open)) = (&self.hub, reference(model)) else { continue };
            // The VLM may be a source, too: a branch that moves meanwhile must not make two models of it.
            let pinned = match known.iter().find(|(path, _)| *path == model.path) {
                Some((_, pinned)) => pinned.clone(),
                None => {
                    let pinned = hub
                        .pin(&open, &Meter::stderr())
                        .map_err(|e| Failure::Failed(format!("model {:?}: {e}", model.name)))?;
                    match &pinned.by {
                        PinnedBy::Itself => {}
                        PinnedBy::Hub => say(format!("{open} is pinned as {}", pinned.reference)),
                        PinnedBy::Cache { why } => {
                            say(format!(
                                "{open} is pinned as {}, as last seen from here: {why}",
                                pinned.reference
                            ));
                        }
                    }
                    known.push((model.path.clone(), pinned.reference.clone()));
                    pinned.reference
                }
            };
            model.path = pinned.to_string();
        }
        Ok(())
    }

    /// The model's folder, if this machine has it.
    pub fn folder(&self, model: &ModelRef) -> Result<PathBuf, String> {
        match (reference(model), &self.hub) {
            (Some(reference), Some(hub)) => {
                hub.cached(&reference).map(|s| s.folder).map_err(|e| e.to_string())
            }
            _ => Ok(PathBuf::from(&model.path)),
        }
    }
}

/// The reference, for a model of a hub.
fn reference(model: &ModelRef) -> Option<HubRef> {
    match model.location() {
        Ok(Location::Hub(reference)) => Some(reference),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::plan;
    use ::tests::HubServer;
    use hub::Settings;

    #[test]
    fn a_plan_holds_commits_and_needs_nobody_afterwards() {
        let (server, cache) = (HubServer::start(), tempfile::tempdir().unwrap());
        let first = server.publish("lab/vlm", "main", &[("config.json", b"{}")]);
        let mut open = plan(&[]);
        open.models.vlm.path = "hf://lab/vlm@main".into();
        open.models.sources[0].model.path = "hf://lab/vlm@main".into();
        let settings = Settings { endpoint: server.url(), ..Settings::new(cache.path().into()) };
        let models = Models { hub: Some(Hub::new(settings.clone()).unwrap()) };
        let mut said = Vec::new();
        let mut pinned = open.clone();
        models.pin(&mut pinned, &mut |line| said.push(line)).unwrap();
        assert_eq!(pinned.models.vlm.path, format!("hf://lab/vlm@{first}"));
        assert_eq!(pinned.models.sources[0].model.path, pinned.models.vlm.path);
        assert_eq!(said.len(), 1, "{said:?}");
        assert_eq!(server.take_requests().len(), 1);
        assert_eq!(pinned.models.base, open.models.base);

        // The branch moves; a plan that is pinned does not.
        server.publish("lab/vlm", "main", &[("config.json", b"{ }")]);
        let mut again = pinned.clone();
        models.pin(&mut again, &mut |line| panic!("{line}")).unwrap();
        assert_eq!(again, pinned);
        assert!(server.take_requests().is_empty());

        // Without the hub, a branch is what it was when last asked for; one that was never asked for is refused.
        let offline = Models { hub: Some(Hub::new(Settings { offline: true, ..settings }).unwrap()) };
        let mut from_cache = open.clone();
        offline.pin(&mut from_cache, &mut |line| assert!(line.contains("as last seen"), "{line}")).unwrap();
        assert_eq!(from_cache, pinned);
        let mut unknown = open.clone();
        unknown.models.base.path = "hf://lab/base@v2".into();
        let e = offline.pin(&mut unknown, &mut |_| {}).unwrap_err().to_string();
        assert!(e.contains("model \"base\"") && e.contains("write the commit yourself"), "{e}");
    }

    #[test]
    fn a_model_is_looked_into_only_where_it_is_here() {
        let cache = tempfile::tempdir().unwrap();
        let models = Models { hub: Some(Hub::new(Settings::new(cache.path().into())).unwrap()) };
        let there = ModelRef::new("base", "/somewhere/base");
        assert_eq!(models.folder(&there).unwrap(), PathBuf::from("/somewhere/base"));
        let e = models.folder(&ModelRef::new("base", "hf://lab/base@main")).unwrap_err();
        assert!(e.contains("does not know the revision"), "{e}");
    }
}
