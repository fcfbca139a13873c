//! The formats of the files, byte by byte, and their encoding and decoding.

pub(crate) mod frame;
pub(crate) mod mask;
pub(crate) mod membership;
pub(crate) mod meta;
pub(crate) mod segment;
