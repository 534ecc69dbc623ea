//! The real matrices of the operator, entry by entry in `f64`.
//!
//! With K the kept frequencies `-(B div 2) ..= B - (B div 2) - 1` of an axis with N samples, the
//! value at the (possibly smaller) grid position p of P is `sum_n A[p,n] x[n]` with `A[p,n] = (1/N)
//! sum_{k in K} cos(2 pi k d)`, `d = p/P - n/N`. In two dimensions the real part of the product of
//! both complex kernels is `cos cos - sin sin`. The sines cancel in pairs except for the unpaired
//! `k = -B/2` of an even B, which leaves `D[p,n] = (1/N) sin(pi B d)` on each axis: `out = A_h X
//! A_w^T - D_h X D_w^T`, the second term only when both B are even. For the crop, P = B, D is the
//! rank-one checkerboard `-(-1)^p sin(pi B n/N) / N`; for the low-pass, P = N.

use std::f64::consts::PI;

/// One axis: `n` samples in, `p` samples out, `b` frequencies kept (`b <= p <= n`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AxisShape {
    pub(crate) n: usize,
    pub(crate) p: usize,
    pub(crate) b: usize,
}

impl AxisShape {
    /// `A[p,n]`, by the closed form of the cosine sum: `sin((2K+1) pi d) / sin(pi d)`, all angles
    /// reduced in integers.
    pub(crate) fn cosine(self, p: usize, n: usize) -> f64 {
        let (numerator, denominator) = self.offset(p, n);
        // Full pairs +-k, k <= K; an even B keeps one more frequency, -B/2, on its own.
        let pairs = (self.b - 1) / 2;
        let mut sum = dirichlet(pairs, numerator, denominator);
        if self.b.is_multiple_of(2) {
            sum += turn(self.b as u128 * numerator, denominator).cos();
        }
        sum / self.n as f64
    }

    /// `cos(pi B n/N)` and `sin(pi B n/N)`: the unpaired frequency at a sample of the input grid.
    pub(crate) fn input_wave(self, n: usize) -> (f64, f64) {
        wave(self.b, n, self.n)
    }

    /// `cos(pi B p/P)` and `sin(pi B p/P)`: the unpaired frequency at a sample of the output grid.
    pub(crate) fn output_wave(self, p: usize) -> (f64, f64) {
        wave(self.b, p, self.p)
    }

    /// `d = p/P - n/N` modulo 1, as a fraction.
    fn offset(self, p: usize, n: usize) -> (u128, u128) {
        let denominator = self.p as u128 * self.n as u128;
        let ahead = p as u128 * self.n as u128;
        let behind = n as u128 * self.p as u128;
        ((ahead + denominator - behind) % denominator, denominator)
    }
}

/// `sum_{k=-pairs}^{pairs} cos(2 pi k t/d)`.
fn dirichlet(pairs: usize, t: u128, d: u128) -> f64 {
    let odd = 2 * pairs as u128 + 1;
    if t == 0 {
        return odd as f64;
    }
    turn(odd * t, d).sin() / turn(t, d).sin()
}

/// The angle `pi t/d` reduced to one turn, in (-pi, pi]; small angles keep their full precision.
fn turn(t: u128, d: u128) -> f64 {
    let t = t % (2 * d);
    if t > d { -PI * ((2 * d - t) as f64 / d as f64) } else { PI * (t as f64 / d as f64) }
}

fn wave(b: usize, i: usize, len: usize) -> (f64, f64) {
    let (t, d) = (b as u128 * i as u128 % (2 * len as u128), len as u128);
    // sin(pi) is not 0 in floating point; the definition's is.
    let sine = if t.is_multiple_of(d) { 0.0 } else { turn(t, d).sin() };
    (turn(t, d).cos(), sine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_form_equals_the_sum() {
        for (n, p, b) in [(1, 1, 1), (2, 1, 1), (2, 2, 2), (7, 4, 4), (12, 7, 7), (16, 16, 6), (31, 31, 17)] {
            let axis = AxisShape { n, p, b };
            for (i, j) in (0..p).flat_map(|i| (0..n).map(move |j| (i, j))) {
                let d = i as f64 / p as f64 - j as f64 / n as f64;
                let low = -((b / 2) as i64);
                let sum: f64 = (low..low + b as i64).map(|k| (2.0 * PI * k as f64 * d).cos()).sum();
                assert!((axis.cosine(i, j) - sum / n as f64).abs() < 1e-13, "{axis:?} {i} {j}");
            }
        }
    }
}
