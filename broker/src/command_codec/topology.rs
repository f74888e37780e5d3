//! Commands about the topology of the fleet.

use super::read::Reader;
use super::write::write_text;
use super::{CodecError, tag};
use cluster::topology::{Member, Topology};

/// Writes a topology: its text, with the length before it as a u32.
pub(super) fn write_topology(topology: &Topology, out: &mut Vec<u8>) {
    out.push(tag::TOPOLOGY);
    let text = topology.write();
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

pub(super) fn write_move_member(moved: &Member, out: &mut Vec<u8>) {
    out.push(tag::MOVE_MEMBER);
    write_text(moved.name.as_str(), out);
    write_text(moved.link.as_str(), out);
}

/// Reads a topology, whose tag was read.
pub(super) fn read_topology(reader: &mut Reader<'_>) -> Result<Topology, CodecError> {
    let len = reader.u32()? as usize;
    let text = std::str::from_utf8(reader.take(len)?);
    let topology = text.ok().and_then(|text| Topology::read(text).ok());
    topology.ok_or(CodecError::Invalid("topology"))
}

/// Reads a member that moves, whose tag was read.
pub(super) fn read_move_member(reader: &mut Reader<'_>) -> Result<Member, CodecError> {
    let name = reader.text()?.parse();
    let link = reader.text()?.parse();
    Ok(Member {
        name: name.map_err(|_| CodecError::Invalid("name"))?,
        link: link.map_err(|_| CodecError::Invalid("address"))?,
    })
}
