//! The embedded family served by a hub: fetched, damaged, mended, and searched without the hub.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tests::{HubServer, Process, Run, family, jsonl, programs, root};

const MODELS: [&str; 5] = ["base", "biomedical", "japanese", "medical", "vlm"];

/// A program with its own hub and cache, whatever the environment of the tests.
fn program(name: &str, endpoint: &str, cache: &Path) -> Command {
    let mut command = Command::new(programs().join(name));
    for variable in ["HF_TOKEN", "HF_HOME", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "SSL_CERT_FILE"] {
        command.env_remove(variable);
    }
    command.env("HF_ENDPOINT", endpoint).env("HF_HUB_CACHE", cache).env("NO_PROXY", "127.0.0.1");
    command
}

fn json(output: &Output) -> serde_json::Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text)
        .unwrap_or_else(|e| panic!("{e}: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// The run's file with its models on the hub.
fn on_the_hub(run: &Run) -> PathBuf {
    let text = std::fs::read_to_string(run.path("run.toml")).unwrap();
    let text = text.replace(&format!("{}/", root().join("tests/data/family").display()), "hf://lab/");
    assert_eq!(text.matches("hf://lab/").count(), 6, "{text}");
    std::fs::write(run.path("hub.toml"), text).unwrap();
    run.path("hub.toml")
}

#[test]
fn a_run_is_fetched_then_searched_without_a_hub() {
    let (run, server) = (Run::new(4, 4), HubServer::start());
    let commits = MODELS.map(|m| (m, server.publish_folder(&format!("lab/{m}"), &family().join(m))));
    let (file, cache, endpoint) = (on_the_hub(&run), run.path("cache"), server.url());
    let worker = |arguments: &[&str]| -> Output {
        program("jradievo-worker", &endpoint, &cache).args(arguments).output().unwrap()
    };
    let file = file.to_str().unwrap();

    // Nothing is here yet, and neither of these fetches it.
    let none = worker(&["fetch", file, "--check", "--json"]);
    assert_eq!((none.status.code(), json(&none)["ok"].as_bool()), (Some(1), Some(false)));
    let doctor = worker(&["doctor", file]);
    assert!(String::from_utf8_lossy(&doctor.stdout).contains("jradievo-worker fetch"));
    assert!(server.take_requests().is_empty());

    let fetched = worker(&["fetch", file, "--json"]);
    assert!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stdout));
    let fetched = json(&fetched);
    let rows = fetched["models"].as_array().unwrap();
    // The VLM is a source, too, and one of five.
    assert_eq!(rows.len(), 5);
    for (name, commit) in &commits {
        let row = rows.iter().find(|r| r["repo"] == format!("lab/{name}")).unwrap();
        assert_eq!(row["commit"], *commit);
        assert!(row["fetched"].as_u64() > Some(10_000) && row["faults"].as_array().unwrap().is_empty());
        assert!(row["contents"].as_array().unwrap().iter().all(|c| c["state"] == "verified"), "{row}");
    }
    // A damaged content is named, and mended.
    let folder = Path::new(rows[0]["folder"].as_str().unwrap()).to_path_buf();
    let weights = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path());
    let weights = weights.filter(|p| p.extension().is_some_and(|e| e == "safetensors")).min().unwrap();
    let mut bytes = std::fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    let check = worker(&["fetch", file, "--check"]);
    let text = String::from_utf8_lossy(&check.stdout).into_owned();
    assert_eq!(check.status.code(), Some(1), "{text}");
    assert!(text.contains("FAIL") && text.contains(weights.file_name().unwrap().to_str().unwrap()), "{text}");
    assert!(worker(&["fetch", file]).status.success());

    // A cache without receipts, as other programs leave it: doctor says what is not known, and fetch makes sure.
    let receipts = run.path("cache/models--lab--base/jradievo");
    std::fs::remove_dir_all(&receipts).unwrap();
    let doctor = worker(&["doctor", file]);
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert_eq!(said.matches("inferred from its index").count(), 1, "{said}");
    assert!(worker(&["fetch", file]).status.success() && receipts.is_dir());

    // The plan is made while the hub is there, and says which commits it means.
    let mut command = program("jradievo", &endpoint, &cache);
    let plan = json(&command.args(["check", file, "--json"]).output().unwrap());
    assert_eq!(plan["models"]["vlm"]["path"], format!("hf://lab/vlm@{}", commits[4].1));

    // The hub is gone: everything goes on, by the commits as they were seen last.
    drop(server);
    let mut command = program("jradievo", &endpoint, &cache);
    command.env("HF_HUB_OFFLINE", "1").args(["start", file, "--listen", "127.0.0.1:0"]).args(run.overrides());
    let mut coordinator = Process::start("jradievo", command.arg("--state").arg(run.path("state")));
    let line = coordinator.wait_for("listening on ");
    let mut command = program("jradievo-worker", &endpoint, &cache);
    command.args(["run", "--device", "cpu", "--threads", "1", "--give-up-after", "60", "--coordinator"]);
    let slot = Process::start("worker", command.arg(line.rsplit(' ').next().unwrap()));
    coordinator.expect(0);
    slot.expect(0);
    assert_eq!(run.genomes("state").len(), 4);

    // What is taken home names the commits.
    let recipe = run.path("best.json");
    std::fs::write(&recipe, run.look("recipe", "state", &[])).unwrap();
    let text = std::fs::read_to_string(&recipe).unwrap();
    assert!(commits.iter().all(|(m, c)| text.contains(&format!("hf://lab/{m}@{c}"))), "{text}");
    assert!(worker(&["fetch", recipe.to_str().unwrap(), "--check"]).status.success());
    assert!(worker(&["fetch", run.path("state/run.json").to_str().unwrap(), "--check"]).status.success());
    let out = run.path("merged");
    let merged = worker(&["merge", recipe.to_str().unwrap(), "--out", out.to_str().unwrap()]);
    assert!(merged.status.success(), "{}", String::from_utf8_lossy(&merged.stderr));
    let image = root().join("tests/data/held_out/images/h001.png");
    let vlm = format!("hf://lab/vlm@{}", commits[4].1);
    let written = worker(&["generate", "--json", "--model", &vlm, "--image", image.to_str().unwrap()]);
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    assert_eq!(jsonl(&String::from_utf8(written.stdout).unwrap()).len(), 1);

    // What `recipe --format mergekit` tells to run: the VLM's language model, by its reference, also by the branch.
    let out = run.path("language");
    let whole = worker(&["merge", "hf://lab/vlm@main", "--out", out.to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&whole.stderr).contains("--text-only"));
    let taken = worker(&["merge", "hf://lab/vlm@main", "--text-only", "--out", out.to_str().unwrap()]);
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    let made = std::fs::read_to_string(out.join("recipe.json")).unwrap();
    assert!(made.contains(&vlm) && made.contains("\"name\": \"vlm\""), "{made}");
    assert!(std::fs::read_to_string(out.join("README.md")).unwrap().contains(&format!("`{vlm}`")));

    // A mergekit configuration of models on the hub: the card names the commits.
    let configuration = run.path("linear.yml");
    let text = "merge_method: linear\ndtype: float32\nmodels:\n- {model: lab/base, parameters: {weight: 0.5}}\n\
                - {model: lab/japanese, parameters: {weight: 0.5}}\n";
    std::fs::write(&configuration, text).unwrap();
    let out = run.path("linear");
    let merged = worker(&["merge", configuration.to_str().unwrap(), "--out", out.to_str().unwrap()]);
    assert!(merged.status.success(), "{}", String::from_utf8_lossy(&merged.stderr));
    let card = std::fs::read_to_string(out.join("README.md")).unwrap();
    assert!(card.contains(&format!("`hf://lab/japanese@{}`", commits[2].1)), "{card}");
}

#[test]
fn a_gated_model_is_explained_and_the_others_are_fetched() {
    let (run, server) = (Run::new(2, 4), HubServer::start());
    for model in MODELS {
        server.publish_folder(&format!("lab/{model}"), &family().join(model));
    }
    server.gate("lab/base", "hf_granted");
    let (file, cache) = (on_the_hub(&run), run.path("cache"));
    let fetch = |token: Option<&str>| {
        let mut command = program("jradievo-worker", &server.url(), &cache);
        command.envs(token.map(|t| ("HF_TOKEN", t))).arg("fetch").arg(&file).arg("--json").output().unwrap()
    };
    let refused = fetch(None);
    assert_eq!(refused.status.code(), Some(1));
    let rows = json(&refused)["models"].as_array().unwrap().clone();
    let (bad, good): (Vec<_>, Vec<_>) = rows.iter().partition(|r| r["ok"] == false);
    assert_eq!((bad.len(), good.len()), (1, 4));
    let fault = bad[0]["faults"][0].as_str().unwrap();
    assert!(fault.contains("lab/base is gated") && fault.contains("accept its licence"), "{fault}");
    let granted = fetch(Some("hf_granted"));
    assert!(granted.status.success(), "{}", String::from_utf8_lossy(&granted.stdout));
    assert!(!String::from_utf8_lossy(&granted.stdout).contains("hf_granted"));
}
