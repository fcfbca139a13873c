//! The formats of the files, byte by byte, and their encoding and decoding. What other backends store, too,
//! is laid out by [`codec`](crate::codec).

pub(crate) mod frame;
pub(crate) mod mask;
pub(crate) mod meta;
pub(crate) mod segment;
