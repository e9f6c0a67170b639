//! Grey values to levels: modality, then values of interest, then presentation, in double precision with one rounding.
//!
//! Source: PS3.3 C.11.1 (modality), C.11.2.1.1 (VOI LUT), C.11.2.1.2 and C.11.2.1.3 (windows), C.7.6.3.1.2 (MONOCHROME1).

use super::Problem;
use super::header::{Curve, Geometry, Header, Photometric};
use super::lut::Lut;
use super::syntax::Syntax;

/// From stored values to what the detector or its maker meant.
enum Modality {
    Lut(Lut),
    Linear { slope: f64, intercept: f64 },
}

/// From those to brightness, 0 to 1.
enum Interest {
    Lut(Lut),
    Window {
        centre: f64,
        width: f64,
        curve: Curve,
    },
    /// The picture's own range, where the file prescribes nothing.
    Range {
        low: f64,
        high: f64,
    },
}

/// Draws a grey frame.
pub(super) fn grey(
    values: &[u16],
    header: &Header,
    geometry: &Geometry,
    syntax: &Syntax,
) -> Result<Vec<u8>, Problem> {
    let ready = |lut: &super::lut::RawLut, name| lut.ready(name, geometry.signed, syntax.encoding);
    let modality = match ready(&header.modality_lut, "the Modality LUT Sequence")? {
        Some(lut) => Modality::Lut(lut),
        None => {
            let [intercept, slope] = header.rescale;
            let (slope, intercept) = (slope.unwrap_or(1.0), intercept.unwrap_or(0.0));
            if slope == 0.0 {
                return Err("Rescale Slope (0028,1053) is 0".into());
            }
            Modality::Linear { slope, intercept }
        }
    };
    let interest = match (ready(&header.voi_lut, "the VOI LUT Sequence")?, header.window) {
        (Some(lut), _) => Interest::Lut(lut),
        (None, [Some(centre), Some(width)]) => {
            let least = if header.curve == Curve::Linear { 1.0 } else { f64::MIN_POSITIVE };
            if width < least {
                return Err("Window Width (0028,1051) is too small for its VOI LUT Function".into());
            }
            Interest::Window { centre, width, curve: header.curve }
        }
        (None, _) => range(values, header, geometry, &modality),
    };
    let invert = geometry.photometric == Photometric::Monochrome1 || header.inverse;
    // Every possible value once; a picture has more pixels than that.
    let levels: Vec<u8> = (0..1u32 << geometry.bits_stored)
        .map(|value| {
            let level = level(interest.brightness(modality.apply(signed(value as u16, geometry))));
            if invert { 255 - level } else { level }
        })
        .collect();
    Ok(values.iter().map(|&value| levels[usize::from(value)]).collect())
}

/// A brightness as one of 256 levels, halves rounded up. What is a half but for the last digits of double precision counts
/// as one, so that the result does not hang on the order of operations.
fn level(brightness: f64) -> u8 {
    const LAST_DIGITS: f64 = 5e-10;
    // The cast saturates.
    (brightness * 255.0 + 0.5 + LAST_DIGITS).floor() as u8
}

/// The number that Bits Stored bits stand for.
pub(super) fn signed(value: u16, geometry: &Geometry) -> f64 {
    let unused = 16 - geometry.bits_stored;
    if geometry.signed { f64::from(((value << unused) as i16) >> unused) } else { f64::from(value) }
}

/// The smallest and largest value of the picture, padding left out.
fn range(values: &[u16], header: &Header, geometry: &Geometry, modality: &Modality) -> Interest {
    let padding = header.padding[0].map(|value| {
        let ones = ((1u32 << geometry.bits_stored) - 1) as u16;
        let number = |v: u16| signed(v & ones, geometry);
        let (a, b) = (number(value), number(header.padding[1].unwrap_or(value)));
        a.min(b)..=a.max(b)
    });
    let mut present = vec![false; 1 << geometry.bits_stored];
    values.iter().for_each(|&value| present[usize::from(value)] = true);
    let shown = (0..present.len()).filter(|&v| present[v]).map(|v| signed(v as u16, geometry));
    let shown = shown.filter(|v| padding.as_ref().is_none_or(|p| !p.contains(v)));
    let (low, high) = shown
        .map(|v| modality.apply(v))
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    Interest::Range { low, high }
}

impl Modality {
    fn apply(&self, value: f64) -> f64 {
        match self {
            Modality::Lut(lut) => f64::from(lut.get(value)),
            Modality::Linear { slope, intercept } => value * slope + intercept,
        }
    }
}

impl Interest {
    fn brightness(&self, value: f64) -> f64 {
        match *self {
            Interest::Lut(ref lut) => f64::from(lut.get(value)) / lut.full(),
            Interest::Window { centre, width, curve: Curve::Sigmoid } => {
                1.0 / (1.0 + (-4.0 * (value - centre) / width).exp())
            }
            Interest::Window { centre, width, curve } => {
                let (centre, width) =
                    if curve == Curve::Linear { (centre - 0.5, width - 1.0) } else { (centre, width) };
                if value <= centre - width / 2.0 {
                    0.0
                } else if value > centre + width / 2.0 {
                    1.0
                } else {
                    (value - centre) / width + 0.5
                }
            }
            // A picture of one value, or of padding only, is black.
            Interest::Range { low, high } if low >= high => 0.0,
            Interest::Range { low, high } => (value - low) / (high - low),
        }
    }
}
