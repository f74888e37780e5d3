//! P3: QoS 2 is exactly once (that it is at least once is P2's), and QoS 0 is not more often than that.

use super::{Verdict, Violation, device, message, times};
use crate::ledger::{Kind, Ledger, Receipt};
use protocol::QoS;

pub(crate) const NAME: &str = "P3 exactly once";

/// A device has got a message; the receipt is its newest. `exact`: no wall clock is set in this world. One that is set
/// forward by hours while its group has no leader makes the group forget which wills of other groups it has published.
pub(crate) fn received(ledger: &Ledger, to: usize, receipt: &Receipt, exact: bool) -> Verdict {
    let sent = &ledger.sent[receipt.number as usize];
    if matches!(sent.kind, Kind::Will(_)) && !exact {
        return Ok(());
    }
    // Where the publisher may send it again, or the group, a delivery at QoS 1 may come again.
    let is_once = |it: &Receipt| match sent.qos {
        QoS::AtMostOnce => true,
        QoS::AtLeastOnce => false,
        QoS::ExactlyOnce => it.qos != QoS::AtLeastOnce,
    };
    let at_most_once = |it: &Receipt| !it.retain && is_once(it);
    if !at_most_once(receipt) {
        return Ok(());
    }
    let got = ledger.devices[to].got.iter();
    let times = times(got, receipt.number, at_most_once);
    if times <= 1 {
        return Ok(());
    }
    let number = receipt.number;
    Err(Violation {
        invariant: NAME,
        text: format!(
            "message {number}, sent at {:?}, came to device {to} {times} times at {:?}",
            sent.qos, receipt.qos
        ),
        about: vec![message(number), device(to)],
    })
}
