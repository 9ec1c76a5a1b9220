//! A Kubernetes cluster as a target of faults.
//!
//! Owns the clients ([`access`]) and what is done with them. Nothing here decides about pass or fail: it reads,
//! changes, undoes and reports. What is concluded from objects that were read is in functions without I/O.
//!
//! Invariants: nothing outside the environment's namespaces is changed; every call is bounded in time and in what it
//! may answer; no call is repeated behind anybody's back; every object that is made carries the run's label; an undo
//! leaves alone what somebody else has changed since, and says so.

pub mod access;
pub mod alarm;
mod command;
pub mod counters;
pub mod dead_man;
pub mod faults;
pub mod forward;
pub mod gateway;
pub mod lease;
pub mod loki;
pub mod mutation;
pub mod openclaw;
pub mod opponents;
pub mod others;
pub mod permissions;
pub mod places;
pub mod preview;
pub mod prober;
pub mod record;
pub mod refusals;
pub mod watch;

/// Who we are in `managedFields`.
pub const FIELD_MANAGER: &str = "failover-harness";
/// Label of every object that a run makes; its value is the run's id.
pub const RUN_LABEL: &str = "failover-harness/run";
/// Label of the same objects; its value is the namespace that the lock and the record of the run are in. Where backends are
/// shared, only who restores there knows whether the run is known.
pub const HOME_LABEL: &str = "failover-harness/home";
/// Label or annotation by which the owner of a Deployment agrees that it is a target; its value is `true`.
pub const TARGET_LABEL: &str = "failover-harness/target";
