use super::*;
use crate::topology::HostPort;

const SMALL: &str = r#"
[cluster]
id = "plant-7"
[[group]]
number = 0
[[group.member]]
name = "broker-0"
link = "127.0.0.1:18930"
[secret]
file = "secret"
"#;

fn parse(text: &str) -> Result<ClusterFile, Vec<String>> {
    let parsed = ClusterFile::parse(Path::new("etc/cluster.toml"), text);
    parsed.map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

fn complaint(text: &str) -> String {
    let mut errors = parse(text).expect_err("the file is wrong");
    assert_eq!(errors.len(), 1, "{errors:#?}");
    errors.remove(0)
}

/// [`SMALL`] with one text in the place of another.
fn with(old: &str, new: &str) -> String {
    assert!(SMALL.contains(old), "{old}");
    SMALL.replace(old, new)
}

#[test]
fn a_small_file_means_the_defaults() {
    let file = parse(SMALL).expect("valid");
    assert_eq!(file.fixed.cluster_id, "plant-7");
    assert_eq!(file.fixed.rules, ShardKeyRules::default());
    assert_eq!(file.fixed.home_key, HomeKey::ClientId);
    assert_eq!(
        file.secret,
        SecretSource::File(Path::new("etc").join("secret"))
    );
    let name = "broker-0".parse().expect("a name");
    let (group, member) = file.member(&name).expect("it is there");
    assert_eq!(
        (group, member.link.as_str()),
        (GroupNo(0), "127.0.0.1:18930")
    );
    assert_eq!(file.first_table(1), SlotTable::of_one_group(1, GroupNo(0)));
}

#[test]
fn what_is_the_default_may_be_said() {
    let routing = "[routing]\nslots = 16_384\nhash = \"xxh3\"\ngroups_max = 64\nkey_levels = 2\n\
                   home_key = \"client_id\"\n";
    let said = parse(&format!("{SMALL}{routing}")).expect("valid");
    assert_eq!(Ok(said), parse(SMALL));
}

#[test]
fn everything_can_be_said() {
    let rich = with(
        "[secret]\nfile = \"secret\"",
        "[secret]\nenv = \"FLEET_SECRET\"",
    );
    let more = r#"
[[group]]
number = 2
weight = 3
[[group.member]]
name = "broker-2"
link = "broker-2.example:18930"
[routing]
key_levels = 3
home_key = "devices/%c"
[[routing.key]]
filter = "fleet/telemetry/#"
levels = 4
[[routing.key]]
filter = "a/+"
levels = 1
"#;
    let file = parse(&format!("{rich}{more}")).expect("valid");
    assert_eq!(file.secret, SecretSource::Variable("FLEET_SECRET".into()));
    assert_eq!(
        file.fixed.rules.shard_key("fleet/telemetry/1/2/3"),
        "fleet/telemetry/1/2"
    );
    assert_eq!(file.fixed.rules.shard_key("a/b"), "a");
    assert_eq!(file.fixed.rules.shard_key("x/y/z/0"), "x/y/z");
    assert_eq!(
        file.fixed.home_slot("7"),
        file.fixed.slot_of_topic("devices/7")
    );
    let weights: Vec<_> = file
        .weights()
        .iter()
        .map(|w| (w.group.0, w.weight))
        .collect();
    assert_eq!(weights, [(0, 1), (2, 3)]);
}

#[test]
fn a_wrong_value_is_named_with_file_line_and_key() {
    assert_eq!(
        complaint(&format!("{SMALL}[routing]\nkey_levels = 0")),
        "etc/cluster.toml:12: routing.key_levels = 0: expected a whole number from 1 to 32"
    );
    assert_eq!(
        complaint(&format!("{SMALL}[routing]\nslots = 1024")),
        "etc/cluster.toml:12: routing.slots = 1024: expected 16384: this version knows no other"
    );
    assert_eq!(
        complaint(&format!("{SMALL}[routing]\nhash = \"md5\"")),
        "etc/cluster.toml:12: routing.hash = \"md5\": expected \"xxh3\": this version knows no other"
    );
    assert_eq!(
        complaint(&with("\"127.0.0.1:18930\"", "\"127.0.0.1\"")),
        format!(
            "etc/cluster.toml:8: group.member.link = \"127.0.0.1\": expected {}",
            HostPort::EXPECTED
        )
    );
    assert_eq!(
        complaint(&with("\"plant-7\"", "\"plant 7\"")),
        format!(
            "etc/cluster.toml:3: cluster.id = \"plant 7\": expected {}",
            NodeName::EXPECTED
        )
    );
    assert_eq!(
        complaint(&with("number = 0", "number = 64")),
        "etc/cluster.toml:5: group.number = 64: expected a whole number from 0 to 63"
    );
    let home = complaint(&format!("{SMALL}[routing]\nhome_key = \"devices\""));
    assert!(
        home.starts_with("etc/cluster.toml:12: routing.home_key = \"devices\""),
        "{home}"
    );
    let filter = "[[routing.key]]\nfilter = \"a/#/b\"\nlevels = 1";
    let filter = complaint(&format!("{SMALL}{filter}"));
    assert!(
        filter.starts_with("etc/cluster.toml:12: routing.key.filter = \"a/#/b\""),
        "{filter}"
    );
    let wrapped = "[[routing.key]]\nfilter = \"$share/g/a\"\nlevels = 1";
    let wrapped = complaint(&format!("{SMALL}{wrapped}"));
    assert!(
        wrapped.starts_with("etc/cluster.toml:11: routing.key:"),
        "{wrapped}"
    );
}

#[test]
fn what_is_missing_or_unknown_is_named() {
    assert_eq!(
        complaint(&with("id = \"plant-7\"\n", "")),
        "etc/cluster.toml:2: cluster.id is missing"
    );
    assert_eq!(
        complaint(&with("number = 0\n", "")),
        "etc/cluster.toml:4: group.number is missing"
    );
    assert_eq!(
        complaint(&with("id = \"plant-7\"", "id = \"plant-7\"\nname = \"x\"")),
        "etc/cluster.toml:4: unknown key cluster.name; there are: id"
    );
    let section = complaint(&format!("{SMALL}[route]\n"));
    assert!(
        section.starts_with("etc/cluster.toml:11: unknown key route"),
        "{section}"
    );
    let secret = complaint(&with("[secret]\nfile = \"secret\"", ""));
    assert!(secret.contains("secret is missing"), "{secret}");
    let both = complaint(&with("file = \"secret\"", "file = \"secret\"\nenv = \"X\""));
    assert!(
        both.starts_with("etc/cluster.toml:11: secret.file and secret.env"),
        "{both}"
    );
    let setting = complaint(&with("file = \"secret\"", "env = \"MQTT_FLEET_SECRET\""));
    assert!(
        setting.contains("does not begin with MQTT_FLEET_"),
        "{setting}"
    );
}

#[test]
fn twins_are_refused() {
    let second = |number: u8, name: &str, link: &str| {
        format!(
            "{SMALL}[[group]]\nnumber = {number}\n[[group.member]]\nname = \"{name}\"\nlink = \"{link}\""
        )
    };
    parse(&second(1, "broker-1", "127.0.0.1:18931")).expect("valid");
    let number = complaint(&second(0, "broker-1", "127.0.0.1:18931"));
    assert!(
        number.contains("group.number = 0: this group is there already"),
        "{number}"
    );
    let name = complaint(&second(1, "broker-0", "127.0.0.1:18931"));
    assert!(
        name.contains("group.member.name = \"broker-0\": another member"),
        "{name}"
    );
    let link = complaint(&second(1, "broker-1", "127.0.0.1:18930"));
    assert!(
        link.contains("group.member.link = \"127.0.0.1:18930\": another member"),
        "{link}"
    );
}

/// [`SMALL`] whose group has these members more, of lines 9 and on.
fn with_members(more: &str) -> String {
    let own = "link = \"127.0.0.1:18930\"\npeer = \"127.0.0.1:19000\"\n";
    with("link = \"127.0.0.1:18930\"\n", &format!("{own}{more}"))
}

fn member(name: &str, port: u16) -> String {
    let peer = port + 70;
    format!(
        "[[group.member]]\nname = \"{name}\"\nlink = \"127.0.0.1:{port}\"\npeer = \"127.0.0.1:{peer}\"\n"
    )
}

#[test]
fn a_group_may_have_three_members_with_peers() {
    let text = with_members(&(member("broker-1", 18_931) + &member("broker-2", 18_932)));
    let file = parse(&text).expect("valid");
    let peers: Vec<_> = file.groups[0].members.iter().map(|it| &it.peer).collect();
    let expected = [19_000, 19_001, 19_002].map(|port| format!("127.0.0.1:{port}").parse().ok());
    assert!(expected.iter().eq(peers), "{:?}", file.groups);
    parse(&with_members("")).expect("one may have a peer too");
}

#[test]
fn a_group_has_five_members_at_most() {
    let of = |count: u16| {
        let more = (1..count).map(|n| member(&format!("broker-{n}"), 18_930 + n));
        with_members(&more.collect::<String>())
    };
    for count in [6, 7] {
        let error = complaint(&of(count));
        let start = format!(
            "etc/cluster.toml:4: group.member: the group has {count} members; a group begins with 1, 3 or 5"
        );
        assert!(error.starts_with(&start), "{error}");
    }
    for count in 1..=5 {
        parse(&of(count)).expect("valid");
    }
}

#[test]
fn members_of_a_group_of_several_need_different_peers() {
    let three = with_members(&(member("broker-1", 18_931) + &member("broker-2", 18_932)));
    assert_eq!(
        complaint(&three.replace("peer = \"127.0.0.1:19001\"\n", "")),
        "etc/cluster.toml:10: group.member.peer is missing: the group has 3 members, and each needs an address where the \
         others reach it"
    );
    for (taken, by) in [
        ("127.0.0.1:19000", "another member has it already"),
        ("127.0.0.1:18931", "another member has it already"),
        ("127.0.0.1:18932", "it is its link too"),
    ] {
        assert_eq!(
            complaint(&three.replace("127.0.0.1:19002", taken)),
            format!("etc/cluster.toml:14: group.member.peer = \"{taken}\": {by}")
        );
    }
    let link = complaint(&three.replace("127.0.0.1:18931", "127.0.0.1:19000"));
    assert!(
        link.contains("group.member.link = \"127.0.0.1:19000\": another"),
        "{link}"
    );
    let nothing = complaint(&three.replace("\"127.0.0.1:19001\"", "\"host\""));
    assert!(
        nothing.starts_with("etc/cluster.toml:13: group.member.peer = \"host\": expected"),
        "{nothing}"
    );
}

#[test]
fn every_mistake_is_told_in_order() {
    let errors = parse("[routing]\nkey_levels = 99\n[cluster]\nid = 5\n").expect_err("wrong");
    let lines: Vec<_> = errors.iter().map(|e| e.split(':').nth(1)).collect();
    assert_eq!(errors.len(), 4, "{errors:#?}");
    assert!(lines.is_sorted(), "{errors:#?}");
    let broken = complaint("[cluster\n");
    assert!(broken.starts_with("etc/cluster.toml:1: "), "{broken}");
}
