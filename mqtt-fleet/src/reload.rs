//! SIGHUP: the TLS files are read again, for new connections.

use std::fmt::Display;
use std::io;

use signal_hook::consts::SIGHUP;
use signal_hook::iterator::Signals;

use crate::config::Settings;

/// Reads the files of the TLS port and of the links again at each SIGHUP. Without TLS the signal does nothing, and says
/// so: a process that ends by it would surprise whoever sends it to all of a fleet.
pub(crate) fn watch(settings: &Settings) -> io::Result<()> {
    let acceptor = settings.tls.clone();
    let links = settings.link_tls.clone();
    let mut signals = Signals::new([SIGHUP])?;
    let body = move || {
        for _ in signals.forever() {
            if let Some(acceptor) = &acceptor {
                report("TLS", "connections", acceptor.reload());
            }
            if let Some(links) = &links {
                report("link TLS", "links", links.reload());
            }
            if acceptor.is_none() && links.is_none() {
                tracing::info!("SIGHUP: there are no TLS files to read again");
            }
        }
    };
    std::thread::Builder::new()
        .name("reload".into())
        .spawn(body)?;
    Ok(())
}

fn report(what: &str, users: &str, result: Result<(), impl Display>) {
    match result {
        Ok(()) => tracing::info!("SIGHUP: {what} files read again; new {users} use them"),
        Err(error) => tracing::error!(%error, "SIGHUP: {what} goes on with the files it had"),
    }
}
