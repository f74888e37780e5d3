//! What a subscriber asks for: one filter that matches its publisher's topic, and others that match
//! nothing anybody sends.

/// The filters of one subscriber.
#[derive(Debug)]
pub(crate) struct Filters {
    name: Box<str>,
    wildcard: bool,
    count: usize,
}

impl Filters {
    /// `count` filters (at least 1) of the pair called `name`. With `wildcard` none of them says
    /// which of a fleet's groups its topics belong to, so that all groups know all of them.
    pub(super) fn new(name: String, wildcard: bool, count: usize) -> Self {
        Self {
            name: name.into_boxed_str(),
            wildcard,
            count,
        }
    }

    /// What the publisher sends to. The first two levels are the pair's own: they are what a fleet
    /// spreads topics over its groups by.
    pub(super) fn topic(&self) -> String {
        let name = &self.name;
        if self.wildcard {
            format!("endure/{name}/{name}")
        } else {
            format!("endure/{name}/message")
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// All of them; the last one matches the topic.
    pub(crate) fn all(&self) -> impl Iterator<Item = String> {
        let spare = (1..self.count).map(|number| format!("{}-spare{number}", self.name));
        let names = spare.chain([self.name.to_string()]);
        names.map(|name| {
            if self.wildcard {
                format!("endure/+/{name}")
            } else {
                format!("endure/{name}/message")
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Level by level, with `+` only.
    fn matches(filter: &str, topic: &str) -> bool {
        let (filter, topic) = (filter.split('/'), topic.split('/'));
        filter.clone().count() == topic.clone().count()
            && filter.zip(topic).all(|(f, t)| f == "+" || f == t)
    }

    #[test]
    fn exactly_one_filter_matches_the_own_topic_and_none_another_one() {
        for wildcard in [false, true] {
            let of = |pair: u32| Filters::new(format!("run-{pair}"), wildcard, 100);
            let all: Vec<String> = of(1).all().collect();
            assert_eq!(all.len(), 100);
            let matching = |topic: &str| all.iter().filter(|f| matches(f, topic)).count();
            assert_eq!(matching(&of(1).topic()), 1);
            assert_eq!(matching(&of(11).topic()), 0);
            let shown = all.iter().filter(|f| f.starts_with("endure/+/")).count();
            assert_eq!(shown, if wildcard { 100 } else { 0 });
        }
    }
}
