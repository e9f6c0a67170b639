//! The plan against the sizes of the tensors that are allocated, and against machines that do not exist.

use super::*;
use crate::generate::{Control, Generator, Options, Progress, Sizes};
use crate::model::bunny::Vision;
use crate::model::weights::expected_parameters;
use crate::model::{BunnyConfig, Features, Kernels, Llama, LlamaConfig, Passes, Prompt, TensorSource};
use crate::vlm::{Bunny, VisionLanguageModel};
use candle_core::{DType, Device, Tensor};

const BUNNY: &str = r#"{"hidden_size": 96, "intermediate_size": 160, "num_hidden_layers": 3,
    "num_attention_heads": 6, "num_key_value_heads": 2, "vocab_size": 777, "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0, "max_position_embeddings": 128, "mm_projector_type": "mlp2x_gelu",
    "mm_hidden_size": 120, "use_s2": true, "s2_scales": [28, 56, 84],
    "vision_config": {"hidden_size": 40, "intermediate_size": 72, "num_hidden_layers": 4,
    "num_attention_heads": 4, "image_size": 28, "patch_size": 7}}"#;

fn bunny() -> BunnyConfig {
    BunnyConfig::from_json(BUNNY, "test").expect("a sound configuration")
}

fn needs(text: &str, dtype: DType) -> VisionNeeds {
    Bunny::from_json(text, "test").expect("a sound configuration").vision_needs(dtype, 2)
}

/// Random bfloat16 tensors of every name.
struct Any(Vec<(String, Vec<usize>)>);

impl Any {
    fn new() -> Any {
        let mut all = expected_parameters(&bunny().llama);
        all.extend(Bunny::from_json(BUNNY, "test").expect("a sound configuration").vision_parameters());
        Any(all)
    }
}

impl TensorSource for Any {
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, shape)| shape.clone())
    }

    fn get(&self, name: &str) -> crate::model::Result<Tensor> {
        let shape = self.shape(name).expect("every name has a shape");
        Ok(Tensor::randn(0f32, 0.05, shape, &Device::Cpu)?.to_dtype(DType::BF16)?)
    }
}

fn workload(samples: usize, batch_size: usize, new_tokens: usize) -> Workload {
    let c = bunny();
    Workload {
        mapped: vec![Mapped { name: "base".into(), bytes: 300 << 20 }],
        sources: 4,
        own_bases: 0,
        masked: 4 << 20,
        kernels: true,
        merged_width: 2,
        merge_copies: 1,
        vision: needs(BUNNY, DType::F32),
        language: c.llama,
        compute: DType::F32,
        passes: Kernels::Auto,
        largest: 777 * 96,
        stored: 2,
        samples,
        shared: 7,
        prompt: 7 + 16 + 5,
        options: Options { max_new_tokens: new_tokens, batch_size, ..Options::default() },
        slots: 1,
    }
}

#[test]
fn weights_cache_and_features_are_counted_to_the_byte() {
    let c = bunny();
    for (dtype, samples, batch, new_tokens) in
        [(DType::F32, 5, 3, 9), (DType::F16, 2, 8, 200), (DType::BF16, 1, 1, 1)]
    {
        let work =
            Workload { compute: dtype, vision: needs(BUNNY, dtype), ..workload(samples, batch, new_tokens) };
        let vision = Vision::load(&c, &Any::new(), dtype, &Device::Cpu).expect("random tensors");
        assert_eq!(work.vision.weights, vision.bytes() as u64);

        let language = Llama::load(&c.llama, &Any::new(), dtype, &Device::Cpu).expect("random tensors");
        let size = |t: &Tensor| (t.elem_count() * t.dtype().size_in_bytes()) as u64;
        let weights: u64 = language.weights().parameters().map(|(_, t)| size(t)).sum();
        assert_eq!(work.language_bytes(), weights);

        let pixels = Tensor::randn(0f32, 0.5, (3, 84, 84), &Device::Cpu).expect("memory");
        let image = vision.encode(&pixels).expect("pixels of the right size");
        assert_eq!(work.vision.features, size(&image));
        let features = Features::stack(&vec![image; samples]).expect("one shape");

        let prompt = Prompt::around((0..7).collect(), c.image_tokens(), (10..15).collect());
        assert_eq!(prompt.positions(), work.prompt);
        let mut generator = Generator::new();
        let mut progress = Progress { samples_done: 0, samples, tokens: 0 };
        let control = Control::default();
        generator
            .token_ids(&language, &prompt, &features, &work.options, control, &mut progress)
            .expect("runs");
        assert_eq!(work.cache_bytes().expect("room"), generator.cache_bytes() as u64);
    }
}

#[test]
fn a_batch_that_is_prefilled_in_chunks_keeps_earlier_logits() {
    let work = workload(10, 10, 4);
    let mut sizes = work.sizes(Passes::Fused).expect("room");
    sizes.prefill_rows = 10;
    let whole = prefill_bytes(&work.language, DType::F32, Passes::Fused, &sizes);
    sizes.prefill_rows = 4;
    let chunks = prefill_bytes(&work.language, DType::F32, Passes::Fused, &sizes);
    assert!(chunks < whole);
    // Rows 0 to 7 have their logits when the last two rows run.
    let logits = 8 * 777 * 4;
    // 21 positions of 4 rows: 2 + 2 hidden widths, query, key and value, attention, three feed-forward widths.
    let pass = 4 * 4 * 21 * (4 * 96 + (96 + 64) + 96 + 3 * 160);
    assert_eq!(chunks, logits + pass);
}

#[test]
fn a_gpu_has_scores_once_and_in_its_own_type() {
    let work = workload(10, 10, 4);
    let (c, sizes) = (&work.language, work.sizes(Passes::Gpu).expect("room"));
    // As many chunks as single operations would run at least; here all rows are one.
    assert_eq!(sizes.prefill_rows, 10);
    let (d, f, heads) = (c.hidden_size as u64, c.intermediate_size as u64, c.num_attention_heads as u64);
    let (width, positions) = (2, 10 * (work.prompt - sizes.shared) as u64);
    // Embeddings, hidden states and norm; then whichever is widest.
    let attend = (96 + 64) + 3 * 96 + heads * work.prompt as u64;
    let pass = width * positions * (3 * d + attend.max(96 + 3 * f));
    let whole = prefill_bytes(c, DType::F16, Passes::Gpu, &sizes);
    assert_eq!(whole, pass.max(10 * 777 * 4));
    assert!(whole < prefill_bytes(c, DType::F16, Passes::Plain, &sizes));
    // One Bunny on a GPU: six prompts of 823 positions at a time instead of one.
    let real = LlamaConfig { num_attention_heads: 32, max_position_embeddings: 8192, ..c.clone() };
    let rows = |passes| Sizes::new(&real, 27, 823, 50, &work.options, passes).expect("room").prefill_rows;
    assert_eq!((rows(Passes::Gpu), rows(Passes::Plain)), (6, 1));
}

fn machine(free: u64, gpu: Option<u64>) -> Machine {
    let host = HostMemory {
        own: 100 << 20,
        free,
        total: 2 * free,
        bound: "memory of the machine".into(),
        page_cache: free,
    };
    let gpu = gpu.map(|free| GpuMemory { name: "cuda:0".into(), free, total: free });
    Machine { host: Some(host), gpu, threads: 2 }
}

#[test]
fn masks_are_counted_where_the_host_merges() {
    let masks = |work: &Workload, gpu: Option<u64>| {
        let plan = plan(work, &machine(64 << 30, gpu)).expect("room");
        let item = plan.items.iter().find(|i| i.what.starts_with("masks of what is dropped"));
        item.map(|i| (i.bytes, i.place, i.phases.clone()))
    };
    let merged = vec![Phase::Merge, Phase::Prefill, Phase::Decode];
    let mut work = workload(2, 2, 4);
    assert_eq!(masks(&work, None), Some((1 << 19, Place::Host, merged.clone())));
    assert_eq!(masks(&work, Some(8 << 30)), None);
    work.masked = u64::MAX;
    assert_eq!(masks(&work, None), Some((1 << 30, Place::Host, merged)));
    (work.masked, work.slots) = (4 << 20, 2);
    let later = [Phase::Load, Phase::Merge, Phase::Prefill, Phase::Decode].to_vec();
    assert_eq!(masks(&work, None), Some((1 << 20, Place::Host, later)));
    work.masked = 0;
    assert_eq!(masks(&work, None), None);
}

#[test]
fn what_is_missing_is_named_with_what_helps() {
    let mut work = workload(400, 400, 100);
    let roomy = plan(&work, &machine(8 << 30, None)).expect("room");
    assert_eq!((roomy.missing(), roomy.page_cache.from_disk), (0, 0));
    roomy.check().expect("fits");
    let need = roomy.host.as_ref().expect("known").need;
    assert_eq!(need, roomy.host_peak());
    // One byte less than what is needed beyond what the process holds.
    let tight = plan(&work, &machine(need - (100 << 20) - 1, None)).expect("room");
    assert_eq!(tight.missing(), 1);
    let message = tight.check().expect_err("a byte is missing").to_string();
    assert!(
        message.contains("host memory are missing") && message.contains("generation.batch_size = "),
        "{message}"
    );
    // The batch that is advised fits, and the next one does not.
    let advised: usize = tight.advice[0].split(' ').nth(2).and_then(|n| n.parse().ok()).expect("a number");
    for (batch, fits) in [(advised, true), (advised + 1, false)] {
        work.options.batch_size = batch;
        let again = plan(&work, &machine(need - (100 << 20) - 1, None)).expect("room");
        assert_eq!(again.missing() == 0, fits, "{batch}");
    }
    work.options.batch_size = 400;
    work.slots = 5;
    let slots = plan(&work, &machine(need + (100 << 20), None)).expect("room");
    assert!(
        slots.advice[0].starts_with("--slots ") && slots.advice[0].ends_with(" fits"),
        "{:?}",
        slots.advice
    );
    let hopeless = plan(&work, &machine(1 << 20, None)).expect("room");
    assert!(hopeless.advice.last().expect("some").contains("one sample at a time"), "{:?}", hopeless.advice);
}

#[test]
fn a_small_page_cache_is_told_but_not_refused() {
    let work = workload(2, 2, 4);
    let small = plan(&work, &machine(290 << 20, None)).expect("room");
    assert_eq!(small.missing(), 0, "{:?}", small.peaks);
    assert_eq!(small.page_cache.from_disk, 300 << 20);
    assert!(small.notes[0].contains("from the disk"), "{:?}", small.notes);
}

/// The paper's run: 50 samples, 823 positions, 256 new tokens, five models of 16.06 GB.
fn paper(dtype: DType) -> Workload {
    let text = r#"{"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "vocab_size": 128256, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
        "max_position_embeddings": 8192, "mm_projector_type": "mlp2x_gelu", "mm_hidden_size": 3456, "use_s2": true,
        "mm_vision_tower": "google/siglip-so400m-patch14-384"}"#;
    let c = BunnyConfig::from_json(text, "test").expect("a sound configuration");
    Workload {
        mapped: (0..5).map(|i| Mapped { name: i.to_string(), bytes: 16_060_522_496 }).collect(),
        sources: 4,
        own_bases: 0,
        masked: 4 * 8_030_261_248,
        kernels: true,
        merged_width: 2,
        merge_copies: 1,
        vision: needs(text, dtype),
        language: c.llama,
        compute: dtype,
        passes: Kernels::Auto,
        largest: 128_256 * 4096,
        stored: 2,
        samples: 50,
        shared: 32,
        prompt: 823,
        options: Options { max_new_tokens: 256, batch_size: 50, ..Options::default() },
        slots: 1,
    }
}

#[test]
fn the_papers_run_on_three_gpus_and_a_cpu() {
    let work = paper(DType::F16);
    // Known figures: 16.06 GB of weights, 131,072 bytes a position, 299 MB of features, 397,745,440 + 30,941,184 parameters.
    assert_eq!(work.language_bytes(), 16_060_522_496);
    assert_eq!(work.cache_bytes().expect("room"), 131_072 * (50 * 1078 + 32));
    assert_eq!(50 * work.vision.features, 298_598_400);
    let norms = 26 * 4 * 1152;
    assert_eq!(work.vision.weights, 2 * (397_745_440 + 30_941_184) + 2 * norms);

    let host = 256 << 30;
    let places = |plan: &MemoryPlan| {
        let weights = plan.items.iter().filter(|i| i.what.starts_with("weights of "));
        weights.map(|i| i.place).collect::<Vec<_>>()
    };
    // 141 GB as its driver counts them: all five models stay there.
    let sources = 5 * 16_060_522_496;
    let large = plan(&work, &machine(host, Some(140_000_000_000))).expect("room");
    large.check().expect("fits");
    assert_eq!((places(&large), large.resident), (vec![Place::Device; 5], sources));
    assert_eq!(large.page_cache.wanted, 0);
    assert!(large.device.as_ref().expect("known").need > sources + work.language_bytes());
    assert!(large.notes[0].starts_with("base and sources are kept on the GPU"), "{:?}", large.notes);
    // With one byte less than that takes they are streamed.
    let need = large.device.as_ref().expect("known").need;
    assert_eq!(plan(&work, &machine(host, Some(need))).expect("room").resident, sources);
    let tight = plan(&work, &machine(host, Some(need - 1))).expect("room");
    assert_eq!((places(&tight), tight.resident), (vec![Place::Streamed; 5], 0));

    let middle = plan(&work, &machine(host, Some(80_000_000_000))).expect("room");
    middle.check().expect("fits");
    assert_eq!((places(&middle), middle.page_cache.wanted), (vec![Place::Streamed; 5], sources));
    assert!(middle.notes[1].contains("streamed to the GPU tensor by tensor"), "{:?}", middle.notes);
    // Pieces of 16 Mi elements of five models in two bytes, and four histograms.
    let staging = middle.items.iter().find(|i| i.what.starts_with("pieces of base")).expect("streamed");
    assert_eq!((staging.bytes, staging.place), (5 * (2 << 24) + 4 * (8 << 16), Place::Device));
    // 24 GB: the cache of 50 rows is too much; some batch fits, and then sources are streamed.
    let small = plan(&work, &machine(host, Some(24_000_000_000))).expect("room");
    let message = small.check().expect_err("does not fit").to_string();
    assert!(
        message.contains("of GPU memory are missing") && message.contains("generation.batch_size = "),
        "{message}"
    );
    let advised = small.advice[0].split(' ').nth(2).and_then(|n| n.parse().ok()).expect("a number");
    let mut fewer = work.clone();
    fewer.options.batch_size = advised;
    let fewer = plan(&fewer, &machine(host, Some(24_000_000_000))).expect("room");
    fewer.check().expect("fits as advised");
    assert_eq!(places(&fewer), [Place::Streamed; 5]);
    // Where merges are wanted on the host nothing of theirs is on the GPU.
    let on_host = Workload { kernels: false, ..work.clone() };
    let on_host = plan(&on_host, &machine(host, Some(140_000_000_000))).expect("room");
    assert_eq!((places(&on_host), on_host.resident), (vec![Place::Mapped; 5], 0));
    assert!(on_host.notes[1].starts_with("merging runs on the host"), "{:?}", on_host.notes);
    // On a CPU weights are float32: more than 32 GB. Base and sources are mapped.
    let cpu = plan(&paper(DType::F32), &machine(24 << 30, None)).expect("room");
    assert_eq!(places(&cpu), [Place::Mapped; 5]);
    assert!(
        cpu.missing() > 8_000_000_000 && cpu.advice[0].contains("one sample at a time"),
        "{:?}",
        cpu.advice
    );
}
