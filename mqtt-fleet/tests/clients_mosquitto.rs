//! `mosquitto_pub` and `mosquitto_sub`, which everyone has at hand, work with this broker.

mod common;

use std::process::Command;

use common::Broker;
use common::tools::Tool;

const HOW: &str = "`cargo xtask test` installs the package mosquitto-clients";

const VERSIONS: [&str; 3] = ["mqttv31", "mqttv311", "mqttv5"];

fn client(program: &str, broker: &Broker, version: &str, args: &[&str]) -> Tool {
    // Line by line: what `-d` says would otherwise wait in the program's output buffer.
    let mut command = Command::new("stdbuf");
    command.args(["-oL", program, "-V", version]);
    command.args(["-h", "127.0.0.1", "-p", &broker.addr.port().to_string()]);
    Tool::start(command.args(args), HOW)
}

/// Runs `mosquitto_pub` to its end.
fn publish(broker: &Broker, version: &str, args: &[&str]) {
    client("mosquitto_pub", broker, version, args).finish();
}

/// Starts `mosquitto_sub` and waits for its SUBACK.
fn subscriber(broker: &Broker, version: &str, args: &[&str]) -> Tool {
    let mut tool = client("mosquitto_sub", broker, version, &[&["-d"], args].concat());
    tool.await_line("Subscribed (mid");
    tool
}

/// The next line that is a message rather than a remark of `-d`; messages here begin with `>`.
fn message(tool: &mut Tool) -> String {
    tool.await_line(">")
}

#[test]
fn publish_and_subscribe_at_each_qos() {
    let broker = Broker::start();
    for version in VERSIONS {
        for qos in ["0", "1", "2"] {
            let mut sub = subscriber(
                &broker,
                version,
                &["-t", "t/+", "-q", qos, "-F", ">%t %q %p"],
            );
            publish(&broker, version, &["-t", "t/a", "-q", qos, "-m", "hello"]);
            assert_eq!(message(&mut sub), format!(">t/a {qos} hello"), "{version}");
            sub.kill();
        }
    }
}

#[test]
fn retained_messages() {
    let broker = Broker::start();
    for version in VERSIONS {
        publish(
            &broker,
            version,
            &["-t", "r/a", "-q", "1", "-r", "-m", "kept"],
        );
        let mut sub = subscriber(&broker, version, &["-t", "r/#", "-q", "1", "-F", ">%r %p"]);
        assert_eq!(message(&mut sub), ">1 kept");
        publish(&broker, version, &["-t", "r/a", "-q", "1", "-r", "-n"]);
        assert_eq!(message(&mut sub), ">0 ");
        let mut later = subscriber(&broker, version, &["-t", "r/#", "-F", ">%r %p"]);
        publish(&broker, version, &["-t", "r/end", "-m", "end"]);
        assert_eq!(
            message(&mut later),
            ">0 end",
            "the empty message has removed it"
        );
    }
}

#[test]
fn wills() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut watcher = subscriber(
            &broker,
            version,
            &["-t", "will/#", "-q", "2", "-F", ">%t %q %p"],
        );
        let will = [
            "--will-topic",
            "will/w",
            "--will-payload",
            "gone",
            "--will-qos",
            "2",
            "-t",
            "x",
        ];
        subscriber(&broker, version, &will).kill();
        assert_eq!(message(&mut watcher), ">will/w 2 gone");
    }
}

#[test]
fn persistent_sessions() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut args = vec!["-i", version, "-c", "-t", "q", "-q", "2", "-F", ">%p"];
        if version == "mqttv5" {
            args.extend(["-x", "600"]);
        }
        subscriber(&broker, version, &args).kill();
        for text in ["one", "two", "three"] {
            publish(&broker, version, &["-t", "q", "-q", "2", "-m", text]);
        }
        args.extend(["-C", "3"]);
        assert_eq!(
            client("mosquitto_sub", &broker, version, &args).finish(),
            [">one", ">two", ">three"]
        );
    }
}

#[test]
fn shared_subscriptions() {
    let broker = Broker::start();
    for version in ["mqttv311", "mqttv5"] {
        let args = ["-t", "$share/g/jobs", "-q", "1", "-F", ">%p"];
        let mut members = [
            subscriber(&broker, version, &args),
            subscriber(&broker, version, &args),
        ];
        for number in 0..20 {
            publish(
                &broker,
                version,
                &["-t", "jobs", "-q", "1", "-m", &number.to_string()],
            );
        }
        // Round robin: each has half, so each can be read to its tenth.
        let mut all: Vec<u32> = members
            .iter_mut()
            .flat_map(|m| (0..10).map(|_| message(m)).collect::<Vec<_>>())
            .map(|line| line[1..].parse().expect("a number"))
            .collect();
        all.sort_unstable();
        assert_eq!(all, (0..20).collect::<Vec<_>>());
    }
}

#[test]
fn request_and_response() {
    let broker = Broker::start();
    let mut server = subscriber(&broker, "mqttv5", &["-t", "ask", "-q", "1", "-F", ">%R %p"]);
    let port = broker.addr.port().to_string();
    let mut command = Command::new("mosquitto_rr");
    command.args([
        "-p",
        &port,
        "-h",
        "127.0.0.1",
        "-t",
        "ask",
        "-e",
        "answer",
        "-m",
        "time?",
        "-q",
        "1",
    ]);
    let mut asks = Tool::start(&mut command, HOW);
    assert_eq!(message(&mut server), ">answer time?");
    publish(
        &broker,
        "mqttv5",
        &["-t", "answer", "-q", "1", "-m", "noon"],
    );
    assert_eq!(asks.finish(), ["noon"]);
}
