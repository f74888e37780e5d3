//! Commands about the topology of the fleet.

use super::read::Reader;
use super::write::write_text;
use super::{CodecError, tag};
use crate::command::Command;
use cluster::slots::GroupNo;
use cluster::topology::{HostPort, Member, MemberChange, NodeName, Topology};

/// Writes a topology: its text, with the length before it as a u32.
pub(super) fn write_topology(topology: &Topology, out: &mut Vec<u8>) {
    out.push(tag::TOPOLOGY);
    let text = topology.write();
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Writes a change of the member list. An address that is not there is an empty text.
pub(super) fn write_member_change(change: &MemberChange, out: &mut Vec<u8>) {
    match change {
        MemberChange::Move { name, link, peer } => {
            out.push(tag::MOVE_MEMBER);
            write_text(name.as_str(), out);
            write_address(link.as_ref(), out);
            write_address(peer.as_ref(), out);
        }
        MemberChange::Add { group, member } => {
            out.push(tag::ADD_MEMBER);
            out.push(group.0);
            write_member(member, out);
        }
        MemberChange::Remove { name } => {
            out.push(tag::REMOVE_MEMBER);
            write_text(name.as_str(), out);
        }
        MemberChange::Replace { name, by } => {
            out.push(tag::REPLACE_MEMBER);
            write_text(name.as_str(), out);
            write_member(by, out);
        }
    }
}

fn write_member(member: &Member, out: &mut Vec<u8>) {
    write_text(member.name.as_str(), out);
    write_text(member.link.as_str(), out);
    write_address(member.peer.as_ref(), out);
}

fn write_address(address: Option<&HostPort>, out: &mut Vec<u8>) {
    write_text(address.map_or("", HostPort::as_str), out);
}

/// Reads a command about the topology, whose tag was read.
pub(super) fn read_of_fleet(tag: u8, reader: &mut Reader<'_>) -> Result<Command, CodecError> {
    Ok(match tag {
        tag::TOPOLOGY => Command::Topology(Box::new(read_topology(reader)?)),
        _ => Command::ChangeMembers(Box::new(read_member_change(tag, reader)?)),
    })
}

fn read_topology(reader: &mut Reader<'_>) -> Result<Topology, CodecError> {
    let len = reader.u32()? as usize;
    let text = std::str::from_utf8(reader.take(len)?);
    let topology = text.ok().and_then(|text| Topology::read(text).ok());
    topology.ok_or(CodecError::Invalid("topology"))
}

fn read_member_change(tag: u8, reader: &mut Reader<'_>) -> Result<MemberChange, CodecError> {
    Ok(match tag {
        tag::MOVE_LINK => MemberChange::Move {
            name: read_name(reader)?,
            link: read_address(reader)?,
            peer: None,
        },
        tag::MOVE_MEMBER => MemberChange::Move {
            name: read_name(reader)?,
            link: read_address(reader)?,
            peer: read_address(reader)?,
        },
        tag::ADD_MEMBER => MemberChange::Add {
            group: GroupNo(reader.u8()?),
            member: read_member(reader)?,
        },
        tag::REMOVE_MEMBER => MemberChange::Remove {
            name: read_name(reader)?,
        },
        tag::REPLACE_MEMBER => MemberChange::Replace {
            name: read_name(reader)?,
            by: read_member(reader)?,
        },
        _ => return Err(CodecError::Invalid("change of members")),
    })
}

fn read_member(reader: &mut Reader<'_>) -> Result<Member, CodecError> {
    Ok(Member {
        name: read_name(reader)?,
        link: read_address(reader)?.ok_or(CodecError::Invalid("address"))?,
        peer: read_address(reader)?,
    })
}

fn read_name(reader: &mut Reader<'_>) -> Result<NodeName, CodecError> {
    let name = reader.text()?.parse();
    name.map_err(|_| CodecError::Invalid("name"))
}

fn read_address(reader: &mut Reader<'_>) -> Result<Option<HostPort>, CodecError> {
    match reader.text()? {
        "" => Ok(None),
        text => match text.parse() {
            Ok(address) => Ok(Some(address)),
            Err(_) => Err(CodecError::Invalid("address")),
        },
    }
}
