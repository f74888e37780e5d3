//! P1: an acknowledgement leaves only after what it vouches for is stored by a majority.

use super::{Verdict, Violation, message};
use crate::ledger::Ledger;
use crate::stored::Stored;
use protocol::QoS;

pub(crate) const NAME: &str = "P1 ack means stored";

/// PUBACK or PUBREC has come for this message, which belongs to `group`. `exact`: nothing in this world keeps a group from
/// knowing the time and who is connected.
pub(crate) fn acked(
    ledger: &Ledger,
    stored: &Stored,
    number: u32,
    group: usize,
    (now, exact): (u64, bool),
) -> Verdict {
    let sent = &ledger.sent[number as usize];
    let relied_on = |qos: QoS| qos != QoS::AtMostOnce;
    // Sessions that end with their connection, or have expired, may be over before their device hears of it.
    let lasts = |device: usize| ledger.devices[device].is_alive(now, exact);
    let mut owed = ledger.owed(sent);
    let mut sharers = sent.shared.iter().flat_map(|shared| &shared.members);
    let is_shared = sharers
        .any(|(device, session)| lasts(*device) && ledger.devices[*device].session == *session);
    let needed =
        sent.retain || is_shared || owed.any(|(to, qos)| relied_on(qos) && lasts(to.device));
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
