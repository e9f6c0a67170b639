//! The attributes that decide how pixels are drawn, and no others.

use dicom_core::{Tag, VR};

use super::super::Limits;
use super::Problem;
use super::lut::RawLut;
use super::syntax::{Encoding, Packing, Syntax};

/// Where in the data set an element lies, as far as elements are read there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// The image itself.
    Image,
    /// First item of the Modality LUT Sequence.
    ModalityLut,
    /// First item of the VOI LUT Sequence.
    VoiLut,
    /// The functional groups of the wanted frame, or those shared by all frames.
    Frame,
}

/// An element's bytes with what is needed to understand them.
pub(super) struct Element {
    pub(super) tag: Tag,
    pub(super) vr: VR,
    pub(super) bytes: Vec<u8>,
    pub(super) encoding: Encoding,
}

/// How samples are to be understood (Photometric Interpretation).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Photometric {
    Monochrome1,
    Monochrome2,
    Palette,
    Rgb,
    YbrFull,
    YbrFull422,
}

/// VOI LUT Function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) enum Curve {
    #[default]
    Linear,
    LinearExact,
    Sigmoid,
}

/// What was found of the attributes.
#[derive(Default)]
pub(super) struct Header {
    samples: Option<u16>,
    photometric: Option<Photometric>,
    planar: Option<u16>,
    frames: Option<u32>,
    rows: Option<u16>,
    columns: Option<u16>,
    bits_allocated: Option<u16>,
    bits_stored: Option<u16>,
    high_bit: Option<u16>,
    signed: Option<u16>,
    /// Pixel Padding Value and Range Limit, as stored.
    pub(super) padding: [Option<u16>; 2],
    /// Window Center and Width: the first of each.
    pub(super) window: [Option<f64>; 2],
    /// VOI LUT Function.
    pub(super) curve: Curve,
    /// Rescale Intercept and Slope.
    pub(super) rescale: [Option<f64>; 2],
    /// Whether Presentation LUT Shape is INVERSE.
    pub(super) inverse: bool,
    /// Modality LUT Sequence, first item.
    pub(super) modality_lut: RawLut,
    /// VOI LUT Sequence, first item.
    pub(super) voi_lut: RawLut,
    /// Red, green and blue palette.
    pub(super) palette: [RawLut; 3],
}

/// The checked shape of a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) samples: usize,
    pub(super) photometric: Photometric,
    /// Whether colours lie in planes rather than pixel by pixel.
    pub(super) planes: bool,
    pub(super) bits_allocated: u32,
    pub(super) bits_stored: u32,
    pub(super) high_bit: u32,
    pub(super) signed: bool,
    pub(super) frames: u32,
    /// The wanted frame, from 0.
    pub(super) frame: u32,
}

impl Geometry {
    pub(super) fn pixels(&self) -> usize {
        self.rows * self.columns
    }

    /// Bytes of a frame that is not packed.
    pub(super) fn native_bytes(&self) -> usize {
        let samples = match self.photometric {
            // Two pixels share their colour: Y Y Cb Cr.
            Photometric::YbrFull422 => self.pixels() * 2,
            _ => self.pixels() * self.samples,
        };
        samples * self.bits_allocated as usize / 8
    }
}

impl Header {
    /// The longest value that is read of an element, in bytes; none if it is not read at all.
    pub(super) fn longest(scope: Scope, tag: Tag) -> Option<u32> {
        const LUT_BYTES: u32 = 2 << 16;
        const TEXT_BYTES: u32 = 4096;
        let (Tag(group, element), values) = (tag, matches!(tag.1, 0x1050..=0x1053 | 0x1056));
        match (scope, group, element) {
            (Scope::Image, 0x0028, 0x0002 | 0x0006 | 0x0010 | 0x0011 | 0x0100..=0x0103) => Some(64),
            (Scope::Image, 0x0028, 0x0004 | 0x0008 | 0x0120 | 0x0121) => Some(64),
            (Scope::Image | Scope::Frame, 0x0028, _) if values => Some(TEXT_BYTES),
            (Scope::Image, 0x2050, 0x0020) => Some(64),
            (Scope::Image, 0x0028, 0x1101..=0x1103) => Some(64),
            (Scope::Image, 0x0028, 0x1201..=0x1203) => Some(LUT_BYTES),
            (Scope::ModalityLut | Scope::VoiLut, 0x0028, 0x3002) => Some(64),
            (Scope::ModalityLut | Scope::VoiLut, 0x0028, 0x3006) => Some(LUT_BYTES),
            _ => None,
        }
    }

    /// Takes an element that [`Header::longest`] asked for.
    pub(super) fn take(&mut self, scope: Scope, element: &Element) -> Result<(), Problem> {
        if let Scope::ModalityLut | Scope::VoiLut = scope {
            let lut = if scope == Scope::VoiLut { &mut self.voi_lut } else { &mut self.modality_lut };
            return element.lut(lut, element.tag.1 == 0x3002);
        }
        let Tag(group, number) = element.tag;
        match (group, number) {
            (0x2050, 0x0020) => self.inverse = element.text() == Some("INVERSE"),
            (_, 0x0002) => self.samples = element.word()?,
            (_, 0x0004) => self.photometric = Some(element.photometric()?),
            (_, 0x0006) => self.planar = element.word()?,
            (_, 0x0008) => {
                self.frames = match element.number("Number of Frames (0028,0008)")? {
                    Some(n) if n.fract() != 0.0 || n > f64::from(u32::MAX) => {
                        return Err("Number of Frames (0028,0008) is not a whole number".into());
                    }
                    n => n.map(|n| n as u32),
                };
            }
            (_, 0x0010) => self.rows = element.word()?,
            (_, 0x0011) => self.columns = element.word()?,
            (_, 0x0100) => self.bits_allocated = element.word()?,
            (_, 0x0101) => self.bits_stored = element.word()?,
            (_, 0x0102) => self.high_bit = element.word()?,
            (_, 0x0103) => self.signed = element.word()?,
            (_, 0x0120 | 0x0121) => self.padding[usize::from(number - 0x0120)] = element.word()?,
            (_, 0x1050) => self.window[0] = element.number("Window Center (0028,1050)")?,
            (_, 0x1051) => self.window[1] = element.number("Window Width (0028,1051)")?,
            (_, 0x1052) => self.rescale[0] = element.number("Rescale Intercept (0028,1052)")?,
            (_, 0x1053) => self.rescale[1] = element.number("Rescale Slope (0028,1053)")?,
            (_, 0x1056) => {
                self.curve = match element.text() {
                    Some("" | "LINEAR") => Curve::Linear,
                    Some("LINEAR_EXACT") => Curve::LinearExact,
                    Some("SIGMOID") => Curve::Sigmoid,
                    _ => {
                        return Err(
                            "VOI LUT Function (0028,1056) is not LINEAR, LINEAR_EXACT or SIGMOID".into()
                        );
                    }
                }
            }
            (_, 0x1101..=0x1103) => element.lut(&mut self.palette[usize::from(number - 0x1101)], true)?,
            (_, 0x1201..=0x1203) => element.lut(&mut self.palette[usize::from(number - 0x1201)], false)?,
            _ => {}
        }
        Ok(())
    }

    /// Checks the attributes against each other, the limits and the wanted frame (counted from 1).
    pub(super) fn geometry(
        &self,
        syntax: &Syntax,
        frame: Option<u32>,
        limits: &Limits,
    ) -> Result<Geometry, Problem> {
        let need = |value: Option<u16>, name: &str| {
            value.map(u32::from).ok_or_else(|| Problem::Reason(format!("{name} is missing")))
        };
        let rows = need(self.rows, "Rows (0028,0010)")?;
        let columns = need(self.columns, "Columns (0028,0011)")?;
        if rows == 0 || columns == 0 {
            return Err("Rows or Columns is 0".into());
        }
        if rows > limits.side || columns > limits.side {
            return Err(Problem::Size(columns, rows));
        }
        let bits_allocated = need(self.bits_allocated, "Bits Allocated (0028,0100)")?;
        if bits_allocated != 8 && bits_allocated != 16 {
            return Err(format!("Bits Allocated is {bits_allocated}; 8 and 16 are supported").into());
        }
        let bits_stored = self.bits_stored.map_or(bits_allocated, u32::from);
        let high_bit = self.high_bit.map_or(bits_stored.wrapping_sub(1), u32::from);
        if bits_stored == 0 || high_bit >= bits_allocated || high_bit + 1 < bits_stored {
            let found = format!("Bits Stored {bits_stored}, High Bit {high_bit}");
            return Err(format!("{found} do not fit Bits Allocated {bits_allocated}").into());
        }
        let photometric = self.photometric.ok_or("Photometric Interpretation (0028,0004) is missing")?;
        let grey =
            matches!(photometric, Photometric::Monochrome1 | Photometric::Monochrome2 | Photometric::Palette);
        let samples = self.samples.map_or(if grey { 1 } else { 3 }, u32::from);
        if samples != if grey { 1 } else { 3 } {
            return Err(format!(
                "Samples per Pixel is {samples}, which does not fit the photometric interpretation"
            )
            .into());
        }
        if !grey && (bits_allocated, bits_stored) != (8, 8) {
            return Err("colour of other than 8 bits is not supported".into());
        }
        if photometric == Photometric::YbrFull422
            && syntax.packing == Packing::Native
            && !columns.is_multiple_of(2)
        {
            return Err("YBR_FULL_422 needs an even number of Columns".into());
        }
        // A file that says 0 frames means the one that it has.
        let frames = self.frames.unwrap_or(1).max(1);
        let wanted = match frame {
            None if frames > 1 => {
                let remedy = "choose one by frame = \"first\" or frame = N in the run file, --frame on the command line";
                return Err(format!("holds {frames} frames; {remedy}").into());
            }
            None => 1,
            Some(wanted) if wanted == 0 || wanted > frames => {
                return Err(format!("frame {wanted} was asked for, but it holds {frames}").into());
            }
            Some(wanted) => wanted,
        };
        let geometry = Geometry {
            rows: rows as usize,
            columns: columns as usize,
            samples: samples as usize,
            photometric,
            planes: self.planar == Some(1),
            bits_allocated,
            bits_stored,
            high_bit,
            signed: self.signed == Some(1),
            frames,
            frame: wanted - 1,
        };
        // Sixteen bytes a sample cover every decoder's own buffers and the result.
        let needed = (geometry.pixels() * geometry.samples) as u64 * 16;
        if needed > limits.decoder_bytes {
            return Err(
                format!("needs {needed} bytes to decode, the limit is {}", limits.decoder_bytes).into()
            );
        }
        Ok(geometry)
    }
}

impl Element {
    fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes).ok().map(|t| t.trim_matches(['\0', ' ']))
    }

    /// The first of several sixteen-bit numbers; none if the value is empty.
    fn word(&self) -> Result<Option<u16>, Problem> {
        match self.bytes[..] {
            [] => Ok(None),
            [a, b, ..] => Ok(Some(self.encoding.word([a, b]))),
            [_] => Err(format!("{} has a value of one byte", self.tag).into()),
        }
    }

    /// The first of several decimal numbers; none if the value is empty.
    fn number(&self, name: &str) -> Result<Option<f64>, Problem> {
        let text = self.text().and_then(|t| t.split('\\').next()).map(str::trim);
        match text {
            Some("") => Ok(None),
            text => match text.and_then(|t| t.parse::<f64>().ok()).filter(|n| n.is_finite()) {
                Some(number) => Ok(Some(number)),
                None => Err(format!("{name} is not a number").into()),
            },
        }
    }

    fn photometric(&self) -> Result<Photometric, Problem> {
        match self.text() {
            Some("MONOCHROME1") => Ok(Photometric::Monochrome1),
            Some("MONOCHROME2") => Ok(Photometric::Monochrome2),
            Some("PALETTE COLOR") => Ok(Photometric::Palette),
            // JPEG 2000 undoes its own colour transforms.
            Some("RGB" | "YBR_RCT" | "YBR_ICT") => Ok(Photometric::Rgb),
            Some("YBR_FULL") => Ok(Photometric::YbrFull),
            Some("YBR_FULL_422") => Ok(Photometric::YbrFull422),
            _ => Err("Photometric Interpretation (0028,0004) is not MONOCHROME1, MONOCHROME2, PALETTE COLOR, RGB, \
                      YBR_FULL, YBR_FULL_422, YBR_RCT or YBR_ICT"
                .into()),
        }
    }

    fn lut(&self, lut: &mut RawLut, descriptor: bool) -> Result<(), Problem> {
        if !descriptor {
            lut.data = Some((self.bytes.clone(), self.vr != VR::OB));
            return Ok(());
        }
        let &[a, b, c, d, e, f] =
            self.bytes.first_chunk().ok_or_else(|| format!("{} has fewer than three values", self.tag))?;
        let word = |pair| self.encoding.word(pair);
        lut.descriptor = Some([word([a, b]), word([c, d]), word([e, f])]);
        lut.signed = match (self.encoding, self.vr) {
            (Encoding::Implicit, _) => None,
            (_, VR::SS) => Some(true),
            (_, VR::US) => Some(false),
            _ => None,
        };
        Ok(())
    }
}
