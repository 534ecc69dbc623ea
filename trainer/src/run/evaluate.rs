//! Evaluation of a run: when it is due, and on which images.

use std::time::Instant;

use crate::config::interval::Position;
use crate::data::pipeline::eval::EvalPipeline;
use crate::data::source::BadImage;
use crate::distributed::control::Phase;
use crate::error::Result;
use crate::events::history::{EvalRecord, MultiLabelEval};
use crate::events::{Event, Observer};
use crate::inference::evaluate::{Accuracy, EvalImages, Scored, score};
use crate::run::Run;

/// Batch size of evaluation.
const EVAL_BATCH: usize = 64;

impl Run {
    /// Returns true if an evaluation is due after the step just done; `before` is the position
    /// before that step.
    pub(crate) fn should_evaluate(&self, before: Position) -> Result<bool> {
        let due = self.step == self.total_steps() || self.options.eval_every.is_due(before, self.place()?);
        Ok(due && self.state.objective.has_accuracy())
    }

    /// Returns the best evaluation if `--early-stop` ends the run because none was better since.
    pub(crate) fn stalled_since(&self) -> Option<&EvalRecord> {
        let span = self.options.early_stop?;
        let total = self.plan.equivalent_epochs();
        let place = |eval: &EvalRecord| Position {
            steps: eval.step,
            epochs: eval.epoch,
            compute: eval.equivalent_epochs / total,
        };
        let (best, last) = (self.history.best()?, self.history.last()?);
        span.is_over(place(best), place(last)).then_some(best)
    }

    /// Runs an evaluation that a stop has prevented.
    pub(crate) fn evaluate_if_missed(
        &mut self,
        clock: &mut Instant,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let done = self.history.last().is_some_and(|eval| eval.step == self.step);
        if self.step > 0 && !done && self.should_evaluate(self.position_at(self.step - 1)?)? {
            self.evaluate(clock, observer)?;
        }
        Ok(())
    }

    /// Returns the present score of the run, evaluating it if necessary; none if the run was asked
    /// to stop before.
    pub(crate) fn measure(&mut self, observer: &mut dyn Observer) -> Result<Option<f64>> {
        let measured = |run: &Self| run.history.last().filter(|e| e.step == run.step).map(EvalRecord::score);
        if let Some(score) = measured(self) {
            return Ok(Some(score));
        }
        self.evaluate(&mut Instant::now(), observer)?;
        Ok(measured(self))
    }

    /// Evaluates weights and average at base size; returns false if the run was asked to stop
    /// before the end.
    pub(crate) fn evaluate(&mut self, clock: &mut Instant, observer: &mut dyn Observer) -> Result<bool> {
        let now = self.place()?;
        self.group.enter(Phase::Evaluation, self.step);
        let Some((plain, bad)) = self.accuracy(false)? else { return Ok(false) };
        let mut ema = None;
        if self.state.ema.is_some() {
            let Some((average, _)) = self.accuracy(true)? else { return Ok(false) };
            ema = Some(average);
        }
        let multi_label = plain.multi_label.map(|several| MultiLabelEval {
            map: several.map,
            ema_map: ema.and_then(|average| average.multi_label).map(|average| average.map),
            micro_f1: several.micro_f1,
            macro_f1: several.macro_f1,
        });
        self.bad.report(&bad, observer)?;
        self.tick(clock);
        let record = EvalRecord {
            step: self.step,
            epoch: now.epochs,
            equivalent_epochs: now.compute * self.plan.equivalent_epochs(),
            seconds: self.history.seconds,
            top1: plain.top1,
            top5: plain.top5,
            loss: plain.loss,
            ema_top1: ema.map(|average| average.top1),
            multi_label,
        };
        self.history.evals.push(record.clone());
        observer.observe(&Event::Eval(record))?;
        Ok(true)
    }

    fn accuracy(&mut self, ema: bool) -> Result<Option<(Accuracy, Vec<BadImage>)>> {
        let pipeline =
            EvalPipeline::new(self.config.base_size as usize).with_normalization(self.config.normalization());
        let (source, workers) = (self.sources.val.clone(), self.options.workers());
        let state = &self.state;
        let mut params = state.ema.as_ref().filter(|_| ema).unwrap_or(&state.params).clone();
        let (model, changes) = state.model.at_size([pipeline.size; 2])?;
        for change in changes {
            change.apply_in(&mut params)?;
        }
        let share = (self.group.rank(), self.group.size());
        let images = EvalImages { source, pipeline: &pipeline, batch: EVAL_BATCH, workers, share };
        let scored = score(model.classifier()?, &params, images, &self.stop, &mut |_| ())?;
        self.combine_scores(scored)?.map(Scored::finish).transpose()
    }
}
