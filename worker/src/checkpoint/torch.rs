//! The tensors of a `.bin` file that `torch.save` wrote: a zip file with one pickle and one entry per storage.

use super::dtype::size_bytes;
use super::error::{Error, Result};
use super::{Entry, TensorInfo, torch_pickle, torch_zip};
use std::path::Path;

/// Lists the tensors of the file whose whole content is `bytes`. `path` serves in messages alone.
pub(crate) fn entries(path: &Path, bytes: &[u8], file: usize) -> Result<Vec<Entry>> {
    if !torch_zip::is_zip(bytes) {
        return Err(Error::Malformed {
            file: path.into(),
            field: "file".into(),
            fault: "not a zip file: truncated, or saved by torch before 1.6".into(),
            remedy: "download it again, or convert it to safetensors",
        });
    }
    let parts = torch_zip::entries(path, bytes)?;
    let pickle = parts.iter().find_map(|(name, range)| Some((name.strip_suffix("data.pkl")?, range.clone())));
    let (root, pickle) =
        pickle.ok_or_else(|| Error::malformed(path, "data.pkl", "missing; not written by torch.save"))?;
    if let Some(order) = parts.get(&format!("{root}byteorder"))
        && &bytes[order.clone()] != b"little"
    {
        return Err(Error::Malformed {
            file: path.into(),
            field: "byteorder".into(),
            fault: "the numbers are stored big endian".into(),
            remedy: "convert it to safetensors",
        });
    }

    let mut entries = Vec::new();
    for (name, view) in torch_pickle::state_dict(path, &bytes[pickle])? {
        let storage = parts.get(&format!("{root}data/{}", view.storage)).ok_or_else(|| {
            Error::malformed(path, &name, format!("its storage {} is not in the file", view.storage))
        })?;
        if !contiguous(&view.shape, &view.stride) {
            return Err(Error::Malformed {
                file: path.into(),
                field: name,
                fault: format!("not contiguous: shape {:?} with strides {:?}", view.shape, view.stride),
                remedy: "convert the model to safetensors",
            });
        }
        let sizes = size_bytes(&view.shape, view.dtype);
        let start = view.offset.checked_mul(view.dtype.width()).and_then(|o| storage.start.checked_add(o));
        let (Some((elements, size)), Some(start)) = (sizes, start) else {
            return Err(Error::malformed(path, name, format!("shape {:?} overflows", view.shape)));
        };
        if start.checked_add(size).is_none_or(|end| end > storage.end) {
            let fault = format!(
                "shape {:?} of {} at element {} takes more than the storage's {} bytes",
                view.shape,
                view.dtype.name(),
                view.offset,
                storage.len()
            );
            return Err(Error::malformed(path, name, fault));
        }
        let info = TensorInfo { dtype: view.dtype, shape: view.shape, elements };
        entries.push(Entry { name, info, file, offset: start, bytes: size });
    }
    Ok(entries)
}

/// Whether elements lie in row-major order without gaps. The stride of an axis of length 1 does not matter.
fn contiguous(shape: &[usize], stride: &[usize]) -> bool {
    let mut expected = 1usize;
    for (&length, &step) in shape.iter().zip(stride).rev() {
        if length > 1 && step != expected {
            return shape.contains(&0);
        }
        expected = expected.saturating_mul(length);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::contiguous;

    #[test]
    fn knows_row_major_order() {
        assert!(contiguous(&[2, 3], &[3, 1]));
        assert!(contiguous(&[2, 1, 3], &[3, 99, 1]));
        assert!(contiguous(&[], &[]));
        assert!(contiguous(&[0, 3], &[7, 7]));
        assert!(!contiguous(&[2, 3], &[1, 2]));
    }
}
