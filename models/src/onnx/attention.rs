//! The ONNX nodes of attention.

use super::graph::Builder;
use super::proto::Attribute;
use crate::Result;
use crate::graph::Input;
use crate::ops::{Windows, masks_of_windows, relative_position_index};

/// Queries, keys and values `[N, .., heads, L, d]`.
type Qkv = [String; 3];

impl Builder<'_> {
    /// Attention of packed queries, keys and values in windows, see
    /// [`Op::WindowAttention`](crate::Op::WindowAttention).
    pub(super) fn window_attention(
        &mut self,
        qkv: &str,
        shape: Vec<usize>,
        heads: usize,
        windows: &[Windows],
        table: Option<&Input>,
    ) -> Result<String> {
        let (kinds, width) = (windows.len(), shape[3] / 3);
        let (share, heads) = (width / kinds, heads / kinds);
        let mut mixed = Vec::new();
        for (kind, windows) in windows.iter().enumerate() {
            let map = [shape[1], shape[2]];
            let qkv = self.channels_of(qkv, map, [kinds, share], kind);
            let qkv = self.rolled(&qkv, map, windows.shift);
            let bias = table.map(|&table| self.position_bias(table, heads, windows)).transpose()?;
            let out = self.in_windows(&qkv, map, [heads, share / heads], windows, bias);
            let back = [0, 1].map(|i| (map[i] - windows.shift[i]) % map[i]);
            mixed.push(self.rolled(&out, map, back));
        }
        Ok(self.concat(&mixed, -1))
    }

    /// Of `[N, H, W, 3, kinds, share]`, those of one kind.
    fn channels_of(
        &mut self,
        qkv: &str,
        [h, w]: [usize; 2],
        [kinds, share]: [usize; 2],
        kind: usize,
    ) -> String {
        if kinds == 1 {
            return qkv.into();
        }
        let parts = self.reshape(qkv, &[h, w, 3, kinds, share]);
        let part = self.slice(&parts, 4, kind..kind + 1);
        self.reshape(&part, &[h, w, 3 * share])
    }

    /// A map moved up and to the left, around its edges.
    fn rolled(&mut self, x: &str, map: [usize; 2], shift: [usize; 2]) -> String {
        let mut x = x.to_string();
        for (axis, (shift, length)) in
            shift.into_iter().zip(map).enumerate().filter(|(_, (shift, _))| *shift > 0)
        {
            let parts = [self.slice(&x, axis + 1, shift..length), self.slice(&x, axis + 1, 0..shift)];
            x = self.concat(&parts, axis as i64 + 1);
        }
        x
    }

    /// `[N, H, W, 3C]` to `[N, H, W, C]`.
    fn in_windows(
        &mut self,
        qkv: &str,
        [h, w]: [usize; 2],
        [heads, d]: [usize; 2],
        windows: &Windows,
        bias: Option<String>,
    ) -> String {
        let [wh, ww] = windows.size;
        let (rows, columns, n) = (h / wh, w / ww, wh * ww);
        if rows * columns == 1 {
            let packed = self.reshape(qkv, &[n, 3, heads, d]);
            let packed = self.transpose(&packed, &[2, 0, 3, 1, 4]);
            let qkv = self.parts(&packed, &[heads, n, d]);
            let out = self.attend(&qkv, 4, d, bias, None);
            let out = self.transpose(&out, &[0, 2, 1, 3]);
            return self.reshape(&out, &[h, w, heads * d]);
        }
        let packed = self.reshape(qkv, &[rows, wh, columns, ww, 3, heads, d]);
        let packed = self.transpose(&packed, &[5, 0, 1, 3, 6, 2, 4, 7]);
        let qkv = self.parts(&packed, &[rows * columns, heads, n, d]);
        let mask = masks_of_windows([h, w], windows).map(|mask| {
            let name = format!("mask.{h}x{w}.{wh}x{ww}.{}.{}", windows.shift[0], windows.shift[1]);
            self.floats(&name, &[rows * columns, 1, n, n], &mask)
        });
        let out = self.attend(&qkv, 5, d, bias, mask);
        let out = self.reshape(&out, &[rows, columns, heads, wh, ww, d]);
        let out = self.transpose(&out, &[0, 1, 4, 2, 5, 3, 6]);
        self.reshape(&out, &[h, w, heads * d])
    }

    /// Splits `[3, N, ..]` into three of shape `[N, sample..]`.
    fn parts(&mut self, packed: &str, sample: &[usize]) -> Qkv {
        let parts = self.node_with("Split", &[packed], vec![Attribute::int("axis", 0)], 3);
        let shape: Vec<i64> = [-1].into_iter().chain(sample.iter().map(|&d| d as i64)).collect();
        [0, 1, 2].map(|i| self.reshape_to(&parts[i], &shape))
    }

    /// Softmax attention over the last two dimensions of tensors of this rank.
    fn attend(
        &mut self,
        [q, k, v]: &Qkv,
        rank: usize,
        d: usize,
        bias: Option<String>,
        mask: Option<String>,
    ) -> String {
        let mut order: Vec<usize> = (0..rank).collect();
        order.swap(rank - 2, rank - 1);
        let scale = self.number(1.0 / (d as f64).sqrt());
        let q = self.node("Mul", &[q, &scale], Vec::new());
        let k = self.transpose(k, &order);
        let mut scores = self.node("MatMul", &[&q, &k], Vec::new());
        for term in bias.into_iter().chain(mask) {
            scores = self.node("Add", &[&scores, &term], Vec::new());
        }
        let shares = self.node("Softmax", &[&scores], vec![Attribute::int("axis", -1)]);
        self.node("MatMul", &[&shares, v], Vec::new())
    }

    /// The bias of every pair of tokens of a window, `[heads, n, n]`.
    fn position_bias(&mut self, table: Input, heads: usize, windows: &Windows) -> Result<String> {
        let index: Vec<u32> = relative_position_index(windows.size).into_iter().map(|i| i as u32).collect();
        let n = windows.size[0] * windows.size[1];
        self.changed_param(table, ".by_pair", |table| {
            let index = candle_core::Tensor::from_vec(index, n * n, table.device())?;
            Ok(table.index_select(&index, 0)?.t()?.reshape((heads, n, n))?)
        })
    }

    /// Attention of queries over the keys and values of other tokens, see
    /// [`Op::CrossAttention`](crate::Op::CrossAttention).
    pub(super) fn cross_attention(
        &mut self,
        [q, kv]: [&str; 2],
        shapes: [&[usize]; 2],
        heads: usize,
    ) -> String {
        let (n, m, c) = (shapes[0][1], shapes[1][1], shapes[0][2]);
        let d = c / heads;
        let q = self.reshape(q, &[n, heads, d]);
        let q = self.transpose(&q, &[0, 2, 1, 3]);
        let kv = self.reshape(kv, &[m, 2, heads, d]);
        let kv = self.transpose(&kv, &[2, 0, 3, 1, 4]);
        let parts = self.node_with("Split", &[&kv], vec![Attribute::int("axis", 0)], 2);
        let shape = [-1, heads as i64, m as i64, d as i64];
        let [k, v] = [0, 1].map(|i| self.reshape_to(&parts[i], &shape));
        let out = self.attend(&[q, k, v], 4, d, None, None);
        let out = self.transpose(&out, &[0, 2, 1, 3]);
        self.reshape(&out, &[n, c])
    }
}
