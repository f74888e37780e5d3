//! Errands: the same frames on their way out of the group that asks and into the one that does.

use super::read::Reader;
use super::write::{put_epoch, put_group, put_text, put_will};
use super::{FLAGS, WireError};
use crate::frame::{DoneKind, Errand, ErrandDone, ErrandKind};

/// Of an errand: what it is about. One bit.
pub(super) const KINDS: u8 = 0b1;
const END: u8 = 0;
const WILL: u8 = 1;

pub(super) fn write_errand(tag: u8, errand: &Errand, out: &mut Vec<u8>) {
    let kind = match errand.what {
        ErrandKind::End { .. } => END,
        ErrandKind::Will { .. } => WILL,
    };
    out.push(tag | kind << FLAGS);
    put_group(errand.from, out);
    put_group(errand.to, out);
    match &errand.what {
        ErrandKind::End {
            client_id,
            start_epoch,
        } => {
            put_text(client_id, out);
            put_epoch(*start_epoch, out);
        }
        ErrandKind::Will { epoch, will } => {
            put_epoch(*epoch, out);
            put_will(will, out);
        }
    }
}

pub(super) fn write_done(tag: u8, done: &ErrandDone, out: &mut Vec<u8>) {
    let kind = match done.what {
        DoneKind::End { .. } => END,
        DoneKind::Will { .. } => WILL,
    };
    out.push(tag | kind << FLAGS);
    put_group(done.from, out);
    put_group(done.to, out);
    match &done.what {
        DoneKind::End {
            client_id,
            start_epoch,
        } => {
            put_text(client_id, out);
            put_epoch(*start_epoch, out);
        }
        DoneKind::Will { epoch } => put_epoch(*epoch, out),
    }
}

pub(super) fn read_errand(kind: u8, reader: &mut Reader<'_>) -> Result<Errand, WireError> {
    Ok(Errand {
        from: reader.group()?,
        to: reader.group()?,
        what: if kind == END {
            ErrandKind::End {
                client_id: reader.client_id()?,
                start_epoch: reader.epoch()?,
            }
        } else {
            ErrandKind::Will {
                epoch: reader.epoch()?,
                will: Box::new(reader.will()?),
            }
        },
    })
}

pub(super) fn read_done(kind: u8, reader: &mut Reader<'_>) -> Result<ErrandDone, WireError> {
    Ok(ErrandDone {
        from: reader.group()?,
        to: reader.group()?,
        what: if kind == END {
            DoneKind::End {
                client_id: reader.client_id()?,
                start_epoch: reader.epoch()?,
            }
        } else {
            DoneKind::Will {
                epoch: reader.epoch()?,
            }
        },
    })
}
