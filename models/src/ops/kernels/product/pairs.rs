//! Products of numbers rounded to `bf16`, two at a time, summed in `f32`: what AVX-512-BF16 does in one instruction.
//!
//! Of both factors neighbouring inner indices lie together, the first in the low half. The instruction takes and gives
//! zero for what is smaller than the least normal number.
#![allow(unsafe_code)]
// Where there are no such instructions only tests use this.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code, unused_imports))]

use half::bf16;

use super::amx::{self, Amx, Square, Sums};

/// Rows and columns of a full tile, those of the tiles in `f32` on the machines that have the instruction.
pub(super) const ROWS: usize = 12;
/// Most rows of a strip, whatever multiplies it.
pub(super) const MOST_ROWS: usize = amx::ROWS;
pub(super) const COLS: usize = 2 * LANES;
/// Longest run of pairs that a panel holds.
pub(super) const PAIRS: usize = 384;
pub(super) const LANES: usize = 16;

/// Sixteen pairs, one of each column.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Line(pub(super) [u32; LANES]);

/// Sixteen sums of products of pairs.
pub(super) trait Dot: Copy {
    type Sums: Copy;
    fn zero(self) -> Self::Sums;
    /// `sums + x * y`, pair by pair.
    fn add(self, sums: Self::Sums, x: u32, y: &Line) -> Self::Sums;
    /// `a + b`, lane by lane.
    fn plus(self, a: Self::Sums, b: Self::Sums) -> Self::Sums;
    /// The first `count` of sixteen numbers, and zeros.
    ///
    /// # Safety
    /// So many can be read.
    unsafe fn read(self, from: *const f32, count: usize) -> Self::Sums;
    /// Writes the first `count`.
    ///
    /// # Safety
    /// So many can be written.
    unsafe fn write(self, sums: Self::Sums, to: *mut f32, count: usize);
    /// As [`Self::write`], rounded to the nearest, ties to even.
    ///
    /// # Safety
    /// So many can be written.
    unsafe fn round(self, sums: Self::Sums, to: *mut bf16, count: usize);
}

/// What panels must be like.
#[derive(Clone, Copy)]
pub(super) struct PanelShape {
    /// Rows of a strip.
    pub(super) rows: usize,
    /// Pairs come in multiples of so many, zeros at the end.
    pub(super) unit: usize,
    /// Whether left panels have to lie by rows.
    pub(super) by_rows: bool,
}

/// The instruction, on a machine that has it, and those that multiply whole matrices, where there are such.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Native {
    amx: Option<Amx>,
}

#[cfg(target_arch = "x86_64")]
mod native {
    use std::arch::x86_64::{
        __cpuid, __m256bh, __m256i, __m512, __m512bh, __m512i, _mm256_mask_storeu_epi16, _mm512_add_ps,
        _mm512_cvtneps_pbh, _mm512_dpbf16_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps,
        _mm512_set1_epi32, _mm512_setzero_ps,
    };

    use std::sync::OnceLock;

    use half::bf16;

    use super::{Amx, Dot, LANES, Line, Native, PanelShape, Strip};

    impl Native {
        /// If this machine has it, and gains by it.
        pub(in super::super) fn here() -> Option<Self> {
            static HERE: OnceLock<Option<Native>> = OnceLock::new();
            *HERE.get_or_init(|| {
                let there = is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512bf16");
                let amx = Amx::here();
                // Alone, Intel's instruction is slower than two multiplications in single precision (83 against 139 GFLOP/s,
                // measured on an Emerald Rapids); on AMD's Zen 5 it takes the time of one.
                (there && (amx.is_some() || !by_intel())).then_some(Self { amx })
            })
        }

        /// The same without matrices.
        #[cfg(test)]
        pub(in super::super) fn by_vectors(self) -> Self {
            Self { amx: None }
        }

        pub(in super::super) fn has_matrices(self) -> bool {
            self.amx.is_some()
        }

        pub(in super::super) fn shape(self) -> PanelShape {
            if self.has_matrices() { PanelShape::MATRICES } else { PanelShape::VECTORS }
        }

        /// Runs `work` compiled for the instructions that there are.
        #[inline(always)]
        pub(in super::super) fn compiled<R>(self, work: impl FnOnce() -> R) -> R {
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
            fn run<R>(work: impl FnOnce() -> R) -> R {
                work()
            }
            // SAFETY: `self` was made where the features are there.
            unsafe { run(work) }
        }

        pub(in super::super) fn run(self, strip: &Strip) {
            // SAFETY, of both: `self` was made where the features are there.
            match self.amx {
                Some(amx) => unsafe { matrices(self, amx, strip) },
                None => unsafe { tiles(self, strip) },
            }
        }
    }

    fn by_intel() -> bool {
        // SAFETY: a processor with AVX-512 has the leaf. (Newer compilers know that asking is always safe.)
        #[allow(unused_unsafe)]
        let vendor = unsafe { __cpuid(0) };
        [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat() == *b"GenuineIntel"
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    fn tiles(native: Native, strip: &Strip) {
        strip.tiles(native);
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    fn matrices(native: Native, amx: Amx, strip: &Strip) {
        amx.with_registers(|| strip.matrices(amx, native));
    }

    // SAFETY, of every block below: `self` was made where the features are there, and a line has as many numbers as a vector;
    // of others only so many are touched as the caller promises to be there.
    impl Dot for Native {
        type Sums = __m512;

        #[inline(always)]
        fn zero(self) -> __m512 {
            unsafe { _mm512_setzero_ps() }
        }

        #[inline(always)]
        fn add(self, sums: __m512, x: u32, y: &Line) -> __m512 {
            unsafe {
                let x = std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(x.cast_signed()));
                let y = y.0.as_ptr().cast::<__m512bh>().read();
                _mm512_dpbf16_ps(sums, x, y)
            }
        }

        #[inline(always)]
        fn plus(self, a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_add_ps(a, b) }
        }

        #[inline(always)]
        unsafe fn read(self, from: *const f32, count: usize) -> __m512 {
            unsafe { _mm512_maskz_loadu_ps(mask(count), from) }
        }

        #[inline(always)]
        unsafe fn write(self, sums: __m512, to: *mut f32, count: usize) {
            unsafe { _mm512_mask_storeu_ps(to, mask(count), sums) }
        }

        #[inline(always)]
        unsafe fn round(self, sums: __m512, to: *mut bf16, count: usize) {
            unsafe {
                let rounded = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(sums));
                _mm256_mask_storeu_epi16(to.cast(), mask(count), rounded);
            }
        }
    }

    /// The lowest `count` of sixteen bits.
    #[inline(always)]
    fn mask(count: usize) -> u16 {
        if count < LANES { (1 << count) - 1 } else { u16::MAX }
    }
}

/// Elsewhere there is none.
#[cfg(not(target_arch = "x86_64"))]
#[derive(Clone, Copy)]
pub(super) enum Native {}

#[cfg(not(target_arch = "x86_64"))]
impl Native {
    pub(super) fn here() -> Option<Self> {
        None
    }

    pub(super) fn has_matrices(self) -> bool {
        match self {}
    }

    pub(super) fn shape(self) -> PanelShape {
        match self {}
    }

    pub(super) fn compiled<R>(self, _: impl FnOnce() -> R) -> R {
        match self {}
    }

    pub(super) fn run(self, _: &Strip) {
        match self {}
    }
}

impl PanelShape {
    const VECTORS: Self = Self { rows: ROWS, unit: 1, by_rows: false };
    const MATRICES: Self = Self { rows: amx::ROWS, unit: amx::UNIT, by_rows: true };
}

/// Left panels, and where in them pair `p` of row `r` lies: at `r * apart + p * step`.
#[derive(Clone, Copy)]
pub(super) struct Panels<'a> {
    pub(super) data: &'a [bf16],
    pub(super) apart: usize,
    pub(super) step: usize,
}

/// What a sum begins with.
#[derive(Clone, Copy)]
pub(super) enum Begin<'a> {
    Zero,
    /// One number for each column.
    Bias(&'a [f32]),
    /// What earlier inner indices gave; where each row begins.
    Sums(&'a [*mut f32]),
}

/// Where each row of a result begins.
#[derive(Clone, Copy)]
pub(super) enum Rows<'a> {
    Whole(&'a [*mut f32]),
    Rounded(&'a [*mut bf16]),
}

/// One panel of the left matrix times a block of the right one.
pub(super) struct Strip<'a> {
    pub(super) pairs: usize,
    pub(super) left: Panels<'a>,
    /// Panels of a tile's columns, pair by pair.
    pub(super) right: &'a [Line],
    pub(super) cols: usize,
    pub(super) begin: Begin<'a>,
    out: Rows<'a>,
    rows: usize,
}

impl<'a> Strip<'a> {
    /// # Safety
    /// Each row of `out` is valid for writing `cols` elements and each of `begin` for reading them, and nothing else
    /// touches them as long as this lives.
    pub(super) unsafe fn new(
        pairs: usize,
        left: Panels<'a>,
        (right, cols): (&'a [Line], usize),
        begin: Begin<'a>,
        out: Rows<'a>,
    ) -> Self {
        assert!(right.len() >= cols.div_ceil(COLS) * 2 * pairs, "right block is short");
        let rows = match out {
            Rows::Whole(out) => out.len(),
            Rows::Rounded(out) => out.len(),
        };
        assert!(rows <= MOST_ROWS, "a strip is one tile high");
        match begin {
            Begin::Zero => {}
            Begin::Bias(bias) => assert!(bias.len() >= cols, "bias is too short"),
            Begin::Sums(sums) => assert!(sums.len() >= rows, "rows of sums are missing"),
        }
        Self { pairs, left, right, cols, begin, out, rows }
    }

    /// Computes it matrix by matrix, of [`PanelShape::MATRICES`].
    #[inline(always)]
    fn matrices<M: Square, D: Dot>(&self, square: M, dot: D) {
        let Panels { data, apart, step } = self.left;
        let held = (amx::ROWS - 1) * apart + 2 * self.pairs;
        assert!(
            step == 2 && self.pairs.is_multiple_of(amx::UNIT) && data.len() >= held,
            "left panel is short"
        );
        let mut sums = Sums([[0.0; COLS]; amx::ROWS]);
        for first in (0..self.cols).step_by(COLS) {
            let lines = &self.right[first / COLS * 2 * self.pairs..][..2 * self.pairs];
            // SAFETY: `held` elements are there.
            unsafe { square.multiply(data.as_ptr().cast(), apart, lines.as_chunks::<2>().0, &mut sums) };
            for (r, sums) in sums.0.iter().enumerate().take(self.rows) {
                let (low, high) = sums.split_at(LANES);
                // SAFETY: both halves have so many numbers.
                let sums = unsafe { [dot.read(low.as_ptr(), LANES), dot.read(high.as_ptr(), LANES)] };
                self.finish(dot, sums, r, first);
            }
        }
    }

    #[inline(always)]
    fn tiles<D: Dot>(&self, dot: D) {
        assert!(self.rows <= ROWS, "a strip is one tile high");
        match self.rows {
            0..=4 => self.sweep::<D, 4>(dot),
            5..=8 => self.sweep::<D, 8>(dot),
            _ => self.sweep::<D, ROWS>(dot),
        }
    }

    #[inline(always)]
    fn sweep<D: Dot, const R: usize>(&self, dot: D) {
        let Panels { data, apart, step } = self.left;
        // Checked once: the last element that the loop below reads.
        let left = &data[..(R - 1) * apart + (self.pairs.max(1) - 1) * step + 2];
        for first in (0..self.cols).step_by(COLS) {
            let lines = &self.right[first / COLS * 2 * self.pairs..][..2 * self.pairs];
            let mut sums = [[dot.zero(); 2]; R];
            for (p, line) in lines.as_chunks::<2>().0.iter().enumerate() {
                for (r, sums) in sums.iter_mut().enumerate() {
                    // SAFETY: `left` ends behind the last row's last pair.
                    let x = unsafe { left.as_ptr().add(p * step + r * apart).cast::<u32>().read_unaligned() };
                    sums[0] = dot.add(sums[0], x, &line[0]);
                    sums[1] = dot.add(sums[1], x, &line[1]);
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                if r < self.rows {
                    self.finish(dot, *sums, r, first);
                }
            }
        }
    }

    /// Writes row `r` of the tile whose first column is `first`.
    #[inline(always)]
    fn finish<D: Dot>(&self, dot: D, mut sums: [D::Sums; 2], r: usize, first: usize) {
        let cols = COLS.min(self.cols - first);
        let before = match self.begin {
            Begin::Zero => None,
            Begin::Bias(bias) => Some(bias[first..][..cols].as_ptr()),
            Begin::Sums(rows) => Some(rows[r].wrapping_add(first).cast_const()),
        };
        // Columns of both halves of the tile.
        let counts = [cols.min(LANES), cols.saturating_sub(LANES)];
        for (half, (sum, count)) in sums.iter_mut().zip(counts).enumerate() {
            if let Some(before) = before {
                // SAFETY: a bias is as long as was checked above; for sums, the promise of `new`.
                *sum = dot.plus(*sum, unsafe { dot.read(before.wrapping_add(half * LANES), count) });
            }
            let column = first + half * LANES;
            // SAFETY, of both: the promise of `new`; these columns lie among `self.cols`.
            match self.out {
                Rows::Whole(out) => unsafe { dot.write(*sum, out[r].wrapping_add(column), count) },
                Rows::Rounded(out) => unsafe { dot.round(*sum, out[r].wrapping_add(column), count) },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kernels::Stored;

    /// The instruction as a plain loop.
    #[derive(Clone, Copy)]
    struct Plain;

    fn halves(pair: u32) -> [f32; 2] {
        [f32::from_bits(pair << 16), f32::from_bits(pair & 0xFFFF_0000)]
    }

    impl Dot for Plain {
        type Sums = [f32; LANES];

        fn zero(self) -> Self::Sums {
            [0.0; LANES]
        }

        fn add(self, sums: Self::Sums, x: u32, y: &Line) -> Self::Sums {
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

    impl Square for Plain {
        unsafe fn multiply(self, left: *const u16, apart: usize, right: &[[Line; 2]], sums: &mut Sums) {
            *sums = Sums([[0.0; COLS]; amx::ROWS]);
            for (r, sums) in sums.0.iter_mut().enumerate() {
                for (p, [low, high]) in right.iter().enumerate() {
                    // SAFETY: the caller's promise.
                    let x = unsafe { left.add(r * apart + 2 * p).cast::<u32>().read_unaligned() };
                    let (halves, _) = sums.as_chunks_mut::<LANES>();
                    halves[0] = self.add(halves[0], x, low);
                    halves[1] = self.add(halves[1], x, high);
                }
            }
        }
    }

    /// A strip with pairs up to a multiple of `unit`, beside the definition: from nothing, from a bias, from earlier sums,
    /// stored as summed up and rounded.
    fn check((rows, cols, depth): (usize, usize, usize), unit: usize, step: usize, run: &dyn Fn(&Strip)) {
        let pairs = depth.div_ceil(2).next_multiple_of(unit);
        let (a, b) = (filled(rows * depth, 0.3), filled(depth * cols, 0.8));
        let bias: Vec<f32> = (0..cols).map(|c| c as f32 / 8.0).collect();
        let apart = if step == 2 { 2 * PAIRS } else { 2 };
        let mut panel = vec![bf16::ZERO; 2 * MOST_ROWS * PAIRS];
        for (r, k) in (0..rows).flat_map(|r| (0..depth).map(move |k| (r, k))) {
            panel[r * apart + k / 2 * step + k % 2] = a[r * depth + k];
        }
        let mut block = vec![Line([0; LANES]); cols.div_ceil(COLS) * 2 * pairs];
        for (k, c) in (0..depth).flat_map(|k| (0..cols).map(move |c| (k, c))) {
            let Line(line) = &mut block[(c / COLS * pairs + k / 2) * 2 + c % COLS / LANES];
            line[c % LANES] |= u32::from(b[k * cols + c].to_bits()) << (k % 2 * 16);
        }
        let left = Panels { data: &panel, apart, step };
        let mut sums = vec![f32::NAN; rows * cols];
        let mut rounded = vec![bf16::NAN; rows * cols];
        let whole: Vec<_> = sums.chunks_exact_mut(cols).map(<[f32]>::as_mut_ptr).collect();
        let half: Vec<_> = rounded.chunks_exact_mut(cols).map(<[bf16]>::as_mut_ptr).collect();
        let strips = [
            (Begin::Zero, Rows::Whole(&whole)),
            (Begin::Bias(&bias), Rows::Whole(&whole)),
            (Begin::Sums(&whole), Rows::Whole(&whole)),
            (Begin::Sums(&whole), Rows::Rounded(&half)),
        ];
        for (begin, out) in strips {
            // SAFETY: the starts are those of rows that nothing else touches meanwhile.
            run(&unsafe { Strip::new(pairs, left, (&block, cols), begin, out) });
        }
        for (i, (sum, rounded)) in sums.iter().zip(rounded).enumerate() {
            let (r, c) = (i / cols, i % cols);
            let product: f64 =
                (0..depth).map(|k| f64::from(a[r * depth + k]) * f64::from(b[k * cols + c])).sum();
            let bias = f64::from(bias[c]);
            assert!((f64::from(*sum) - 2.0 * product - bias).abs() < 1e-4, "{i}: {sum}");
            let want = 3.0 * product + bias;
            assert!((f64::from(rounded) - want).abs() < 1e-4 + want.abs() / 256.0, "{i}: {rounded}");
        }
    }

    /// Every number of rows, odd depths, a last tile that is not whole; by the plain loop, and by the instruction where
    /// this machine has it.
    #[test]
    fn pairs_agree_with_the_triple_loop() {
        for shape in [(12, 70, 31), (1, 5, 1), (4, 32, 8), (7, 33, 768), (9, 64, 2)] {
            for step in [2, 2 * ROWS] {
                check(shape, 1, step, &|strip| strip.tiles(Plain));
                #[cfg(target_arch = "x86_64")]
                if let Some(native) = Native::here() {
                    check(shape, 1, step, &|strip| native.by_vectors().run(strip));
                }
            }
        }
    }

    /// As above, by what multiplies whole matrices.
    #[test]
    fn matrices_agree_with_the_triple_loop() {
        for shape in [(32, 70, 31), (1, 5, 1), (16, 32, 32), (17, 33, 768), (31, 64, 97)] {
            check(shape, amx::UNIT, 2, &|strip| strip.matrices(Plain, Plain));
            #[cfg(target_arch = "x86_64")]
            if let Some(native) = Native::here().filter(|native| native.has_matrices()) {
                check(shape, amx::UNIT, 2, &|strip| native.run(strip));
            }
        }
    }
}
