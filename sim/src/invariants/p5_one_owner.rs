//! P5: one owner per client id, fenced by an epoch.

use super::{Verdict, Violation, device, message};
use crate::ledger::Ledger;
use crate::net::ConnId;

pub(crate) const NAME: &str = "P5 one owner";

/// A message has come over this connection of a device: not one that was sent after a newer connection had CONNACK.
pub(crate) fn delivered(ledger: &Ledger, to: usize, conn: ConnId, number: u32) -> Verdict {
    if !is_fenced_for(ledger, to, conn, number) {
        return Ok(());
    }
    Err(Violation {
        invariant: NAME,
        text: format!(
            "message {number} came to device {to} over connection {conn}, and was sent after a newer one had CONNACK"
        ),
        about: vec![message(number), device(to)],
    })
}

/// A message that a device sent over a connection which it had left behind is acknowledged. At the home nothing is taken
/// from that any more; another group may not have heard of the newer one.
pub(crate) fn acked_stale(ledger: &Ledger, by: usize, conn: ConnId, number: u32) -> Verdict {
    if !is_fenced_for(ledger, by, conn, number) {
        return Ok(());
    }
    Err(Violation {
        invariant: NAME,
        text: format!(
            "message {number} of device {by} was taken from connection {conn}, and a newer one had CONNACK before it was sent"
        ),
        about: vec![message(number), device(by)],
    })
}

fn is_fenced_for(ledger: &Ledger, device: usize, conn: ConnId, number: u32) -> bool {
    let (newest, before) = ledger.devices[device].newest;
    let own = ledger.conns.get(&conn);
    own.is_some_and(|(_, epoch)| *epoch < newest && number >= before)
}

/// At the end each device has one connection.
pub(crate) fn at_end(connections: &[(usize, usize)]) -> Verdict {
    let more = connections.iter().find(|(_, count)| *count > 1);
    let Some((who, count)) = more else {
        return Ok(());
    };
    Err(Violation {
        invariant: NAME,
        text: format!("the proxies serve {count} connections of device {who}"),
        about: vec![device(*who)],
    })
}
