//! Runs without workers, on a clock of numbers.

use super::*;
use crate::scenario::FleetNodes;

const SECOND: u64 = 1_000_000;

fn phase(what: PhaseKind, limit_s: u64) -> Phase {
    Phase {
        name: "phase".to_owned(),
        what,
        limit_ms: limit_s * 1_000,
        commands: 0.0,
    }
}

fn ramp() -> Phase {
    phase(PhaseKind::Ramp { per_s: 10.0 }, 10)
}

fn steady() -> Phase {
    phase(PhaseKind::Steady { for_ms: 5_000 }, 60)
}

fn storm() -> Phase {
    phase(PhaseKind::Storm { share: 0.5 }, 20)
}

fn drain() -> Phase {
    phase(PhaseKind::Drain, 10)
}

fn effects(conductor: &mut Conductor) -> Vec<Effect> {
    std::iter::from_fn(|| conductor.next_effect()).collect()
}

/// Two workers, ready at 0.
fn started(phases: Vec<Phase>) -> Conductor {
    let mut conductor = Conductor::new(phases, 2);
    conductor.handle(0, Event::Ready(1));
    conductor.handle(0, Event::Ready(0));
    assert_eq!(effects(&mut conductor), [], "the back end is not up");
    up(&mut conductor, 0);
    conductor
}

fn up(conductor: &mut Conductor, now_us: u64) {
    let (worker, index) = (0, BACKEND_UP);
    conductor.handle(now_us, Event::PhaseDone { worker, index });
}

fn began(index: u16, at_us: u64) -> [Effect; 2] {
    [
        Effect::Tell(ToWorker::Phase { index, at_us }),
        Effect::Began { at_us },
    ]
}

fn ended(index: u16, done: bool) -> [Effect; 2] {
    [
        Effect::Tell(ToWorker::PhaseEnd { index }),
        Effect::Ended { index, done },
    ]
}

fn done(conductor: &mut Conductor, now_us: u64, index: u16) {
    for worker in [0, 1] {
        conductor.handle(now_us, Event::PhaseDone { worker, index });
    }
}

fn sample(conductor: &mut Conductor, worker: u16, at_us: u64, connected: u64) {
    let connecting = 10 - connected;
    let event = Event::Sample {
        worker,
        at_us,
        connected,
        connecting,
    };
    conductor.handle(at_us, event);
}

#[test]
fn phases_follow_each_other_when_all_are_done() {
    let mut conductor = started(vec![ramp(), steady(), storm(), drain()]);
    assert_eq!(effects(&mut conductor), began(0, PHASE_LEAD_US));
    conductor.handle(
        SECOND,
        Event::PhaseDone {
            worker: 1,
            index: 0,
        },
    );
    assert_eq!(effects(&mut conductor), [], "worker 0 is missing");
    conductor.handle(
        2 * SECOND,
        Event::PhaseDone {
            worker: 0,
            index: 0,
        },
    );
    let steady_us = 2 * SECOND + PHASE_LEAD_US;
    assert_eq!(
        effects(&mut conductor),
        [ended(0, true), began(1, steady_us)].concat()
    );
    let end_us = steady_us + 5 * SECOND;
    assert_eq!(conductor.deadline(), Some(end_us));
    conductor.handle(end_us - 1, Event::Tick);
    assert_eq!(effects(&mut conductor), []);
    conductor.handle(end_us, Event::Tick);
    let storm_us = end_us + PHASE_LEAD_US;
    assert_eq!(
        effects(&mut conductor),
        [ended(1, true), began(2, storm_us)].concat()
    );
    // Too late for the ramp, and no part of the storm.
    conductor.handle(
        storm_us,
        Event::PhaseDone {
            worker: 0,
            index: 0,
        },
    );
    conductor.handle(
        storm_us,
        Event::PhaseDone {
            worker: 1,
            index: 2,
        },
    );
    assert_eq!(effects(&mut conductor), []);
    sample(&mut conductor, 0, storm_us, 10);
    sample(&mut conductor, 1, storm_us, 10);
    assert_eq!(effects(&mut conductor), []);
    done(&mut conductor, storm_us + 1, 2);
    let drain_us = storm_us + 1 + PHASE_LEAD_US;
    assert_eq!(
        effects(&mut conductor),
        [ended(2, true), began(3, drain_us)].concat()
    );
    done(&mut conductor, drain_us + 1, 3);
    let finish_us = settled(&mut conductor, drain_us + 1, 3, true);
    conductor.handle(finish_us + 2, Event::Final(0));
    assert_eq!(effects(&mut conductor), []);
    conductor.handle(finish_us + 3, Event::Final(1));
    assert_eq!(effects(&mut conductor), [Effect::Over]);
    assert!(!conductor.is_stopped() && conductor.skipped().is_empty());
    assert_eq!(conductor.deadline(), None);
}

#[test]
fn a_storm_is_over_when_all_are_back_that_were_there_before() {
    let mut conductor = started(vec![ramp(), storm(), drain()]);
    sample(&mut conductor, 1, SECOND, 10);
    sample(&mut conductor, 0, SECOND, 10);
    done(&mut conductor, SECOND, 0);
    effects(&mut conductor);
    // One is lost behind its worker's word that all are back, and waits before it dials.
    let lost = Event::Sample {
        worker: 1,
        at_us: 2 * SECOND,
        connected: 9,
        connecting: 0,
    };
    conductor.handle(2 * SECOND, lost);
    done(&mut conductor, 2 * SECOND, 1);
    assert_eq!(effects(&mut conductor), []);
    sample(&mut conductor, 1, 3 * SECOND, 10);
    let drain_us = 3 * SECOND + PHASE_LEAD_US;
    assert_eq!(
        effects(&mut conductor),
        [ended(1, true), began(2, drain_us)].concat()
    );
}

#[test]
fn a_phase_at_its_limit_leads_to_the_drain() {
    let mut conductor = started(vec![ramp(), storm(), drain()]);
    effects(&mut conductor);
    let limit_us = PHASE_LEAD_US + 10 * SECOND;
    assert_eq!(conductor.deadline(), Some(limit_us));
    conductor.handle(limit_us, Event::Tick);
    let drain_us = limit_us + PHASE_LEAD_US;
    assert_eq!(
        effects(&mut conductor),
        [ended(0, false), began(2, drain_us)].concat()
    );
    assert!(conductor.is_stopped() && !conductor.is_signalled());
    assert_eq!(conductor.skipped(), 1..2);
}

/// The drain has ended: late receipts and repetitions have a moment. Gives the time when workers are told to finish.
fn settled(conductor: &mut Conductor, now_us: u64, index: u16, done: bool) -> u64 {
    assert_eq!(effects(conductor), [Effect::Ended { index, done }]);
    let finish_us = now_us + SETTLE_US;
    assert_eq!(conductor.deadline(), Some(finish_us));
    conductor.handle(finish_us - 1, Event::Tick);
    assert_eq!(effects(conductor), []);
    conductor.handle(finish_us, Event::Tick);
    assert_eq!(effects(conductor), [Effect::Tell(ToWorker::Finish)]);
    finish_us
}

#[test]
fn a_drain_at_its_limit_leaves_receipts_a_moment() {
    let mut conductor = started(vec![drain()]);
    effects(&mut conductor);
    let limit_us = PHASE_LEAD_US + 10 * SECOND;
    conductor.handle(limit_us, Event::Tick);
    settled(&mut conductor, limit_us, 0, false);
}

#[test]
fn a_signal_ends_no_phase_well_and_leaves_out_those_behind_it() {
    for first in [steady(), ramp()] {
        let mut conductor = started(vec![first, storm(), drain()]);
        effects(&mut conductor);
        conductor.handle(3 * SECOND, Event::Stop);
        let drain_us = 3 * SECOND + PHASE_LEAD_US;
        assert_eq!(
            effects(&mut conductor),
            [ended(0, false), began(2, drain_us)].concat()
        );
        assert!(conductor.is_signalled());
        assert_eq!(conductor.skipped(), 1..2);
        conductor.handle(4 * SECOND, Event::Stop);
        assert_eq!(effects(&mut conductor), [], "it drains already");
    }
}

#[test]
fn a_signal_before_all_are_ready_leaves_only_the_drain() {
    let mut conductor = Conductor::new(vec![ramp(), drain()], 1);
    conductor.handle(0, Event::Stop);
    up(&mut conductor, SECOND);
    assert_eq!(effects(&mut conductor), began(1, SECOND + PHASE_LEAD_US));
    assert!(conductor.is_signalled());
    assert_eq!(conductor.skipped(), 0..1);
}

#[test]
fn a_signal_in_the_drain_cuts_nothing_short() {
    let mut conductor = started(vec![drain()]);
    conductor.handle(SECOND, Event::Stop);
    assert!(conductor.is_stopped() && !conductor.is_signalled());
    assert!(conductor.skipped().is_empty());
}

#[test]
fn a_restart_goes_node_by_node_and_waits_for_the_devices() {
    let nodes = RestartNodes::Fleet(FleetNodes::Proxies);
    let every = PhaseKind::Restart {
        nodes: nodes.clone(),
        every_ms: 2_000,
    };
    let mut conductor = started(vec![ramp(), phase(every, 100), drain()]);
    sample(&mut conductor, 1, SECOND, 10);
    sample(&mut conductor, 0, SECOND, 10);
    done(&mut conductor, SECOND, 0);
    effects(&mut conductor);
    let begin_us = SECOND + PHASE_LEAD_US;
    assert_eq!(conductor.deadline(), Some(begin_us));
    conductor.handle(begin_us, Event::Tick);
    let number = |number| Effect::Restart {
        nodes: nodes.clone(),
        number,
    };
    assert_eq!(effects(&mut conductor), [number(0)]);
    // Whatever workers say, the nodes are not through.
    done(&mut conductor, begin_us, 1);
    conductor.handle(3 * SECOND, Event::Restarted(true));
    assert_eq!(effects(&mut conductor), []);
    assert_eq!(conductor.deadline(), Some(5 * SECOND));
    conductor.handle(5 * SECOND, Event::Tick);
    assert_eq!(effects(&mut conductor), [number(1)]);
    sample(&mut conductor, 0, 5 * SECOND, 10);
    sample(&mut conductor, 1, 5 * SECOND, 10);
    conductor.handle(6 * SECOND, Event::Restarted(false));
    assert_eq!(effects(&mut conductor), [], "nobody has looked since");
    sample(&mut conductor, 0, 7 * SECOND, 10);
    sample(&mut conductor, 1, 7 * SECOND, 8);
    assert_eq!(effects(&mut conductor), [], "two are on their way");
    sample(&mut conductor, 1, 8 * SECOND, 10);
    let drain_us = 8 * SECOND + PHASE_LEAD_US;
    assert_eq!(
        effects(&mut conductor),
        [ended(1, true), began(2, drain_us)].concat()
    );
}

#[test]
fn a_restart_that_a_signal_cut_short_goes_no_further() {
    let every = PhaseKind::Restart {
        nodes: RestartNodes::Fleet(FleetNodes::Redis),
        every_ms: 0,
    };
    let mut conductor = started(vec![phase(every, 100), drain()]);
    conductor.handle(PHASE_LEAD_US, Event::Tick);
    conductor.handle(SECOND, Event::Stop);
    effects(&mut conductor);
    conductor.handle(2 * SECOND, Event::Restarted(true));
    assert_eq!(effects(&mut conductor), []);
}

#[test]
fn workers_that_do_not_get_ready_or_do_not_end_are_named() {
    let mut conductor = Conductor::new(vec![drain()], 3);
    conductor.handle(0, Event::Ready(1));
    conductor.handle(READY_MAX_US, Event::Tick);
    let what = "did not get ready";
    let workers = vec![0, 2];
    assert_eq!(effects(&mut conductor), [Effect::Missing { workers, what }]);
    let mut conductor = started(vec![drain()]);
    effects(&mut conductor);
    done(&mut conductor, SECOND, 0);
    let finish_us = settled(&mut conductor, SECOND, 0, true);
    conductor.handle(finish_us, Event::Final(0));
    conductor.handle(finish_us + FINISH_MAX_US, Event::Tick);
    let what = "did not end";
    let workers = vec![1];
    assert_eq!(effects(&mut conductor), [Effect::Missing { workers, what }]);
}
