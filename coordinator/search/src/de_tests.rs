use super::*;
use crate::Outcome;
use common::fitness::Fitness;

/// Sums of a few numbers in another order.
const AGREES: f64 = 1e-13;

#[derive(Deserialize)]
struct Reference {
    mutants: Vec<Mutant>,
    memories: Vec<Memory>,
}

#[derive(Deserialize)]
struct Mutant {
    f: f64,
    x: Vec<f64>,
    best: Vec<f64>,
    first: Vec<f64>,
    second: Vec<f64>,
    mutant: Vec<f64>,
}

#[derive(Deserialize)]
struct Memory {
    f: Vec<f64>,
    cr: Vec<f64>,
    gain: Vec<f64>,
    mean_f: f64,
    mean_cr: f64,
}

fn reference() -> Reference {
    serde_json::from_str(include_str!("../tests/data/de_reference.json")).unwrap()
}

#[test]
fn mutants_are_scipys() {
    for m in &reference().mutants {
        for j in 0..m.x.len() {
            let ours = mutant(m.x[j], m.best[j], m.first[j], m.second[j], m.f);
            assert!((ours - m.mutant[j]).abs() < AGREES, "{ours} {}", m.mutant[j]);
        }
    }
}

#[test]
fn the_memory_is_the_weighted_lehmer_mean() {
    for m in &reference().memories {
        let win = |i| Win { setting: Setting { f: m.f[i], cr: m.cr[i] }, gain: Some(m.gain[i]) };
        let won: Vec<Win> = (0..m.f.len()).map(win).collect();
        let ours = mean(&won);
        assert!((ours.f - m.mean_f).abs() < AGREES && (ours.cr - m.mean_cr).abs() < AGREES, "{ours:?}");
    }
    // Gains as large as numbers go, and none at all.
    let setting = Setting { f: 0.5, cr: 0.0 };
    let extreme = [Some(f64::MAX / 2.0), Some(f64::MAX / 2.0), None].map(|gain| Win { setting, gain });
    assert_eq!(mean(&extreme), setting);
    assert_eq!(mean(&[Win { setting, gain: None }]), setting);
}

#[test]
fn the_population_shrinks_with_the_budget_and_keeps_the_best() {
    let mut de = De::new(&Domain::real(3), 20, 200, Stream::new(1, "search"));
    let mut best = f64::NEG_INFINITY;
    for _ in 0..30 {
        let batch: Vec<Told> = (0..de.population())
            .map(|_| {
                let genome = de.ask();
                let value = -genome.coordinates().iter().map(|x| (x - 0.3).powi(2)).sum::<f64>();
                best = best.max(value);
                Told { genome, outcome: Outcome::Scored(vec![Fitness::new(value).unwrap()]) }
            })
            .collect();
        de.tell(&batch);
        let kept = de.members.iter().filter_map(|m| m.worth.score()).fold(f64::NEG_INFINITY, f64::max);
        assert_eq!(kept, best);
        assert_eq!(de.members.len(), de.size());
    }
    assert_eq!(de.population(), FEWEST);
    assert!(best > -1e-3, "{best}");
}

#[test]
fn results_in_any_order_challenge_the_member_that_they_were_made_for() {
    let mut de = De::new(&Domain::real(2), 6, 1000, Stream::new(2, "search"));
    let scored =
        |genome: Genome, v: f64| Told { genome, outcome: Outcome::Scored(vec![Fitness::new(v).unwrap()]) };
    let first: Vec<Told> = (0..6).map(|_| scored(de.ask(), 1.0)).collect();
    de.tell(&first);
    let number = |de: &De, g: &Genome| {
        let entry = de.outstanding.iter().find(|(o, _)| o == g).expect("it was asked for");
        entry.1.as_ref().expect("a trial").member
    };
    let trials: Vec<Genome> = (0..4).map(|_| de.ask()).collect();
    let targets: Vec<u64> = trials.iter().map(|g| number(&de, g)).collect();
    for i in [2, 0, 3, 1] {
        de.tell(&[scored(trials[i].clone(), 2.0)]);
        let member = de.members.iter().find(|m| m.number == targets[i]).unwrap();
        assert_eq!(member.point, trials[i].coordinates());
    }
    // A worse one does not replace, nor does a bound, however high.
    let trial = de.ask();
    let before = de.members.clone();
    de.tell(&[Told { genome: trial, outcome: Outcome::Censored(Fitness::new(9.0).unwrap()) }]);
    assert_eq!(de.members, before);
}
