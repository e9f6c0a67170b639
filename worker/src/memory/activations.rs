//! Bytes of what is alive for a moment: the largest sum of temporaries that one pass holds at once.
//!
//! Each function walks through the function that it describes and adds up what its scope holds at its widest line; the
//! names are those of `model`'s table of shapes. Tensors that share storage count once. What the allocator and the
//! matrix products keep for themselves is not in it.

use crate::generate::Sizes;
use crate::model::minicpm::resampler;
use crate::model::{BunnyConfig, LlamaConfig, MiniCpmConfig, Passes, VisionConfig, siglip};
use candle_core::DType;

/// Size of the type that logits, scores and norms have.
const F32: u64 = 4;

/// What one pass of the language model's blocks holds at its widest: (B, L, D) against T positions.
///
/// Describes `Llama::forward`, the embeddings that its caller holds included.
fn forward_bytes(c: &LlamaConfig, width: u64, passes: Passes, rows: usize, len: usize, total: usize) -> u64 {
    let n = |x: usize| x as u64;
    let (d, f) = (n(c.hidden_size), n(c.intermediate_size));
    let (out, key) = (n(c.num_attention_heads * c.head_dim), n(c.num_key_value_heads * c.head_dim));
    let qkv = out + 2 * key;
    let positions = n(rows) * n(len);
    if passes == Passes::Gpu {
        // Embeddings, and hidden states with their norm, which are one tensor.
        let held = d + 2 * d;
        // Queries, scores that become weights, what is mixed, and its copy in the order of positions.
        let attend = qkv + 2 * out + if len > 1 { out } else { 0 } + n(c.num_attention_heads) * n(total);
        // A product and the next hidden states with their norm, beside attention's result; gate, up and inner; inner and the down
        // projection's product.
        let widest = [attend, out + 3 * d, out + 3 * f, out + f + 3 * d].into_iter().max().unwrap_or(0);
        return width * positions * (held + widest);
    }
    // Embeddings, hidden states and qkv live through the whole of a block.
    let held = 2 * d + qkv;
    // The down projection: its product and the new hidden states beside the old; attention, gate, up and inner still there.
    let down = width * positions * (held + 2 * d + out + 3 * f);
    if passes == Passes::Fused {
        return down;
    }
    let silu = width * positions * (held + out + 4 * f);
    let masked = if len > 1 { F32 } else { 0 };
    // Float32 scores, masked scores, softmax, and the weights in the model's own type where that is another.
    let scores = 2 * F32 + masked + if width == F32 { 0 } else { width };
    // Queries as they are turned and as they are scaled; in float32, where scores are never converted, what is mixed and its copy in
    // the order of positions beside them are the wider moment.
    let queries = if width == F32 { 4 * out } else { 2 * out };
    let attend =
        width * positions * (held + queries + key) + positions * n(c.num_attention_heads) * n(total) * scores;
    let mask = if len > 1 { 2 * F32 * n(len) * n(total) } else { 0 };
    down.max(silu).max(attend) + mask
}

/// What running prompts holds at its widest, beside weights, cache and features. Describes `Generator::prefill`.
pub fn prefill_bytes(c: &LlamaConfig, dtype: DType, passes: Passes, sizes: &Sizes) -> u64 {
    let width = dtype.size_in_bytes() as u64;
    let vocab = c.vocab_size as u64 * F32;
    let (rows, step) = (sizes.rows, sizes.prefill_rows);
    let rest = sizes.prompt - sizes.shared;
    // Logits of the chunks before the last wait while the last one runs; then all are joined into one more tensor.
    let waiting = vocab * ((rows - 1) / step * step) as u64;
    let pass = waiting + forward_bytes(c, width, passes, step, rest, sizes.prompt);
    let join = if rows > step { 2 * vocab * rows as u64 } else { vocab * rows as u64 };
    let shared = forward_bytes(c, width, passes, 1, sizes.shared, sizes.shared);
    pass.max(join).max(shared)
}

/// What one step of all rows holds at its widest. Describes `Generator::decode`: the logits of the step before are still
/// there while the new ones are made.
pub fn decode_bytes(c: &LlamaConfig, dtype: DType, passes: Passes, sizes: &Sizes) -> u64 {
    let width = dtype.size_in_bytes() as u64;
    let logits = sizes.rows as u64 * c.vocab_size as u64;
    let narrow = if width == F32 { 0 } else { width };
    let pass = forward_bytes(c, width, passes, sizes.rows, 1, sizes.capacity);
    logits * F32 + pass.max(logits * (F32 + narrow))
}

/// What one pass of a tower's blocks holds at its widest, of `pictures` pictures of `cells` patches: those that are done
/// wait while the last ones run. `input` is the number of values of one picture. Describes `Siglip::forward`.
fn tower_bytes(v: &VisionConfig, cells: u64, pictures: u64, width: u64, input: u64) -> u64 {
    let (w, f, heads) = (v.hidden_size as u64, v.intermediate_size as u64, v.num_attention_heads as u64);
    let step = siglip::tiles_at_once(v, cells as usize, pictures as usize) as u64;
    let rows = step * cells;
    // Attention: hidden, normed, query, key, value; scores and softmax in float32, weights in the type of the model.
    let narrow = if width == F32 { 0 } else { width };
    let attend = width * rows * 5 * w + step * heads * cells * cells * (2 * F32 + narrow);
    let feed_forward = width * rows * (2 * w + 2 * f);
    let done = width * ((pictures - 1) / step * step) * cells * w;
    done + attend.max(feed_forward) + width * step * input
}

/// What reading images takes: the parts that are loaded for it and dropped after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VisionNeeds {
    /// Weights of tower and projector that are loaded.
    pub weights: u64,
    /// Activations of one image where the model runs, at the widest.
    pub image: u64,
    /// What one image takes on the host before it reaches the tower: pixels and tiles.
    pub host: u64,
    /// Features of one image.
    pub features: u64,
}

impl VisionNeeds {
    /// Bytes of loaded weights, norms in float32, and the most that reading one of them takes for a moment: the tensor as
    /// it is stored and as it is converted.
    pub fn weights(parameters: &[(String, Vec<usize>)], width: u64, stored: u64) -> (u64, u64) {
        let sizes = parameters.iter().map(|(name, shape)| {
            let elements = shape.iter().product::<usize>() as u64;
            (elements, if name.contains("norm") { F32 } else { width })
        });
        let load = sizes.clone().map(|(elements, width)| elements * (stored + width)).max();
        (sizes.map(|(elements, width)| elements * width).sum(), load.unwrap_or(0))
    }

    /// For a Bunny whose tower and projector, of these names and shapes, are stored in `stored` bytes an element and run
    /// in `dtype`.
    pub fn bunny(
        c: &BunnyConfig,
        parameters: &[(String, Vec<usize>)],
        dtype: DType,
        stored: usize,
    ) -> VisionNeeds {
        let n = |x: usize| x as u64;
        let (width, stored) = (dtype.size_in_bytes() as u64, stored as u64);
        let v = &c.vision;
        let (w, cells) = (n(v.hidden_size), n(v.grid() * v.grid()));
        let (d, joined) = (n(c.llama.hidden_size), n(c.mm_hidden_size));
        let (weights, load) = VisionNeeds::weights(parameters, width, stored);

        let base = n(v.image_size);
        let scales: Vec<u64> = match &c.s2_scales {
            Some(scales) => scales.iter().map(|&s| n(s)).collect(),
            None => vec![base],
        };
        let tiles: u64 = scales.iter().map(|s| (s / base) * (s / base)).sum();
        let pass = tower_bytes(v, cells, tiles, width, 3 * base * base);
        let join = 2 * width * tiles * cells * w;
        // The largest scale's maps are put together in float32 while all maps are there.
        let widest = (scales.iter().max().copied().unwrap_or(base) / base).pow(2);
        let shrink = width * tiles * cells * w + if widest > 1 { 2 * F32 * widest * cells * w } else { 0 };
        let project = width * cells * (joined + 3 * d);
        let image = pass.max(join).max(shrink).max(project).max(load);

        let pixels = n(c.input_size()) * n(c.input_size()) * 3 * F32;
        let planes: u64 = tiles * 3 * base * base * F32;
        VisionNeeds { weights, image, host: pixels + 2 * planes, features: cells * d * width }
    }

    /// For a MiniCPM-V whose tower and resampler, of these names and shapes, are stored in `stored` bytes an element and run
    /// in `dtype`; for the picture that is cut into the most slices.
    pub fn minicpm(
        c: &MiniCpmConfig,
        parameters: &[(String, Vec<usize>)],
        dtype: DType,
        stored: usize,
    ) -> VisionNeeds {
        let n = |x: usize| x as u64;
        let width = dtype.size_in_bytes() as u64;
        let (weights, load) = VisionNeeds::weights(parameters, width, stored as u64);
        let (v, w, d) = (&c.vision, n(c.vision.hidden_size), n(c.llama.hidden_size));
        // A part has about the area of a square of the slicing's scale; its sides are rounded to whole patches.
        let side = n(c.slicing.scale.div_ceil(v.patch_size));
        let cells = side * side + side;
        let (slices, queries) = (n(c.slicing.max_slices.max(1)), n(c.query_num));
        let values = 3 * n(v.patch_size * v.patch_size) * cells;
        let pass = tower_bytes(v, cells, slices, width, values);
        let done = width * slices * cells * w;
        // Two forms of the values and of the keys live to the end, while the values' heads are cut and copied.
        let scores = slices * n(resampler(c).heads()) * queries * cells * (2 * F32);
        let resample = done + 6 * width * slices * cells * d + scores;
        let features = (slices + 1) * queries * d * width;
        VisionNeeds {
            weights,
            image: pass.max(2 * done).max(resample).max(load),
            host: slices * values * F32,
            features,
        }
    }
}
