use super::super::pareto::{front, hypervolume};
use super::super::random::Random;
use super::*;

/// Powers of 1/21 differ in their last bits between libraries.
const AGREES: f64 = 1e-12;

#[derive(Deserialize)]
struct Reference {
    crossings: Vec<Crossing>,
    mutations: Vec<Mutation>,
}

#[derive(Deserialize)]
struct Crossing {
    a: f64,
    b: f64,
    u: f64,
    children: [f64; 2],
}

#[derive(Deserialize)]
struct Mutation {
    x: f64,
    u: f64,
    mutant: f64,
}

#[test]
fn children_are_pymoos() {
    let text = include_str!("../tests/data/nsga2_reference.json");
    let reference: Reference = serde_json::from_str(text).unwrap();
    for c in &reference.crossings {
        let (low, high) = blend(c.a, c.b, c.u);
        assert!(
            (low - c.children[0]).abs() < AGREES && (high - c.children[1]).abs() < AGREES,
            "{low} {high}"
        );
    }
    for m in &reference.mutations {
        let ours = polynomial(m.x, m.u);
        assert!((ours - m.mutant).abs() < AGREES, "{ours} {}", m.mutant);
    }
}

/// ZDT1 (E. Zitzler et al. 2000), turned over: both objectives are maximised.
fn zdt1(x: &[f64]) -> Vec<f64> {
    let g = 1.0 + 9.0 * x[1..].iter().sum::<f64>() / (x.len() - 1) as f64;
    vec![-x[0], -g * (1.0 - (x[0] / g).sqrt())]
}

fn told(genome: Genome) -> Told {
    let values = zdt1(genome.coordinates());
    let outcome = Outcome::Scored(values.iter().map(|v| Fitness::new(*v).unwrap()).collect());
    Told { genome, outcome }
}

/// Volume over (-1.1, -6) of everything found, by a batch of so many at a time.
fn volume(search: &mut dyn Search, evaluations: usize, batch: usize) -> f64 {
    let mut found = Vec::new();
    for _ in 0..evaluations / batch {
        let results: Vec<Told> = (0..batch).map(|_| search.ask()).map(told).collect();
        found.extend(results.iter().map(|t| zdt1(t.genome.coordinates())));
        search.tell(&results);
    }
    hypervolume(&found, &[-1.1, -6.0])
}

#[test]
fn finds_a_better_front_than_chance_in_both_modes() {
    let domain = Domain { objectives: 2, ..Domain::real(8) };
    let stream = || Stream::new(11, "search");
    // The whole front has 1.1 · 6 − 1/3 or so; both budgets are the same.
    let random = volume(&mut Random::new(&domain, 20, stream()), 1000, 20);
    for batch in [1, 20] {
        let ours = volume(&mut Nsga2::new(&domain, 20, stream()), 1000, batch);
        assert!(ours > random + 0.4, "batches of {batch}: {ours} against {random} by chance");
    }
}

#[test]
fn the_first_front_survives_and_failures_go_first() {
    let domain = Domain { objectives: 2, ..Domain::real(4) };
    let mut search = Nsga2::new(&domain, 12, Stream::new(3, "search"));
    let mut all: Vec<Told> = (0..40).map(|_| told(domain.uniform(&mut search.stream))).collect();
    for (i, result) in all.iter_mut().enumerate() {
        match i % 4 {
            1 => result.outcome = Outcome::Failed,
            2 => result.outcome = Outcome::Censored(Fitness::new(100.0).unwrap()),
            _ => {}
        }
    }
    search.tell(&all);
    assert_eq!(search.members.len(), 12);
    assert!(search.members.iter().all(|m| !m.objectives.is_empty()), "20 were scored");
    let scored: Vec<&Told> = all.iter().filter(|t| matches!(t.outcome, Outcome::Scored(_))).collect();
    let points: Vec<Vec<Fitness>> = scored
        .iter()
        .map(|t| zdt1(t.genome.coordinates()).iter().map(|v| Fitness::new(*v).unwrap()).collect())
        .collect();
    for i in front(&points).into_iter().take(12) {
        assert!(search.members.iter().any(|m| m.genome == scored[i].genome), "{i} of the front is lost");
    }
}

#[test]
fn small_steps_of_integers_are_not_lost() {
    let domain = Domain { dimensions: vec![Dimension::Integer(3); 6], objectives: 1 };
    let mut stream = Stream::new(5, "search");
    let start = domain.genome(&[0.5; 6]);
    let mut moved = 0;
    for _ in 0..60 {
        let mut x = start.coordinates().to_vec();
        mutate(&domain, &mut x, &mut || stream.uniform());
        moved += usize::from(domain.genome(&x) != start);
    }
    // A mutation that touches no coordinate has probability (5/6)^6, a third.
    assert!(moved > 25, "{moved} of 60");
}
