//! `efficienttrain plan`.

use anyhow::Result;
use clap::{Args, ValueEnum};
use efficienttrain::config::{RecipeSource, read_recipe};
use efficienttrain::measure::macs_of;
use efficienttrain_schedule::{Plan, PlanOptions, Recipe, Rounding};

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

    /// Cost of an image by its size: `square` of its edge as the reference counts, or `macs` of the
    /// model
    #[arg(long, value_enum, default_value_t = CostName::Square)]
    cost: CostName,

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
enum CostName {
    Square,
    Macs,
}

#[derive(Clone, Copy, ValueEnum)]
enum RoundingName {
    Exact,
    Reference,
}

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
    if matches!(args.cost, CostName::Macs) {
        options = options.with_cost(macs_of(&recipe)?);
    }
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
