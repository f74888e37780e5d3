//! The log on standard error.

use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, Settings};

/// Sends the events of the whole process to standard error, from the configured level up.
pub(crate) fn start(settings: &Settings) {
    // What openraft says of each call that fails, the member says once, in words of its own.
    let filter = match settings.log_level {
        level @ ("debug" | "trace") => level.to_owned(),
        level => format!("{level},openraft=off"),
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(std::io::stderr);
    match settings.log_format {
        // Colours only where a person looks: not in files and service logs.
        LogFormat::Text => {
            log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
                .init();
        }
        LogFormat::Json => log.json().init(),
    }
}
