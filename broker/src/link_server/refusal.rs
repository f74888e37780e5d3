//! What a proxy is told that the group sends away.

use crate::leader::LinkRefused;
use cluster::link::LinkError;
use cluster::wire::{Refusal, Refused};

/// Whether the proxy is sent away since this member does not lead, or the group does not serve.
pub(super) fn is_by_role(error: &LinkError) -> bool {
    use Refusal::{Full, NoQuorum, NotLeader};
    matches!(error, LinkError::Refused(it) if matches!(it.refusal, NotLeader | NoQuorum | Full))
}

/// What the proxy is told, by the node of this name.
pub(super) fn refusal(refused: &LinkRefused, name: &str) -> Refused {
    let text = format!("{name}: {refused}");
    let refusal = match refused {
        LinkRefused::NotServing | LinkRefused::Ended => Refusal::NotServing,
        LinkRefused::TooManyLinks => Refusal::TooManyLinks,
        LinkRefused::Superseded => Refusal::Superseded,
        LinkRefused::NotLeader { leader } => return Refused::not_leader(leader.clone(), &text),
        LinkRefused::NoQuorum => Refusal::NoQuorum,
        LinkRefused::Full => Refusal::Full,
    };
    Refused::new(refusal, &text)
}
