//! The whole program against a mock cluster that is not its own: as an operator runs it, with a kubeconfig.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

mod doctor;
mod drift;
mod egress;
mod evidence;
mod init;
mod netns;
mod refused;
mod stack;
