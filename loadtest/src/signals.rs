//! SIGINT (Ctrl-C) and SIGTERM.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::Error;

/// The first signal sets the flag, and the run ends in good order. The second one ends the process.
pub(crate) fn stop_on_signal() -> Result<Arc<AtomicBool>, Error> {
    let enough = Arc::<AtomicBool>::default();
    for signal in [SIGINT, SIGTERM] {
        // In this order: the second signal finds what the first one set.
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&enough))
            .and_then(|_| flag::register(signal, Arc::clone(&enough)))
            .map_err(Error::system("cannot watch for signals"))?;
    }
    Ok(enough)
}
