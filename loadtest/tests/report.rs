//! What people and machines get at the end of a run: `report.html`, `report.json`, the summary.

#[path = "report/example.rs"]
mod example;

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use mqtt_fleet_loadtest::{
    Check, FindingKind, FindingLine, LatencyPoint, Outcome, PhaseOutcome, Point,
};
use roxmltree::{Document, Node, ParsingOptions};

/// Names that would do harm if they were taken for HTML, XML or a style.
const HOSTILE: &str = "</title></style></svg><script>alert('\"&#39;\")</script>\u{0}\u{1b}[31m\u{202e}]]>-->&amp;<!--%n\n";

/// The drawings of a page, each well-formed XML of its own.
fn drawings(page: &str) -> Vec<&str> {
    let pieces = page.split("<svg class=\"plot\"").skip(1);
    pieces
        .map(|piece| {
            let end = piece.find("</svg>").expect("the drawing ends") + "</svg>".len();
            let from =
                piece.as_ptr() as usize - page.as_ptr() as usize - "<svg class=\"plot\"".len();
            &page[from..from + "<svg class=\"plot\"".len() + end]
        })
        .collect()
}

/// Parses the body of a page as XML: all tags that this page uses are closed.
fn body(page: &str) -> String {
    let from = page.find("<body>").expect("a body");
    let to = page.find("<script>\n").expect("a script");
    page[from..to].to_owned() + "</body>"
}

fn parse(text: &str) -> Document<'_> {
    Document::parse_with_options(text, ParsingOptions::default()).expect("well-formed")
}

fn text_of(node: Node<'_, '_>) -> String {
    node.descendants()
        .filter_map(|part| part.is_text().then(|| part.text()).flatten())
        .collect()
}

/// All tables, cell by cell.
fn cells(document: &Document<'_>) -> Vec<String> {
    let all = document.descendants();
    all.filter(|node| matches!(node.tag_name().name(), "td" | "th"))
        .map(text_of)
        .collect()
}

fn keep(outcome: &Outcome, name: &str) -> String {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("report")
        .join(name);
    let page = outcome.write(&folder).expect("writable");
    fs::read_to_string(page).expect("the page")
}

#[test]
fn the_page_has_every_plot_and_every_line() {
    let page = keep(&example::million(), "million");
    let drawings = drawings(&page);
    assert_eq!(
        drawings.len(),
        13,
        "connections, connects, messages, six latencies, owed, errors, memory, CPU"
    );
    let document = body(&page);
    let document = parse(&document);
    let legends: Vec<String> = document
        .descendants()
        .filter(|node| node.attribute("class") == Some("key"))
        .map(|node| text_of(node).trim().to_owned())
        .collect();
    for line in [
        "connected",
        "connects/s",
        "sent/s",
        "received/s",
        "owed",
        "connections lost",
        "errors",
    ] {
        assert!(legends.iter().any(|legend| legend == line), "{line}");
    }
    for line in ["p50", "p99", "max"] {
        assert_eq!(
            legends.iter().filter(|legend| *legend == line).count(),
            6,
            "{line}"
        );
    }
    for role in ["proxies", "brokers", "redis", "simulator"] {
        assert_eq!(
            legends.iter().filter(|legend| *legend == role).count(),
            2,
            "{role}"
        );
    }
    let lines = drawings
        .iter()
        .map(|drawing| drawing.matches("class=\"s l").count())
        .collect::<Vec<_>>();
    assert!(lines.iter().all(|count| *count > 0), "{lines:?}");
}

#[test]
fn plots_are_drawings_with_text_and_names_in_words() {
    let page = example::million().page();
    let mut ids = HashSet::new();
    for drawing in drawings(&page) {
        let document = parse(drawing);
        let root = document.root_element();
        let named: Vec<&str> = root
            .attribute("aria-labelledby")
            .expect("named")
            .split(' ')
            .collect();
        let [title, description] = ["title", "desc"].map(|tag| {
            let node = root
                .children()
                .find(|node| node.has_tag_name(("http://www.w3.org/2000/svg", tag)));
            node.unwrap_or_else(|| panic!("no {tag}"))
        });
        assert_eq!(
            named,
            [
                title.attribute("id").expect("id"),
                description.attribute("id").expect("id")
            ]
        );
        assert!(
            !text_of(title).is_empty() && text_of(description).contains("Run time 0:00 to 17:46.")
        );
        assert!(ids.insert(named[0].to_owned()), "{named:?} twice");
        let words: Vec<String> = document
            .descendants()
            .filter(|node| node.tag_name().name() == "text")
            .map(|node| text_of(node).trim().to_owned())
            .collect();
        assert!(words.iter().any(|word| word == "10:00"), "{words:?}");
        assert!(
            words.iter().any(|word| word == "keepalive and telemetry"),
            "{words:?}"
        );
        assert_eq!(
            drawing.matches("class=\"f rough\"").count(),
            2,
            "storm and restart"
        );
    }
}

#[test]
fn the_page_needs_nothing_else_and_is_not_large() {
    let page = example::million().page();
    assert!(page.len() < 1_000_000, "{} bytes", page.len());
    let without_names = page.replace("http://www.w3.org/2000/svg", "");
    for outside in [
        "http:", "https:", "url(", "@import", " src=", " href=", "<link",
    ] {
        assert!(!without_names.contains(outside), "{outside}");
    }
    assert!(!page.contains("#0102"), "a placeholder is left");
}

#[test]
fn a_soak_of_days_is_no_larger() {
    let mut outcome = example::million();
    let series = outcome.series.clone();
    let days = (0..60).flat_map(|round| {
        let later = move |point: &Point| Point {
            at_s: point.at_s + f64::from(round) * 1_066.0,
            ..point.clone()
        };
        series.iter().map(later).collect::<Vec<_>>()
    });
    outcome.series = days.collect();
    let page = outcome.page();
    assert!(page.len() < 1_500_000, "{} bytes", page.len());
}

#[test]
fn names_from_outside_stay_text() {
    let mut outcome = example::failed();
    let hostile = || HOSTILE.to_owned();
    outcome.scenario = hostile();
    outcome.about = hostile();
    outcome.started = hostile();
    outcome.target.about = hostile();
    outcome.target.addresses = vec![hostile()];
    outcome.machine.kernel = hostile();
    outcome.errors = vec![(hostile(), 3)];
    outcome.checks = vec![Check {
        key: hostile(),
        about: hostile(),
        bound: hostile(),
        figure: hostile(),
        passed: false,
    }];
    let latency = LatencyPoint {
        kind: hostile(),
        p50_us: 1,
        p99_us: 2,
        max_us: 3,
    };
    outcome.series[5].latencies.push(latency);
    outcome.series[5].memory.push((hostile(), 7));
    outcome.series[5].cpu.push((hostile(), 0.5));
    outcome.latencies[0].kind = hostile();
    outcome.resources.roles[0].role = hostile();
    outcome.phases[1].name = hostile();
    outcome.phases[1].kind = hostile();
    outcome.phases[1].growth = Some((hostile(), 0.1));
    outcome.examples = vec![FindingLine {
        kind: FindingKind::Violation,
        client_id: hostile(),
        messages: hostile(),
        seq: None,
        at_s: 1.0,
        detail: hostile(),
    }];
    let page = keep(&outcome, "hostile");
    assert_eq!(page.matches("<script>").count(), 1, "only the page's own");
    assert_eq!(page.matches("</style>").count(), 1);
    assert!(!page.contains('\u{0}') && !page.contains('\u{1b}') && !page.contains('\u{202e}'));
    let document = body(&page);
    let document = parse(&document);
    let shown = cells(&document)
        .into_iter()
        .filter(|cell| cell.contains("<script>alert("))
        .count();
    assert!(shown >= 11, "{shown} cells show the name as it is");
    for drawing in drawings(&page) {
        parse(drawing);
    }
    let summary = outcome.to_string();
    assert!(summary.contains("alert("), "{summary}");
    assert!(
        summary
            .chars()
            .all(|shown| shown == '\n' || !shown.is_control()),
        "{summary:?}"
    );
}

#[test]
fn a_failed_run_says_why() {
    let outcome = example::failed();
    let why = "FAILED: no promise broken: 43: 41 lost, 2 sessions lost (allowed: 0); p99 of commands: 130 ms \
               (allowed: at most 100 ms); phase proxies one by one was not done after 1 min 54 s";
    assert_eq!(outcome.verdict(), why);
    let page = keep(&outcome, "failed");
    assert!(page.contains(&format!("<p class=\"verdict failed\">{why}</p>")));
    let document = body(&page);
    let cells = cells(&parse(&document));
    assert!(cells.iter().any(|cell| cell == "meter-1133"));
    let summary = outcome.to_string();
    assert_eq!(
        summary.lines().last(),
        Some(format!("  verdict    {why}").as_str())
    );
    assert!(
        summary
            .contains("  finding    lost: meter-1000, telemetry number 31 at 951.250000 s, QoS 1")
    );
}

#[test]
fn a_run_that_was_cut_short_says_what_was_left_out() {
    let mut outcome = example::million();
    (outcome.passed, outcome.stopped) = (false, true);
    outcome.skipped = vec!["storm".to_owned(), "calm".to_owned()];
    let why = "FAILED: stopped by a signal; left out: storm, calm";
    assert_eq!(outcome.verdict(), why);
    assert!(keep(&outcome, "stopped").contains(why));
}

#[test]
fn a_run_that_ended_by_an_error_says_so_everywhere() {
    let mut outcome = example::million();
    outcome.checks.clear();
    outcome.fail(&format!("worker 3 {HOSTILE} is gone"));
    outcome.fail(&"the fleet did not end well");
    let verdict = outcome.verdict();
    assert!(verdict.starts_with("FAILED: ended by an error: worker 3 "));
    assert!(
        !verdict.contains("did not end well"),
        "the first error stays"
    );
    let page = keep(&outcome, "broken");
    let document = body(&page);
    let text = text_of(parse(&document).root());
    assert!(text.contains("FAILED: ended by an error: worker 3 "));
    assert!(text.contains("The run ended by an error, so nothing was judged."));
    let json = serde_json::to_value(&outcome).expect("JSON");
    let error = json["error"].as_str().expect("told");
    assert!(error.starts_with("worker 3 ") && json["passed"] == false);
    let summary = outcome.to_string();
    let last = summary.lines().last().expect("lines");
    assert!(last.starts_with("  verdict    FAILED: ended by an error: worker 3 "));
    let whole = serde_json::to_value(example::million()).expect("JSON");
    assert!(whole["error"].is_null());
}

#[test]
fn the_summary_is_a_few_aligned_lines() {
    let summary = example::million().to_string();
    println!("{summary}");
    let mut lines = summary.lines();
    let first =
        "million x 1,000,000 on 53 proxies, 2 groups and Redis, started by this run, 17 min 46 s";
    assert_eq!(lines.next(), Some(first));
    for line in lines {
        assert!(
            line.starts_with("  ") && line.as_bytes()[12] == b' ' && line.as_bytes()[13] != b' ',
            "{line}"
        );
    }
    assert!(
        summary.contains(
            "  oracle     0 lost, 0 duplicated, 0 reordered, 14 repeated as QoS 1 allows"
        )
    );
    assert!(
        summary.contains("  CPU        target 931.0 s, simulator 452.0 s (0.49 of the target's)")
    );
    assert!(summary.ends_with("  verdict    passed: all 6 checks hold"));
}

#[test]
fn a_run_of_nothing_still_has_a_page() {
    let mut outcome = Outcome::default();
    for passed in [false, true] {
        outcome.passed = passed;
        let page = keep(&outcome, "nothing");
        parse(&body(&page));
        assert!(page.contains("The run has no figures over time."));
    }
    assert_eq!(outcome.verdict(), "passed, but nothing was judged");
}

#[test]
fn one_point_is_a_dot() {
    let latency = LatencyPoint {
        kind: "ping".to_owned(),
        p50_us: 0,
        p99_us: 0,
        max_us: 0,
    };
    let point = Point {
        latencies: vec![latency],
        memory: vec![("simulator".to_owned(), 1)],
        ..Point::default()
    };
    let outcome = Outcome {
        series: vec![point],
        ..Outcome::default()
    };
    let page = keep(&outcome, "point");
    let drawings = drawings(&page);
    assert_eq!(drawings.len(), 7);
    for drawing in drawings {
        parse(drawing);
        assert!(drawing.contains("<circle"), "{drawing}");
    }
    assert!(page.contains("the target&#39;s processes are not known"));
}

#[test]
fn huge_figures_and_none_at_all_are_drawn() {
    let wild = |at_s: f64, figure: f64| Point {
        at_s,
        connected: u64::MAX,
        connects_per_s: figure,
        sent_per_s: f64::NAN,
        received_per_s: f64::NEG_INFINITY,
        connections_lost: u64::MAX,
        errors: u64::MAX,
        owed: u64::MAX,
        latencies: vec![LatencyPoint {
            kind: "x".to_owned(),
            p50_us: 0,
            p99_us: u64::MAX,
            max_us: u64::MAX,
        }],
        memory: vec![("proxies".to_owned(), u64::MAX)],
        cpu: vec![("proxies".to_owned(), f64::MAX)],
    };
    let phase = PhaseOutcome {
        from_s: f64::NAN,
        to_s: f64::INFINITY,
        ..PhaseOutcome::default()
    };
    let series = vec![wild(0.0, f64::MAX), wild(1.0, -1.0), wild(f64::NAN, 1.0)];
    let outcome = Outcome {
        series,
        phases: vec![phase],
        secs: f64::NAN,
        ..Outcome::default()
    };
    let page = keep(&outcome, "huge");
    for drawing in drawings(&page) {
        let document = parse(drawing);
        let coordinates = document
            .descendants()
            .flat_map(|node| node.attributes().collect::<Vec<_>>());
        for attribute in coordinates.filter(|attribute| attribute.name() == "points") {
            let mut figures = attribute
                .value()
                .split([' ', ','])
                .filter(|figure| !figure.is_empty());
            assert!(figures.all(|figure| {
                figure
                    .parse()
                    .is_ok_and(|at: i32| (0..=4_400).contains(&at))
            }));
        }
    }
    assert!(outcome.to_string().contains("verdict"));
}

#[test]
fn files_appear_whole_and_errors_name_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let outcome = example::million();
    let deep = folder.path().join("a").join("b");
    let page = outcome.write(&deep).expect("writable");
    assert_eq!(page, deep.join("report.html"));
    let mut names: Vec<_> = fs::read_dir(&deep)
        .expect("the folder")
        .map(|entry| entry.expect("entry").file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["report.html", "report.json"]);
    let json = fs::read_to_string(deep.join("report.json")).expect("the figures");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["series"].as_array().map(Vec::len), Some(1_066));
    assert_eq!(json["totals"]["sent"][1], 3_420_117);
    assert_eq!(json["passed"], true);
    let file = folder.path().join("file");
    fs::write(&file, "").expect("writable");
    let error = outcome
        .write(&file.join("report"))
        .expect_err("a file is no folder")
        .to_string();
    assert!(
        error.starts_with("the report cannot be written: ") && error.contains("/file/report"),
        "{error}"
    );
}
