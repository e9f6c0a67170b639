//! What goes wrong on real machines.

use std::process::Command;
use tests::{Run, family, jsonl, programs, worker_of};

#[test]
fn a_killed_worker_costs_nothing_but_time() {
    // All fifty samples, so that the first candidate is still in work when its worker is killed.
    let run = Run::new(50, 4).with("scheduling.lease_seconds", "2");
    run.search("calm", 1);
    let coordinator = run.start("state");
    let mut doomed = coordinator.worker("doomed", &[]);
    doomed.wait_for("begins");
    doomed.kill();
    let survivor = coordinator.worker("survivor", &[]);
    coordinator.process.expect(0);
    survivor.expect(0);
    assert_eq!(run.genomes("state"), run.genomes("calm"));
    let attempts = &jsonl(&run.look("candidates", "state", &["--json"]))[0]["attempts"];
    assert_eq!(
        (&attempts[0]["worker"], &attempts[0]["end"]),
        (&"doomed".into(), &"expired".into()),
        "{attempts}"
    );
    assert_eq!(
        (&attempts[1]["worker"], &attempts[1]["end"]),
        (&"survivor".into(), &"scored".into()),
        "{attempts}"
    );
}

#[test]
fn a_killed_coordinator_goes_on_to_the_same_genomes() {
    let run = Run::new(6, 12);
    run.search("calm", 1);
    let mut coordinator = run.start("state");
    let worker = coordinator.worker("w", &[]);
    coordinator.process.wait_for("generation 1");
    coordinator.process.kill();
    worker.kill();
    let scored =
        |text: String| jsonl(&text).into_iter().filter(|c| c["state"] == "scored").collect::<Vec<_>>();
    let before = scored(run.look("candidates", "state", &["--json"]));
    assert!((4..12).contains(&before.len()), "it was killed in the middle: {} scored", before.len());
    let coordinator = run.resume("state");
    let worker = coordinator.worker("w", &[]);
    coordinator.process.expect(0);
    worker.expect(0);
    assert_eq!(run.genomes("state"), run.genomes("calm"));
    // Nothing that was recorded is evaluated again, or changed.
    let after = scored(run.look("candidates", "state", &["--json"]));
    assert!(before.iter().all(|c| after.contains(c)));
}

#[test]
fn a_drained_worker_hands_in_what_it_has_and_the_others_go_on() {
    // All fifty samples, so that it holds something when it is drained.
    let run = Run::new(50, 6);
    run.search("calm", 1);
    let coordinator = run.start("state");
    let mut going = coordinator.worker("going", &[]);
    going.wait_for("begins");
    let said = run.drain("going", "state");
    assert!(said.contains("going leaves"), "{said}");
    let ended = going.expect(0);
    assert!(ended.output.contains("drained: everything is handed in"), "{}", ended.output);
    let staying = coordinator.worker("staying", &[]);
    coordinator.process.expect(0);
    staying.expect(0);
    assert_eq!(run.genomes("state"), run.genomes("calm"));
    let candidates = jsonl(&run.look("candidates", "state", &["--json"]));
    let attempts: Vec<_> = candidates.iter().flat_map(|c| c["attempts"].as_array().unwrap()).collect();
    assert_eq!(attempts.len(), 6, "nothing was broken off: {attempts:?}");
}

#[test]
fn a_second_worker_audits_what_the_first_one_found() {
    let run = Run::new(6, 8).with("scheduling.audit", "1.0");
    let coordinator = run.start("state");
    let mut first = coordinator.worker("first", &[]);
    first.wait_for("begins candidate=3");
    run.drain("first", "state");
    first.expect(0);
    let second = coordinator.worker("second", &[]);
    coordinator.process.expect(0);
    second.expect(0);
    let candidates = jsonl(&run.look("candidates", "state", &["--json"]));
    let by_first = candidates.iter().filter(|c| c["attempts"][0]["worker"] == "first").count();
    assert!((2..8).contains(&by_first), "{by_first}");
    let audits = jsonl(&run.look("audits", "state", &["--json"]));
    assert_eq!(audits.len(), by_first, "{audits:?}");
    for audit in &audits {
        let candidate = &candidates[audit["candidate"].as_u64().unwrap() as usize - 1];
        assert_eq!(audit["first"]["fitness"], candidate["fitness"]);
        assert_eq!(audit["second"]["fitness"], candidate["fitness"], "one machine, one result");
        assert_eq!((&audit["agree"], &audit["second"]["worker"]), (&true.into(), &"second".into()));
    }
    let text = run.look("audits", "state", &[]);
    assert!(text.contains(&format!("{by_first} audited, all agree")), "{text}");
    let status = run.look("status", "state", &[]);
    assert!(status.contains(&format!("{by_first} done, 0 disagree")), "{status}");
}

#[test]
fn a_worker_that_is_terminated_finishes_what_it_has() {
    let run = Run::new(50, 6);
    let coordinator = run.start("state");
    let mut going = coordinator.worker("going", &["--grace", "600"]);
    going.wait_for("begins");
    going.signal("TERM");
    going.expect(130);
    let staying = coordinator.worker("staying", &[]);
    coordinator.process.expect(0);
    staying.expect(0);
    let candidates = jsonl(&run.look("candidates", "state", &["--json"]));
    let attempts: Vec<_> = candidates.iter().flat_map(|c| c["attempts"].as_array().unwrap()).collect();
    assert_eq!(attempts.len(), 6, "nothing was broken off: {attempts:?}");
    assert_eq!(attempts[0]["worker"], "going");
}

/// A metric waits for a file that nobody makes: the evaluation outlasts the grace, and its candidate goes to others.
#[test]
fn a_worker_that_is_terminated_hands_back_what_its_grace_is_too_short_for() {
    let script = "until [ -e \"$HOME/go\" ]; do sleep 0.05; done; while read -r line; do echo '{\"score\": 0.5}'; done\n";
    let run = Run::new(4, 4);
    std::fs::write(run.path("waits.sh"), script).unwrap();
    let run =
        run.with("scoring.external.waits", "{ command = [\"sh\", \"waits.sh\"], files = [\"waits.sh\"] }");
    let home = run.path("home");
    std::fs::create_dir(&home).unwrap();
    let coordinator = run.start("state");
    let going = ["--allow-external", "--grace", "1"];
    let mut going = coordinator.worker_with("going", &going, &[("HOME", home.as_path())]);
    going.wait_for("begins");
    going.signal("TERM");
    let gone = going.expect(130);
    assert!(gone.output.contains("handed back"), "{}", gone.output);
    std::fs::write(home.join("go"), "").unwrap();
    let staying = coordinator.worker_with("staying", &["--allow-external"], &[("HOME", home.as_path())]);
    coordinator.process.expect(0);
    staying.expect(0);
    let candidates = jsonl(&run.look("candidates", "state", &["--json"]));
    let attempts = candidates[0]["attempts"].as_array().unwrap();
    let ends: Vec<_> = attempts.iter().map(|a| (&a["worker"], &a["end"])).collect();
    assert_eq!(ends, [(&"going".into(), &"handed-back".into()), (&"staying".into(), &"scored".into())]);
}

#[test]
fn a_run_that_is_over_tells_workers_that_still_wait() {
    let run = Run::new(4, 4);
    let coordinator = run.start("state");
    let (url, worker) = (coordinator.url.clone(), coordinator.worker("w", &[]));
    coordinator.process.expect(0);
    worker.expect(0);
    // As if it had died between writing the end down and saying it.
    let mut late = worker_of(&url, "late", &[], &[]);
    late.wait_for("the coordinator does not answer");
    let coordinator = run.resume_at("state", url.trim_start_matches("http://"));
    late.expect(0);
    let ended = coordinator.process.expect(0);
    assert!(ended.output.contains("is over") && ended.output.contains("best candidate"), "{}", ended.output);
}

#[test]
fn a_coordinator_waits_for_a_command_that_reads_its_store() {
    let run = Run::new(4, 8);
    run.start("state").process.kill();
    // As a command that looks at the run holds it, for longer than anybody else waits.
    let reader = coordinator::store::sled::Sled::open(&run.path("state")).unwrap();
    let mut resume = Command::new(programs().join("jradievo"));
    resume.arg("resume").arg(run.path("state")).args(["--listen", "127.0.0.1:0"]);
    let mut resumed = tests::Process::start("jradievo", &mut resume);
    resumed.wait_for("waiting for a command that is reading");
    drop(reader);
    resumed.wait_for("listening on");
    resumed.signal("INT");
    resumed.expect(130);
}

#[test]
fn an_interrupted_coordinator_says_how_to_resume() {
    let run = Run::new(4, 40);
    let mut coordinator = run.start("state");
    let worker = coordinator.worker("w", &[]);
    coordinator.process.wait_for("generation 1");
    coordinator.process.signal("INT");
    let ended = coordinator.process.expect(130);
    assert!(ended.output.contains("jradievo resume"), "{}", ended.output);
    worker.signal("INT");
    worker.expect(130);
}

#[test]
fn a_worker_with_one_changed_weight_file_is_turned_away_by_its_name() {
    let run = Run::new(4, 4);
    let coordinator = run.start("state");
    let models = run.path("models");
    copy(&family(), &models);
    let japanese = models.join("japanese");
    let weights = std::fs::read_dir(&japanese)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "safetensors"))
        .min()
        .unwrap();
    let mut bytes = std::fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    let ended = coordinator.worker("odd", &["--models", &models.display().to_string()]).expect(3);
    let name = format!("models/japanese/{}", weights.file_name().unwrap().to_string_lossy());
    assert!(ended.output.contains(&name), "{}", ended.output);
    assert!(!ended.output.contains("models/medical"), "{}", ended.output);
    // An untouched copy is welcome.
    let honest = coordinator.family_worker("honest");
    coordinator.process.expect(0);
    honest.expect(0);
}

#[test]
fn a_second_start_on_one_folder_is_refused() {
    let run = Run::new(4, 4);
    run.search("state", 1);
    let again = Command::new(programs().join("jradievo"))
        .arg("start")
        .arg(run.path("run.toml"))
        .arg("--state")
        .arg(run.path("state"))
        .output()
        .unwrap();
    assert_eq!(again.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&again.stderr).contains("resume"));
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
