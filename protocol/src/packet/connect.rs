//! CONNECT (MQTT 5 section 3.1).

use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;
use compact_str::CompactString;

use crate::message::{MessageProperties, WILL};
use crate::property::{Allowed, Property, id, read_properties};
use crate::read::Reader;
use crate::text::check_topic;
use crate::write::{
    EncodeError, Properties, put_binary, put_properties, put_str, put_u16, put_with_length,
};
use crate::{Message, QoS, UserProperties, Version, Violation};

const PROPERTIES: Allowed = Allowed::new(&[
    id::SESSION_EXPIRY,
    id::RECEIVE_MAXIMUM,
    id::MAXIMUM_PACKET_SIZE,
    id::TOPIC_ALIAS_MAXIMUM,
    id::REQUEST_RESPONSE_INFORMATION,
    id::REQUEST_PROBLEM_INFORMATION,
    id::USER_PROPERTY,
    id::AUTH_METHOD,
    id::AUTH_DATA,
]);

const CLEAN_START: u8 = 0x02;
const WILL_FLAG: u8 = 0x04;
const WILL_QOS_SHIFT: u8 = 3;
const WILL_RETAIN: u8 = 0x20;
const PASSWORD: u8 = 0x40;
const USER_NAME: u8 = 0x80;

/// A client opens a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// The version of the connection from here on.
    pub version: Version,
    /// The client id; empty where the client wants one assigned. MQTT 3 allows that only with
    /// `clean_start` (MQTT-3.1.3-7 of 3.1.1), which the receiver judges: the answer is a CONNACK.
    pub client_id: CompactString,
    /// Clean start; "clean session" before MQTT 5.
    pub clean_start: bool,
    /// Keep alive in seconds; 0 for none.
    pub keep_alive_s: u16,
    /// User name.
    pub username: Option<CompactString>,
    /// Password: any bytes.
    pub password: Option<Bytes>,
    /// The message to publish if the connection ends without DISCONNECT.
    pub will: Option<Will>,
    /// Session expiry interval in seconds; `u32::MAX` for never; `None` where not given, which in
    /// MQTT 5 means 0.
    pub session_expiry_s: Option<u32>,
    /// How many QoS 1 and 2 publishes the client takes at a time; 65,535 where `None`.
    pub receive_maximum: Option<NonZeroU16>,
    /// The largest packet the client takes, in bytes; no limit where `None`.
    pub maximum_packet_size: Option<NonZeroU32>,
    /// The highest topic alias the client takes; 0 where not given.
    pub topic_alias_maximum: u16,
    /// Whether the client asks for response information in CONNACK.
    pub request_response_information: bool,
    /// Whether reason strings and user properties may come with any packet; true where not given.
    pub request_problem_information: bool,
    /// User properties of CONNECT itself.
    pub user_properties: UserProperties,
    /// Authentication method of an enhanced authentication.
    pub auth_method: Option<CompactString>,
    /// Its first data; never without a method.
    pub auth_data: Option<Bytes>,
}

/// The message to publish if the connection ends without DISCONNECT (section 3.1.2.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// Topic, properties, payload and message expiry; a compact copy.
    pub message: Message,
    /// Its QoS.
    pub qos: QoS,
    /// Whether it is to be retained.
    pub retain: bool,
    /// Will delay interval in seconds: 0 where not given.
    pub delay_s: u32,
}

impl Connect {
    /// A CONNECT with this client id, clean start, no keep alive, and nothing else.
    pub fn new(version: Version, client_id: &str) -> Connect {
        Connect {
            version,
            client_id: CompactString::new(client_id),
            clean_start: true,
            keep_alive_s: 0,
            username: None,
            password: None,
            will: None,
            session_expiry_s: None,
            receive_maximum: None,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            request_response_information: false,
            request_problem_information: true,
            user_properties: UserProperties::new(),
            auth_method: None,
            auth_data: None,
        }
    }
}

impl Connect {
    /// Reads the packet from behind its fixed header.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Connect, Violation> {
        let version = read_version(reader)?;
        let flags = reader.u8()?;
        check_flags(flags, version)?;
        let mut connect = Connect::new(version, "");
        connect.clean_start = flags & CLEAN_START != 0;
        connect.keep_alive_s = reader.u16()?;
        if version.has_properties() {
            read_properties(reader, PROPERTIES, |property| {
                connect.note(property);
                Ok(())
            })?;
        }
        connect.client_id = CompactString::new(reader.str()?);
        if flags & WILL_FLAG != 0 {
            connect.will = Some(Will::read(reader, flags, version)?);
        }
        // MQTT 3.1 (section 3.1) lets both fields be missing in spite of their flags.
        let may_be_missing = version == Version::V31;
        if flags & USER_NAME != 0 && !(may_be_missing && reader.is_empty()) {
            connect.username = Some(CompactString::new(reader.str()?));
        }
        if flags & PASSWORD != 0 && !(may_be_missing && reader.is_empty()) {
            connect.password = Some(Bytes::copy_from_slice(reader.binary()?));
        }
        reader.finish()?;
        if connect.auth_data.is_some() && connect.auth_method.is_none() {
            return Err(Violation::AuthMethodMissing);
        }
        Ok(connect)
    }

    fn note(&mut self, property: Property<'_>) {
        match property {
            Property::SessionExpiry(seconds) => self.session_expiry_s = Some(seconds),
            Property::ReceiveMaximum(maximum) => self.receive_maximum = Some(maximum),
            Property::MaximumPacketSize(bytes) => self.maximum_packet_size = Some(bytes),
            Property::TopicAliasMaximum(maximum) => self.topic_alias_maximum = maximum,
            Property::RequestResponseInformation(wanted) => {
                self.request_response_information = wanted;
            }
            Property::RequestProblemInformation(wanted) => {
                self.request_problem_information = wanted;
            }
            Property::User(name, value) => self.user_properties.push_checked(name, value),
            Property::AuthMethod(method) => self.auth_method = Some(method.into()),
            Property::AuthData(data) => self.auth_data = Some(Bytes::copy_from_slice(data)),
            _ => {}
        }
    }

    /// Appends the packet, in its own version.
    pub(crate) fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.push(0x10);
        put_with_length(out, |out| {
            put_str(out, self.version.protocol_name())?;
            out.push(self.version.level());
            out.push(self.flags());
            put_u16(out, self.keep_alive_s);
            if self.version.has_properties() {
                put_properties(out, |properties| self.write_properties(properties))?;
            }
            put_str(out, &self.client_id)?;
            if let Some(will) = &self.will {
                will.write(self.version, out)?;
            }
            if let Some(username) = &self.username {
                put_str(out, username)?;
            }
            if let Some(password) = &self.password {
                put_binary(out, password)?;
            }
            Ok(())
        })
    }

    fn flags(&self) -> u8 {
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        let will = self.will.as_ref().map_or(0, |will| {
            WILL_FLAG | will.qos.as_u8() << WILL_QOS_SHIFT | flag(will.retain, WILL_RETAIN)
        });
        will | flag(self.clean_start, CLEAN_START)
            | flag(self.username.is_some(), USER_NAME)
            | flag(self.password.is_some(), PASSWORD)
    }

    fn write_properties(&self, properties: &mut Properties<'_>) -> Result<(), EncodeError> {
        properties.u32(id::SESSION_EXPIRY, self.session_expiry_s);
        properties.u16(
            id::RECEIVE_MAXIMUM,
            self.receive_maximum.map(NonZeroU16::get),
        );
        properties.u32(
            id::MAXIMUM_PACKET_SIZE,
            self.maximum_packet_size.map(NonZeroU32::get),
        );
        let alias_maximum = self.topic_alias_maximum;
        properties.u16(
            id::TOPIC_ALIAS_MAXIMUM,
            (alias_maximum > 0).then_some(alias_maximum),
        );
        let response_information = self.request_response_information.then_some(true);
        properties.flag(id::REQUEST_RESPONSE_INFORMATION, response_information);
        let problem_information = (!self.request_problem_information).then_some(false);
        properties.flag(id::REQUEST_PROBLEM_INFORMATION, problem_information);
        properties.raw(self.user_properties.as_bytes());
        properties.binary(id::AUTH_METHOD, self.auth_method.as_ref())?;
        properties.binary(id::AUTH_DATA, self.auth_data.as_ref())
    }
}

impl Will {
    fn read(reader: &mut Reader<'_>, flags: u8, version: Version) -> Result<Will, Violation> {
        let qos = QoS::from_u8(flags >> WILL_QOS_SHIFT & 0b11).ok_or(Violation::WillQoSInvalid)?;
        let mut properties = MessageProperties::default();
        let mut kept = Vec::new();
        if version.has_properties() {
            let len = reader.varint()? as usize;
            let section = reader.take(len)?;
            properties = MessageProperties::read(section, WILL)?;
            kept = MessageProperties::kept_copied(section, WILL)?;
        }
        let topic = reader.binary()?;
        if topic.is_empty() {
            return Err(Violation::TopicNameEmpty);
        }
        check_topic(topic)?;
        let payload = reader.binary()?;
        Ok(Will {
            message: Message::assemble(topic, &kept, payload, properties.expiry_s),
            qos,
            retain: flags & WILL_RETAIN != 0,
            delay_s: properties.will_delay_s,
        })
    }

    fn write(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if version.has_properties() {
            put_properties(out, |properties| {
                properties.u32(id::WILL_DELAY, (self.delay_s > 0).then_some(self.delay_s));
                properties.u32(id::MESSAGE_EXPIRY, self.message.expiry_s());
                properties.raw(self.message.properties());
                Ok(())
            })?;
        }
        put_binary(out, self.message.topic_bytes())?;
        put_binary(out, self.message.payload())
    }
}

/// The version in which the sender of a CONNECT can read an answer, as far as the packet that begins
/// at `at` says it: for CONNECT packets that are malformed after their protocol level. `None` where
/// it is no CONNECT or names no protocol known here.
pub fn connect_version(chunk: &[u8], at: usize) -> Option<Version> {
    let bytes = chunk
        .get(at..)
        .filter(|bytes| bytes.first() == Some(&0x10))?;
    let (_, len) = crate::read::varint(&bytes[1..]).ok()??;
    let mut reader = Reader::new(bytes, 1 + len);
    match read_version(&mut reader) {
        Ok(version) => Some(version),
        Err(violation) => violation.answer_version(),
    }
}

/// Protocol name and level (sections 3.1.2.1 and 3.1.2.2).
fn read_version(reader: &mut Reader<'_>) -> Result<Version, Violation> {
    let name = reader.binary()?;
    let level = reader.u8()?;
    // Some bridges set the highest bit of the level to say that they are one, and expect the
    // refusal of MQTT 3 before they try without.
    let answers_v5 = level & 0x7F > Version::V311.level();
    match (name, level) {
        (b"MQTT", 5) => Ok(Version::V5),
        (b"MQTT", 4) => Ok(Version::V311),
        (b"MQIsdp", 3) => Ok(Version::V31),
        (b"MQTT", _) if answers_v5 => Err(Violation::ProtocolLevelTooHigh),
        (b"MQTT" | b"MQIsdp", _) => Err(Violation::ProtocolLevelTooLow),
        _ => Err(Violation::ProtocolName),
    }
}

fn check_flags(flags: u8, version: Version) -> Result<(), Violation> {
    if flags & 1 != 0 {
        return Err(Violation::ConnectReservedFlag);
    }
    if flags & WILL_FLAG == 0 {
        if flags >> WILL_QOS_SHIFT & 0b11 != 0 {
            return Err(Violation::WillQoSWithoutWill);
        }
        if flags & WILL_RETAIN != 0 {
            return Err(Violation::WillRetainWithoutWill);
        }
    }
    if flags & PASSWORD != 0 && flags & USER_NAME == 0 && version != Version::V5 {
        return Err(Violation::PasswordWithoutUserName);
    }
    Ok(())
}
