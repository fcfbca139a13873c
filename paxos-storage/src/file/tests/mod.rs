//! Tests of the whole storage on a simulated disk.

mod crash;
mod damage;
mod model;
mod reuse;
mod shortage;
mod simulation;
