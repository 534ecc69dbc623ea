//! Commands of the binary. Each is a thin layer over the library.

mod augment;
mod bench;
mod compare;
mod completions;
mod crop;
mod data;
mod demo;
mod doctor;
mod eval;
mod export;
mod features;
mod finetune;
mod inference;
mod layered;
mod models;
mod plan;
mod predict;
mod pretrain;
mod preview;
pub(crate) mod ranks;
mod recipes;
mod report;
mod scaling;
mod search;
pub(crate) mod signals;
mod train;

use std::io::Write;

use anyhow::{Context, Result, bail};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use efficienttrain::config::{TrainConfig, with_flags};
use efficienttrain::data::{Source, SplitNotes};
pub(crate) use efficienttrain::observe::progress::eprint_line as always_eprint_line;

/// A command: name, one-line description, arguments and code.
struct Entry {
    name: &'static str,
    about: &'static str,
    args: fn(Command) -> Command,
    run: fn(&ArgMatches) -> Result<()>,
}

const COMMANDS: &[Entry] = &[
    Entry {
        name: "train",
        about: "Train a backbone with a curriculum, on your images or the built-in data set",
        args: |c| pretrain::hide(train::TrainArgs::augment_args(c)),
        run: |m| if m.get_flag("demo") { demo::run(m) } else { train::run(m) },
    },
    Entry {
        name: "pretrain",
        about: "Pre-train a vision transformer as a masked autoencoder, without labels",
        args: pretrain::args,
        run: pretrain::run,
    },
    Entry {
        name: "search",
        about: "Search for a curriculum by training: the image size for each part of a run",
        args: search::args,
        run: search::run,
    },
    Entry {
        name: "compare",
        about: "Compare recipes, models or options at equal compute, in one table and chart",
        args: compare::args,
        run: compare::run,
    },
    Entry {
        name: "finetune",
        about: "Fine-tune weights of a run or of timm, for other classes or another size",
        args: finetune::args,
        run: finetune::run,
    },
    Entry {
        name: "eval",
        about: "Evaluate a checkpoint on your images or those of its run",
        args: eval::EvalArgs::augment_args,
        run: |m| eval::run(&parsed(m)?),
    },
    Entry {
        name: "report",
        about: "Write a page about one or more runs: curves, schedule, images, options",
        args: report::ReportArgs::augment_args,
        run: |m| report::run(&parsed(m)?),
    },
    Entry {
        name: "plan",
        about: "Show the stages, steps and learning rates of a recipe",
        args: plan::PlanArgs::augment_args,
        run: |m| plan::run(&parsed(m)?),
    },
    Entry {
        name: "recipes",
        about: "List the built-in recipes and where their settings come from",
        args: recipes::RecipesArgs::augment_args,
        run: |m| recipes::run(&parsed(m)?),
    },
    Entry {
        name: "predict",
        about: "Predict the class probabilities of image files, or the logits of a tensor",
        args: predict::PredictArgs::augment_args,
        run: |m| predict::run(&parsed(m)?),
    },
    Entry {
        name: "data",
        about: "Check, measure or pack a data set",
        args: data::DataArgs::augment_args,
        run: |m| data::run(&parsed(m)?),
    },
    Entry {
        name: "features",
        about: "Extract pooled features of a data set, for `probe`, `knn` and other programs",
        args: features::FeaturesArgs::augment_args,
        run: |m| features::features(&parsed(m)?),
    },
    Entry {
        name: "probe",
        about: "Evaluate features with a linear classifier",
        args: features::ProbeArgs::augment_args,
        run: |m| features::probe(&parsed(m)?),
    },
    Entry {
        name: "knn",
        about: "Evaluate features with a k-nearest-neighbor classifier",
        args: features::KnnArgs::augment_args,
        run: |m| features::knn(&parsed(m)?),
    },
    Entry {
        name: "models",
        about: "List the models with their parameters and costs",
        args: models::ModelsArgs::augment_args,
        run: |m| models::run(&parsed(m)?),
    },
    Entry {
        name: "doctor",
        about: "Check this machine and build: instruction sets, gradients, speed, disk",
        args: doctor::DoctorArgs::augment_args,
        run: |m| doctor::run(&parsed(m)?),
    },
    Entry {
        name: "bench",
        about: "Measure the speed of training steps and of the input pipeline",
        args: bench::BenchArgs::augment_args,
        run: |m| bench::run(&parsed(m)?),
    },
    Entry {
        name: "export",
        about: "Export the weights of a checkpoint, or their average, under timm's names",
        args: export::ExportArgs::augment_args,
        run: |m| export::run(&parsed(m)?),
    },
    Entry {
        name: "completions",
        about: "Print a shell completion script",
        args: completions::CompletionsArgs::augment_args,
        run: |m| completions::run(&parsed(m)?),
    },
    Entry {
        name: "man",
        about: "Print or write the manual pages",
        args: completions::ManArgs::augment_args,
        run: |m| completions::man(&parsed(m)?),
    },
    Entry {
        name: "preview",
        about: "Show a training image at every size and augmentation strength of a recipe",
        args: preview::PreviewArgs::augment_args,
        run: |m| preview::run(&parsed(m)?),
    },
    Entry {
        name: "crop",
        about: "Apply the low-frequency crop, the low-pass filter or the Lanczos resize to an image",
        args: crop::CropArgs::augment_args,
        run: |m| crop::run(&parsed(m)?),
    },
    Entry {
        name: "augment",
        about: "Apply one augmentation operation to an image",
        args: augment::AugmentArgs::augment_args,
        run: |m| augment::run(&parsed(m)?),
    },
];

/// Prints a line of results. If the reader has gone away (`| head`), it returns an error on which
/// [`run`] ends quietly; `println` would panic.
fn print_line(line: impl std::fmt::Display) -> std::io::Result<()> {
    if ranks::is_quiet() { Ok(()) } else { writeln!(std::io::stdout(), "{line}") }
}

/// Prints a line to the standard error, unless another process does.
pub(crate) fn eprint_line(line: impl std::fmt::Display) {
    if !ranks::is_quiet() {
        always_eprint_line(line);
    }
}

/// Formats an error with its causes, each of them once: some messages include their cause already.
pub(crate) fn render_error(error: &anyhow::Error) -> String {
    error.chain().skip(1).map(ToString::to_string).fold(error.to_string(), |said, cause| {
        if said.contains(&cause) { said } else { format!("{said}: {cause}") }
    })
}

/// Prints a message of the library, with options as flags.
fn print_message(message: impl std::fmt::Display) -> std::io::Result<()> {
    print_line(with_flags(&message.to_string()))
}

/// Reports missing parts of a data set on the standard error.
fn note_set(split: &str, source: &dyn Source) {
    SplitNotes::of(source).lines(split).iter().for_each(eprint_line);
}

/// Says that a command without `--data` uses the built-in set, whose images take a while to make.
fn note_built_in_set(config: &TrainConfig) {
    if config.data.is_none() {
        eprint_line(format!(
            "note: no --data: training on {} images of the built-in set",
            config.synthetic_images
        ));
    }
}

fn parsed<T: FromArgMatches>(matches: &ArgMatches) -> Result<T> {
    Ok(T::from_arg_matches(matches)?)
}

/// Help of `--seed` for commands in which the runs use the seeds of `--seeds`.
const SEED_OF_MANY: &str = "Seed of the built-in set and of --images-per-class; the runs use --seeds";

/// Largest number of threads: a larger one is a typing error that would exhaust the system.
const MAX_THREADS: usize = 4096;

// Not a doc comment: clap would use it as the description of the program.
#[derive(Args)]
struct Common {
    /// Compute threads [default: one per core]
    #[arg(long, value_name = "N", global = true, value_parser = threads)]
    threads: Option<usize>,
}

fn threads(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|n| (1..=MAX_THREADS).contains(n));
    number.ok_or_else(|| format!("expected a whole number in 1..={MAX_THREADS}"))
}

fn command() -> Command {
    let commands = COMMANDS.iter().map(|c| negative((c.args)(Command::new(c.name)).about(c.about)));
    let root = Command::new("efficienttrain")
        .version(env!("CARGO_PKG_VERSION"))
        .about(
            "Train visual backbones with EfficientTrain++: low image frequencies and weak augmentation first",
        )
        .subcommand_required(true)
        .arg_required_else_help(true);
    Common::augment_args(root).subcommands(commands)
}

/// Accepts `-1` as a value everywhere, so that the error is about the option's value, not about an
/// unknown flag.
fn negative(command: Command) -> Command {
    command.allow_negative_numbers(true).mut_subcommands(negative)
}

/// Hides options that a command does not use; [`refuse`] reports them if they are given
/// nevertheless.
fn without(command: Command, ids: &[&'static str]) -> Command {
    ids.iter().fold(command, |command, id| command.mut_arg(id, |arg| arg.hide(true)))
}

/// Checks that no flag is given that has no effect in a command. A file of options may contain
/// them: other commands may share it.
fn refuse(matches: &ArgMatches, command: &str, ids: &[&'static str]) -> Result<()> {
    let given = |id: &&&str| matches.value_source(id) == Some(ValueSource::CommandLine);
    if let Some(id) = ids.iter().find(given) {
        bail!("--{}: has no effect in `{command}`; leave it out", id.replace('_', "-"));
    }
    Ok(())
}

/// Reads the command line and runs its command.
pub(crate) fn run() -> Result<()> {
    let matches = command().get_matches();
    let common: Common = parsed(&matches)?;
    if let Some(threads) = common.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
        pool.context("--threads: cannot start the thread pool")?;
    }
    let Some((name, matches)) = matches.subcommand() else { return Ok(()) };
    let outcome = COMMANDS.iter().find(|c| c.name == name).map_or(Ok(()), |c| (c.run)(matches));
    let reader_is_gone = |error: &anyhow::Error| {
        error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    };
    outcome.or_else(|error| if reader_is_gone(&error) { Ok(()) } else { Err(error) })
}
