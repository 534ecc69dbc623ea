//! `efficienttrain recipes`.

use anyhow::{Result, bail};
use clap::Args;
use efficienttrain_schedule::{Origin, Recipe};

/// Arguments of `recipes`.
#[derive(Args)]
pub(crate) struct RecipesArgs {
    /// Show only recipes whose name contains this text [default: all]
    #[arg(value_name = "TEXT")]
    containing: Option<String>,

    /// Print JSON: one complete recipe per element
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &RecipesArgs) -> Result<()> {
    let wanted = |name: &String| args.containing.as_ref().is_none_or(|text| name.contains(text.as_str()));
    let recipes: Vec<Recipe> =
        Recipe::names().filter(wanted).map(|name| Ok(Recipe::named(&name)?)).collect::<Result<_>>()?;
    if recipes.is_empty() {
        let text = args.containing.as_deref().unwrap_or_default();
        bail!("no recipe name contains `{text}`; `efficienttrain recipes` lists them all");
    }
    if args.json {
        return Ok(super::print_line(serde_json::to_string_pretty(&recipes)?)?);
    }
    let width = recipes.iter().map(|recipe| recipe.name.len()).max().unwrap_or_default();
    super::print_line(format!(
        "{:<width$} {:<20} {:<22} {:>8} {:>9}  sizes",
        "recipe", "origin", "optimizer", "lr", "clip"
    ))?;
    recipes.iter().try_for_each(|recipe| Ok(super::print_line(line(recipe, width))?))
}

fn line(recipe: &Recipe, width: usize) -> String {
    let origin = match recipe.origin {
        Origin::AuthorsLauncher => "authors' launcher",
        Origin::Paper => "paper",
        Origin::Ours => "this project",
    };
    let o = &recipe.optimizer;
    let optimizer = format!("{:?}, decay {}", o.kind, o.weight_decay).to_lowercase();
    let clip = o.clip_grad.map_or("-".into(), |norm| norm.to_string());
    let mut sizes: Vec<String> =
        recipe.curriculum.stages.iter().map(|stage| stage.size.to_string()).collect();
    sizes.dedup();
    let sizes = sizes.join(", ");
    format!("{:<width$} {origin:<20} {optimizer:<22} {:>8} {clip:>9}  {sizes}", recipe.name, o.lr)
}
