//! The embedded family as `generate` and `compare` see it.

use std::process::Command;
use tests::{Run, family, jsonl, programs, root};

#[test]
fn generate_prints_a_line_an_image_in_order() {
    let images: Vec<_> =
        (1..=3).map(|i| root().join(format!("tests/data/held_out/images/h00{i}.png"))).collect();
    let output = Command::new(programs().join("jradievo-worker"))
        .args(["generate", "--json", "--model"])
        .arg(family().join("vlm"))
        .arg("--image")
        .args(&images)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = jsonl(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(lines.len(), 3);
    for (line, image) in lines.iter().zip(&images) {
        assert_eq!(line["image"].as_str().unwrap(), image.to_str().unwrap());
        assert!(!line["text"].as_str().unwrap().is_empty());
        assert!(!line["token_ids"].as_array().unwrap().is_empty());
    }
}

#[test]
fn compare_reports_every_row_on_both_sets() {
    let run = Run::new(5, 4);
    run.search("state", 1);
    std::fs::write(run.path("best.json"), run.look("recipe", "state", &[])).unwrap();
    let text = std::fs::read_to_string(root().join("tests/data/held_out/samples.jsonl")).unwrap();
    let some: String = text.lines().take(4).map(|l| format!("{l}\n")).collect();
    std::fs::write(run.path("held_out.jsonl"), some).unwrap();
    let file = run.path("held_out.jsonl");
    let images = root().join("tests/data/held_out");
    let output = Command::new(programs().join("jradievo-worker"))
        .arg("compare")
        .arg(run.path("run.toml"))
        .args(["--set", &format!("held_out.file={}", file.display())])
        .args(["--set", &format!("held_out.images={}", images.display())])
        .arg("--recipe")
        .arg(run.path("best.json"))
        .arg("--out")
        .arg(run.path("summary.json"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(tests::is_private(&run.path("summary.json")), "references and scores are open to others");
    let summary: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(run.path("summary.json")).unwrap()).unwrap();
    for (set, n) in [("search", 5), ("held_out", 4)] {
        let set = &summary[set];
        assert_eq!(set["n"], n);
        let sources: Vec<&String> = set["sources"].as_object().unwrap().keys().collect();
        assert_eq!(sources, ["base", "biomedical", "japanese", "medical", "vlm"]);
        let rows = ["constant", "uniform", "middle", "best"].map(|r| &set[r]);
        for row in rows.into_iter().chain(set["sources"].as_object().unwrap().values()) {
            for metric in ["fitness", "rouge_l", "term_f1", "bleu_4"] {
                assert!(row[metric]["low"].as_f64() <= row[metric]["high"].as_f64(), "{metric}: {row}");
            }
        }
    }
    // On the samples that the search saw, the best has the fitness that the search recorded.
    let status: serde_json::Value = serde_json::from_str(&run.look("status", "state", &["--json"])).unwrap();
    let (there, here) =
        (status["best"]["fitness"].as_f64(), summary["search"]["best"]["fitness"]["mean"].as_f64());
    assert!((there.unwrap() - here.unwrap()).abs() < 1e-9, "{there:?} {here:?}");

    // The comparison goes home with the model it is about, and with no other.
    let merge = |recipe: &str, out: &str| {
        let mut command = Command::new(programs().join("jradievo-worker"));
        command.arg("merge").arg(run.path(recipe)).arg("--out").arg(run.path(out));
        command.arg("--proof").arg(run.path("summary.json")).output().unwrap()
    };
    let merged = merge("best.json", "merged");
    assert!(merged.status.success(), "{}", String::from_utf8_lossy(&merged.stderr));
    let card = std::fs::read_to_string(run.path("merged/README.md")).unwrap();
    for part in ["On samples that the search never saw", "4 samples;", "| **best found** |", "4 evaluated"] {
        assert!(card.contains(part), "{part} in {card}");
    }
    assert_eq!(summary["held_out"]["images_shared_with_search"], 0);
    let constant = summary["held_out"]["constant_text"].as_str().unwrap();
    assert!(!card.contains(constant), "a report is in the card");
    let best = status["best"]["candidate"].as_u64().unwrap();
    let other = (1..=4).find(|n| *n != best).unwrap().to_string();
    std::fs::write(run.path("other.json"), run.look("recipe", "state", &["--candidate", &other])).unwrap();
    let refused = merge("other.json", "other");
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("about other recipes"));
    assert!(!run.path("other").exists());

    // Nor does it go home with other files than those that were compared.
    let models = run.path("models");
    for name in ["base", "vlm", "biomedical", "japanese", "medical"] {
        std::fs::create_dir_all(models.join(name)).unwrap();
        for entry in std::fs::read_dir(family().join(name)).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, models.join(name).join(path.file_name().unwrap())).unwrap();
        }
    }
    let config = models.join("medical/config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text + "\n").unwrap();
    let worker = |arguments: &[&str]| {
        let mut command = Command::new(programs().join("jradievo-worker"));
        command.args(arguments).arg("--models").arg(&models).output().unwrap()
    };
    let path = |name: &str| run.path(name).display().to_string();
    let merging = ["merge", &path("best.json"), "--proof", &path("summary.json"), "--out", &path("changed")];
    let refused = worker(&[&merging[..], &["--allow-changed-sources"]].concat());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("made with other files") && said.contains("models/medical/config.json"), "{said}");

    // A comparison of other files than the run's is refused, or says so and goes home with these files.
    let held_out =
        [format!("held_out.file={}", file.display()), format!("held_out.images={}", images.display())];
    let (toml, best, proof) = (path("run.toml"), path("best.json"), path("changed.json"));
    let comparing = ["compare", &toml, "--set", &held_out[0], "--set", &held_out[1], "--recipe", &best];
    let refused = worker(&comparing);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        said.contains("not those that the run was pinned to") && said.contains("compare these with"),
        "{said}"
    );
    let allowed = worker(&[&comparing[..], &["--allow-changed-sources", "--out", &proof]].concat());
    assert!(allowed.status.success(), "{}", String::from_utf8_lossy(&allowed.stderr));
    let changed: serde_json::Value = serde_json::from_slice(&std::fs::read(&proof).unwrap()).unwrap();
    let first = changed["changed"]["best"][0].as_str().unwrap();
    assert!(first.starts_with("models/medical/config.json: content differs"), "{first}");
    assert!(summary.get("changed").is_none());
    let merging = ["merge", &best, "--proof", &proof, "--out", &path("changed"), "--allow-changed-sources"];
    let merged = worker(&merging);
    assert!(merged.status.success(), "{}", String::from_utf8_lossy(&merged.stderr));
}
