//! A link that is lost, at any byte and any number of times, loses and repeats nothing.

use super::world::{IDS, World};
use crate::link::LinkError;
use crate::topology::NodeName;
use crate::wire::Refused;
use proptest::prelude::*;
use std::time::Duration;

/// Runs two windows of publishes over a wire in pieces of `piece` bytes, cut once after `cut` bytes of the first
/// connection. `false`: the cut would be behind the end.
fn run_with_cut(piece: usize, cut: usize) -> bool {
    let mut world = World::new();
    let rounds = 2 * u32::from(IDS);
    let mut was_cut = false;
    while world.shard.answered < rounds {
        if world.connections == 1 && world.crossed >= cut && !was_cut {
            was_cut = true;
            world.cut();
        }
        if world.session.is_none() {
            world.pass(Duration::from_millis(50));
        }
        world.connect();
        world.answer_resumes();
        if world.shard.answered + u32::from(IDS) <= rounds {
            world.offer();
        }
        let left = cut.saturating_sub(world.crossed).max(1);
        let piece = if was_cut { piece } else { piece.min(left) };
        world.up(piece);
        let left = cut.saturating_sub(world.crossed);
        if was_cut || left > 0 {
            world.down(if was_cut { piece } else { piece.min(left) });
        }
    }
    let published = world.group.applied.len() as u32;
    world.check(published);
    was_cut
}

#[test]
fn a_cut_after_any_byte_loses_and_repeats_nothing() {
    for piece in [1, 13, usize::MAX] {
        let mut cut = 0;
        while run_with_cut(piece, cut) {
            cut += 1;
        }
        assert!(cut > 500, "the handshake alone has more bytes than {cut}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Publish,
    Up(usize),
    Down(usize),
    AnswerResumes,
    Pass(u64),
    Cut,
    GroupStands(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Publish),
        12 => (1..400_usize).prop_map(Step::Up),
        12 => (1..400_usize).prop_map(Step::Down),
        8 => Just(Step::AnswerResumes),
        4 => (1..400_u64).prop_map(Step::Pass),
        1 => Just(Step::Cut),
        2 => any::<bool>().prop_map(Step::GroupStands),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn any_schedule_of_losses_loses_and_repeats_nothing(steps in prop::collection::vec(step(), 1..300)) {
        let mut world = World::new();
        for step in steps {
            match step {
                Step::Publish => world.offer(),
                Step::Up(bytes) => drop(world.up(bytes)),
                Step::Down(bytes) => drop(world.down(bytes)),
                Step::AnswerResumes => world.answer_resumes(),
                Step::Pass(ms) => world.pass(Duration::from_millis(ms)),
                Step::Cut if world.session.is_some() => world.cut(),
                Step::Cut => {}
                Step::GroupStands(stands) => {
                    world.group_stands = stands;
                    world.group_turn();
                }
            }
            if world.link.tick(world.now).is_err() {
                world.cut();
            }
            world.connect();
        }
        world.group_stands = false;
        world.group_turn();
        if world.session.is_none() {
            world.reconnect();
        }
        world.settle(usize::MAX);
        world.offer();
        world.settle(usize::MAX);
        let published = world.group.applied.len() as u32;
        prop_assert!(published >= u32::from(IDS));
        world.check(published);
    }
}

#[test]
fn what_was_never_sent_is_not_said_to_be_a_repeat() {
    let mut world = World::connected();
    world.cut();
    world.offer();
    world.reconnect();
    world.check(u32::from(IDS));
    assert_eq!(world.group.repeats, 0);
    assert_eq!(world.link.figures().frames_resent, 0);
}

#[test]
fn a_unit_without_its_end_is_not_handed_over() {
    let mut world = World::connected();
    world.offer();
    world.up(usize::MAX);
    let unit = world.session.as_ref().expect("it is up").outgoing().len();
    world.down(unit - 1);
    assert_eq!(world.shard.answered, 0, "Done is missing");
    world.cut();
    world.reconnect();
    world.check(u32::from(IDS));
    assert_eq!(world.group.repeats, u64::from(IDS));
    assert_eq!(world.link.figures().frames_resent, u64::from(IDS));
}

/// The answer to the `Resume` of an earlier session says what was true then.
#[test]
fn only_the_answer_to_the_last_resume_begins_a_session() {
    let mut world = World::new();
    for _ in 0..2 {
        world.connect();
        while world.up(usize::MAX) | world.down(usize::MAX) {}
        world.cut();
        world.pass(Duration::from_secs(2));
    }
    assert_eq!(world.shard.asked, 2);
    world.connect();
    while world.up(usize::MAX) | world.down(usize::MAX) {}
    assert_eq!(world.shard.asked, 3);
    let resume = || vec![crate::frame::ToGroup::Resume(Box::default())];
    for _ in 0..2 {
        world.link.frames(&mut resume());
        assert!(!world.link.is_up() && world.link.wants_resume());
    }
    world.link.frames(&mut resume());
    assert!(world.link.is_up() && !world.link.wants_resume());
    world.up(usize::MAX);
    assert_eq!(world.group.resumes, 1);
}

/// A leader that steps down says so on the links it has: what it answered before counts, the rest comes again.
#[test]
fn a_session_that_is_ended_says_where_the_leader_is() {
    let mut world = World::connected();
    world.offer();
    world.up(usize::MAX);
    let leader: NodeName = "broker-2".parse().expect("a name");
    let refused = Refused::not_leader(Some(leader.clone()), "broker-1 does not lead");
    let session = world.session.as_mut().expect("it is up");
    let said = session.refuse(refused);
    let bytes = session.outgoing().to_vec();
    let mut frames = Vec::new();
    let heard = world.link.received(world.now, &bytes, &mut frames);
    assert_eq!(heard, Err(said.clone()));
    let LinkError::Refused(refused) = said else {
        panic!("{said:?}");
    };
    assert_eq!(refused.leader, Some(leader));
    assert_eq!(
        frames.len(),
        usize::from(IDS),
        "whole units are handed over"
    );
    world.take(&frames);
    world.cut();
    world.reconnect();
    world.offer();
    world.settle(usize::MAX);
    world.check(2 * u32::from(IDS));
}
