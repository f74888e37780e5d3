//! Any packet of a version, as proptest strategies.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use protocol::{
    Ack, AckKind, Auth, CompactString, ConnAck, Connect, Disconnect, Message, Packet, PacketId,
    Publish, QoS, ReasonCode, RetainHandling, SubAck, Subscribe, SubscribeOptions, TopicFilter,
    TopicName, UnsubAck, Unsubscribe, UserProperties, Version, Will,
};

/// Any packet that a connection of `version` can carry, with nothing the version leaves out.
pub(crate) fn packet(version: Version) -> BoxedStrategy<Packet> {
    let v3 = prop_oneof![
        1 => connect(version).prop_map(|connect| Packet::Connect(Box::new(connect))),
        1 => connack(version).prop_map(|connack| Packet::ConnAck(Box::new(connack))),
        4 => publish(version).prop_map(Packet::Publish),
        1 => ack(version, AckKind::PubAck).prop_map(Packet::PubAck),
        1 => ack(version, AckKind::PubRec).prop_map(Packet::PubRec),
        1 => ack(version, AckKind::PubRel).prop_map(Packet::PubRel),
        1 => ack(version, AckKind::PubComp).prop_map(Packet::PubComp),
        2 => subscribe(version).prop_map(Packet::Subscribe),
        1 => suback(version).prop_map(Packet::SubAck),
        1 => unsubscribe().prop_map(Packet::Unsubscribe),
        1 => unsuback(version).prop_map(Packet::UnsubAck),
        1 => Just(Packet::PingReq),
        1 => Just(Packet::PingResp),
        1 => disconnect(version).prop_map(Packet::Disconnect),
    ];
    if version == Version::V5 {
        prop_oneof![14 => v3, 1 => auth().prop_map(|auth| Packet::Auth(Box::new(auth)))].boxed()
    } else {
        v3.boxed()
    }
}

/// Any version.
pub(crate) fn version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::V31), Just(Version::V311), Just(Version::V5)]
}

/// Any message, with properties where the version has them.
pub(crate) fn message(version: Version) -> impl Strategy<Value = Message> {
    let payload = prop_oneof![9 => vec(any::<u8>(), 0..40), 1 => vec(any::<u8>(), 0..20_000)];
    let expiry_s = only_v5(version, of(any::<u32>()).boxed(), None);
    (
        topic(),
        only_v5(version, message_properties(), Vec::new()),
        payload,
        expiry_s,
    )
        .prop_map(|(topic, properties, payload, expiry_s)| {
            let message = Message::new(&topic, &properties, &payload).expect("valid properties");
            message.with_expiry_s(expiry_s)
        })
}

/// Any topic name.
pub(crate) fn topic() -> impl Strategy<Value = TopicName> {
    "[$]?[a-z/ü€]{1,12}".prop_map(|text| TopicName::new(&text).expect("a topic"))
}

/// Any topic filter, shared ones included.
pub(crate) fn filter() -> impl Strategy<Value = TopicFilter> {
    let level = prop_oneof![3 => "[a-cü]{0,3}", 1 => Just("+".to_owned())];
    let plain = (vec(level, 1..5), any::<bool>()).prop_map(|(mut levels, hash)| {
        if hash {
            levels.push("#".to_owned());
        }
        let filter = levels.join("/");
        if filter.is_empty() {
            "/".to_owned()
        } else {
            filter
        }
    });
    let prefix = prop_oneof![
        7 => Just(""),
        1 => Just("$share/g/"),
        1 => Just("$oshare/g/"),
        1 => Just("$queue/"),
    ];
    (prefix, plain).prop_map(|(prefix, plain)| {
        TopicFilter::new(&format!("{prefix}{plain}")).expect("a filter")
    })
}

fn only_v5<T: Clone + std::fmt::Debug + 'static>(
    version: Version,
    strategy: BoxedStrategy<T>,
    otherwise: T,
) -> BoxedStrategy<T> {
    if version == Version::V5 {
        strategy
    } else {
        Just(otherwise).boxed()
    }
}

fn text() -> BoxedStrategy<CompactString> {
    "[a-zA-Z0-9 ü€𝄞+#/]{0,30}"
        .prop_map(CompactString::from)
        .boxed()
}

fn binary() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..30).prop_map(Bytes::from)
}

fn qos() -> impl Strategy<Value = QoS> {
    prop_oneof![
        Just(QoS::AtMostOnce),
        Just(QoS::AtLeastOnce),
        Just(QoS::ExactlyOnce)
    ]
}

fn packet_id() -> impl Strategy<Value = PacketId> {
    (1_u16..).prop_map(|id| PacketId::new(id).expect("not zero"))
}

fn user_properties() -> impl Strategy<Value = UserProperties> {
    vec((text(), text()), 0..3).prop_map(|pairs| {
        let mut properties = UserProperties::new();
        for (name, value) in pairs {
            properties.push(&name, &value).expect("valid text");
        }
        properties
    })
}

fn message_properties() -> BoxedStrategy<Vec<u8>> {
    let field = |id: u8, bytes: &[u8]| {
        let mut property = vec![id];
        property.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
        property.extend_from_slice(bytes);
        property
    };
    let user = vec((text(), text()), 0..3).prop_map(move |pairs| {
        let pairs = pairs.iter().map(|(name, value)| {
            let mut property = field(0x26, name.as_bytes());
            property.extend_from_slice(&field(0, value.as_bytes())[1..]);
            property
        });
        pairs.collect::<Vec<_>>().concat()
    });
    let parts = (
        of(any::<bool>().prop_map(|flag| vec![1, u8::from(flag)])),
        of(text().prop_map(move |text| field(3, text.as_bytes()))),
        of(topic().prop_map(move |topic| field(8, topic.as_bytes()))),
        of(binary().prop_map(move |data| field(9, &data))),
        user,
    );
    parts
        .prop_map(|(format, content_type, response, correlation, user)| {
            let parts = [format, content_type, response, correlation, Some(user)];
            parts.into_iter().flatten().collect::<Vec<_>>()
        })
        .prop_shuffle()
        .prop_map(|parts| parts.concat())
        .boxed()
}

fn connect(version: Version) -> BoxedStrategy<Connect> {
    let username = of(text());
    let password = of(binary());
    let base = (
        text(),
        any::<bool>(),
        any::<u16>(),
        username,
        password,
        of(will(version)),
    );
    let base = base.prop_map(
        move |(client_id, clean, keep_alive_s, username, password, will)| {
            let mut connect = Connect::new(version, &client_id);
            connect.clean_start = clean;
            connect.keep_alive_s = keep_alive_s;
            let may_have_password = username.is_some() || version == Version::V5;
            connect.password = password.filter(|_| may_have_password);
            connect.username = username;
            connect.will = will;
            connect
        },
    );
    if version != Version::V5 {
        return base.boxed();
    }
    let limits = (
        of(any::<u32>()),
        of((1_u16..).prop_map(|maximum| NonZeroU16::new(maximum).expect("not zero"))),
        of((1_u32..).prop_map(|bytes| NonZeroU32::new(bytes).expect("not zero"))),
        any::<u16>(),
    );
    let rest = (
        any::<bool>(),
        any::<bool>(),
        user_properties(),
        of((text(), of(binary()))),
    );
    (base, limits, rest)
        .prop_map(|(mut connect, limits, rest)| {
            let (session_expiry_s, receive_maximum, maximum_packet_size, alias_maximum) = limits;
            connect.session_expiry_s = session_expiry_s;
            connect.receive_maximum = receive_maximum;
            connect.maximum_packet_size = maximum_packet_size;
            connect.topic_alias_maximum = alias_maximum;
            let (response_information, problem_information, user_properties, auth) = rest;
            connect.request_response_information = response_information;
            connect.request_problem_information = problem_information;
            connect.user_properties = user_properties;
            (connect.auth_method, connect.auth_data) = method_and_data(auth);
            connect
        })
        .boxed()
}

fn method_and_data(
    auth: Option<(CompactString, Option<Bytes>)>,
) -> (Option<CompactString>, Option<Bytes>) {
    auth.map_or((None, None), |(method, data)| (Some(method), data))
}

fn will(version: Version) -> impl Strategy<Value = Will> {
    let delay_s = only_v5(version, any::<u32>().boxed(), 0);
    let short = message(version).prop_filter("a field", |message| message.payload().len() < 65_536);
    (short, qos(), any::<bool>(), delay_s).prop_map(|(message, qos, retain, delay_s)| Will {
        message,
        qos,
        retain,
        delay_s,
    })
}

fn connack(version: Version) -> BoxedStrategy<ConnAck> {
    if version != Version::V5 {
        return (any::<bool>(), 0_u8..6)
            .prop_map(|(session_present, code)| ConnAck {
                session_present: session_present && code == 0,
                ..ConnAck::new(ReasonCode::from_v3_connect_code(code).expect("defined"))
            })
            .boxed();
    }
    let reason = prop_oneof![Just(ReasonCode::Success), Just(ReasonCode::ServerBusy)];
    let flags = (any::<bool>(), any::<[bool; 4]>(), qos());
    let numbers = (
        of(any::<u32>()),
        of(1_u16..),
        of(1_u32..),
        any::<u16>(),
        of(any::<u16>()),
    );
    let texts = (
        of(text()),
        of(text()),
        of(text()),
        of(text()),
        user_properties(),
    );
    (reason, flags, numbers, texts, of((text(), of(binary()))))
        .prop_map(
            |(reason, (present, flags, maximum_qos), numbers, texts, auth)| {
                let (session_expiry_s, receive, packet, alias_maximum, server_keep_alive_s) =
                    numbers;
                let (assigned_client_id, reason_string, response, reference, user_properties) =
                    texts;
                let [
                    retain_available,
                    wildcard_available,
                    ids_available,
                    shared_available,
                ] = flags;
                let (auth_method, auth_data) = method_and_data(auth);
                ConnAck {
                    session_present: present && !reason.is_error(),
                    reason,
                    session_expiry_s,
                    receive_maximum: receive.and_then(NonZeroU16::new),
                    maximum_qos,
                    retain_available,
                    maximum_packet_size: packet.and_then(NonZeroU32::new),
                    assigned_client_id,
                    topic_alias_maximum: alias_maximum,
                    reason_string,
                    user_properties,
                    wildcard_available,
                    subscription_ids_available: ids_available,
                    shared_available,
                    server_keep_alive_s,
                    response_information: response,
                    server_reference: reference,
                    auth_method,
                    auth_data,
                }
            },
        )
        .boxed()
}

/// Any PUBLISH of a version; one with a topic alias keeps its topic.
pub(crate) fn publish(version: Version) -> impl Strategy<Value = Publish> {
    let topic_alias = only_v5(version, of(1_u16..).boxed(), None);
    let subscription_ids = only_v5(version, vec(1_u32..=268_435_455, 0..4).boxed(), Vec::new());
    let flags = (qos(), any::<bool>(), any::<bool>());
    (
        flags,
        packet_id(),
        topic_alias,
        subscription_ids,
        message(version),
    )
        .prop_map(
            |((qos, dup, retain), id, topic_alias, subscription_ids, message)| Publish {
                dup: dup && qos.has_packet_id(),
                qos,
                retain,
                packet_id: qos.has_packet_id().then_some(id),
                topic_alias: topic_alias.and_then(NonZeroU16::new),
                subscription_ids,
                message,
            },
        )
}

fn ack(version: Version, kind: AckKind) -> impl Strategy<Value = Ack> {
    let allowed: Vec<_> = ReasonCode::ALL
        .iter()
        .copied()
        .filter(|reason| kind.allows(*reason))
        .collect();
    let reason = prop::sample::select(allowed).boxed();
    (packet_id(), only_v5(version, reason, ReasonCode::Success))
        .prop_map(|(packet_id, reason)| Ack { packet_id, reason })
}

fn subscribe(version: Version) -> impl Strategy<Value = Subscribe> {
    let handling = prop_oneof![
        Just(RetainHandling::Send),
        Just(RetainHandling::SendIfNew),
        Just(RetainHandling::DoNotSend),
    ];
    let v5_options = (any::<bool>(), any::<bool>(), handling).boxed();
    let options = only_v5(version, v5_options, (false, false, RetainHandling::Send));
    let entry = (filter(), qos(), options).prop_map(|(filter, qos, options)| {
        let (no_local, retain_as_published, retain_handling) = options;
        let no_local = no_local && filter.shared().is_none();
        (
            filter,
            SubscribeOptions {
                qos,
                no_local,
                retain_as_published,
                retain_handling,
            },
        )
    });
    let subscription_id = only_v5(version, of(1_u32..=268_435_455).boxed(), None);
    (packet_id(), subscription_id, vec(entry, 1..4)).prop_map(
        |(packet_id, subscription_id, filters)| Subscribe {
            packet_id,
            subscription_id,
            filters,
        },
    )
}

fn suback(version: Version) -> impl Strategy<Value = SubAck> {
    let mut codes = vec![0, 1, 2, 0x80];
    if version == Version::V5 {
        codes.extend([0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2]);
    }
    (packet_id(), reasons(codes)).prop_map(|(packet_id, reasons)| SubAck { packet_id, reasons })
}

fn unsubscribe() -> impl Strategy<Value = Unsubscribe> {
    (packet_id(), vec(filter(), 1..4))
        .prop_map(|(packet_id, filters)| Unsubscribe { packet_id, filters })
}

fn unsuback(version: Version) -> impl Strategy<Value = UnsubAck> {
    let codes = reasons(vec![0, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91]).boxed();
    (packet_id(), only_v5(version, codes, Vec::new()))
        .prop_map(|(packet_id, reasons)| UnsubAck { packet_id, reasons })
}

fn reasons(codes: Vec<u8>) -> impl Strategy<Value = Vec<ReasonCode>> {
    let reason =
        prop::sample::select(codes).prop_map(|code| ReasonCode::from_u8(code).expect("defined"));
    vec(reason, 1..5)
}

fn disconnect(version: Version) -> BoxedStrategy<Disconnect> {
    let none = Disconnect::new(ReasonCode::Success);
    let codes = prop_oneof![
        Just(ReasonCode::Success),
        Just(ReasonCode::DisconnectWithWill),
        Just(ReasonCode::ServerShuttingDown),
    ];
    let any = (codes, of(any::<u32>()), of(text()), of(text())).prop_map(
        |(reason, session_expiry_s, reason_string, server_reference)| Disconnect {
            reason,
            session_expiry_s,
            reason_string,
            server_reference,
        },
    );
    only_v5(version, any.boxed(), none)
}

fn auth() -> impl Strategy<Value = Auth> {
    let reason = prop_oneof![
        Just(ReasonCode::Success),
        Just(ReasonCode::ContinueAuthentication),
        Just(ReasonCode::Reauthenticate),
    ];
    (reason, text(), of(binary()), of(text()), user_properties()).prop_map(
        |(reason, method, auth_data, reason_string, user_properties)| Auth {
            reason,
            auth_method: Some(method),
            auth_data,
            reason_string,
            user_properties,
        },
    )
}
