//! The members of a fleet as a text for people, and requests to change them.

use std::fmt;
use std::str::FromStr;

use cluster::slots::GroupNo;
use cluster::topology::{HostPort, Member, MemberChange, NodeName, Topology};

/// Prints the groups with their members and addresses, and how new that is.
pub(crate) struct MemberList<'t>(pub(crate) &'t Topology);

impl fmt::Display for MemberList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(topology) = self;
        let from = if topology.is_from_file() {
            " (of the cluster file: group 0's log was not heard of yet)"
        } else {
            ""
        };
        writeln!(f, "fleet    {}", topology.cluster_id)?;
        writeln!(
            f,
            "version  {}: slots {}, members {}{from}",
            topology.version(),
            topology.table.version(),
            topology.members_version
        )?;
        let rows = topology.groups.iter().flat_map(|group| {
            let members = group.members.iter();
            members.map(|member| (group.weight.group, member))
        });
        let width = rows
            .clone()
            .map(|(_, member)| member.name.as_str().len())
            .max();
        let width = width.unwrap_or_default().max("member".len());
        let links = rows.clone().map(|(_, member)| member.link.as_str().len());
        let links = links.max().unwrap_or_default().max("address".len());
        let header = format!("group    {:width$}  {:links$}  peer", "member", "address");
        writeln!(f, "{header}")?;
        for (group, member) in rows {
            let peer = member.peer.as_ref().map_or("-", HostPort::as_str);
            let (group, name, link) = (group.0, member.name.as_str(), member.link.as_str());
            writeln!(f, "{group:<8} {name:width$}  {link:links$}  {peer}")?;
        }
        Ok(())
    }
}

/// A member in a list as [`MemberList`] prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Number of its group.
    pub(crate) group: u8,
    /// Where it takes links.
    pub(crate) link: String,
    /// Where the others of its group reach it; `-`: there are none.
    pub(crate) peer: String,
}

impl Listed {
    /// Looks for a member in such a list.
    pub(crate) fn find(list: &str, name: &NodeName) -> Option<Self> {
        let lines = list.lines();
        let mut rows = lines.skip_while(|line| !line.starts_with("group ")).skip(1);
        rows.find_map(|row| {
            let words: Vec<_> = row.split_whitespace().collect();
            let [group, member, link, peer] = words[..] else {
                return None;
            };
            let listed = Self {
                group: group.parse().ok()?,
                link: link.to_owned(),
                peer: peer.to_owned(),
            };
            (member == name.as_str()).then_some(listed)
        })
    }
}

/// What is to become of a member, as `POST /members/NAME` takes it: words, of which `link=HOST:PORT` and `peer=HOST:PORT` say
/// where it is reached. A mere `HOST:PORT` is that of links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemberRequest {
    /// What is done.
    pub(crate) what: What,
    /// Where it takes links.
    pub(crate) link: Option<HostPort>,
    /// Where the others of its group reach it.
    pub(crate) peer: Option<HostPort>,
}

/// What is done with a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// It is reached elsewhere: at least one address is there.
    Move,
    /// `group=N`: it comes into the group. Both addresses are there.
    Add(GroupNo),
    /// `remove`: it goes. No address is there.
    Remove,
}

impl MemberRequest {
    /// The change of the member list that this is for the member of this name.
    pub(crate) fn change(self, name: NodeName) -> MemberChange {
        let Self { what, link, peer } = self;
        match what {
            What::Add(group) => {
                let link = link.expect("there for this");
                let member = Member { name, link, peer };
                MemberChange::Add { group, member }
            }
            What::Move => MemberChange::Move { name, link, peer },
            What::Remove => MemberChange::Remove { name },
        }
    }

    /// Whether the addresses that are there are those that it takes.
    fn is_complete(&self) -> bool {
        let (link, peer) = (self.link.is_some(), self.peer.is_some());
        match self.what {
            What::Move => link || peer,
            What::Add(_) => link && peer,
            What::Remove => !link && !peer,
        }
    }
}

impl fmt::Display for MemberRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match &self.what {
            What::Move => None,
            What::Add(group) => Some(format!("group={}", group.0)),
            What::Remove => Some("remove".to_owned()),
        };
        let link = self.link.as_ref().map(|link| format!("link={link}"));
        let peer = self.peer.as_ref().map(|peer| format!("peer={peer}"));
        let words: Vec<_> = what.into_iter().chain(link).chain(peer).collect();
        f.write_str(&words.join(" "))
    }
}

impl FromStr for MemberRequest {
    type Err = String;

    /// The error is a sentence.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut asked = Self {
            what: What::Move,
            link: None,
            peer: None,
        };
        for word in text.split_whitespace() {
            match word.split_once('=') {
                Some(("group", number)) => {
                    let number = number.parse().ok().filter(|number| *number < GroupNo::MAX);
                    let number =
                        number.ok_or_else(|| format!("{word:?}: expected a number of a group"))?;
                    asked.what = What::Add(GroupNo(number));
                }
                Some(("peer", address)) => asked.peer = Some(expected(address)?),
                Some(("link", address)) => asked.link = Some(expected(address)?),
                None if word == "remove" => asked.what = What::Remove,
                _ => asked.link = Some(expected(word)?),
            }
        }
        if asked.is_complete() {
            Ok(asked)
        } else {
            Err(format!(
                "{text:?}: expected link=HOST:PORT and peer=HOST:PORT, or one of them for a move, or remove"
            ))
        }
    }
}

/// Reads a name or an address. The error is a sentence.
pub(crate) fn expected<T: FromStr<Err = &'static str>>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|expected| format!("{text:?}: expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::topology::ClusterFile;
    use std::path::Path;

    #[test]
    fn a_request_is_read_as_it_is_written() {
        for text in [
            "link=host:1",
            "peer=[::1]:2",
            "link=host:1 peer=[::1]:2",
            "group=63 link=host:1 peer=host:2",
            "remove",
        ] {
            let asked = text.parse::<MemberRequest>().expect(text);
            assert_eq!(asked.to_string(), text);
        }
        let of_links = " host:1\n".parse::<MemberRequest>().expect("links");
        assert_eq!(of_links.to_string(), "link=host:1");
        for wrong in [
            "",
            "host",
            "peer=",
            "at=host:1",
            "group=64 link=host:1 peer=host:2",
            "group=1 link=host:1",
            "replaces=a link=host:1 peer=host:2",
            "remove host:1",
        ] {
            let sentence = wrong.parse::<MemberRequest>().expect_err("no request");
            assert!(sentence.contains('"'), "{sentence}");
        }
    }

    #[test]
    fn a_request_is_a_change_of_the_list() {
        let change = |text: &str| {
            let asked = text.parse::<MemberRequest>().expect(text);
            format!("{:?}", asked.change("b-1".parse().expect("a name")))
        };
        assert_eq!(
            change("group=3 link=h:1 peer=h:2"),
            "Add { group: GroupNo(3), member: Member { name: \"b-1\", link: \"h:1\", peer: Some(\"h:2\") } }"
        );
        assert_eq!(
            change("peer=h:2"),
            "Move { name: \"b-1\", link: None, peer: Some(\"h:2\") }"
        );
        assert_eq!(change("remove"), "Remove { name: \"b-1\" }");
    }

    #[test]
    fn it_is_a_table() {
        let text = "[cluster]\nid = \"plant\"\n[secret]\nfile = \"s\"\n[[group]]\nnumber = 0\n[[group.member]]\nname = \
                    \"broker-a\"\nlink = \"10.0.0.5:1884\"\npeer = \"10.0.0.5:1885\"\n[[group]]\nnumber = 7\n[[group.member]]\nname = \"b\"\nlink = \
                    \"[::1]:1\"\n";
        let file = ClusterFile::parse(Path::new("cluster.toml"), text).expect("valid");
        let topology = Topology::first(&file);
        assert_eq!(
            MemberList(&topology.clone().logged()).to_string(),
            "fleet    plant\nversion  1.2: slots 1, members 2\ngroup    member    address        peer\n0        broker-a  \
             10.0.0.5:1884  10.0.0.5:1885\n7        b         [::1]:1        -\n"
        );
        let list = MemberList(&topology).to_string();
        assert!(list.contains("members 1 (of the cluster file"), "{list}");
        let find = |name: &str| Listed::find(&list, &name.parse().expect("a name"));
        let listed = |group, link: &str, peer: &str| {
            Some(Listed {
                group,
                link: link.to_owned(),
                peer: peer.to_owned(),
            })
        };
        let at_a = listed(0, "10.0.0.5:1884", "10.0.0.5:1885");
        assert_eq!(find("broker-a"), at_a);
        assert_eq!(find("b"), listed(7, "[::1]:1", "-"));
        assert_eq!(find("member"), None);
        assert_eq!(find("c"), None);
    }
}
