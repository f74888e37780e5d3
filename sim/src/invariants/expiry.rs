//! Sessions and messages expire: not before their time, and not long after.

use super::{Verdict, Violation, device, message};
use crate::ledger::{Known, Ledger, Receipt};

pub(crate) const NAME: &str = "expiry";

/// How much later than by the devices' time something may be over: a proxy's lease, a link that is found dead, a group
/// without a leader.
pub(crate) const LATE_US: u64 = 40_000_000;
/// How much later a message may be sent: group and proxy each count what is left of it in whole seconds.
const ROUNDED_US: u64 = 3_000_000;

/// CONNACK says whether there was a session. `exact`: nothing in this world keeps a group from knowing the time and who
/// is connected.
pub(crate) fn connected(
    ledger: &Ledger,
    who: usize,
    (clean, present): (bool, bool),
    now: u64,
    exact: bool,
) -> Verdict {
    let standing = &ledger.devices[who];
    let (Known::Some { left: Some(left) }, Some(expiry_s)) = (standing.known, standing.expiry_s)
    else {
        return Ok(());
    };
    if clean || expiry_s == u32::MAX {
        return Ok(());
    }
    let latest = left.tried_at.map_or(left.at, |tried| tried.max(left.at));
    let due = latest + u64::from(expiry_s) * 1_000_000;
    let early = !present && standing.is_alive(now, exact);
    let late = exact && present && now > due + LATE_US;
    if !early && !late {
        return Ok(());
    }
    let what = if early {
        "is over before"
    } else {
        "lives on after"
    };
    Err(Violation {
        invariant: NAME,
        text: format!("the session of device {who} {what} its {expiry_s} s"),
        about: vec![device(who)],
    })
}

/// A device has got a message. What was not sent before it expired is not sent.
pub(crate) fn received(ledger: &Ledger, to: usize, receipt: &Receipt, exact: bool) -> Verdict {
    let sent = &ledger.sent[receipt.number as usize];
    let (Some(expiry_s), Some(acked_at)) = (sent.expiry_s, sent.acked_at) else {
        return Ok(());
    };
    let Some((connected_at, _)) = ledger.conns.get(&receipt.conn) else {
        return Ok(());
    };
    let due = acked_at + u64::from(expiry_s) * 1_000_000 + ROUNDED_US;
    if !exact || receipt.dup || *connected_at <= due {
        return Ok(());
    }
    let number = receipt.number;
    Err(Violation {
        invariant: NAME,
        text: format!(
            "message {number} has {expiry_s} s, and came to device {to} on a connection that began later"
        ),
        about: vec![message(number), device(to)],
    })
}
