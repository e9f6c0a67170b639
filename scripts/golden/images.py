"""Pictures of every supported kind with the pixels that others read from them: worker/tests/image_golden.rs.

    python scripts/golden/images.py [worker/tests/data/images]
    python scripts/golden/images.py FOLDER 1000     random DICOM files only, for
    IMAGE_CASES=FOLDER cargo test -p worker --test image_golden

Needs Pillow 13.0.0, pydicom 3.0.2, numpy 2.x, pylibjpeg 2.1.0 with -libjpeg 2.5.0, -openjpeg 2.6.0 and -rle 2.2.0, and
imagecodecs (to write lossless JPEG). PNG and JPEG pixels are Pillow's, DICOM pixels pydicom's: `pixel_array`, then
`apply_modality_lut` and `apply_voi_lut`; only the last step, to eight bits, is spelt out here, since pydicom has none.
Where the project means to differ from both, it says so beside the case.

`tolerance` is the largest difference of a level that the test allows: 0 for everything that is defined exactly; more
only where a lossy JPEG or JPEG 2000 decoder may round differently.
"""

import io
import json
import shutil
import struct
import sys
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
from openjpeg.utils import encode_array
from PIL import Image, ImageOps
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, convert_color_space
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian,
    JPEG2000, JPEG2000Lossless, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless,
    RLELossless,
)

OUT = Path(sys.argv[1] if len(sys.argv) > 1 else "worker/tests/data/images")
W, H = 20, 14
# OpenJPEG's encoder wants room for five halvings.
LARGER = (34, 36)
CASES = []
RNG = np.random.default_rng(20241109)
# What must never show up anywhere: an invented name.
PATIENT = "ZZPATIENT^NAME"


def record(name, data, pixels, tolerance=0, frame=None, refused=None):
    """Keeps a file with its pixels (height, width[, 3]), or with a part of the message that refuses it."""
    (OUT / name).write_bytes(data)
    case = {"file": name, "frame": frame}
    if refused is not None:
        case["refused"] = refused
    else:
        pixels = np.asarray(pixels)
        assert pixels.dtype == np.uint8, pixels.dtype
        grey = pixels.ndim == 2
        case |= {"width": pixels.shape[1], "height": pixels.shape[0], "grey": grey, "tolerance": tolerance,
                 "pixels": pixels.tobytes().hex()}
    CASES.append(case)


# ---- PNG and JPEG ----

def png(width, height, depth, kind, rows, chunks=(), interlace=0):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    raw = b"".join(b"\0" + row for row in rows)
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlace)
    middle = b"".join(chunk(n, d) for n, d in chunks)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + middle + chunk(b"IDAT", zlib.compress(raw))
            + chunk(b"IEND", b""))


def pillow(data):
    """What Pillow shows, the right way up."""
    return np.array(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


def encoded(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def scaled16(values):
    """The project's own reading of sixteen-bit grey, where Pillow clips at 255: see docs/IMAGES.md."""
    bits = next((b for b in (8, 10, 12, 14) if values.max() < 1 << b), 16)
    return np.floor(values.astype(np.float64) * 255 / ((1 << bits) - 1) + 0.5).astype(np.uint8)


def smooth(bits=8, height=H, width=W, phase=0.0):
    y, x = np.mgrid[0:height, 0:width]
    wave = 0.5 + 0.45 * np.sin(x / 4 + phase) * np.cos(y / 5) + RNG.normal(0, 0.02, (height, width))
    return (wave.clip(0, 1) * ((1 << bits) - 1)).round().astype(np.uint16)


def pictures():
    noise = RNG.integers(0, 256, (H, W, 3), dtype=np.uint8)
    for depth in (1, 2, 4, 8):
        width = 19
        row_bytes = (width * depth + 7) // 8
        rows = [RNG.bytes(row_bytes) for _ in range(7)]
        for name, chunks in (("", ()), ("_trns", ((b"tRNS", b"\0\1"),))):
            data = png(width, 7, depth, 0, rows, chunks)
            record(f"grey{depth}{name}.png", data, pillow(data))
        palette = RNG.bytes(3 << depth)
        for name, chunks in (("", ()), ("_trns", ((b"tRNS", bytes([0, 100])),))):
            data = png(width, 7, depth, 3, rows, ((b"PLTE", palette), *chunks))
            record(f"palette{depth}{name}.png", data, pillow(data))
    data = encoded(Image.fromarray(noise), "PNG")
    record("rgb8.png", data, pillow(data))
    data = png(W, H, 8, 2, [r.tobytes() for r in noise], ((b"tRNS", b"\0\1\0\2\0\3"),))
    record("rgb8_trns.png", data, pillow(data))
    rgba = RNG.integers(0, 256, (H, W, 4), dtype=np.uint8)
    data = encoded(Image.fromarray(rgba), "PNG")
    record("rgba8.png", data, pillow(data))
    data = encoded(Image.fromarray(rgba[:, :, :2].copy(), "LA"), "PNG")
    record("grey_alpha8.png", data, pillow(data))
    for bits in (8, 10, 12, 14, 16):
        values = smooth(bits)
        values[0, 0] = (1 << bits) - 1
        data = png(W, H, 16, 0, [r.astype(">u2").tobytes() for r in values])
        record(f"grey16_of_{bits}.png", data, scaled16(values))
    both = np.stack([smooth(16), smooth(16)], -1)
    data = png(W, H, 16, 4, [r.astype(">u2").tobytes() for r in both])
    record("grey_alpha16.png", data, scaled16(both[:, :, 0]))
    colour = RNG.integers(0, 65536, (H, W, 3), dtype=np.uint16)
    rounded = np.floor(colour / 257 + 0.5).astype(np.uint8)
    data = png(W, H, 16, 2, [r.astype(">u2").tobytes() for r in colour])
    # Pillow takes the high byte, at most one level below.
    assert np.abs(pillow(data).astype(int) - rounded).max() <= 1
    record("rgb16.png", data, rounded)
    frames = [Image.fromarray(RNG.integers(0, 256, (H, W), dtype=np.uint8)) for _ in range(3)]
    data = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    record("animated.png", data, pillow(data))

    grey, tall = Image.fromarray(smooth(8).astype(np.uint8)), Image.fromarray(smooth(8, 9, 21).astype(np.uint8))
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encoded(tall, "PNG", exif=exif)
        record(f"orientation{orientation}.png", data, pillow(data))
    for orientation in (3, 6, 8):
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encoded(tall, "JPEG", quality=95, exif=exif)
        record(f"orientation{orientation}.jpg", data, pillow(data), tolerance=1)
    little = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x05\0\0\0\0\0\0\0"
    data = encoded(tall, "JPEG", quality=95, exif=little)
    record("orientation5_little_endian.jpg", data, pillow(data), tolerance=1)

    # Lossy: decoders differ by a level in rounding, more where they interpolate halved colours differently.
    for name, options in (("grey", {}), ("grey_progressive", {"progressive": True}), ("grey_q50", {"quality": 50})):
        data = encoded(grey, "JPEG", **({"quality": 90} | options))
        record(f"{name}.jpg", data, pillow(data), tolerance=1)
    tinted = Image.fromarray(np.stack([smooth(8), smooth(8, phase=1.0), smooth(8, phase=2.0)], -1).astype(np.uint8))
    for name, subsampling, tolerance in (("444", 0, 2), ("422", 1, 4), ("420", 2, 5)):
        data = encoded(tinted, "JPEG", quality=90, subsampling=subsampling)
        record(f"colour_{name}.jpg", data, pillow(data), tolerance=tolerance)
    cmyk = Image.fromarray(np.stack([smooth(8, phase=p) for p in range(4)], -1).astype(np.uint8), "CMYK")
    data = encoded(cmyk, "JPEG", quality=95)
    record("cmyk.jpg", data, pillow(data), tolerance=2)


# ---- DICOM ----

def dataset(values, photometric="MONOCHROME2", stored=None, signed=False, high_bit=None, samples=1, **attributes):
    """A data set around pixel values (height, width) or (height, width, 3), or (frames, …) with Number of Frames."""
    ds = Dataset()
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    ds.SOPInstanceUID = "1.2.3.4"
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientName = PATIENT
    ds.PatientID = "ZZPATIENT-ID"
    ds.PatientBirthDate = "19450815"
    ds.PatientComments = f"{PATIENT} came alone"
    ds.StudyDate = "20200102"
    ds.add_new((0x0009, 0x0010), "LO", "ZZPRIVATE")
    inner = Dataset()
    inner.PatientName = PATIENT
    ds.ReferencedPatientSequence = Sequence([inner])
    ds.SamplesPerPixel = samples
    ds.PhotometricInterpretation = photometric
    framed = "NumberOfFrames" in attributes
    ds.Rows, ds.Columns = values.shape[1:3] if framed else values.shape[:2]
    ds.BitsAllocated = values.dtype.itemsize * 8
    ds.BitsStored = stored or ds.BitsAllocated
    ds.HighBit = ds.BitsStored - 1 if high_bit is None else high_bit
    ds.PixelRepresentation = int(signed)
    if samples == 3:
        ds.PlanarConfiguration = attributes.pop("planar", 0)
    for name, value in attributes.items():
        setattr(ds, name, value)
    ds.PixelData = values.tobytes()
    return ds


def lut(first, entries, bits, signed=False):
    item = Dataset()
    item.add_new((0x0028, 0x3002), "SS" if signed else "US", [len(entries), first, bits])
    item.add_new((0x0028, 0x3006), "OW", np.asarray(entries, "<u2").tobytes())
    return item


def dicom(ds, syntax=ExplicitVRLittleEndian, pixels=None, vr="OW", preamble=True, table=True):
    """The file's bytes. `pixels` are one packed frame each."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    if pixels is not None:
        ds.PixelData = encapsulate(pixels, has_bot=table)
        ds["PixelData"].VR = "OB"
        ds["PixelData"].is_undefined_length = True
    else:
        ds["PixelData"].VR = vr
    out = io.BytesIO()
    implicit = syntax == ImplicitVRLittleEndian
    little = syntax != ExplicitVRBigEndian
    pydicom.dcmwrite(out, ds, implicit_vr=None if pixels or syntax.is_deflated else implicit,
                     little_endian=None if pixels or syntax.is_deflated else little, enforce_file_format=True)
    data = out.getvalue()
    return data if preamble else data[132:]


def level(brightness):
    """Brightness 0 to 1 → level; nine decimals, so that double precision cannot tip a half."""
    return np.floor(np.round(np.clip(brightness, 0, 1) * 255, 9) + 0.5).astype(np.uint8)


def shown(data, frame=None, padding=None, values=None):
    """pydicom's reading, brought to eight bits: by the window's or the table's full range, else by the values' own."""
    ds = pydicom.dcmread(io.BytesIO(data), force=True)
    if "TransferSyntaxUID" not in ds.file_meta:
        ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    if values is None:
        values = ds.pixel_array
        values = values[frame - 1] if ds.get("NumberOfFrames", 1) > 1 else values
    modal = apply_modality_lut(values, ds)
    wide = modal.astype(np.float64)
    if "VOILUTSequence" in ds:
        voi = apply_voi_lut(modal, ds)
        bright = voi / ((1 << ds.VOILUTSequence[0].LUTDescriptor[2]) - 1)
    elif "WindowCenter" in ds:
        voi = apply_voi_lut(modal, ds)
        # The range that pydicom stretches a window over.
        if "ModalityLUTSequence" in ds:
            low, high = 0, (1 << ds.ModalityLUTSequence[0].LUTDescriptor[2]) - 1
        elif ds.PixelRepresentation:
            low, high = -(1 << ds.BitsStored - 1), (1 << ds.BitsStored - 1) - 1
        else:
            low, high = 0, (1 << ds.BitsStored) - 1
        if "RescaleSlope" in ds:
            low, high = (float(ds.RescaleSlope) * v + float(ds.RescaleIntercept) for v in (low, high))
        bright = (voi - low) / (high - low)
    else:
        kept = wide[~padding(values)] if padding else wide
        bright = (wide - kept.min()) / max(kept.max() - kept.min(), 1e-300)
    levels = level(bright)
    inverse = ds.PhotometricInterpretation == "MONOCHROME1" or ds.get("PresentationLUTShape") == "INVERSE"
    return 255 - levels if inverse else levels


def keep(name, ds, tolerance=0, frame=None, padding=None, values=None, **options):
    data = dicom(ds, **options)
    record(name, data, shown(data, frame, padding, values), tolerance, frame)


def noise(bits, signed=False, shape=(H, W)):
    values = RNG.integers(0, 1 << bits, shape)
    if signed:
        return (values - (1 << bits - 1)).astype(np.int8 if bits <= 8 else np.int16)
    return values.astype(np.uint8 if bits <= 8 else np.uint16)


WINDOW = {"WindowCenter": "1800", "WindowWidth": "2500"}


def grey_dicom():
    plain = (("implicit", ImplicitVRLittleEndian), ("explicit", ExplicitVRLittleEndian), ("big", ExplicitVRBigEndian),
             ("deflated", DeflatedExplicitVRLittleEndian))
    for name, syntax in plain:
        swap = (lambda v: v.byteswap()) if name == "big" else (lambda v: v)
        keep(f"{name}_12.dcm", dataset(swap(noise(12)), stored=12, **WINDOW), syntax=syntax)
        keep(f"{name}_s16.dcm", dataset(swap(noise(16, True)), signed=True, RescaleSlope="0.5", RescaleIntercept="-7.25"),
             syntax=syntax)
    eight = noise(8)
    # Eight-bit values in big-endian words lie pairwise swapped.
    swapped = eight.reshape(-1, 2)[:, ::-1].reshape(eight.shape)
    keep("big_8_ow.dcm", dataset(swapped.copy()), syntax=ExplicitVRBigEndian, values=eight)
    keep("big_8_ob.dcm", dataset(eight), syntax=ExplicitVRBigEndian, vr="OB")
    for bits in (8, 10, 12, 14, 16):
        for signed in (False, True):
            sign = "s" if signed else "u"
            keep(f"bits_{sign}{bits}.dcm", dataset(noise(bits, signed), stored=bits, signed=signed))
    twelve = noise(12)
    keep("high_bit.dcm", dataset(twelve << 4, stored=12, high_bit=15, **WINDOW), values=twelve)
    overlay = twelve | (RNG.integers(0, 16, twelve.shape).astype(np.uint16) << 12)
    keep("unused_bits.dcm", dataset(overlay, stored=12, **WINDOW), values=twelve)
    odd = noise(8, shape=(5, 7))
    keep("odd_length.dcm", dataset(odd), vr="OB", values=odd)

    keep("mono1_window.dcm", dataset(noise(12), "MONOCHROME1", stored=12, **WINDOW))
    keep("mono1_range.dcm", dataset(noise(12) // 2 + 300, "MONOCHROME1", stored=12))
    keep("mono1_inverse.dcm", dataset(noise(12), "MONOCHROME1", stored=12, PresentationLUTShape="INVERSE", **WINDOW))
    keep("mono2_inverse.dcm", dataset(noise(12), stored=12, PresentationLUTShape="INVERSE", **WINDOW))
    for curve in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        keep(f"curve_{curve.lower()}.dcm", dataset(noise(12), stored=12, VOILUTFunction=curve, **WINDOW))
    keep("windows.dcm", dataset(noise(12), stored=12, WindowCenter=["1000.5", "2000"], WindowWidth=["1500", "10"],
                                WindowCenterWidthExplanation=["A", "B"]))
    keep("window_1.dcm", dataset(noise(12), stored=12, WindowCenter="2048", WindowWidth="1"))
    keep("rescale.dcm", dataset(noise(12), stored=12, RescaleSlope="1.5", RescaleIntercept="-1024", WindowCenter="40",
                                WindowWidth="4000", RescaleType="HU"))
    keep("rescale_negative.dcm", dataset(noise(12), stored=12, RescaleSlope="-1", RescaleIntercept="4095"))
    table = (np.sqrt(np.linspace(0, 1, 3000)) * 65535).astype(np.uint16)
    keep("modality_lut.dcm", dataset(noise(12), stored=12, ModalityLUTSequence=Sequence([lut(500, table, 16)]),
                                     WindowCenter="30000", WindowWidth="50000"))
    for bits in (8, 12, 16):
        table = (np.linspace(0, 1, 4096) ** 2 * ((1 << bits) - 1)).round().astype(np.uint16)
        second = lut(0, [5, 6], 16)
        values = noise(12)
        ds = dataset(values, stored=12, VOILUTSequence=Sequence([lut(0, table, bits), second]), **WINDOW)
        if bits == 8:
            # pydicom 3.0.2 keeps the index of an eight-bit table in eight bits, so it wraps; looked up here instead.
            record(f"voi_lut_{bits}.dcm", dicom(ds), table[values].astype(np.uint8))
        else:
            keep(f"voi_lut_{bits}.dcm", ds)
    table = (np.linspace(0, 1, 2000) ** 2 * 4095).round().astype(np.uint16)
    keep("voi_lut_signed.dcm", dataset(noise(12, True), stored=12, signed=True,
                                       VOILUTSequence=Sequence([lut(-900, table, 12, True)])))
    keep("voi_lut_mono1.dcm", dataset(noise(12), "MONOCHROME1", stored=12,
                                      VOILUTSequence=Sequence([lut(100, table, 12)])))
    keep("voi_lut_implicit.dcm", dataset(noise(12, True), stored=12, signed=True,
                                         VOILUTSequence=Sequence([lut(-900, table, 12, True)])),
         syntax=ImplicitVRLittleEndian)
    full = (np.linspace(0, 1, 1 << 16) ** 0.5 * 4095).round().astype(np.uint16)
    short = lut(0, full[:1], 12)
    short.LUTDescriptor = [0, 0, 12]
    short[0x0028, 0x3006].value = full.tobytes()[:131072]
    small = noise(16, shape=(6, 8))
    # The whole table of 65,536 entries, counted as 0.
    keep("voi_lut_65536.dcm", dataset(small, VOILUTSequence=Sequence([short])), syntax=DeflatedExplicitVRLittleEndian)
    padded = noise(12) // 4 + 1000
    padded[:, :4] = 4000
    keep("padding.dcm", dataset(padded, stored=12, PixelPaddingValue=4000), padding=lambda v: v == 4000)
    ranged = padded.copy()
    ranged[0, 4:9] = 3900
    keep("padding_range.dcm", dataset(ranged, stored=12, PixelPaddingValue=4000, PixelPaddingRangeLimit=3900),
         padding=lambda v: v >= 3900)
    below = (noise(12) // 4).astype(np.int16)
    below[:, :4] = -2000
    ds = dataset(below, signed=True)
    ds.add_new((0x0028, 0x0120), "SS", -2000)
    keep("padding_signed.dcm", ds, padding=lambda v: v == -2000)
    flat = np.full((H, W), 700, np.uint16)
    keep("flat.dcm", dataset(flat, stored=12))
    empty = dataset(noise(12), stored=12, WindowCenter="", WindowWidth="")
    data = dicom(empty)
    bare = dataset(pydicom.dcmread(io.BytesIO(data)).pixel_array, stored=12)
    record("window_empty.dcm", data, shown(dicom(bare)))
    ds = dataset(noise(12), stored=12, BurnedInAnnotation="YES", **WINDOW)
    keep("burned_in.dcm", ds)


def rle(values, samples=1):
    ds = dataset(values, "RGB" if samples == 3 else "MONOCHROME2", samples=samples)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.compress(RLELossless, encoding_plugin="pylibjpeg", generate_instance_uid=False)
    return next(generate_frames(ds.PixelData, number_of_frames=1))


def structure():
    values = noise(12)
    data = dicom(dataset(values, stored=12, **WINDOW))
    expected = shown(data)
    record("no_preamble.dcm", data[132:][4:] if data[128:132] != b"DICM" else data[132:], expected)
    for name, syntax in (("implicit", ImplicitVRLittleEndian), ("explicit", ExplicitVRLittleEndian)):
        whole = dicom(dataset(values, stored=12, **WINDOW), syntax=syntax)
        length = struct.unpack("<I", whole[140:144])[0]
        record(f"bare_{name}.dcm", whole[144 + length:], expected)
    # Another picture's pixels within a sequence must not be taken for the image.
    icon = dataset(noise(8, shape=(4, 4)))
    icon["PixelData"].VR = "OB"
    nested = Dataset()
    nested.IconImageSequence = Sequence([icon])
    nested.WindowCenter, nested.WindowWidth, nested.Rows = "1", "2", 3
    ds = dataset(values, stored=12, **WINDOW)
    ds.IconImageSequence = Sequence([icon])
    ds.ReferencedImageSequence = Sequence([nested, nested])
    for name, undefined in (("defined", False), ("undefined", True)):
        for element in ("IconImageSequence", "ReferencedImageSequence"):
            ds[element].is_undefined_length = undefined
            for item in ds[element].value:
                item.is_undefined_length_sequence_item = undefined
        keep(f"nested_{name}.dcm", ds)
    packed_icon = Dataset()
    packed_icon.update(icon)
    packed_icon.PixelData = encapsulate([b"\0\1\2\3"])
    packed_icon["PixelData"].is_undefined_length = True
    ds.IconImageSequence = Sequence([packed_icon])
    data = dicom(ds, RLELossless, [rle(values)])
    record("nested_packed.dcm", data, expected)
    # An enhanced image: window and rescale in functional groups, those of the frame over the shared ones.
    frames = noise(12, shape=(3, H, W))
    def voi(centre, width):
        group, item = Dataset(), Dataset()
        item.WindowCenter, item.WindowWidth = str(centre), str(width)
        group.FrameVOILUTSequence = Sequence([item])
        return group
    shared, item = voi(3000, 100), Dataset()
    item.RescaleSlope, item.RescaleIntercept, item.RescaleType = "2", "-100", "US"
    shared.PixelValueTransformationSequence = Sequence([item])
    ds = dataset(frames, stored=12, NumberOfFrames=3)
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    ds.PerFrameFunctionalGroupsSequence = Sequence([voi(1000, 2000), voi(3500, 3000), voi(5000, 500)])
    data = dicom(ds)
    alone = dataset(frames[1], stored=12, RescaleSlope="2", RescaleIntercept="-100", WindowCenter="3500",
                    WindowWidth="3000")
    record("functional_groups.dcm", data, shown(dicom(alone)), frame=2)


def packed():
    for bits in (8, 12, 16):
        values = noise(bits)
        values[3:6] = values[3, 3]
        keep(f"rle_{bits}.dcm", dataset(values, stored=bits), syntax=RLELossless, pixels=[rle(values)])
    colour = RNG.integers(0, 256, (H, W, 3), dtype=np.uint8)
    colour[5] = 9
    data = dicom(dataset(colour, "RGB", samples=3), RLELossless, [rle(colour, 3)])
    record("rle_rgb.dcm", data, colour)

    # The window of all eight bits is the identity, so a decoder's rounding stays one level.
    identity = {"WindowCenter": "128", "WindowWidth": "256"}
    eight = smooth(8).astype(np.uint8)
    jpeg = encoded(Image.fromarray(eight), "JPEG", quality=92)
    for name, syntax in (("baseline", JPEGBaseline8Bit), ("extended_8", JPEGExtended12Bit)):
        keep(f"jpeg_{name}.dcm", dataset(eight, **identity), syntax=syntax, pixels=[jpeg], tolerance=1)
    twelve = imagecodecs.jpeg_encode(smooth(12), bitspersample=12)
    record("jpeg_extended_12.dcm", dicom(dataset(smooth(12), stored=12), JPEGExtended12Bit, [twelve]), None,
           refused="JPEG of 12 bits that is not lossless")
    for bits in (8, 12, 16):
        for predictor in (1, 4, 7):
            values = noise(bits)
            frame = imagecodecs.jpeg_encode(values, lossless=True, predictor=predictor, bitspersample=bits)
            syntax = JPEGLosslessSV1 if predictor == 1 else JPEGLossless
            keep(f"jpeg_lossless_{bits}_p{predictor}.dcm", dataset(values, stored=bits), syntax=syntax, pixels=[frame])
    signed = noise(12, True)
    frame = imagecodecs.jpeg_encode(signed.view(np.uint16), lossless=True, predictor=1, bitspersample=16)
    keep("jpeg_lossless_signed.dcm", dataset(signed, stored=12, signed=True), syntax=JPEGLosslessSV1, pixels=[frame],
         values=signed)
    for bits in (8, 12, 16):
        for sign in (False, True):
            values = noise(bits, sign, LARGER)
            frame = bytes(encode_array(values, bits_stored=bits))
            keep(f"jpeg2000_{'s' if sign else 'u'}{bits}.dcm", dataset(values, stored=bits, signed=sign),
                 syntax=JPEG2000Lossless, pixels=[frame])
    lossy = smooth(12, 40, 48)
    frame = bytes(encode_array(lossy, bits_stored=12, compression_ratios=[6]))
    keep("jpeg2000_lossy.dcm", dataset(lossy, stored=12, WindowCenter="2048", WindowWidth="4096"), syntax=JPEG2000,
         pixels=[frame], tolerance=1)
    colour = RNG.integers(0, 256, (*LARGER, 3), dtype=np.uint8)
    frame = bytes(encode_array(colour, bits_stored=8, photometric_interpretation=1, use_mct=True))
    record("jpeg2000_rct.dcm", dicom(dataset(colour, "YBR_RCT", samples=3), JPEG2000Lossless, [frame]), colour)
    record("jpegls.dcm", dicom(dataset(noise(12), stored=12), JPEGLSLossless, [b"\xff\xd8\xff\xf7"]), None,
           refused="JPEG-LS is not supported")

    # One frame in several fragments.
    values = noise(12, shape=LARGER)
    frame = bytes(encode_array(values, bits_stored=12))
    ds = dataset(values, stored=12)
    whole = dicom(ds, JPEG2000Lossless, [frame])
    data = dicom(ds, JPEG2000Lossless, [frame[:100], frame[100:300], frame[300:]], table=False)
    record("fragments.dcm", data, shown(whole))


def frames():
    values = noise(12, shape=(3, H, W))
    ds = dataset(values, stored=12, NumberOfFrames=3, **WINDOW)
    data = dicom(ds)
    record("frames.dcm", data, None, refused="holds 3 frames; choose one by frame = \"first\"")
    for frame in (1, 3):
        record("frames.dcm", data, shown(data, frame), frame=frame)
    record("frames.dcm", data, None, frame=4, refused="frame 4 was asked for, but it holds 3")
    values = noise(12, shape=(3, *LARGER))
    ds = dataset(values, stored=12, NumberOfFrames=3, **WINDOW)
    coded = [bytes(encode_array(v, bits_stored=12)) for v in values]
    data = dicom(ds, JPEG2000Lossless, coded)
    for frame in (1, 2, 3):
        record("frames_jpeg2000.dcm", data, shown(data, frame), frame=frame)
    split = dicom(ds, JPEG2000Lossless, coded, table=True)
    ds.PixelData = encapsulate(coded, fragments_per_frame=2, has_bot=True)
    ds["PixelData"].is_undefined_length = True
    out = io.BytesIO()
    pydicom.dcmwrite(out, ds, enforce_file_format=True)
    record("frames_fragments.dcm", out.getvalue(), shown(split, 2), frame=2)
    odd = noise(8, shape=(3, 5, 7))
    data = dicom(dataset(odd, NumberOfFrames=3), vr="OB")
    record("frames_odd.dcm", data, shown(data, 2, values=odd[1]), frame=2)


def colour_dicom():
    colour = RNG.integers(0, 256, (H, W, 3), dtype=np.uint8)
    record("rgb.dcm", dicom(dataset(colour, "RGB", samples=3), vr="OB"), colour)
    planes = np.ascontiguousarray(colour.transpose(2, 0, 1))
    ds = dataset(colour, "RGB", samples=3, planar=1)
    ds.PixelData = planes.tobytes()
    record("rgb_planes.dcm", dicom(ds, vr="OB"), colour)
    record("ybr_full.dcm", dicom(dataset(colour, "YBR_FULL", samples=3), vr="OB"),
           convert_color_space(colour, "YBR_FULL", "RGB"))
    ds = dataset(colour, "YBR_FULL_422", samples=3)
    half = np.stack([colour[:, ::2, 0], colour[:, 1::2, 0], colour[:, ::2, 1], colour[:, ::2, 2]], -1)
    ds.PixelData = half.tobytes()
    data = dicom(ds, vr="OB")
    shared = colour.copy()
    shared[:, 1::2, 1:] = colour[:, ::2, 1:]
    record("ybr_full_422.dcm", data, convert_color_space(shared, "YBR_FULL", "RGB"))
    tinted = np.stack([smooth(8), smooth(8, phase=1.0), smooth(8, phase=2.0)], -1).astype(np.uint8)
    frame = encoded(Image.fromarray(tinted), "JPEG", quality=92, subsampling=0)
    for name in ("YBR_FULL", "RGB"):
        # The frame says that it is YCbCr (JFIF), whatever the attribute says.
        data = dicom(dataset(tinted, name, samples=3), JPEGBaseline8Bit, [frame])
        record(f"jpeg_{name.lower()}.dcm", data, pillow(frame), tolerance=2)
    for bits in (8, 16):
        entries = [RNG.integers(0, 1 << bits, 256, dtype=np.uint16) for _ in range(3)]
        ds = dataset(noise(8), "PALETTE COLOR")
        for name, values in zip(("Red", "Green", "Blue"), entries):
            setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [256, 0, bits])
            setattr(ds, f"{name}PaletteColorLookupTableData",
                    values.astype("<u2" if bits == 16 else np.uint8).tobytes())
        data = dicom(ds, vr="OB")
        loaded = pydicom.dcmread(io.BytesIO(data))
        looked_up = apply_color_lut(loaded.pixel_array, loaded).astype(np.float64)
        record(f"palette_{bits}.dcm", data, level(looked_up / ((1 << bits) - 1)))
    ds = dataset(noise(12, shape=(H, W, 3)), "RGB", stored=12, samples=3)
    record("rgb_12.dcm", dicom(ds), None, refused="colour of other than 8 bits")


def random_dicom(count):
    """Attributes, encodings and packings in any combination that pydicom reads too."""
    pick = lambda *choices: choices[RNG.integers(0, len(choices))]
    for index in range(count):
        bits = int(pick(8, 9, 10, 11, 12, 13, 14, 15, 16))
        signed = bool(RNG.integers(0, 2))
        kind = pick("implicit", "explicit", "big", "deflated", "rle", "jpeg", "jpeg2000")
        signed &= kind != "jpeg"
        least = 33 if kind == "jpeg2000" else 1
        shape = tuple(int(v) for v in RNG.integers(least, 60, 2))
        values = noise(bits, signed, shape)
        if RNG.integers(0, 2):
            values = values // pick(2, 3, 7)
        given = {}
        if RNG.integers(0, 2):
            given |= {"RescaleSlope": f"{pick(-1, 1) * RNG.uniform(0.1, 4):.4f}",
                      "RescaleIntercept": f"{RNG.uniform(-3000, 3000):.2f}"}
        if RNG.integers(0, 4) == 0:
            given["PresentationLUTShape"] = "INVERSE"
        voi = pick("window", "window", "lut", "none")
        if voi == "window":
            curve = pick("LINEAR", "LINEAR_EXACT", "SIGMOID", None)
            given |= {"WindowCenter": f"{RNG.uniform(-1, 1) * (1 << bits):.2f}",
                      "WindowWidth": f"{RNG.uniform(1, 2 << bits):.2f}"}
            given |= {"VOILUTFunction": curve} if curve else {}
        elif voi == "lut":
            # Whole slopes: pydicom's index is of the table's type, and wraps for large or fractional inputs.
            given.pop("RescaleSlope", None), given.pop("RescaleIntercept", None)
            deep, first = int(pick(10, 12, 14, 16)), int(RNG.integers(-500 if signed else 0, 500))
            entries = RNG.integers(0, 1 << deep, int(RNG.integers(2, 3000))).astype(np.uint16)
            given["VOILUTSequence"] = Sequence([lut(first, entries, deep, signed)])
        # Wide, since pydicom subtracts a table's first input in the pixels' own type.
        wide = values.astype(np.int32)
        ds = dataset(values, pick("MONOCHROME1", "MONOCHROME2"), bits, signed, **given)
        name = f"random_{index}_{kind}_{bits}{'s' if signed else 'u'}_{voi}.dcm"
        plain = {"implicit": ImplicitVRLittleEndian, "explicit": ExplicitVRLittleEndian,
                 "deflated": DeflatedExplicitVRLittleEndian}
        if kind in plain:
            keep(name, ds, syntax=plain[kind], values=wide)
        elif kind == "big":
            ds.PixelData = values.byteswap().tobytes()
            if bits <= 8:
                keep(name, ds, syntax=ExplicitVRBigEndian, vr="OB", values=wide)
            else:
                keep(name, ds, syntax=ExplicitVRBigEndian, values=wide)
        elif kind == "rle":
            keep(name, ds, syntax=RLELossless, pixels=[rle(values)], values=wide)
        elif kind == "jpeg":
            predictor = int(RNG.integers(1, 8))
            frame = imagecodecs.jpeg_encode(values, lossless=True, predictor=predictor, bitspersample=bits)
            keep(name, ds, syntax=JPEGLossless, pixels=[frame], values=wide)
        else:
            frame = bytes(encode_array(values, bits_stored=bits))
            keep(name, ds, syntax=JPEG2000Lossless, pixels=[frame], values=wide)


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    if len(sys.argv) > 2:
        random_dicom(int(sys.argv[2]))
    else:
        pictures()
        grey_dicom()
        structure()
        packed()
        frames()
        colour_dicom()
    (OUT / "cases.json").write_text("[\n" + ",\n".join(json.dumps(c) for c in CASES) + "\n]\n")
    size = sum(p.stat().st_size for p in OUT.iterdir())
    print(f"{len(CASES)} cases, {size / 1024:.0f} KiB")


main()
