use super::*;
use crate::launcher::ClusterArgs;
use clap::Parser;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: ClusterArgs,
}

/// A fleet in this folder, with two groups and so many members in each.
fn plan(folder: &Path, members: &str) -> Plan {
    let program = std::env::current_exe().expect("a program");
    let words = [
        "cluster",
        "--groups",
        "2",
        "--members",
        members,
        "--redis-server",
        program.to_str().expect("UTF-8"),
        "--data",
        folder.to_str().expect("UTF-8"),
    ];
    Plan::new(&Line::parse_from(words).args).expect("planned")
}

#[test]
fn the_cluster_file_has_the_members_with_their_addresses() {
    let folder = tempfile::tempdir().expect("a folder");
    let plan = plan(folder.path(), "3");
    write(&plan).expect("written");
    let file = node::read_cluster_file(&folder.path().join("cluster.toml")).expect("valid");
    assert_eq!(file.groups.len(), 2);
    let members = file.groups.iter().flat_map(|group| &group.members);
    let read = members.map(|member| {
        let peer = member.peer.as_ref().expect("one of several");
        format!("{} {} {peer}", member.name, member.link)
    });
    let planned = plan.of(NodeRole::Broker).map(|node| {
        let [link, peer] =
            [node.addresses.link, node.addresses.peer].map(|it| it.expect("planned"));
        format!("{} {link} {peer}", node.name)
    });
    assert_eq!(read.collect::<Vec<_>>(), planned.collect::<Vec<_>>());
    for node in plan.of(NodeRole::Broker) {
        let text = std::fs::read_to_string(config_file(folder.path(), &node.name));
        assert!(
            text.expect("there")
                .contains(&format!("name = \"{}\"", node.name))
        );
    }
}

#[test]
fn a_folder_with_other_groups_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    write(&plan(folder.path(), "3")).expect("written");
    let error = write(&plan(folder.path(), "1")).expect_err("another size");
    let sentence = error.to_string();
    assert!(
        sentence.contains("have 3 member(s) each, not 1; say --members 3"),
        "{sentence}"
    );
    write(&plan(folder.path(), "3")).expect("the same again");
}
