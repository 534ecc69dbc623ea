//! `efficienttrain plan`.

use anyhow::Result;
use clap::{Args, ValueEnum};
use efficienttrain::Sources;
use efficienttrain::config::{CostRule, RecipeSource, RunOptions, TrainConfig, read_recipe};
use efficienttrain::measure::with_known_cost;
use efficienttrain_schedule::{CostModel, Plan, PlanOptions, Recipe, Rounding};

use super::scaling::ScalingArgs;

/// Arguments of `plan`.
#[derive(Args)]
pub(crate) struct PlanArgs {
    /// Recipe, such as `deit-small-etpp`, or a recipe file (JSON or TOML)
    #[arg(long, value_name = "NAME|FILE", required_unless_present = "list")]
    recipe: Option<RecipeSource>,

    /// Compute budget, in compute epochs: the cost of a pass over the data at base size
    #[arg(long, visible_alias = "epochs", value_name = "E", default_value_t = 200.0)]
    equivalent_epochs: f64,

    /// Number of training images
    #[arg(long, value_name = "N", default_value_t = 1_281_167)]
    train_images: u64,

    /// Devices that share each step
    #[arg(long, value_name = "D", default_value_t = 8)]
    devices: u32,

    /// Rounding of steps: `exact` meets the budget to one step, `reference` rounds like the
    /// authors' code
    #[arg(long, value_enum, default_value_t = RoundingName::Exact)]
    rounding: RoundingName,

    /// Cost of an image by its size: `square` of its edge as the reference counts, `macs` of the
    /// model, or `time` of a step on this machine's CPU, with random images; also the costs that a
    /// run has measured, as its `config.toml` has them
    #[arg(long, value_name = "UNIT", default_value_t = CostRule::Square)]
    cost: CostRule,

    #[command(flatten)]
    scaling: ScalingArgs,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// List the names of all recipes (`efficienttrain recipes` shows more about them)
    #[arg(long)]
    list: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum RoundingName {
    Exact,
    Reference,
}

impl PlanArgs {
    /// Returns the costs of images for the plan.
    fn costs(&self, source: &RecipeSource, recipe: &Recipe) -> Result<CostModel> {
        let base_size = recipe.curriculum.base_size;
        if !matches!(self.cost, CostRule::Wanted(_)) {
            return Ok(self.cost.model(base_size)?);
        }
        let config = TrainConfig {
            recipe: source.clone(),
            model: Some(recipe.model.clone()),
            base_size,
            cost: self.cost.clone(),
            synthetic_images: FEW,
            ..TrainConfig::default()
        };
        let sources = Sources::open(&config)?;
        let config = with_known_cost(&config, &RunOptions::default(), &sources, &[])?;
        Ok(config.cost.model(base_size)?)
    }
}

/// Images to time the loader with.
const FEW: usize = 128;

pub(crate) fn run(args: &PlanArgs) -> Result<()> {
    let Some(source) = args.recipe.as_ref().filter(|_| !args.list) else {
        if args.json {
            return Ok(super::print_line(serde_json::to_string_pretty(
                &Recipe::names().collect::<Vec<_>>(),
            )?)?);
        }
        return Ok(Recipe::names().try_for_each(super::print_line)?);
    };
    let rounding = match args.rounding {
        RoundingName::Exact => Rounding::Exact,
        RoundingName::Reference => Rounding::Reference,
    };
    let recipe = match source {
        RecipeSource::Named(name) => Recipe::named(name)?,
        RecipeSource::File(path) => read_recipe(path)?,
        RecipeSource::Inline(recipe) => (**recipe).clone(),
    };
    let mut options =
        PlanOptions::new(args.equivalent_epochs, args.train_images, args.devices).with_rounding(rounding);
    options = options.with_cost(args.costs(source, &recipe)?);
    let plan = Plan::new(&recipe, options)?;
    if let Some(model) = args.scaling.model(&recipe)? {
        return args.scaling.print(&plan, &model, args.json);
    }
    let summary = plan.summary()?;
    if args.json {
        super::print_line(serde_json::to_string_pretty(&summary)?)?;
    } else {
        super::print_line(summary)?;
        super::print_line(format!(
            "for {} training images and {} devices (--train-images, --devices); `batch` is per device",
            args.train_images, args.devices
        ))?;
    }
    Ok(())
}
