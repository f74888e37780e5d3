//! A call with entries that is on its way to a member.
//!
//! Openraft waits for an answer for no longer than a heartbeat, and then asks for the same entries to be sent again. What
//! takes longer to carry would be on its way many times over, each copy behind the one before it, and no answer would
//! ever be there in time. So the call goes on, and who asks again gets its answer. That is sound: what a member has
//! stored under a leader's vote it keeps under that vote.

use super::config::{LogId, Node, Types, Vote};
use super::limits::{RESEND, carrying};
use super::network::CallError;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// What came of a call: an answer, none from a member that takes no part or has no space, or no way to it.
pub(super) type Outcome<R> = Result<Option<R>, CallError>;

/// What is being sent where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Load {
    address: Box<str>,
    vote: Vote,
    prev: Option<LogId>,
    /// The last entry.
    last: LogId,
}

impl Load {
    /// What these entries are to this member; `None`: there are none.
    pub(super) fn of(append: &AppendEntriesRequest<Types>, to: &Node) -> Option<Self> {
        Some(Self {
            address: to.address.clone(),
            vote: append.vote,
            prev: append.prev_log_id,
            last: append.entries.last()?.log_id,
        })
    }

    /// Whether both begin at the same place, under the same vote: then one is the beginning of the other.
    fn begins_like(&self, other: &Self) -> bool {
        self.address == other.address && self.vote == other.vote && self.prev == other.prev
    }

    /// The answer to this load that `answer`, which was given to `sent`, is.
    fn answer(
        &self,
        sent: &Self,
        answer: AppendEntriesResponse<u64>,
    ) -> AppendEntriesResponse<u64> {
        let stored = match answer {
            AppendEntriesResponse::Success => Some(sent.last),
            AppendEntriesResponse::PartialSuccess(id) => id,
            other => return other,
        };
        if stored >= Some(self.last) {
            AppendEntriesResponse::Success
        } else {
            AppendEntriesResponse::PartialSuccess(stored)
        }
    }
}

/// The call. Dropped, it is given up.
#[derive(Debug)]
pub(super) struct UnderWay {
    load: Load,
    pub(super) begun: Instant,
    /// It counts as lost from then on.
    lost_at: Instant,
    call: JoinHandle<Outcome<AppendEntriesResponse<u64>>>,
}

impl UnderWay {
    /// This `load` of so many bytes has been sent.
    pub(super) fn new(
        load: Load,
        bytes: usize,
        call: JoinHandle<Outcome<AppendEntriesResponse<u64>>>,
    ) -> Self {
        let begun = Instant::now();
        Self {
            load,
            begun,
            lost_at: begun + RESEND + carrying(bytes),
            call,
        }
    }

    /// Whether it brings what is asked for now, or the beginning of it.
    pub(super) fn brings(&self, load: &Load) -> bool {
        self.load.begins_like(load) && (self.call.is_finished() || Instant::now() < self.lost_at)
    }

    /// Waits for what comes of it, as far as this load is concerned. May be dropped, and called again until it has come
    /// back.
    pub(super) async fn outcome(
        &mut self,
        load: &Load,
    ) -> Result<Outcome<AppendEntriesResponse<u64>>, tokio::task::JoinError> {
        let outcome = (&mut self.call).await?;
        Ok(outcome.map(|answer| answer.map(|answer| load.answer(&self.load, answer))))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.call.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec::log_id;
    use super::super::process;
    use super::*;
    use std::time::Duration;
    use tokio::time::advance;

    /// The entries from this one up to before that one.
    fn load(from: u64, to: u64) -> Load {
        Load {
            address: "there".into(),
            vote: Vote::new_committed(3, 1),
            prev: Some(log_id(2, from - 1)),
            last: log_id(3, to - 1),
        }
    }

    #[test]
    fn an_answer_counts_for_what_was_sent() {
        use AppendEntriesResponse::{Conflict, HigherVote, PartialSuccess, Success};
        let [sent, more, less] = [load(5, 8), load(5, 10), load(5, 6)];
        let upto = |end: u64| PartialSuccess(Some(log_id(3, end - 1)));
        assert_eq!(sent.answer(&sent, Success), Success);
        assert_eq!(more.answer(&sent, Success), upto(8));
        assert_eq!(less.answer(&sent, Success), Success);
        assert_eq!(more.answer(&sent, upto(7)), upto(7));
        assert_eq!(less.answer(&sent, upto(7)), Success);
        assert_eq!(more.answer(&sent, Conflict), Conflict);
        let higher = Vote::new(9, 2);
        assert_eq!(more.answer(&sent, HigherVote(higher)), HigherVote(higher));
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_for_the_same_again_gets_the_answer_of_the_first_call() {
        let call = process::spawn(async {
            tokio::time::sleep(Duration::from_millis(250)).await;
            Ok(Some(AppendEntriesResponse::Success))
        });
        let mut under_way = UnderWay::new(load(5, 8), 0, call);
        let again = load(5, 9);
        for _ in 0..2 {
            assert!(under_way.brings(&again));
            let hundred = Duration::from_millis(100);
            let given_up = tokio::time::timeout(hundred, under_way.outcome(&again)).await;
            given_up.expect_err("not yet");
        }
        let outcome = under_way.outcome(&again).await.expect("no panic");
        let stored = AppendEntriesResponse::PartialSuccess(Some(log_id(3, 7)));
        assert_eq!(outcome, Ok(Some(stored)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_another_call_or_lost_is_sent() {
        let begin =
            |bytes| UnderWay::new(load(5, 8), bytes, process::spawn(std::future::pending()));
        let (small, large) = (begin(100), begin(4 << 20));
        let elsewhere = Load {
            address: "moved".into(),
            ..load(5, 8)
        };
        let later = Load {
            vote: Vote::new_committed(4, 1),
            ..load(5, 8)
        };
        for other in [load(6, 8), elsewhere, later] {
            assert!(!small.brings(&other), "{other:?}");
        }
        advance(RESEND + Duration::from_millis(1)).await;
        assert!(!small.brings(&load(5, 8)), "it may have been lost");
        assert!(large.brings(&load(5, 8)), "that takes longer");
        advance(carrying(4 << 20)).await;
        assert!(!large.brings(&load(5, 8)));
    }

    #[tokio::test]
    async fn a_call_that_nobody_wants_any_more_ends() {
        let (held, ended) = tokio::sync::oneshot::channel::<()>();
        let call = process::spawn(async move {
            let _held = held;
            std::future::pending().await
        });
        tokio::task::yield_now().await;
        drop(UnderWay::new(load(5, 8), 0, call));
        ended.await.expect_err("dropped");
    }
}
