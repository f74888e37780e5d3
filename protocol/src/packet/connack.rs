//! CONNACK (MQTT 5 section 3.2).

use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;
use compact_str::CompactString;

use crate::property::{Allowed, Property, id, read_properties};
use crate::read::Reader;
use crate::write::{EncodeError, Properties, put_properties, put_with_length};
use crate::{QoS, ReasonCode, UserProperties, Version, Violation};

const PROPERTIES: Allowed = Allowed::new(&[
    id::SESSION_EXPIRY,
    id::RECEIVE_MAXIMUM,
    id::MAXIMUM_QOS,
    id::RETAIN_AVAILABLE,
    id::MAXIMUM_PACKET_SIZE,
    id::ASSIGNED_CLIENT_ID,
    id::TOPIC_ALIAS_MAXIMUM,
    id::REASON_STRING,
    id::USER_PROPERTY,
    id::WILDCARD_AVAILABLE,
    id::SUBSCRIPTION_IDS_AVAILABLE,
    id::SHARED_AVAILABLE,
    id::SERVER_KEEP_ALIVE,
    id::RESPONSE_INFORMATION,
    id::SERVER_REFERENCE,
    id::AUTH_METHOD,
    id::AUTH_DATA,
]);

/// The server's answer to CONNECT. Before MQTT 5 only the first two fields travel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnAck {
    /// Whether the server goes on with a session it has; never with an error (MQTT-3.2.2-6).
    pub session_present: bool,
    /// The answer; MQTT 3 gets the return code closest to it.
    pub reason: ReasonCode,
    /// Session expiry in seconds where the server chose another than the client.
    pub session_expiry_s: Option<u32>,
    /// How many QoS 1 and 2 publishes the server takes at a time; 65,535 where `None`.
    pub receive_maximum: Option<NonZeroU16>,
    /// The highest QoS the server takes.
    pub maximum_qos: QoS,
    /// Whether the server keeps retained messages.
    pub retain_available: bool,
    /// The largest packet the server takes, in bytes; no limit where `None`.
    pub maximum_packet_size: Option<NonZeroU32>,
    /// The client id the server chose.
    pub assigned_client_id: Option<CompactString>,
    /// The highest topic alias the server takes; 0 where not given.
    pub topic_alias_maximum: u16,
    /// A text for people.
    pub reason_string: Option<CompactString>,
    /// User properties.
    pub user_properties: UserProperties,
    /// Whether filters may have wildcards.
    pub wildcard_available: bool,
    /// Whether subscriptions may have identifiers.
    pub subscription_ids_available: bool,
    /// Whether there are shared subscriptions.
    pub shared_available: bool,
    /// The keep alive in seconds that the server wants instead of the client's.
    pub server_keep_alive_s: Option<u16>,
    /// Where responses may be sent.
    pub response_information: Option<CompactString>,
    /// Another server to use.
    pub server_reference: Option<CompactString>,
    /// Authentication method of an enhanced authentication.
    pub auth_method: Option<CompactString>,
    /// Its last data.
    pub auth_data: Option<Bytes>,
}

impl ConnAck {
    /// A CONNACK with this answer, and every property at the value that need not be said.
    pub fn new(reason: ReasonCode) -> ConnAck {
        ConnAck {
            session_present: false,
            reason,
            session_expiry_s: None,
            receive_maximum: None,
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
            maximum_packet_size: None,
            assigned_client_id: None,
            topic_alias_maximum: 0,
            reason_string: None,
            user_properties: UserProperties::new(),
            wildcard_available: true,
            subscription_ids_available: true,
            shared_available: true,
            server_keep_alive_s: None,
            response_information: None,
            server_reference: None,
            auth_method: None,
            auth_data: None,
        }
    }
}

impl ConnAck {
    /// Reads the packet from behind its fixed header.
    pub(crate) fn read(reader: &mut Reader<'_>, version: Version) -> Result<ConnAck, Violation> {
        let flags = reader.u8()?;
        let code = reader.u8()?;
        let reason = if version.has_properties() {
            ReasonCode::from_u8(code).filter(|reason| allows(*reason))
        } else {
            ReasonCode::from_v3_connect_code(code)
        };
        let reason = reason.ok_or(Violation::ReasonCodeNotAllowed)?;
        if flags > 1 || (flags == 1 && reason.is_error()) {
            return Err(Violation::ConnAckFlags);
        }
        let mut connack = ConnAck {
            session_present: flags == 1,
            ..ConnAck::new(reason)
        };
        if version.has_properties() {
            read_properties(reader, PROPERTIES, |property| {
                connack.note(property);
                Ok(())
            })?;
        }
        reader.finish()?;
        if connack.auth_data.is_some() && connack.auth_method.is_none() {
            return Err(Violation::AuthMethodMissing);
        }
        Ok(connack)
    }

    fn note(&mut self, property: Property<'_>) {
        match property {
            Property::SessionExpiry(seconds) => self.session_expiry_s = Some(seconds),
            Property::ReceiveMaximum(maximum) => self.receive_maximum = Some(maximum),
            Property::MaximumQoS(0) => self.maximum_qos = QoS::AtMostOnce,
            Property::MaximumQoS(_) => self.maximum_qos = QoS::AtLeastOnce,
            Property::RetainAvailable(available) => self.retain_available = available,
            Property::MaximumPacketSize(bytes) => self.maximum_packet_size = Some(bytes),
            Property::AssignedClientId(id) => self.assigned_client_id = Some(id.into()),
            Property::TopicAliasMaximum(maximum) => self.topic_alias_maximum = maximum,
            Property::ReasonString(text) => self.reason_string = Some(text.into()),
            Property::User(name, value) => self.user_properties.push_checked(name, value),
            Property::WildcardAvailable(available) => self.wildcard_available = available,
            Property::SubscriptionIdsAvailable(available) => {
                self.subscription_ids_available = available;
            }
            Property::SharedAvailable(available) => self.shared_available = available,
            Property::ServerKeepAlive(seconds) => self.server_keep_alive_s = Some(seconds),
            Property::ResponseInformation(text) => self.response_information = Some(text.into()),
            Property::ServerReference(text) => self.server_reference = Some(text.into()),
            Property::AuthMethod(method) => self.auth_method = Some(method.into()),
            Property::AuthData(data) => self.auth_data = Some(Bytes::copy_from_slice(data)),
            _ => {}
        }
    }

    /// Appends the packet.
    pub(crate) fn write(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.push(0x20);
        put_with_length(out, |out| {
            out.push(u8::from(self.session_present));
            if version.has_properties() {
                out.push(self.reason.as_u8());
                put_properties(out, |properties| self.write_properties(properties))
            } else {
                out.push(self.reason.to_v3_connect_code());
                Ok(())
            }
        })
    }

    fn write_properties(&self, properties: &mut Properties<'_>) -> Result<(), EncodeError> {
        let only_no = |available: bool| (!available).then_some(false);
        properties.u32(id::SESSION_EXPIRY, self.session_expiry_s);
        properties.u16(
            id::RECEIVE_MAXIMUM,
            self.receive_maximum.map(NonZeroU16::get),
        );
        let maximum_qos = self.maximum_qos;
        let says_qos = maximum_qos != QoS::ExactlyOnce;
        properties.flag(
            id::MAXIMUM_QOS,
            says_qos.then_some(maximum_qos == QoS::AtLeastOnce),
        );
        properties.flag(id::RETAIN_AVAILABLE, only_no(self.retain_available));
        properties.u32(
            id::MAXIMUM_PACKET_SIZE,
            self.maximum_packet_size.map(NonZeroU32::get),
        );
        properties.binary(id::ASSIGNED_CLIENT_ID, self.assigned_client_id.as_ref())?;
        let alias_maximum = self.topic_alias_maximum;
        properties.u16(
            id::TOPIC_ALIAS_MAXIMUM,
            (alias_maximum > 0).then_some(alias_maximum),
        );
        properties.binary(id::REASON_STRING, self.reason_string.as_ref())?;
        properties.raw(self.user_properties.as_bytes());
        properties.flag(id::WILDCARD_AVAILABLE, only_no(self.wildcard_available));
        properties.flag(
            id::SUBSCRIPTION_IDS_AVAILABLE,
            only_no(self.subscription_ids_available),
        );
        properties.flag(id::SHARED_AVAILABLE, only_no(self.shared_available));
        properties.u16(id::SERVER_KEEP_ALIVE, self.server_keep_alive_s);
        properties.binary(id::RESPONSE_INFORMATION, self.response_information.as_ref())?;
        properties.binary(id::SERVER_REFERENCE, self.server_reference.as_ref())?;
        properties.binary(id::AUTH_METHOD, self.auth_method.as_ref())?;
        properties.binary(id::AUTH_DATA, self.auth_data.as_ref())
    }
}

/// Section 3.2.2.2.
fn allows(reason: ReasonCode) -> bool {
    matches!(
        reason,
        ReasonCode::Success
            | ReasonCode::UnspecifiedError
            | ReasonCode::MalformedPacket
            | ReasonCode::ProtocolError
            | ReasonCode::ImplementationSpecificError
            | ReasonCode::UnsupportedProtocolVersion
            | ReasonCode::ClientIdentifierNotValid
            | ReasonCode::BadUserNameOrPassword
            | ReasonCode::NotAuthorized
            | ReasonCode::ServerUnavailable
            | ReasonCode::ServerBusy
            | ReasonCode::Banned
            | ReasonCode::BadAuthenticationMethod
            | ReasonCode::TopicNameInvalid
            | ReasonCode::PacketTooLarge
            | ReasonCode::QuotaExceeded
            | ReasonCode::PayloadFormatInvalid
            | ReasonCode::RetainNotSupported
            | ReasonCode::QoSNotSupported
            | ReasonCode::UseAnotherServer
            | ReasonCode::ServerMoved
            | ReasonCode::ConnectionRateExceeded
    )
}
