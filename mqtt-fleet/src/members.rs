//! The members of a fleet as a text for people.

use std::fmt;

use cluster::topology::Topology;

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
        writeln!(f, "group    {:width$}  address", "member")?;
        for (group, member) in rows {
            writeln!(
                f,
                "{:<8} {:width$}  {}",
                group.0,
                member.name.as_str(),
                member.link
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::topology::ClusterFile;
    use std::path::Path;

    #[test]
    fn it_is_a_table() {
        let text = "[cluster]\nid = \"plant\"\n[secret]\nfile = \"s\"\n[[group]]\nnumber = 0\n[[group.member]]\nname = \
                    \"broker-a\"\nlink = \"10.0.0.5:1884\"\n[[group]]\nnumber = 7\n[[group.member]]\nname = \"b\"\nlink = \
                    \"[::1]:1\"\n";
        let file = ClusterFile::parse(Path::new("cluster.toml"), text).expect("valid");
        let topology = Topology::first(&file);
        assert_eq!(
            MemberList(&topology.clone().logged()).to_string(),
            "fleet    plant\nversion  1.2: slots 1, members 2\ngroup    member    address\n0        broker-a  \
             10.0.0.5:1884\n7        b         [::1]:1\n"
        );
        assert!(
            MemberList(&topology)
                .to_string()
                .contains("members 1 (of the cluster file")
        );
    }
}
