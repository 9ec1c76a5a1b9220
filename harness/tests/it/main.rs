//! The whole program, as a person runs it: the built binary against the embedded mock world.
//!
//! Each test has a directory of its own; each process has a bound after which it is killed.

mod bench;
mod ceilings;
mod child;
mod drift;
mod fault;
mod files;
mod gateway;
mod input;
mod kill;
mod loki;
mod modes;
mod panic;
mod place;
mod probe;
mod repeated;
mod result;
mod serve;
mod signal;
mod surroundings;
mod usage;
