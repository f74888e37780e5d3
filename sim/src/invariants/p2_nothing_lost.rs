//! P2: an acknowledged QoS 1 or 2 message reaches every session whose subscription was acknowledged before.

use super::{Verdict, Violation, device, message};
use crate::ledger::{Kind, Ledger};
use protocol::QoS;

pub(crate) const NAME: &str = "P2 no acknowledged message is lost";

/// Everybody is back, and has had time.
pub(crate) fn at_end(ledger: &Ledger) -> Verdict {
    for (number, sent) in ledger.sent.iter().enumerate() {
        // What expires may, and wills have a file of their own.
        if sent.acked_at.is_none() || sent.expiry_s.is_some() || matches!(sent.kind, Kind::Will(_))
        {
            continue;
        }
        let mut owed = ledger.owed(sent);
        let lost = owed.find(|(to, qos)| *qos != QoS::AtMostOnce && !to.got);
        if let Some((to, qos)) = lost {
            let (number, to) = (number as u32, to.device);
            return Err(Violation {
                invariant: NAME,
                text: format!(
                    "message {number} was acknowledged at {qos:?} and is lost to device {to}"
                ),
                about: vec![message(number), device(to)],
            });
        }
    }
    Ok(())
}
