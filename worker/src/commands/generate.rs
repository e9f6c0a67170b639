//! `jradievo-worker generate`: reports for images.

use super::OK;
use crate::asking;
use crate::cli;
use crate::device;
use crate::generate::{Control, Generated, Generator, Stop};
use crate::image::{Limits, decode};
use crate::memory;
use crate::obtain::folder;
use crate::pipeline::options;
use crate::vlm::Vlm;
use anyhow::Result;
use hub::Meter;
use serde::Serialize;

#[derive(Serialize)]
struct Line<'a> {
    image: &'a str,
    text: &'a str,
    token_ids: &'a [u32],
    stop: &'a str,
}

/// Runs the command.
pub fn run(args: &cli::Generate) -> Result<u8> {
    let chosen = device::choose(&args.device)?;
    if let Some(note) = &chosen.note {
        eprintln!("note: {note}");
    }
    let model = folder(&args.model, &Meter::stderr())?;
    let (question, run) = asking::resolve(&args.asking, &model)?;
    let vlm = Vlm::open(&model, &chosen)?;
    let memory = memory::for_model(&vlm, &question, args.image.len())?;
    memory::guard(&memory, args.memory.ignore_memory_plan)?;
    let frame = args.asking.frame.or(run.and_then(|run| run.dataset.frame));
    let images = args.image.iter().map(|path| Ok(decode(path, frame, &Limits::default())?));
    let questions = vlm.questions(images, question.generation.image_resize, &question.task)?;
    let written = Generator::new().generate(
        &vlm.answering()?,
        &vlm.tokenizer,
        &questions,
        &options(&vlm, &question.generation),
        Control::default(),
    )?;
    for (path, Generated { token_ids, text, stop }) in args.image.iter().zip(&written) {
        let image = path.display().to_string();
        let stop = match stop {
            Stop::Eos => "end",
            Stop::Length => "length",
            Stop::NonFinite => "non-finite",
            Stop::Repetition => "repetition",
            Stop::NoJapanese => "no-japanese",
        };
        if args.json {
            out!("{}", serde_json::to_string(&Line { image: &image, text, token_ids, stop })?);
        } else {
            out!("{image}\n{text}\n");
        }
    }
    Ok(OK)
}
