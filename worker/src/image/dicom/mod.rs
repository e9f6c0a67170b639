//! DICOM: from a file to eight-bit RGB, the way a viewer opens it.
//!
//! `syntax` recognises the file and its transfer syntax, `read` walks the data set and keeps the few attributes that
//! `header` names, `codec` unpacks compressed frames, `cells` finds the stored values, and `render` or `colour` turn
//! them into levels. Attributes are skipped in the stream unless they are named in `header`; nothing of the patient is
//! among them, and no message quotes text from a file.
//!
//! Source: DICOM PS3.3 (C.7.6.3, C.11.1, C.11.2), PS3.5 (sections 7, 8, annexes A and G), PS3.10. The data set is
//! parsed by dicom-rs.

mod cells;
mod codec;
mod colour;
mod header;
mod lut;
mod read;
mod render;
mod syntax;

use std::io::Read;

use super::{Error, Limits, Rgb8};
use header::Photometric;
pub(super) use syntax::{HEAD_BYTES, Start, recognise};

/// Why a file is refused; becomes an [`Error`] once the file's name is known.
#[derive(Debug)]
enum Problem {
    /// In words, without any text from the file.
    Reason(String),
    /// A picture beyond the limit: width and height.
    Size(u32, u32),
}

impl From<&str> for Problem {
    fn from(reason: &str) -> Self {
        Problem::Reason(reason.into())
    }
}

impl From<String> for Problem {
    fn from(reason: String) -> Self {
        Problem::Reason(reason)
    }
}

/// Decodes one frame. `source` starts at the file's first byte and ends at the limit of a file's size.
pub(super) fn decode(
    source: impl Read,
    start: Start,
    file: &str,
    frame: Option<u32>,
    limits: &Limits,
) -> Result<Rgb8, Error> {
    frame_of(source, start, frame, limits).map_err(|problem| match problem {
        Problem::Reason(reason) => Error::Decode { file: file.into(), reason: format!("DICOM: {reason}") },
        Problem::Size(width, height) => {
            Error::TooManyPixels { file: file.into(), width, height, limit: limits.side }
        }
    })
}

fn frame_of(source: impl Read, start: Start, frame: Option<u32>, limits: &Limits) -> Result<Rgb8, Problem> {
    let (syntax, data_set) = syntax::open(source, start, limits)?;
    let read::Image { header, geometry, pixels } = read::read(data_set, &syntax, frame, limits)?;
    let cells::Cells { values, photometric } = cells::cells(pixels, &syntax, &geometry)?;
    let levels = match photometric {
        Photometric::Monochrome1 | Photometric::Monochrome2 => {
            let levels = render::grey(&values, &header, &geometry, &syntax)?;
            levels.into_iter().flat_map(|level| [level; 3]).collect()
        }
        Photometric::Palette => colour::palette(&values, &header, &geometry, &syntax)?,
        Photometric::Rgb => values.into_iter().map(|value| value as u8).collect(),
        Photometric::YbrFull | Photometric::YbrFull422 => colour::rgb_of_ybr(&values),
    };
    Rgb8::new(geometry.columns, geometry.rows, levels)
        .map_err(|_| "the pixel data do not fill Rows and Columns".into())
}

#[cfg(test)]
#[path = "dicom_tests.rs"]
mod tests;
