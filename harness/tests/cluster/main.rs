//! The whole program against a mock cluster that is not its own: as an operator runs it, with a kubeconfig.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

mod alarm;
mod by_hand;
mod child;
mod doctor;
mod drift;
mod effect;
mod egress;
mod evidence;
mod gate;
mod init;
mod key;
mod logs;
mod migration;
mod netns;
mod opponents;
mod parity;
mod plan;
mod refused;
mod secrets;
mod stack;
mod trouble;
mod ways;
mod ways_out;
