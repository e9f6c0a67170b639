//! What is taken home: model folders that others can load, made from the files that the run was pinned to.

use std::path::Path;
use std::process::{Command, Output};
use tests::{Run, family, programs};

fn merge(recipe: &Path, out: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(programs().join("jradievo-worker"));
    command.arg("merge").arg(recipe).arg("--out").arg(out).args(more).output().unwrap()
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Copies a model's folder, whose files a test may then change.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

#[test]
fn other_files_than_the_runs_are_named_and_refused() {
    let run = Run::new(2, 4);
    run.search("state", 1);
    let recipe = run.path("best.json");
    std::fs::write(&recipe, run.look("recipe", "state", &[])).unwrap();
    let models = run.path("models");
    for name in ["base", "vlm", "biomedical", "japanese", "medical"] {
        copy(&family().join(name), &models.join(name));
    }
    let models = ["--models", models.to_str().unwrap()];
    let config = run.path("models/medical/config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text + "\n").unwrap();
    let refused = merge(&recipe, &run.path("out"), &models);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("models/medical/config.json: content differs"), "{said}");
    assert!(said.contains("--allow-changed-sources") && !run.path("out").exists(), "{said}");

    // Allowed, the card says so; and it repeats the licences that the folders state.
    std::fs::write(run.path("models/medical/README.md"), "---\nlicense: llama3\n---\n").unwrap();
    std::fs::write(run.path("models/base/LICENSE"), "MIT License\n\nCopyright …\n").unwrap();
    // Code beside a model travels and is not run.
    std::fs::write(run.path("models/vlm/modeling_made_up.py"), "open('was_run', 'w')\n").unwrap();
    let merged = merge(&recipe, &run.path("out"), &[&models[..], &["--allow-changed-sources"]].concat());
    assert!(merged.status.success(), "{}", String::from_utf8_lossy(&merged.stderr));
    let card = std::fs::read_to_string(run.path("out/README.md")).unwrap();
    for part in [
        "Made from other files than the run's",
        "models/medical/config.json: content differs",
        "Built with Meta Llama 3",
        "`LICENSE`: MIT License",
        "**unknown**",
    ] {
        assert!(card.contains(part), "{part} in {card}");
    }
    assert!(run.path("out/licences/base/LICENSE").is_file());
    assert_eq!(
        std::fs::read_to_string(run.path("out/modeling_made_up.py")).unwrap(),
        "open('was_run', 'w')\n"
    );

    // Scores that belong to another recipe do not travel with this one.
    let mut edited = json(&recipe);
    edited["scale"] = 1.25.into();
    std::fs::write(&recipe, edited.to_string()).unwrap();
    let refused = merge(&recipe, &run.path("edited"), &models);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("remove the key `provenance`"));
    edited.as_object_mut().unwrap().remove("provenance");
    std::fs::write(&recipe, edited.to_string()).unwrap();
    assert!(merge(&recipe, &run.path("edited"), &models).status.success());
}

#[test]
fn the_language_model_leaves_the_vlm_as_a_plain_llama() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("language");
    let vlm = family().join("vlm");
    let whole = merge(&vlm, &out, &[]);
    assert!(String::from_utf8_lossy(&whole.stderr).contains("--text-only"));
    let done = merge(&vlm, &out, &["--text-only"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let (config, before) = (json(&out.join("config.json")), json(&vlm.join("config.json")));
    assert_eq!(config["model_type"], "llama");
    assert_eq!(config["architectures"], serde_json::json!(["LlamaForCausalLM"]));
    assert_eq!(config["torch_dtype"], "float16");
    for key in ["hidden_size", "num_key_value_heads", "rope_theta", "vocab_size", "eos_token_id", "head_dim"]
    {
        assert_eq!(config[key], before[key], "{key}");
    }
    let keys: Vec<&String> = config.as_object().unwrap().keys().collect();
    let vision = |k: &&&String| ["mm_", "vision", "s2", "image", "auto_map"].iter().any(|v| k.contains(v));
    assert_eq!(keys.iter().find(vision), None);
    assert_eq!(json(&out.join("generation_config.json")), json(&vlm.join("generation_config.json")));
    for file in ["tokenizer.json", "special_tokens_map.json"] {
        assert_eq!(std::fs::read(out.join(file)).unwrap(), std::fs::read(vlm.join(file)).unwrap());
    }
    let bytes = std::fs::read(out.join("model.safetensors")).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let names: Vec<&String> = header.as_object().unwrap().keys().filter(|k| *k != "__metadata__").collect();
    // 9 a block, embedding, norm and head.
    assert_eq!(names.len() as u64, 9 * before["num_hidden_layers"].as_u64().unwrap() + 3);
    assert!(names.iter().all(|n| !n.contains("vision") && !n.contains("mm_projector")));
}

/// A signal while the merge is at work, here at a comparison that does not come: what it has written so far goes.
#[cfg(unix)]
#[test]
fn a_merge_that_is_stopped_leaves_nothing_behind() {
    use std::fs::OpenOptions;
    use std::io::Write;
    use std::process::Stdio;
    use std::sync::mpsc::channel;
    let run = Run::new(2, 4);
    run.search("state", 1);
    let recipe = run.look("recipe", "state", &[]);
    let pipe = run.path("proof.json");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for signal in ["TERM", "INT"] {
        let mut command = Command::new(programs().join("jradievo-worker"));
        // The recipe comes through a pipe too, as `jradievo recipe DIR | jradievo-worker merge /dev/stdin` sends it.
        command.args(["merge", "/dev/stdin", "--out"]).arg(run.path("out")).stdin(Stdio::piped());
        let mut child = command.arg("--proof").arg(&pipe).spawn().unwrap();
        child.stdin.take().unwrap().write_all(recipe.as_bytes()).unwrap();
        // Opening a pipe waits for its reader, and from then on the merge waits for text.
        let (sender, opened) = channel();
        let path = pipe.clone();
        std::thread::spawn(move || sender.send(OpenOptions::new().write(true).open(path)));
        let open = opened.recv_timeout(std::time::Duration::from_secs(240));
        let part = run.path(&format!(".out.{}.part", child.id()));
        std::fs::create_dir(&part).unwrap();
        std::fs::write(part.join("model.safetensors"), "half").unwrap();
        let sent = Command::new("kill").arg(format!("-{signal}")).arg(child.id().to_string()).status();
        assert!(sent.unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(130), "{signal}");
        assert!(!part.exists() && !run.path("out").exists(), "{signal}");
        drop(open);
    }
}
