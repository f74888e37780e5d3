//! A session record, as people and programs see it and as it is stored.
//!
//! Stored form, version 1: one byte of version, then postcard of the head (client id, epoch) and
//! of the rest. The head can be read alone, without a copy; times of events are differences, so
//! that a client that never moved takes about a hundred bytes.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::StoreError;
use crate::limits::{HISTORY_EVENTS, RECORD_BYTES_MAX};

const VERSION: u8 = 1;

/// What is stored about a client. `{:#?}` prints it for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The client id (MQTT 5, 3.1.3.1).
    pub client_id: String,
    /// Epoch of the client's owner when this was written; higher is newer.
    pub epoch: u64,
    /// Protocol level of its last CONNECT: 3, 4 or 5.
    pub protocol_version: u8,
    /// The user it authenticated as.
    pub user: Option<String>,
    /// The node it is or was last connected to.
    pub node: String,
    /// The address it connected from.
    pub address: Option<SocketAddr>,
    /// True if it asked for a clean start (MQTT 5, 3.1.2.4).
    pub clean_start: bool,
    /// Session expiry interval in seconds; `u32::MAX`: never (MQTT 5, 3.1.2.11.2).
    pub expiry_s: u32,
    /// When it last connected, in milliseconds since 1970.
    pub connected_at_ms: u64,
    /// When that connection ended; `None` while it is connected.
    pub disconnected_at_ms: Option<u64>,
    /// The last events, oldest first, at most [`HISTORY_EVENTS`]; [`push_event`](Self::push_event).
    pub history: Vec<Event>,
    /// Its subscriptions.
    pub filters: Vec<Filter>,
}

/// Something that happened to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// What.
    pub kind: EventKind,
}

/// What can happen to a client. Reasons are MQTT 5 reason codes (2.4), also for older versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// CONNACK with success.
    Connected,
    /// CONNACK with this reason code.
    Refused(u8),
    /// The client sent DISCONNECT with this reason code.
    LeftWith(u8),
    /// The broker closed the connection for this reason.
    ClosedFor(u8),
    /// The socket ended without DISCONNECT.
    Lost,
}

/// A subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The topic filter, `$share/...` included.
    pub filter: String,
    /// Its options.
    pub options: FilterOptions,
    /// Its subscription identifier (MQTT 5, 3.8.2.1.2).
    pub subscription_id: Option<u32>,
}

/// Subscription options (MQTT 5, 3.8.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FilterOptions {
    /// Maximum quality of service, 0 to 2.
    pub qos: u8,
    /// Not to be sent what the client published itself.
    pub no_local: bool,
    /// Keep the retain flag.
    pub retain_as_published: bool,
    /// Retain handling, 0 to 2.
    pub retain_handling: u8,
}

/// The stored form behind the head.
#[derive(Serialize, Deserialize)]
struct Rest<'a> {
    flags: u8,
    protocol_version: u8,
    user: Option<&'a str>,
    node: &'a str,
    address: Option<SocketAddr>,
    expiry_s: u32,
    connected_at_ms: u64,
    /// Later than `connected_at_ms` by so much, if the connection ended.
    disconnected_after_ms: Option<i64>,
    /// Later than the event before (the first: than `connected_at_ms`) by so much; what; reason.
    history: Vec<(i64, u8, u8)>,
    filters: Vec<(&'a str, u8, u32)>,
}

const FLAG_CLEAN_START: u8 = 1;

impl Record {
    /// A record that nothing has happened to yet: of MQTT 3.1.1, until a CONNECT says otherwise.
    pub fn blank(client_id: &str) -> Self {
        Self {
            client_id: client_id.to_owned(),
            epoch: 0,
            protocol_version: 4,
            user: None,
            node: String::new(),
            address: None,
            clean_start: false,
            expiry_s: 0,
            connected_at_ms: 0,
            disconnected_at_ms: None,
            history: Vec::new(),
            filters: Vec::new(),
        }
    }

    /// Adds an event; the oldest goes when there are too many.
    pub fn push_event(&mut self, at_ms: u64, kind: EventKind) {
        self.history.push(Event { at_ms, kind });
        let surplus = self.history.len().saturating_sub(HISTORY_EVENTS);
        self.history.drain(..surplus);
    }

    /// The stored form.
    pub fn encode(&self) -> Result<Box<[u8]>, StoreError> {
        let mut before = self.connected_at_ms;
        let history = self.history.iter().map(|event| {
            let (kind, reason) = event.kind.to_bytes();
            let after = event.at_ms.wrapping_sub(before).cast_signed();
            before = event.at_ms;
            (after, kind, reason)
        });
        let after_connect = |at_ms: u64| at_ms.wrapping_sub(self.connected_at_ms).cast_signed();
        let filters = self.filters.iter().map(|filter| {
            (
                &*filter.filter,
                filter.options.to_byte(),
                filter.subscription_id.unwrap_or(0),
            )
        });
        let rest = Rest {
            flags: if self.clean_start {
                FLAG_CLEAN_START
            } else {
                0
            },
            protocol_version: self.protocol_version,
            user: self.user.as_deref(),
            node: &self.node,
            address: self.address,
            expiry_s: self.expiry_s,
            connected_at_ms: self.connected_at_ms,
            disconnected_after_ms: self.disconnected_at_ms.map(after_connect),
            history: history.collect(),
            filters: filters.collect(),
        };
        let bytes = postcard::to_extend(&(&*self.client_id, self.epoch), vec![VERSION])
            .and_then(|bytes| postcard::to_extend(&rest, bytes))
            .expect("a vector grows, and no length is unknown");
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(StoreError::TooLarge { len: bytes.len() });
        }
        Ok(bytes.into_boxed_slice())
    }

    /// Reads the stored form; nothing may follow it.
    pub fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let (client_id, epoch, rest) = Self::head(bytes)?;
        let (rest, surplus) =
            postcard::take_from_bytes::<Rest<'_>>(rest).map_err(|_| malformed("a record"))?;
        if !surplus.is_empty() {
            return Err(malformed("nothing behind a record"));
        }
        let mut at_ms = rest.connected_at_ms;
        let history = rest.history.iter().map(|(after, kind, reason)| {
            at_ms = at_ms.wrapping_add_signed(*after);
            Ok(Event {
                at_ms,
                kind: EventKind::from_bytes(*kind, *reason)?,
            })
        });
        let filters = rest
            .filters
            .iter()
            .map(|(filter, options, subscription_id)| {
                Ok(Filter {
                    filter: (*filter).to_owned(),
                    options: FilterOptions::from_byte(*options)?,
                    subscription_id: (*subscription_id != 0).then_some(*subscription_id),
                })
            });
        Ok(Self {
            client_id: client_id.to_owned(),
            epoch,
            protocol_version: rest.protocol_version,
            user: rest.user.map(str::to_owned),
            node: rest.node.to_owned(),
            address: rest.address,
            clean_start: rest.flags & FLAG_CLEAN_START != 0,
            expiry_s: rest.expiry_s,
            connected_at_ms: rest.connected_at_ms,
            disconnected_at_ms: rest
                .disconnected_after_ms
                .map(|after| rest.connected_at_ms.wrapping_add_signed(after)),
            history: history.collect::<Result<_, StoreError>>()?,
            filters: filters.collect::<Result<_, StoreError>>()?,
        })
    }

    /// Client id and epoch of a stored record, and the bytes behind them.
    pub(crate) fn head(bytes: &[u8]) -> Result<(&str, u64, &[u8]), StoreError> {
        let (version, head) = bytes.split_first().ok_or_else(|| malformed("a record"))?;
        if *version != VERSION {
            return Err(StoreError::Unsupported { version: *version });
        }
        let ((client_id, epoch), rest) = postcard::take_from_bytes::<(&str, u64)>(head)
            .map_err(|_| malformed("client id and epoch"))?;
        Ok((client_id, epoch, rest))
    }
}

impl EventKind {
    fn to_bytes(self) -> (u8, u8) {
        match self {
            Self::Connected => (0, 0),
            Self::Refused(reason) => (1, reason),
            Self::LeftWith(reason) => (2, reason),
            Self::ClosedFor(reason) => (3, reason),
            Self::Lost => (4, 0),
        }
    }

    fn from_bytes(kind: u8, reason: u8) -> Result<Self, StoreError> {
        Ok(match kind {
            0 => Self::Connected,
            1 => Self::Refused(reason),
            2 => Self::LeftWith(reason),
            3 => Self::ClosedFor(reason),
            4 => Self::Lost,
            _ => return Err(malformed("a kind of event")),
        })
    }
}

impl FilterOptions {
    /// The subscription options byte of MQTT 5 (3.8.3.1).
    pub fn to_byte(self) -> u8 {
        (self.qos & 3)
            | u8::from(self.no_local) << 2
            | u8::from(self.retain_as_published) << 3
            | (self.retain_handling & 3) << 4
    }

    /// Reads the subscription options byte of MQTT 5; reserved values are refused.
    pub fn from_byte(byte: u8) -> Result<Self, StoreError> {
        let (qos, retain_handling) = (byte & 3, byte >> 4);
        if qos > 2 || retain_handling > 2 {
            return Err(malformed("subscription options"));
        }
        let (no_local, retain_as_published) = (byte & 4 != 0, byte & 8 != 0);
        Ok(Self {
            qos,
            no_local,
            retain_as_published,
            retain_handling,
        })
    }
}

fn malformed(what: &'static str) -> StoreError {
    StoreError::Malformed { what }
}
