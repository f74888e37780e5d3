//! P1: an acknowledgement leaves only after what it vouches for is stored by a majority.

use super::{Verdict, Violation, message};
use crate::ledger::Ledger;
use crate::stored::Stored;
use protocol::QoS;

pub(crate) const NAME: &str = "P1 ack means stored";

/// PUBACK or PUBREC has come for this message, which belongs to `group`.
pub(crate) fn acked(ledger: &Ledger, stored: &Stored, number: u32, group: usize) -> Verdict {
    let sent = &ledger.sent[number as usize];
    let relied_on = |qos: QoS| qos != QoS::AtMostOnce;
    // Sessions that end with their connection may have ended, and the device has not heard of it.
    let lasts = |device: usize| ledger.devices[device].expiry_s == Some(u32::MAX);
    let mut owed = ledger.owed(sent);
    let needed = sent.retain || owed.any(|(to, qos)| relied_on(qos) && lasts(to.device));
    let (have, members) = stored.members_with(group, number);
    if !needed || have * 2 > members {
        return Ok(());
    }
    Err(Violation {
        invariant: NAME,
        text: format!(
            "message {number} was acknowledged, and {have} of {members} members have stored it"
        ),
        about: vec![message(number)],
    })
}
