//! The log behind the newest snapshots, of a group without members.

use super::{Restored, replay_journal};
use crate::command_codec;
use crate::group::GROUP_STREAM;
use crate::log::{LogError, Record, RecordKind, STORE_STREAM};
use crate::machine::Effects;
use std::io;

/// Applies all records of both streams.
pub(crate) fn replay(
    at: &mut Restored,
    records: impl Iterator<Item = Result<Record, LogError>>,
) -> Result<(), LogError> {
    let mut effects = Effects::default();
    for record in records {
        let record = record?;
        if record.kind == RecordKind::Truncate {
            let text = "the log is one of a replicated group";
            return Err(LogError::snapshot("replay", io::Error::other(text)));
        }
        match record.stream {
            GROUP_STREAM => {
                let entry = command_codec::decode_entry(record.index, &record.body, record.at)
                    .map_err(|error| {
                        LogError::snapshot("decode an entry of", io::Error::other(error))
                    })?;
                for command in entry.commands {
                    at.state
                        .apply(entry.index, entry.time_ms, command, &mut effects);
                    effects.clear();
                }
                at.applied = record.index;
            }
            STORE_STREAM => {
                replay_journal(&mut *at.store, &record)?;
                at.journalled = record.index;
            }
            _ => {}
        }
    }
    Ok(())
}
