//! Writing a snapshot, part by part.

use super::super::elsewhere::Elsewhere;
use super::super::mailbox::{Entry, Mailbox};
use super::super::messages::Kept;
use super::super::producers::{Producers, Progress};
use super::super::retain::PendingRetained;
use super::super::session::{Owner, Rare, Session};
use super::super::shared::Queue;
use super::super::state::State;
use super::super::table::Placed;
use super::put::{
    put_bytes, put_client, put_list, put_option, put_text, put_u8, put_u16, put_u32, put_u64,
};
use super::{MAGIC, NO_RANK, VERSION};
use crate::command::Producer;
use crate::command_codec::write_will;
use cluster::ids::{Handle, LinkNo, Rank};
use protocol::Will;

/// What stands before the tables.
pub(super) fn head(state: &State, out: &mut Vec<u8>) {
    out.extend_from_slice(&MAGIC);
    put_u32(VERSION, out);
    put_u64(state.time_ms, out);
    put_u64(state.seq, out);
    put_u32(state.reign, out);
    put_u64(state.epoch.0, out);
}

/// What stands behind the tables.
pub(super) fn tail(state: &State, out: &mut Vec<u8>) {
    producers(&state.producers, out);
    put_u32(state.wills.iter().len() as u32, out);
    for ((client, epoch), due) in state.wills.iter() {
        put_u32(client.0, out);
        put_u64(epoch.0, out);
        put_u8(u8::from(due.orphan), out);
        will(&due.will, out);
    }
    others(state, out);
    put_option(state.topology.as_ref(), out, |topology, out| {
        put_text(&topology.write(), out);
    });
}

/// What there is to do with other groups.
fn others(state: &State, out: &mut Vec<u8>) {
    put_u32(state.ends.len() as u32, out);
    for ((id, group), start_epoch) in &state.ends {
        put_text(id, out);
        put_u8(group.0, out);
        put_u64(start_epoch.0, out);
    }
    put_u32(state.ended.iter().len() as u32, out);
    for (id, start_epoch, forget_at_ms) in state.ended.iter() {
        put_text(id, out);
        put_u64(start_epoch.0, out);
        put_u64(forget_at_ms, out);
    }
    put_u32(state.wills_done.iter().len() as u32, out);
    for ((group, epoch), (), forget_at_ms) in state.wills_done.iter() {
        put_u8(group.0, out);
        put_u64(epoch.0, out);
        put_u64(forget_at_ms, out);
    }
}

fn elsewhere(elsewhere: &Elsewhere, out: &mut Vec<u8>) {
    match elsewhere {
        Elsewhere::Home(places) => {
            put_u8(0, out);
            put_u8(places.ranks, out);
            put_list(&places.groups, out, |at, out| {
                put_u8(at.group.0, out);
                put_rank(at.rank, out);
            });
        }
        Elsewhere::Guest(guest) => {
            put_u8(1, out);
            put_u64(guest.home_epoch.0, out);
            put_rank(guest.rank, out);
        }
    }
}

fn put_rank(rank: Option<Rank>, out: &mut Vec<u8>) {
    put_u8(rank.map_or(NO_RANK, |rank| rank.0), out);
}

impl Placed for Kept {
    fn put(place: Option<&Self>, out: &mut Vec<u8>) {
        let Some(kept) = place else {
            return put_u32(0, out);
        };
        put_u32(kept.refs, out);
        for field in [kept.at.segment, kept.at.record, kept.at.offset, kept.at.len] {
            put_u32(field, out);
        }
        put_u64(kept.expires_at_ms, out);
        put_u64(kept.seq, out);
        put_u8(kept.qos as u8, out);
    }
}

impl Placed for Queue {
    fn put(place: Option<&Self>, out: &mut Vec<u8>) {
        put_option(place, out, shared_queue);
    }
}

impl Placed for Session {
    fn put(place: Option<&Self>, out: &mut Vec<u8>) {
        put_option(place, out, session);
    }
}

fn shared_queue(queue: &Queue, out: &mut Vec<u8>) {
    put_text(&queue.filter, out);
    put_client(queue.last, out);
    put_list(&queue.buckets, out, |owner, out| put_client(*owner, out));
    put_u32(queue.items.len() as u32, out);
    for item in &queue.items {
        put_u32(item.message.0, out);
        put_u64(item.key, out);
        put_u8(u8::from(item.retain), out);
    }
}

fn session(session: &Session, out: &mut Vec<u8>) {
    put_text(&session.id, out);
    put_u64(session.epoch.0, out);
    put_u64(session.start_epoch.0, out);
    match session.owner {
        Owner::None => put_u8(0, out),
        Owner::Claimed {
            link,
            handle,
            contested,
        } => {
            put_u8(1 + u8::from(contested), out);
            connection(link, handle, out);
        }
        Owner::Attached { link, handle } => {
            put_u8(3, out);
            connection(link, handle, out);
        }
    }
    put_u32(session.expiry_s, out);
    put_u64(session.expires_at_ms, out);
    put_u8(u8::from(session.resumed), out);
    put_u32(session.filters.len() as u32, out);
    for filter in session.filters.iter() {
        put_u8(filter.options.as_u8(), out);
        put_u32(filter.subscription_id, out);
        put_text(filter.text, out);
    }
    put_option(session.elsewhere.as_deref(), out, elsewhere);
    put_option(session.mailbox.as_deref(), out, mailbox);
    match session.rare.as_deref() {
        Some(held) => rare(held, out),
        None => rare(&Rare::default(), out),
    }
}

fn connection(link: LinkNo, handle: Handle, out: &mut Vec<u8>) {
    put_u16(link.0, out);
    put_u32(handle.index, out);
    put_u32(handle.generation, out);
}

fn mailbox(mailbox: &Mailbox, out: &mut Vec<u8>) {
    put_u16(mailbox.first, out);
    put_u16(mailbox.sent, out);
    put_u32(mailbox.entries.len() as u32, out);
    for held in &mailbox.entries {
        entry(held, out);
    }
}

/// QoS, RETAIN, progress and whether there is more, in one byte.
fn entry(entry: &Entry, out: &mut Vec<u8>) {
    put_u32(entry.message.0, out);
    let bits = entry.qos as u8
        | u8::from(entry.retain) << 2
        | (entry.progress as u8) << 3
        | u8::from(entry.extra.is_some()) << 5;
    put_u8(bits, out);
    let Some(extra) = &entry.extra else {
        return;
    };
    put_list(
        extra.subscription_ids.as_deref().unwrap_or_default(),
        out,
        |id, out| put_u32(*id, out),
    );
    put_option(extra.shared.as_ref(), out, |origin, out| {
        put_u32(origin.queue, out);
        put_u64(origin.key, out);
        put_u8(u8::from(origin.retain), out);
    });
}

fn rare(rare: &Rare, out: &mut Vec<u8>) {
    put_option(rare.will.as_deref(), out, will);
    put_option(rare.will_due_ms.as_ref(), out, |due_ms, out| {
        put_u64(*due_ms, out);
    });
    put_list(&rare.qos2_ids, out, |id, out| put_u16(*id, out));
    put_list(&rare.cursors, out, pending_retained);
    put_u8(u8::from(rare.page_asked), out);
}

fn pending_retained(pending: &PendingRetained, out: &mut Vec<u8>) {
    put_text(&pending.filter, out);
    put_u8(
        protocol::SubscribeOptions::from(pending.options).as_u8(),
        out,
    );
    put_u32(pending.subscription_id, out);
    put_u64(pending.seq, out);
    put_option(pending.from.as_ref(), out, |from, out| {
        put_bytes(from.as_bytes(), out);
    });
}

fn producers(producers: &Producers, out: &mut Vec<u8>) {
    put_list(&producers.links, out, |link, out| {
        put_option(link.as_ref(), out, |linked, out| {
            producer(linked.producer, out);
            progress(&linked.progress, out);
        });
    });
    put_u32(producers.unlinked.len() as u32, out);
    for (who, unlinked) in &producers.unlinked {
        producer(*who, out);
        progress(&unlinked.progress, out);
        put_u64(unlinked.forget_at_ms, out);
    }
}

fn progress(progress: &Progress, out: &mut Vec<u8>) {
    put_u64(progress.high_water, out);
    put_u32(progress.refused.len() as u32, out);
    for number in &progress.refused {
        put_u64(*number, out);
    }
}

fn producer(producer: Producer, out: &mut Vec<u8>) {
    put_u32(producer.node, out);
    put_u32(producer.shard, out);
    put_u64(producer.incarnation, out);
}

fn will(will: &Will, out: &mut Vec<u8>) {
    let mut bytes = Vec::new();
    write_will(will, &mut bytes);
    put_bytes(&bytes, out);
}
