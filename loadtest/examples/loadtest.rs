//! The load simulator on its own: `cargo run --release -p mqtt-fleet-loadtest --example loadtest -- pair`.

use std::process::ExitCode;

use clap::Parser;
use mqtt_fleet_loadtest::{Error, LoadtestArgs, run};

#[derive(Debug, Parser)]
#[command(about = "Drives an MQTT broker and checks what it delivers")]
struct Cli {
    #[command(flatten)]
    load: LoadtestArgs,
}

fn main() -> ExitCode {
    match run(&Cli::parse().load) {
        Ok(verdict) => {
            println!("{verdict}");
            ExitCode::from(u8::from(verdict.failed()))
        }
        Err(error) => {
            eprintln!("loadtest: {error}");
            ExitCode::from(if matches!(error, Error::Arguments(_)) {
                2
            } else {
                1
            })
        }
    }
}
