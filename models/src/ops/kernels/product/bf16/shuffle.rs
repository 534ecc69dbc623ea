//! The shuffles that packing consists of: forming sixteen pairs, and transposing 16 x 16 pairs.
#![allow(unsafe_code)]

use super::{LANES, PairVec};
use crate::ops::kernels::Storage;

/// A pair as it is packed, the first in the low half; both rounded to `bf16`.
#[inline(always)]
pub(super) fn pair<S: Storage>(low: S, high: S) -> u32 {
    u32::from(low.round().to_bits()) | u32::from(high.round().to_bits()) << 16
}

#[inline(always)]
fn interleaved<S: Storage>(low: &[S; LANES], high: &[S; LANES]) -> PairVec {
    PairVec(std::array::from_fn(|i| pair(low[i], high[i])))
}

#[inline(always)]
fn side_by_side<S: Storage>(row: &[S; 2 * LANES]) -> PairVec {
    PairVec(std::array::from_fn(|i| pair(row[2 * i], row[2 * i + 1])))
}

/// The parts of packing that a machine may have instructions for; the default methods define them.
///
/// An instruction that rounds gives zero for numbers below the least normal one, as the
/// multiplication would.
pub(super) trait Shuffle: Copy {
    /// Pairs each number of one row with the number of another row in the same column.
    #[inline(always)]
    fn interleave<S: Storage>(self, low: &[S; LANES], high: &[S; LANES]) -> PairVec {
        interleaved(low, high)
    }

    /// Pairs adjacent numbers of a row.
    #[inline(always)]
    fn adjacent<S: Storage>(self, row: &[S; 2 * LANES]) -> PairVec {
        side_by_side(row)
    }

    /// Transposes a square of pairs.
    #[inline(always)]
    fn transpose(self, square: &mut [PairVec; LANES]) {
        for i in 0..LANES {
            for j in 0..i {
                (square[i].0[j], square[j].0[i]) = (square[j].0[i], square[i].0[j]);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256i, __m512bh, __m512i, _mm512_castsi256_si512, _mm512_cvtne2ps_pbh, _mm512_inserti64x4,
        _mm512_loadu_ps, _mm512_permutexvar_epi16, _mm512_setzero_si512, _mm512_shuffle_i32x4,
        _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
    };

    use half::bf16;

    use super::super::Native;
    use super::{LANES, PairVec, Shuffle, Storage, interleaved, side_by_side};
    use crate::ops::kernels::Compute;

    /// Source of each half of a pair among sixteen first halves followed by sixteen second halves.
    static ALTERNATE: [u16; 2 * LANES] = {
        let mut from = [0; 2 * LANES];
        let mut i = 0;
        while i < LANES as u16 {
            from[2 * i as usize] = i;
            from[2 * i as usize + 1] = LANES as u16 + i;
            i += 1;
        }
        from
    };

    /// Numbers of single precision, if they are that.
    #[inline(always)]
    fn as_f32<S: Storage>(numbers: &[S]) -> Option<&[f32]> {
        S::Real::as_f32(S::as_compute(numbers)?)
    }

    // SAFETY, of every block below: `self` was made where AVX-512 F, BW and BF16 are there; arrays
    // are as long as what is loaded from them, and a line is as long and as aligned as a vector.
    impl Shuffle for Native {
        #[inline(always)]
        fn interleave<S: Storage>(self, low: &[S; LANES], high: &[S; LANES]) -> PairVec {
            unsafe {
                let rows = if let (Some(low), Some(high)) = (S::as_bf16(low), S::as_bf16(high)) {
                    let load = |row: &[bf16]| row.as_ptr().cast::<__m256i>().read_unaligned();
                    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(load(low)), load(high))
                } else if let (Some(low), Some(high)) = (as_f32(low), as_f32(high)) {
                    round(_mm512_cvtne2ps_pbh(_mm512_loadu_ps(high.as_ptr()), _mm512_loadu_ps(low.as_ptr())))
                } else {
                    return interleaved(low, high);
                };
                let places = ALTERNATE.as_ptr().cast::<__m512i>().read_unaligned();
                line(_mm512_permutexvar_epi16(places, rows))
            }
        }

        #[inline(always)]
        fn adjacent<S: Storage>(self, row: &[S; 2 * LANES]) -> PairVec {
            unsafe {
                if let Some(row) = S::as_bf16(row) {
                    line(row.as_ptr().cast::<__m512i>().read_unaligned())
                } else if let Some(row) = as_f32(row) {
                    let (low, high) =
                        (_mm512_loadu_ps(row.as_ptr()), _mm512_loadu_ps(row.as_ptr().add(LANES)));
                    line(round(_mm512_cvtne2ps_pbh(high, low)))
                } else {
                    side_by_side(row)
                }
            }
        }

        #[inline(always)]
        fn transpose(self, square: &mut [PairVec; LANES]) {
            unsafe {
                // A loop, because `map` may become a function of its own, for the least of
                // machines.
                let mut rows = [_mm512_setzero_si512(); LANES];
                for (row, PairVec(line)) in rows.iter_mut().zip(square.iter()) {
                    *row = line.as_ptr().cast::<__m512i>().read();
                }
                // Within each quarter of a vector, squares of four are turned, ...
                for four in rows.as_chunks_mut::<4>().0 {
                    let [a, b, c, d] = *four;
                    let (low, high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
                    four[0] = _mm512_unpacklo_epi64(low, high);
                    four[1] = _mm512_unpackhi_epi64(low, high);
                    let (low, high) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
                    four[2] = _mm512_unpacklo_epi64(low, high);
                    four[3] = _mm512_unpackhi_epi64(low, high);
                }
                // ... and then the quarters of each four vectors.
                for i in 0..4 {
                    let [a, b, c, d] = [rows[i], rows[i + 4], rows[i + 8], rows[i + 12]];
                    let even = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0x88>(c, d));
                    let odd = (_mm512_shuffle_i32x4::<0xDD>(a, b), _mm512_shuffle_i32x4::<0xDD>(c, d));
                    square[i] = line(_mm512_shuffle_i32x4::<0x88>(even.0, even.1));
                    square[i + 4] = line(_mm512_shuffle_i32x4::<0x88>(odd.0, odd.1));
                    square[i + 8] = line(_mm512_shuffle_i32x4::<0xDD>(even.0, even.1));
                    square[i + 12] = line(_mm512_shuffle_i32x4::<0xDD>(odd.0, odd.1));
                }
            }
        }
    }

    #[inline(always)]
    fn line(pairs: __m512i) -> PairVec {
        // SAFETY: both are sixteen numbers of 32 bits.
        PairVec(unsafe { std::mem::transmute::<__m512i, [u32; LANES]>(pairs) })
    }

    #[inline(always)]
    fn round(numbers: __m512bh) -> __m512i {
        // SAFETY: both are 64 bytes.
        unsafe { std::mem::transmute::<__m512bh, __m512i>(numbers) }
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl Shuffle for super::Native {}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::super::Native;
    use super::*;

    #[derive(Clone, Copy)]
    struct Plain;
    impl Shuffle for Plain {}

    fn check(shuffle: impl Shuffle) {
        let row = |salt: f32| -> [f32; LANES] { std::array::from_fn(|i| ((i as f32 + salt) * 0.7).sin()) };
        let half = |row: [f32; LANES]| row.map(bf16::from_f32);
        let (low, high) = (row(0.1), row(20.0));
        let bits = |x: f32| u32::from(bf16::from_f32(x).to_bits());
        let want = std::array::from_fn(|i| bits(low[i]) | bits(high[i]) << 16);
        assert_eq!(shuffle.interleave(&low, &high).0, want);
        assert_eq!(shuffle.interleave(&half(low), &half(high)).0, want);
        let both: [f32; 2 * LANES] =
            std::array::from_fn(|i| if i % 2 == 0 { low[i / 2] } else { high[i / 2] });
        assert_eq!(shuffle.adjacent(&both).0, want);
        assert_eq!(shuffle.adjacent(&both.map(bf16::from_f32)).0, want);
        assert_eq!(shuffle.adjacent(&both.map(f64::from)).0, want);
        let mut square: [PairVec; LANES] =
            std::array::from_fn(|i| PairVec(std::array::from_fn(|j| (100 * i + j) as u32)));
        shuffle.transpose(&mut square);
        for (i, PairVec(row)) in square.into_iter().enumerate() {
            assert_eq!(row, std::array::from_fn(|j| (100 * j + i) as u32));
        }
    }

    #[test]
    fn pairs_are_made_and_turned_as_said() {
        check(Plain);
        if let Some(native) = Native::detect() {
            native.compiled(|| check(native));
        }
    }
}
