//! Where a model's tensors come from, told apart from how files are read.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Tensor};

use super::error::{Error, Result};

/// Tensors by name. A model asks for the names it needs and ignores all others.
pub trait TensorSource {
    /// The shape of a tensor, or none if there is no such name.
    fn shape(&self, name: &str) -> Option<Vec<usize>>;

    /// The tensor's values, of any floating dtype and on any device.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] for an unknown name, [`Error::Source`] if the values cannot be read.
    fn get(&self, name: &str) -> Result<Tensor>;
}

impl TensorSource for HashMap<String, Tensor> {
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        HashMap::get(self, name).map(|t| t.dims().to_vec())
    }

    fn get(&self, name: &str) -> Result<Tensor> {
        HashMap::get(self, name)
            .cloned()
            .ok_or_else(|| Error::MissingTensor { name: name.into(), expected: Vec::new() })
    }
}

impl TensorSource for BTreeMap<String, Tensor> {
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        BTreeMap::get(self, name).map(|t| t.dims().to_vec())
    }

    fn get(&self, name: &str) -> Result<Tensor> {
        BTreeMap::get(self, name)
            .cloned()
            .ok_or_else(|| Error::MissingTensor { name: name.into(), expected: Vec::new() })
    }
}

/// Checks that a source has `name` in `shape`, without reading its values.
///
/// # Errors
/// [`Error::MissingTensor`] or [`Error::Shape`].
pub fn expect_shape(source: &dyn TensorSource, name: &str, shape: &[usize]) -> Result<()> {
    match source.shape(name) {
        None => Err(Error::MissingTensor { name: name.into(), expected: shape.to_vec() }),
        Some(found) if found != shape => {
            Err(Error::Shape { name: name.into(), expected: shape.to_vec(), found })
        }
        Some(_) => Ok(()),
    }
}

/// A tensor of the shape asked for, converted to `dtype` on `device`, contiguous.
///
/// It may share storage with the source.
///
/// # Errors
/// [`Error::MissingTensor`], [`Error::Shape`], or what the source and the conversion report.
pub fn fetch(
    source: &dyn TensorSource,
    name: &str,
    shape: &[usize],
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    expect_shape(source, name, shape)?;
    let tensor = source.get(name)?;
    if tensor.dims() != shape {
        let found = tensor.dims().to_vec();
        return Err(Error::Shape { name: name.into(), expected: shape.to_vec(), found });
    }
    Ok(tensor.to_device(device)?.to_dtype(dtype)?.contiguous()?)
}
