//! The members of a fleet as a text for people, and a request to move one.

use std::fmt;
use std::str::FromStr;

use cluster::topology::{HostPort, Topology};

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

/// Where a member is to be reached from now on, as `POST /members/NAME` takes it: `link=HOST:PORT` and `peer=HOST:PORT`,
/// or one of them. A mere `HOST:PORT` is that of links. At least one is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MoveRequest {
    /// Where it takes links.
    pub(crate) link: Option<HostPort>,
    /// Where the others of its group reach it.
    pub(crate) peer: Option<HostPort>,
}

impl fmt::Display for MoveRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = [("link", &self.link), ("peer", &self.peer)];
        let mut gap = "";
        for (name, address) in named {
            if let Some(address) = address {
                write!(f, "{gap}{name}={address}")?;
                gap = " ";
            }
        }
        Ok(())
    }
}

impl FromStr for MoveRequest {
    type Err = String;

    /// The error is a sentence.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut asked = Self {
            link: None,
            peer: None,
        };
        for word in text.split_whitespace() {
            let (place, address) = match word.split_once('=') {
                Some(("peer", address)) => (&mut asked.peer, address),
                Some(("link", address)) => (&mut asked.link, address),
                _ => (&mut asked.link, word),
            };
            let parsed = address.parse();
            let parsed = parsed.map_err(|expected| format!("{address:?}: expected {expected}"))?;
            if place.replace(parsed).is_some() {
                return Err(format!("{text:?}: one address for links and one for peers"));
            }
        }
        if asked.link.is_none() && asked.peer.is_none() {
            return Err(format!("{text:?}: expected {}", HostPort::EXPECTED));
        }
        Ok(asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::topology::ClusterFile;
    use std::path::Path;

    #[test]
    fn a_request_to_move_is_read_as_it_is_written() {
        let at = |text: &str| text.parse::<HostPort>().ok();
        let link = at("host:1");
        for (text, peer) in [
            ("link=host:1", None),
            ("link=host:1 peer=[::1]:2", at("[::1]:2")),
        ] {
            let asked = MoveRequest {
                link: link.clone(),
                peer,
            };
            assert_eq!(asked.to_string(), text);
            assert_eq!(text.parse(), Ok(asked));
        }
        let of_links = MoveRequest { link, peer: None };
        assert_eq!(" host:1\n".parse(), Ok(of_links));
        let of_peers = "peer=host:1".parse::<MoveRequest>().expect("one is enough");
        assert_eq!((of_peers.link, of_peers.peer), (None, at("host:1")));
        for wrong in ["", "host", "peer=", "at=host:1", "host:1 link=host:2"] {
            let sentence = wrong.parse::<MoveRequest>().expect_err("no request");
            assert!(sentence.contains('"'), "{sentence}");
        }
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
        assert!(
            MemberList(&topology)
                .to_string()
                .contains("members 1 (of the cluster file")
        );
    }
}
