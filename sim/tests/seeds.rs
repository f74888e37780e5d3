//! The worlds of some seeds keep every promise, and the simulator would see it if they did not.

use mqtt_fleet_sim::{Fault, Lines, run};
use std::process::Command;

const SEEDS: u64 = 200;

#[test]
fn no_promise_is_broken() {
    let (mut messages, mut handovers) = (0, 0);
    for seed in 0..SEEDS {
        let outcome = run(seed, None, Lines::Hashed);
        let violation = outcome.violation;
        assert_eq!(
            violation, None,
            "again: cargo xtask sim --seed {seed} --trace"
        );
        messages += outcome.messages;
        handovers += outcome.handovers;
    }
    assert!(
        messages > 10_000,
        "{messages} messages: hardly anything happened"
    );
    assert!(
        handovers > 20,
        "{handovers} leaders handed over before they stopped"
    );
}

#[test]
fn a_seed_makes_the_same_world_again() {
    // The last ones have Redis lose what it had.
    for seed in [3, 17, 171, 73, 137, 286] {
        let first = run(seed, None, Lines::Hashed);
        let again = run(seed, None, Lines::Kept);
        assert_eq!(first.digest, again.digest, "seed {seed}");
        assert_ne!(first.digest, run(seed + 1, None, Lines::Hashed).digest);
    }
}

#[test]
fn a_seed_makes_the_same_world_in_another_process() {
    for seed in [5, 29] {
        let here = run(seed, None, Lines::Hashed).digest;
        let program = env!("CARGO_BIN_EXE_mqtt-fleet-sim");
        let there = Command::new(program)
            .args(["--seed", &seed.to_string()])
            .output();
        let there = String::from_utf8(there.expect("it runs").stdout).expect("text");
        assert!(there.contains(&format!("trace {here:016x}")), "{there}");
    }
}

/// What is switched on here is seen soon, so it would be seen if it were a mistake in the code.
#[test]
fn each_known_mistake_is_found() {
    for bad in [
        Fault::AckBeforeStore,
        Fault::AnswerBeforeStore,
        Fault::CommitBeforeStore,
        Fault::LeadWithoutLease,
        Fault::LeadAfterHandover,
        Fault::ForgetDeduplication,
        Fault::IgnoreEpochs,
    ] {
        let is_seen = |seed: &u64| run(*seed, Some(bad), Lines::Hashed).violation.is_some();
        let seen = (0..1_000).find(is_seen);
        assert!(seen.is_some(), "{bad:?} is not found in 1,000 seeds");
    }
    assert_eq!(
        run(0, None, Lines::Hashed).violation,
        None,
        "switched off again"
    );
}
