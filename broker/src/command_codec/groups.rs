//! Commands that a fleet of several groups has, both ways.

use super::read::{Reader, read_publish};
use super::write::{write_for, write_publish, write_text};
use super::{CodecError, NO_RANK, tag};
use crate::command::Command;
use crate::log::Location;
use cluster::frame::{DoneKind, ErrandDone, Join};
use cluster::ids::{Epoch, Handle};
use cluster::slots::GroupNo;

/// Writes one of them. Returns where its message begins, which then ends the command.
pub(super) fn write_of_groups(command: &Command, out: &mut Vec<u8>) -> Option<usize> {
    match command {
        Command::List { actor, group } => {
            write_for(tag::LIST, *actor, out);
            out.push(group.0);
        }
        Command::Join(join) => write_join(join, out),
        Command::End {
            from,
            to,
            client_id,
            start_epoch,
        } => write_end(tag::END, [*from, *to], client_id, *start_epoch, out),
        Command::ForeignWill {
            from, to, publish, ..
        } => {
            out.extend_from_slice(&[tag::FOREIGN_WILL, from.0, to.0]);
            return Some(write_publish(tag::PUBLISH, publish, out));
        }
        Command::ErrandDone(done) => write_errand_done(done, out),
        other => unreachable!("{other:?} is no command of several groups"),
    }
    None
}

fn write_join(join: &Join, out: &mut Vec<u8>) {
    out.push(tag::JOIN);
    out.extend_from_slice(&join.handle.index.to_le_bytes());
    out.extend_from_slice(&join.handle.generation.to_le_bytes());
    write_text(&join.client_id, out);
    out.extend_from_slice(&join.epoch.0.to_le_bytes());
    out.extend_from_slice(&join.start_epoch.0.to_le_bytes());
    out.push(join.rank.map_or(NO_RANK, |rank| rank.0));
}

fn write_end(
    tag: u8,
    [from, to]: [GroupNo; 2],
    client_id: &str,
    start_epoch: Epoch,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(&[tag, from.0, to.0]);
    write_text(client_id, out);
    out.extend_from_slice(&start_epoch.0.to_le_bytes());
}

fn write_errand_done(done: &ErrandDone, out: &mut Vec<u8>) {
    match &done.what {
        DoneKind::End {
            client_id,
            start_epoch,
        } => write_end(
            tag::END_DONE,
            [done.from, done.to],
            client_id,
            *start_epoch,
            out,
        ),
        DoneKind::Will { epoch } => {
            out.extend_from_slice(&[tag::WILL_DONE, done.from.0, done.to.0]);
            out.extend_from_slice(&epoch.0.to_le_bytes());
        }
    }
}

/// Reads one of them, whose tag was read.
pub(super) fn read_of_groups(
    tag: u8,
    reader: &mut Reader<'_>,
    at: Location,
) -> Result<Command, CodecError> {
    Ok(match tag {
        tag::LIST => Command::List {
            actor: reader.actor()?,
            group: reader.group()?,
        },
        tag::JOIN => Command::Join(Box::new(read_join(reader)?)),
        tag::END => Command::End {
            from: reader.group()?,
            to: reader.group()?,
            client_id: reader.text()?.into(),
            start_epoch: reader.epoch()?,
        },
        tag::FOREIGN_WILL => read_foreign_will(reader, at)?,
        _ => Command::ErrandDone(Box::new(read_errand_done(tag, reader)?)),
    })
}

fn read_join(reader: &mut Reader<'_>) -> Result<Join, CodecError> {
    Ok(Join {
        handle: Handle {
            index: reader.u32()?,
            generation: reader.u32()?,
        },
        client_id: reader.text()?.into(),
        epoch: reader.epoch()?,
        start_epoch: reader.epoch()?,
        rank: reader.rank()?,
    })
}

fn read_foreign_will(reader: &mut Reader<'_>, at: Location) -> Result<Command, CodecError> {
    let (from, to) = (reader.group()?, reader.group()?);
    if reader.u8()? != tag::PUBLISH {
        return Err(CodecError::Invalid("will"));
    }
    let (publish, at) = read_publish(reader, at)?;
    Ok(Command::ForeignWill {
        from,
        to,
        publish,
        at,
    })
}

fn read_errand_done(tag: u8, reader: &mut Reader<'_>) -> Result<ErrandDone, CodecError> {
    Ok(ErrandDone {
        from: reader.group()?,
        to: reader.group()?,
        what: if tag == tag::END_DONE {
            DoneKind::End {
                client_id: reader.text()?.into(),
                start_epoch: reader.epoch()?,
            }
        } else {
            DoneKind::Will {
                epoch: reader.epoch()?,
            }
        },
    })
}
