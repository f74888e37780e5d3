//! CONNACK (MQTT 5 section 3.2).

use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;
use compact_str::CompactString;

use crate::{QoS, ReasonCode, UserProperties};

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
