//! Colours to eight-bit RGB.

use super::Problem;
use super::header::{Geometry, Header};
use super::syntax::Syntax;

/// YCbCr of full range, pixel by pixel (PS3.3 C.7.6.3.1.2: ITU-R BT.601), rounded once, halves up.
pub(super) fn rgb_of_ybr(values: &[u16]) -> Vec<u8> {
    const RED: f64 = 0.299;
    const GREEN: f64 = 0.587;
    const BLUE: f64 = 0.114;
    // The cast saturates.
    let level = |x: f64| (x + 0.5).floor() as u8;
    let pixels = values.chunks_exact(3);
    pixels
        .flat_map(|p| {
            let (y, b, r) = (f64::from(p[0]), f64::from(p[1]) - 128.0, f64::from(p[2]) - 128.0);
            let (to_red, to_blue) = (2.0 * (1.0 - RED), 2.0 * (1.0 - BLUE));
            let green = y - (BLUE * to_blue / GREEN) * b - (RED * to_red / GREEN) * r;
            [level(y + to_red * r), level(green), level(y + to_blue * b)]
        })
        .collect()
}

/// Palettes (PS3.3 C.7.6.3.1.5); entries of more than eight bits are scaled, halves up.
pub(super) fn palette(
    values: &[u16],
    header: &Header,
    geometry: &Geometry,
    syntax: &Syntax,
) -> Result<Vec<u8>, Problem> {
    let mut luts = Vec::new();
    for (raw, name) in header.palette.iter().zip(["red", "green", "blue"]) {
        let lut = raw.ready(&format!("the {name} palette"), geometry.signed, syntax.encoding)?;
        let missing = || format!("the {name} palette is missing; segmented palettes are not supported");
        luts.push(lut.ok_or_else(missing)?);
    }
    let pixels = values.iter().map(|&value| super::render::signed(value, geometry));
    Ok(pixels
        .flat_map(|value| {
            [0, 1, 2].map(|i| (f64::from(luts[i].get(value)) / luts[i].full() * 255.0 + 0.5).floor() as u8)
        })
        .collect())
}
