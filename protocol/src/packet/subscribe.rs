//! SUBSCRIBE (MQTT 5 section 3.8).

use crate::property::{Allowed, Property, id, read_properties};
use crate::read::Reader;
use crate::write::{EncodeError, put_properties, put_str, put_u16, put_with_length};
use crate::{PacketId, QoS, TopicFilter, Version, Violation};

const PROPERTIES: Allowed = Allowed::new(&[id::SUBSCRIPTION_ID, id::USER_PROPERTY]);

/// A client subscribes. User properties are checked and dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// The packet id that SUBACK repeats.
    pub packet_id: PacketId,
    /// The identifier of all subscriptions of this packet, 1 to 268,435,455.
    pub subscription_id: Option<u32>,
    /// The subscriptions, at least one.
    pub filters: Vec<(TopicFilter, SubscribeOptions)>,
}

/// The options of one subscription (section 3.8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscribeOptions {
    /// The highest QoS at which the client wants the messages.
    pub qos: QoS,
    /// Whether the client's own messages stay away. Never with a shared subscription.
    pub no_local: bool,
    /// Whether the retain flag stays as it was published.
    pub retain_as_published: bool,
    /// Which retained messages to send.
    pub retain_handling: RetainHandling,
}

/// Which retained messages to send when a subscription is made (section 3.3.1.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    /// Those that match, each time: the only way before MQTT 5.
    #[default]
    Send = 0,
    /// Those that match, if the subscription did not exist before.
    SendIfNew = 1,
    /// None.
    DoNotSend = 2,
}

impl SubscribeOptions {
    /// The options as the byte of the wire: QoS in bits 0 and 1, no local, retain as published,
    /// retain handling in bits 4 and 5.
    pub const fn as_u8(self) -> u8 {
        self.qos as u8
            | (self.no_local as u8) << 2
            | (self.retain_as_published as u8) << 3
            | (self.retain_handling as u8) << 4
    }

    /// The options behind such a byte; `None` where it is not valid in MQTT 5.
    pub const fn from_u8(byte: u8) -> Option<SubscribeOptions> {
        if byte & 0b1100_0000 != 0 {
            return None;
        }
        let Some(qos) = QoS::from_u8(byte & 0b11) else {
            return None;
        };
        let retain_handling = match byte >> 4 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return None,
        };
        let no_local = byte & 0b100 != 0;
        let retain_as_published = byte & 0b1000 != 0;
        Some(SubscribeOptions {
            qos,
            no_local,
            retain_as_published,
            retain_handling,
        })
    }
}

impl Subscribe {
    /// Reads the packet from behind its fixed header.
    pub(crate) fn read(reader: &mut Reader<'_>, version: Version) -> Result<Subscribe, Violation> {
        let packet_id = reader.packet_id()?;
        let mut subscription_id = None;
        if version.has_properties() {
            read_properties(reader, PROPERTIES, |property| {
                if let Property::SubscriptionId(id) = property {
                    subscription_id = Some(id);
                }
                Ok(())
            })?;
        }
        let mut filters = Vec::with_capacity(count_filters(reader.clone(), 1)?);
        while !reader.is_empty() {
            let filter = TopicFilter::new(reader.str()?)?;
            let options = read_options(reader.u8()?, version)?;
            if options.no_local && filter.shared().is_some() {
                return Err(Violation::NoLocalOnShared);
            }
            filters.push((filter, options));
        }
        Ok(Subscribe {
            packet_id,
            subscription_id,
            filters,
        })
    }

    /// Appends the packet.
    pub(crate) fn write(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.push(0x82);
        put_with_length(out, |out| {
            put_u16(out, self.packet_id.get());
            if version.has_properties() {
                put_properties(out, |properties| {
                    properties.varint(id::SUBSCRIPTION_ID, self.subscription_id);
                    Ok(())
                })?;
            }
            for (filter, options) in &self.filters {
                put_str(out, filter.as_str())?;
                let v3_mask = if version.has_properties() { 0xFF } else { 0b11 };
                out.push(options.as_u8() & v3_mask);
            }
            Ok(())
        })
    }
}

/// How many filters are left, each with `extra` bytes after it: so that their list is allocated once
/// and not larger than it gets.
pub(super) fn count_filters(mut reader: Reader<'_>, extra: usize) -> Result<usize, Violation> {
    let mut filters = 0;
    while !reader.is_empty() {
        reader.binary()?;
        reader.take(extra)?;
        filters += 1;
    }
    if filters == 0 {
        Err(Violation::NoTopicFilter)
    } else {
        Ok(filters)
    }
}

fn read_options(byte: u8, version: Version) -> Result<SubscribeOptions, Violation> {
    let reserved = if version.has_properties() {
        0b1100_0000
    } else {
        0b1111_1100
    };
    if byte & reserved != 0 {
        return Err(Violation::SubscribeOptionsReserved);
    }
    if byte & 0b11 == 0b11 {
        return Err(Violation::SubscribeQoSInvalid);
    }
    SubscribeOptions::from_u8(byte).ok_or(Violation::RetainHandlingInvalid)
}
