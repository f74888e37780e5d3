//! The bytes of log entries. Round trips are tested with every world; here is what is not bytes of an entry.

use super::world::{World, claim, id, message, will};
use crate::command::{Command, Entry, MessageRef, Producer};
use crate::command_codec::{CodecError, PlacedMessage, decode_entry, encode_entry};
use crate::log::Location;
use bytes::Bytes;
use cluster::frame::{
    Ack, AckKind, Claim, Disconnect, DoneKind, ErrandDone, Join, Publish, StoredAt, Subscribe,
    Unsubscribe, WillFate,
};
use cluster::ids::{Actor, ClientNo, Epoch, LinkNo, Rank};
use cluster::slots::GroupNo;
use cluster::topology::{Member, MemberChange};
use proptest::prelude::*;
use protocol::{QoS, SubscribeOptions, TopicFilter};

const NOWHERE: StoredAt = StoredAt {
    segment: 0,
    record: 0,
    offset: 0,
    len: 0,
};

const AT: Location = Location {
    segment: 3,
    offset: 70,
};

fn actor() -> Actor {
    Actor {
        client: ClientNo(7),
        epoch: Epoch::first_of(3),
    }
}

/// Every kind of command, with every optional part there and away.
fn all() -> Vec<Command> {
    [
        of_the_leader(),
        of_clients(),
        with_messages(),
        of_groups(),
        of_members(),
    ]
    .concat()
}

fn of_the_leader() -> Vec<Command> {
    let producer = Producer {
        node: 1,
        shard: 2,
        incarnation: u64::MAX,
    };
    let link = LinkNo(1023);
    let first = 1 << 60;
    let attach = |actor, if_free| Command::Attach { actor, if_free };
    vec![
        Command::LeaderStart,
        Command::LinkUp { link, producer },
        Command::LinkDown { link: LinkNo(0) },
        Command::From { link, first },
        attach(None, true),
        attach(Some(actor()), false),
        Command::Page { actor: actor() },
        Command::Tick,
    ]
}

fn of_clients() -> Vec<Command> {
    let actor = actor();
    let filter = |text| TopicFilter::new(text).expect("a filter");
    let shared_options = SubscribeOptions::from_u8(0b10_1010).expect("valid");
    let subscribe = Subscribe {
        actor,
        packet_id: id(2),
        subscription_id: 0x0fff_ffff,
        filters: vec![
            (filter("a/+"), SubscribeOptions::default()),
            (filter("$share/g/#"), shared_options),
        ],
    };
    let (packet_id, filters) = (id(3), vec![filter("a/+")]);
    let unsubscribe = Unsubscribe {
        actor,
        packet_id,
        filters,
    };
    let gone = |expiry_s, will| {
        Command::Disconnect(Box::new(Disconnect {
            actor,
            expiry_s,
            will,
        }))
    };
    let (will, clean_start) = (Some(Box::new(will("w", 5))), true);
    let with_will = Claim {
        will,
        clean_start,
        ..claim("ü")
    };
    let mut commands = vec![
        Command::Claim(Box::new(claim("a"))),
        Command::Claim(Box::new(with_will)),
        Command::Release {
            actor,
            packet_id: id(65_535),
        },
        Command::Subscribe(Box::new(subscribe)),
        Command::Unsubscribe(Box::new(unsubscribe)),
        gone(None, WillFate::Dropped),
        gone(Some(77), WillFate::Published),
        gone(Some(0), WillFate::Kept),
    ];
    for kind in [
        AckKind::Ack,
        AckKind::Received,
        AckKind::Refused,
        AckKind::Complete,
    ] {
        commands.push(Command::Ack(Ack {
            actor,
            packet_id: id(9),
            kind,
        }));
    }
    commands
}

fn of_groups() -> Vec<Command> {
    let [from, to] = [GroupNo(3), GroupNo(63)];
    let start_epoch = Epoch::first_of(9);
    let join = |rank| {
        Command::Join(Box::new(Join {
            handle: claim("x").handle,
            client_id: "ü".into(),
            epoch: Epoch(70),
            start_epoch,
            rank,
        }))
    };
    let done = |what| Command::ErrandDone(Box::new(ErrandDone { from, to, what }));
    let will = Publish {
        actor: actor(),
        packet_id: None,
        qos: QoS::ExactlyOnce,
        retain: true,
        message: message("w", "will"),
    };
    vec![
        Command::List {
            actor: actor(),
            group: to,
        },
        join(None),
        join(Some(Rank(63))),
        Command::End {
            from,
            to,
            client_id: "ü".into(),
            start_epoch,
        },
        Command::ForeignWill {
            from,
            to,
            publish: will,
            at: NOWHERE,
        },
        done(DoneKind::End {
            client_id: "ü".into(),
            start_epoch,
        }),
        done(DoneKind::Will { epoch: start_epoch }),
    ]
}

fn of_members() -> Vec<Command> {
    let name = |text: &str| text.parse().expect("a name");
    let address = |text: &str| text.parse().expect("an address");
    let member = |peer: Option<&str>| Member {
        name: name("broker-1"),
        link: address("[::1]:1884"),
        peer: peer.map(address),
    };
    let changes = [
        MemberChange::Move {
            name: name("broker-1"),
            link: Some(address("[::1]:1884")),
            peer: None,
        },
        MemberChange::Move {
            name: name("broker-1"),
            link: None,
            peer: Some(address("host:1")),
        },
        MemberChange::Add {
            group: GroupNo(63),
            member: member(Some("host:2")),
        },
        MemberChange::Remove {
            name: name("broker-1"),
        },
        MemberChange::Replace {
            name: name("broker-0"),
            by: member(None),
        },
    ];
    let command = |change| Command::ChangeMembers(Box::new(change));
    changes.into_iter().map(command).collect()
}

fn with_messages() -> Vec<Command> {
    let actor = actor();
    let publish = |qos: QoS| Publish {
        actor,
        packet_id: (qos > QoS::AtMostOnce).then(|| id(0x1234)),
        qos,
        retain: qos == QoS::AtLeastOnce,
        message: message("some/topic", "payload").with_expiry_s(Some(9)),
    };
    let (client, epoch, at) = (actor.client, actor.epoch, NOWHERE);
    let moved = MessageRef { place: 4, seq: 5 };
    let copy = message("t", "copy");
    let will = publish(QoS::AtLeastOnce);
    let mut commands = vec![
        Command::WillPublish {
            client,
            epoch,
            publish: will,
            at,
        },
        Command::Relocate {
            message: moved,
            copy,
            at,
        },
    ];
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        commands.push(Command::Publish(publish(qos), NOWHERE));
    }
    commands
}

fn encoded(commands: &[Command]) -> (Bytes, Vec<PlacedMessage>) {
    // Other entries may be in the same buffer before it.
    let (mut bytes, mut placed) = (vec![0xee; 13], Vec::new());
    encode_entry(42, commands, &mut bytes, &mut placed);
    (Bytes::from(bytes).slice(13..), placed)
}

fn decoded(bytes: &Bytes) -> Result<Entry, CodecError> {
    decode_entry(6, bytes, AT)
}

#[test]
fn every_command_comes_back_as_it_was() {
    let (bytes, placed) = encoded(&all());
    let entry = decoded(&bytes).expect("just encoded");
    assert_eq!((entry.index, entry.time_ms), (6, 42));
    // Places are what the log gave, which differ; all else is in the debug form.
    let mut commands = entry.commands.clone();
    for message in placed {
        let (at, copy) = match &mut commands[message.command as usize] {
            Command::Publish(publish, at)
            | Command::WillPublish { publish, at, .. }
            | Command::ForeignWill { publish, at, .. } => (at, publish.message.clone()),
            Command::Relocate { copy, at, .. } => (at, copy.clone()),
            other => panic!("{other:?} has no message"),
        };
        let place = StoredAt {
            segment: AT.segment,
            record: AT.offset,
            offset: message.offset,
            len: message.len,
        };
        assert_eq!(*at, place);
        let (from, to) = (
            message.offset as usize,
            (message.offset + message.len) as usize,
        );
        assert_eq!(
            protocol::Message::read_from(&bytes.slice(from..to)),
            Ok(copy)
        );
        *at = StoredAt {
            segment: 0,
            record: 0,
            offset: 0,
            len: 0,
        };
    }
    assert_eq!(format!("{commands:?}"), format!("{:?}", all()));
}

#[test]
fn what_is_cut_or_goes_on_is_refused() {
    let (bytes, _) = encoded(&all());
    for len in 0..bytes.len() {
        assert!(decoded(&bytes.slice(..len)).is_err(), "{len}");
    }
    let longer = Bytes::from([&bytes[..], b"xy"].concat());
    assert_eq!(decoded(&longer).err(), Some(CodecError::TrailingBytes(2)));
    let other = Bytes::from([&[4], &bytes[1..]].concat());
    assert_eq!(decoded(&other).err(), Some(CodecError::Version(4)));
    // An entry from before there were several groups.
    let other = Bytes::from([&[1], &bytes[1..]].concat());
    assert!(decoded(&other).is_ok());
}

#[test]
fn a_move_of_an_entry_of_version_2_is_read() {
    let mut bytes = vec![2];
    bytes.extend_from_slice(&42_u64.to_le_bytes());
    bytes.extend_from_slice(&1_u32.to_le_bytes());
    bytes.extend_from_slice(b"\x18\x03\0b-1\x06\0host:1");
    let entry = decoded(&Bytes::from(bytes)).expect("it is read");
    let moved = Command::ChangeMembers(Box::new(MemberChange::Move {
        name: "b-1".parse().expect("a name"),
        link: "host:1".parse().ok(),
        peer: None,
    }));
    assert_eq!(format!("{:?}", entry.commands), format!("{:?}", [moved]));
}

proptest! {
    /// Damage gives an error or another entry; applying that does not panic either.
    #[test]
    fn damaged_entries_do_no_harm(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let (bytes, _) = encoded(&all());
        let mut bytes = bytes.to_vec();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let Ok(entry) = decoded(&Bytes::from(bytes)) else { return Ok(()) };
        let mut world = World::new();
        let mut out = crate::machine::Effects::default();
        for command in entry.commands {
            // A counter that has come to its end is not for a log to say.
            if !matches!(command, Command::From { .. } | Command::LinkUp { .. }) {
                world.state.apply(100, entry.time_ms.min(1 << 50), command, &mut out);
            }
        }
    }

    #[test]
    fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = 1;
        }
        drop(decoded(&Bytes::from(bytes)));
    }
}
