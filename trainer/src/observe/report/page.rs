//! HTML page of a report.

use std::collections::BTreeSet;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::config::keys::keys_of;
use crate::events::history::{EvalRecord, Figure};
use crate::measure::forecast::clock;
use crate::observe::report::Shown;
use crate::observe::report::charts::{color, figure_of, svgs};
use crate::observe::report::diagnostics::{RULES, signs};
use crate::observe::report::read::RunLog;
use crate::observe::report::series::Axis;
use crate::observe::report::targets;

const STYLE: &str = include_str!("page.css");

/// Renders the whole page.
///
/// # Errors
/// Returns an error if a chart cannot be drawn.
pub(crate) fn page(runs: &[Shown], target: Option<f64>) -> Result<String, String> {
    let names: Vec<&str> = runs.iter().map(|run| run.log.name.as_str()).collect();
    let title = escape(&names.join(", "));
    let mut html = format!(
        "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n<meta name=viewport \
         content=\"width=device-width\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
    );
    html += &overview(runs);
    html += &times(runs, target);
    html += &section("Diagnostics", &diagnostics(runs));
    html += &section("Curves", &curves(runs)?);
    let schedules: String = runs.iter().map(|run| schedule(&run.log, runs.len() > 1)).collect();
    html += &section("Schedule", &schedules);
    let images: String = runs.iter().map(|run| stage_images(run, runs.len() > 1)).collect();
    html += &section("Training images", &images);
    html += &section("Options", &options(runs));
    html += "</body>\n</html>\n";
    Ok(html)
}

fn section(heading: &str, content: &str) -> String {
    format!("<section>\n<h2>{heading}</h2>\n{content}</section>\n")
}

/// Renders a table of cells in HTML; the first character of a header marks columns of numbers.
fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let class = |name: &str| if name.starts_with('#') { " class=n" } else { "" };
    let cells = |tag: &str, texts: &mut dyn Iterator<Item = String>| {
        let cell = |(name, text): (&&str, String)| format!("<{tag}{}>{text}</{tag}>", class(name));
        format!("<tr>{}</tr>\n", heading.iter().zip(texts).map(cell).collect::<String>())
    };
    let head = cells("th", &mut heading.iter().map(|name| name.trim_start_matches('#').into()));
    let body: String = rows.iter().map(|row| cells("td", &mut row.iter().cloned())).collect();
    format!("<div class=wide><table>\n<thead>{head}</thead>\n<tbody>{body}</tbody>\n</table></div>\n")
}

fn percent(share: f64) -> String {
    format!("{:.1}%", 100.0 * share)
}

fn swatch(index: usize) -> String {
    let color = color(index);
    format!("<span class=swatch style=\"background:rgb({},{},{})\"></span>", color.0, color.1, color.2)
}

fn overview(runs: &[Shown]) -> String {
    let row = |(i, shown): (usize, &Shown)| {
        let run = &shown.log;
        let (last, best) = (run.evals.last(), best(&run.evals));
        let done = run.steps.last().map_or(0, |s| s.step + 1).max(run.end.map_or(0, |end| end.0));
        let elapsed = run.end.map(|end| end.1).or(run.steps.last().map(|s| s.elapsed)).unwrap_or(0.0);
        let state = match run.end {
            Some((_, _, true)) => "done",
            Some((_, _, false)) => "stopped",
            None => "running, or was killed",
        };
        let compute = run.steps.last().map_or(0.0, |s| s.compute) * run.start.plan.equivalent_epochs;
        // Not every step is logged.
        let compute = last.map_or(compute, |e| e.equivalent_epochs.max(compute));
        vec![
            format!("{} {}", swatch(i), escape(&run.name)),
            escape(&run.start.model),
            escape(&run.start.recipe),
            format!("{} in {} classes", run.start.train_images, run.start.classes),
            format!("{done} of {}", run.start.total_steps()),
            format!("{compute:.2}"),
            last.map_or("-".into(), |e| percent(e.accuracy())),
            best.map_or("-".into(), percent),
            clock(elapsed),
            state.into(),
        ]
    };
    let figure = match figure_of(runs) {
        Some(Figure::Top1) => "#top-1",
        Some(Figure::Map) => "#mAP",
        None => "#top-1 or mAP",
    };
    let heading =
        ["run", "model", "recipe", "images", "#steps", "#compute", figure, "#best", "#time", "state"];
    table(&heading, &runs.iter().enumerate().map(row).collect::<Vec<_>>())
}

/// Renders how long the runs take to an accuracy; empty if there is nothing to compare.
fn times(runs: &[Shown], target: Option<f64>) -> String {
    let (rows, notes) = targets::rows(runs, target);
    if rows.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<String>> =
        rows.into_iter().map(|row| row.iter().map(|cell| escape(cell)).collect()).collect();
    let notes = escape(&notes.join("; "));
    let note = format!(
        "<p>Wall time, with evaluations, to the first evaluation at or above the accuracy ({notes}); runs that differ \
         only in their seeds are one row.</p>\n"
    );
    section("Time to accuracy", &(note + &table(&targets::head(runs), &rows)))
}

/// Returns the best score of the evaluations that did not diverge.
fn best(evals: &[EvalRecord]) -> Option<f64> {
    evals.iter().filter(|e| !e.diverged()).map(EvalRecord::score).reduce(f64::max)
}

fn diagnostics(runs: &[Shown]) -> String {
    let mut html = String::new();
    for run in runs {
        for sign in signs(&run.log) {
            let which = if runs.len() > 1 { format!("{}, ", escape(&run.log.name)) } else { String::new() };
            let stages = match sign.stages {
                (first, last) if first == last => format!("stage {first}"),
                (first, last) => format!("stages {first} to {last}"),
            };
            let (size, seen, advice) = (sign.size, escape(&sign.seen), escape(sign.advice));
            let _ = writeln!(html, "<p class=sign><b>{which}B = {size} ({stages})</b>: {seen}. {advice}</p>");
        }
        for warning in &run.log.start.warnings {
            let name = if runs.len() > 1 { format!("{}: ", escape(&run.log.name)) } else { String::new() };
            let _ = writeln!(html, "<p class=sign>{name}{}.</p>", escape(warning));
        }
        let bad = run.log.bad_images;
        if bad > 0 {
            let _ = writeln!(
                html,
                "<p class=sign>{bad} images of {} could not be read.</p>",
                escape(&run.log.name)
            );
        }
    }
    if html.is_empty() {
        html = "<p>No problems found.</p>\n".into();
    }
    let rules: String = RULES.iter().map(|rule| format!("<li>{}</li>\n", escape(rule))).collect();
    html + &format!("<details><summary>Rules</summary><ul>\n{rules}</ul></details>\n")
}

/// Renders charts over each axis, one of which the reader selects by CSS alone, without a script.
fn curves(runs: &[Shown]) -> Result<String, String> {
    let (mut tabs, mut panels) = (String::new(), String::new());
    for (i, axis) in Axis::ALL.into_iter().enumerate() {
        let checked = if i == 0 { " checked" } else { "" };
        let name = axis.name();
        let _ = writeln!(
            tabs,
            "<input type=radio name=axis id=axis{i}{checked}><label for=axis{i}>against {name}</label>"
        );
        let charts = svgs(runs, axis)?;
        let figures: String = charts.iter().map(|svg| format!("<figure>{svg}</figure>\n")).collect();
        let _ = writeln!(panels, "<div class=\"panel panel{i}\">\n{figures}</div>");
    }
    let legend: String = if runs.len() > 1 {
        let name = |(i, run): (usize, &Shown)| format!("{} {} &ensp;", swatch(i), escape(&run.log.name));
        format!("<p>{}</p>\n", runs.iter().enumerate().map(name).collect::<String>())
    } else {
        "<p>Vertical lines mark the starts of stages.</p>\n".into()
    };
    Ok(format!("{legend}<div class=axes>\n{tabs}{panels}</div>\n"))
}

fn schedule(run: &RunLog, named: bool) -> String {
    let ranges = run.start.stage_steps();
    let row = |(i, stage): (usize, &efficienttrain_schedule::SummaryStage)| {
        let steps = || run.steps.iter().filter(|s| ranges[i].contains(&s.step));
        let sum = |value: fn(&crate::events::StepRecord) -> f64| steps().map(value).sum::<f64>();
        let (images, seconds, waited) =
            (sum(|s| s.images as f64), sum(|s| s.seconds), sum(|s| s.data_seconds));
        let measured = |text: String| if seconds > 0.0 { text } else { "-".into() };
        let lr = |lr: Option<f64>| {
            lr.map_or("-".into(), |lr| if lr == 0.0 { "0".into() } else { format!("{lr:.2e}") })
        };
        let batch = match stage.accumulation {
            1 => stage.batch_per_device.to_string(),
            n => format!("{} x {n}", stage.batch_per_device),
        };
        vec![
            (i + 1).to_string(),
            stage.size.to_string(),
            format!("{:.1}", stage.magnitude),
            batch,
            stage.steps.to_string(),
            format!("{:.2}", stage.epochs),
            percent(stage.share),
            format!("{} to {}", lr(stage.lr_first), lr(stage.lr_last)),
            measured(format!("{:.0}", images / seconds)),
            measured(percent(waited / seconds)),
        ]
    };
    let heading = [
        "stage",
        "#B",
        "#m",
        "#batch",
        "#steps",
        "#passes",
        "#compute",
        "#learning rate",
        "#images/s",
        "#waiting for images",
    ];
    let rows: Vec<_> = run.start.plan.stages.iter().enumerate().map(row).collect();
    let name = if named { format!("<h3>{}</h3>\n", escape(&run.name)) } else { String::new() };
    name + &table(&heading, &rows)
}

fn stage_images(run: &Shown, named: bool) -> String {
    let mut html = if named { format!("<h3>{}</h3>\n", escape(&run.log.name)) } else { String::new() };
    let stages = match &run.images {
        Ok(stages) => stages,
        Err(why) => return html + &format!("<p class=none>No images: {}</p>\n", escape(why)),
    };
    html += "<div class=stages>\n";
    for stage in stages {
        let image =
            |png: &Vec<u8>| format!("<img alt=\"\" src=\"data:image/png;base64,{}\">", STANDARD.encode(png));
        let images: String = stage.png.iter().map(image).collect();
        let (number, size, m) = (stage.stage, stage.size, stage.magnitude);
        let _ = writeln!(
            html,
            "<figure>{images}<figcaption>stage {number}: B = {size}, m = {m:.1}</figcaption></figure>"
        );
    }
    html + "</div>\n"
}

fn options(runs: &[Shown]) -> String {
    let mut html = String::new();
    if runs.len() > 1 {
        html += &differing(runs);
    }
    for run in runs {
        let (name, text) = (escape(&run.log.name), escape(&run.log.config_text));
        let _ =
            writeln!(html, "<details><summary>All options of {name}</summary><pre>{text}</pre></details>");
    }
    html
}

/// Lists the keys in which the runs differ.
fn differing(runs: &[Shown]) -> String {
    let keys: Vec<_> = runs.iter().map(|run| keys_of(&run.log.config)).collect();
    let all: BTreeSet<&String> = keys.iter().flat_map(serde_json::Map::keys).collect();
    let value = |map: &serde_json::Map<_, _>, key: &String| match map.get(key) {
        None | Some(serde_json::Value::Null) => "the recipe's".to_string(),
        Some(value) => value.to_string(),
    };
    let row = |key: &&String| {
        let values: Vec<String> = keys.iter().map(|map| value(map, key)).collect();
        let differ = values.iter().any(|value| *value != values[0]);
        let cells = std::iter::once((*key).clone()).chain(values);
        differ.then(|| cells.map(|text| escape(&text)).collect::<Vec<_>>())
    };
    let rows: Vec<_> = all.iter().filter_map(row).collect();
    if rows.is_empty() {
        return "<p>The options are the same.</p>\n".into();
    }
    let names: Vec<String> = runs.iter().map(|run| escape(&run.log.name)).collect();
    let heading: Vec<&str> = std::iter::once("key").chain(names.iter().map(String::as_str)).collect();
    table(&heading, &rows)
}

/// Escapes a text for HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
