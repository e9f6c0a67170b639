//! Keys and values of past positions, in memory taken once.
//!
//! Rows that have stopped are compacted away by moving a running row into their place, so the buffers never move and the
//! next candidate reuses them.

use candle_core::{DType, Device, Tensor};

use super::config::LlamaConfig;
use super::error::{Error, Result};

/// How keys lie in memory; values are (B, H, T, E) in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyLayout {
    /// (B, H, T, E): one key after the other, for matrix products.
    Rows,
    /// (B, H, E, T): one component of all keys after the other, for the fused CPU kernel.
    Columns,
}

/// The key and value buffers of a batch.
#[derive(Debug)]
pub struct KvCache {
    keys: Vec<Tensor>,
    values: Vec<Tensor>,
    layout: KeyLayout,
    rows: usize,
    capacity: usize,
}

impl KvCache {
    /// Takes memory for `rows` rows of `capacity` positions.
    ///
    /// # Errors
    /// If the memory cannot be had.
    pub(super) fn new(
        config: &LlamaConfig,
        rows: usize,
        capacity: usize,
        layout: KeyLayout,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let (h, e) = (config.num_key_value_heads, config.head_dim);
        let key_shape = match layout {
            KeyLayout::Rows => (rows, h, capacity, e),
            KeyLayout::Columns => (rows, h, e, capacity),
        };
        let layers = config.num_hidden_layers;
        let keys = (0..layers).map(|_| Tensor::zeros(key_shape, dtype, device)).collect::<Result<_, _>>()?;
        let values = (0..layers)
            .map(|_| Tensor::zeros((rows, h, capacity, e), dtype, device))
            .collect::<Result<_, _>>()?;
        Ok(Self { keys, values, layout, rows, capacity })
    }

    /// Rows that the buffers hold.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Positions a row can hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes of all buffers.
    pub fn bytes(&self) -> usize {
        let buffers = self.keys.iter().chain(&self.values);
        buffers.map(|b| b.elem_count() * b.dtype().size_in_bytes()).sum()
    }

    pub(super) fn layout(&self) -> KeyLayout {
        self.layout
    }

    /// Keys and values of one block for rows `start .. start + len`, sharing storage.
    pub(super) fn view(&self, layer: usize, start: usize, len: usize) -> Result<(Tensor, Tensor)> {
        Ok((self.keys[layer].narrow(0, start, len)?, self.values[layer].narrow(0, start, len)?))
    }

    /// Copies row `from` over row `to`.
    ///
    /// # Errors
    /// [`Error::Argument`] if a row is outside.
    pub fn move_row(&self, from: usize, to: usize) -> Result<()> {
        if from >= self.rows || to >= self.rows {
            return Err(Error::Argument {
                what: "cache row",
                expected: format!("below {}", self.rows),
                got: from.max(to).to_string(),
            });
        }
        if from == to {
            return Ok(());
        }
        for buffer in self.keys.iter().chain(&self.values) {
            // Not `copy`, which copies all of the storage behind a view: every row of the batch.
            let row = buffer.narrow(0, from, 1)?.force_contiguous()?;
            buffer.narrow(0, to, 1)?.slice_set(&row, 0, 0)?;
        }
        Ok(())
    }

    /// Copies the first `positions` of `prefix`, a cache of one row, into rows `0 .. rows` of this one.
    ///
    /// # Errors
    /// [`Error::Argument`] if the caches do not fit each other.
    pub fn fill_prefix(&self, prefix: &KvCache, positions: usize, rows: usize) -> Result<()> {
        if prefix.layout != self.layout
            || prefix.keys.len() != self.keys.len()
            || positions > prefix.capacity.min(self.capacity)
            || rows > self.rows
        {
            return Err(Error::Argument {
                what: "prefix cache",
                expected: format!("up to {} positions of {} rows", self.capacity, self.rows),
                got: format!("{positions} positions of {rows} rows"),
            });
        }
        if positions == 0 || rows == 0 {
            return Ok(());
        }
        let axis = if self.layout == KeyLayout::Rows { 2 } else { 3 };
        for (axis, from, to) in [(axis, &prefix.keys, &self.keys), (2, &prefix.values, &self.values)] {
            for (from, to) in from.iter().zip(to) {
                let mut shape = from.narrow(axis, 0, positions)?.dims().to_vec();
                shape[0] = rows;
                let part =
                    from.narrow(0, 0, 1)?.narrow(axis, 0, positions)?.broadcast_as(shape)?.contiguous()?;
                to.narrow(0, 0, rows)?.slice_set(&part, axis, 0)?;
            }
        }
        Ok(())
    }
}
