//! A message goes to one member of a shared subscription, and if it is acknowledged and there is a member, it does go.

use super::{Verdict, Violation, message, times};
use crate::ledger::{Kind, Ledger, Receipt};
use protocol::QoS;

pub(crate) const NAME: &str = "shared subscriptions";

/// A device has got a message; the receipt is its newest. What a member does not acknowledge at QoS 1 goes to another.
pub(crate) fn received(ledger: &Ledger, receipt: &Receipt) -> Verdict {
    let sent = &ledger.sent[receipt.number as usize];
    if sent.shared.is_none() || sent.kind != Kind::Publish {
        return Ok(());
    }
    let is_once = |it: &Receipt| sent.qos == QoS::AtMostOnce || it.qos == QoS::ExactlyOnce;
    let all = ledger.devices.iter().flat_map(|device| &device.got);
    let times = times(all, receipt.number, is_once);
    if times <= 1 {
        return Ok(());
    }
    let number = receipt.number;
    Err(Violation {
        invariant: NAME,
        text: format!(
            "message {number}, sent at {:?}, came to {times} members",
            sent.qos
        ),
        about: vec![message(number)],
    })
}

/// Everybody is back, and has had time.
pub(crate) fn at_end(ledger: &Ledger) -> Verdict {
    for (number, sent) in ledger.sent.iter().enumerate() {
        let Some(shared) = &sent.shared else { continue };
        if sent.acked_at.is_none() || sent.expiry_s.is_some() {
            continue;
        }
        // A member that was sent it at QoS 2 keeps it, and one that has unsubscribed since keeps it at any QoS.
        let may_be_gone = ledger.own_ended || (ledger.sharer_ended && sent.qos == QoS::ExactlyOnce);
        let stays = |(device, session): &(usize, u32)| ledger.devices[*device].session == *session;
        if may_be_gone || !shared.members.iter().any(stays) {
            continue;
        }
        let number = number as u32;
        let mut all = ledger.devices.iter().flat_map(|device| &device.got);
        if !all.any(|it| it.number == number) {
            return Err(Violation {
                invariant: NAME,
                text: format!("message {number} was acknowledged, and no member got it"),
                about: vec![message(number)],
            });
        }
    }
    Ok(())
}
