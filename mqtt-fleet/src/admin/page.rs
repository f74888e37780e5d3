//! The page for people.

use std::fmt::Write as _;

use super::health::Phase;

/// The page as HTML, without scripts and without anything from elsewhere.
pub(super) fn render(
    serves: &str,
    phase: Phase,
    key_figures: impl Iterator<Item = (&'static str, u64)>,
) -> String {
    let phase = match phase {
        Phase::Starting => "starting: the log is being read",
        Phase::Ready => "ready",
        Phase::Draining => "stopping: finishing what is under way",
    };
    let mut rows = String::new();
    for (title, figure) in key_figures {
        let figure = grouped(figure);
        writeln!(
            rows,
            "<tr><td>{title}</td><td class=\"n\">{figure}</td></tr>"
        )
        .expect("writing to a String cannot fail");
    }
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"refresh\" content=\"5\"><title>mqtt-fleet</title>\n<style>{STYLE}</style>\
         </head><body>\n<h1>mqtt-fleet <small>{version}</small></h1>\n\
         <p>{serves}: <b>{phase}</b></p>\n<table>\n{rows}</table>\n\
         <p><a href=\"/metrics\">/metrics</a> (Prometheus) &middot; \
         <a href=\"/health/ready\">/health/ready</a> &middot; \
         <a href=\"/health/live\">/health/live</a></p>\n</body></html>\n"
    )
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:40em;margin:3em auto;\
padding:0 1em;color:#222}h1{font-weight:600}small{color:#777;font-weight:400}\
table{border-collapse:collapse;width:100%}td{border-bottom:1px solid #ddd;padding:.3em 0}\
.n{text-align:right;font-variant-numeric:tabular-nums}\
@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}a{color:#8bf}td{border-color:#444}}";

/// Digits in groups of three, by thin spaces.
fn grouped(figure: u64) -> String {
    let digits = figure.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push_str("&#8201;");
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_grouped_by_three() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(1_234_567).replace("&#8201;", " "), "1 234 567");
        assert_eq!(grouped(100_000).replace("&#8201;", " "), "100 000");
    }

    #[test]
    fn the_page_shows_phase_figures_and_links() {
        let serves = "MQTT on 127.0.0.1:1883";
        let page = render(
            serves,
            Phase::Ready,
            [("Connected clients", 12)].into_iter(),
        );
        for part in [
            "127.0.0.1:1883",
            "<b>ready</b>",
            "Connected clients",
            ">12<",
            "\"/metrics\"",
        ] {
            assert!(page.contains(part), "no {part} in {page}");
        }
    }
}
