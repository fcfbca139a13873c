//! Tests of the whole storage on a simulated disk.

mod conformance;
mod crash;
mod damage;
mod model;
mod reuse;
mod shortage;
mod simulation;
