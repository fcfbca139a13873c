//! Appends writes to the log, and prepares the segments that they go to.

pub(crate) mod log;
pub(crate) mod prepare;
pub(crate) mod spares;
