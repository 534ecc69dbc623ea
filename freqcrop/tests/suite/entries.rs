//! Every entry point gives the numbers of `apply_slice`, and bad input is an error that says
//! what was expected.

use crate::common::noise;
use freqcrop::{Backend, Error, FrequencyCrop, Lanczos, Layout, LowPass, Scratch};
use ndarray::{Array3, Array4, ArrayView3, s};

const IMAGE: (usize, usize) = (19, 26);
const BAND: (usize, usize) = (8, 11);

fn plan(backend: Backend) -> FrequencyCrop<f64> {
    FrequencyCrop::with_backend(IMAGE, BAND, backend).unwrap()
}

fn image(channels: usize) -> Array3<f64> {
    Array3::from_shape_vec((channels, IMAGE.0, IMAGE.1), noise(5, channels * IMAGE.0 * IMAGE.1)).unwrap()
}

fn expected(plan: &FrequencyCrop<f64>, image: &Array3<f64>) -> Array3<f64> {
    let mut out = Array3::zeros((image.dim().0, BAND.0, BAND.1));
    plan.apply_slice(Layout::Chw, image.dim().0, image.as_slice().unwrap(), out.as_slice_mut().unwrap())
        .unwrap();
    out
}

#[allow(clippy::needless_pass_by_value)] // views go by value
fn close(a: ArrayView3<f64>, b: ArrayView3<f64>) -> bool {
    a.dim() == b.dim() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-13)
}

#[test]
fn views_of_any_strides() {
    for (backend, channels) in
        [(Backend::Fft, 3), (Backend::Separable, 3), (Backend::Separable, 1), (Backend::Separable, 5)]
    {
        let (plan, image) = (plan(backend), image(channels));
        let planar = expected(&plan, &image);
        let hwc = image.view().permuted_axes([1, 2, 0]).as_standard_layout().to_owned();
        assert!(close(plan.apply_chw(image.view()).unwrap().view(), planar.view()));
        let pixels = plan.apply_hwc(hwc.view()).unwrap();
        assert!(close(pixels.view().permuted_axes([2, 0, 1]), planar.view()));
        // Interleaved memory seen as planes, and planes seen as pixels.
        assert!(close(plan.apply_chw(hwc.view().permuted_axes([2, 0, 1])).unwrap().view(), planar.view()));
        let pixels = plan.apply_hwc(image.view().permuted_axes([1, 2, 0])).unwrap();
        assert!(close(pixels.view().permuted_axes([2, 0, 1]), planar.view()));
        // Upside down twice, from and into windows of larger arrays.
        let mut padded = Array3::from_elem((channels, IMAGE.0 + 3, 2 * IMAGE.1), f64::NAN);
        padded.slice_mut(s![.., 1..=IMAGE.0, ..;2]).assign(&image.slice(s![.., ..;-1, ..]));
        let mut room = Array3::from_elem((channels, BAND.0, BAND.1 + 4), -7.0);
        let mut scratch = Scratch::new();
        let window = padded.slice(s![.., 1..=IMAGE.0;-1, ..;2]);
        plan.apply_chw_with(window, room.slice_mut(s![.., .., 2..BAND.1 + 2]), &mut scratch).unwrap();
        assert!(close(room.slice(s![.., .., 2..BAND.1 + 2]), planar.view()));
        assert!(room.slice(s![.., .., ..2]).iter().all(|&v| v == -7.0));
    }
}

#[test]
fn batches_equal_single_images_on_any_number_of_threads() {
    let plan = plan(Backend::Auto);
    let input = Array4::from_shape_vec((9, 3, IMAGE.0, IMAGE.1), noise(8, 27 * IMAGE.0 * IMAGE.1)).unwrap();
    let single: Vec<_> = input.outer_iter().map(|image| plan.apply_chw(image).unwrap()).collect();
    for threads in [1, 2, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let batch = pool.install(|| plan.apply_batch(input.view())).unwrap();
        assert!(batch.outer_iter().zip(&single).all(|(a, b)| a == b.view()));
        let mut flat = vec![0.0; batch.len()];
        pool.install(|| plan.apply_batch_slice(Layout::Chw, 3, input.as_slice().unwrap(), &mut flat))
            .unwrap();
        assert_eq!(batch.as_slice().unwrap(), flat);
    }
}

#[test]
fn bytes_are_the_rounded_numbers() {
    for backend in [Backend::Fft, Backend::Separable] {
        let crop = FrequencyCrop::<f32>::with_backend((224, 224), (96, 97), backend).unwrap();
        let exact = FrequencyCrop::<f64>::with_backend((224, 224), (96, 97), backend).unwrap();
        let image = crate::common::synth(11, 224, 224);
        let wide: Vec<f64> = image.iter().map(|&v| f64::from(v)).collect();
        let mut numbers = vec![0.0; 96 * 97 * 3];
        exact.apply_slice(Layout::Hwc, 3, &wide, &mut numbers).unwrap();
        let bytes = crop.apply_rgb8(&image).unwrap();
        // Away from a tie by more than the rounding error of f32, the byte is determined.
        let clear = numbers.iter().zip(&bytes).filter(|(v, _)| ((*v - v.floor()) - 0.5).abs() > 1e-3);
        let mut count = 0;
        for (value, &byte) in clear {
            assert_eq!(value.round().clamp(0.0, 255.0) as u8, byte);
            count += 1;
        }
        assert!(count > numbers.len() * 9 / 10);
        let mut batch = vec![0; 2 * bytes.len()];
        crop.apply_rgb8_batch(&[image.clone(), image].concat(), &mut batch).unwrap();
        assert_eq!(batch, [bytes.clone(), bytes].concat());
    }
}

#[test]
fn padded_rows_and_wrong_strides() {
    let (plan, image) = (plan(Backend::Auto), image(2));
    let (row, channel) = (IMAGE.1 + 5, (IMAGE.1 + 5) * IMAGE.0);
    let mut padded = vec![f64::NAN; 2 * channel];
    for ((c, y, x), &value) in image.indexed_iter() {
        padded[c * channel + y * row + x] = value;
    }
    let mut out = Array3::zeros((2, BAND.0, BAND.1));
    plan.apply_strided(&padded, 2, [channel, row, 1], out.as_slice_mut().unwrap()).unwrap();
    assert!(close(out.view(), expected(&plan, &image).view()));
    for strides in [[channel, row, 2], [channel + 6, row, 1], [usize::MAX, 1, 1]] {
        let error = plan.apply_strided(&padded, 2, strides, out.as_slice_mut().unwrap()).unwrap_err();
        assert!(
            matches!(error, Error::WrongStrides { .. }) && error.to_string().contains("expected strides"),
            "{error}"
        );
    }
}

#[test]
fn sizes_that_cannot_be() {
    let zero = FrequencyCrop::<f32>::new((0, 5), (1, 1)).unwrap_err();
    assert_eq!(zero.to_string(), "image is 0x5: both sides must be at least 1");
    let zero = LowPass::<f32>::new((4, 5), (1, 0)).unwrap_err();
    assert_eq!(zero.to_string(), "bandwidth is 1x0: both sides must be at least 1");
    let large = FrequencyCrop::<f32>::new((4, 5), (4, 6)).unwrap_err();
    assert!(large.to_string().starts_with("bandwidth 4x6 is larger than the image 4x5"), "{large}");
    assert!(matches!(FrequencyCrop::<f32>::new((usize::MAX, 2), (1, 1)), Err(Error::TooLarge { .. })));
    assert!(matches!(Lanczos::new((3, 3), (0, 1)), Err(Error::ZeroSize { .. })));
}

#[test]
fn wrong_lengths_and_shapes() {
    let plan = plan(Backend::Auto);
    let good = vec![0.0; 3 * IMAGE.0 * IMAGE.1];
    let mut out = vec![0.0; 3 * BAND.0 * BAND.1];
    let error = plan.apply_slice(Layout::Hwc, 3, &good[1..], &mut out).unwrap_err();
    assert_eq!(error.to_string(), "input has 1481 elements, expected 1482 (3 channels x 19 x 26)");
    assert!(plan.apply_slice(Layout::Hwc, 3, &good, &mut out[1..]).is_err());
    assert!(plan.apply_slice(Layout::Hwc, usize::MAX, &good, &mut out).is_err());
    assert!(plan.apply_batch_slice(Layout::Chw, 3, &good[1..], &mut out).is_err());
    assert!(plan.apply_batch_slice(Layout::Chw, 3, &good, &mut out[..5]).is_err());
    assert!(plan.apply_batch_slice(Layout::Chw, 0, &good, &mut out).is_err());
    assert!(plan.apply_batch_slice(Layout::Chw, 3, &[], &mut []).is_ok());
    assert!(plan.apply_chw(Array3::zeros((3, IMAGE.0, IMAGE.1 + 1)).view()).is_err());
    assert!(plan.apply_chw_into(image(3).view(), Array3::zeros((2, BAND.0, BAND.1)).view_mut()).is_err());
    assert!(
        plan.apply_batch_into(Array4::zeros((2, 3, 19, 26)).view(), Array4::zeros((1, 3, 8, 11)).view_mut())
            .is_err()
    );
    assert!(plan.apply_slice(Layout::Hwc, 0, &[], &mut []).is_ok());
    let bytes = FrequencyCrop::<f32>::new((4, 4), (2, 2)).unwrap();
    assert!(bytes.apply_rgb8(&[0; 47]).is_err());
    assert!(bytes.apply_rgb8_into(&[0; 48], &mut [0; 13]).is_err());
    assert!(bytes.apply_rgb8_batch(&[0; 96], &mut [0; 12]).is_err());
    assert!(Lanczos::new((4, 4), (2, 2)).unwrap().apply_u8(3, &[0; 47]).is_err());
}

#[test]
fn values_that_are_not_finite() {
    for (bad, backend) in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY]
        .into_iter()
        .flat_map(|bad| [Backend::Fft, Backend::Separable].map(|backend| (bad, backend)))
    {
        let plan = plan(backend);
        let mut out = vec![0.0; 3 * BAND.0 * BAND.1];
        for index in (0..3 * IMAGE.0 * IMAGE.1).step_by(7) {
            for layout in [Layout::Chw, Layout::Hwc] {
                let mut image = noise(5, 3 * IMAGE.0 * IMAGE.1);
                image[index] = bad;
                assert_eq!(plan.apply_slice(layout, 3, &image, &mut out), Err(Error::NonFinite { index }));
            }
        }
        let huge = vec![f64::MAX; 3 * IMAGE.0 * IMAGE.1];
        assert_eq!(plan.apply_slice(Layout::Chw, 3, &huge, &mut out), Err(Error::Overflow));
    }
    let identity = FrequencyCrop::<f32>::new((2, 2), (2, 2)).unwrap();
    let answer = identity.apply_slice(Layout::Chw, 1, &[0.0, 1.0, f32::NAN, 2.0], &mut [0.0; 4]);
    assert_eq!(answer, Err(Error::NonFinite { index: 2 }));
}

#[test]
fn batch_errors_name_the_first_image() {
    let plan = FrequencyCrop::<f32>::new((4, 4), (2, 3)).unwrap();
    let mut batch = vec![0.5; 5 * 3 * 16];
    (batch[3 * 48 + 7], batch[48 + 9]) = (f32::NAN, f32::INFINITY);
    let answer = plan.apply_batch_slice(Layout::Chw, 3, &batch, &mut vec![0.0; 5 * 3 * 6]);
    assert_eq!(answer, Err(Error::NonFinite { index: 48 + 9 }));
}
