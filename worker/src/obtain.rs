//! Models of a hub for the commands that open models: out of this machine's folders or the cache, else fetched.

use crate::locate::Locator;
use anyhow::{Context, Result};
use common::location::Location;
use common::recipe::ModelRef;
use hub::{Hub, Progress};
use std::path::{Path, PathBuf};

/// Places every model that is on a hub; what this machine lacks is fetched. The environment is only asked where there
/// is such a model.
///
/// # Errors
/// The first model that cannot be had, by its name.
pub fn obtain<'a>(
    locator: &mut Locator,
    models: impl IntoIterator<Item = &'a ModelRef>,
    progress: &dyn Progress,
) -> Result<()> {
    let mut hub = None;
    for model in models {
        if matches!(model.location()?, Location::Hub(_)) {
            let hub = match &mut hub {
                Some(hub) => hub,
                none => none.insert(Hub::from_env()?),
            };
            locator
                .place(model, |reference| hub.obtain(reference, progress))
                .with_context(|| format!("model {:?}", model.name))?;
        }
    }
    Ok(())
}

/// The folder of a model that was named on the command line.
///
/// # Errors
/// As [`obtain`].
pub fn folder(model: &Path, progress: &dyn Progress) -> Result<PathBuf> {
    // What is not Unicode is a path.
    let Some(Ok(Location::Hub(reference))) = model.to_str().map(str::parse) else {
        model.to_str().map(str::parse::<Location>).transpose()?;
        return Ok(model.to_path_buf());
    };
    Ok(Hub::from_env()?.obtain(&reference, progress)?.folder)
}
