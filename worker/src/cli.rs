//! The command line of `jradievo-worker`.

use crate::rehearse::Tower;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Merges, generates and scores: the part of JRadiEvo that needs the models.
#[derive(Debug, Parser)]
#[command(
    name = "jradievo-worker",
    version,
    about,
    after_help = "\
Exit codes: 0 done, 1 failed, 2 wrong use, 3 turned away by the coordinator, 130 stopped by Ctrl-C.

Images, references and weights stay on this machine. What a worker sends is scores and generated reports."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// CPU threads for merging and for models on the CPU; by default one a core, shared by the slots.
    #[arg(long, global = true, value_name = "N")]
    pub threads: Option<usize>,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Evaluate candidates for a coordinator until its run is over.
    Run(Run),
    /// Make a model folder from a recipe or a mergekit configuration.
    Merge(Merge),
    /// Write reports for images.
    Generate(Generate),
    /// Score a model on a dataset.
    Evaluate(Evaluate),
    /// Compare recipes, sources and a constant text on the search and held-out samples of a run.
    Compare(Compare),
    /// The last round of a search: the best few on samples that it never saw, and which of them is the best.
    Finalists(Finalists),
    /// Score texts against references, without a model.
    Score(Score),
    /// Bring the models of a run or recipe here from their hub, and verify them.
    Fetch(Fetch),
    /// Say what would fail before it does: device, memory, models, dictionary.
    Doctor(Doctor),
    /// Run random models of real shapes through every stage, and hold time and memory against what they should be.
    Rehearse(Rehearse),
}

/// Where models run, in which type, and where merges are made.
#[derive(Clone, Debug, Args)]
pub struct DeviceArg {
    /// Where models run: auto, cpu or cuda:N.
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    pub device: String,
    /// Type that models compute in on a GPU: auto (the VLM's own 16 bits), f16, bf16 or f32. On a CPU it is f32.
    #[arg(long, default_value = "auto", value_name = "TYPE", value_parser = ["auto", "f16", "bf16", "f32"])]
    pub compute: String,
    /// Where merges are made for a model on a GPU: auto (there, where its kernels can) or host. Both give the same bits.
    #[arg(long, default_value = "auto", value_name = "WHERE", value_parser = ["auto", "host"])]
    pub merge_on: String,
    /// How the language model is run: auto (by kernels of this program between the matrix products) or plain (by the tensor
    /// library's single operations: slower, to compare with).
    #[arg(long, default_value = "auto", value_name = "HOW", value_parser = ["auto", "plain"])]
    pub passes: String,
}

/// What to do where the memory plan says no.
#[derive(Clone, Copy, Debug, Args)]
pub struct MemoryArg {
    /// Go on although the memory plan says that this machine's memory does not suffice.
    #[arg(long)]
    pub ignore_memory_plan: bool,
}

/// How an https:// coordinator knows this node.
#[derive(Debug, Default, Args)]
pub struct NetworkArg {
    /// Folder with ca.pem, cert.pem and key.pem of this node, as `jradievo pki issue` makes it. Read at every connection.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["ca", "cert", "key", "token_file", "identity"])]
    pub tls: Option<PathBuf>,
    /// The authority's certificate, in place of --tls.
    #[arg(long, value_name = "FILE", requires_all = ["cert", "key"])]
    pub ca: Option<PathBuf>,
    /// This node's certificate.
    #[arg(long, value_name = "FILE", requires = "ca")]
    pub cert: Option<PathBuf>,
    /// Its private key; nobody else may be able to read it.
    #[arg(long, value_name = "FILE", requires = "ca")]
    pub key: Option<PathBuf>,
    /// File that holds a join token, which `jradievo token` printed; only needed the first time. Also JRADIEVO_TOKEN.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Folder in which a node that joined keeps its key and certificate [default: one for each coordinator in
    /// ~/.local/state/jradievo].
    #[arg(long, value_name = "DIR")]
    pub identity: Option<PathBuf>,
}

/// Evaluates candidates for a coordinator.
#[derive(Debug, Args)]
pub struct Run {
    /// Address of the coordinator, such as https://node1:7443, or http://127.0.0.1:7443 on the same machine.
    #[arg(long, value_name = "URL")]
    pub coordinator: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub network: NetworkArg,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub device: DeviceArg,
    /// Candidates evaluated at once; each has its own copy of the merged model.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub slots: u32,
    /// Folder that holds the run's models, each in a folder called like it in the run file (or like the last
    /// part of its path). By default models are where the run file says.
    #[arg(long, value_name = "DIR")]
    pub models: Option<PathBuf>,
    /// Folder that holds the dataset file and its images. By default they are where the run file says.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Name that people see; by default the one in this node's certificate, else the host's. With a certificate: its name,
    /// or that, "/" and anything.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub memory: MemoryArg,
    /// Run the commands that the run's plan names as metrics or evaluator. They come from whoever started the run, and do on
    /// this machine whatever they please.
    #[arg(long)]
    pub allow_external: bool,
    /// Leave when the coordinator has not answered for this many seconds; by default keep trying.
    #[arg(long, value_name = "SECONDS")]
    pub give_up_after: Option<u64>,
    /// Folder for the reports of runs that leave them on this node (`reports = "local"`); by default jradievo/reports in
    /// XDG_STATE_HOME or ~/.local/state.
    #[arg(long, value_name = "DIR")]
    pub reports: Option<PathBuf>,
    /// After SIGTERM, take nothing new and go on for at most this many seconds with what is begun, then hand it back. Ctrl-C
    /// hands back at once.
    #[arg(long, default_value_t = 20, value_name = "SECONDS")]
    pub grace: u64,
}

/// Makes a model folder.
#[derive(Debug, Args)]
pub struct Merge {
    /// Recipe file, as `jradievo recipe` prints it, or a mergekit configuration (YAML) as it is. With --text-only also a
    /// model's folder or hf://owner/name@revision: then its own language model is taken out, unmerged.
    pub recipe: PathBuf,
    /// The new folder; must not exist or be empty.
    #[arg(long, value_name = "MODEL_DIR")]
    pub out: PathBuf,
    /// Write the language model alone, as a folder that transformers loads as LlamaForCausalLM.
    #[arg(long)]
    pub text_only: bool,
    /// What `compare --out` wrote about this recipe: its table on held-out samples goes into the model card.
    #[arg(long, value_name = "FILE")]
    pub proof: Option<PathBuf>,
    /// Merge although the models' files differ from those that the run was pinned to. The model card will say so.
    #[arg(long)]
    pub allow_changed_sources: bool,
    /// Folder that holds the models, each in a folder called like it in the recipe or, for a mergekit configuration, like
    /// the model or the last part of its name.
    #[arg(long, value_name = "DIR")]
    pub models: Option<PathBuf>,
    /// Seed of the random masks of a mergekit configuration; 0 by default.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Where the vocabularies of a mergekit configuration differ and it sets no tokenizer: keep the rows that all models
    /// have. Right only where these rows stand for the same tokens.
    #[arg(long)]
    pub truncate_embeddings: bool,
    /// Repeat what mergekit gives with this many threads: torch sums large tensors in as many parts, which shows in the
    /// last bits of some methods.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub torch_threads: u32,
    /// Digest the files of a mergekit configuration's models (BLAKE3) and list them in the model card, which else names models,
    /// licences and commits alone, as mergekit does. Where the files are in memory a merge takes up to twice as long.
    #[arg(long)]
    pub digests: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub memory: MemoryArg,
}

/// How a model is asked, where there is no run file to say so.
#[derive(Clone, Debug, Default, Args)]
pub struct Asking {
    /// Run file to take task, image size and limits from. Without it they come from jradievo.json in the model's
    /// folder, where there is one (keys: task, image_resize, max_new_tokens); else the paper's task is asked, images
    /// are only preprocessed as the model does itself, and 256 tokens may be written.
    #[arg(long, value_name = "RUN.toml")]
    pub run: Option<PathBuf>,
    /// What to ask; overrides the run file.
    #[arg(long)]
    pub task: Option<String>,
    /// Most new tokens; overrides the run file.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=8192))]
    pub max_new_tokens: Option<u32>,
    /// Resize images to WxH before the model's own preprocessing; overrides the run file.
    #[arg(long, value_name = "WxH")]
    pub image_resize: Option<String>,
    /// Frame of DICOM files that have several: first, or a number from 1; overrides the run file.
    #[arg(long, value_name = "N", value_parser = frame)]
    pub frame: Option<u32>,
    /// Images generated together; overrides the run file.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub batch_size: Option<u32>,
}

/// Writes reports for images.
#[derive(Debug, Args)]
pub struct Generate {
    /// Model folder, or hf://owner/name@revision.
    #[arg(long, value_name = "MODEL")]
    pub model: PathBuf,
    /// PNG, JPEG or DICOM files.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    pub image: Vec<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub asking: Asking,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub device: DeviceArg,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub memory: MemoryArg,
    /// One JSON object a line: image, text, token_ids, stop.
    #[arg(long)]
    pub json: bool,
}

/// Scores a model on a dataset.
#[derive(Debug, Args)]
pub struct Evaluate {
    /// Model folder, or hf://owner/name@revision.
    #[arg(long, value_name = "MODEL")]
    pub model: PathBuf,
    /// JSONL or CSV file with id, image and report.
    #[arg(long, value_name = "FILE")]
    pub dataset: PathBuf,
    /// Part of each report that is the reference, such as 所見; overrides the run file.
    #[arg(long)]
    pub part: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub asking: Asking,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub device: DeviceArg,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub memory: MemoryArg,
    /// Print JSON: n, metrics (name → mean, low, high), samples.
    #[arg(long)]
    pub json: bool,
}

/// Compares what a search found with everything it was made from.
#[derive(Debug, Args)]
pub struct Compare {
    /// Run file: models, search samples and `[held_out]`.
    pub run: PathBuf,
    /// Recipe of the best candidate, as `jradievo recipe` prints it. Repeat to compare several: the first is
    /// called best, the others best-2, best-3 …
    #[arg(long, required = true, value_name = "FILE")]
    pub recipe: Vec<PathBuf>,
    /// Overrides a key of the run file, as in search.evaluations=40. Repeatable.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Folder that holds the models.
    #[arg(long, value_name = "DIR")]
    pub models: Option<PathBuf>,
    /// Write the summary here as JSON.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Compare although the models' files differ from those that a recipe's run was pinned to. The summary will say so.
    #[arg(long)]
    pub allow_changed_sources: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub device: DeviceArg,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub memory: MemoryArg,
    /// Print the summary as JSON instead of tables.
    #[arg(long)]
    pub json: bool,
}

/// The last round of a search.
#[derive(Debug, Args)]
pub struct Finalists {
    /// Run file: models, and the samples of `[validation]`.
    pub run: PathBuf,
    /// Recipes of the best few, one a line, as `jradievo finalists` prints them.
    #[arg(long, value_name = "FILE")]
    pub recipes: PathBuf,
    /// Overrides a key of the run file, as in validation.file=other.jsonl. Repeatable.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Folder that holds the models.
    #[arg(long, value_name = "DIR")]
    pub models: Option<PathBuf>,
    /// Folder that holds the dataset files and their images.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Write what was found here, for `jradievo finalists --record`.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub device: DeviceArg,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub memory: MemoryArg,
    /// Print what was found as JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// Scores texts against references.
#[derive(Debug, Args)]
pub struct Score {
    /// JSONL with id and text: what is right.
    #[arg(long, value_name = "FILE")]
    pub references: PathBuf,
    /// JSONL with id and text: what is to be scored. Needs the same ids.
    #[arg(long, value_name = "FILE")]
    pub predictions: PathBuf,
    /// Run file to take `[scoring]` from, metrics that are commands included; they are run.
    #[arg(long, value_name = "RUN.toml", conflicts_with_all = ["tokenizer", "lexicon", "extend_lexicon", "absent_weight"])]
    pub run: Option<PathBuf>,
    /// Overrides a key of the run file, as in scoring.lexicon=new.toml. Repeatable.
    #[arg(long = "set", value_name = "KEY=VALUE", requires = "run")]
    pub set: Vec<String>,
    /// unidic-lite, ipadic, char or a dictionary's path.
    #[arg(long, default_value = "unidic-lite")]
    pub tokenizer: String,
    /// Lexicon in place of the built-in one.
    #[arg(long, value_name = "FILE")]
    pub lexicon: Option<PathBuf>,
    /// Lexicon laid over the built-in one.
    #[arg(long, value_name = "FILE")]
    pub extend_lexicon: Option<PathBuf>,
    /// Weight of absent findings in term F1.
    #[arg(long, default_value_t = 1.0)]
    pub absent_weight: f64,
    /// Print JSON: n, metrics (name → mean, low, high), samples (per id, every metric).
    #[arg(long)]
    pub json: bool,
    /// Add to each sample the terms that were found in both texts, and the cue that decided each.
    #[arg(long, requires = "json")]
    pub explain: bool,
}

/// Brings models here.
#[derive(Debug, Args)]
#[command(after_help = "\
Models of a hub (hf://owner/name@revision) go to the cache that other programs share. What is there already is not
fetched again; what broke off goes on. Read from the environment: HF_ENDPOINT (a mirror), HF_HUB_CACHE or HF_HOME
(where models are kept), HF_TOKEN (for gated repositories), HF_HUB_OFFLINE, HTTPS_PROXY, SSL_CERT_FILE.")]
pub struct Fetch {
    /// Run file (RUN.toml), recipe, or run.json of a state folder.
    pub file: PathBuf,
    /// Overrides a key of the run file, as in models.vlm=hf://owner/name. Repeatable.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Folder that holds models of this machine's own, as for run.
    #[arg(long, value_name = "DIR")]
    pub models: Option<PathBuf>,
    /// Only verify what is here; the network is not used.
    #[arg(long)]
    pub check: bool,
    /// Print JSON: ok, models (names, reference, folder, files, bytes, faults, contents).
    #[arg(long)]
    pub json: bool,
}

/// Says what would fail.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Run file whose models, dataset and dictionary are to be tried; or a mergekit configuration, whose models are.
    pub run: Option<PathBuf>,
    /// Folder that holds the models.
    #[arg(long, value_name = "DIR")]
    pub models: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub device: DeviceArg,
    /// Candidates at once that the memory plan is made for.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub slots: u32,
    /// Print JSON: a list of checks, the memory plan with the one of that name.
    #[arg(long)]
    pub json: bool,
}

/// Reads a frame's number, as in a run file.
fn frame(text: &str) -> Result<u32, String> {
    match text {
        "first" => Ok(1),
        number => number.parse().ok().filter(|n| *n > 0).ok_or("expected first or a number from 1".into()),
    }
}

/// Rehearses a candidate at full size.
#[derive(Debug, Args)]
pub struct Rehearse {
    /// Size of the language models: 8b, 1b, 0.1b or 0.01b; by default the largest that disk, memory and device allow.
    #[arg(long, value_name = "SIZE", value_parser = ["8b", "1b", "0.1b", "0.01b"])]
    pub params: Option<String>,
    /// Sources of the merge, the VLM's own language model among them.
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16))]
    pub sources: u32,
    /// Images and reports; by default 50 on a GPU, 2 on a CPU.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub samples: Option<u32>,
    /// Most new tokens a report; by default 256 on a GPU, 16 on a CPU.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub new_tokens: Option<u32>,
    /// Samples generated together; by default all of them.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub batch_size: Option<u32>,
    /// Type that base and sources are stored in: bf16, f16 or f32. The VLM is float16, as published.
    #[arg(long, default_value = "bf16", value_name = "TYPE", value_parser = ["bf16", "f16", "f32"])]
    pub dtype: String,
    /// The vision tower; by default full on a GPU, scaled on a CPU.
    #[arg(long, value_enum)]
    pub tower: Option<Tower>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub device: DeviceArg,
    /// Folder in which a folder for the rehearsal is made; by default the system's folder for temporary files.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Leave that folder: models, images and run.toml, for use with the other commands.
    #[arg(long)]
    pub keep: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub memory: MemoryArg,
    /// Print JSON: one object with the plan, the rates and every stage.
    #[arg(long)]
    pub json: bool,
}
