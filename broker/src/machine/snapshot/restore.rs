//! Reading a snapshot: the parts, then the indexes over them, then whether all of it fits together.

use super::super::elsewhere::{Elsewhere, Guest, Places};
use super::super::filters::{FilterList, HeldFilter};
use super::super::mailbox::{Entry, Extra, Mailbox, Progress, SharedOrigin, TAKEN};
use super::super::messages::{Kept, MessageKey, Messages};
use super::super::producers::{self, Linked, Producers, Unlinked};
use super::super::retain::PendingRetained;
use super::super::retained::{Cursor, RetainedEntry};
use super::super::session::{Clients, Owner, Rare, Session};
use super::super::shared::{Item, Queue, SharedQueues};
use super::super::state::State;
use super::super::subscriptions::{QueueNo, Subscriber};
use super::super::table::{Placed, Table};
use super::super::timers::TimerKind;
use super::super::wills::DueWill;
use super::read::Fields;
use super::{MAGIC, OLDEST_VERSION, SnapshotError, VERSION};
use crate::command::Producer;
use crate::limits::{MachineLimits, PACKET_IDS, REFUSED_NUMBERS};
use cluster::frame::{Listed, StoredAt};
use cluster::ids::{ClientNo, Handle, Rank};
use cluster::topology::Topology;
use protocol::{QoS, SubscribeOptions, TopicFilter};
use std::io::Read;
use std::sync::Arc;

type Part<T> = Result<T, SnapshotError>;

pub(super) fn state(from: &mut dyn Read, limits: MachineLimits) -> Part<State> {
    let mut fields = Fields(from);
    let fields = &mut fields;
    if fields.u32()? != u32::from_le_bytes(MAGIC) {
        return Err(SnapshotError::Damaged("it does not begin like one"));
    }
    let version = fields.u32()?;
    if !(OLDEST_VERSION..=VERSION).contains(&version) {
        return Err(SnapshotError::Version(version));
    }
    let mut state = State::new(limits);
    state.time_ms = fields.u64()?;
    state.seq = fields.u64()?;
    state.reign = fields.u32()?;
    state.epoch = fields.epoch()?;
    state.messages = messages(fields)?;
    let queues = table(fields, |f| f.option(shared_queue))?;
    let shared = queues.and_then(SharedQueues::of_table);
    state.shared = shared.ok_or(SnapshotError::Damaged("numbers of shared queues"))?;
    let sessions = table(fields, |f| f.option(|f| session(f, version)))?;
    let clients = sessions.and_then(Clients::of_table);
    state.clients = clients.ok_or(SnapshotError::Damaged("client numbers"))?;
    let retained = fields.list(|f| Ok((f.text()?, f.u32()?, f.u64()?)))?;
    for (topic, message, index) in retained {
        state.retained.set(&topic, RetainedEntry { message, index });
    }
    state.producers = producers(fields, version)?;
    let wills = fields.list(|f| {
        let key = (ClientNo(f.u32()?), f.epoch()?);
        Ok((
            key,
            DueWill {
                orphan: f.flag()?,
                will: f.will()?,
            },
        ))
    })?;
    for ((client, epoch), due) in wills {
        state.wills.insert(client, epoch, due);
    }
    if version >= 3 {
        others(fields, &mut state)?;
    }
    if version >= 4 {
        state.topology = fields.option(topology)?;
    }
    if fields.0.read(&mut [0])? != 0 {
        return Err(SnapshotError::Damaged("it goes on after its end"));
    }
    state.check_references()?;
    state.build_indexes()?;
    Ok(state)
}

fn others(fields: &mut Fields<'_>, state: &mut State) -> Part<()> {
    let ends = fields.list(|f| Ok(((f.text()?.into(), f.group()?), f.epoch()?)))?;
    state.ends = ends.into_iter().collect();
    for (id, start_epoch, at_ms) in fields.list(|f| Ok((f.text()?, f.epoch()?, f.u64()?)))? {
        state.ended.put(id.into(), start_epoch, at_ms);
    }
    for (group, epoch, at_ms) in fields.list(|f| Ok((f.group()?, f.epoch()?, f.u64()?)))? {
        state.wills_done.put((group, epoch), (), at_ms);
    }
    Ok(())
}

fn topology(fields: &mut Fields<'_>) -> Part<Arc<Topology>> {
    let read = Topology::read(&fields.text()?);
    read.map(Arc::new)
        .map_err(|_| SnapshotError::Damaged("a topology is none"))
}

fn elsewhere(fields: &mut Fields<'_>) -> Part<Elsewhere> {
    match fields.u8()? {
        0 => Ok(Elsewhere::Home(Places {
            ranks: fields.group()?.0,
            groups: fields.list(|f| {
                Ok(Listed {
                    group: f.group()?,
                    rank: f.rank()?,
                })
            })?,
        })),
        1 => Ok(Elsewhere::Guest(Guest {
            home_epoch: fields.epoch()?,
            rank: fields.rank()?,
        })),
        _ => Err(SnapshotError::Damaged("the home of a session")),
    }
}

/// `None` if the parts contradict each other.
fn table<T: Placed>(
    fields: &mut Fields<'_>,
    place: impl Fn(&mut Fields<'_>) -> Part<Option<T>>,
) -> Part<Option<Table<T>>> {
    let (places, free) = (fields.list(place)?, fields.list(Fields::u32)?);
    Ok(Table::from_parts(places, free))
}

fn messages(fields: &mut Fields<'_>) -> Part<Messages> {
    let kept = table(fields, |f| {
        let refs = f.u32()?;
        if refs == 0 {
            return Ok(None);
        }
        let at = StoredAt {
            segment: f.u32()?,
            record: f.u32()?,
            offset: f.u32()?,
            len: f.u32()?,
        };
        Ok(Some(Kept {
            at,
            refs,
            expires_at_ms: f.u64()?,
            seq: f.u64()?,
            qos: qos(f.u8()?)?,
        }))
    })?;
    let kept = kept.ok_or(SnapshotError::Damaged("places of messages"))?;
    let newest_segment = fields.option(Fields::u32)?;
    Ok(Messages::of_table(kept, newest_segment))
}

fn shared_queue(fields: &mut Fields<'_>) -> Part<Queue> {
    let filter = fields.filter()?;
    let (kind, ..) = filter
        .shared()
        .ok_or(SnapshotError::Damaged("a shared filter"))?;
    let mut queue = Queue::new(filter.as_str(), kind);
    queue.last = fields.client()?;
    queue.buckets = fields.list(Fields::client)?;
    if ![0, crate::limits::SHARED_BUCKETS].contains(&queue.buckets.len()) {
        return Err(SnapshotError::Damaged("parts of an ordered queue"));
    }
    let items = fields.list(|f| {
        Ok(Item {
            message: MessageKey(f.u32()?),
            key: f.u64()?,
            retain: f.flag()?,
        })
    })?;
    queue.items = items.into();
    Ok(queue)
}

fn session(fields: &mut Fields<'_>, version: u32) -> Part<Session> {
    let id = fields.text()?.into_boxed_str();
    let epoch = fields.epoch()?;
    // Before version 3 nobody asked when a session began.
    let start_epoch = if version < 3 { epoch } else { fields.epoch()? };
    let owner = owner(fields)?;
    let expiry_s = fields.u32()?;
    let expires_at_ms = fields.u64()?;
    let resumed = fields.flag()?;
    let mut filters = FilterList::default();
    for (options, subscription_id, filter) in
        fields.list(|f| Ok((options(f.u8()?)?, f.u32()?, f.filter()?)))?
    {
        filters.set(HeldFilter {
            text: filter.as_str(),
            options,
            subscription_id,
        });
    }
    // Before version 3 there was one group.
    let elsewhere = match version {
        ..3 => None,
        _ => fields.option(elsewhere)?,
    };
    let rank = Elsewhere::rank(elsewhere.as_ref());
    let mailbox = fields.option(|f| mailbox(f, rank))?.map(Box::new);
    let rare = Rare {
        will: fields.option(Fields::will)?,
        will_due_ms: fields.option(Fields::u64)?,
        qos2_ids: fields.list(Fields::u16)?,
        cursors: fields.list(pending_retained)?,
        page_asked: fields.flag()?,
        shared: Vec::new(),
    };
    let rare = (!rare.is_empty()).then(|| Box::new(rare));
    Ok(Session {
        id,
        epoch,
        start_epoch,
        owner,
        expiry_s,
        expires_at_ms,
        resumed,
        filters,
        mailbox,
        rare,
        elsewhere: elsewhere.map(Box::new),
    })
}

fn owner(fields: &mut Fields<'_>) -> Part<Owner> {
    let kind = fields.u8()?;
    if kind == 0 {
        return Ok(Owner::None);
    }
    let link = fields.link()?;
    let handle = Handle {
        index: fields.u32()?,
        generation: fields.u32()?,
    };
    match kind {
        1 => Ok(Owner::Claimed {
            link,
            handle,
            contested: false,
        }),
        2 => Ok(Owner::Claimed {
            link,
            handle,
            contested: true,
        }),
        3 => Ok(Owner::Attached { link, handle }),
        _ => Err(SnapshotError::Damaged("an owner")),
    }
}

fn mailbox(fields: &mut Fields<'_>, rank: Rank) -> Part<Mailbox> {
    let (first, sent) = (fields.u16()?, fields.u16()?);
    let entries = fields.list(entry)?;
    if first >= PACKET_IDS || sent > PACKET_IDS || usize::from(sent) > entries.len() {
        return Err(SnapshotError::Damaged("a window"));
    }
    Ok(Mailbox {
        entries: entries.into(),
        sent,
        first,
        ..Mailbox::of_rank(rank)
    })
}

fn entry(fields: &mut Fields<'_>) -> Part<Entry> {
    let message = MessageKey(fields.u32()?);
    let bits = fields.u8()?;
    let progress = match bits >> 3 & 0b11 {
        0 => Progress::Open,
        1 => Progress::Received,
        2 => Progress::Done,
        _ => return Err(SnapshotError::Damaged("the progress of an entry")),
    };
    let has_extra = bits & 0b10_0000 != 0;
    let extra = if has_extra {
        Some(Box::new(extra(fields)?))
    } else {
        None
    };
    let qos = qos(bits & 0b11)?;
    Ok(Entry {
        message,
        qos,
        retain: bits & 0b100 != 0,
        progress,
        extra,
    })
}

fn extra(fields: &mut Fields<'_>) -> Part<Extra> {
    let ids = fields.list(Fields::u32)?;
    let shared = fields.option(|f| {
        Ok(SharedOrigin {
            queue: f.u32()?,
            key: f.u64()?,
            retain: f.flag()?,
        })
    })?;
    Ok(Extra {
        subscription_ids: (!ids.is_empty()).then(|| ids.into_boxed_slice()),
        shared,
    })
}

fn pending_retained(fields: &mut Fields<'_>) -> Part<PendingRetained> {
    Ok(PendingRetained {
        filter: fields.filter()?.as_str().into(),
        options: options(fields.u8()?)?.into(),
        subscription_id: fields.u32()?,
        seq: fields.u64()?,
        from: fields.option(|f| Ok(Cursor::from_bytes(&f.bytes()?)))?,
    })
}

fn producers(fields: &mut Fields<'_>, version: u32) -> Part<Producers> {
    let links = fields.list(|f| {
        f.option(|f| {
            Ok(Linked {
                producer: producer(f)?,
                progress: progress(f, version)?,
            })
        })
    })?;
    let unlinked = fields.list(|f| {
        let who = producer(f)?;
        Ok((
            who,
            Unlinked {
                progress: progress(f, version)?,
                forget_at_ms: f.u64()?,
            },
        ))
    })?;
    Ok(Producers {
        links,
        unlinked: unlinked.into_iter().collect(),
    })
}

fn progress(fields: &mut Fields<'_>, version: u32) -> Part<producers::Progress> {
    let high_water = fields.u64()?;
    // Before version 2 nothing was sent again.
    let refused = match version {
        OLDEST_VERSION => Vec::new(),
        _ => fields.list(Fields::u64)?,
    };
    if !refused.is_sorted() || refused.len() > REFUSED_NUMBERS {
        return Err(SnapshotError::Damaged("numbers of refused publishes"));
    }
    Ok(producers::Progress {
        high_water,
        refused: refused.into(),
    })
}

fn producer(fields: &mut Fields<'_>) -> Part<Producer> {
    Ok(Producer {
        node: fields.u32()?,
        shard: fields.u32()?,
        incarnation: fields.u64()?,
    })
}

fn qos(level: u8) -> Part<QoS> {
    QoS::from_u8(level).ok_or(SnapshotError::Damaged("a QoS"))
}

fn options(byte: u8) -> Part<SubscribeOptions> {
    SubscribeOptions::from_u8(byte).ok_or(SnapshotError::Damaged("subscription options"))
}

impl State {
    /// Every message is referred to exactly as often as it says.
    fn check_references(&self) -> Part<()> {
        let mut found = vec![0_u32; self.messages.table.places()];
        let mut refer = |key: MessageKey| {
            let count = found.get_mut(key.0 as usize);
            count
                .map(|count| *count += 1)
                .ok_or(SnapshotError::Damaged("a reference to no message"))
        };
        for mailbox in self
            .clients
            .iter()
            .filter_map(|(_, session)| session.mailbox.as_ref())
        {
            for entry in mailbox
                .entries
                .iter()
                .filter(|entry| entry.message != TAKEN)
            {
                refer(entry.message)?;
            }
        }
        for item in self.shared.iter().flat_map(|(_, queue)| &queue.items) {
            refer(item.message)?;
        }
        for (_, entry) in self.retained.iter() {
            refer(MessageKey(entry.message))?;
        }
        let refs = |number| self.messages.table.get(number).map_or(0, |kept| kept.refs);
        let fits = (0..)
            .zip(&found)
            .all(|(number, count)| refs(number) == *count);
        if fits {
            Ok(())
        } else {
            Err(SnapshotError::Damaged("references to a message"))
        }
    }

    /// What follows from the parts: subscriptions, members, timers, sums.
    fn build_indexes(&mut self) -> Part<()> {
        for (number, queue) in self.shared.iter() {
            let filter = TopicFilter::new(&queue.filter).expect("read as one");
            let subscriber = Subscriber::Shared(QueueNo(number));
            self.subscriptions.insert(filter.inner(), subscriber);
        }
        let clients: Vec<ClientNo> = self.clients.iter().map(|(client, _)| client).collect();
        for client in clients {
            self.index_session(client)?;
        }
        self.index_queues()?;
        for (topic, entry) in self.retained.iter() {
            let kept = *self.messages.get(MessageKey(entry.message));
            self.counters.retained_bytes += kept.len();
            if kept.expires_at_ms != u64::MAX {
                self.retained_expiry
                    .insert((kept.expires_at_ms, kept.seq), topic.into());
            }
        }
        Ok(())
    }

    fn index_session(&mut self, client: ClientNo) -> Part<()> {
        let session = self.clients.get_mut(client).expect("listed");
        self.counters.guests += u64::from(session.guest().is_some());
        if session.owner == Owner::None && session.expires_at_ms != u64::MAX {
            self.timers
                .set(session.expires_at_ms, client, TimerKind::Expiry);
        }
        if let Some(due_ms) = session.rare.as_ref().and_then(|rare| rare.will_due_ms) {
            self.timers.set(due_ms, client, TimerKind::Will);
        }
        self.counters.attached += u64::from(session.attached().is_some());
        if let Some(mailbox) = &mut session.mailbox {
            self.counters.entries += mailbox.sum_up(&self.messages);
        }
        let filters: Vec<_> = session
            .filters
            .iter()
            .map(|held| (held.to_filter(), held.options, held.subscription_id))
            .collect();
        for (filter, options, subscription_id) in filters {
            if filter.shared().is_some() && self.shared.find(filter.as_str()).is_none() {
                return Err(SnapshotError::Damaged("a member of no shared queue"));
            }
            self.register(client, &filter, options, subscription_id);
            self.counters.subscriptions += 1;
        }
        Ok(())
    }

    fn index_queues(&mut self) -> Part<()> {
        let numbers: Vec<u32> = self.shared.iter().map(|(number, _)| number).collect();
        for number in numbers {
            let queue = self.shared.get_mut(number);
            if queue.members.is_empty() {
                return Err(SnapshotError::Damaged("a shared queue without members"));
            }
            let lens = queue
                .items
                .iter()
                .map(|item| self.messages.get(item.message).len());
            queue.bytes = lens.sum();
            self.counters.entries += queue.items.len() as u64;
        }
        let origins =
            self.clients.iter().filter_map(|(_, session)| {
                let entries = session.mailbox.as_ref()?.entries.iter();
                Some(entries.filter_map(move |entry| {
                    entry.extra.as_ref()?.shared.map(|o| (session, o, entry))
                }))
            });
        for (session, origin, entry) in origins.flatten() {
            let is_member = session.shared().contains(&origin.queue);
            if entry.progress != Progress::Done && !is_member {
                return Err(SnapshotError::Damaged("an entry of no shared queue"));
            }
        }
        Ok(())
    }
}
