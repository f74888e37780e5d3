use super::*;
use crate::config::Value;
use cluster::slots::SlotTable;

const CLUSTER: &str = "[cluster]\nid = \"plant\"\n[[group]]\nnumber = 0\n[[group.member]]\nname = \"broker-0\"\n\
                       link = \"127.0.0.1:18930\"\n[secret]\nfile = \"secret\"\n";

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().expect("a temporary folder"));
        place.write("cluster.toml", CLUSTER);
        place.write("secret", "0123456789abcdef\n");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path(name), content).expect("writable");
    }

    fn load(&self, role: Role, name: &str) -> Result<Node, String> {
        let mut typed = Typed::defaults();
        let mut set = |section, key, value| typed.set_flag(section, key, value, "--flag");
        set("node", "name", Value::Text(name.to_owned()));
        set("cluster", "file", Value::Path(self.path("cluster.toml")));
        set("cluster", "cache", Value::Path(self.path("cache")));
        set("data", "dir", Value::Path(self.path("data")));
        Node::load(role, &typed).map_err(|errors| {
            assert_eq!(errors.len(), 1, "{errors:?}");
            errors[0].to_string()
        })
    }
}

#[test]
fn a_broker_finds_its_seat() {
    let place = Place::new();
    let node = place.load(Role::Broker, "broker-0").expect("valid");
    let (group, member) = node.seat.expect("a member");
    assert_eq!(
        (group, member.link.as_str()),
        (GroupNo(0), "127.0.0.1:18930")
    );
    let sentence = place.load(Role::Broker, "broker-1").expect_err("not there");
    assert!(
        sentence.contains("\"broker-1\" is no member") && sentence.contains("broker-0"),
        "{sentence}"
    );
    let sentence = place.load(Role::Proxy, "proxy 1").expect_err("no name");
    assert!(sentence.contains("node.name = \"proxy 1\""), "{sentence}");
}

#[test]
fn several_groups_and_several_members_of_one_are_fine() {
    let place = Place::new();
    let more = |n: u8| {
        format!(
            "[[group.member]]\nname = \"broker-{n}\"\nlink = \"127.0.0.1:1893{n}\"\npeer = \"127.0.0.1:1900{n}\"\n"
        )
    };
    place.write(
        "cluster.toml",
        &format!("{CLUSTER}[[group]]\nnumber = 1\n{}", more(1)),
    );
    let proxy = place.load(Role::Proxy, "proxy-0").expect("two groups");
    assert_eq!(proxy.topology().expect("new").groups.len(), 2);
    let broker = place.load(Role::Broker, "broker-1").expect("two groups");
    let (group, _) = broker.seat.as_ref().expect("alone in its group");
    assert_eq!(*group, GroupNo(1));
    assert_eq!(broker.topology().expect("new").groups.len(), 2);
    place.write(
        "cluster.toml",
        &CLUSTER
            .replace("18930\"\n", "18930\"\npeer = \"127.0.0.1:19000\"\n")
            .replace("[secret]", &format!("{}{}[secret]", more(1), more(2))),
    );
    let broker = place.load(Role::Broker, "broker-2").expect("three members");
    let topology = broker.topology().expect("new");
    let (group, _) = broker.place(&topology).expect("it is one of them");
    assert_eq!((group, topology.members(group).len()), (GroupNo(0), 3));
}

#[test]
fn a_secret_that_is_not_there_or_short_is_named() {
    let place = Place::new();
    place.write("secret", "short");
    let sentence = place.load(Role::Proxy, "proxy-0").expect_err("short");
    assert!(
        sentence.contains("secret: 5 bytes are too short"),
        "{sentence}"
    );
    std::fs::remove_file(place.path("secret")).expect("it was there");
    let sentence = place.load(Role::Proxy, "proxy-0").expect_err("gone");
    assert!(
        sentence.starts_with("cannot read the secret of the fleet"),
        "{sentence}"
    );
    place.write(
        "cluster.toml",
        &CLUSTER.replace("file = \"secret\"", "env = \"FLEET_UNSET_SECRET\""),
    );
    let sentence = place.load(Role::Proxy, "proxy-0").expect_err("not set");
    assert!(
        sentence.contains("FLEET_UNSET_SECRET: the variable is not set"),
        "{sentence}"
    );
}

#[test]
fn the_topology_is_kept_and_read_again() {
    let place = Place::new();
    let node = place.load(Role::Broker, "broker-0").expect("valid");
    let first = node.topology().expect("new");
    node.keep(&first).expect("writable");
    let kept = place.path("data").join("topology");
    assert_eq!(read_kept(&kept).expect("kept"), first);
    assert_eq!(node.topology().expect("the same"), first);
    // A move at run time counts more than the file.
    let moved = Topology {
        table: SlotTable::of_one_group(7, GroupNo(0)),
        ..first
    };
    keep(&kept, &moved).expect("writable");
    assert_eq!(node.topology().expect("as kept").table.version(), 7);
    std::fs::write(&kept, "mqtt-fleet topology 1\nrubbish\n").expect("writable");
    let sentence = node.topology().expect_err("damaged").to_string();
    assert!(sentence.contains("topology: it is damaged"), "{sentence}");
}

#[test]
fn an_edited_fixed_part_is_refused() {
    let place = Place::new();
    let node = place.load(Role::Broker, "broker-0").expect("valid");
    node.keep(&node.topology().expect("new")).expect("writable");
    place.write(
        "cluster.toml",
        &format!("{CLUSTER}[routing]\nkey_levels = 3\n"),
    );
    let node = place
        .load(Role::Broker, "broker-0")
        .expect("valid by itself");
    let sentence = node.topology().expect_err("another fixed part").to_string();
    assert!(sentence.contains("can never change"), "{sentence}");
}

/// A proxy may run where it can write nothing.
#[test]
fn a_proxy_that_cannot_keep_goes_on_and_a_broker_does_not() {
    let place = Place::new();
    for folder in ["cache", "data"] {
        place.write(folder, "a file where the folder should be");
    }
    let proxy = place.load(Role::Proxy, "proxy-0").expect("valid");
    let topology = proxy.topology().expect("new");
    proxy.keep(&topology).expect("it goes on");
    let broker = place.load(Role::Broker, "broker-0").expect("valid");
    let error = broker
        .keep(&topology)
        .expect_err("it needs its data folder anyway");
    assert!(matches!(error, NodeError::Unwritable { .. }), "{error}");
}
