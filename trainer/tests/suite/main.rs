//! Tests of the public API, as one program: each further program would link all of candle again.

mod common;

mod bad_data;
mod bad_shards;
mod budget;
mod changed_plan;
mod class_map;
mod cli;
mod compare;
mod config;
mod costs;
mod damaged_inputs;
mod data;
mod data_paths;
mod devices;
mod earlier_files;
mod early_stop;
mod eval_predict_finetune;
mod export_completions;
mod extreme_values;
mod fused_resize_crop;
#[cfg(feature = "cuda")]
mod gpu;
#[cfg(feature = "cuda")]
mod graphs;
#[cfg(feature = "hub")]
mod hub;
mod image_options;
mod initial_weights;
mod input_channels;
#[cfg(unix)]
mod interrupt;
mod jpeg_layouts;
#[cfg(unix)]
mod kill;
mod labels;
mod left_out;
mod list_commands;
mod lists;
mod logs;
#[cfg(feature = "mlflow")]
mod mlflow;
mod multi_label;
#[cfg(all(feature = "cuda", unix))]
mod nccl;
mod nonfinite;
mod optimization;
mod optimizers;
#[cfg(feature = "parquet")]
mod parquet;
mod plan_checks;
mod pretrain;
#[cfg(unix)]
mod processes;
mod ranks;
mod recipe_file;
mod recipe_models;
mod reduced;
mod replay;
mod report;
mod resume;
mod search;
mod sources;
mod splits;
mod subset;
mod tools;
mod usage_errors;
mod view;
mod webdataset;
#[cfg(feature = "mlflow")]
mod webhook;
mod weight_files;
