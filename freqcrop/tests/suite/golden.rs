//! The reference's numbers: f64 cases to 1e-10, f32 cases to 1e-6 of the input range, both
//! backends, both number types.

use std::path::{Path, PathBuf};

use freqcrop::{Backend, FrequencyCrop, Layout, LowPass, Plan};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

/// A case's sizes, read from its key such as `crop/noise_31x45_to_17x20_c2`.
struct Case {
    low_pass: bool,
    source: String,
    image: (usize, usize),
    band: (usize, usize),
    channels: usize,
}

fn parse(key: &str) -> Option<Case> {
    let (kind, rest) = key.split_once('/')?;
    let parts: Vec<&str> = rest.split('_').collect();
    let [source, image, "to", band, channels] = parts[..] else { return None };
    let size = |text: &str| text.split_once('x').and_then(|(h, w)| Some((h.parse().ok()?, w.parse().ok()?)));
    Some(Case {
        low_pass: kind == "lowpass",
        source: source.to_string(),
        image: size(image)?,
        band: size(band)?,
        channels: channels.strip_prefix('c')?.parse().ok()?,
    })
}

fn source(case: &Case, images: &Path) -> Vec<f64> {
    let (h, w) = case.image;
    match case.source.as_str() {
        "noise" => crate::common::noise(1011, case.channels * h * w),
        "synth" => crate::common::planes(&crate::common::synth(11, h as i64, w as i64), case.channels),
        name => crate::common::planes(
            &crate::common::corner(&images.join(format!("{name}.png")), h as u32, w as u32),
            case.channels,
        ),
    }
}

fn values(view: &TensorView) -> Vec<f64> {
    match view.dtype() {
        Dtype::F32 => view.data().as_chunks().0.iter().map(|&b| f64::from(f32::from_le_bytes(b))).collect(),
        Dtype::F64 => view.data().as_chunks().0.iter().map(|&b| f64::from_le_bytes(b)).collect(),
        other => panic!("unexpected {other:?}"),
    }
}

fn max_distance(a: impl IntoIterator<Item = f64>, b: &[f64]) -> f64 {
    crate::common::distance(&a.into_iter().collect::<Vec<_>>(), b)
}

fn range(values: &[f64]) -> f64 {
    values.iter().fold(f64::MIN, |a, &b| a.max(b)) - values.iter().fold(f64::MAX, |a, &b| a.min(b))
}

/// Runs a plan over contiguous planes.
fn run<T: freqcrop::Real>(plan: &Plan<T>, channels: usize, input: &[T]) -> Vec<T> {
    let (h, w) = plan.output_size();
    let mut out = vec![T::of(f64::NAN); channels * h * w];
    plan.apply_slice(Layout::Chw, channels, input, &mut out).unwrap();
    out
}

fn apply64(case: &Case, backend: Backend, input: &[f64]) -> Vec<f64> {
    if case.low_pass {
        run(&LowPass::with_backend(case.image, case.band, backend).unwrap(), case.channels, input)
    } else {
        run(&FrequencyCrop::with_backend(case.image, case.band, backend).unwrap(), case.channels, input)
    }
}

fn apply32(case: &Case, backend: Backend, input: &[f64]) -> Vec<f64> {
    let input: Vec<f32> = input.iter().map(|&v| v as f32).collect();
    let out = if case.low_pass {
        run(&LowPass::with_backend(case.image, case.band, backend).unwrap(), case.channels, &input)
    } else {
        run(&FrequencyCrop::with_backend(case.image, case.band, backend).unwrap(), case.channels, &input)
    };
    out.into_iter().map(f64::from).collect()
}

fn check(key: &str, view: &TensorView, images: &Path) {
    let case = parse(key).unwrap_or_else(|| panic!("key {key}"));
    let (input, expected) = (source(&case, images), values(view));
    let double = if view.dtype() == Dtype::F64 { 1e-10 } else { 1e-6 };
    for backend in [Backend::Fft, Backend::Separable, Backend::Auto] {
        let worst = max_distance(apply64(&case, backend, &input), &expected);
        assert!(worst <= double, "{key} {backend:?} in f64: off by {worst:e}");
        let worst = max_distance(apply32(&case, backend, &input), &expected) / range(&input);
        assert!(worst <= 1e-6, "{key} {backend:?} in f32: off by {worst:e} of the input range");
    }
}

fn check_batch(size: usize, view: &TensorView) {
    let (input, expected) = (crate::common::model_input(501, 2, 48, 48), values(view));
    for backend in [Backend::Fft, Backend::Separable] {
        let plan = FrequencyCrop::<f32>::with_backend((48, 48), (size, size), backend).unwrap();
        let mut out = vec![f32::NAN; expected.len()];
        plan.apply_batch_slice(Layout::Chw, 3, &input, &mut out).unwrap();
        let range = range(&input.iter().copied().map(f64::from).collect::<Vec<_>>());
        let worst = max_distance(out.into_iter().map(f64::from), &expected) / range;
        assert!(worst <= 1e-6, "batch/{size} {backend:?}: off by {worst:e} of the input range");
    }
}

/// Checks every crop, low-pass and batch case of a file; returns how many.
fn check_file(file: &Path, images: &Path) -> usize {
    let bytes = std::fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut count = 0;
    for (key, view) in tensors.tensors() {
        match key.split_once('/').unwrap() {
            ("batch", size) => check_batch(size.parse().unwrap(), &view),
            ("crop" | "lowpass", _) => check(&key, &view, images),
            _ => continue,
        }
        count += 1;
    }
    count
}

#[test]
fn selected_cases() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    assert_eq!(check_file(&data.join("freqcrop.safetensors"), &data), 20);
}

#[test]
fn every_case_of_the_reference() {
    let Some(golden) = std::env::var_os("EFFICIENTTRAIN_GOLDEN").map(PathBuf::from) else {
        println!("note: set EFFICIENTTRAIN_GOLDEN to the folder of reference numbers to check all of them");
        return;
    };
    let count = check_file(&golden.join("freqcrop/freqcrop.safetensors"), &golden.join("images"));
    assert!(count > 0);
    println!("{count} cases hold");
}
