//! The tensors of a `.bin` file that `torch.save` wrote: a zip file with one pickle and one entry per storage.

use super::dtype::size_bytes;
use super::error::{Error, Result};
use super::{Entry, TensorInfo, torch_pickle, torch_zip};
use std::path::Path;

/// What `torch.save` wrote first before it wrote zip files: the pickle of a number.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";

/// Lists the tensors of the file whose whole content is `bytes`. `path` serves in messages alone.
pub(crate) fn entries(path: &Path, bytes: &[u8], file: usize) -> Result<Vec<Entry>> {
    if !torch_zip::is_zip(bytes) {
        let (fault, remedy) = match bytes.starts_with(LEGACY) {
            true => (
                "saved in the form of torch before 1.6, which is not read here",
                "load it with torch.load(file, weights_only=True) and save it again, best as safetensors",
            ),
            false => (
                "not a zip file: truncated, or not written by torch.save",
                "download it again, or get the model in safetensors form",
            ),
        };
        return Err(Error::Malformed {
            file: path.into(),
            field: "file".into(),
            fault: fault.into(),
            remedy,
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
        let sizes = size_bytes(&view.shape, view.dtype);
        let start = view.offset.checked_mul(view.dtype.width()).and_then(|o| storage.start.checked_add(o));
        let (Some((elements, size)), Some(start)) = (sizes, start) else {
            return Err(Error::malformed(path, name, format!("shape {:?} overflows", view.shape)));
        };
        let strided = !contiguous(&view.shape, &view.stride);
        let span = if strided { span(&view.shape, &view.stride, view.dtype.width()) } else { Some(size) };
        let Some(bytes) = span.filter(|&b| start.checked_add(b).is_some_and(|end| end <= storage.end)) else {
            let fault = format!(
                "shape {:?} of {} at element {} with strides {:?} takes more than the storage's {} bytes",
                view.shape,
                view.dtype.name(),
                view.offset,
                view.stride,
                storage.len()
            );
            return Err(Error::malformed(path, name, fault));
        };
        // A few stored numbers may be seen as any number of elements. No weights are, and memory is not for that.
        if size > storage.len() {
            return Err(Error::Malformed {
                file: path.into(),
                field: name,
                fault: format!(
                    "shape {:?} with strides {:?} repeats stored elements",
                    view.shape, view.stride
                ),
                remedy: "save the tensors with .contiguous(), or as safetensors",
            });
        }
        let strides = strided.then(|| Strided::new(view.shape.clone(), view.stride));
        let info = TensorInfo { dtype: view.dtype, shape: view.shape, elements };
        entries.push(Entry { name, info, file, offset: start, bytes, strided: strides });
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

/// Bytes from the first element to the end of the last, or nothing when that overflows. No axis is empty.
fn span(shape: &[usize], stride: &[usize], width: usize) -> Option<usize> {
    let mut steps = shape.iter().zip(stride);
    let last =
        steps.try_fold(0usize, |sum, (&n, &step)| sum.checked_add(step.checked_mul(n.checked_sub(1)?)?));
    last?.checked_add(1)?.checked_mul(width)
}

/// How the elements of a tensor lie that is not stored in row-major order, such as a transposed view. Nothing of it is
/// kept: whoever needs elements has them gathered, as many as are needed at once.
#[derive(Debug)]
pub(crate) struct Strided {
    shape: Vec<usize>,
    stride: Vec<usize>,
}

impl Strided {
    /// Steps of elements along the axes of a tensor of that shape.
    pub(crate) fn new(shape: Vec<usize>, stride: Vec<usize>) -> Strided {
        Strided { shape, stride }
    }

    /// Fills `out` with the elements of `width` bytes from `first` on, in row-major order; `stored` are the bytes from
    /// the tensor's first stored element to its last. There must be as many elements.
    pub(crate) fn gather(&self, stored: &[u8], width: usize, first: usize, out: &mut [u8]) {
        let mut at = vec![0usize; self.shape.len()];
        let (mut rest, mut place) = (first, 0);
        for axis in (0..at.len()).rev() {
            at[axis] = rest % self.shape[axis];
            rest /= self.shape[axis];
            place += at[axis] * self.stride[axis];
        }
        for out in out.chunks_exact_mut(width) {
            out.copy_from_slice(&stored[place * width..][..width]);
            // The next index in row-major order, and its place.
            for axis in (0..at.len()).rev() {
                at[axis] += 1;
                place += self.stride[axis];
                if at[axis] < self.shape[axis] {
                    break;
                }
                place -= at[axis] * self.stride[axis];
                at[axis] = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Strided, contiguous, span};

    #[test]
    fn knows_row_major_order() {
        assert!(contiguous(&[2, 3], &[3, 1]));
        assert!(contiguous(&[2, 1, 3], &[3, 99, 1]));
        assert!(contiguous(&[], &[]));
        assert!(contiguous(&[0, 3], &[7, 7]));
        assert!(!contiguous(&[2, 3], &[1, 2]));
    }

    #[test]
    fn puts_strided_elements_in_order() {
        let check = |shape: &[usize], stride: &[usize], expected: &[u8]| {
            let stored: Vec<u8> = (0..span(shape, stride, 1).unwrap() as u8).collect();
            let strided = Strided::new(shape.into(), stride.into());
            for first in 0..expected.len() {
                let mut out = vec![0; expected.len() - first];
                strided.gather(&stored, 1, first, &mut out);
                assert_eq!(out, expected[first..]);
            }
            let wide: Vec<u8> = stored.iter().flat_map(|b| [*b, 100 + *b]).collect();
            let mut out = [0; 2];
            strided.gather(&wide, 2, 1, &mut out);
            assert_eq!(out, [expected[1], 100 + expected[1]]);
        };
        check(&[2, 3], &[1, 2], &[0, 2, 4, 1, 3, 5]);
        check(&[3], &[2], &[0, 2, 4]);
        check(&[2, 1, 2], &[1, 9, 5], &[0, 5, 1, 6]);
        assert_eq!(span(&[2, usize::MAX], &[1, 2], 4), None);
        assert_eq!(span(&[3, 2], &[usize::MAX, 1], 4), None);
    }
}
