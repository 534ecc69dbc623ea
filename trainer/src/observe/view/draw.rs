//! Layout of the view.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, Gauge, GraphType, Paragraph};

use crate::events::Start;
use crate::measure::forecast::clock;
use crate::observe::view::dashboard::Dashboard;

const BLUE: Color = Color::LightBlue;
const ORANGE: Color = Color::Yellow;

/// Draws a run on a screen.
pub fn draw(frame: &mut Frame, dashboard: &Dashboard) {
    let Some(start) = &dashboard.start else {
        frame.render_widget(Paragraph::new("preparing"), frame.area());
        return;
    };
    let stages = start.plan.stages.len() as u16;
    let rows = [
        Constraint::Length(1),
        Constraint::Length(2),
        Constraint::Fill(3),
        Constraint::Length(stages.max(7) + 2),
        Constraint::Fill(1),
    ];
    let [title, bars, curves, middle, messages] = Layout::vertical(rows).areas(frame.area());
    frame.render_widget(heading(start), title);
    progress(frame, bars, dashboard, start);
    let [left, right] = Layout::horizontal([Constraint::Fill(1); 2]).areas(curves);
    let loss = [("", ORANGE, dashboard.loss.points.as_slice())];
    chart(frame, left, "training loss", &loss);
    let accuracy =
        [("", BLUE, dashboard.accuracy.as_slice()), ("average", Color::LightGreen, dashboard.ema.as_slice())];
    chart(frame, right, &format!("{}, %", start.figure().name()), &accuracy);
    let [left, right] = Layout::horizontal([Constraint::Fill(1); 2]).areas(middle);
    frame.render_widget(numbers(dashboard, start).block(Block::bordered().title(" now ")), left);
    frame.render_widget(schedule(dashboard, start).block(Block::bordered().title(" stages ")), right);
    frame.render_widget(message_lines(dashboard, messages.height), messages);
}

fn heading(start: &Start) -> Line<'static> {
    let what = format!(
        "  {:.1} M parameters, recipe {}, {} images in {} classes",
        start.parameters as f64 / 1e6,
        start.recipe,
        start.train_images,
        start.classes
    );
    Line::from(vec![Span::from(start.model.clone()).bold().fg(BLUE), Span::from(what)])
}

fn progress(frame: &mut Frame, area: Rect, dashboard: &Dashboard, start: &Start) {
    let [run, stage] = Layout::vertical([Constraint::Length(1); 2]).areas(area);
    let last = dashboard.last.as_ref();
    let left = |seconds: Option<f64>| seconds.map_or("?".into(), clock);
    let whole = start.total_steps().max(1);
    let done = last.map_or(0, |s| s.step + 1);
    let label = format!("run: step {done} of {whole}, {} left", left(dashboard.left.run()));
    frame.render_widget(gauge(last.map_or(0.0, |s| s.compute), label, BLUE), run);
    let number = last.map_or(0, |s| s.stage);
    let range = start.stage_steps().get(number).cloned().unwrap_or_default();
    let (before, steps) = (range.start, (range.end - range.start).max(1));
    let label =
        format!("stage {} of {}: {} left", number + 1, start.plan.stages.len(), left(dashboard.left.stage()));
    frame.render_widget(gauge(done.saturating_sub(before) as f64 / steps as f64, label, ORANGE), stage);
}

fn gauge(share: f64, label: String, color: Color) -> Gauge<'static> {
    Gauge::default()
        .ratio(share.clamp(0.0, 1.0))
        .label(label)
        .gauge_style(Style::new().fg(color).bg(Color::DarkGray))
}

fn numbers(dashboard: &Dashboard, start: &Start) -> Paragraph<'static> {
    let Some(s) = &dashboard.last else { return Paragraph::new("no step yet") };
    let line = |name: &str, value: String| {
        Line::from(vec![Span::from(format!(" {name:<14}")).dim(), Span::from(value).bold()])
    };
    let percent = |share: f64| format!("{:.0}%", 100.0 * share);
    Paragraph::new(vec![
        line("images", format!("B = {}   m = {:.1}", s.size, s.magnitude)),
        line("learning rate", format!("{:.3e}", s.lr)),
        line("loss", format!("{:.4}   gradient {:.3}", s.loss, s.grad_norm)),
        line(
            &format!("best {}", start.figure().name()),
            dashboard.best().map_or("none yet".into(), |best| format!("{best:.2}%")),
        ),
        line("speed", format!("{:.0} images/s   {} images per step", dashboard.rate, s.images)),
        line("network busy", percent(1.0 - dashboard.waiting)),
        line("loader busy", percent(dashboard.load)),
    ])
}

fn schedule(dashboard: &Dashboard, start: &Start) -> Paragraph<'static> {
    let now = dashboard.last.as_ref().map_or(0, |s| s.stage);
    let line = |(i, stage): (usize, &efficienttrain_schedule::SummaryStage)| {
        let mark = match i.cmp(&now) {
            std::cmp::Ordering::Less => '✓',
            std::cmp::Ordering::Equal => '▶',
            std::cmp::Ordering::Greater => ' ',
        };
        let (share, m) = (100.0 * stage.share, stage.magnitude);
        let text = format!(
            " {mark} {:>2}  B {:>4}  m {m:>4.1}  {:>7} steps  {share:>4.1}%",
            i + 1,
            stage.size,
            stage.steps
        );
        let line = Line::from(text);
        if i == now { line.bold().fg(ORANGE) } else { line }
    };
    Paragraph::new(start.plan.stages.iter().enumerate().map(line).collect::<Vec<_>>())
}

/// Returns the newest messages that fit.
fn message_lines(dashboard: &Dashboard, height: u16) -> Paragraph<'static> {
    let first = dashboard.messages.len().saturating_sub(height.into());
    let line = |text: &String| {
        let line = Line::from(text.clone());
        if text.starts_with("warning") { line.fg(ORANGE) } else { line.dim() }
    };
    Paragraph::new(dashboard.messages.iter().skip(first).map(line).collect::<Vec<_>>())
}

/// Name, color and points.
type Curve<'a> = (&'a str, Color, &'a [(f64, f64)]);

/// Draws curves over percent of the compute.
fn chart(frame: &mut Frame, area: Rect, title: &str, curves: &[Curve]) {
    let values = || curves.iter().flat_map(|curve| curve.2).map(|p| p.1);
    let block = Block::bordered().title(format!(" {title} "));
    let (low, high) = values().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), y| (l.min(y), h.max(y)));
    if !low.is_finite() || !high.is_finite() {
        return frame.render_widget(Paragraph::new(" nothing yet").dim().block(block), area);
    }
    let room = (0.05 * (high - low)).max(0.01);
    let (low, high) = (low - room, high + room);
    let sets = curves.iter().filter(|curve| !curve.2.is_empty()).map(|&(name, color, points)| {
        let set =
            Dataset::default().marker(Marker::Braille).graph_type(GraphType::Line).style(color).data(points);
        if name.is_empty() { set } else { set.name(name.to_string()) }
    });
    let labels = [low, f64::midpoint(low, high), high].map(|y| format!("{y:.2}"));
    let chart = Chart::new(sets.collect())
        .block(block)
        .x_axis(Axis::default().bounds([0.0, 100.0]).labels(["0", "compute, %", "100"]))
        .y_axis(Axis::default().bounds([low, high]).labels(labels));
    frame.render_widget(chart, area);
}
