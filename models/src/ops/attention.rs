//! Softmax attention.

use candle_core::Tensor;

use super::kernels::attention::Head;
use super::kernels::attention::cross::{self, Cross};
use super::kernels::attention::windows::{self, Tokens, Windowed};
use super::kernels::{Compute, Storage};
use super::view::{Param, View, tensor};
use super::{Traced, by_storage, contiguous, dims, expect_shape, on_gpu};
use crate::{Error, Result};

/// Division of a map's tokens into groups: only tokens of one window attend to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Rows and columns of a window; they must divide those of the map.
    pub size: [usize; 2],
    /// Rows and columns that the windows are shifted by, wrapping around the map's edges. Tokens
    /// that meet in one window only because it wraps do not see each other.
    pub shift: [usize; 2],
}

/// Multi-head softmax attention of packed queries, keys and values, as timm's `qkv` linear layer
/// gives them.
///
/// Keeps no matrix of attention probabilities: the backward pass computes them again.
///
/// # Shapes
/// - `qkv`: `[B, L, 3 * C]`, where the last dimension is `[3, heads, C / heads]`
/// - value: `[B, L, C]`
///
/// # Errors
/// When `3 * heads` does not divide the last dimension, or tensors are not `f32`, `f64` or `bf16`
/// on the CPU.
pub fn attention(qkv: &Tensor, heads: usize) -> Result<Traced> {
    let [b, n, width] = dims("attention", "packed queries, keys and values [B, L, 3C]", qkv)?;
    let map = contiguous(qkv)?.reshape((b, 1, n, width))?;
    let Traced { value, pullback, .. } =
        window_attention(&map, heads, &[Windows { size: [1, n], shift: [0, 0] }], None)?;
    let value = value.reshape((b, n, width / 3))?;
    Ok(Traced::new(value, move |dout, needs| {
        let grads = pullback(&contiguous(dout)?.reshape((b, 1, n, width / 3))?, needs)?;
        grads.into_iter().map(|g| Ok(g.map(|g| g.reshape((b, n, width))).transpose()?)).collect()
    }))
}

/// Multi-head softmax attention inside windows of a map: squares, shifted squares, stripes.
///
/// The heads are shared out evenly among `windows`, in order: one entry for Swin, horizontal and
/// vertical stripes for CSWin. Keeps no matrix of attention probabilities.
///
/// # Shapes
/// - `qkv`: `[B, H, W, 3 * C]`, where the last dimension is `[3, heads, C / heads]`
/// - `bias`: `[(2 h - 1) * (2 w - 1), heads]` for windows of `h` x `w`: what is added to a score, by the offset from
///   key to query (Swin's relative position bias table); only with a single entry of `windows`
/// - value: `[B, H, W, C]`
///
/// The pullback gives `[qkv]`, or `[qkv, bias]`.
///
/// # Errors
/// When shapes do not fit, or tensors are not `f32`, `f64` or `bf16` on the CPU.
pub fn window_attention(
    qkv: &Tensor,
    heads: usize,
    windows: &[Windows],
    bias: Option<&Tensor>,
) -> Result<Traced> {
    const OP: &str = "attention";
    let [b, h, w, width] = dims(OP, "packed queries, keys and values [B, H, W, 3C]", qkv)?;
    if heads == 0 || width == 0 || h * w == 0 || !width.is_multiple_of(3 * heads) {
        return Err(Error::shape(OP, format!("[.., 3C] with C divisible by {heads} heads"), qkv.dims()));
    }
    check_windows(OP, qkv, heads, windows)?;
    let g = Windowed {
        tokens: h * w,
        heads,
        d: width / 3 / heads,
        groupings: windows.iter().map(|x| Tokens::new([h, w], x.size, x.shift)).collect(),
    };
    on_gpu!(qkv, {
        let bias = bias.map(|table| gpu_bias(OP, table, heads, windows)).transpose()?;
        super::cuda::window_attention(qkv, &g, bias)
    });
    let qkv = qkv.contiguous()?;
    by_storage!(OP, qkv, S => {
        let table = bias.map(|bias| relative_table::<S>(OP, bias, heads, windows)).transpose()?;
        let bias = table.as_ref().map(Table::expand::<<S as Storage>::Real>).transpose()?;
        let out = windows::forward::<S, _>(View::new(OP, &qkv)?.slice()?, bias.as_deref(), &g);
        let value = tensor(out, &[b, h, w, width / 3])?;
        Ok(Traced::new(value, move |dout, _| {
            let dout = dout.contiguous()?;
            let (qv, dv) = (View::new(OP, &qkv)?, View::new(OP, &dout)?);
            let (dqkv, dbias) = windows::backward::<S, _>(qv.slice()?, bias.as_deref(), dv.slice()?, &g);
            let mut grads = vec![Some(tensor(dqkv, qkv.dims())?)];
            if let (Some(table), Some(dbias)) = (&table, dbias) {
                grads.push(table.fold(&dbias)?);
            }
            Ok(grads)
        }))
    })
}

fn check_windows(op: &'static str, qkv: &Tensor, heads: usize, windows: &[Windows]) -> Result<()> {
    let (h, w) = (qkv.dims()[1], qkv.dims()[2]);
    if windows.is_empty() || !heads.is_multiple_of(windows.len()) {
        let expected = format!("kinds of windows that share {heads} heads evenly, got {}", windows.len());
        return Err(Error::shape(op, expected, qkv.dims()));
    }
    for Windows { size: [wh, ww], shift: [dy, dx] } in windows {
        let tiles = *wh > 0 && *ww > 0 && h.is_multiple_of(*wh) && w.is_multiple_of(*ww);
        if !tiles || dy >= wh || dx >= ww {
            let expected =
                format!("a map [B, H, W, 3C] tiled by windows of {wh}x{ww}, shifted by less ({dy}, {dx})");
            return Err(Error::shape(op, expected, qkv.dims()));
        }
    }
    Ok(())
}

/// A relative position bias table and where each pair of tokens of a window finds its entry.
struct Table {
    values: Param,
    index: Vec<usize>,
    heads: usize,
}

fn relative_table<S: Storage>(
    op: &'static str,
    bias: &Tensor,
    heads: usize,
    windows: &[Windows],
) -> Result<Table> {
    let index = table_index(op, bias, heads, windows)?;
    Ok(Table { values: Param::of::<S>(bias)?, index, heads })
}

/// Returns the index into the table for each pair of tokens of a window; the table has a fitting
/// shape.
fn table_index(op: &'static str, bias: &Tensor, heads: usize, windows: &[Windows]) -> Result<Vec<usize>> {
    let [Windows { size: [wh, ww], .. }] = windows else {
        return Err(Error::shape(op, "one kind of windows where there is a bias", bias.dims()));
    };
    expect_shape(op, "a bias table", bias, &[(2 * wh - 1) * (2 * ww - 1), heads])?;
    Ok(relative_position_index([*wh, *ww]))
}

#[cfg(feature = "cuda")]
fn gpu_bias<'a>(
    op: &'static str,
    table: &'a Tensor,
    heads: usize,
    windows: &[Windows],
) -> Result<super::cuda::Bias<'a>> {
    let entries = table_index(op, table, heads, windows)?.into_iter().map(|i| i as u32).collect();
    Ok(super::cuda::Bias { table, entries })
}

/// For each pair (query, key) of a window of `h` x `w` tokens the row of the bias table, `[h w, h
/// w]` row by row.
pub fn relative_position_index([h, w]: [usize; 2]) -> Vec<usize> {
    let n = h * w;
    (0..n * n)
        .map(|pair| {
            let (query, key) = (pair / n, pair % n);
            let dy = query / w + h - 1 - key / w;
            let dx = query % w + w - 1 - key % w;
            dy * (2 * w - 1) + dx
        })
        .collect()
}

/// For shifted windows on a map, the term of each pair of tokens of each window, `[windows, n, n]`:
/// 0, or -100 where the two are together only because the window wraps; none if nothing is shifted.
pub(crate) fn masks_of_windows(map: [usize; 2], windows: &Windows) -> Option<Vec<f32>> {
    Tokens::new(map, windows.size, windows.shift).masks()
}

impl Table {
    /// `[heads, n, n]`.
    fn expand<T: Compute>(&self) -> Result<Vec<T>> {
        let view = self.values.view("attention")?;
        let table = view.slice::<T>()?;
        Ok((0..self.heads).flat_map(|h| self.index.iter().map(move |i| table[i * self.heads + h])).collect())
    }

    /// Sums the gradient of the expanded bias into one of the table.
    fn fold<T: Compute>(&self, expanded: &[T]) -> Result<Option<Tensor>> {
        let mut table = vec![T::ZERO; self.values.dims().iter().product()];
        for (h, head) in expanded.chunks_exact(self.index.len()).enumerate() {
            for (&i, &g) in self.index.iter().zip(head) {
                table[i * self.heads + h] += g;
            }
        }
        self.values.gradient(table)
    }
}

/// Multi-head softmax attention of queries over the packed keys and values of other tokens.
///
/// # Shapes
/// - `q`: `[B, N, C]`, where the last dimension is `[heads, C / heads]`
/// - `kv`: `[B, M, 2 * C]`, where the last dimension is `[2, heads, C / heads]`
/// - value: `[B, N, C]`
///
/// The pullback gives `[q, kv]`.
///
/// # Errors
/// When shapes do not fit, or tensors are not `f32`, `f64` or `bf16` on the CPU.
pub fn cross_attention(q: &Tensor, kv: &Tensor, heads: usize) -> Result<Traced> {
    const OP: &str = "cross_attention";
    let [b, n, c] = dims(OP, "queries [B, N, C]", q)?;
    let [_, m, _] = dims(OP, "packed keys and values [B, M, 2C]", kv)?;
    expect_shape(OP, "packed keys and values", kv, &[b, m, 2 * c])?;
    if heads == 0 || n * m * c == 0 || !c.is_multiple_of(heads) {
        return Err(Error::shape(OP, format!("[B, N, C] with C divisible by {heads} heads"), q.dims()));
    }
    on_gpu!(q, super::cuda::cross_attention(q, kv, heads));
    let g = Cross { head: Head { n, m, d: c / heads }, heads };
    let (q, kv) = (q.contiguous()?, kv.contiguous()?);
    by_storage!(OP, q, S => {
        let out = cross::forward::<S>(View::new(OP, &q)?.slice()?, View::new(OP, &kv)?.slice()?, &g);
        let value = tensor(out, &[b, n, c])?;
        Ok(Traced::new(value, move |dout, _| {
            let dout = dout.contiguous()?;
            let (qv, kvv, dv) = (View::new(OP, &q)?, View::new(OP, &kv)?, View::new(OP, &dout)?);
            let (dq, dkv) = cross::backward::<S>(qv.slice()?, kvv.slice()?, dv.slice()?, &g);
            Ok(vec![Some(tensor(dq, q.dims())?), Some(tensor(dkv, kv.dims())?)])
        }))
    })
}
