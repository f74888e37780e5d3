//! What goes wrong with a link, so that the log says it once and not with every try.

use super::limits::REPEAT_EVERY;
use cluster::link::LinkError;
use cluster::topology::NodeName;
use std::time::Instant;

/// The newest trouble with each member since the last link session, and when that was in the log.
#[derive(Debug, Default)]
pub(super) struct Troubles(Vec<Trouble>);

#[derive(Debug)]
struct Trouble {
    member: Option<NodeName>,
    error: LinkError,
    said: Instant,
}

impl Troubles {
    /// There is a link session.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Whether this is to be in the log.
    pub(super) fn is_news(
        &mut self,
        now: Instant,
        member: Option<&NodeName>,
        error: &LinkError,
    ) -> bool {
        let known = self.0.iter_mut().find(|it| it.member.as_ref() == member);
        let Some(known) = known else {
            self.0.push(Trouble {
                member: member.cloned(),
                error: error.clone(),
                said: now,
            });
            return true;
        };
        if known.error == *error && now < known.said + REPEAT_EVERY {
            return false;
        }
        known.error = error.clone();
        known.said = now;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trouble_of_each_member_is_named_once_a_minute() {
        let mut troubles = Troubles::default();
        let now = Instant::now();
        let [a, b] = ["a", "b"].map(|name| name.parse::<NodeName>().expect("a name"));
        for (member, error, expected) in [
            (Some(&a), LinkError::Closed, true),
            (Some(&b), LinkError::Silent, true),
            (Some(&a), LinkError::Closed, false),
            (Some(&b), LinkError::Silent, false),
            (Some(&b), LinkError::Closed, true),
            (None, LinkError::Closed, true),
        ] {
            assert_eq!(troubles.is_news(now, member, &error), expected);
        }
        let later = now + REPEAT_EVERY;
        assert!(troubles.is_news(later, Some(&a), &LinkError::Closed));
        troubles.clear();
        assert!(troubles.is_news(later, Some(&a), &LinkError::Closed));
    }
}
