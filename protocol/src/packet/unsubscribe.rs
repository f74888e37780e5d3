//! UNSUBSCRIBE (MQTT 5 section 3.10).

use super::subscribe::count_filters;
use crate::property::{Allowed, id, read_properties};
use crate::read::Reader;
use crate::write::{EncodeError, put_str, put_u16, put_with_length};
use crate::{PacketId, TopicFilter, Version, Violation};

const PROPERTIES: Allowed = Allowed::new(&[id::USER_PROPERTY]);

/// A client unsubscribes. User properties are checked and dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    /// The packet id that UNSUBACK repeats.
    pub packet_id: PacketId,
    /// The filters, at least one; share prefixes included.
    pub filters: Vec<TopicFilter>,
}

impl Unsubscribe {
    /// Reads the packet from behind its fixed header.
    pub(crate) fn read(
        reader: &mut Reader<'_>,
        version: Version,
    ) -> Result<Unsubscribe, Violation> {
        let packet_id = reader.packet_id()?;
        if version.has_properties() {
            read_properties(reader, PROPERTIES, |_| Ok(()))?;
        }
        let mut filters = Vec::with_capacity(count_filters(reader.clone(), 0)?);
        while !reader.is_empty() {
            filters.push(TopicFilter::new(reader.str()?)?);
        }
        Ok(Unsubscribe { packet_id, filters })
    }

    /// Appends the packet.
    pub(crate) fn write(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.push(0xA2);
        put_with_length(out, |out| {
            put_u16(out, self.packet_id.get());
            if version.has_properties() {
                out.push(0);
            }
            self.filters
                .iter()
                .try_for_each(|filter| put_str(out, filter.as_str()))
        })
    }
}
