//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use loadtest::LoadtestArgs;

use crate::config::keys::KEYS;
use crate::config::{self, ConfigError, Settings, Typed, Value};
use crate::exit::{Exit, complain};
use crate::standalone;

const AFTER_HELP: &str = "\
Without arguments: a broker on 127.0.0.1:1883 that keeps its data in ./data. Try it:
  mosquitto_sub -t 'test/#' -v
  mosquitto_pub -t test/hello -m world -q 1

Settings: flag, then environment (MQTT_FLEET_SECTION__KEY, for instance
MQTT_FLEET_LISTEN__MQTT), then the file of --config, then the default.
`mqtt-fleet check` shows every setting, its value and where it comes from.

Exit codes: 0 fine, 1 failed, 2 arguments or configuration, 3 address in use,
4 data folder locked or unwritable, 5 damaged log, 6 disk full.";

/// An MQTT broker for fleets of devices: an acknowledged message is a stored message.
#[derive(Debug, Parser)]
#[command(name = "mqtt-fleet", version, after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    broker: BrokerArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the broker in one process (also what happens without a subcommand)
    Standalone(BrokerArgs),
    /// Drive a broker with many clients, count what is lost, measure latency and CPU
    Loadtest(LoadtestArgs),
    /// Check the settings and show each with where it comes from; start nothing
    Check(BrokerArgs),
}

/// What can be said on the command line about the broker; everything else is in the file and the
/// environment.
#[derive(Debug, Args)]
struct BrokerArgs {
    /// Address of the MQTT port [default: 127.0.0.1:1883]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Folder where messages and sessions are kept [default: ./data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// What an acknowledged message outlives [default: fsync]
    #[arg(long, value_enum)]
    durability: Option<DurabilityArg>,
    /// Address of the admin port: metrics and health [default: 127.0.0.1:9883]
    #[arg(long, value_name = "ADDR")]
    admin: Option<SocketAddr>,
    /// Accept clients without authentication from beyond this machine
    #[arg(long)]
    allow_anonymous: bool,
    /// Threads that serve connections, 0 = one per processor [default: 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=256))]
    shards: Option<u64>,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DurabilityArg {
    /// Power loss: acknowledged once it is on the disk
    Fsync,
    /// A crash of the broker, not of the machine
    Os,
    /// Nothing: kept in memory only
    Memory,
}

/// Runs the command line of this process to its end.
pub(crate) fn run() -> Exit {
    let cli = Cli::parse();
    match cli.command {
        None => serve(&cli.broker),
        Some(Command::Standalone(args)) => serve(&args),
        Some(Command::Loadtest(args)) => run_loadtest(&args),
        Some(Command::Check(args)) => check(&args),
    }
}

fn serve(args: &BrokerArgs) -> Exit {
    match load(args) {
        Ok((settings, _)) => match standalone::run(&settings) {
            Ok(()) => Exit::Fine,
            Err(error) => complain(error.exit(), error),
        },
        Err(errors) => refuse(&errors),
    }
}

fn run_loadtest(args: &LoadtestArgs) -> Exit {
    match loadtest::run(args) {
        Ok(verdict) => {
            println!("{verdict}");
            if verdict.failed() {
                Exit::Failed
            } else {
                Exit::Fine
            }
        }
        Err(error @ loadtest::Error::Arguments(_)) => complain(Exit::Usage, error),
        Err(error) => complain(Exit::Failed, error),
    }
}

fn check(args: &BrokerArgs) -> Exit {
    match load(args) {
        Ok((_, typed)) => {
            print!("ok\n\n{}", listing(&typed));
            Exit::Fine
        }
        Err(errors) => refuse(&errors),
    }
}

fn load(args: &BrokerArgs) -> Result<(Settings, Typed), Vec<ConfigError>> {
    // Lossy: a variable that is no text cannot be valid, and is shown as well as it can be.
    let environment = std::env::vars_os().map(|(k, v)| {
        (
            k.to_string_lossy().into_owned(),
            v.to_string_lossy().into_owned(),
        )
    });
    config::load(args.typed(), environment, args.config.as_deref())
}

fn refuse(errors: &[ConfigError]) -> Exit {
    for error in errors {
        complain(Exit::Usage, error);
    }
    Exit::Usage
}

/// Every setting as a line of TOML, with its origin as the comment.
fn listing(typed: &Typed) -> String {
    use std::fmt::Write as _;

    let mut text = String::new();
    let mut section = KEYS[0].section;
    let write = |text: &mut String, line: std::fmt::Arguments<'_>| {
        text.write_fmt(line)
            .expect("writing to a String cannot fail");
    };
    write(&mut text, format_args!("[{section}]\n"));
    for (key, value, origin) in typed.iter() {
        if key.section != section {
            section = key.section;
            write(&mut text, format_args!("\n[{section}]\n"));
        }
        let assignment = format!("{} = {value}", key.name);
        write(
            &mut text,
            format_args!("{assignment:<40} # {origin}; {}\n", key.about),
        );
    }
    text
}

impl BrokerArgs {
    /// The flags as a layer of the configuration.
    fn typed(&self) -> Typed {
        let mut typed = Typed::nothing();
        let mut set = |section, name, flag, value: Option<Value>| {
            if let Some(value) = value {
                typed.set_flag(section, name, value, flag);
            }
        };
        set(
            "listen",
            "mqtt",
            "--listen",
            self.listen.map(Value::Address),
        );
        set("listen", "admin", "--admin", self.admin.map(Value::Address));
        let anonymous = self.allow_anonymous.then_some(Value::Switch(true));
        set("listen", "allow_anonymous", "--allow-anonymous", anonymous);
        set("data", "dir", "--data", self.data.clone().map(Value::Path));
        let durability = self.durability.map(|policy| match policy {
            DurabilityArg::Fsync => Value::Choice("fsync"),
            DurabilityArg::Os => Value::Choice("os"),
            DurabilityArg::Memory => Value::Choice("memory"),
        });
        set("data", "durability", "--durability", durability);
        set("shards", "count", "--shards", self.shards.map(Value::Whole));
        typed
    }
}
