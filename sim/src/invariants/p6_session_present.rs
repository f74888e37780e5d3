//! P6: `session present = 1` exactly when the session exists.

use super::{Verdict, Violation, device};
use crate::ledger::{Known, Ledger};

pub(crate) const NAME: &str = "P6 session present";

/// CONNACK says whether there was a session; `clean`: none was wanted.
pub(crate) fn connected(ledger: &Ledger, who: usize, clean: bool, present: bool) -> Verdict {
    let known = ledger.devices[who].known;
    let wrong = match known {
        _ if clean => present,
        Known::None => present,
        // Whether it has expired has a file of its own.
        Known::Some { left: None } => !present,
        Known::Some { left: Some(_) } => !present && ledger.devices[who].expiry_s == Some(u32::MAX),
        Known::Maybe => false,
    };
    if !wrong {
        return Ok(());
    }
    Err(Violation {
        invariant: NAME,
        text: format!(
            "device {who} was told session present = {}, and by what it knows: {known:?}, clean start {clean}",
            u8::from(present)
        ),
        about: vec![device(who)],
    })
}
