//! Proves that an LLM stack fails over to the right model in time, and comes back afterwards.
//!
//! Data goes one way: scenario and environment files -> [`plan`] -> [`run`] -> [`journal`] ->
//! [`analysis`] -> [`verdict`] -> [`report`]. Everything right of the journal is a pure function of
//! it: no clock, no network, nothing that reaches back into the run.

pub mod analysis;
pub mod attribution;
pub mod bench;
pub mod cli;
pub mod client;
pub mod cluster;
pub mod compare;
pub mod doctor;
pub mod draft;
pub mod environment;
pub mod gateway;
mod http;
pub mod input;
pub mod journal;
pub mod migration;
pub mod outlook;
pub mod plan;
pub mod probe;
pub mod report;
pub mod restore;
pub mod run;
pub mod scenario;
pub mod statistics;
pub mod units;
pub mod verdict;
pub mod witness;
