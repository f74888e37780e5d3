//! Commands to bytes.

use super::groups::write_of_groups;
use super::topology::{write_member_change, write_topology};
use super::{PlacedMessage, VERSION, tag};
use crate::command::{Command, Producer};
use cluster::frame::{Ack, Claim, Disconnect, Publish, Subscribe, Unsubscribe};
use cluster::ids::{Actor, LinkNo};
use protocol::{PacketId, Will};

/// Appends an entry's bytes to `out`, and what the log needs to know of its messages to `placed`. Offsets are from
/// where the entry begins, the end of `out` as given.
pub fn encode_entry(
    time_ms: u64,
    commands: &[Command],
    out: &mut Vec<u8>,
    placed: &mut Vec<PlacedMessage>,
) {
    let start = out.len();
    out.push(VERSION);
    out.extend_from_slice(&time_ms.to_le_bytes());
    out.extend_from_slice(&(commands.len() as u32).to_le_bytes());
    for (number, command) in commands.iter().enumerate() {
        if let Some(at) = write_command(command, out) {
            placed.push(PlacedMessage {
                command: number as u32,
                offset: (at - start) as u32,
                len: (out.len() - at) as u32,
            });
        }
    }
}

/// Writes one command. Returns where its message begins, which then ends the command.
fn write_command(command: &Command, out: &mut Vec<u8>) -> Option<usize> {
    match command {
        Command::Publish(publish, _) => return Some(write_publish(tag::PUBLISH, publish, out)),
        Command::Ack(Ack {
            actor,
            packet_id,
            kind,
        }) => {
            write_for(tag::ACK, *actor, out);
            out.extend_from_slice(&packet_id.get().to_le_bytes());
            out.push(*kind as u8);
        }
        Command::From { link, first } => {
            out.push(tag::FROM);
            out.extend_from_slice(&link.0.to_le_bytes());
            out.extend_from_slice(&first.to_le_bytes());
        }
        Command::Release { actor, packet_id } => {
            write_for(tag::RELEASE, *actor, out);
            out.extend_from_slice(&packet_id.get().to_le_bytes());
        }
        Command::Claim(claim) => write_claim(claim, out),
        Command::Attach { actor, if_free } => {
            out.extend_from_slice(&[tag::ATTACH, u8::from(*if_free), u8::from(actor.is_some())]);
            if let Some(actor) = actor {
                write_actor(*actor, out);
            }
        }
        Command::Subscribe(subscribe) => write_subscribe(subscribe, out),
        Command::Unsubscribe(unsubscribe) => write_unsubscribe(unsubscribe, out),
        Command::Disconnect(gone) => write_disconnect(gone, out),
        Command::Page { actor } => write_for(tag::PAGE, *actor, out),
        Command::Tick => out.push(tag::TICK),
        Command::LeaderStart => out.push(tag::LEADER_START),
        Command::LinkUp { link, producer } => write_link_up(*link, *producer, out),
        Command::LinkDown { link } => write_link_down(*link, out),
        Command::WillPublish {
            client,
            epoch,
            publish,
            ..
        } => {
            write_for(
                tag::WILL_PUBLISH,
                Actor {
                    client: *client,
                    epoch: *epoch,
                },
                out,
            );
            return Some(write_publish(tag::PUBLISH, publish, out));
        }
        Command::Relocate { message, copy, .. } => {
            out.push(tag::RELOCATE);
            out.extend_from_slice(&message.place.to_le_bytes());
            out.extend_from_slice(&message.seq.to_le_bytes());
            let at = out.len();
            copy.write_to(out);
            return Some(at);
        }
        Command::List { .. }
        | Command::Join(_)
        | Command::End { .. }
        | Command::ForeignWill { .. }
        | Command::ErrandDone(_) => return write_of_groups(command, out),
        Command::Topology(topology) => write_topology(topology, out),
        Command::ChangeMembers(change) => write_member_change(change, out),
    }
    None
}

fn write_link_up(link: LinkNo, producer: Producer, out: &mut Vec<u8>) {
    out.push(tag::LINK_UP);
    out.extend_from_slice(&link.0.to_le_bytes());
    out.extend_from_slice(&producer.node.to_le_bytes());
    out.extend_from_slice(&producer.shard.to_le_bytes());
    out.extend_from_slice(&producer.incarnation.to_le_bytes());
}

fn write_link_down(link: LinkNo, out: &mut Vec<u8>) {
    out.push(tag::LINK_DOWN);
    out.extend_from_slice(&link.0.to_le_bytes());
}

/// Tag and fields in one piece, then the message: a few copies on the hot path.
pub(super) fn write_publish(tag: u8, publish: &Publish, out: &mut Vec<u8>) -> usize {
    let mut head = [0; 16];
    head[0] = tag;
    head[1..5].copy_from_slice(&publish.actor.client.0.to_le_bytes());
    head[5..13].copy_from_slice(&publish.actor.epoch.0.to_le_bytes());
    let id = publish.packet_id.map_or(0, PacketId::get);
    head[13..15].copy_from_slice(&id.to_le_bytes());
    head[15] = publish.qos as u8 | u8::from(publish.retain) << 2;
    out.extend_from_slice(&head);
    let at = out.len();
    publish.message.write_to(out);
    at
}

fn write_claim(claim: &Claim, out: &mut Vec<u8>) {
    out.push(tag::CLAIM);
    out.extend_from_slice(&claim.handle.index.to_le_bytes());
    out.extend_from_slice(&claim.handle.generation.to_le_bytes());
    out.push(claim.version as u8);
    out.push(u8::from(claim.clean_start) | u8::from(claim.will.is_some()) << 1);
    out.extend_from_slice(&claim.expiry_s.to_le_bytes());
    write_text(&claim.client_id, out);
    if let Some(will) = &claim.will {
        write_will(will, out);
    }
}

/// A will: its options and its message.
pub(crate) fn write_will(will: &Will, out: &mut Vec<u8>) {
    out.push(will.qos as u8 | u8::from(will.retain) << 2);
    out.extend_from_slice(&will.delay_s.to_le_bytes());
    will.message.write_to(out);
}

fn write_subscribe(subscribe: &Subscribe, out: &mut Vec<u8>) {
    write_for(tag::SUBSCRIBE, subscribe.actor, out);
    out.extend_from_slice(&subscribe.packet_id.get().to_le_bytes());
    out.extend_from_slice(&subscribe.subscription_id.to_le_bytes());
    out.extend_from_slice(&(subscribe.filters.len() as u32).to_le_bytes());
    for (filter, options) in &subscribe.filters {
        out.push(options.as_u8());
        write_text(filter.as_str(), out);
    }
}

fn write_unsubscribe(unsubscribe: &Unsubscribe, out: &mut Vec<u8>) {
    write_for(tag::UNSUBSCRIBE, unsubscribe.actor, out);
    out.extend_from_slice(&unsubscribe.packet_id.get().to_le_bytes());
    out.extend_from_slice(&(unsubscribe.filters.len() as u32).to_le_bytes());
    for filter in &unsubscribe.filters {
        write_text(filter.as_str(), out);
    }
}

fn write_disconnect(gone: &Disconnect, out: &mut Vec<u8>) {
    write_for(tag::DISCONNECT, gone.actor, out);
    out.push(u8::from(gone.expiry_s.is_some()));
    if let Some(expiry_s) = gone.expiry_s {
        out.extend_from_slice(&expiry_s.to_le_bytes());
    }
    out.push(gone.will as u8);
}

pub(super) fn write_for(tag: u8, actor: Actor, out: &mut Vec<u8>) {
    out.push(tag);
    write_actor(actor, out);
}

fn write_actor(actor: Actor, out: &mut Vec<u8>) {
    out.extend_from_slice(&actor.client.0.to_le_bytes());
    out.extend_from_slice(&actor.epoch.0.to_le_bytes());
}

/// Filters and client ids have at most 65,535 bytes, since they came in an MQTT string; names and addresses have fewer.
pub(super) fn write_text(text: &str, out: &mut Vec<u8>) {
    let len = u16::try_from(text.len()).expect("at most 65,535 bytes");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}
