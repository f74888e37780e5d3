//! The log on standard error.

use tracing::level_filters::LevelFilter;

use crate::config::{LogFormat, Settings};

/// Sends the events of the whole process to standard error, from the configured level up.
pub(crate) fn start(settings: &Settings) {
    let level = match settings.log_level {
        "error" => LevelFilter::ERROR,
        "warn" => LevelFilter::WARN,
        "debug" => LevelFilter::DEBUG,
        "trace" => LevelFilter::TRACE,
        _ => LevelFilter::INFO,
    };
    let log = tracing_subscriber::fmt()
        .with_max_level(level)
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
