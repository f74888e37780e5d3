//! The command line.

mod flags;

use clap::{Args, Parser, Subcommand, ValueEnum};
use loadtest::{Action, LoadtestArgs, LoadtestCommand};

use crate::config::{self, ConfigError, Role, Settings, Typed};
use crate::ctl::{self, CtlArgs};
use crate::dev_certs::{self, DevCertsArgs};
use crate::exit::{Exit, complain};
use crate::launcher::guard::{self, GuardArgs};
use crate::launcher::{self, ClusterArgs};
use crate::node::Node;
use crate::standalone::{self, RunError};
use crate::{broker_node, proxy_node, scenario_run};
pub(crate) use flags::DurabilityArg;
use flags::{CommonFlags, DeviceFlags, GroupFlags, LinkFlags, NodeFlags};

const AFTER_HELP: &str = "\
Without arguments: a broker on 127.0.0.1:1883 that keeps its data in ./data. Try it:
  mosquitto_sub -t 'test/#' -v
  mosquitto_pub -t test/hello -m world -q 1

Settings: flag, then environment (MQTT_FLEET_SECTION__KEY, for instance
MQTT_FLEET_LISTEN__MQTT), then the file of --config, then the default.
`mqtt-fleet check` shows every setting, its value and where it comes from.

Exit codes: 0 fine, 1 failed, 2 arguments or configuration, 3 address in use,
4 data folder locked or unwritable, 5 damaged log, 6 disk full, 7 data of a newer
version.";

/// An MQTT broker for fleets of devices: an acknowledged message is a stored message.
#[derive(Debug, Parser)]
#[command(name = "mqtt-fleet", version, after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    standalone: StandaloneArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the broker in one process (also what happens without a subcommand)
    Standalone(StandaloneArgs),
    /// Run a broker of a fleet: a group of topics; proxies link to it
    Broker(BrokerArgs),
    /// Run a proxy of a fleet: devices connect to it, it keeps nothing
    Proxy(ProxyArgs),
    /// Run a whole fleet on this machine: Redis, brokers and proxies on loopback
    Cluster(ClusterArgs),
    /// Become a program that ends with the launcher
    #[command(hide = true)]
    Guard(GuardArgs),
    /// Drive a broker with many clients, count what is lost, measure latency and CPU
    Loadtest(Box<LoadtestCommand>),
    /// Check the settings and show each with where it comes from; start nothing
    Check(CheckArgs),
    /// Make certificates to try TLS with: a CA, a server's, a client's
    DevCerts(DevCertsArgs),
    /// Ask about a fleet, or change it
    Ctl(CtlArgs),
}

/// Flags of the broker in one process.
#[derive(Debug, Args)]
struct StandaloneArgs {
    #[command(flatten)]
    device: DeviceFlags,
    #[command(flatten)]
    group: GroupFlags,
    #[command(flatten)]
    common: CommonFlags,
}

/// Flags of a broker of a fleet.
#[derive(Debug, Args)]
struct BrokerArgs {
    #[command(flatten)]
    node: NodeFlags,
    #[command(flatten)]
    link: LinkFlags,
    #[command(flatten)]
    group: GroupFlags,
    #[command(flatten)]
    common: CommonFlags,
}

/// Flags of a proxy of a fleet.
#[derive(Debug, Args)]
struct ProxyArgs {
    #[command(flatten)]
    node: NodeFlags,
    #[command(flatten)]
    device: DeviceFlags,
    #[command(flatten)]
    common: CommonFlags,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// What the process would do
    #[arg(long, value_enum, default_value_t = RoleArg::Standalone)]
    role: RoleArg,
    #[command(flatten)]
    node: NodeFlags,
    #[command(flatten)]
    device: DeviceFlags,
    #[command(flatten)]
    group: GroupFlags,
    #[command(flatten)]
    common: CommonFlags,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RoleArg {
    /// The broker in one process
    Standalone,
    /// A broker of a fleet
    Broker,
    /// A proxy of a fleet
    Proxy,
}

/// Runs the command line of this process to its end.
pub(crate) fn run() -> Exit {
    let cli = Cli::parse();
    match cli.command {
        None => serve(&cli.standalone),
        Some(Command::Standalone(args)) => serve(&args),
        Some(Command::Broker(args)) => serve_group(&args),
        Some(Command::Proxy(args)) => serve_devices(&args),
        Some(Command::Cluster(args)) => launcher::run(&args),
        Some(Command::Guard(args)) => guard::run(&args),
        Some(Command::Loadtest(command)) => run_loadtest(&command),
        Some(Command::Check(args)) => check(&args),
        Some(Command::DevCerts(args)) => dev_certs::run(&args),
        Some(Command::Ctl(args)) => ctl::run(&args),
    }
}

fn serve(args: &StandaloneArgs) -> Exit {
    let flags = flags::typed(&[&args.device, &args.group, &args.common]);
    match load(Role::Standalone, flags, &args.common) {
        Ok((settings, _)) => ended(standalone::run(&settings)),
        Err(errors) => refuse(&errors),
    }
}

fn serve_group(args: &BrokerArgs) -> Exit {
    let flags = flags::typed(&[&args.node, &args.link, &args.group, &args.common]);
    match load_node(Role::Broker, flags, &args.common) {
        Ok((settings, node, _)) => ended(broker_node::run(&settings, &node)),
        Err(errors) => refuse(&errors),
    }
}

fn serve_devices(args: &ProxyArgs) -> Exit {
    let flags = flags::typed(&[&args.node, &args.device, &args.common]);
    match load_node(Role::Proxy, flags, &args.common) {
        Ok((settings, node, _)) => ended(proxy_node::run(&settings, &node)),
        Err(errors) => refuse(&errors),
    }
}

fn ended(run: Result<(), RunError>) -> Exit {
    match run {
        Ok(()) => Exit::Fine,
        Err(error) => complain(error.exit(), error),
    }
}

fn run_loadtest(command: &LoadtestCommand) -> Exit {
    match (&command.action, &command.single) {
        (Some(Action::Run(args)), _) => scenario_run::run(args),
        (Some(Action::Scenarios(args)), _) => scenario_run::scenarios(args),
        (Some(Action::Agent(args)), _) => scenario_run::agent(args),
        (Some(Action::Worker), _) => scenario_run::worker(),
        (None, Some(args)) => run_single_load(args),
        (None, None) => complain(Exit::Usage, "loadtest: say what to run; --help lists it"),
    }
}

fn run_single_load(args: &LoadtestArgs) -> Exit {
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

fn check(args: &CheckArgs) -> Exit {
    let flags = flags::typed(&[&args.node, &args.device, &args.group, &args.common]);
    let role = match args.role {
        RoleArg::Standalone => Role::Standalone,
        RoleArg::Broker => Role::Broker,
        RoleArg::Proxy => Role::Proxy,
    };
    let checked = if role == Role::Standalone {
        load(role, flags, &args.common).map(|(_, typed)| (typed, String::new()))
    } else {
        load_node(role, flags, &args.common).map(|(_, node, typed)| (typed, node.to_string()))
    };
    match checked {
        Ok((typed, node)) => {
            print!("ok\n\n{node}{}", listing(role, &typed));
            Exit::Fine
        }
        Err(errors) => refuse(&errors),
    }
}

fn load(
    role: Role,
    flags: Typed,
    common: &CommonFlags,
) -> Result<(Settings, Typed), Vec<ConfigError>> {
    // Lossy: a variable that is no text cannot be valid, and is shown as well as it can be.
    let environment = std::env::vars_os().map(|(k, v)| {
        (
            k.to_string_lossy().into_owned(),
            v.to_string_lossy().into_owned(),
        )
    });
    config::load(role, flags, environment, common.config.as_deref())
}

/// The same for a node of a fleet, with what the cluster file says of it.
fn load_node(
    role: Role,
    flags: Typed,
    common: &CommonFlags,
) -> Result<(Settings, Node, Typed), Vec<ConfigError>> {
    let (settings, typed) = load(role, flags, common)?;
    let node = Node::load(role, &typed)?;
    Ok((settings, node, typed))
}

fn refuse(errors: &[ConfigError]) -> Exit {
    for error in errors {
        complain(Exit::Usage, error);
    }
    Exit::Usage
}

/// Every setting of the role as a line of TOML, with its origin as the comment.
fn listing(role: Role, typed: &Typed) -> String {
    use std::fmt::Write as _;

    let mut text = String::new();
    let mut section = "";
    let write = |text: &mut String, line: std::fmt::Arguments<'_>| {
        text.write_fmt(line)
            .expect("writing to a String cannot fail");
    };
    let own = typed.iter().filter(|(key, ..)| key.roles.contains(&role));
    for (key, value, origin) in own {
        if key.section != section {
            section = key.section;
            let gap = if text.is_empty() { "" } else { "\n" };
            write(&mut text, format_args!("{gap}[{section}]\n"));
        }
        let assignment = format!("{} = {value}", key.name);
        write(
            &mut text,
            format_args!("{assignment:<40} # {origin}; {}\n", key.about),
        );
    }
    text
}
