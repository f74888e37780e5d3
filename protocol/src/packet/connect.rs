//! CONNECT (MQTT 5 section 3.1).

use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;
use compact_str::CompactString;

use crate::{Message, QoS, UserProperties, Version};

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
