//! A member whose log or snapshot is damaged. It votes for nobody and leads nothing: nothing of it runs but the admin
//! port, which says what is wrong and takes the request to repair it. Then the process runs itself anew, and the start
//! sets the files aside: so it does not matter who still held them.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::mpsc::Receiver;

use broker::log::LogError;

use crate::admin::{Health, Phase};
use crate::standalone::{RunError, next};
use crate::stop::Stop;

/// Whether the others of its group, if there are any, can repair what has stopped a member.
pub(crate) fn is_mended_by_others(error: &LogError, has_others: bool) -> bool {
    has_others && error.is_damage()
}

/// Waits until the member is to be repaired, or a signal ends the process (`Ok`).
pub(crate) fn wait(
    why: &LogError,
    reasons: &Receiver<Stop>,
    health: &Health,
) -> Result<(), RunError> {
    tracing::error!(
        error = %why,
        "this member takes no part in its group until it is repaired: mqtt-fleet ctl group repair"
    );
    loop {
        match next(reasons) {
            Stop::Signal => {
                health.enter(Phase::Draining);
                return Ok(());
            }
            Stop::Again => return Err(run_again().into()),
            Stop::Fault(fault) => tracing::warn!(error = %fault, "a further fault"),
        }
    }
}

/// Runs this program anew in this process, with all that it was started with. Comes back only if it cannot.
fn run_again() -> std::io::Error {
    tracing::warn!("begins anew, to be repaired");
    match std::env::current_exe() {
        Ok(program) => Command::new(program)
            .args(std::env::args_os().skip(1))
            .exec(),
        Err(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn others_mend_damage_and_nothing_else() {
        let file = || PathBuf::from("a.segment");
        let damaged = LogError::Damaged {
            file: file(),
            offset: 9,
            what: "a record",
        };
        assert!(is_mended_by_others(&damaged, true));
        assert!(!is_mended_by_others(&damaged, false), "nobody has a copy");
        let newer = LogError::Unsupported {
            file: file(),
            version: 2,
            known: 1,
        };
        assert!(
            !is_mended_by_others(&newer, true),
            "nothing is wrong with it"
        );
    }
}
