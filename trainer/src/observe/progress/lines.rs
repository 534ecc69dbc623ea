//! Text of events.

use crate::events::{EvalRecord, Event, Start};
use crate::measure::forecast::clock;

/// Describes an event, one line each; steps have none.
pub fn lines(event: &Event) -> Vec<String> {
    match event {
        Event::Start(start) => of_start(start),
        Event::Stage(s) => {
            let (number, m) = (s.stage + 1, s.magnitude);
            vec![format!("stage {number}/{}: B={} m={m:.1}, {} steps", s.stages, s.size, s.steps)]
        }
        Event::Step(_) | Event::Checkpoint { .. } => Vec::new(),
        Event::Eval(e) => {
            let ema = e.ema_accuracy().map_or(String::new(), |t| format!("  EMA {:.2}%", 100.0 * t));
            let mut lines = vec![format!(
                "epoch {:6.2}  compute {:6.2}  {:>8}  {}  loss {:.4}{ema}",
                e.epoch,
                e.equivalent_epochs,
                clock(e.seconds),
                accuracies(e),
                e.loss
            )];
            if e.diverged() {
                lines.push(format!(
                    "warning: the evaluation after {} steps gave non-finite outputs: training may have \
                     diverged; lower --lr, or give --clip-grad 1",
                    e.step
                ));
            }
            lines
        }
        Event::Note { text } => vec![format!("note: {text}")],
        Event::BadImage(b) => vec![format!("warning: skipped {}", b.reason)],
        Event::NonFinite(b) => vec![format!(
            "warning: step {}: loss {}, gradient norm {}; {}; the batch is in {}",
            b.step,
            b.loss,
            b.grad_norm,
            b.action,
            b.kept.display()
        )],
        Event::CheckpointFailed { step, reason, written: false } => {
            vec![format!("warning: no checkpoint of step {step}: {reason}; the previous one remains")]
        }
        Event::CheckpointFailed { step, reason, written: true } => vec![format!(
            "warning: the checkpoint of step {step} is written, but is not kept for later, or an older one was \
             not removed: {reason}"
        )],
        Event::End { step, finished, seconds } => {
            let how = if *finished { "done" } else { "stopped as requested" };
            vec![format!("{how}: {step} steps in {}", clock(*seconds))]
        }
    }
}

/// Returns what an evaluation says of the weights besides the loss.
fn accuracies(e: &EvalRecord) -> String {
    match e.multi_label {
        Some(several) => format!(
            "mAP {:6.2}%  F1 {:6.2}% (micro) {:6.2}% (macro)",
            100.0 * several.map,
            100.0 * several.micro_f1,
            100.0 * several.macro_f1
        ),
        None => format!("top-1 {:6.2}%  top-5 {:6.2}%", 100.0 * e.top1, 100.0 * e.top5),
    }
}

fn of_start(s: &Start) -> Vec<String> {
    let mut lines = vec![format!(
        "{} ({:.1} M parameters{}), recipe {}: {} steps, {:.2} compute epochs over {} images in {} classes",
        s.model,
        s.parameters as f64 / 1e6,
        if s.frozen > 0 { format!(", {:.1} M of them frozen", s.frozen as f64 / 1e6) } else { String::new() },
        s.recipe,
        s.total_steps(),
        s.plan.equivalent_epochs,
        s.train_images,
        s.classes
    )];
    lines.extend(s.train_notes.lines("training"));
    lines.extend(s.val_notes.lines("evaluation"));
    if let Some(init) = &s.init {
        lines.push(format!("initial weights: {init}"));
    }
    if s.first_step > 0 {
        lines.push(format!("resuming at step {}", s.first_step));
    }
    lines.extend(s.notes.iter().map(|note| format!("note: {note}")));
    lines.extend(s.warnings.iter().map(|warning| format!("warning: {warning}")));
    if s.refill_images > 0 {
        lines.push(format!("refilling the replay buffer with {} images", s.refill_images));
    }
    if let Some(share) = s.plan.decoded_share {
        let share = 100.0 * share;
        lines.push(format!(
            "replay buffer: {share:.1}% of the images trained on are decoded, the others are replayed"
        ));
    }
    lines
}
