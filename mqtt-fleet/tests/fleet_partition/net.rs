//! A network of our own: a bridge, and hosts on it, each a network namespace with one address. All of it is inside the
//! namespaces that we were started in, and goes with them.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

/// Where devices are, and whoever looks at admin pages: the bridge itself. Its traffic is never cut.
const BRIDGE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// Packets from these addresses are lost; the counter says how many.
const RULES: &str = "table ip cut {
    set from { type ipv4_addr; }
    counter lost { }
    chain incoming {
        type filter hook input priority 0; policy accept;
        ip saddr @from counter name lost drop
    }
}
";

/// A machine on the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) address: Ipv4Addr,
}

/// Makes the bridge.
pub(crate) fn build() {
    ip("link add fleet type bridge");
    ip(&format!("address add {BRIDGE}/24 dev fleet"));
    ip("link set fleet up");
}

impl Host {
    /// Makes a host, `10.77.0.number`, and connects it to the bridge.
    pub(crate) fn new(name: &str, number: u8) -> Self {
        let host = Self {
            name: name.to_owned(),
            address: Ipv4Addr::new(10, 77, 0, number),
        };
        ip(&format!("netns add {name}"));
        ip(&format!(
            "link add {name} type veth peer name eth0 netns {name}"
        ));
        ip(&format!("link set {name} master fleet up"));
        let address = format!("address add {}/24 dev eth0", host.address);
        for words in ["link set lo up", &address, "link set eth0 up"] {
            run(host.command("ip").args(words.split(' ')), "");
        }
        host.nft(RULES);
        host
    }

    /// A program that is to run on this host.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let namespace = format!("--net=/run/netns/{}", self.name);
        command.args([&namespace, "--", program]);
        command
    }

    /// From now on what `from` sends to this host is lost on its way.
    pub(crate) fn lose_from(&self, from: &Self) {
        self.nft(&format!("add element ip cut from {{ {} }}\n", from.address));
    }

    /// From now on nothing that is sent to this host is lost.
    pub(crate) fn lose_nothing(&self) {
        self.nft("flush set ip cut from\n");
    }

    /// Packets to this host that were lost so far.
    pub(crate) fn lost(&self) -> u64 {
        let text = self.nft("list counter ip cut lost\n");
        let mut words = text.split_whitespace();
        let number = words.find(|word| *word == "packets").and(words.next());
        let number = number.and_then(|number| number.parse().ok());
        number.unwrap_or_else(|| panic!("no counter of packets in {text:?}"))
    }

    fn nft(&self, commands: &str) -> String {
        run(self.command("nft").args(["-f", "-"]), commands)
    }
}

fn ip(words: &str) {
    run(Command::new("ip").args(words.split(' ')), "");
}

/// Runs a command with this input to a good end; its output.
fn run(command: &mut Command, input: &str) -> String {
    let child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("piped");
    stdin
        .write_all(input.as_bytes())
        .unwrap_or_else(|error| panic!("{command:?} does not take its input: {error}"));
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}
