//! SIGHUP: the TLS files are read again, for new connections.

use std::io;
use std::sync::Arc;

use proxy::tls::TlsAcceptor;
use signal_hook::consts::SIGHUP;
use signal_hook::iterator::Signals;

/// Reads the files of `acceptor` again at each SIGHUP. Without TLS the signal does nothing, and says so: a process that
/// ends by it would surprise whoever sends it to all of a fleet.
pub(crate) fn watch(acceptor: Option<Arc<TlsAcceptor>>) -> io::Result<()> {
    let mut signals = Signals::new([SIGHUP])?;
    let body = move || {
        for _ in signals.forever() {
            if let Some(acceptor) = &acceptor {
                reload(acceptor);
            } else {
                tracing::info!("SIGHUP: there are no TLS files to read again");
            }
        }
    };
    std::thread::Builder::new()
        .name("reload".into())
        .spawn(body)?;
    Ok(())
}

fn reload(acceptor: &TlsAcceptor) {
    match acceptor.reload() {
        Ok(()) => tracing::info!("SIGHUP: TLS files read again; new connections use them"),
        Err(error) => tracing::error!(%error, "SIGHUP: TLS goes on with the files it had"),
    }
}
