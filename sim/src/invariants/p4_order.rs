//! P4: one publisher, one topic, one QoS: every subscriber sees that order, by the first receipts.

use super::{Verdict, Violation, device, message};
use crate::ledger::{Kind, Ledger, Receipt, Target};
use protocol::QoS;

pub(crate) const NAME: &str = "P4 order";

/// A device has got a message; the receipt is its newest.
pub(crate) fn received(ledger: &Ledger, to: usize, receipt: &Receipt) -> Verdict {
    let sent = &ledger.sent[receipt.number as usize];
    let got = &ledger.devices[to].got;
    let before = &got[..got.len() - 1];
    let is_first = |number: u32| {
        let mut receipts = before.iter();
        !receipts.any(|it| it.number == number && !it.retain)
    };
    let is_will = matches!(sent.kind, Kind::Will(_));
    let counts = |number: u32| counts(ledger, (to, receipt.session), number);
    if is_will || receipt.retain || !is_first(receipt.number) || !counts(receipt.number) {
        return Ok(());
    }
    let same_flow = |it: &&Receipt| {
        let other = &ledger.sent[it.number as usize];
        let same_conn = sent.qos != QoS::AtMostOnce || other.conn == sent.conn;
        !it.retain
            && it.number > receipt.number
            && (other.device, other.topic, other.qos, other.kind)
                == (sent.device, sent.topic, sent.qos, sent.kind)
            && same_conn
            && it.session == receipt.session
            && counts(it.number)
    };
    let Some(later) = before.iter().find(same_flow) else {
        return Ok(());
    };
    Err(Violation {
        invariant: NAME,
        text: format!(
            "message {} came to device {to} behind message {}, which was sent after it",
            receipt.number, later.number
        ),
        about: vec![message(receipt.number), message(later.number), device(to)],
    })
}

/// What was published before SUBACK may have been taken for nobody, and then come as new when its publisher sends it
/// again; and a delivery at QoS 0 may be lost, and come with that. So QoS 1 and 2 count where the receiver relied on
/// them, in the session that it has got them in.
fn counts(ledger: &Ledger, (to, session): (usize, u32), number: u32) -> bool {
    let sent = &ledger.sent[number as usize];
    let relies = |target: &Target| {
        (target.device, target.session) == (to, session)
            && target.granted().is_some_and(|qos| qos != QoS::AtMostOnce)
    };
    // One that expires may come with a later copy of its publisher's.
    sent.expiry_s.is_none() && (sent.qos == QoS::AtMostOnce || sent.to.iter().any(relies))
}
