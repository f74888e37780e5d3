//! What an error means for what was asked: most pass, and what was asked is kept until they do.
//!
//! Redis begins an error with a code. Nearly all codes name a state of the server, which ends:
//! `LOADING`, `READONLY`, `CLUSTERDOWN`, `OOM` and so on, and those of later versions. Only the
//! general one, `ERR`, covers both, so there the words decide. They are those of Redis 6.0 to 7.4:
//! up to 6.2, what a command says inside a script comes back as `ERR` with the script's place and
//! the command's own error behind it.

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// What an error means for what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Redis cannot do it now; the same may succeed later.
    Away,
    /// The command itself is refused; the same would be again.
    Refused,
}

/// Codes that are about the command or its key.
const REFUSALS: [&str; 3] = ["WRONGTYPE", "CROSSSLOT", "EXECABORT"];

/// Words of errors without a code of their own that are about the server.
const PASSING: [&str; 6] = [
    // The slot is on its way to another node, and the key has gone since the script was let in.
    "access a non local key",
    // Or "a slot not served", by Redis 7.4.
    "access a slot not served",
    // Also "... and readonly": where a cluster that is down may be read, scripts are let in.
    "while the cluster is down",
    // A replica that has lost its master.
    "on a stale replica",
    "max number of clients",
    // By an operator, who wanted it to end and not to fail for ever.
    "Script killed by user",
];

/// Words of a missing permission inside a script, where Redis gives no `NOPERM`.
const FORBIDDEN: [&str; 2] = [
    "The user executing the script can't",
    "ACL failure in script",
];

/// How Redis up to 6.2 begins an error out of a script.
const OUT_OF_A_SCRIPT: &str = "Error running script (call to ";

/// Whether a failure will pass.
pub(super) fn meaning(error: &RedisError) -> Meaning {
    match error.kind() {
        // The answer, or what should have been sent, is not what this program knows.
        ErrorKind::UnexpectedReturnType | ErrorKind::Client => Meaning::Refused,
        ErrorKind::Server(_) | ErrorKind::Extension => {
            let code = error.code().unwrap_or("ERR");
            of_answer(code, error.detail().unwrap_or_default())
        }
        // What breaks off in the middle of an answer (`Parse`) is a connection that fails.
        _ => Meaning::Away,
    }
}

/// Whether the connection is of no use any more. (A cluster repairs its connections itself.)
pub(super) fn is_lost(error: &RedisError) -> bool {
    // A server that is a replica now is not the one to talk to.
    let demoted = error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly);
    let broken = error.is_io_error() || error.kind() == ErrorKind::Parse;
    broken || error.is_connection_dropped() || demoted
}

/// Whether a permission is missing.
pub(super) fn is_forbidden(error: &RedisError) -> bool {
    let words = error.detail().unwrap_or_default();
    error.code() == Some("NOPERM") || contains_any(words, &FORBIDDEN)
}

fn of_answer(code: &str, words: &str) -> Meaning {
    if code == "ERR" {
        return match out_of_a_script(words) {
            Some((code, words)) => of_answer(code, words),
            None if contains_any(words, &PASSING) || contains_any(words, &FORBIDDEN) => {
                Meaning::Away
            }
            None => Meaning::Refused,
        };
    }
    if REFUSALS.contains(&code) {
        Meaning::Refused
    } else {
        Meaning::Away
    }
}

/// Code and words of the error that a command gave inside a script:
/// `... (call to f_HASH): @user_script:9: @user_script: 9: -CODE WORDS`, or without the second
/// place and the dash.
fn out_of_a_script(words: &str) -> Option<(&str, &str)> {
    let (_, mut rest) = words.strip_prefix(OUT_OF_A_SCRIPT)?.split_once("): ")?;
    while rest.starts_with('@') {
        rest = rest.split_once(": ")?.1;
    }
    let behind_line = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    let error = behind_line.strip_prefix(": ").unwrap_or(rest);
    let (code, words) = error.split_once(' ')?;
    let code = code.strip_prefix('-').unwrap_or(code);
    let is_code = code.len() > 1 && code.bytes().all(|byte| byte.is_ascii_uppercase());
    (is_code && code != "ERR").then_some((code, words))
}

fn contains_any(text: &str, words: &[&str]) -> bool {
    words.iter().any(|words| text.contains(words))
}

#[cfg(test)]
mod tests {
    use redis::Value;

    use super::*;

    /// The error that a line from Redis becomes.
    fn said(line: &str) -> RedisError {
        let answer = redis::parse_redis_value(format!("-{line}\r\n").as_bytes());
        let answer = answer.and_then(Value::extract_error);
        answer.expect_err("an error")
    }

    /// As Redis up to 6.2 gives an error of its own out of a script.
    fn up_to_6_2(error: &str) -> String {
        format!("ERR {OUT_OF_A_SCRIPT}f_e6a86a): @user_script:9: @user_script: 9: {error}")
    }

    /// As Redis since 7.0 does.
    fn since_7_0(error: &str) -> String {
        format!("{error} script: e6a86a, on @user_script:9.")
    }

    #[test]
    fn what_is_about_the_server_passes() {
        for line in [
            "ASK 3300 127.0.0.1:29102",
            "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
            "CLUSTERDOWN Hash slot not served",
            "CLUSTERDOWN The cluster is down",
            "CLUSTERDOWN The cluster is down and only accepts read commands",
            "DENIED Redis is running in protected mode",
            "ERR max number of clients reached",
            "ERR max number of clients + cluster connections reached",
            "LOADING Redis is loading the dataset in memory",
            "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            "MISCONF Errors writing to the AOF file: No space left on device",
            "MOVED 15495 127.0.0.1:29102",
            "NOAUTH Authentication required.",
            "NOPERM this user has no permissions to run the 'evalsha' command",
            "NOREPLICAS Not enough good replicas to write.",
            "NOSCRIPT No matching script. Please use EVAL.",
            "OOM command not allowed when used memory > 'maxmemory'.",
            "READONLY You can't write against a read only replica.",
            "TRYAGAIN Multiple keys request during rehashing of slot",
            "WRONGPASS invalid username-password pair or user is disabled.",
            "OFLATER a state that later versions may name",
        ] {
            assert_eq!(meaning(&said(line)), Meaning::Away, "{line}");
        }
    }

    #[test]
    fn so_it_does_out_of_a_script() {
        for (old, new) in [
            (
                "Lua script attempted to access a non local key in a cluster node",
                "ERR Script attempted to access a non local key in a cluster node",
            ),
            (
                "Lua script attempted to execute a command while the cluster is down",
                "ERR Script attempted to execute a command while the cluster is down",
            ),
            (
                "Lua script attempted to execute a write command while the cluster is down and readonly",
                "ERR Script attempted to execute a write command while the cluster is down and readonly",
            ),
            (
                "-READONLY You can't write against a read only replica.",
                "READONLY You can't write against a read only replica.",
            ),
            (
                "-OOM command not allowed when used memory > 'maxmemory'.",
                "OOM command not allowed when used memory > 'maxmemory'.",
            ),
            (
                "-MISCONF Errors writing to the AOF file: No space left on device",
                "MISCONF Errors writing to the AOF file: No space left on device",
            ),
            (
                "The user executing the script can't run this command or subcommand",
                "ERR The user executing the script can't run this command or subcommand",
            ),
            (
                "Script killed by user with SCRIPT KILL...",
                "ERR Script killed by user with SCRIPT KILL...",
            ),
            (
                "-NOREPLICAS Not enough good replicas to write.",
                "NOREPLICAS Not enough good replicas to write.",
            ),
        ] {
            for line in [up_to_6_2(old), since_7_0(new)] {
                assert_eq!(meaning(&said(&line)), Meaning::Away, "{line}");
            }
        }
        for later in [
            "ERR Can not execute the command on a stale replica",
            "ERR Script attempted to access a slot not served",
            "NOPERM ACL failure in script: User fleet has no permissions to run the 'hset' command",
        ] {
            let line = since_7_0(later);
            assert_eq!(meaning(&said(&line)), Meaning::Away, "{line}");
        }
    }

    #[test]
    fn what_is_about_the_command_is_refused() {
        let wrong_type = "WRONGTYPE Operation against a key holding the wrong kind of value";
        let old_wrong_type = format!("ERR {OUT_OF_A_SCRIPT}f_e6): @user_script:3: {wrong_type}");
        for line in [
            wrong_type.to_owned(),
            since_7_0(wrong_type),
            old_wrong_type,
            "CROSSSLOT Keys in request don't hash to the same slot".to_owned(),
            "ERR unknown command 'EVALSHA', with args beginning with: ".to_owned(),
            "ERR Error compiling script (new function): user_script:1: unexpected symbol"
                .to_owned(),
            "ERR value is not an integer or out of range".to_owned(),
            "ERR".to_owned(),
            since_7_0("ERR Unknown Redis command called from script"),
            since_7_0("ERR user_script:1: attempt to compare nil with number"),
            up_to_6_2("Unknown Redis command called from Lua script"),
            up_to_6_2("-ERR value is not an integer or out of range"),
            format!(
                "ERR {OUT_OF_A_SCRIPT}f_e6): @user_script:3: user_script:3: attempt to index nil"
            ),
            format!("ERR {OUT_OF_A_SCRIPT}f_e6): "),
        ] {
            assert_eq!(meaning(&said(&line)), Meaning::Refused, "{line}");
        }
    }

    #[test]
    fn a_connection_that_fails_in_the_middle_of_an_answer_is_away() {
        let io = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert_eq!(meaning(&io.into()), Meaning::Away);
        let broken = redis::parse_redis_value(b":many\r\n").expect_err("no answer of Redis");
        assert_eq!(
            (broken.kind(), meaning(&broken)),
            (ErrorKind::Parse, Meaning::Away)
        );
    }

    #[test]
    fn a_missing_permission_is_known_inside_a_script_too() {
        for line in [
            "NOPERM this user has no permissions to run the 'evalsha' command".to_owned(),
            up_to_6_2("The user executing the script can't run this command or subcommand"),
            since_7_0("ERR The user executing the script can't access at least one of the keys"),
        ] {
            assert!(is_forbidden(&said(&line)), "{line}");
        }
        assert!(!is_forbidden(&said("NOAUTH Authentication required.")));
    }
}
