//! The bytes of calls between members.
//!
//! ```text
//! call:   to 8 | kind 1 | ...        to: the id of the member that is meant; 0: whoever has the address
//! answer: kind 1 | ...
//! ```
//! What changes here changes the version of the calls (`peers/handshake.rs`), but for a further kind of call that the caller
//! can do without: who does not know it answers that it is [`Answer::Absent`].

use super::codec::{
    Malformed, Reader, log_id, put_log_id, put_membership, put_text, put_vote, read_log_id,
    read_vote,
};
use super::config::{Body, Entry, LogId, Payload, Proposal, Types, Vote};
use super::newcomer::Newcomer;
use super::record::{self, Kind};
use bytes::Bytes;
use cluster::topology::{NAME_BYTES_MAX, NodeName};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest, VoteResponse};

/// A call of another member.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// Who is meant; 0: whoever it reaches.
    pub(super) to: u64,
    pub(super) request: Request,
}

/// What it is about.
#[derive(Clone, Debug)]
pub(super) enum Request {
    /// Entries, or a sign of life of the leader; and what its wall clock shows, in milliseconds since the Unix epoch.
    Append(AppendEntriesRequest<Types>, u64),
    /// Somebody wants to lead.
    Vote(VoteRequest<u64>),
    /// The same, after the leader of the term before has given way to who asks.
    TransferVote(VoteRequest<u64>),
    /// The leader of this term has given way: hold an election now.
    TimeoutNow { term: u64 },
    /// Somebody asks whether it would get this member's vote; its last entry.
    PreVote { last_log_id: Option<LogId> },
    /// A piece of a snapshot.
    Piece(Piece),
    /// Come and take part in the group, as this member.
    Invite { name: NodeName },
    /// Who are you?
    Who,
    /// Do you lead your group, and no other can?
    Leads,
    /// Who are you, and could you come into the group?
    Introduce,
}

/// A piece of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// The leader's.
    pub(super) vote: Vote,
    /// Which transfer it belongs to; never 0.
    pub(super) transfer: u64,
    /// The group's index of the last entry that the snapshot covers, or of an earlier one: a member that has that
    /// needs no snapshot.
    pub(super) index: u64,
    /// Its place in that, from 0.
    pub(super) number: u32,
    /// No bytes follow, nor are any here.
    pub(super) last: bool,
    pub(super) bytes: Bytes,
}

/// The answer to a call.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// To [`Request::Append`]; and what the member's wall clock shows, in milliseconds since the Unix epoch.
    Append(AppendEntriesResponse<u64>, u64),
    /// To [`Request::Vote`] and [`Request::TransferVote`].
    Vote(VoteResponse<u64>),
    /// To [`Request::PreVote`].
    PreVote { granted: bool },
    /// To [`Request::Who`].
    Who(Who),
    /// To [`Request::Piece`]: the next one, please.
    Taken,
    /// To [`Request::Piece`] and [`Request::Invite`]: the same one again, later.
    Wait,
    /// To [`Request::Piece`]: the member has the snapshot, or what is in it, and needs no more pieces; its vote.
    Installed(Vote),
    /// To [`Request::Invite`]: it takes part with this id, and has not before.
    Invited { id: u64 },
    /// To [`Request::Invite`]: it takes part with this id already.
    Member { id: u64 },
    /// To [`Request::TimeoutNow`]: it does.
    Elects,
    /// To [`Request::Leads`]: it does.
    Leads,
    /// To [`Request::Introduce`].
    Newcomer(Newcomer),
    /// The member that is meant is not here, or does not take part, or refuses, or does not know this kind of call.
    Absent,
    /// To [`Request::Append`]: it follows, and its disk has no space for what it has been sent.
    Full,
    /// To [`Request::Append`], and to those who want to lead: its disk has no space. It has not looked at the call, and
    /// promises nothing.
    NoSpace,
}

/// Who a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Who {
    /// The number of its folder; it counts only until the member has taken part.
    pub(super) folder: u64,
    /// It has taken part in the group.
    pub(super) born: bool,
    /// The members that were there with an empty folder when the group began, as far as it knows, and with which.
    pub(super) met: Vec<(u64, u64)>,
}

impl Request {
    fn kind(&self) -> u8 {
        match self {
            Self::Append(..) => 1,
            Self::Vote(_) => 2,
            Self::Who => 3,
            Self::Invite { .. } => 4,
            Self::Piece(_) => 5,
            Self::TransferVote(_) => 6,
            Self::TimeoutNow { .. } => 7,
            Self::Leads => 8,
            Self::PreVote { .. } => 9,
            Self::Introduce => 10,
        }
    }
}

impl Call {
    pub(super) fn bytes(&self) -> Bytes {
        let mut out = Vec::new();
        out.extend_from_slice(&self.to.to_le_bytes());
        out.push(self.request.kind());
        match &self.request {
            Request::Append(append, wall_ms) => {
                out.extend_from_slice(&wall_ms.to_le_bytes());
                put_append(append, &mut out);
            }
            Request::Vote(request) | Request::TransferVote(request) => {
                put_vote(&request.vote, &mut out);
                put_log_id(request.last_log_id, &mut out);
            }
            Request::TimeoutNow { term } => out.extend_from_slice(&term.to_le_bytes()),
            Request::PreVote { last_log_id } => put_log_id(*last_log_id, &mut out),
            Request::Piece(piece) => {
                put_vote(&piece.vote, &mut out);
                out.extend_from_slice(&piece.transfer.to_le_bytes());
                out.extend_from_slice(&piece.index.to_le_bytes());
                out.extend_from_slice(&piece.number.to_le_bytes());
                out.push(u8::from(piece.last));
                out.extend_from_slice(&piece.bytes);
            }
            Request::Invite { name } => put_text(name.as_str(), &mut out),
            Request::Who | Request::Leads | Request::Introduce => {}
        }
        out.into()
    }

    pub(super) fn read(bytes: &Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader(bytes);
        let to = reader.u64()?;
        let request = match reader.u8()? {
            1 => {
                let wall_ms = reader.u64()?;
                Request::Append(read_append(&mut reader, bytes)?, wall_ms)
            }
            2 => Request::Vote(read_vote_request(&mut reader)?),
            3 => Request::Who,
            4 => {
                let name = reader.text(NAME_BYTES_MAX)?;
                let name = name.parse().map_err(Malformed)?;
                Request::Invite { name }
            }
            5 => {
                let piece = Piece {
                    vote: read_vote(&mut reader)?,
                    transfer: reader.u64()?,
                    index: reader.u64()?,
                    number: reader.u32()?,
                    last: reader.flag()?,
                    bytes: bytes.slice_ref(reader.0),
                };
                reader.0 = &[];
                let is_sound = piece.vote.committed && piece.transfer != 0;
                if !is_sound || (piece.last && !piece.bytes.is_empty()) {
                    return Err(Malformed("a piece of a snapshot"));
                }
                Request::Piece(piece)
            }
            6 => {
                let request = read_vote_request(&mut reader)?;
                if request.vote.committed {
                    return Err(Malformed("a call of a candidate"));
                }
                Request::TransferVote(request)
            }
            7 => Request::TimeoutNow {
                term: reader.u64()?,
            },
            8 => Request::Leads,
            9 => Request::PreVote {
                last_log_id: read_log_id(&mut reader)?,
            },
            10 => Request::Introduce,
            _ => return Err(Malformed("a kind of call")),
        };
        reader.end()?;
        Ok(Self { to, request })
    }
}

fn read_vote_request(reader: &mut Reader<'_>) -> Result<VoteRequest<u64>, Malformed> {
    Ok(VoteRequest {
        vote: read_vote(reader)?,
        last_log_id: read_log_id(reader)?,
    })
}

fn put_append(append: &AppendEntriesRequest<Types>, out: &mut Vec<u8>) {
    put_vote(&append.vote, out);
    put_log_id(append.prev_log_id, out);
    put_log_id(append.leader_commit, out);
    out.extend_from_slice(&(append.entries.len() as u32).to_le_bytes());
    for entry in &append.entries {
        put_entry(entry, out);
    }
}

/// Entries follow one another, so that their indexes need not be said.
fn put_entry(entry: &Entry, out: &mut Vec<u8>) {
    let term = entry.log_id.leader_id.term;
    let start = out.len();
    let put_head = |kind, out: &mut Vec<u8>| {
        out.extend_from_slice(&record::entry_head(term, kind));
        out.extend_from_slice(&[0; 4]);
    };
    match &entry.payload {
        Payload::Blank => put_head(Kind::Blank, out),
        Payload::Membership(membership) => {
            put_head(Kind::Members, out);
            put_membership(membership, out);
        }
        Payload::Normal(proposal) => {
            put_head(Kind::Commands, out);
            match &proposal.body {
                Body::Here(bytes) => out.extend_from_slice(bytes),
                Body::Stored { .. } => unreachable!("entries for calls are read with their bodies"),
            }
        }
    }
    let payload = start + record::ENTRY_HEAD + 4;
    let len = (out.len() - payload) as u32;
    out[payload - 4..payload].copy_from_slice(&len.to_le_bytes());
}

fn read_append(
    reader: &mut Reader<'_>,
    whole: &Bytes,
) -> Result<AppendEntriesRequest<Types>, Malformed> {
    let vote = read_vote(reader)?;
    let prev_log_id = read_log_id(reader)?;
    let leader_commit = read_log_id(reader)?;
    let mut last = prev_log_id;
    let mut entries = Vec::new();
    for _ in 0..reader.u32()? {
        let entry = read_entry(reader, whole, last)?;
        last = Some(entry.log_id);
        entries.push(entry);
    }
    if !vote.committed {
        return Err(Malformed("a call of a leader"));
    }
    Ok(AppendEntriesRequest {
        vote,
        prev_log_id,
        entries,
        leader_commit,
    })
}

fn read_entry(
    reader: &mut Reader<'_>,
    whole: &Bytes,
    before: Option<LogId>,
) -> Result<Entry, Malformed> {
    let (term, kind, _) = record::read_entry(reader.take(record::ENTRY_HEAD)?)?;
    let len = reader.u32()? as usize;
    let payload = reader.take(len)?;
    if before.is_some_and(|before| before.leader_id.term > term) {
        return Err(Malformed("an entry of a later term than the one before it"));
    }
    let payload = match kind {
        Kind::Blank if payload.is_empty() => Payload::Blank,
        Kind::Blank => return Err(Malformed("an entry of nothing")),
        Kind::Members => Payload::Membership(record::read_members(payload)?),
        Kind::Commands => Payload::Normal(Proposal {
            term,
            body: Body::Here(whole.slice_ref(payload)),
        }),
    };
    Ok(Entry {
        log_id: log_id(term, before.map_or(0, |before| before.index + 1)),
        payload,
    })
}

fn read_response(
    kind: u8,
    reader: &mut Reader<'_>,
) -> Result<AppendEntriesResponse<u64>, Malformed> {
    Ok(match kind {
        1 => AppendEntriesResponse::Success,
        2 => AppendEntriesResponse::PartialSuccess(read_log_id(reader)?),
        3 => AppendEntriesResponse::Conflict,
        _ => AppendEntriesResponse::HigherVote(read_vote(reader)?),
    })
}

impl Answer {
    fn kind(&self) -> u8 {
        match self {
            Self::Append(AppendEntriesResponse::Success, _) => 1,
            Self::Append(AppendEntriesResponse::PartialSuccess(_), _) => 2,
            Self::Append(AppendEntriesResponse::Conflict, _) => 3,
            Self::Append(AppendEntriesResponse::HigherVote(_), _) => 4,
            Self::Vote(_) => 5,
            Self::Who(_) => 6,
            Self::Absent => 7,
            Self::Invited { .. } => 8,
            Self::Taken => 9,
            Self::Wait => 10,
            Self::Installed(_) => 11,
            Self::Full => 12,
            Self::NoSpace => 13,
            Self::Member { .. } => 14,
            Self::Elects => 15,
            Self::Leads => 16,
            Self::PreVote { .. } => 17,
            Self::Newcomer(_) => 18,
        }
    }

    pub(super) fn bytes(&self) -> Bytes {
        let mut out = vec![self.kind()];
        match self {
            Self::Append(response, wall_ms) => {
                match response {
                    AppendEntriesResponse::PartialSuccess(id) => put_log_id(*id, &mut out),
                    AppendEntriesResponse::HigherVote(vote) => put_vote(vote, &mut out),
                    AppendEntriesResponse::Success | AppendEntriesResponse::Conflict => {}
                }
                out.extend_from_slice(&wall_ms.to_le_bytes());
            }
            Self::Vote(response) => {
                put_vote(&response.vote, &mut out);
                out.push(u8::from(response.vote_granted));
                put_log_id(response.last_log_id, &mut out);
            }
            Self::PreVote { granted } => out.push(u8::from(*granted)),
            Self::Who(who) => {
                out.extend_from_slice(&who.folder.to_le_bytes());
                out.push(u8::from(who.born));
                record::put_met(&who.met, &mut out);
            }
            Self::Newcomer(newcomer) => newcomer.put(&mut out),
            Self::Installed(vote) => put_vote(vote, &mut out),
            Self::Invited { id } | Self::Member { id } => {
                out.extend_from_slice(&id.to_le_bytes());
            }
            Self::Absent
            | Self::Elects
            | Self::Leads
            | Self::Taken
            | Self::Wait
            | Self::Full
            | Self::NoSpace => {}
        }
        out.into()
    }

    pub(super) fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader(bytes);
        let answer = match reader.u8()? {
            kind @ 1..=4 => {
                let response = read_response(kind, &mut reader)?;
                Self::Append(response, reader.u64()?)
            }
            5 => Self::Vote(VoteResponse {
                vote: read_vote(&mut reader)?,
                vote_granted: reader.flag()?,
                last_log_id: read_log_id(&mut reader)?,
            }),
            6 => Self::Who(Who {
                folder: reader.u64()?,
                born: reader.flag()?,
                met: record::read_met(&mut reader)?,
            }),
            7 => Self::Absent,
            8 => Self::Invited { id: reader.u64()? },
            9 => Self::Taken,
            10 => Self::Wait,
            11 => Self::Installed(read_vote(&mut reader)?),
            12 => Self::Full,
            13 => Self::NoSpace,
            14 => Self::Member { id: reader.u64()? },
            15 => Self::Elects,
            16 => Self::Leads,
            17 => Self::PreVote {
                granted: reader.flag()?,
            },
            18 => Self::Newcomer(Newcomer::read(&mut reader)?),
            _ => return Err(Malformed("a kind of answer")),
        };
        reader.end()?;
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec::tests::{membership, vote};
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn id() -> impl Strategy<Value = Option<LogId>> {
        any::<Option<(u64, u32)>>()
            .prop_map(|id| id.map(|(term, index)| log_id(term, u64::from(index))))
    }

    fn payload() -> impl Strategy<Value = Option<Payload>> {
        prop_oneof![
            Just(None),
            membership().prop_map(|members| Some(Payload::Membership(members))),
            vec(any::<u8>(), 0..40).prop_map(|bytes| {
                let body = Body::Here(bytes.into());
                Some(Payload::Normal(Proposal { term: 0, body }))
            }),
        ]
    }

    /// A call of a leader with entries in order.
    fn append() -> impl Strategy<Value = AppendEntriesRequest<Types>> {
        let entries = vec((0..3_u64, payload()), 0..5);
        (1..9_u64, 1..9_u64, id(), id(), entries).prop_map(
            |(term, node, prev, commit, payloads)| {
                let (mut index, mut last) =
                    prev.map_or((0, 0), |prev| (prev.index + 1, prev.leader_id.term));
                let mut entries = Vec::new();
                for (later, payload) in payloads {
                    last = last.saturating_add(later);
                    let payload = match payload {
                        Some(Payload::Normal(proposal)) => Payload::Normal(Proposal {
                            term: last,
                            ..proposal
                        }),
                        other => other.unwrap_or(Payload::Blank),
                    };
                    let log_id = log_id(last, index);
                    entries.push(Entry { log_id, payload });
                    index += 1;
                }
                AppendEntriesRequest {
                    vote: Vote::new_committed(term, node),
                    prev_log_id: prev,
                    entries,
                    leader_commit: commit,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn a_call_with_entries_reads_back(append in append(), to: u64, wall_ms: u64) {
            let call = Call { to, request: Request::Append(append.clone(), wall_ms) };
            let bytes = call.bytes();
            let read = Call::read(&bytes).expect("what was written");
            prop_assert_eq!(read.to, to);
            let Request::Append(read, wall) = read.request else { panic!("another kind") };
            prop_assert_eq!(wall, wall_ms);
            prop_assert_eq!(read.vote, append.vote);
            prop_assert_eq!(read.prev_log_id, append.prev_log_id);
            prop_assert_eq!(read.leader_commit, append.leader_commit);
            prop_assert_eq!(read.entries, append.entries);
            for cut in 0..bytes.len() {
                prop_assert!(Call::read(&bytes.slice(..cut)).is_err());
            }
        }

        #[test]
        fn other_calls_read_back(
            vote in vote(), to: u64, id in id(), number: u32, bytes in vec(any::<u8>(), 0..50),
        ) {
            let piece = Piece {
                vote: Vote::new_committed(vote.leader_id.term, 7),
                transfer: to | 1,
                index: to / 2,
                number,
                last: bytes.is_empty(),
                bytes: bytes.into(),
            };
            let name = "member-1".parse().expect("a name");
            let requests = [
                Request::Piece(piece),
                Request::Invite { name },
                Request::Who,
                Request::Leads,
                Request::Introduce,
                Request::Vote(VoteRequest { vote, last_log_id: id }),
                Request::TransferVote(VoteRequest {
                    vote: Vote::new(vote.leader_id.term, 7),
                    last_log_id: id,
                }),
                Request::TimeoutNow { term: to },
                Request::PreVote { last_log_id: id },
            ];
            for request in requests {
                let call = Call { to, request };
                let bytes = call.bytes();
                let read = Call::read(&bytes).expect("what was written");
                prop_assert_eq!(format!("{read:?}"), format!("{call:?}"));
            }
        }

        #[test]
        fn answers_read_back(vote in vote(), id in id(), flag: bool, folder: u64) {
            let answers = [
                Answer::Append(AppendEntriesResponse::Success, folder),
                Answer::Append(AppendEntriesResponse::PartialSuccess(id), folder),
                Answer::Append(AppendEntriesResponse::Conflict, 0),
                Answer::Append(AppendEntriesResponse::HigherVote(vote), folder),
                Answer::Vote(VoteResponse { vote, vote_granted: flag, last_log_id: id }),
                Answer::PreVote { granted: flag },
                Answer::Who(Who { folder, born: flag, met: vec![(folder, 7); usize::from(flag)] }),
                Answer::Newcomer(Newcomer {
                    name: "broker-3".parse().expect("a name"),
                    id: flag.then_some(folder),
                    invited: !flag,
                }),
                Answer::Absent,
                Answer::Elects,
                Answer::Leads,
                Answer::Taken,
                Answer::Wait,
                Answer::Full,
                Answer::NoSpace,
                Answer::Installed(vote),
                Answer::Invited { id: folder },
                Answer::Member { id: folder },
            ];
            for answer in answers {
                prop_assert_eq!(Answer::read(&answer.bytes()), Ok(answer));
            }
        }

        #[test]
        fn strange_bytes_are_refused_or_read(bytes in vec(any::<u8>(), 0..150)) {
            if let Ok(answer) = Answer::read(&bytes) {
                prop_assert_eq!(answer.bytes(), bytes.clone());
            }
            let bytes = Bytes::from(bytes);
            if let Ok(call) = Call::read(&bytes) {
                prop_assert_eq!(call.bytes(), bytes);
            }
        }

        #[test]
        fn a_spoilt_call_does_no_harm(append in append(), at: prop::sample::Index, to: u8) {
            let call = Call { to: 1, request: Request::Append(append, 7) };
            let mut bytes = call.bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] = to;
            let _read = Call::read(&bytes.into());
        }
    }
}
