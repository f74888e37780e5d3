//! The cluster file: one text that every node of a fleet has the same copy of.

mod members;

use super::fixed::HASH;
use super::reader::{Reader, Table};
use super::{FileError, FixedPart, GroupMembers, Member, NodeName, SecretSource};
use crate::ring::{GroupWeight, WEIGHT_MAX};
use crate::shard_key::{
    HomeKey, HomeTemplate, KEY_LEVELS_DEFAULT, KEY_LEVELS_MAX, KeyRule, ShardKeyRules,
};
use crate::slots::{GroupNo, SLOT_COUNT, SlotTable};
use protocol::TopicFilter;
use std::path::Path;

/// What a cluster file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterFile {
    /// How topics find their slots.
    pub fixed: FixedPart,
    /// The groups a new fleet begins with, by ascending number; at least one.
    pub groups: Vec<GroupMembers>,
    /// Where the secret of the fleet is.
    pub secret: SecretSource,
}

impl ClusterFile {
    /// Reads a text that stands in the file `path`. All mistakes are returned, in the order of their lines.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Vec<FileError>> {
        let mut reader = Reader::new(path, text);
        let Some(document) = reader.document() else {
            return Err(reader.finish());
        };
        let document = Table::document(document.get_ref());
        reader.only(&document, &["cluster", "routing", "group", "secret"]);
        let cluster = reader.table(&document, "cluster");
        reader.only(&cluster, &["id"]);
        let id = reader.required::<NodeName>(&cluster, "id");
        let routing = reader.table(&document, "routing");
        let (rules, home_key) = routing_part(&mut reader, &routing);
        let groups = starting_part(&mut reader, &document);
        let secret = secret_part(&mut reader, &document, path);
        match (id, rules, home_key, secret) {
            (Some(id), Some(rules), Some(home_key), Some(secret)) if reader.is_clean() => {
                let cluster_id = id.as_str().to_owned();
                Ok(Self {
                    fixed: FixedPart {
                        cluster_id,
                        rules,
                        home_key,
                    },
                    groups,
                    secret,
                })
            }
            _ => Err(reader.finish()),
        }
    }

    /// Groups with their weights.
    pub fn weights(&self) -> Vec<GroupWeight> {
        self.groups.iter().map(|group| group.weight).collect()
    }

    /// The slot table that a new fleet begins with.
    pub fn first_table(&self, version: u64) -> SlotTable {
        SlotTable::from_ring(version, &self.weights()).expect("groups were checked when read")
    }

    /// The group that has a member of this name, and the member.
    pub fn member(&self, name: &NodeName) -> Option<(GroupNo, &Member)> {
        self.groups.iter().find_map(|group| {
            let member = group.members.iter().find(|member| member.name == *name)?;
            Some((group.weight.group, member))
        })
    }
}

fn routing_part(
    reader: &mut Reader<'_>,
    routing: &Table<'_>,
) -> (Option<ShardKeyRules>, Option<HomeKey>) {
    const KEYS: [&str; 6] = [
        "slots",
        "hash",
        "groups_max",
        "key_levels",
        "home_key",
        "key",
    ];
    reader.only(routing, &KEYS);
    one_value(reader, routing, "slots", u64::from(SLOT_COUNT));
    one_value(reader, routing, "groups_max", u64::from(GroupNo::MAX));
    if let Some((text, found)) = reader.text(routing, "hash")
        && text != HASH
    {
        let expected = format!("\"{HASH}\": this version knows no other");
        reader.unexpected(&found, expected);
    }
    let levels = levels(reader, routing, "key_levels").unwrap_or(KEY_LEVELS_DEFAULT);
    let overrides = reader.tables(routing, "key");
    let overrides = overrides
        .iter()
        .filter_map(|rule| key_rule(reader, rule))
        .collect();
    let rules = ShardKeyRules::new(levels, overrides);
    if let Err(error) = &rules {
        let at = routing
            .get("key")
            .map_or(routing.span.clone(), |key| key.span);
        reader.complain(&at, format!("routing.key: {error}"));
    }
    (rules.ok(), home_key(reader, routing))
}

/// A value that belongs to the fixed part although this program knows only one.
fn one_value(reader: &mut Reader<'_>, routing: &Table<'_>, key: &str, only: u64) {
    let Some(found) = routing.get(key) else {
        return;
    };
    let number = reader.whole(routing, key, 0..=u64::from(u32::MAX));
    if number.is_some_and(|number| number != only) {
        reader.unexpected(&found, format_args!("{only}: this version knows no other"));
    }
}

fn levels(reader: &mut Reader<'_>, table: &Table<'_>, key: &str) -> Option<u8> {
    let levels = reader.whole(table, key, 1..=u64::from(KEY_LEVELS_MAX))?;
    u8::try_from(levels).ok()
}

fn key_rule(reader: &mut Reader<'_>, rule: &Table<'_>) -> Option<KeyRule> {
    reader.only(rule, &["filter", "levels"]);
    for key in ["filter", "levels"] {
        if rule.get(key).is_none() {
            reader.missing(rule, key);
        }
    }
    let levels = levels(reader, rule, "levels");
    let (text, found) = reader.text(rule, "filter")?;
    match TopicFilter::new(text) {
        Ok(filter) => Some(KeyRule {
            filter,
            levels: levels?,
        }),
        Err(violation) => {
            reader.unexpected(&found, format_args!("a topic filter ({violation})"));
            None
        }
    }
}

fn home_key(reader: &mut Reader<'_>, routing: &Table<'_>) -> Option<HomeKey> {
    let Some((text, found)) = reader.text(routing, "home_key") else {
        return routing
            .get("home_key")
            .is_none()
            .then_some(HomeKey::ClientId);
    };
    if text == "client_id" {
        return Some(HomeKey::ClientId);
    }
    match HomeTemplate::new(text) {
        Ok(template) => Some(HomeKey::Topic(template)),
        Err(error) => {
            let expected = "\"client_id\", or a topic such as \"devices/%c\"";
            reader.unexpected(&found, format_args!("{expected} ({error})"));
            None
        }
    }
}

/// The groups by ascending number, complete only if the reader stays clean.
fn starting_part(reader: &mut Reader<'_>, document: &Table<'_>) -> Vec<GroupMembers> {
    let tables = reader.tables(document, "group");
    if tables.is_empty() && document.get("group").is_none() {
        let problem =
            "group is missing: give each broker group as [[group]], with number = 0 for the first";
        reader.complain(&document.span, problem);
    }
    let mut groups: Vec<GroupMembers> = Vec::new();
    for table in &tables {
        let Some(group) = group(reader, table, &groups) else {
            continue;
        };
        groups.push(group);
    }
    groups.sort_by_key(|group| group.weight.group);
    groups
}

fn group(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    earlier: &[GroupMembers],
) -> Option<GroupMembers> {
    reader.only(table, &["number", "weight", "member"]);
    if table.get("number").is_none() {
        reader.missing(table, "number");
    }
    let number = reader.whole(table, "number", 0..=u64::from(GroupNo::MAX - 1));
    let weight = match table.get("weight") {
        Some(_) => reader.whole(table, "weight", 1..=u64::from(WEIGHT_MAX)),
        None => Some(1),
    };
    let members = members::read(reader, table, earlier);
    let weight = GroupWeight {
        group: GroupNo(number? as u8),
        weight: weight? as u16,
    };
    if earlier
        .iter()
        .any(|group| group.weight.group == weight.group)
    {
        let problem = format!("group.number = {}: this group is there already", number?);
        reader.complain(&table.span, problem);
    }
    Some(GroupMembers { weight, members })
}

fn secret_part(reader: &mut Reader<'_>, document: &Table<'_>, path: &Path) -> Option<SecretSource> {
    let secret = reader.table(document, "secret");
    reader.only(&secret, &["file", "env"]);
    let file = reader.text(&secret, "file");
    let variable = reader.text(&secret, "env");
    match (file, variable) {
        (Some((file, found)), None) => {
            if file.is_empty() {
                reader.unexpected(&found, "the path of a file");
            }
            let folder = path.parent().unwrap_or(Path::new(""));
            Some(SecretSource::File(folder.join(file)))
        }
        (None, Some((variable, found))) => {
            // That prefix is for settings, and an unknown setting is an error.
            if variable.is_empty() || variable.starts_with("MQTT_FLEET_") {
                let expected =
                    "the name of an environment variable that does not begin with MQTT_FLEET_";
                reader.unexpected(&found, expected);
            }
            Some(SecretSource::Variable(variable.to_owned()))
        }
        (Some(_), Some((_, found))) => {
            reader.complain(&found.span, "secret.file and secret.env: give one of them");
            None
        }
        (None, None) => {
            let problem = "secret is missing: give [secret] with file = \"...\" or env = \"...\", where the \
                           secret is that all nodes of the fleet share";
            if reader.is_clean() || document.get("secret").is_none() {
                reader.complain(&secret.span, problem);
            }
            None
        }
    }
}

#[cfg(test)]
mod tests;
