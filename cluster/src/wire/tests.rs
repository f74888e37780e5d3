//! Every frame crosses the wire, and no bytes hurt.

mod held;

use super::*;
use crate::frame::{
    Ack, AckKind, Body, Claim, Claimed, Delivery, Disconnect, Errand, ErrandDone, ErrandKind,
    FilterOutcome, FromGroup, Join, Joined, Listed, Publish, Reattach, Receiver, Resume, Subscribe,
    ToGroup, Unsubscribe, WillFate,
};
use crate::ids::{Actor, ClientNo, Epoch, Handle, Rank};
use crate::slots::GroupNo;
use crate::topology::TopologyVersion;
use bytes::Bytes;
use held::{digest, filters, list_filters};
use proptest::collection::vec;
use proptest::prelude::*;
use protocol::{
    Message, PacketId, QoS, ReasonCode, SubscribeOptions, TopicFilter, TopicName, Version, Will,
};

/// Small and large ones alike: all lengths of a varint.
fn number(bits: u32) -> impl Strategy<Value = u64> {
    (0..=bits, any::<u64>()).prop_map(|(len, bits)| {
        if len == 0 {
            0
        } else {
            bits >> (u64::BITS - len)
        }
    })
}

fn small() -> impl Strategy<Value = u32> {
    number(32).prop_map(|n| n as u32)
}

fn handle() -> impl Strategy<Value = Handle> {
    (small(), small()).prop_map(|(index, generation)| Handle { index, generation })
}

fn epoch() -> impl Strategy<Value = Epoch> {
    (number(24), number(40)).prop_map(|(reign, n)| Epoch(Epoch::first_of(reign as u32).0 | n))
}

fn actor() -> impl Strategy<Value = Actor> {
    (small(), epoch()).prop_map(|(client, epoch)| Actor {
        client: ClientNo(client),
        epoch,
    })
}

fn packet_id() -> impl Strategy<Value = PacketId> {
    any::<PacketId>()
}

fn any_qos() -> impl Strategy<Value = QoS> {
    (0_u8..3).prop_map(|level| QoS::from_u8(level).expect("0 to 2"))
}

fn reason() -> impl Strategy<Value = ReasonCode> {
    prop::sample::select(ReasonCode::ALL)
}

fn reasons() -> impl Strategy<Value = Box<[ReasonCode]>> {
    vec(reason(), 0..5).prop_map(Vec::into_boxed_slice)
}

fn outcomes() -> impl Strategy<Value = Box<[FilterOutcome]>> {
    let outcome =
        (reason(), any::<bool>()).prop_map(|(reason, is_new)| FilterOutcome { reason, is_new });
    vec(outcome, 0..5).prop_map(Vec::into_boxed_slice)
}

fn message() -> impl Strategy<Value = Message> {
    let properties = [&b""[..], b"\x01\x01", b"\x26\x00\x01k\x00\x01v"];
    let properties = prop::sample::select(properties.to_vec());
    let parts = (
        "[a-z/ü]{1,40}",
        properties,
        vec(any::<u8>(), 0..300),
        any::<Option<u32>>(),
    );
    parts.prop_map(|(topic, properties, payload, expiry_s)| {
        let topic = TopicName::new(&topic).expect("a topic");
        let message = Message::new(&topic, properties, &payload).expect("a message");
        message.with_expiry_s(expiry_s)
    })
}

fn publish() -> impl Strategy<Value = Publish> {
    (actor(), packet_id(), any_qos(), any::<bool>(), message()).prop_map(
        |(actor, id, qos, retain, message)| Publish {
            actor,
            packet_id: qos.has_packet_id().then_some(id),
            qos,
            retain,
            message,
        },
    )
}

fn will() -> impl Strategy<Value = Box<Will>> {
    (message(), any_qos(), any::<bool>(), small()).prop_map(|(message, qos, retain, delay_s)| {
        Box::new(Will {
            message,
            qos,
            retain,
            delay_s,
        })
    })
}

fn claim() -> impl Strategy<Value = Claim> {
    let version = prop::sample::select(vec![Version::V31, Version::V311, Version::V5]);
    let rest = (any::<bool>(), small(), prop::option::of(will()));
    (handle(), "[a-zü]{1,300}", version, rest).prop_map(
        |(handle, client_id, version, (clean_start, expiry_s, will))| Claim {
            handle,
            client_id: client_id.into(),
            version,
            clean_start,
            expiry_s,
            will,
        },
    )
}

fn filter() -> impl Strategy<Value = TopicFilter> {
    prop_oneof![
        "[a-z]{1,30}/#",
        "\\+/[a-z]{0,9}",
        Just("$share/g/a/+".to_owned())
    ]
    .prop_map(|text| TopicFilter::new(&text).expect("a filter"))
}

fn options() -> impl Strategy<Value = SubscribeOptions> {
    let all: Vec<_> = (0..=u8::MAX)
        .filter_map(SubscribeOptions::from_u8)
        .collect();
    prop::sample::select(all)
}

fn subscribe() -> impl Strategy<Value = Subscribe> {
    let filters = vec((filter(), options()), 1..5);
    (actor(), packet_id(), small(), filters).prop_map(
        |(actor, packet_id, subscription_id, filters)| Subscribe {
            actor,
            packet_id,
            subscription_id,
            filters,
        },
    )
}

fn group() -> impl Strategy<Value = GroupNo> {
    (0..GroupNo::MAX).prop_map(GroupNo)
}

fn rank() -> impl Strategy<Value = Option<Rank>> {
    prop::option::of((0..GroupNo::MAX).prop_map(Rank))
}

fn join() -> impl Strategy<Value = Box<Join>> {
    (handle(), "[a-zü]{1,300}", epoch(), epoch(), rank()).prop_map(
        |(handle, client_id, epoch, start_epoch, rank)| {
            Box::new(Join {
                handle,
                client_id: client_id.into(),
                epoch,
                start_epoch,
                rank,
            })
        },
    )
}

fn errand() -> impl Strategy<Value = Box<Errand>> {
    let end = ("[a-zü]{1,300}", epoch()).prop_map(|(client_id, start_epoch)| ErrandKind::End {
        client_id: client_id.into(),
        start_epoch,
    });
    let will = (epoch(), will()).prop_map(|(epoch, will)| ErrandKind::Will { epoch, will });
    (group(), group(), prop_oneof![end, will])
        .prop_map(|(from, to, what)| Box::new(Errand { from, to, what }))
}

fn errand_done() -> impl Strategy<Value = Box<ErrandDone>> {
    errand().prop_map(|errand| Box::new(errand.done()))
}

fn claimed() -> impl Strategy<Value = Box<Claimed>> {
    let listed = (group(), rank()).prop_map(|(group, rank)| Listed { group, rank });
    let start = prop::option::of(epoch());
    let session = (any::<bool>(), start, vec(listed, 0..4), digest());
    (handle(), small(), epoch(), session).prop_map(
        |(handle, client, epoch, (session_present, start, groups, digest))| {
            Box::new(Claimed {
                handle,
                client: ClientNo(client),
                epoch,
                session_present,
                start_epoch: start.unwrap_or(epoch),
                groups: groups.into(),
                digest,
            })
        },
    )
}

fn to_group() -> impl Strategy<Value = ToGroup> {
    let kinds = [
        AckKind::Ack,
        AckKind::Received,
        AckKind::Refused,
        AckKind::Complete,
    ];
    let kind = prop::sample::select(kinds.to_vec());
    let fates = [WillFate::Dropped, WillFate::Published, WillFate::Kept];
    let gone = (
        actor(),
        any::<Option<u32>>(),
        prop::sample::select(fates.to_vec()),
    );
    let session = (actor(), handle(), any::<Option<PacketId>>());
    let session = session.prop_map(|(actor, handle, last)| Reattach {
        actor,
        handle,
        last,
    });
    prop_oneof![
        publish().prop_map(ToGroup::Publish),
        (actor(), packet_id(), kind).prop_map(|(actor, packet_id, kind)| ToGroup::Ack(Ack {
            actor,
            packet_id,
            kind
        })),
        (actor(), packet_id()).prop_map(|(actor, packet_id)| ToGroup::Release { actor, packet_id }),
        claim().prop_map(|claim| ToGroup::Claim(Box::new(claim))),
        subscribe().prop_map(|subscribe| ToGroup::Subscribe(Box::new(subscribe))),
        (actor(), packet_id(), vec(filter(), 1..5)).prop_map(|(actor, packet_id, filters)| {
            ToGroup::Unsubscribe(Box::new(Unsubscribe {
                actor,
                packet_id,
                filters,
            }))
        }),
        gone.prop_map(
            |(actor, expiry_s, will)| ToGroup::Disconnect(Box::new(Disconnect {
                actor,
                expiry_s,
                will
            }))
        ),
        handle().prop_map(|handle| ToGroup::Kicked { handle }),
        (actor(), group()).prop_map(|(actor, group)| ToGroup::List { actor, group }),
        join().prop_map(ToGroup::Join),
        list_filters().prop_map(ToGroup::ListFilters),
        errand().prop_map(ToGroup::Errand),
        errand_done().prop_map(ToGroup::ErrandDone),
        (number(64), any::<bool>()).prop_map(|(first, resent)| ToGroup::Number { first, resent }),
        (vec(session, 0..20), vec(handle(), 0..5))
            .prop_map(|(sessions, void)| ToGroup::Resume(Box::new(Resume { sessions, void }))),
    ]
}

fn receiver() -> impl Strategy<Value = Receiver> {
    let ids = prop::option::of(vec(small(), 1..4).prop_map(Vec::into_boxed_slice));
    (handle(), packet_id(), any_qos(), any::<[bool; 2]>(), ids).prop_map(
        |(handle, id, qos, [retain, dup], subscription_ids)| Receiver {
            handle,
            packet_id: qos.has_packet_id().then_some(id),
            qos,
            retain,
            dup,
            subscription_ids,
        },
    )
}

fn delivery() -> impl Strategy<Value = Delivery> {
    let receivers = vec(receiver(), 1..5);
    (message(), any::<Option<u32>>(), receivers).prop_map(|(message, expiry_s, receivers)| {
        Delivery {
            body: Body::Inline(message),
            expiry_s,
            receivers: receivers.into(),
        }
    })
}

fn from_group() -> impl Strategy<Value = FromGroup> {
    let answer = (handle(), packet_id(), any_qos(), reason());
    let joined = (handle(), small(), epoch(), digest());
    prop_oneof![
        delivery().prop_map(FromGroup::Deliver),
        answer.prop_map(|(handle, packet_id, qos, reason)| FromGroup::Published {
            handle,
            packet_id,
            qos,
            reason
        }),
        (handle(), packet_id(), reason()).prop_map(|(handle, packet_id, reason)| {
            FromGroup::Released {
                handle,
                packet_id,
                reason,
            }
        }),
        (handle(), packet_id(), reason()).prop_map(|(handle, packet_id, reason)| {
            FromGroup::Release {
                handle,
                packet_id,
                reason,
            }
        }),
        claimed().prop_map(FromGroup::Claimed),
        filters().prop_map(FromGroup::Filters),
        joined.prop_map(|(handle, client, epoch, digest)| {
            FromGroup::Joined(Box::new(Joined {
                handle,
                client: ClientNo(client),
                epoch,
                digest,
            }))
        }),
        (handle(), group(), rank()).prop_map(|(handle, group, rank)| FromGroup::Listed {
            handle,
            group,
            rank
        }),
        handle().prop_map(|handle| FromGroup::Rejoin { handle }),
        errand().prop_map(FromGroup::Errand),
        errand_done().prop_map(FromGroup::ErrandDone),
        (handle(), reason())
            .prop_map(|(handle, reason)| FromGroup::ClaimRefused { handle, reason }),
        (handle(), reason()).prop_map(|(handle, reason)| FromGroup::Kick { handle, reason }),
        (handle(), packet_id(), outcomes()).prop_map(|(handle, packet_id, outcomes)| {
            FromGroup::Subscribed {
                handle,
                packet_id,
                outcomes,
            }
        }),
        (handle(), packet_id(), reasons()).prop_map(|(handle, packet_id, reasons)| {
            FromGroup::Unsubscribed {
                handle,
                packet_id,
                reasons,
            }
        }),
        Just(FromGroup::Resume),
        number(64).prop_map(|number| FromGroup::Done { number }),
    ]
}

fn version() -> impl Strategy<Value = TopologyVersion> {
    (number(64), number(64)).prop_map(|(table, members)| TopologyVersion { table, members })
}

fn handshake() -> impl Strategy<Value = Handshake> {
    let name = "[a-zA-Z0-9._-]{1,64}".prop_map(String::into_boxed_str);
    let hello = (
        any::<[u8; 16]>(),
        any::<u64>(),
        version(),
        [small(), small(), small()],
        any::<u64>(),
        any::<Nonce>(),
        name,
    );
    let terms = (small(), any::<bool>(), small(), version());
    let refusal = (1_u8..=13, ".{0,60}").prop_filter("has a leader", |(code, _)| *code != 11);
    let leader = prop::option::of("[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,63}");
    prop_oneof![
        hello.prop_map(
            |(fixed, slots, topology, [group, node, shard], incarnation, nonce, name)| {
                Handshake::Hello(Hello {
                    fixed,
                    slots,
                    topology,
                    group,
                    node,
                    shard,
                    incarnation,
                    nonce,
                    name,
                })
            }
        ),
        any::<Nonce>().prop_map(|nonce| Handshake::Challenge(Challenge {
            nonce,
            name: "b".into()
        })),
        any::<Mac>().prop_map(|mac| Handshake::Proof(Proof(mac))),
        (any::<Mac>(), terms).prop_map(|(mac, (reign, known, credit_bytes, topology))| {
            Handshake::Welcome(Welcome {
                mac,
                terms: Terms {
                    reign,
                    known,
                    credit_bytes,
                    topology,
                },
            })
        }),
        refusal.prop_map(|(code, text)| {
            let body = Bytes::from(vec![code, 0]);
            let refusal = Refused::read(&body).expect("1 to 13").refusal;
            Handshake::Refused(Refused::new(refusal, &text))
        }),
        (leader, ".{0,60}").prop_map(|(leader, text)| {
            let leader = leader.map(|name| name.parse().expect("a name"));
            Handshake::Refused(Refused::not_leader(leader, &text))
        }),
    ]
}

fn to_bytes(frames: &[ToGroup]) -> Bytes {
    let mut out = Vec::new();
    for frame in frames {
        write_to_group(frame, &mut out);
    }
    out.into()
}

fn from_bytes(frames: &[FromGroup]) -> Bytes {
    let mut out = Vec::new();
    for frame in frames {
        write_from_group(frame, &mut out);
    }
    out.into()
}

/// Frames have no equality of their own: messages may lie anywhere. What they print says all but a payload.
fn print<T: std::fmt::Debug>(frames: &[T]) -> String {
    format!("{frames:#?}")
}

/// Reads whatever it is, and writes what was read: the same bytes, as far as it could be read.
fn check_any_bytes(body: &Bytes) {
    let mut frames = Vec::new();
    let whole = read_to_group(body, |frame| frames.push(frame)).is_ok();
    let again = to_bytes(&frames);
    assert!(body.starts_with(&again) && (!whole || again.len() == body.len()));
    let mut frames = Vec::new();
    let whole = read_from_group(body, |frame| frames.push(frame)).is_ok();
    let again = from_bytes(&frames);
    assert!(body.starts_with(&again) && (!whole || again.len() == body.len()));
}

fn check_any_stream(stream: &[u8]) {
    let mut batches = Batches::default();
    batches.push(stream);
    while let Ok(Some(batch)) = batches.next(1 << 16) {
        if let Ok(message) = Handshake::read(&batch) {
            let mut out = Vec::new();
            message.write(&mut out);
            assert_eq!(out[HEADER_BYTES..], batch.body[..]);
        }
        check_any_bytes(&batch.body);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn frames_of_a_proxy_cross(frames in vec(to_group(), 0..6)) {
        let body = to_bytes(&frames);
        let mut got = Vec::new();
        read_to_group(&body, |frame| got.push(frame)).expect("what was written can be read");
        prop_assert_eq!(print(&got), print(&frames));
        prop_assert_eq!(to_bytes(&got), body);
    }

    #[test]
    fn frames_of_a_group_cross(frames in vec(from_group(), 0..6)) {
        let body = from_bytes(&frames);
        let mut got = Vec::new();
        read_from_group(&body, |frame| got.push(frame)).expect("what was written can be read");
        prop_assert_eq!(print(&got), print(&frames));
        prop_assert_eq!(from_bytes(&got), body);
    }

    #[test]
    fn the_handshake_crosses(message in handshake()) {
        let mut out = Vec::new();
        message.write(&mut out);
        let mut batches = Batches::default();
        batches.push(&out);
        let batch = batches.next(4096).expect("a batch").expect("a whole one");
        prop_assert_eq!(Handshake::read(&batch), Ok(message));
    }

    #[test]
    fn a_cut_frame_is_not_a_shorter_one(frame in to_group(), other in from_group()) {
        for body in [to_bytes(&[frame]), from_bytes(&[other])] {
            for end in 1..body.len() {
                check_any_bytes(&body.slice(..end));
            }
        }
    }

    #[test]
    fn changed_bytes_do_not_hurt(
        frame in to_group(), other in from_group(), message in handshake(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut stream = Vec::new();
        message.write(&mut stream);
        let batch = BatchStart::begin(BatchKind::ToGroup, &mut stream);
        write_to_group(&frame, &mut stream);
        batch.end(&mut stream);
        let batch = BatchStart::begin(BatchKind::FromGroup, &mut stream);
        write_from_group(&other, &mut stream);
        batch.end(&mut stream);
        for (at, byte) in changes {
            let at = at.index(stream.len());
            stream[at] = byte;
        }
        check_any_stream(&stream);
    }

    #[test]
    fn any_bytes_do_not_hurt(bytes in vec(any::<u8>(), 0..200)) {
        check_any_bytes(&bytes.clone().into());
        check_any_stream(&bytes);
    }
}

/// A count of four thousand million in a few bytes reserves nothing.
#[test]
fn a_count_is_held_against_what_is_there() {
    let many = b"\xFF\xFF\xFF\xFF\x0F";
    let resume = [&[10][..], many].concat();
    let subscribe = [b"\x05\x01\x01\x01\x01\x00\x00", &many[..]].concat();
    for body in [resume, subscribe] {
        let error = read_to_group(&body.into(), drop).expect_err("nothing follows");
        assert_eq!(error, WireError::Truncated);
    }
    let deliver = [&[0x21][..], many].concat();
    let error = read_from_group(&deliver.into(), drop).expect_err("nothing follows");
    assert_eq!(error, WireError::Truncated);
}

#[test]
fn a_number_has_one_form() {
    for (bytes, good) in [
        (&b"\x09\x00"[..], true),
        (b"\x09\x80\x00", false),
        (b"\x09\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01", true),
        (b"\x09\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x02", false),
        (b"\x09\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x81\x00", false),
    ] {
        let read = read_to_group(&Bytes::from_static(bytes), drop);
        assert_eq!(read.is_ok(), good, "{bytes:?}");
    }
}

/// Changing a byte of the format is a new version of the link.
#[test]
fn the_format_stands_still() {
    let publish = Publish {
        actor: Actor {
            client: ClientNo(300),
            epoch: Epoch(Epoch::first_of(2).0 | 5),
        },
        packet_id: PacketId::new(0x0102),
        qos: QoS::AtLeastOnce,
        retain: true,
        message: Message::new(&TopicName::new("a/b").expect("a topic"), b"", b"hi").expect("small"),
    };
    let body = to_bytes(&[
        ToGroup::Number {
            first: 200,
            resent: true,
        },
        ToGroup::Publish(publish),
    ]);
    assert_eq!(
        body[..],
        *b"\x19\xC8\x01\x51\xAC\x02\x02\x05\x02\x01\x10\x03\x00\x02\x00\x00\x00a/bhi"
    );
}
