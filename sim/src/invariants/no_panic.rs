//! Nothing panics.

use super::{Verdict, Violation};
use std::any::Any;

pub(crate) const NAME: &str = "no panic";

/// Something was done, or panicked. `member`: what a task of a member said that panicked meanwhile.
pub(crate) fn done(step: Result<(), Box<dyn Any + Send>>, member: Option<String>) -> Verdict {
    let Some(text) = member.or_else(|| step.err().map(text_of)) else {
        return Ok(());
    };
    Err(Violation {
        invariant: NAME,
        text: format!("a panic: {text}"),
        about: Vec::new(),
    })
}

fn text_of(panic: Box<dyn Any + Send>) -> String {
    let other = match panic.downcast::<String>() {
        Ok(text) => return *text,
        Err(other) => other,
    };
    let text = other.downcast_ref::<&str>().copied();
    text.unwrap_or("without a text").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker::raft::{Process, panicked};

    #[test]
    fn a_panic_is_found_wherever_it_was() {
        assert_eq!(done(Ok(()), None), Ok(()));
        let text = |verdict: Verdict| verdict.map_err(|violation| violation.text);
        let member = text(done(Ok(()), Some("a member".into())));
        assert_eq!(member, Err("a panic: a member".into()));
        let panic = std::panic::catch_unwind(|| panic!("at {}", 7));
        assert_eq!(text(done(panic, None)), Err("a panic: at 7".into()));
    }

    #[tokio::test]
    async fn a_task_of_a_member_that_panics_is_heard_of() {
        let process = Process::default();
        let task = process.spawn(async { panic!("in a member") });
        assert!(task.await.is_err_and(|error| error.is_panic()));
        assert_eq!(panicked().as_deref(), Some("in a member"));
        assert_eq!(panicked(), None);
    }
}
