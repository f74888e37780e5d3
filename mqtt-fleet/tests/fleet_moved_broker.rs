//! A broker that has moved to another address: one command, and every node follows without a restart; nothing that was
//! acknowledged is lost (P2, P4, P9), and what was answered outlives any kill.

mod common;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::broker::free_address;
use common::fleet::{Process, without_settings};
use common::wire;
use common::{Client, Connect, Publish};

/// Each so many messages are on their way when something ends; below the receive maximum.
const MESSAGES: u16 = 100;
/// How long the news of a change may take, on a slow machine that runs other tests too.
const PATIENCE: Duration = Duration::from_secs(40);
/// Once a member has moved.
const FIRST_MOVE: &str = "members 3";

/// Two proxies and two groups, whose cluster file never changes.
struct Moving {
    folder: tempfile::TempDir,
    /// Where the brokers take links, by the cluster file.
    links: [SocketAddr; 2],
    broker_admins: [SocketAddr; 2],
    mqtt: [SocketAddr; 2],
    proxy_admins: [SocketAddr; 2],
}

impl Moving {
    fn new() -> Self {
        let pair = || [free_address(), free_address()];
        let fleet = Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            links: pair(),
            broker_admins: pair(),
            mqtt: pair(),
            proxy_admins: pair(),
        };
        let group = |number: usize| {
            format!(
                "[[group]]\nnumber = {number}\n[[group.member]]\nname = \"broker-{number}\"\nlink = \"{}\"\n",
                fleet.links[number]
            )
        };
        let file = format!(
            "[cluster]\nid = \"moving\"\n[secret]\nfile = \"secret\"\n{}{}",
            group(0),
            group(1)
        );
        let write = |name: &str, text: &str| {
            std::fs::write(fleet.folder.path().join(name), text).expect("a writable folder");
        };
        write("cluster.toml", &file);
        write("secret", "the secret of the fleet");
        fleet
    }

    /// Starts a broker on its data, which takes links where it thinks that it is expected, or where it is told.
    fn broker(&self, number: usize, link: Option<SocketAddr>) -> Process {
        let (name, data) = (format!("broker-{number}"), format!("data-{number}"));
        let admin = self.broker_admins[number].to_string();
        let args = ["broker", "--name", &name, "--cluster", "cluster.toml"];
        let rest = ["--data", &data, "--admin", &admin];
        let mut words = [&args[..], &rest].concat();
        let link = link.map(|link| link.to_string());
        words.extend(link.iter().flat_map(|link| ["--link", link]));
        let broker = Process::start(&name, self.folder.path(), &words);
        broker.await_line("links on");
        broker
    }

    fn proxy(&self, number: usize) -> Process {
        self.proxy_by(number, "cluster.toml")
    }

    /// Starts a proxy with another cluster file.
    fn proxy_by(&self, number: usize, cluster: &str) -> Process {
        let (name, mqtt) = (format!("proxy-{number}"), self.mqtt[number].to_string());
        let admin = self.proxy_admins[number].to_string();
        let args = ["proxy", "--name", &name, "--cluster", cluster];
        let rest = ["--listen", &mqtt, "--admin", &admin, "--shards", "1"];
        Process::start(&name, self.folder.path(), &[&args[..], &rest].concat())
    }

    fn ready_proxies(&self) -> [Process; 2] {
        let proxies = [self.proxy(0), self.proxy(1)];
        for proxy in &proxies {
            proxy.await_line("listening on");
        }
        proxies
    }

    /// `mqtt-fleet ctl`: how it ends, and all that it says.
    fn ctl(&self, args: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-fleet"));
        without_settings(&mut command);
        command
            .current_dir(self.folder.path())
            .arg("ctl")
            .args(args);
        let output = command.output().expect("the binary runs");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).expect("text"))
    }

    fn move_broker(&self, number: usize, to: SocketAddr) -> String {
        let name = format!("broker-{number}");
        let (to, admin) = (to.to_string(), self.broker_admins[0].to_string());
        let moved = self.ctl(&["move-member", &name, "--to", &to, "--admin", &admin]);
        assert_eq!(moved.0, Some(0), "{}", moved.1);
        assert!(
            moved.1.contains(&format!("{number}        {name}  {to}")),
            "{}",
            moved.1
        );
        moved.1
    }

    /// What a node knows, by its admin port.
    fn members(&self, admin: SocketAddr) -> String {
        let (code, text) = self.ctl(&["members", "--admin", &admin.to_string()]);
        assert_eq!(code, Some(0), "{text}");
        text
    }

    /// Waits until a node knows this.
    fn await_members(&self, admin: SocketAddr, text: &str) {
        let begun = Instant::now();
        while self.members(admin) != text {
            assert!(begun.elapsed() < PATIENCE, "{}", self.members(admin));
        }
    }

    /// What a node keeps on disk.
    fn kept(&self, file: &str) -> String {
        let (code, text) = self.ctl(&["members", "--topology", file]);
        assert_eq!(code, Some(0), "{text}");
        text
    }

    /// A topic of this group.
    fn topic(&self, group: usize) -> String {
        let is_there = |topic: &String| {
            let (_, text) = self.ctl(&["where", topic, "--cluster", "cluster.toml"]);
            text.contains(&format!("group    {group}"))
        };
        let mut topics = (0..).map(|n| format!("devices/{n}/at"));
        topics.find(is_there).expect("half of all topics")
    }
}

/// A subscriber at one proxy, a publisher at the other, and messages with numbers.
struct Talk {
    topic: String,
    ear: Client,
    mouth: Client,
    said: u16,
    heard: u16,
}

impl Talk {
    fn new(fleet: &Moving, group: usize) -> Self {
        let topic = fleet.topic(group);
        let mut ear = Connect::v5("ear").persistent().open_at(fleet.mqtt[0]);
        ear.subscribe(&topic, 1);
        let mouth = Connect::v5("mouth").persistent().open_at(fleet.mqtt[1]);
        Self {
            topic,
            ear,
            mouth,
            said: 0,
            heard: 0,
        }
    }

    /// Sends messages without waiting for answers. Packet ids begin anew after [`Talk::settle`].
    fn say(&mut self, count: u16) {
        for _ in 0..count {
            self.said += 1;
            let message =
                Publish::new(&self.topic, 1, self.said.to_string()).id(self.said - self.heard);
            self.mouth
                .send(&wire::publish(self.mouth.version, &message));
        }
    }

    /// All are acknowledged, and come in order.
    fn settle(&mut self) {
        for id in 1..=self.said - self.heard {
            assert_eq!(self.mouth.await_puback(id), 0, "{id}");
        }
        while self.heard < self.said {
            let next = self.next();
            assert_eq!(next, (self.heard + 1).to_string());
            self.heard += 1;
        }
        self.ear.assert_no_publish();
    }

    /// The next message. What was heard of comes again where an acknowledgement was on its way when all was killed.
    fn next(&mut self) -> String {
        loop {
            let publish = self.ear.take();
            let text = publish.text();
            let is_repeat = text.parse::<u16>().is_ok_and(|number| number <= self.heard);
            if !is_repeat {
                return text;
            }
            assert!(publish.dup, "{text} comes again as if it were new");
        }
    }

    /// Both come back to restarted proxies.
    fn come_back(&mut self, fleet: &Moving) {
        self.ear = Connect::v5("ear").resume().open_at(fleet.mqtt[0]);
        self.mouth = Connect::v5("mouth").resume().open_at(fleet.mqtt[1]);
        assert!(self.ear.present && self.mouth.present);
    }
}

#[test]
fn devices_do_not_notice_that_a_broker_has_moved() {
    let fleet = Moving::new();
    let (broker_0, mut broker_1) = (fleet.broker(0, None), fleet.broker(1, None));
    let mut proxies = fleet.ready_proxies();
    let mut talk = Talk::new(&fleet, 1);
    talk.say(MESSAGES);
    talk.settle();

    // Killed with messages on their way, and started elsewhere on its data.
    talk.say(MESSAGES / 2);
    broker_1.kill9();
    talk.say(MESSAGES / 2);
    let elsewhere = free_address();
    let broker_1 = fleet.broker(1, Some(elsewhere));
    broker_1.await_line("the fleet expects this broker elsewhere");
    let text = fleet.move_broker(1, elsewhere);
    assert!(text.contains(FIRST_MOVE), "{text}");
    talk.settle();
    for proxy in &proxies {
        proxy.await_line("the fleet has changed");
        assert!(
            !proxy.output().contains("the broker has another address"),
            "its link was gone"
        );
    }
    broker_1.await_line("the fleet has changed");
    broker_0.await_line("the fleet has changed");
    // Written before it is said.
    for file in [
        "data-0/topology",
        "data-1/topology",
        "topology/proxy-0.topology",
    ] {
        assert_eq!(fleet.kept(file), text, "{file}");
    }

    // With the old cluster file, a restarted proxy goes by what it kept.
    talk.say(MESSAGES);
    proxies.iter_mut().for_each(Process::kill9);
    let proxies = fleet.ready_proxies();
    let from_file = "the cluster file only began the fleet";
    assert!(proxies[0].await_line(from_file).contains("broker-1"));
    let heard = talk.heard;
    talk.come_back(&fleet);
    // What was not acknowledged goes with its connection: those that are there were stored, in order.
    talk.mouth.say(&talk.topic, 1, "again");
    loop {
        let next = talk.next();
        if next == "again" {
            break;
        }
        talk.heard += 1;
        assert_eq!(next, talk.heard.to_string());
    }
    assert!((heard..=talk.said).contains(&talk.heard));
}

#[test]
fn what_was_answered_outlives_a_kill_of_everything() {
    let fleet = Moving::new();
    let mut brokers = [fleet.broker(0, None), fleet.broker(1, None)];
    let mut proxies = fleet.ready_proxies();
    let mut talk = Talk::new(&fleet, 1);
    talk.say(MESSAGES);
    talk.settle();
    let elsewhere = free_address();
    let text = fleet.move_broker(1, elsewhere);
    // In the moment of the answer only the log of group 0 is sure to have it.
    brokers[0].kill9();
    brokers[1].kill9();
    proxies.iter_mut().for_each(Process::kill9);
    let broker_0 = fleet.broker(0, None);
    assert_eq!(fleet.members(fleet.broker_admins[0]), text);
    assert_eq!(fleet.kept("data-0/topology"), text);
    let broker_1 = fleet.broker(1, Some(elsewhere));
    let _proxies = fleet.ready_proxies();
    talk.come_back(&fleet);
    talk.say(MESSAGES);
    talk.settle();
    for admin in fleet.proxy_admins {
        assert_eq!(fleet.members(admin), text);
    }
    fleet.await_members(fleet.broker_admins[1], &text);
    drop((broker_0, broker_1));
    // From what it kept it knows where it is expected.
    let again = fleet.broker(1, None);
    assert!(
        again
            .output()
            .contains(&format!("links on      {elsewhere}")),
        "{}",
        again.output()
    );
}

/// Devices go on while their broker moves in order: proxies let go of the link that works. Group 0's broker has to be
/// announced so.
#[test]
fn a_broker_may_be_announced_before_it_moves() {
    for number in [1, 0] {
        let fleet = Moving::new();
        let mut brokers = [fleet.broker(0, None), fleet.broker(1, None)];
        let proxies = fleet.ready_proxies();
        let mut talk = Talk::new(&fleet, number);
        talk.say(MESSAGES);
        talk.settle();
        let elsewhere = free_address();
        let text = fleet.move_broker(number, elsewhere);
        fleet.await_members(fleet.broker_admins[number], &text);
        for proxy in &proxies {
            proxy.await_line("the broker has another address now");
        }
        talk.say(MESSAGES);
        assert!(brokers[number].terminate().success());
        // From what it has heard it knows where it is expected.
        brokers[number] = fleet.broker(number, None);
        talk.settle();
    }
}

/// The machine of group 0's broker was gone before anybody could be told: one proxy is corrected by hand, and tells the
/// others by the brokers that they share.
#[test]
fn one_proxy_that_is_corrected_tells_all_where_group_0_is() {
    let fleet = Moving::new();
    let (mut broker_0, broker_1) = (fleet.broker(0, None), fleet.broker(1, None));
    let [mut proxy_0, proxy_1] = fleet.ready_proxies();
    let mut talk = Talk::new(&fleet, 0);
    talk.say(MESSAGES);
    talk.settle();
    broker_0.kill9();
    let elsewhere = free_address();
    let _broker_0 = fleet.broker(0, Some(elsewhere));
    fleet.move_broker(0, elsewhere);
    proxy_0.kill9();
    let folder = fleet.folder.path();
    let file = std::fs::read_to_string(folder.join("cluster.toml")).expect("written");
    let corrected = file.replace(&fleet.links[0].to_string(), &elsewhere.to_string());
    std::fs::write(folder.join("corrected.toml"), corrected).expect("writable");
    std::fs::remove_file(folder.join("topology/proxy-0.topology")).expect("kept");
    let _proxy_0 = fleet.proxy_by(0, "corrected.toml");
    broker_1.await_lines("the fleet has changed", 2);
    proxy_1.await_lines("the fleet has changed", 2);
    talk.ear = Connect::v5("ear").resume().open_at(fleet.mqtt[0]);
    talk.say(MESSAGES);
    talk.settle();
}

#[test]
fn what_cannot_be_changed_is_refused_with_a_reason() {
    let fleet = Moving::new();
    let _brokers = [fleet.broker(0, None), fleet.broker(1, None)];
    let _proxies = fleet.ready_proxies();
    let refused = |admin: SocketAddr, name: &str, to: &str, why: &str| {
        let admin = admin.to_string();
        let (code, text) = fleet.ctl(&["move-member", name, "--to", to, "--admin", &admin]);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(why), "{text}");
    };
    let (group_0, to) = (fleet.broker_admins[0], free_address().to_string());
    refused(
        group_0,
        "broker-7",
        &to,
        "there is no member \"broker-7\"; there are: broker-0, broker-1",
    );
    let taken = fleet.links[0].to_string();
    refused(
        group_0,
        "broker-1",
        &taken,
        "is the address of \"broker-0\"",
    );
    let elsewhere = "at the admin port of group 0's broker (broker-0)";
    for admin in [fleet.broker_admins[1], fleet.proxy_admins[0]] {
        refused(admin, "broker-1", &to, elsewhere);
    }
    refused(free_address(), "broker-1", &to, "does not answer");
    let (code, text) = fleet.ctl(&["move-member", "broker-1", "--to", "nowhere"]);
    assert!(
        code == Some(2) && text.contains("expected a host and a port"),
        "{text}"
    );
    // What a browser would send, and what is no address.
    let post = |header: &str, to: &str| {
        let request = format!(
            "POST /members/broker-1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}Content-Length: {}\r\n\r\n{to}",
            to.len()
        );
        answer(group_0, &request)
    };
    assert!(post("Origin: http://evil.example\r\n", &to).starts_with("HTTP/1.1 403"));
    assert!(post("", "nowhere").starts_with("HTTP/1.1 400"));
    assert!(post("", &"x".repeat(5_000)).starts_with("HTTP/1.1 413"));
    let text = fleet.members(group_0);
    assert!(
        text.contains("members 2") && text.contains(&fleet.links[1].to_string()),
        "{text}"
    );
}

fn answer(admin: SocketAddr, request: &str) -> String {
    use std::io::{Read as _, Write as _};

    let mut stream = std::net::TcpStream::connect(admin).expect("an admin port");
    stream.write_all(request.as_bytes()).expect("it listens");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("it answers");
    text
}

/// Other slots would lead messages to groups that do not have their topics.
#[test]
fn a_proxy_that_begins_with_other_groups_is_refused() {
    let fleet = Moving::new();
    let broker_0 = fleet.broker(0, None);
    let path = fleet.folder.path().join("cluster.toml");
    let both = std::fs::read_to_string(&path).expect("written");
    let (one, _) = both.split_at(both.rfind("[[group]]").expect("two groups"));
    std::fs::write(Path::new(&path), one).expect("writable");
    let proxy = fleet.proxy(0);
    let why = "by broker-0 other groups have some slots than by proxy-0";
    proxy.await_line(why);
    broker_0.await_line(why);
}
