//! mergekit's configurations: files as mergekit 0.1.5 reads them → [`Config`], and a recipe → a file for mergekit.
//!
//! | module | yields |
//! |---|---|
//! | `yaml` | text → values with their lines, plain data only |
//! | `read` | values → [`Config`]: every fault at once, keys without effect noted |
//! | `config` | models, slices, bases, tokenizer, and where a parameter is looked for |
//! | `recipe`, `amount` | a recipe → text for mergekit, or why there is none |
//! | `setting` | filters by tensor name, gradients over layers |
//!
//! What the methods and their parameters are is not known here: the worker has that, with the models.

mod amount;
mod config;
mod read;
mod recipe;
mod setting;
mod yaml;

pub use config::{
    Config, FloatType, InputModel, InputSlice, Inputs, ModelName, OutputSlice, Settings, TokenRow,
    TokenSetting, Tokenizer, TokenizerSource,
};
pub use read::{Parsed, parse};
pub use recipe::{Inexpressible, from_recipe};
pub use setting::{Condition, Graded, Scalar, Setting};
