//! Strips beside the definition of a product.

use half::bf16;

#[cfg(target_arch = "x86_64")]
use super::Native;
use super::amx::{self, Sums, TileMul};
use super::tile::{Begin, Panels, Rows, Strip};
use super::{COLS, LANES, MAX_ROWS, PAIRS, PairDot, PairVec, ROWS};
use crate::ops::kernels::Storage;

/// The instruction as a plain loop.
#[derive(Clone, Copy)]
struct Plain;

fn halves(pair: u32) -> [f32; 2] {
    [f32::from_bits(pair << 16), f32::from_bits(pair & 0xFFFF_0000)]
}

impl PairDot for Plain {
    type Sums = [f32; LANES];

    fn zero(self) -> Self::Sums {
        [0.0; LANES]
    }

    fn add(self, sums: Self::Sums, x: u32, y: &PairVec) -> Self::Sums {
        let [low, high] = halves(x);
        std::array::from_fn(|i| {
            let [first, second] = halves(y.0[i]);
            sums[i] + low * first + high * second
        })
    }

    fn plus(self, a: Self::Sums, b: Self::Sums) -> Self::Sums {
        std::array::from_fn(|i| a[i] + b[i])
    }

    unsafe fn read(self, from: *const f32, count: usize) -> Self::Sums {
        // SAFETY: the caller's promise.
        std::array::from_fn(|i| if i < count { unsafe { *from.add(i) } } else { 0.0 })
    }

    unsafe fn write(self, sums: Self::Sums, to: *mut f32, count: usize) {
        // SAFETY: the caller's promise.
        (0..count).for_each(|i| unsafe { *to.add(i) = sums[i] });
    }

    unsafe fn round(self, sums: Self::Sums, to: *mut bf16, count: usize) {
        // SAFETY: the caller's promise.
        (0..count).for_each(|i| unsafe { *to.add(i) = bf16::store(sums[i]) });
    }
}

fn filled(n: usize, salt: f32) -> Vec<bf16> {
    (0..n).map(|i| bf16::from_f32(((i as f32 + salt) * 0.7).sin())).collect()
}

impl TileMul for Plain {
    unsafe fn multiply(self, left: *const u16, row_stride: usize, right: &[[PairVec; 2]], sums: &mut Sums) {
        *sums = Sums([[0.0; COLS]; amx::ROWS]);
        for (r, sums) in sums.0.iter_mut().enumerate() {
            for (p, [low, high]) in right.iter().enumerate() {
                // SAFETY: the caller's promise.
                let x = unsafe { left.add(r * row_stride + 2 * p).cast::<u32>().read_unaligned() };
                let (halves, _) = sums.as_chunks_mut::<LANES>();
                halves[0] = self.add(halves[0], x, low);
                halves[1] = self.add(halves[1], x, high);
            }
        }
    }
}

/// A strip with pairs up to a multiple of `unit`, beside the definition: from nothing, from a bias,
/// from earlier sums, stored as summed up and rounded.
fn check((rows, cols, depth): (usize, usize, usize), unit: usize, step: usize, run: &dyn Fn(&Strip)) {
    let pairs = depth.div_ceil(2).next_multiple_of(unit);
    let (a, b) = (filled(rows * depth, 0.3), filled(depth * cols, 0.8));
    let bias: Vec<f32> = (0..cols).map(|c| c as f32 / 8.0).collect();
    let row_stride = if step == 2 { 2 * PAIRS } else { 2 };
    let mut panel = vec![bf16::ZERO; 2 * MAX_ROWS * PAIRS];
    for (r, k) in (0..rows).flat_map(|r| (0..depth).map(move |k| (r, k))) {
        panel[r * row_stride + k / 2 * step + k % 2] = a[r * depth + k];
    }
    let mut block = vec![PairVec([0; LANES]); cols.div_ceil(COLS) * 2 * pairs];
    for (k, c) in (0..depth).flat_map(|k| (0..cols).map(move |c| (k, c))) {
        let PairVec(line) = &mut block[(c / COLS * pairs + k / 2) * 2 + c % COLS / LANES];
        line[c % LANES] |= u32::from(b[k * cols + c].to_bits()) << (k % 2 * 16);
    }
    let left = Panels { data: &panel, row_stride, step };
    let mut sums = vec![f32::NAN; rows * cols];
    let mut rounded = vec![bf16::NAN; rows * cols];
    let whole: Vec<_> = sums.chunks_exact_mut(cols).map(<[f32]>::as_mut_ptr).collect();
    let half: Vec<_> = rounded.chunks_exact_mut(cols).map(<[bf16]>::as_mut_ptr).collect();
    let strips = [
        (Begin::Zero, Rows::Exact(&whole)),
        (Begin::Bias(&bias), Rows::Exact(&whole)),
        (Begin::Sums(&whole), Rows::Exact(&whole)),
        (Begin::Sums(&whole), Rows::Rounded(&half)),
    ];
    for (begin, out) in strips {
        // SAFETY: the starts are those of rows that nothing else touches meanwhile.
        run(&unsafe { Strip::new(pairs, left, (&block, cols), begin, out) });
    }
    for (i, (sum, rounded)) in sums.iter().zip(rounded).enumerate() {
        let (r, c) = (i / cols, i % cols);
        let product: f64 = (0..depth).map(|k| f64::from(a[r * depth + k]) * f64::from(b[k * cols + c])).sum();
        let bias = f64::from(bias[c]);
        assert!((f64::from(*sum) - 2.0 * product - bias).abs() < 1e-4, "{i}: {sum}");
        let want = 3.0 * product + bias;
        assert!((f64::from(rounded) - want).abs() < 1e-4 + want.abs() / 256.0, "{i}: {rounded}");
    }
}

/// Every number of rows, odd depths, a last tile that is not whole; by the plain loop, and by the
/// instruction if this machine has it.
#[test]
fn pairs_agree_with_the_triple_loop() {
    for shape in [(12, 70, 31), (1, 5, 1), (4, 32, 8), (7, 33, 768), (9, 64, 2)] {
        for step in [2, 2 * ROWS] {
            check(shape, 1, step, &|strip| strip.tiles(Plain));
            #[cfg(target_arch = "x86_64")]
            if let Some(native) = Native::detect() {
                check(shape, 1, step, &|strip| native.by_vectors().run(strip));
            }
        }
    }
}

/// The same by whole matrices.
#[test]
fn matrices_agree_with_the_triple_loop() {
    for shape in [(32, 70, 31), (1, 5, 1), (16, 32, 32), (17, 33, 768), (31, 64, 97)] {
        check(shape, amx::UNIT, 2, &|strip| strip.matrices(Plain, Plain));
        #[cfg(target_arch = "x86_64")]
        if let Some(native) = Native::detect().filter(|native| native.has_matrices()) {
            check(shape, amx::UNIT, 2, &|strip| native.run(strip));
        }
    }
}
