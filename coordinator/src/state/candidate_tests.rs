use super::*;

fn candidate() -> Candidate {
    let genome = Genome::new(vec![0.5]).unwrap();
    Candidate::new(CandidateId(1), 1, genome, Digest::of(b"recipe"))
}

fn ended(how: How) -> Ended {
    Ended { at: Millis(9), how, reason: "why".into() }
}

fn score() -> Score {
    let (fitness, means) = (Fitness::new(0.5).unwrap(), BTreeMap::new());
    Score { fitness, means, timings: Timings::default() }
}

#[test]
fn fails_after_as_many_counted_attempts_as_allowed() {
    let mut c = candidate();
    for (i, how) in [How::Failed, How::Interrupted, How::HandedBack, How::Expired].into_iter().enumerate() {
        assert!(c.is_waiting());
        let lease = LeaseId(i as u64 + 1);
        assert_eq!(c.begin(lease, WorkerId(1), "w", Vec::new(), Millis(1)), i as u32 + 1);
        assert!(!c.is_waiting());
        assert!(c.end(lease, ended(how), 2));
    }
    assert_eq!((c.phase(), c.counted_attempts()), (&Phase::Failed, 2));
}

#[test]
fn attempts_without_fault_end_too() {
    let mut c = candidate();
    for i in 1..=MAX_UNCOUNTED_ATTEMPTS as u64 {
        c.begin(LeaseId(i), WorkerId(1), "w", Vec::new(), Millis(1));
        c.end(LeaseId(i), ended(How::HandedBack), 3);
    }
    assert_eq!(c.phase(), &Phase::Failed);
}

#[test]
fn a_late_result_counts_and_supersedes_the_open_attempt() {
    let mut c = candidate();
    c.begin(LeaseId(1), WorkerId(1), "w", Vec::new(), Millis(1));
    c.end(LeaseId(1), ended(How::Expired), 3);
    c.begin(LeaseId(2), WorkerId(2), "v", Vec::new(), Millis(2));
    c.score(LeaseId(1), score(), Millis(3));
    let how: Vec<How> = c.attempts().iter().map(|a| a.end.as_ref().unwrap().how).collect();
    assert_eq!(how, [How::Scored, How::Superseded]);
    assert!(c.fitness().is_some() && c.is_final() && !c.reopen(LeaseId(2), Vec::new()));
}

#[test]
fn only_silence_is_forgiven() {
    let mut c = candidate();
    c.begin(LeaseId(1), WorkerId(1), "w", Vec::new(), Millis(1));
    c.end(LeaseId(1), ended(How::Expired), 3);
    assert!(c.reopen(LeaseId(1), Vec::new()));
    assert_eq!(c.counted_attempts(), 0);
    c.end(LeaseId(1), ended(How::Failed), 3);
    assert!(!c.reopen(LeaseId(1), Vec::new()));
}

#[test]
#[should_panic(expected = "never overwritten")]
fn a_scored_candidate_cannot_be_scored_again() {
    let mut c = candidate();
    c.score(LeaseId(1), score(), Millis(1));
    c.score(LeaseId(1), score(), Millis(2));
}

#[test]
fn an_attempt_that_yielded_samples_is_not_held_against_the_candidate() {
    let mut c = candidate();
    for i in 1..=5 {
        // All at once, of a candidate whose batches are with several workers.
        c.begin(LeaseId(i), WorkerId(1), "w", Vec::new(), Millis(1));
        let since = c.note(LeaseId(i), 2, Timings { merge_ms: 3, ..Timings::default() });
        assert_eq!(since.merge_ms, 3);
        assert!(c.end(LeaseId(i), ended(How::Expired), 1));
    }
    assert_eq!((c.counted_attempts(), c.phase(), c.failed_on("w")), (0, &Phase::Open, false));
    assert_eq!(c.timings().merge_ms, 15);
    c.begin(LeaseId(6), WorkerId(1), "w", Vec::new(), Millis(1));
    c.note(LeaseId(6), 2, Timings::default());
    c.end(LeaseId(6), ended(How::Refused), 1);
    assert_eq!(c.phase(), &Phase::Failed);
}

#[test]
fn what_kills_each_worker_after_some_samples_is_given_up_too() {
    let mut c = candidate();
    for i in 1..=6 {
        assert!(c.is_waiting(), "attempt {i}");
        c.begin(LeaseId(i), WorkerId(i), "w", Vec::new(), Millis(10 * i));
        c.note(LeaseId(i), 1, Timings::default());
        c.end(LeaseId(i), Ended { at: Millis(10 * i + 5), ..ended(How::Expired) }, 3);
    }
    assert_eq!((c.phase(), c.counted_attempts()), (&Phase::Failed, 0));
}

#[test]
fn one_long_attempt_does_not_hide_the_short_ones_within_it() {
    let mut c = candidate();
    c.begin(LeaseId(1), WorkerId(1), "slow", Vec::new(), Millis(0));
    c.note(LeaseId(1), 1, Timings::default());
    for i in 2..=6 {
        c.begin(LeaseId(i), WorkerId(i), "w", Vec::new(), Millis(10 * i));
        c.note(LeaseId(i), 1, Timings::default());
        c.end(LeaseId(i), Ended { at: Millis(10 * i + 5), ..ended(How::Expired) }, 3);
    }
    c.end(LeaseId(1), Ended { at: Millis(1000), ..ended(How::Expired) }, 3);
    assert_eq!((c.phase(), c.bad_in_turn()), (&Phase::Open, 5));
    c.begin(LeaseId(7), WorkerId(7), "w", Vec::new(), Millis(1001));
    c.note(LeaseId(7), 1, Timings::default());
    c.end(LeaseId(7), Ended { at: Millis(1002), ..ended(How::Expired) }, 3);
    assert_eq!(c.phase(), &Phase::Failed);
}

#[test]
fn batches_are_lent_apart_and_end_together() {
    let mut c = candidate();
    c.begin(LeaseId(1), WorkerId(1), "w", Vec::new(), Millis(1));
    c.shrink(LeaseId(1), vec![0, 1]);
    c.begin(LeaseId(2), WorkerId(2), "v", vec![2, 3], Millis(1));
    assert_eq!([0, 1, 2, 3, 4].map(|b| c.lent(b)), [1, 1, 1, 1, 0]);
    let censored = Censored { bound: Fitness::new(0.1).unwrap(), samples: 9, timings: c.timings() };
    c.censor(censored, Millis(5));
    assert!(c.is_final() && !c.is_lent() && c.fitness().is_none());
    assert!(c.attempts().iter().all(|a| a.end.as_ref().unwrap().how == How::Censored));
}
