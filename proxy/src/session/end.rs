//! Why a connection ends, and what that means for the peer, the will and the counters.

use crate::counters::{Counter, ProxyCounters};
use cluster::frame::WillFate;
use protocol::{ReasonCode, Violation};
use std::fmt;

/// A rule of the standard about a packet's place in the conversation that a client broke. What a packet itself
/// can break is a [`Violation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// A second CONNECT.
    SecondConnect,
    /// A packet only a server sends.
    ServerPacket,
    /// More unanswered QoS 1 and 2 publishes than CONNACK allowed.
    ReceiveMaximum,
    /// A topic alias above the maximum in CONNACK.
    TopicAliasTooLarge,
    /// A topic alias that was never given a topic.
    TopicAliasUnknown,
    /// A client sent a Subscription Identifier in PUBLISH.
    SubscriptionIdFromClient,
    /// DISCONNECT gives a session an expiry that CONNECT said to have none.
    SessionExpiryRaised,
    /// AUTH without an authentication method in CONNECT.
    AuthNotInUse,
    /// A topic or filter beyond the limits, where the version has no other answer.
    TopicBeyondLimits,
}

impl Rule {
    /// The clause that is broken.
    pub const fn clause(self) -> &'static str {
        match self {
            Self::SecondConnect => "MQTT-3.1.0-2",
            Self::ServerPacket => "section 2.1.2",
            Self::ReceiveMaximum => "MQTT-3.3.4-7",
            Self::TopicAliasTooLarge => "MQTT-3.3.2-9",
            Self::TopicAliasUnknown => "section 3.3.2.3.4",
            Self::SubscriptionIdFromClient => "MQTT-3.3.4-6",
            Self::SessionExpiryRaised => "section 3.14.2.2.2",
            Self::AuthNotInUse => "MQTT-4.12.0-6",
            Self::TopicBeyondLimits => "section 4.7.3",
        }
    }

    /// The reason code to answer with.
    pub const fn reason(self) -> ReasonCode {
        match self {
            Self::SecondConnect
            | Self::ServerPacket
            | Self::TopicAliasUnknown
            | Self::SubscriptionIdFromClient
            | Self::SessionExpiryRaised
            | Self::AuthNotInUse => ReasonCode::ProtocolError,
            Self::ReceiveMaximum => ReasonCode::ReceiveMaximumExceeded,
            Self::TopicAliasTooLarge => ReasonCode::TopicAliasInvalid,
            Self::TopicBeyondLimits => ReasonCode::TopicNameInvalid,
        }
    }
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// DISCONNECT came.
    ByClient {
        /// What it said; anything but success publishes the will.
        reason: ReasonCode,
    },
    /// The peer closed the socket.
    SocketClosed,
    /// The socket failed.
    SocketError,
    /// TLS failed: its alert says why.
    TlsError,
    /// The connection does not begin with the PROXY protocol header that it must have.
    NoProxyHeader,
    /// Nothing came for 1.5 times the keep alive (MQTT-3.1.2-22).
    KeepAlive,
    /// No complete CONNECT in time.
    ConnectTimeout,
    /// The group did not answer the claim in time.
    ClaimTimeout,
    /// CONNECT was refused.
    Refused(ReasonCode),
    /// A packet that breaks the standard.
    Violation(Violation),
    /// A packet in the wrong place.
    Rule(Rule),
    /// The group refused a publish of a 3.x client, which has no way to be told and must not get a PUBACK.
    PublishRefused(ReasonCode),
    /// The answer to a request is larger than the client's Maximum Packet Size (MQTT-3.1.2-24).
    AnswerTooLarge,
    /// The group wants the connection closed; 0x8E when another one took the session over.
    Kicked(ReasonCode),
    /// A group has forgotten the connection after a time without a link, and with it what it was to answer.
    Forgotten,
    /// A publish has had no answer for too long.
    PublishUnanswered,
    /// The server shuts down.
    Drained,
}

impl End {
    /// What the peer is told: in DISCONNECT (MQTT 5), or in CONNACK when it has not had that yet.
    /// `None`: the peer ended it, or is not there to be told.
    pub(crate) fn tell(self) -> Option<ReasonCode> {
        match self {
            Self::ByClient { .. }
            | Self::SocketClosed
            | Self::SocketError
            | Self::TlsError
            | Self::NoProxyHeader
            | Self::ConnectTimeout => None,
            Self::KeepAlive => Some(ReasonCode::KeepAliveTimeout),
            Self::AnswerTooLarge => Some(ReasonCode::PacketTooLarge),
            Self::ClaimTimeout | Self::Forgotten | Self::PublishUnanswered => {
                Some(ReasonCode::ServerUnavailable)
            }
            Self::Refused(reason) | Self::PublishRefused(reason) | Self::Kicked(reason) => {
                Some(reason)
            }
            Self::Violation(violation) => Some(violation.reason()),
            Self::Rule(rule) => Some(rule.reason()),
            Self::Drained => Some(ReasonCode::ServerShuttingDown),
        }
    }

    /// Whether the peer may still have something to read: a last packet, or an alert of TLS.
    pub(crate) fn is_told(self) -> bool {
        self.tell().is_some() || self == Self::TlsError
    }

    /// What becomes of the will (MQTT-3.1.2-8, MQTT-3.14.4-3).
    pub(crate) fn will(self) -> WillFate {
        match self {
            Self::ByClient {
                reason: ReasonCode::Success,
            } => WillFate::Dropped,
            Self::Drained => WillFate::Kept,
            _ => WillFate::Published,
        }
    }

    pub(crate) fn counter(self, counters: &ProxyCounters) -> &Counter {
        match self {
            Self::ByClient { .. } => &counters.ended_by_client,
            Self::SocketClosed => &counters.ended_socket_closed,
            Self::SocketError => &counters.ended_socket_error,
            Self::TlsError => &counters.tls_errors,
            Self::NoProxyHeader => &counters.proxy_headers_refused,
            Self::KeepAlive => &counters.ended_keep_alive,
            Self::ConnectTimeout | Self::ClaimTimeout => &counters.ended_connect_timeout,
            Self::Refused(_) => &counters.connects_refused,
            Self::Violation(_) | Self::Rule(_) | Self::PublishRefused(_) | Self::AnswerTooLarge => {
                &counters.ended_violation
            }
            Self::Kicked(_) => &counters.ended_kicked,
            Self::Forgotten => &counters.ended_forgotten,
            Self::PublishUnanswered => &counters.ended_publish_unanswered,
            Self::Drained => &counters.ended_drained,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByClient { reason } => write!(f, "disconnected by the client: {reason}"),
            Self::SocketClosed => f.write_str("socket closed by the peer"),
            Self::SocketError => f.write_str("socket failed"),
            Self::TlsError => f.write_str("TLS failed"),
            Self::NoProxyHeader => f.write_str("no PROXY protocol header"),
            Self::KeepAlive => f.write_str("keep alive ran out (MQTT-3.1.2-22)"),
            Self::ConnectTimeout => f.write_str("no CONNECT in time"),
            Self::ClaimTimeout => f.write_str("the session's home did not answer in time"),
            Self::Refused(reason) => write!(f, "CONNECT refused: {reason}"),
            Self::Violation(violation) => write!(f, "{violation}"),
            Self::Rule(rule) => write!(f, "{rule:?} ({})", rule.clause()),
            Self::PublishRefused(reason) => write!(f, "publish refused: {reason}"),
            Self::AnswerTooLarge => {
                f.write_str("an answer is larger than the client takes (MQTT-3.1.2-24)")
            }
            Self::Kicked(reason) => write!(f, "ended by a group: {reason}"),
            Self::Forgotten => f.write_str("a group has forgotten what it was to answer"),
            Self::PublishUnanswered => f.write_str("a publish had no answer for five minutes"),
            Self::Drained => f.write_str("the server shuts down"),
        }
    }
}
