//! Text from outside: client ids, reasons that a broker gives.

use std::borrow::Cow;

/// Characters of one name or reason; what is longer is cut.
const CHARS_MAX: usize = 300;

/// A character that does nothing: what would steer a terminal, turn the direction of writing or may not be in XML becomes
/// the replacement character.
pub(super) fn printable(character: char) -> char {
    match character {
        '\n' | '\t' => ' ',
        '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => {
            char::REPLACEMENT_CHARACTER
        }
        control if control.is_control() || matches!(control, '\u{FFFE}' | '\u{FFFF}') => {
            char::REPLACEMENT_CHARACTER
        }
        plain => plain,
    }
}

/// Printable, and of bounded length.
pub(super) fn short(text: &str) -> Cow<'_, str> {
    let harmless = text.len() <= CHARS_MAX
        && text
            .chars()
            .all(|character| printable(character) == character);
    if harmless {
        return Cow::Borrowed(text);
    }
    let mut shown: String = text.chars().take(CHARS_MAX).map(printable).collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        shown.push('…');
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_a_terminal() {
        assert_eq!(
            short("a\u{1b}[2J\u{9b}b\u{202e}\nc"),
            "a\u{FFFD}[2J\u{FFFD}b\u{FFFD} c"
        );
        assert_eq!(short("Zähler 7, 電力"), "Zähler 7, 電力");
    }

    #[test]
    fn long_names_are_cut() {
        assert_eq!(short(&"é".repeat(10_000)).chars().count(), CHARS_MAX + 1);
        assert_eq!(short(&"é".repeat(CHARS_MAX)), "é".repeat(CHARS_MAX));
    }
}
