//! A link that is up, or down for long: heartbeats, bounds, credit.

use super::world::{IDS, World, publish};
use crate::frame::{FromGroup, ToGroup};
use crate::limits::{
    BACK_OFF_MAX, BATCH_BYTES_GOAL, CREDIT_BYTES, KEPT_BYTES_MAX, LINK_DEAD, LINK_HANDSHAKE,
    LINK_HEARTBEAT, OUT_BYTES_MAX,
};
use crate::link::LinkError;
use protocol::{PacketId, QoS};
use std::time::Duration;

#[test]
fn heartbeats_keep_an_idle_link_alive() {
    let mut world = World::connected();
    let figures = world.link.figures();
    for _ in 0..100 {
        world.pass(LINK_HEARTBEAT);
        world.link.tick(world.now).expect("the broker speaks");
        let session = world.session.as_mut().expect("it is up");
        session.tick(world.now).expect("the proxy speaks");
        world.settle(usize::MAX);
    }
    let after = world.link.figures();
    assert_eq!(after.bytes_out - figures.bytes_out, 100 * 13);
    assert_eq!(after.bytes_in - figures.bytes_in, 100 * 13);
    assert_eq!(after.frames_out, figures.frames_out);
    assert_eq!(world.connections, 1);
}

/// The link goes on, and frames with it.
#[test]
fn a_group_says_that_it_is_full_and_when_it_is_so_no_more() {
    let mut world = World::connected();
    for full in [true, false, true] {
        let session = world.session.as_mut().expect("it is up");
        session.set_full(world.now, full);
        session.set_full(world.now, full);
        assert_eq!(session.outgoing().len(), 13, "once");
        world.settle(usize::MAX);
        assert_eq!(world.link.is_group_full(), full);
        world.pass(LINK_HEARTBEAT);
        let session = world.session.as_mut().expect("it is up");
        session.tick(world.now).expect("the proxy speaks");
        world.settle(usize::MAX);
        assert_eq!(world.link.is_group_full(), full, "each heartbeat says so");
        world.offer();
        world.settle(usize::MAX);
    }
    world.check(3 * u32::from(IDS));
    world.cut();
    assert!(!world.link.is_group_full(), "nobody says so");
}

#[test]
fn silence_ends_the_link_on_both_ends() {
    let mut world = World::connected();
    world.pass(
        LINK_DEAD
            .checked_sub(Duration::from_millis(1))
            .expect("longer"),
    );
    world.link.tick(world.now).expect("not yet");
    let session = world.session.as_mut().expect("it is up");
    session.tick(world.now).expect("not yet");
    world.pass(Duration::from_millis(1));
    assert_eq!(world.link.tick(world.now), Err(LinkError::Silent));
    let session = world.session.as_mut().expect("it is up");
    assert_eq!(session.tick(world.now), Err(LinkError::Silent));
}

#[test]
fn a_deaf_end_does_not_take_silence_for_an_end() {
    let mut world = World::connected();
    world.link.set_deaf(world.now, true);
    world.pass(LINK_DEAD * 3);
    world
        .link
        .tick(world.now)
        .expect("nothing was listened for");
    world.link.set_deaf(world.now, false);
    world.pass(LINK_DEAD);
    assert_eq!(world.link.tick(world.now), Err(LinkError::Silent));
}

/// Its bag is full, so it reads nothing: all there is to wait for is the handshake's end.
#[test]
fn a_deaf_end_has_nothing_to_do_in_a_handshake_before_its_end() {
    let mut world = World::new();
    world.connect();
    world.link.set_deaf(world.now, true);
    world.pass(LINK_DEAD);
    world
        .link
        .tick(world.now)
        .expect("nothing was listened for");
    let rest = LINK_HANDSHAKE.checked_sub(LINK_DEAD).expect("longer");
    assert_eq!(world.link.deadline(), Some(world.now + rest));
    world.pass(rest);
    assert_eq!(world.link.tick(world.now), Err(LinkError::HandshakeTooLong));
}

#[test]
fn qos_0_is_dropped_and_counted_while_the_link_is_down_and_in_its_place_while_it_is_up() {
    let mut world = World::connected();
    let qos0 = |n| publish(QoS::AtMostOnce, None, n);
    let first = world.shard.publish().expect("a free id");
    let second = world.shard.publish().expect("a free id");
    world
        .link
        .frames(&mut vec![qos0(100), first, qos0(101), second]);
    world.settle(usize::MAX);
    assert_eq!(world.group.unnumbered, [100, 101]);
    world.cut();
    world.link.frames(&mut vec![qos0(102), qos0(103)]);
    let figures = world.link.figures();
    assert_eq!((figures.qos0_dropped, figures.kept_frames), (2, 0));
    world.reconnect();
    assert_eq!(world.group.unnumbered, [100, 101]);
    world.check(2);
}

#[test]
fn what_is_kept_is_bounded_and_done_frees_it() {
    let mut world = World::new();
    let mut sent = 0;
    while world.link.takes_frames() {
        sent += 1;
        world.link.frames(&mut vec![numbered(sent)]);
    }
    let kept = world.link.figures().kept_bytes as usize;
    assert!(
        (KEPT_BYTES_MAX..KEPT_BYTES_MAX + 1_000).contains(&kept),
        "{kept}"
    );
    assert_eq!(world.link.figures().kept_frames, u64::from(sent));
    // The shard's Resume gets past a full link. Its own answers are void: it published nothing.
    world.connect();
    while world.up(usize::MAX) | take_units(&mut world) {
        world.answer_resumes();
    }
    assert_eq!(world.group.applied.len(), sent as usize);
    assert_eq!(world.link.figures().kept_bytes, 0);
    assert!(world.link.takes_frames());
}

/// A publish of a kilobyte, nearly.
fn numbered(number: u32) -> ToGroup {
    publish(QoS::AtLeastOnce, PacketId::new(number as u16 | 1), number)
}

/// Everything from the broker crosses; answers are nobody's.
fn take_units(world: &mut World) -> bool {
    let session = world.session.as_mut().expect("it is up");
    let piece = session.outgoing().to_vec();
    session.written(world.now, piece.len());
    let mut frames = Vec::new();
    let received = world.link.received(world.now, &piece, &mut frames);
    received.expect("the broker keeps to the protocol");
    let resumes = frames
        .iter()
        .filter(|frame| matches!(frame, FromGroup::Resume));
    world.shard.asked += resumes.count() as u32;
    !piece.is_empty()
}

#[test]
fn a_proxy_sends_no_more_than_the_group_has_credit_for() {
    let mut world = World::connected();
    // The Resume was taken; the next heartbeat says so.
    world.pass(LINK_HEARTBEAT);
    let session = world.session.as_mut().expect("it is up");
    session.tick(world.now).expect("it lives");
    take_units(&mut world);
    world.group_stands = true;
    let mut number = 0;
    loop {
        while world.link.takes_frames() {
            number += 1;
            world.link.frames(&mut vec![numbered(number)]);
        }
        assert!(world.link.outgoing().len() <= OUT_BYTES_MAX + BATCH_BYTES_GOAL);
        if !world.up(usize::MAX) {
            break;
        }
        take_units(&mut world);
    }
    let credit = CREDIT_BYTES as usize;
    assert!((credit..credit + BATCH_BYTES_GOAL).contains(&world.bag_bytes));
    world.pass(LINK_HEARTBEAT);
    let session = world.session.as_mut().expect("it is up");
    session.tick(world.now).expect("it lives");
    take_units(&mut world);
    assert!(!world.link.takes_frames(), "a heartbeat alone is no credit");
    world.group_stands = false;
    world.group_turn();
    take_units(&mut world);
    assert!(world.link.takes_frames());
    assert_eq!(world.group.applied.len() as u32, number);
}

#[test]
fn a_socket_that_takes_nothing_fills_the_output_and_no_more() {
    let mut world = World::connected();
    let session = world.session.as_mut().expect("it is up");
    let mut taken = 0;
    while session.takes_frames() {
        taken += 1;
        session.send(&mut vec![FromGroup::Done { number: 0 }; 1_000]);
    }
    let out = session.outgoing().len();
    assert!(
        (OUT_BYTES_MAX..OUT_BYTES_MAX + 8_000).contains(&out),
        "{out} in {taken}"
    );
    session.written(world.now, out);
    assert!(session.takes_frames());
}

#[test]
fn waits_between_connections_grow_until_a_unit_has_come() {
    let mut world = World::new();
    let wait = |world: &World| world.link.deadline().expect("a time") - world.now;
    for _ in 0..10 {
        world.connect();
        world.cut();
        world.now = world.link.deadline().expect("a time");
    }
    world.connect();
    world.settle(usize::MAX);
    world.cut();
    assert!(
        wait(&world) >= BACK_OFF_MAX / 2,
        "a welcome alone proves little"
    );
    world.reconnect();
    world.offer();
    world.settle(usize::MAX);
    world.cut();
    assert!(wait(&world) < BACK_OFF_MAX / 8);
}
