//! A will is published once where its connection ended without DISCONNECT, and not at all where it ended with one.

use super::{Verdict, Violation, device, message};
use crate::ledger::{Fate, Kind, Ledger};
use crate::net::ConnId;
use protocol::QoS;

pub(crate) const NAME: &str = "wills once";

/// Everybody is back, and has had time. `lives(proxy, life)`: that life of the proxy goes on. `exact`: no proxy has been
/// away for longer than its lease.
/// `works(conn)`: both ends still have that connection.
pub(crate) fn at_end(
    ledger: &Ledger,
    lives: impl Fn(usize, u32) -> bool,
    works: impl Fn(ConnId) -> bool,
    exact: bool,
) -> Verdict {
    for (number, sent) in ledger.sent.iter().enumerate() {
        let Kind::Will(fate) = sent.kind else {
            continue;
        };
        let number = number as u32;
        let published = ledger
            .devices
            .iter()
            .any(|it| it.got.iter().any(|it| it.number == number));
        let kept_back = match fate {
            Fate::Open => exact && works(sent.conn),
            Fate::Dropped { proxy, life } => exact && lives(proxy, life),
            Fate::Due | Fate::Unclear => false,
        };
        if published && kept_back {
            return Err(Violation {
                invariant: NAME,
                text: format!(
                    "the will {number} of device {} was published: {fate:?}",
                    sent.device
                ),
                about: vec![message(number), device(sent.device)],
            });
        }
        let mut owed = ledger.owed(sent);
        let lost = owed.find(|(to, qos)| *qos != QoS::AtMostOnce && !to.got);
        if let (Fate::Due, Some((to, _))) = (fate, lost) {
            let to = to.device;
            return Err(Violation {
                invariant: NAME,
                text: format!(
                    "the will {number} of device {} never came to device {to}",
                    sent.device
                ),
                about: vec![message(number), device(sent.device), device(to)],
            });
        }
    }
    Ok(())
}
