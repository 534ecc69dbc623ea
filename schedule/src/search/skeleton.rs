//! Curricula, plans and trials from choices. The training of a trial depends only on the choices up
//! to its stage.

use crate::curriculum::{Curriculum, ShareUnit};
use crate::error::{Result, field};
use crate::optimizer::{LrOver, WarmUp};
use crate::options::PlanOptions;
use crate::plan::Plan;
use crate::recipe::{DropPath, Origin, Recipe};
use crate::search::options::{Algorithm, FineTune, SearchOptions};
use crate::search::space::Choice;
use crate::search::trial::FineTuneRun;
use crate::stage::{Magnitude, Stage};
use crate::transform::stage_at;

/// The recipe's stages at full size, before anything is chosen.
#[derive(Debug, Clone)]
pub(crate) struct Skeleton {
    recipe: Recipe,
    plan: PlanOptions,
    pub(crate) choices: Vec<Choice>,
}

impl Skeleton {
    pub(crate) fn new(recipe: &Recipe, options: &SearchOptions) -> Result<Self> {
        recipe.validate()?;
        options.validate(recipe.curriculum.base_size)?;
        let share_of = match options.algorithm {
            Algorithm::Greedy { .. } => ShareUnit::Epochs,
            Algorithm::Sequential { .. } => ShareUnit::Compute,
        };
        let curriculum = curriculum(&recipe.curriculum, options, share_of)?;
        let epochs = options.plan.equivalent_epochs;
        let mut recipe_at_full_size = Recipe {
            name: format!("{}-searched", recipe.name),
            origin: Origin::Ours,
            curriculum,
            drop_path: DropPath::Constant(recipe.drop_path_rate(epochs)?),
            ..recipe.clone()
        };
        recipe_at_full_size.optimizer.lr_over = LrOver::Shares;
        // The warm-up is as long as in plain training, for every choice.
        if let WarmUp::Epochs { epochs: warm_up, at_most_share } = recipe.optimizer.warm_up {
            recipe_at_full_size.optimizer.warm_up = WarmUp::Share((warm_up / epochs).min(at_most_share));
        }
        let skeleton = Self {
            recipe: recipe_at_full_size,
            plan: options.plan.clone(),
            choices: options.space.choices(),
        };
        skeleton.check(options)?;
        Ok(skeleton)
    }

    pub(crate) fn stages(&self) -> usize {
        self.recipe.curriculum.stages.len()
    }

    pub(crate) fn base_size(&self) -> u32 {
        self.recipe.curriculum.base_size
    }

    /// Returns true if a candidate is plain training.
    pub(crate) fn is_full(&self, candidate: usize) -> bool {
        self.choices[candidate] == Choice::of_size(self.base_size())
    }

    /// Returns the recipe with choices for its first stages; none leaves a stage at full size, as
    /// are the later stages.
    pub(crate) fn recipe(&self, picks: &[Option<usize>]) -> Recipe {
        let mut recipe = self.recipe.clone();
        for (stage, pick) in recipe.curriculum.stages.iter_mut().zip(picks) {
            if let Some(choice) = pick.map(|candidate| self.choices[candidate]) {
                apply(stage, choice);
            }
        }
        recipe
    }

    /// Plans [`Self::recipe`]. If stages are shares of epochs, cheaper stages make the run cheaper.
    pub(crate) fn plan(&self, picks: &[Option<usize>]) -> Result<Plan> {
        let recipe = self.recipe(picks);
        let mut options = self.plan.clone();
        if recipe.curriculum.share_of == ShareUnit::Epochs {
            let cost = |stage: &Stage| Ok(stage.share * options.cost.relative(stage.size, self.base_size())?);
            let costs: Result<Vec<f64>> = recipe.curriculum.stages.iter().map(cost).collect();
            options.equivalent_epochs *= costs?.iter().sum::<f64>();
        }
        Plan::new(&recipe, options)
    }

    /// Plans the fine-tuning after `end` steps of `plan`; `None` if its share is 0.
    pub(crate) fn fine_tune(&self, rule: FineTune, plan: &Plan, end: u64) -> Result<Option<FineTuneRun>> {
        if rule.share == 0.0 {
            return Ok(None);
        }
        let last = plan.at(end - 1)?;
        let mut recipe = self.recipe.clone();
        recipe.name = format!("{}-fine-tune", recipe.name);
        let full = &self.recipe.curriculum.stages[self.stages() - 1];
        recipe.curriculum.stages =
            vec![Stage { share: 1.0, magnitude: Magnitude::Fixed(last.magnitude), ..full.clone() }];
        let optimizer = &mut recipe.optimizer;
        // The first step of a warm-up has a rate of 0, which a plan cannot start from.
        let scale = optimizer.lr_scaling.factor(last.global_batch, optimizer.reference_batch);
        optimizer.lr = (rule.lr_factor * last.lr / scale).max(f64::MIN_POSITIVE);
        optimizer.min_lr = optimizer.min_lr.min(optimizer.lr);
        optimizer.warm_up = WarmUp::None;
        let equivalent_epochs = rule.share * self.plan.equivalent_epochs;
        let plan_of_it = Plan::new(&recipe, PlanOptions { equivalent_epochs, ..self.plan.clone() })?;
        Ok(Some(FineTuneRun { plan: plan_of_it, samples_before: plan.samples_before(end)? }))
    }

    /// Checks that every candidate can be planned and that no combination of candidates leaves a
    /// stage without a step.
    fn check(&self, options: &SearchOptions) -> Result<()> {
        let mut plans = vec![self.plan(&[])?];
        for candidate in 0..self.choices.len() {
            plans.push(self.plan(&vec![Some(candidate); self.stages()])?);
        }
        let stages = || plans.iter().flat_map(|plan| plan.stages());
        let step = stages().map(|s| s.images_per_step as f64 * s.cost).fold(0.0, f64::max);
        let cheapest = stages().map(|s| s.cost).fold(f64::MAX, f64::min);
        let unit = match self.recipe.curriculum.share_of {
            ShareUnit::Compute => 1.0,
            ShareUnit::Epochs => cheapest,
        };
        let budget = self.plan.equivalent_epochs * self.plan.train_images as f64 * unit;
        for (index, share) in options.shares.iter().enumerate() {
            if share * budget < step {
                let expected = format!("a stage of at least {step} full-size images, one optimizer step");
                let hint = "raise equivalent_epochs, or lower the batch or the number of stages";
                return Err(field(format!("shares[{index}]"), expected, share * budget, hint));
            }
        }
        if let Algorithm::Sequential { fine_tune, .. } = options.algorithm {
            let plan = &plans[0];
            self.fine_tune(fine_tune, plan, plan.total_steps())?;
        }
        Ok(())
    }
}

/// Makes stages of the given shares at full size; batch, order and replay are those of the recipe's
/// stage that contains their middle, the magnitude climbs over the run.
fn curriculum(recipe: &Curriculum, options: &SearchOptions, share_of: ShareUnit) -> Result<Curriculum> {
    let mut done = 0.0;
    let stage = |&share: &f64| {
        let held = stage_at(recipe, done + share / 2.0);
        let from = options.last_magnitude * done;
        done = f64::min(done + share, 1.0);
        let magnitude = Magnitude::Linear { from, to: options.last_magnitude * done };
        Stage { share, size: recipe.base_size, magnitude, ..held.clone() }
    };
    let stages = options.shares.iter().map(stage).collect();
    Curriculum::new(recipe.base_size, share_of, stages)
}

fn apply(stage: &mut Stage, choice: Choice) {
    stage.size = choice.size;
    if let Some(magnitude) = choice.magnitude {
        stage.magnitude = Magnitude::Fixed(magnitude);
    }
    if let Some(batch) = choice.batch {
        (stage.batch_per_device, stage.accumulation) = (batch.per_device, batch.accumulation);
    }
}
