//! `efficienttrain bench ranks`.

use anyhow::Result;
use clap::Args;
use efficienttrain::config::{DeviceName, Precision, SumMethod, SumType};
use efficienttrain::distributed::Group;
use efficienttrain::measure::bench::{RanksBench, RanksReport, ranks};

use crate::cli::print_line;
use crate::cli::ranks::RankArgs;

/// Arguments of `bench ranks`.
#[derive(Args)]
pub(super) struct RanksArgs {
    /// Model, as `efficienttrain models` lists them
    #[arg(long, value_name = "NAME")]
    model: String,

    /// Edge of the images, in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 224)]
    size: usize,

    /// Images of each process
    #[arg(long, value_name = "N", default_value_t = 8)]
    batch: usize,

    /// Timed repetitions of each part
    #[arg(long, value_name = "N", default_value_t = 5)]
    repetitions: usize,

    /// Precision of activations
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    precision: Precision,

    /// Way of adding up gradients on GPUs
    #[arg(long, value_enum, default_value_t = SumMethod::Fast)]
    sums: SumMethod,

    /// Type of the numbers in which gradients are sent to other processes
    #[arg(long, value_enum, default_value_t = SumType::F32)]
    sum_type: SumType,

    /// Size of the buckets in which gradients are sent, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 25.0)]
    bucket_mib: f64,

    /// Device: `cpu`, or an NVIDIA GPU of its own for each process as `cuda`
    #[arg(long, value_name = "DEVICE", default_value_t = DeviceName::Cpu)]
    device: DeviceName,

    #[command(flatten)]
    processes: RankArgs,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &RanksArgs) -> Result<()> {
    args.processes.run(|group| measure(group, args))
}

fn measure(group: &Group, args: &RanksArgs) -> Result<()> {
    let bench = RanksBench {
        model: args.model.clone(),
        size: args.size,
        batch: args.batch,
        repetitions: args.repetitions,
        device: args.device,
        precision: args.precision,
        sums: args.sums,
        sum_type: args.sum_type,
        bucket_mib: args.bucket_mib,
    };
    let report = ranks(group, &bench)?;
    if args.json {
        return Ok(print_line(serde_json::to_string(&report)?)?);
    }
    Ok(print_line(text(&report, args.bucket_mib))?)
}

fn text(r: &RanksReport, bucket_mib: f64) -> String {
    let hosts: Vec<String> = r.hosts.iter().map(|(host, n)| format!("{n} on {host}")).collect();
    let processor =
        r.sums_processor_ms.map_or(String::new(), |ms| format!(", {ms:.1} ms of processor in each process"));
    let rate = 1e3 * r.batch as f64 / r.pass_ms;
    format!(
        "{} at {}, batch {} in each of {} processes ({}), {} threads each\n\
         agreement   {:9.3} ms\n\
         pass        {:9.1} ms   {rate:.1} images/s in each process\n\
         sums        {:9.1} ms   {:.1} MB, {:.2} GB/s{processor}\n\
         both        {:9.1} ms   {:.0}% overlap\n\
         update      {:9.1} ms\n\
         a step of {} images is {:.2} times as fast as in one of these processes\n\
         for other numbers of devices: `efficienttrain plan --devices D --images-per-second {rate:.1} --bandwidth {:.3} \
         --latency {:.0} --overlap {:.2} --update {:.1} --bucket {bucket_mib} --pass-overhead 0` with --recipe and the \
         rate at base size",
        r.model,
        r.size,
        r.batch,
        r.processes,
        hosts.join(", "),
        r.threads,
        r.agreement_ms,
        r.pass_ms,
        r.sums_ms,
        r.gradient_bytes as f64 / 1e6,
        r.bandwidth / 1e9,
        r.both_ms,
        100.0 * r.overlap,
        r.update_ms,
        r.batch * r.processes,
        r.speedup,
        r.bandwidth / 1e9,
        1e3 * r.agreement_ms,
        r.overlap,
        r.update_ms,
    )
}
