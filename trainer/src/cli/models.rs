//! `efficienttrain models`.

use anyhow::Result;
use clap::Args;
use efficienttrain_models::{Backbone, Cost, Error, ModelOptions, cost, create_model, model_names};
use serde::Serialize;

/// Arguments of `models`.
#[derive(Args)]
pub(crate) struct ModelsArgs {
    /// Models to show, by any of their names [default: all]
    #[arg(value_name = "NAME")]
    models: Vec<String>,

    /// Edge of the images, in pixels
    #[arg(long, visible_alias = "size", value_name = "PIXELS", default_value_t = 224)]
    input_size: usize,

    /// Classes of the head
    #[arg(long, value_name = "N", default_value_t = 1000)]
    num_classes: usize,

    /// Print JSON: one object per model, with exact numbers
    #[arg(long)]
    json: bool,
}

/// A model at one size; costs are per image.
#[derive(Serialize)]
struct Row {
    name: String,
    family: String,
    input_size: usize,
    num_classes: usize,
    params: u64,
    macs: u64,
    conv_macs: u64,
    linear_macs: u64,
    attention_macs: u64,
    train_flops: u64,
    activation_bytes: u64,
    num_features: usize,
    layers: usize,
}

impl Row {
    fn new(model: &dyn Backbone) -> Result<Self> {
        let cost: Cost = cost(model)?;
        Ok(Self {
            name: model.name().into(),
            family: model.info().family.to_string(),
            input_size: model.input_size()[0],
            num_classes: model.num_classes(),
            params: cost.params,
            macs: cost.macs(),
            conv_macs: cost.conv_macs,
            linear_macs: cost.linear_macs,
            attention_macs: cost.attention_macs,
            train_flops: cost.train_flops,
            activation_bytes: cost.activation_bytes,
            num_features: model.feature_info().last().map_or(0, |level| level.channels),
            layers: model.info().layers,
        })
    }

    fn line(&self) -> String {
        let (million, giga, mega) = (self.params as f64 / 1e6, 1e9, 1024.0 * 1024.0);
        format!(
            "{:<21} {:<10} {million:>9.2} {:>8.3} {:>13.2} {:>15.1}",
            self.name,
            self.family,
            self.macs as f64 / giga,
            self.train_flops as f64 / giga,
            self.activation_bytes as f64 / mega
        )
    }
}

pub(crate) fn run(args: &ModelsArgs) -> Result<()> {
    let options = ModelOptions {
        num_classes: args.num_classes,
        input_size: [args.input_size; 2],
        ..ModelOptions::default()
    };
    let mut rows = Vec::new();
    let mut left_out = Vec::new();
    if args.models.is_empty() {
        for name in model_names() {
            match create_model(name, &options) {
                Ok(model) => rows.push(Row::new(&*model)?),
                // All models are asked for one size, so models that cannot take it are reported and
                // are no error.
                Err(Error::InputSize { reason, .. }) => left_out.push(format!("{name}: {reason}")),
                Err(other) => return Err(other.into()),
            }
        }
    } else {
        for name in &args.models {
            rows.push(Row::new(&*create_model(name, &options)?)?);
        }
    }
    print_rows(&rows, args)?;
    for line in left_out {
        super::eprint_line(format!("skipped at {}: {line}", args.input_size));
    }
    Ok(())
}

fn print_rows(rows: &[Row], args: &ModelsArgs) -> Result<()> {
    if args.json {
        return Ok(super::print_line(serde_json::to_string_pretty(rows)?)?);
    }
    super::print_line(format!("One image at {0}x{0}, {1} classes:\n", args.input_size, args.num_classes))?;
    super::print_line(format!(
        "{:<21} {:<10} {:>9} {:>8} {:>13} {:>15}",
        "model", "family", "params M", "GMACs", "train GFLOPs", "activations MiB"
    ))?;
    rows.iter().try_for_each(|row| Ok(super::print_line(row.line())?))
}
