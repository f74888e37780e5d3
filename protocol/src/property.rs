//! The properties of MQTT 5 (section 2.2.2): which packet may have which, and with what value.

use std::num::{NonZeroU16, NonZeroU32};

use crate::Violation;
use crate::limits::SUBSCRIPTION_ID_MAX;
use crate::read::Reader;

/// One property. Values that no packet may have never get this far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Property<'a> {
    PayloadFormat(u8),
    MessageExpiry(u32),
    ContentType(&'a str),
    ResponseTopic(&'a str),
    CorrelationData(&'a [u8]),
    SubscriptionId(u32),
    SessionExpiry(u32),
    AssignedClientId(&'a str),
    ServerKeepAlive(u16),
    AuthMethod(&'a str),
    AuthData(&'a [u8]),
    RequestProblemInformation(bool),
    WillDelay(u32),
    RequestResponseInformation(bool),
    ResponseInformation(&'a str),
    ServerReference(&'a str),
    ReasonString(&'a str),
    ReceiveMaximum(NonZeroU16),
    TopicAliasMaximum(u16),
    TopicAlias(NonZeroU16),
    MaximumQoS(u8),
    RetainAvailable(bool),
    User(&'a str, &'a str),
    MaximumPacketSize(NonZeroU32),
    WildcardAvailable(bool),
    SubscriptionIdsAvailable(bool),
    SharedAvailable(bool),
}

/// The identifiers of the properties (section 2.2.2.2).
pub(crate) mod id {
    pub(crate) const PAYLOAD_FORMAT: u8 = 0x01;
    pub(crate) const MESSAGE_EXPIRY: u8 = 0x02;
    pub(crate) const CONTENT_TYPE: u8 = 0x03;
    pub(crate) const RESPONSE_TOPIC: u8 = 0x08;
    pub(crate) const CORRELATION_DATA: u8 = 0x09;
    pub(crate) const SUBSCRIPTION_ID: u8 = 0x0B;
    pub(crate) const SESSION_EXPIRY: u8 = 0x11;
    pub(crate) const ASSIGNED_CLIENT_ID: u8 = 0x12;
    pub(crate) const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub(crate) const AUTH_METHOD: u8 = 0x15;
    pub(crate) const AUTH_DATA: u8 = 0x16;
    pub(crate) const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
    pub(crate) const WILL_DELAY: u8 = 0x18;
    pub(crate) const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
    pub(crate) const RESPONSE_INFORMATION: u8 = 0x1A;
    pub(crate) const SERVER_REFERENCE: u8 = 0x1C;
    pub(crate) const REASON_STRING: u8 = 0x1F;
    pub(crate) const RECEIVE_MAXIMUM: u8 = 0x21;
    pub(crate) const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub(crate) const TOPIC_ALIAS: u8 = 0x23;
    pub(crate) const MAXIMUM_QOS: u8 = 0x24;
    pub(crate) const RETAIN_AVAILABLE: u8 = 0x25;
    pub(crate) const USER_PROPERTY: u8 = 0x26;
    pub(crate) const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub(crate) const WILDCARD_AVAILABLE: u8 = 0x28;
    pub(crate) const SUBSCRIPTION_IDS_AVAILABLE: u8 = 0x29;
    pub(crate) const SHARED_AVAILABLE: u8 = 0x2A;
}

/// The properties a packet may have: a set of identifiers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowed {
    ids: u64,
    /// Those of them that may stand more than once.
    repeated: u64,
}

impl Allowed {
    /// The properties with these identifiers, each once, except user properties.
    pub(crate) const fn new(ids: &[u8]) -> Allowed {
        let mut set = 0;
        let mut index = 0;
        while index < ids.len() {
            set |= 1 << ids[index];
            index += 1;
        }
        Allowed {
            ids: set,
            repeated: 1 << id::USER_PROPERTY,
        }
    }

    /// The same, and `repeated` may stand more than once.
    pub(crate) const fn repeating(self, repeated: u8) -> Allowed {
        Allowed {
            ids: self.ids,
            repeated: self.repeated | 1 << repeated,
        }
    }

    /// Takes the next property from `reader`; `seen` collects what came before in the same packet.
    pub(crate) fn next<'a>(
        self,
        reader: &mut Reader<'a>,
        seen: &mut u64,
    ) -> Result<Property<'a>, Violation> {
        let identifier = reader.varint()?;
        let bit = 1_u64.checked_shl(identifier).unwrap_or(0);
        if self.ids & bit == 0 {
            return Err(Violation::PropertyNotAllowed);
        }
        if *seen & bit & !self.repeated != 0 {
            return Err(Violation::DuplicateProperty);
        }
        *seen |= bit;
        // Identifiers above 63 have no bit and were refused.
        value(identifier as u8, reader)
    }
}

/// Reads the property length and hands each property to `each`.
pub(crate) fn read_properties<'a>(
    reader: &mut Reader<'a>,
    allowed: Allowed,
    mut each: impl FnMut(Property<'a>) -> Result<(), Violation>,
) -> Result<(), Violation> {
    let len = reader.varint()? as usize;
    let mut section = Reader::new(reader.take(len)?, 0);
    let mut seen = 0;
    while !section.is_empty() {
        each(
            allowed
                .next(&mut section, &mut seen)
                .map_err(beyond_length)?,
        )?;
    }
    Ok(())
}

/// Within the properties, what ends early ends at the property length, not at the packet's end.
pub(crate) fn beyond_length(violation: Violation) -> Violation {
    match violation {
        Violation::FieldBeyondPacket => Violation::PropertyBeyondLength,
        other => other,
    }
}

fn value<'a>(identifier: u8, reader: &mut Reader<'a>) -> Result<Property<'a>, Violation> {
    Ok(match identifier {
        id::PAYLOAD_FORMAT => Property::PayloadFormat(u8::from(flag(reader)?)),
        id::MESSAGE_EXPIRY => Property::MessageExpiry(reader.u32()?),
        id::CONTENT_TYPE => Property::ContentType(reader.str()?),
        id::RESPONSE_TOPIC => Property::ResponseTopic(response_topic(reader)?),
        id::CORRELATION_DATA => Property::CorrelationData(reader.binary()?),
        id::SUBSCRIPTION_ID => Property::SubscriptionId(subscription_id(reader)?),
        id::SESSION_EXPIRY => Property::SessionExpiry(reader.u32()?),
        id::ASSIGNED_CLIENT_ID => Property::AssignedClientId(reader.str()?),
        id::SERVER_KEEP_ALIVE => Property::ServerKeepAlive(reader.u16()?),
        id::AUTH_METHOD => Property::AuthMethod(reader.str()?),
        id::AUTH_DATA => Property::AuthData(reader.binary()?),
        id::REQUEST_PROBLEM_INFORMATION => Property::RequestProblemInformation(flag(reader)?),
        id::WILL_DELAY => Property::WillDelay(reader.u32()?),
        id::REQUEST_RESPONSE_INFORMATION => Property::RequestResponseInformation(flag(reader)?),
        id::RESPONSE_INFORMATION => Property::ResponseInformation(reader.str()?),
        id::SERVER_REFERENCE => Property::ServerReference(reader.str()?),
        id::REASON_STRING => Property::ReasonString(reader.str()?),
        id::RECEIVE_MAXIMUM => {
            Property::ReceiveMaximum(non_zero(reader, Violation::PropertyValue)?)
        }
        id::TOPIC_ALIAS_MAXIMUM => Property::TopicAliasMaximum(reader.u16()?),
        id::TOPIC_ALIAS => Property::TopicAlias(non_zero(reader, Violation::TopicAliasZero)?),
        id::MAXIMUM_QOS => Property::MaximumQoS(u8::from(flag(reader)?)),
        id::RETAIN_AVAILABLE => Property::RetainAvailable(flag(reader)?),
        id::USER_PROPERTY => Property::User(reader.str()?, reader.str()?),
        id::MAXIMUM_PACKET_SIZE => {
            let bytes = NonZeroU32::new(reader.u32()?).ok_or(Violation::PropertyValue)?;
            Property::MaximumPacketSize(bytes)
        }
        id::WILDCARD_AVAILABLE => Property::WildcardAvailable(flag(reader)?),
        id::SUBSCRIPTION_IDS_AVAILABLE => Property::SubscriptionIdsAvailable(flag(reader)?),
        id::SHARED_AVAILABLE => Property::SharedAvailable(flag(reader)?),
        _ => return Err(Violation::PropertyNotAllowed),
    })
}

fn flag(reader: &mut Reader<'_>) -> Result<bool, Violation> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Violation::PropertyValue),
    }
}

fn non_zero(reader: &mut Reader<'_>, zero: Violation) -> Result<NonZeroU16, Violation> {
    NonZeroU16::new(reader.u16()?).ok_or(zero)
}

fn subscription_id(reader: &mut Reader<'_>) -> Result<u32, Violation> {
    let id = reader.varint()?;
    debug_assert!(id <= SUBSCRIPTION_ID_MAX);
    if id == 0 {
        Err(Violation::SubscriptionIdZero)
    } else {
        Ok(id)
    }
}

fn response_topic<'a>(reader: &mut Reader<'a>) -> Result<&'a str, Violation> {
    let topic = reader.str()?;
    if topic.is_empty() {
        return Err(Violation::TopicNameEmpty);
    }
    if topic.contains(['+', '#']) {
        return Err(Violation::ResponseTopicWildcard);
    }
    Ok(topic)
}
